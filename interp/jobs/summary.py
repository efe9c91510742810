"""What a batch has to show: one row a probe, as `summary.csv` for programs and `summary.html` for people."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from interp.probes import Baseline, Evidence, Operating, ProbeCard
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


def facts(card: ProbeCard) -> dict[str, Any]:
    """The figures of a card that a summary shows, as plain JSON values; None where the card has none.

    `best` is the card's headline; `choosing` the AUROC of a sweep whose choice never sees the fold that it scores.
    """
    found = card.evidence or Evidence()
    measures = [{**{key: getattr(one, key) for key in _MEASURE}, "site": str(one.site)} for one in card.measures]
    best = next((one for one in measures if f"{one['name']}@{one['site']}" == found.headline), None)
    power = found.power and {key: getattr(found.power, key) for key in ("method", "smallest", "largest", "note")}
    return {
        "best": best,
        "choosing": found.chosen and {key: getattr(found.chosen, key) for key in ("auroc", "low", "high")},
        "baselines": _beaten(found.baselines) if found.baselines else None,
        "recall": _recall(found.operating) if found.operating and found.operating.points else None,
        "signal": power,
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


def _beaten(found: Sequence[Baseline]) -> dict[str, Any]:
    """How many of the baselines that could be compared are beaten, and which are not."""
    compared = [one for one in found if one.beaten is not None]
    unbeaten = [one.name for one in compared if not one.beaten]
    return {"compared": len(compared), "beaten": len(compared) - len(unbeaten), "unbeaten": unbeaten}


def _recall(found: Operating) -> dict[str, Any]:
    """The recall at `RATE`, or at the rate that stands for it where the benign rows are too few."""
    point = min(found.points, key=lambda one: abs(one.rate - RATE))
    rate = point.rate if point.resolved else point.smallest
    return {"rate": rate, **{key: getattr(point.recall, key) for key in ("value", "low", "high")}}
