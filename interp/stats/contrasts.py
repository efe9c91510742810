"""Differences of two rates, with intervals of their own: two overlapping intervals are no test."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import fisher_exact
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import confint_proportions_2indep

from interp.stats.rates import Flags, Interval, Rate, checked, rate_of
from interp.stats.resampling import Groups, group_codes, multiplicities, percentile_interval


@dataclass(frozen=True)
class Contrast:
    """One rate, or mean, minus another. `n` counts the trials or pairs compared, `dropped` those that were ungraded."""

    difference: float | None
    interval: Interval | None
    p_value: float | None
    method: str
    n: int
    dropped: int = 0


def contrast(one: Rate, other: Rate, level: float = 0.95) -> Contrast:
    """Return `one - other` for independent trials: Newcombe's interval (1998, method 10), Fisher's exact p.

    All is `None` if either has no graded trial.
    """
    method, n, dropped = "fisher exact", one.trials + other.trials, one.ungraded + other.ungraded
    if one.value is None or other.value is None:
        return Contrast(None, None, None, method, n, dropped)
    table = [[rate.successes, rate.trials - rate.successes] for rate in (one, other)]
    p_value = float(fisher_exact(table).pvalue)  # pyright: ignore[reportAttributeAccessIssue]
    return Contrast(one.value - other.value, _newcombe(one, other, level), p_value, method, n, dropped)


def paired_contrast(
    one: Flags,
    other: Flags,
    groups: Groups | None = None,
    *,
    seed: int,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Contrast:
    """Return `one - other` for rollouts that share prompt and noise, pair by pair.

    Pairs with an ungraded half are dropped, and counted. The p-value is McNemar's exact one, which takes
    pairs as independent; the interval is a bootstrap over groups (over pairs, if none are given) and does
    not, so with strong groups trust the interval. Where no resample differs, as when no pair disagrees, the
    interval is Newcombe's for unpaired rates, which is wider. One single group has no interval.
    """
    groups = range(len(one)) if groups is None else groups
    rows = list(zip(checked(one), checked(other), groups, strict=True))
    pairs = [(bool(a), bool(b), group) for a, b, group in rows if a is not None and b is not None]
    method, dropped = "mcnemar exact", len(rows) - len(pairs)
    if not pairs:
        return Contrast(None, None, None, method, 0, dropped)
    firsts, seconds, kept = zip(*pairs, strict=True)
    a, b, codes = np.array(firsts), np.array(seconds), group_codes(kept)
    table = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
    p_value = float(mcnemar(table, exact=True).pvalue)  # pyright: ignore[reportAttributeAccessIssue]
    change = a.astype(float) - b
    interval = _mean_interval(change, codes, seed, n_resamples, level)
    if interval is None and codes.max() > 0:
        interval = _newcombe(rate_of(firsts), rate_of(seconds), level)
    return Contrast(float(change.mean()), interval, p_value, method, len(pairs), dropped)


def _mean_interval(values: np.ndarray, codes: np.ndarray, seed: int, n_resamples: int, level: float) -> Interval | None:
    sums, sizes = np.bincount(codes, weights=values), np.bincount(codes)
    counts = multiplicities(len(sizes), seed=seed, n_resamples=n_resamples)
    return percentile_interval((counts @ sums) / (counts @ sizes), len(sizes), level)


def _newcombe(one: Rate, other: Rate, level: float) -> Interval:
    counts = (one.successes, one.trials, other.successes, other.trials)
    low, high = confint_proportions_2indep(*counts, method="newcomb", compare="diff", alpha=1 - level)
    return Interval(float(low), float(high), level, "newcombe")
