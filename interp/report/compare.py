"""One offline page of several runs: their verdicts, baselines and arms side by side, and what else differs."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from interp.errors import StoreError
from interp.plots import baseline, counted, event_of, percent
from interp.plots.runs import changes_by_run
from interp.report.effects import effects
from interp.report.folder import RunFolder, read_run
from interp.report.page import make_page, picture
from interp.report.tables import DASH, Table, ends, flat, interval, number, points
from interp.stats import Rate, contrast, rate
from interp.store import write_bytes

IGNORED = ("command", "started", "git.", "extra.", "format")
"""What differs between any two runs and changes no number."""


def write_comparison(folders: Sequence[str | Path], path: str | Path) -> Path:
    """Write one page that compares runs, from their files alone, and return its path.

    It holds each run's verdict, baseline and arms, the difference of each baseline from the first run's (Newcombe's
    interval, as of independent samples), the difference of every arm's change from that of the first run's arm that
    does the same (`interp.stats.between_changes`), and every setting in which the runs differ.

    Raises:
        StoreError: fewer than two runs, two folders of one name, a folder without results, or runs whose rates count
            different things.
        ExperimentError: outcomes that are of no rollout of their run.
    """
    runs = _read(list(map(Path, folders)))
    results = {name: run.results for name, run in runs.items()}
    figure = picture("runs", changes_by_run(results), arms(results), "results.json of each run")
    page = make_page(
        "compare.html.j2",
        f"{len(runs)} runs side by side",
        {"runs": figure},
        runs=runs,
        pages=_pages(list(map(Path, folders)), Path(path).resolve().parent),
        event=event_of(next(iter(results.values()))),
        baselines=baselines(results),
        effects=effects(runs),
        differences=differences({name: run.record for name, run in runs.items()}),
        unrecorded=[name for name, run in runs.items() if run.record is None],
        command=("interp", "report", *(Path(folder).name for folder in folders)),
    )
    write_bytes(Path(path), page.encode())
    return Path(path)


def _read(folders: Sequence[Path]) -> dict[str, RunFolder]:
    asked = f"comparing {len(folders)} runs"
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise StoreError(asked, "it takes two or more different ones", "name the folders of two runs")
    runs = {folder.resolve().name: read_run(folder) for folder in folders}
    if len(runs) < len(folders):
        raise StoreError(asked, "two folders have one name", "rename one, so that the page can tell them apart")
    events = {name: event_of(run.results) for name, run in runs.items()}
    if len(set(events.values())) > 1:
        told = ", ".join(f"{name} counts {event}" for name, event in events.items())
        raise StoreError(asked, told, "compare runs whose rates count the same")
    return runs


def _pages(folders: Sequence[Path], home: Path) -> dict[str, str]:
    """The way from the page to the report of each run that has one, as a link."""
    reports = {folder.resolve().name: folder.resolve() / "report.html" for folder in folders}
    return {name: quote(os.path.relpath(path, home)) for name, path in reports.items() if path.is_file()}


def baselines(runs: Mapping[str, Mapping[str, Any]]) -> Table:
    """Each run's model, size and unedited rate, and that rate's difference from the first run's."""
    rates = {name: _baseline(results) for name, results in runs.items()}
    first = next(iter(rates.values()))
    rows = []
    for index, (name, results) in enumerate(runs.items()):
        own = rates[name]
        gap = contrast(own, first) if index else None
        rows.append(
            (
                name,
                results["model"],
                results.get("direction", DASH),
                str(results["n_prompts"]),
                str(own.trials),
                percent(own.value),
                interval(own.interval.low, own.interval.high) if own.interval else DASH,
                points(gap and gap.difference),
                ends(gap.interval.low, gap.interval.high) if gap and gap.interval else DASH,
            )
        )
    head = ("Run", "Model", "Direction", "Prompts", "Replies", "Unedited", "95 % interval", "Against the first", "95 %")
    return Table(head, tuple(rows))


def _baseline(results: Mapping[str, Any]) -> Rate:
    found = (cell := baseline(results)) and counted(cell)
    return rate(found["successes"], found["trials"], found["ungraded"]) if found else rate(0, 0)


def arms(runs: Mapping[str, Mapping[str, Any]]) -> Table:
    """Every arm of every run, arms of one name together."""
    names = dict.fromkeys(arm["name"] for results in runs.values() for arm in results["arms"])
    rows = [
        _arm(run, arm, results)
        for name in names
        for run, results in runs.items()
        for arm in results["arms"]
        if arm["name"] == name
    ]
    head = ("Arm", "Run", "Rate", "Change", "95 % interval", "Controls", "Rank", "Coherent", "KL")
    return Table(head, tuple(rows))


def _arm(run: str, arm: Mapping[str, Any], results: Mapping[str, Any]) -> tuple[str, ...]:
    cell = next(cell for cell in results["cells"] if cell["condition"] == arm["treatment"])
    found, rank = cell["contrast"] or {}, arm["rank"]
    bank = rank["controls"] if rank else []
    return (
        arm["name"],
        run,
        percent(counted(cell)["value"]),
        points(found.get("difference")),
        ends(found.get("low"), found.get("high")),
        ends(min(bank), max(bank)) if bank else DASH,
        f"{rank['rank']} of {len(bank) + 1}" if rank else DASH,
        percent(cell["coherent"]["value"]),
        number(cell["kl"], ".3f"),
    )


def differences(records: Mapping[str, Mapping[str, Any] | None]) -> Table | None:
    """Every recorded setting and input in which the runs differ; None where they differ in none."""
    settings = {name: dict(flat("", record or {})) for name, record in records.items()}
    names = dict.fromkeys(key for found in settings.values() for key in found if not key.startswith(IGNORED))
    rows = []
    for key in names:
        values = tuple(found.get(key, DASH) for found in settings.values())
        if len(set(values)) > 1:
            rows.append((key, *values))
    return Table(("Setting", *records), tuple(rows)) if rows else None
