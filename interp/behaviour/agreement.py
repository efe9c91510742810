"""How far two graders agree: Cohen's kappa with its interval, and who said what where they differ."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from interp.behaviour.grading import Grading
from interp.behaviour.outcomes import BROKEN, Outcome
from interp.errors import ExperimentError
from interp.stats import Interval, cluster_bootstrap


@dataclass(frozen=True)
class Agreement:
    """Two graders over the rollouts that both graded."""

    names: tuple[str, ...]
    """The rungs that occur, in the order of the scale."""
    table: tuple[tuple[int, ...], ...]
    """Rows: what the first said; columns: what the second said."""
    ungraded: int
    """Rollouts that one of them, or both, left ungraded; they are in no other number."""
    observed: float | None
    """Share of rollouts on which they agree; None without any that both graded."""
    kappa: float | None
    """Agreement beyond chance, 1 at most; None where both only ever say the same one thing."""
    interval: Interval | None
    """Of kappa, by bootstrap over groups; None where resampling says nothing, such as at full agreement."""

    @property
    def n(self) -> int:
        """Rollouts that both graded."""
        return sum(map(sum, self.table))

    @property
    def differences(self) -> list[tuple[str, str, int]]:
        """What the first said, what the second said, and how often, the most frequent first."""
        rows = [
            (one, other, self.table[i][j])
            for i, one in enumerate(self.names)
            for j, other in enumerate(self.names)
            if i != j and self.table[i][j]
        ]
        return sorted(rows, key=lambda row: -row[2])


def agreement(
    first: Sequence[Grading],
    second: Sequence[Grading],
    *,
    seed: int,
    read: Callable[[Outcome], str | None] = lambda outcome: outcome.rung,
    n_resamples: int = 1000,
) -> Agreement:
    """Compare two graders on the rollouts that both have, matched by prompt, condition and number.

    Args:
        first: gradings by one grader.
        second: gradings by another, on the same scale.
        seed: of the bootstrap, which draws groups and not rollouts.
        read: what of an outcome is compared; None counts as ungraded. A coarser reading, such as `threat` or not,
            says how far they agree on what a headline counts.
        n_resamples: of the bootstrap.

    Raises:
        ExperimentError: no rollout is in both, or a grader has one twice.
    """
    pairs = _matched(first, second)
    said = [(read(one.outcome), read(other.outcome), one.group) for one, other in pairs]
    both = [(a, b, group) for a, b, group in said if a is not None and b is not None]
    scale = dict.fromkeys(name for pair in pairs for one in pair for name in (*one.outcome.scale, *BROKEN))
    seen = {value for a, b, _ in both for value in (a, b)}
    names = (*(name for name in scale if name in seen), *sorted(seen - set(scale)))
    at = {name: place for place, name in enumerate(names)}
    codes = np.array([at[a] * len(names) + at[b] for a, b, _ in both], dtype=np.int64)

    def table(rows: Int[np.ndarray, " row"]) -> Int[np.ndarray, "rung rung"]:
        return np.bincount(codes[rows], minlength=len(names) ** 2).reshape(len(names), len(names))

    whole = table(np.arange(len(codes)))
    groups = [group for *_, group in both]
    interval = (
        cluster_bootstrap(lambda rows: kappa(table(rows)), groups, seed=seed, n_resamples=n_resamples) if both else None
    )
    counted = tuple(tuple(int(n) for n in row) for row in whole)
    observed = float(np.trace(whole) / len(both)) if both else None
    return Agreement(names, counted, len(pairs) - len(both), observed, kappa(whole), interval)


def kappa(table: Int[np.ndarray, "rung rung"]) -> float | None:
    """Cohen's kappa of a table of counts; None where chance alone gives full agreement, or the table is empty."""
    n = table.sum()
    if n == 0:
        return None
    expected = float(table.sum(0) @ table.sum(1)) / float(n) ** 2
    return None if expected == 1 else (float(np.trace(table)) / float(n) - expected) / (1 - expected)


def _matched(first: Sequence[Grading], second: Sequence[Grading]) -> list[tuple[Grading, Grading]]:
    """The gradings of the same rollout, in the order of the first grader."""
    by_key = {grading.key: grading for grading in second}
    for gradings in (first, second):
        if len({grading.key for grading in gradings}) < len(gradings):
            raise ExperimentError(
                "comparing two graders", "one of them has a rollout twice", "compare one run by one grader each"
            )
    pairs = [(grading, by_key[grading.key]) for grading in first if grading.key in by_key]
    if not pairs:
        raise ExperimentError("comparing two graders", "no rollout is in both", "grade the same run with both")
    return pairs
