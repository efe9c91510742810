"""From how much on does something happen at a wanted rate?"""

import warnings
from collections.abc import Sequence

import numpy as np
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.families.links import Probit
from statsmodels.genmod.generalized_linear_model import GLM
from statsmodels.tools.sm_exceptions import ModelWarning

from interp.stats.rates import Rate


def threshold(doses: Sequence[float], rates: Sequence[Rate], share: float = 0.8) -> float | None:
    """The dose from which on the rate is at least `share`; None where it is not, at the largest dose tried.

    Interpolated by a probit regression on dose, and never outside of the two doses tried between which the rate comes
    to stay at `share`. Where a dose parts success from failure, so that the slope has no bound, it is the upper of the
    two.
    """
    order = np.argsort(doses)
    x = np.asarray(doses, dtype=float)[order]
    k, n = (np.asarray([getattr(rates[int(i)], name) for i in order]) for name in ("successes", "trials"))
    short = np.flatnonzero(k < share * n)
    last = int(short[-1]) if len(short) else -1
    if last == len(x) - 1:
        return None
    upper = float(x[last + 1])
    if last < 0:
        return upper
    fitted = _probit(x, k, n)
    if fitted is None or fitted[1] <= 0:
        return upper
    wanted = float(Probit()(np.array([share]))[0])
    return float(np.clip((wanted - fitted[0]) / fitted[1], x[last], upper))


def _probit(x: np.ndarray, successes: np.ndarray, trials: np.ndarray) -> tuple[float, float] | None:
    """Intercept and slope; None where there is no finite fit."""
    if x[successes < trials].max() <= x[successes > 0].min():
        return None
    design = np.column_stack([np.ones(len(x)), x])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = GLM(np.column_stack([successes, trials - successes]), design, family=Binomial(Probit()))
        intercept, slope = model.fit(maxiter=200).params
    if any(issubclass(warning.category, ModelWarning) for warning in caught):
        return None
    return (float(intercept), float(slope)) if np.isfinite([intercept, slope]).all() else None
