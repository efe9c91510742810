"""One offline page from the files of a run folder.

Nothing in it can run but its own scripts: whatever comes out of a file is escaped, control characters in it are
spelt, and a content security policy names the page's scripts by their hashes and allows no request.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from interp.plots import control_ranks, dose_response, doses, event_locked_figure, event_of, layer_sweep, outcome_ladder
from interp.report import chat, tables
from interp.report.assets import digests, environment, own
from interp.report.folder import RunFolder, read_run
from interp.report.tables import Table
from interp.report.viewer import data
from interp.report.viewer import script as viewer_script
from interp.store import write_bytes
from interp.traces import TokenTrace

RESULTS = "results.json"


class Picture(NamedTuple):
    """A figure as JSON, the table behind it, and the file behind both."""

    name: str
    data: Markup
    height: int
    table: Table
    source: str
    """The file that it was drawn from; empty where it has none."""


def write_report(folder: str | Path) -> Path:
    """Write `report.html` into a run folder, from its files alone, and return its path.

    The page is one file: it holds its own copy of plotly.js (4.8 MB), asks for nothing else, and opens from disk.
    What has no file (`probe.json`, `traces.json`, `doctor.json`, rollouts) is named as missing. The same files give
    the same bytes.

    Raises:
        StoreError: the folder has no results, or a file of it is broken.
    """
    folder = Path(folder)
    path = folder / "report.html"
    write_bytes(path, render(read_run(folder)).encode())
    return path


def render(run: RunFolder) -> str:
    """The page of a run."""
    results = run.results
    return make_page(
        "run.html.j2",
        results["question"],
        _pictures(run),
        run=run,
        results=results,
        event=event_of(results),
        verdict=results["verdict"],
        numbers=tables.key_numbers(results),
        controls=tables.conditions(results, "control"),
        conditions=tables.conditions(results),
        standings=tables.standings(results),
        side_effects=tables.side_effects(results),
        planned=tables.pretty(run.plan and run.plan["content"]),
        examples=chat.examples(run),
        record=tables.pretty(run.record),
        command=run.record and run.record["command"],
        trace_views=[_trace_view(trace) for trace in run.traces],
        trace_data=data(run.traces) if run.traces else None,
    )


def make_page(template: str, title: str, pictures: Mapping[str, Picture], **content: Any) -> str:
    """A page with figures: a template filled, with the scripts that it needs and a policy that allows no other."""
    code = viewer_script() if content.get("trace_data") else None
    scripts = [Markup(get_plotlyjs()), own("page.js"), *([code] if code else [])]
    return (
        environment()
        .get_template(template)
        .render(
            title=title,
            pictures=pictures,
            style=own("page.css") + (own("viewer.css") if code else ""),
            plotly=scripts[0],
            script=scripts[1],
            viewer_code=code,
            policy=policy_of(scripts),
            **content,
        )
    )


def policy_of(scripts: list[Markup]) -> str:
    """The content security policy: these scripts, styles of the page, no request at all."""
    return (
        f"default-src 'none'; script-src {digests(scripts)}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _pictures(run: RunFolder) -> dict[str, Picture]:
    """The figures that the run's files allow, by name."""
    results = run.results
    found = {"outcomes": picture("outcomes", outcome_ladder(results), tables.outcomes(results), RESULTS)}
    if doses(results):
        found["doses"] = picture("doses", dose_response(results), tables.conditions(results), RESULTS)
    if results["arms"]:
        found["ranks"] = picture("ranks", control_ranks(results), tables.ranks(results), RESULTS)
    if run.probe is not None and run.probe["rows"]:
        found["sweep"] = picture("sweep", layer_sweep(run.probe["rows"]), tables.sweep(run.probe["rows"]), "probe.json")
    return found | locked_pictures(run.locked)


def locked_pictures(averages: Sequence[Mapping[str, Any]]) -> dict[str, Picture]:
    """A picture with its table for each event-locked average in its plain form: `locked-0`, `locked-1`, ..."""
    return {
        f"locked-{index}": picture(
            f"locked-{index}", event_locked_figure(found), tables.offsets(found), "event_locked.json"
        )
        for index, found in enumerate(averages)
    }


def picture(name: str, figure: go.Figure, table: Table, source: str = "") -> Picture:
    """A figure as pages hold it, with the table behind it."""
    content: Mapping[str, Any] = json.loads(figure.to_json() or "{}")
    return Picture(name, htmlsafe_json_dumps(content), int(figure.layout.height), table, source)


def _trace_view(trace: TokenTrace) -> dict[str, Any]:
    return {"trace": trace, "segments": tables.segments(trace), "strongest": tables.strongest(trace)}
