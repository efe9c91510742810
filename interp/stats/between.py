"""Did two experiments change a rate by the same amount? Their changes are compared, not their verdicts."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.stats import permutation_test

from interp.stats.contrasts import Contrast
from interp.stats.paired import sign_flip
from interp.stats.rates import Flags, checked
from interp.stats.resampling import expanded, multiplicities, percentile_interval


@dataclass(frozen=True, eq=False)
class Change:
    """What one experiment changed, scenario by scenario: sums of the differences of its pairs, and their number."""

    sums: dict[Hashable, float]
    pairs: dict[Hashable, int]
    dropped: int
    """Pairs with an ungraded half."""

    @classmethod
    def of(cls, one: Flags, other: Flags, groups: Sequence[Hashable]) -> "Change":
        """`one - other` for rollouts that share prompt and noise, pair by pair, with the scenario of each pair."""
        sums: dict[Hashable, float] = {}
        pairs: dict[Hashable, int] = {}
        dropped = 0
        for a, b, group in zip(checked(one), checked(other), groups, strict=True):
            if a is None or b is None:
                dropped += 1
                continue
            sums[group] = sums.get(group, 0.0) + float(a) - float(b)
            pairs[group] = pairs.get(group, 0) + 1
        return cls(sums, pairs, dropped)

    @property
    def value(self) -> float | None:
        """The mean over pairs; None without any."""
        return sum(self.sums.values()) / sum(self.pairs.values()) if self.pairs else None

    def within(self, groups: Sequence[Hashable]) -> "Change":
        """The same over some scenarios alone; `dropped` stays that of all."""
        return Change({g: self.sums[g] for g in groups}, {g: self.pairs[g] for g in groups}, self.dropped)


def comparable(one: Change, other: Change) -> tuple[Change, Change]:
    """Both over the scenarios that they share; as they are where they share none."""
    shared = [group for group in one.pairs if group in other.pairs]
    return (one.within(shared), other.within(shared)) if shared else (one, other)


def between_changes(
    one: Change, other: Change, *, seed: int, n_flips: int = 9999, n_resamples: int = 2000, level: float = 0.95
) -> Contrast:
    """Return `one - other`, the difference of two changes, with its test and interval, both over scenarios.

    Where the experiments share scenarios, only those count (`comparable`), and each is its own control: the signs of
    their differences are flipped (`sign_flip`). Where they share none, scenarios are dealt anew to the two experiments
    (a permutation test), and the interval is a bootstrap that draws within each. A change is a mean over pairs; `n`
    counts scenarios. With fewer than two in either there is neither test nor interval; without any, no difference.

    Davison and Hinkley 1997, section 4.3 (permutation tests).
    """
    one, other = comparable(one, other)
    how = one.dropped + other.dropped, seed, n_flips, n_resamples, level
    return _shared(one, other, *how) if set(one.pairs) & set(other.pairs) else _apart(one, other, *how)


def _shared(
    one: Change, other: Change, dropped: int, seed: int, n_flips: int, n_resamples: int, level: float
) -> Contrast:
    n = len(one.pairs)
    each = np.array(list(one.sums.values())) / sum(one.pairs.values())
    against = np.array([other.sums[group] for group in one.sums]) / sum(other.pairs.values())
    found = sign_flip((each - against) * n, seed=seed, n_flips=n_flips, n_resamples=n_resamples, level=level)
    return Contrast(found.mean, found.interval, found.p_value, f"sign flips of {n} shared scenarios", n, dropped)


def _apart(
    one: Change, other: Change, dropped: int, seed: int, n_flips: int, n_resamples: int, level: float
) -> Contrast:
    n, m = len(one.pairs), len(other.pairs)
    method = f"permutation of {n} and {m} scenarios"
    if one.value is None or other.value is None:
        return Contrast(None, None, None, method, n + m, dropped)
    difference = one.value - other.value
    if min(n, m) < 2:
        return Contrast(difference, None, None, method, n + m, dropped)
    sums, pairs = (np.array([*a.values(), *b.values()]) for a, b in ((one.sums, other.sums), (one.pairs, other.pairs)))

    def statistic(rows: Any, others: Any, axis: int) -> Any:
        first, second = (sums[r].sum(axis=axis) / pairs[r].sum(axis=axis) for r in (rows, others))
        return first - second

    found = permutation_test(
        (np.arange(n), np.arange(n, n + m)),
        statistic,
        permutation_type="independent",
        n_resamples=n_flips,
        batch=1000,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    drawn = _resampled(one, seed, n_resamples) - _resampled(other, seed + 1, n_resamples)
    interval = percentile_interval(drawn, n + m, expanded(level, min(n, m)))
    interval = interval and replace(interval, level=level)
    return Contrast(difference, interval, min(float(found.pvalue), 1.0), method, n + m, dropped)


def _resampled(change: Change, seed: int, n_resamples: int) -> Float[np.ndarray, " resample"]:
    """The change in every resample of its scenarios."""
    counts = multiplicities(len(change.pairs), seed=seed, n_resamples=n_resamples)
    return (counts @ np.array(list(change.sums.values()))) / (counts @ np.array(list(change.pairs.values())))
