"""Means and paired changes of means, with bootstrap intervals over groups."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from interp.errors import InterpError
from interp.stats.contrasts import Contrast
from interp.stats.rates import Interval
from interp.stats.resampling import Groups, expanded, group_codes, multiplicities, percentile_interval

Values = Sequence[float | None] | Float[np.ndarray, " row"]
"""One number a row; None where it is undefined."""
Transform = Callable[[Float[np.ndarray, "..."]], Float[np.ndarray, "..."]]
"""What is made of a mean before it is reported or compared, such as `numpy.exp`."""


@dataclass(frozen=True)
class Mean:
    """A mean of the defined values among `n + missing`; None without any."""

    value: float | None
    interval: Interval | None
    n: int
    missing: int = 0


def mean_of(
    values: Values,
    groups: Groups,
    *,
    weights: Sequence[float] | None = None,
    transform: Transform = np.asarray,
    seed: int,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Mean:
    """Return the mean, weighted if asked, after `transform`, with its interval by bootstrap over groups.

    The interval's percentiles are expanded for few groups (`expanded`). It is None with one group, and where all
    resamples have the same mean.
    """
    rows = _rows(values, None, groups, weights)
    if not rows.groups:
        return Mean(None, None, 0, rows.dropped)
    resampled = transform(_means(rows, rows.first, seed, n_resamples))
    value = float(transform(np.average(rows.first, weights=rows.weights)))
    return Mean(value, _interval(resampled, rows, level), len(rows.groups), rows.dropped)


def paired_means(
    one: Values,
    other: Values,
    groups: Groups,
    *,
    weights: Sequence[float] | None = None,
    transform: Transform = np.asarray,
    seed: int,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Contrast:
    """Return the mean of `one` minus the mean of `other`, both after `transform`, over the rows that have both.

    Rows that lack one are dropped, and counted. The interval is a bootstrap over groups, its percentiles expanded for
    few groups; None with one group, and where no resample differs: two columns that are the same have the difference
    0 and no interval. There is no p-value.
    """
    rows = _rows(one, other, groups, weights)
    method = "paired means"
    if not rows.groups:
        return Contrast(None, None, None, method, 0, rows.dropped)
    first, second = (transform(np.average(column, weights=rows.weights)) for column in (rows.first, rows.second))
    resampled = [transform(_means(rows, column, seed, n_resamples)) for column in (rows.first, rows.second)]
    interval = _interval(resampled[0] - resampled[1], rows, level)
    return Contrast(float(first - second), interval, None, method, len(rows.groups), rows.dropped)


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows in which everything is defined."""

    first: Float[np.ndarray, " row"]
    second: Float[np.ndarray, " row"]
    weights: Float[np.ndarray, " row"]
    groups: tuple[Hashable, ...]
    dropped: int


def _rows(one: Values, other: Values | None, groups: Groups, weights: Sequence[float] | None) -> _Rows:
    second = one if other is None else other
    scale = [1.0] * len(one) if weights is None else weights
    rows = list(zip(one, second, scale, groups, strict=True))
    kept = [(a, b, weight, group) for a, b, weight, group in rows if a is not None and b is not None]
    numbers = np.array([row[:3] for row in kept], dtype=float).reshape(-1, 3)
    if not np.isfinite(numbers).all() or (numbers[:, 2] <= 0).any():
        found = "a value that is no finite number, or a weight that is not above 0"
        raise InterpError("taking a mean", found, "pass None for what is undefined")
    first, second, weight = numbers.T
    return _Rows(first, second, weight, tuple(group for *_, group in kept), len(rows) - len(kept))


def _means(
    rows: _Rows, column: Float[np.ndarray, " row"], seed: int, n_resamples: int
) -> Float[np.ndarray, " resample"]:
    """The weighted mean of every resample of groups."""
    codes = group_codes(rows.groups)
    sums, sizes = (np.bincount(codes, weights=part) for part in (column * rows.weights, rows.weights))
    counts = multiplicities(len(sizes), seed=seed, n_resamples=n_resamples)
    return (counts @ sums) / (counts @ sizes)


def _interval(resampled: Float[np.ndarray, " resample"], rows: _Rows, level: float) -> Interval | None:
    n_groups = len(set(rows.groups))
    found = percentile_interval(resampled, n_groups, expanded(level, n_groups)) if n_groups > 1 else None
    return found and replace(found, level=level)
