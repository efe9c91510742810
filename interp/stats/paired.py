"""Is a mean of paired differences more than chance? Signs are flipped, one for each scenario."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import permutation_test

from interp.errors import InterpError
from interp.stats.ranks import Alternative
from interp.stats.rates import Interval
from interp.stats.resampling import expanded, multiplicities, percentile_interval


@dataclass(frozen=True)
class SignFlip:
    """A mean of paired differences, its interval, and the chance of one as large if the signs mean nothing."""

    mean: float | None
    interval: Interval | None
    p_value: float | None
    floor: float | None
    """The smallest p-value that these differences could give under any signs: 1 where all are 0."""
    exact: bool
    """Whether every combination of signs was counted; else a sample of them was."""
    alternative: Alternative
    n: int


def sign_flip(
    differences: Float[np.ndarray, " scenario"],
    *,
    seed: int,
    alternative: Alternative = "two-sided",
    n_flips: int = 9999,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> SignFlip:
    """Return the mean difference with its sign-flip p-value and its bootstrap interval, both over scenarios.

    Exact where all 2^n combinations are at most `n_flips`, as for 13 scenarios and the default; else (1 + combinations
    at least as extreme) / (`n_flips` + 1). The test takes the differences as independent and, under the null, as
    symmetric about 0. Percentiles of the bootstrap are expanded for few scenarios. With one scenario there is no test
    and no interval, with none no mean: `None`.

    Raises:
        InterpError: a difference is not finite.
    """
    if not np.isfinite(differences).all():
        raise InterpError("flipping signs", "a difference is NaN or infinite", "leave it out, and say how many")
    n, sides = len(differences), 2 if alternative == "two-sided" else 1
    mean = float(differences.mean()) if n else None
    if n < 2:
        return SignFlip(mean, None, None, None, False, alternative, n)
    found = permutation_test(
        (differences,),
        lambda rows, axis: rows.mean(axis=axis),
        permutation_type="samples",
        alternative=alternative,
        n_resamples=n_flips,
        batch=1000,
        vectorized=True,
        rng=np.random.default_rng(seed),
    )
    exact = 2**n <= n_flips
    floor = min(1.0, sides * 2.0 ** -int(np.count_nonzero(differences)))
    floor = floor if exact else max(floor, sides / (n_flips + 1))
    counts = multiplicities(n, seed=seed, n_resamples=n_resamples)
    interval = percentile_interval(counts @ differences / n, n, expanded(level, n))
    interval = interval and Interval(interval.low, interval.high, level, interval.method)
    p_value = max(min(float(found.pvalue), 1.0), floor)
    return SignFlip(mean, interval, p_value, floor, exact, alternative, n)


def mean_curve(
    rows: Float[np.ndarray, "scenario offset"], *, seed: int, n_resamples: int = 2000, level: float = 0.95
) -> Float[np.ndarray, "3 offset"]:
    """Return the mean over scenarios at every offset, and its low and high end: a bootstrap that draws scenarios.

    One draw serves all offsets. NaN marks a scenario that is undefined at an offset, and takes no part there; the mean
    is NaN where none is defined, both ends where fewer than two are, or where no resample differs. Pointwise: the band
    covers each offset at `level`, not the whole curve.
    """
    known = ~np.isnan(rows)
    counts = multiplicities(len(rows), seed=seed, n_resamples=n_resamples)
    drawn, totals = counts @ known.astype(float), counts @ np.where(known, rows, 0)
    resampled = np.divide(totals, drawn, out=np.full(totals.shape, np.nan), where=drawn > 0)
    curve, defined = np.full((3, rows.shape[1]), np.nan), known.sum(axis=0)
    curve[0, defined > 0] = np.nanmean(rows[:, defined > 0], axis=0)
    for n in np.unique(defined[defined > 1]):
        tail = (1 - expanded(level, int(n))) / 2
        ends = np.nanquantile(resampled[:, defined == n], [tail, 1 - tail], axis=0)
        curve[1:, defined == n] = np.where(ends[0] < ends[1], ends, np.nan)
    return curve
