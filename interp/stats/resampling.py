"""Resampling whole groups: rows that share a scenario are not independent, so they are drawn together."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Int, Integer, Real, Shaped
from scipy import sparse
from scipy.stats import norm, t
from sklearn.metrics import roc_auc_score

from interp.errors import InterpError
from interp.stats.rates import Interval, wilson

Groups = Sequence[Hashable] | Shaped[np.ndarray, "row"]
Labels = Bool[np.ndarray, "row"] | Integer[np.ndarray, "row"]

_CHUNK = 64
"""Resamples held in memory at once, each with one number per distinct score."""


def cluster_bootstrap(
    statistic: Callable[[Int[np.ndarray, "row"]], float | None],
    groups: Groups,
    *,
    seed: int,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> Interval | None:
    """Return the percentile interval of `statistic(rows)` when groups are drawn with replacement.

    `rows` are indices into `groups`; a group that is drawn twice comes with all its rows twice. Resamples in
    which the statistic is `None` or NaN are left out. `None` is returned where resampling says nothing: one
    group only, or the same value in every resample (a width of zero would claim certainty). Davison and
    Hinkley 1997, section 3.8.
    """
    codes = group_codes(groups)
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    draws = np.random.default_rng(seed).integers(len(members), size=(n_resamples, len(members)))
    values = (statistic(np.concatenate([members[group] for group in draw])) for draw in draws)
    defined = np.array([np.nan if value is None else value for value in values], dtype=float)
    return percentile_interval(defined, len(members), level)


def auroc(scores: Real[np.ndarray, "row"], labels: Labels) -> float | None:
    """Return the chance that a positive row scores above a negative one, ties half; `None` without both."""
    positive = _positive(labels)
    if positive.all() or not positive.any():
        return None
    return float(roc_auc_score(positive, scores))


def auroc_interval(
    scores: Real[np.ndarray, "row"],
    labels: Labels,
    groups: Groups,
    *,
    seed: int,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> Interval | None:
    """Return the cluster-bootstrap interval of the AUROC; `None` if it has none.

    Resamples that lack a class are left out, and percentiles are expanded for few groups (`expanded`). Where no
    resample differs, as at an AUROC of 1, the interval is Wilson's over disjoint pairs of groups, one with a positive
    and one with a negative row: each such pair is an independent trial that succeeds with probability AUROC, so few
    groups give a wide interval.
    """
    value = auroc(scores, labels)
    if value is None:
        return None
    codes, positive = group_codes(groups, rows=len(scores)), _positive(labels)
    counts = multiplicities(len(set(groups)), seed=seed, n_resamples=n_resamples)
    resampled = _weighted_auroc(scores, positive, codes, counts)
    wide = percentile_interval(resampled, counts.shape[1], expanded(level, counts.shape[1]))
    if wide is not None:
        return replace(wide, level=level)
    with_positive, with_negative = set(codes[positive]), set(codes[~positive])
    pairs = min(len(with_positive), len(with_negative), len(with_positive | with_negative) // 2)
    return wilson(value * pairs, pairs, level, "wilson over pairs of groups") if pairs else None


def auroc_difference_interval(
    one: Real[np.ndarray, "row"],
    other: Real[np.ndarray, "row"],
    labels: Labels,
    groups: Groups,
    *,
    seed: int,
    n_resamples: int = 1000,
    level: float = 0.95,
) -> Interval | None:
    """Return the interval of the AUROC of `one` minus that of `other` on the same rows: groups are drawn once for both.

    The interval that `cluster_bootstrap` gives of the difference, all resamples at once.
    """
    codes, positive = group_codes(groups, rows=len(one)), _positive(labels)
    n_groups = int(codes.max()) + 1
    draws = np.random.default_rng(seed).integers(n_groups, size=(n_resamples, n_groups))
    counts = np.stack([np.bincount(draw, minlength=n_groups) for draw in draws])
    first, second = (_weighted_auroc(scores, positive, codes, counts) for scores in (one, other))
    return percentile_interval(first - second, n_groups, level)


def group_codes(groups: Groups, rows: int | None = None) -> Int[np.ndarray, "row"]:
    """Return 0, 1, ... per row, one number per group in the order of first appearance.

    Raises:
        InterpError: if there are no rows, or not as many as `rows`.
    """
    if len(groups) == 0 or (rows is not None and rows != len(groups)):
        found = f"{len(groups)} groups for {'no' if rows is None else rows} rows"
        raise InterpError("resampling by group", found, "Pass at least one row and one group per row")
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(group, len(seen)) for group in groups])


def multiplicities(n_groups: int, *, seed: int, n_resamples: int) -> Int[np.ndarray, "resample group"]:
    """Return how often each group stands in each resample: the bootstrap as weights, which vectorises."""
    return np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_resamples)


def percentile_interval(values: Float[np.ndarray, " resample"], n_groups: int, level: float) -> Interval | None:
    """Return the percentiles of the defined values; `None` if there are none, or all are the same."""
    defined = values[~np.isnan(values)]
    if defined.size == 0 or np.ptp(defined) == 0:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, f"bootstrap over {n_groups} groups")


def expanded(level: float, n_groups: int) -> float:
    """The level at which percentiles over few groups cover like an interval of `level`: t for normal quantiles.

    Percentiles of a bootstrap over n groups are too narrow by the square root of (n - 1) / n and by the difference of
    the t and the normal distribution (Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3).
    """
    if n_groups < 2:
        return level
    reach = np.sqrt(n_groups / (n_groups - 1)) * t.ppf((1 + level) / 2, n_groups - 1)
    return float(2 * norm.cdf(reach) - 1)


def _weighted_auroc(
    scores: Real[np.ndarray, "row"],
    positive: Bool[np.ndarray, "row"],
    codes: Int[np.ndarray, "row"],
    counts: Int[np.ndarray, "resample group"],
) -> Float[np.ndarray, " resample"]:
    """Return the AUROC of every resample, NaN where a class is missing: one sort serves them all."""
    levels, level_of = np.unique(scores, return_inverse=True)
    shape = (counts.shape[1], len(levels))
    positives, negatives = (
        sparse.csr_array((np.ones(rows.sum()), (codes[rows], level_of[rows])), shape=shape)
        for rows in (positive, ~positive)
    )
    results = []
    for chunk in np.array_split(counts, -(-len(counts) // _CHUNK)):
        above, below = chunk @ positives, chunk @ negatives
        wins = (above * (below.cumsum(axis=1) - below / 2)).sum(axis=1)
        trials = above.sum(axis=1) * below.sum(axis=1)
        results.append(np.divide(wins, trials, out=np.full(len(chunk), np.nan), where=trials > 0))
    return np.concatenate(results)


def _positive(labels: Labels) -> Bool[np.ndarray, "row"]:
    if not np.isin(labels, (0, 1)).all():
        raise InterpError("reading labels", "some are neither 0 nor 1", "Pass True and False, or 1 and 0")
    return np.asarray(labels) == 1
