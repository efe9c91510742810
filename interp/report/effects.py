"""Whether arms that do the same changed the rate by the same amount in two runs."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interp.behaviour.graded_run import GradedRun
from interp.plots import baseline, event_of
from interp.report.folder import RunFolder
from interp.report.tables import DASH, Table, ends, p_value, points
from interp.stats import Change, Contrast, between_changes, comparable, holm

SEED = 0
"""Of the flips, permutations and resamples."""
_SITES = re.compile(r" @\S+")


@dataclass(frozen=True)
class Effects:
    """The table of differences, and the runs that could not take part."""

    table: Table | None
    without: tuple[str, ...]
    """Names of the runs that hold no graded rollouts."""


def effects(runs: Mapping[str, RunFolder]) -> Effects:
    """Every arm of every further run against the arm of the first run that does the same.

    Arms are the same if they have one name, or one name but for the sites and no second such arm in either run: models
    of different depth have different sites. P-values are corrected over the whole table (Holm).
    """
    graded = {name: run for name, run in runs.items() if GradedRun(run.path, run.rollouts).graders}
    without = tuple(name for name in runs if name not in graded)
    if len(graded) < 2:
        return Effects(None, without)
    (first, start), *others = graded.items()
    known = {name: _Changes(run) for name, run in graded.items()}
    rows: list[tuple[str, str, Change, Change, Contrast]] = []
    for name, run in others:
        for one, other in same_arms(start.results["arms"], run.results["arms"]):
            before, after = comparable(known[first].of(one), known[name].of(other))
            rows.append((other["name"], name, before, after, between_changes(after, before, seed=SEED)))
    corrected = holm([found.p_value for *_, found in rows])
    head = ("Arm", "Run", f"Change in {first}", "Change here", "Difference", "95 % interval", "p", "p (Holm)", "Method")
    body = [
        (
            arm,
            name,
            points(before.value),
            points(after.value),
            points(found.difference),
            ends(found.interval and found.interval.low, found.interval and found.interval.high),
            p_value(found.p_value),
            p_value(corrected[index]),
            found.method,
        )
        for index, (arm, name, before, after, found) in enumerate(rows)
    ]
    return Effects(Table(head, tuple(body)) if body else None, without)


def same_arms(
    first: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The arms of two runs that do the same, in the order of the second."""
    by_name = {arm["name"]: arm for arm in first}
    pairs = []
    for arm in other:
        twins = [one for one in first if _deed(one) == _deed(arm)]
        alone = len(twins) == 1 and sum(_deed(one) == _deed(arm) for one in other) == 1
        if arm["name"] in by_name:
            pairs.append((by_name[arm["name"]], arm))
        elif alone:
            pairs.append((twins[0], arm))
    return pairs


def _deed(arm: Mapping[str, Any]) -> str:
    """The name of an arm without its sites."""
    return _SITES.sub("", arm["name"], count=1)


class _Changes:
    """The paired changes of a run's arms, from its graded rollouts."""

    def __init__(self, run: RunFolder) -> None:
        event = event_of(run.results)
        self._base = (baseline(run.results) or {}).get("condition", DASH)
        self._flags: dict[str, dict[tuple[str, int], tuple[bool | None, str]]] = {}
        for grading in GradedRun(run.path, run.rollouts).read():
            prompt, condition, sample = grading.key
            told = grading.outcome.is_rung(event), grading.group
            self._flags.setdefault(condition, {})[prompt, sample] = told

    def of(self, arm: Mapping[str, Any]) -> Change:
        """The event's rate under the arm minus the baseline's, over the rollouts that share prompt and noise."""
        base, treated = self._flags.get(self._base, {}), self._flags.get(arm["treatment"], {})
        pairs = [(flag, base[key][0], group) for key, (flag, group) in treated.items() if key in base]
        return Change.of([a for a, _, _ in pairs], [b for _, b, _ in pairs], [group for *_, group in pairs])
