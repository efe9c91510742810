"""One offline page of many probes: a row each, sortable, with a link to its card."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from markupsafe import Markup

from interp.report.assets import environment, own
from interp.report.page import policy_of
from interp.report.tables import DASH, interval, number, p_value
from interp.store import write_bytes

PAGE = "summary.html"
STATES = ("done", "skipped", "failed", "not yet")
HEAD = (
    "Probe",
    "Model",
    "State",
    "Direction and site",
    "AUROC",
    "p",
    "AUROC, choice included",
    "Beats baselines",
    "Recall at 1 % false positives",
    "Smallest signal found",
)


class Cell(NamedTuple):
    """What is shown, what the column is sorted by (None last), and a second line."""

    shown: str
    order: float | str | None = None
    note: str = ""


class Line(NamedTuple):
    """One probe: its cells under `HEAD`, its card and its error, if it has them, and its AUROC from 0 to 100."""

    cells: tuple[Cell, ...]
    state: str
    card: str | None
    error: str | None
    bar: tuple[float, float, float] | None


def write_index(folder: Path, rows: Sequence[Mapping[str, Any]], *, root: str = "../..") -> Path:
    """Write `summary.html` into a folder, from rows as `interp.jobs` keeps them, and return its path.

    The page asks for nothing and opens from disk. Figures that a row lacks are dashes. The same rows give the same
    bytes.

    Args:
        folder: the batch's folder.
        rows: `name`, `model` and `state`, and of fitted probes `folder`, `best`, `choosing`, `baselines`, `recall`
            and `signal`.
        root: the way from there to what the rows' `folder` is relative to.
    """
    script = Markup(own("probes.js"))
    page = (
        environment()
        .get_template("probes.html.j2")
        .render(
            title="Probes",
            batch=folder.name,
            head=HEAD,
            lines=[line(row, root) for row in rows],
            counted=_counted(rows),
            models=len({row["model"] for row in rows}),
            style=Markup(own("page.css")),
            script=script,
            policy=policy_of([script]),
        )
    )
    path = folder / PAGE
    write_bytes(path, page.encode())
    return path


def line(row: Mapping[str, Any], root: str) -> Line:
    """What the page says of one probe."""
    best, state = row.get("best") or {}, row["state"]
    cells = (
        Cell(row["name"], row["name"]),
        Cell(row["model"], row["model"]),
        Cell(state, STATES.index(state)),
        Cell(best.get("name", DASH), best.get("name"), best.get("site", "")),
        _auroc(best),
        _p(best),
        _auroc(row.get("choosing") or {}),
        _beaten(row.get("baselines") or {}),
        _recall(row.get("recall") or {}),
        _signal(row.get("signal") or {}),
    )
    card = f"{root}/{quote(row['folder'])}/card.md" if row.get("folder") else None
    return Line(cells, state, card, row.get("error"), _bar(best))


def _counted(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many there are of each state, in words."""
    counts = Counter(row["state"] for row in rows)
    said = {"done": "fitted", "skipped": "found whole and left alone", "failed": "failed", "not yet": "not done yet"}
    return ", ".join(f"{counts[state]} {said[state]}" for state in STATES if counts[state])


def _auroc(best: Mapping[str, Any]) -> Cell:
    low, high = best.get("low"), best.get("high")
    spread = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return Cell(number(best.get("auroc"), ".3f"), best.get("auroc"), spread)


def _p(best: Mapping[str, Any]) -> Cell:
    p, floor = best.get("p_value"), best.get("floor")
    if p is None or floor is None or p > floor:
        return Cell(p_value(p), p)
    return Cell(f"≤ {floor:.2g}", p)


def _beaten(found: Mapping[str, Any]) -> Cell:
    compared, beaten = found.get("compared"), found.get("beaten")
    if not compared or beaten is None:
        return Cell(DASH)
    verdict = "all" if beaten == compared else f"{beaten} of"
    unbeaten = ", ".join(map(str, found.get("unbeaten") or ()))
    return Cell(f"{verdict} {compared}", beaten / compared, f"not: {unbeaten}" if unbeaten else "")


def _recall(found: Mapping[str, Any]) -> Cell:
    value, rate = found.get("value"), found.get("rate")
    if value is None:
        return Cell(DASH)
    spread = interval(found.get("low"), found.get("high"))
    coarse = "" if rate is None or rate <= 0.0101 else f", at {100 * rate:.2g} %"
    return Cell(f"{100 * value:.0f} %{coarse}", value, spread)


def _signal(found: Mapping[str, Any]) -> Cell:
    smallest, largest = found.get("smallest"), found.get("largest")
    if smallest is not None:
        return Cell(f"{smallest:.2g} sd", smallest)
    if largest is None or found.get("note"):
        return Cell(DASH)
    return Cell("none", float(largest) + 1, f"up to {largest:g} sd")


def _bar(best: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """AUROC and the ends of its interval, in percent of the axis from 0 to 1."""
    value = best.get("auroc")
    if value is None:
        return None
    ends = [value if best.get(key) is None else best[key] for key in ("low", "high")]
    middle, low, high = (round(100 * x, 2) for x in (value, *ends))
    return middle, low, high
