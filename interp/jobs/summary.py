"""What a batch has to show: one row a probe, as `summary.csv` for programs and `summary.html` for people."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from interp.report.probes import write_index
from interp.store import write_bytes

CSV = "summary.csv"
RATE = 0.01
"""The false-positive rate at which the summary states recall."""
COLUMNS = (
    "probe",
    "model",
    "state",
    "direction",
    "site",
    "auroc",
    "auroc_low",
    "auroc_high",
    "p_value",
    "smallest_p",
    "choosing_auroc",
    "choosing_low",
    "choosing_high",
    "baselines",
    "baselines_beaten",
    "recall",
    "recall_low",
    "recall_high",
    "recall_at_rate",
    "smallest_signal",
    "recipe",
    "folder",
    "error",
)
_MEASURE = ("name", "site", "auroc", "low", "high", "p_value", "floor")

Row = Mapping[str, Any]
"""One job: `name`, `model`, `state`, and, where it was fitted, `folder` and what `facts` found in its card."""


def facts(card: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a `card.json` that a summary shows; None where the card has none.

    `best` is the card's headline, or where it has none the measure with the highest AUROC; `choosing` is the AUROC of a
    sweep whose choice never sees the fold that it is scored on. Evidence is found by shape, so that cards of older
    versions, which lack some of it, are read as well.
    """
    evidence = card.get("evidence")
    measures = [{key: measure.get(key) for key in _MEASURE} for measure in card.get("measures", [])]
    best = _best(evidence.get("headline") if isinstance(evidence, Mapping) else None, measures)
    choosing = next(_found(evidence, _is_choosing), None)
    baselines = next(_found(evidence, _is_baselines), None)
    operating = next(_found(evidence, _is_operating), None)
    return {
        "best": best,
        "choosing": None if choosing is None else {key: choosing[key] for key in ("auroc", "low", "high")},
        "baselines": None if baselines is None else _beaten(baselines),
        "recall": None if operating is None else _recall(operating),
        "signal": _signal(list(_found(evidence, _is_power)), best),
        "measures": measures,
    }


def write_summary(folder: Path, read: Callable[[], Sequence[Row]]) -> Path:
    """Write both files into a folder of `runs/` from the rows that `read` returns, and return the page's path.

    Where several shards write at once, the last to write has seen the rows of all: it reads again after writing, and
    writes again if there are more. The same rows give the same bytes.
    """
    rows = read()
    while True:
        write_bytes(folder / CSV, to_csv(rows).encode())
        path = write_index(folder, rows, root="../..")
        now = read()
        if now == rows:
            return path
        rows = now


def to_csv(rows: Sequence[Row]) -> str:
    """The rows under `COLUMNS`; what is undefined is left empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(_cells(row) for row in rows)
    return text.getvalue()


def _cells(row: Row) -> tuple[Any, ...]:
    best, choosing, beaten, recall = ((row.get(key) or {}) for key in ("best", "choosing", "baselines", "recall"))
    return (
        row["name"],
        row["model"],
        row["state"],
        *(best.get(key) for key in _MEASURE),
        *(choosing.get(key) for key in ("auroc", "low", "high")),
        beaten.get("compared"),
        beaten.get("beaten"),
        *(recall.get(key) for key in ("value", "low", "high", "rate")),
        (row.get("signal") or {}).get("smallest"),
        row.get("recipe"),
        row.get("folder"),
        row.get("error"),
    )


def _best(headline: Any, measures: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    named = [m for m in measures if f"{m['name']}@{m['site']}" == headline]
    return max(named or measures, key=lambda m: m["auroc"], default=None)


def _found(evidence: Any, wanted: Callable[[Any], bool]) -> Iterator[Any]:
    """Every part of the evidence, at any depth, that has the shape that is wanted; the outermost first."""
    if wanted(evidence):
        yield evidence
    elif isinstance(evidence, Mapping | list):
        for part in evidence.values() if isinstance(evidence, Mapping) else evidence:
            yield from _found(part, wanted)


def _has(part: Any, *keys: str) -> bool:
    return isinstance(part, Mapping) and set(keys) <= set(part)


def _is_choosing(part: Any) -> bool:
    return _has(part, "auroc", "low", "high", "picks")


def _is_baselines(part: Any) -> bool:
    return isinstance(part, list) and bool(part) and all(_has(one, "beaten", "difference") for one in part)


def _is_operating(part: Any) -> bool:
    return _has(part, "points", "halves") and bool(part["points"])


def _is_power(part: Any) -> bool:
    return _has(part, "planted", "smallest", "method")


def _beaten(baselines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many of the baselines that could be compared are beaten, and which are not."""
    compared = [one for one in baselines if one["beaten"] is not None]
    return {
        "compared": len(compared),
        "beaten": sum(bool(one["beaten"]) for one in compared),
        "unbeaten": [one.get("name") for one in compared if not one["beaten"]],
    }


def _recall(operating: Mapping[str, Any]) -> dict[str, Any] | None:
    """The recall at `RATE`, or at the rate that stands for it where the benign rows are too few."""
    point = min(operating["points"], key=lambda one: abs(one["rate"] - RATE))
    recall = point.get("recall") or {}
    rate = point["rate"] if point.get("resolved", True) else point.get("smallest")
    return {"rate": rate, **{key: recall.get(key) for key in ("value", "low", "high")}}


def _signal(powers: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The smallest planted signal that was found, by the best direction's own method where that was tried."""
    same = [power for power in powers if best is not None and power["method"] == best["name"]]
    power = next(iter(same or powers), None)
    if power is None:
        return None
    return {key: power.get(key) for key in ("method", "smallest", "largest", "note")}
