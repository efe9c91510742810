"""Does more strength mean more of the outcome?"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Real
from statsmodels.genmod.cov_struct import Independence
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_estimating_equations import GEE
from statsmodels.tools.sm_exceptions import ModelWarning

from interp.stats.rates import Flags, Interval, checked
from interp.stats.resampling import Groups, group_codes

_METHOD = "logistic GEE, bias-reduced sandwich"


@dataclass(frozen=True)
class DoseTrend:
    """Slope in log-odds per unit of strength. The three are `None` together, and then `reason` says why."""

    slope: float | None
    interval: Interval | None
    p_value: float | None
    n: int
    ungraded: int
    method: str = _METHOD
    reason: str | None = None


def dose_trend(
    strengths: Sequence[float] | Real[np.ndarray, "row"],
    flags: Flags,
    groups: Groups | None = None,
    *,
    level: float = 0.95,
) -> DoseTrend:
    """Return the logistic trend of the outcome over strength, with errors that allow for groups.

    Generalised estimating equations (Liang and Zeger 1986) with the bias-reduced sandwich of Mancl and
    DeRouen (2001), still optimistic with fewer than about ten groups. Without `groups` each row is its own.
    Undefined, never infinite, where all outcomes or all strengths are the same, where a strength parts the
    outcomes completely, and with fewer than three groups.
    """
    groups = range(len(flags)) if groups is None else groups
    rows = list(zip(strengths, checked(flags), groups, strict=True))
    graded = [(float(strength), bool(flag), group) for strength, flag, group in rows if flag is not None]
    n, ungraded = len(graded), len(rows) - len(graded)
    if not graded:
        return DoseTrend(None, None, None, 0, ungraded, reason="no outcome is graded")
    x, y, kept = zip(*graded, strict=True)
    fitted = _fit(np.array(x), np.array(y), group_codes(kept), level)
    if isinstance(fitted, str):
        return DoseTrend(None, None, None, n, ungraded, reason=fitted)
    slope, low, high, p_value = fitted
    return DoseTrend(slope, Interval(low, high, level, "sandwich"), p_value, n, ungraded)


def _fit(x: np.ndarray, y: np.ndarray, codes: np.ndarray, level: float) -> tuple[float, ...] | str:
    """Return slope, low, high and p-value, or the reason why there are none."""
    if reason := _obstacle(x, y, codes):
        return reason
    design = np.column_stack([np.ones(len(x)), x])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = GEE(y.astype(float), design, groups=codes, family=Binomial(), cov_struct=Independence())
        result = model.fit(cov_type="bias_reduced")
        if result is None or any(issubclass(warning.category, ModelWarning) for warning in caught):
            return "the fit did not converge"
        numbers = (result.params[1], *result.conf_int(alpha=1 - level)[1], result.pvalues[1])  # errors are made here
    if not np.isfinite(numbers).all():
        return "the fit has no finite error"
    return tuple(float(number) for number in numbers)


def _obstacle(x: np.ndarray, y: np.ndarray, codes: np.ndarray) -> str | None:
    if y.all() or not y.any():
        return "all outcomes are the same"
    if np.ptp(x) == 0:
        return "all strengths are the same"
    if x[~y].max() <= x[y].min() or x[y].max() <= x[~y].min():
        return "a strength parts the outcomes completely, so the slope has no bound"
    return "there are fewer than three groups" if codes.max() < 2 else None
