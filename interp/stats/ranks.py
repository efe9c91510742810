"""Nulls that the experiment makes itself: random directions, shuffled labels. No p is below its floor."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.stats import percentileofscore
from statsmodels.stats.multitest import multipletests

from interp.errors import InterpError

Alternative = Literal["greater", "less", "two-sided"]


@dataclass(frozen=True)
class ControlRank:
    """Where the real effect stands among its controls. Rank 1 is the most extreme; ties count against it."""

    real: float
    controls: tuple[float, ...]
    alternative: Alternative
    rank: int
    percentile: float | None
    p_value: float

    @property
    def floor(self) -> float:
        """The smallest p-value that this many controls can give."""
        return 1 / (len(self.controls) + 1)


def control_rank(
    real: float,
    controls: Sequence[float] | Float[np.ndarray, " control"],
    *,
    alternative: Alternative = "greater",
) -> ControlRank:
    """Return the rank of the real effect among controls, exchangeable with it if it were nothing.

    p = (1 + controls at least as extreme) / (controls + 1), exact under the null (Phipson and Smyth 2010).
    Two-sided, extreme means far from the median of all values together. The percentile is the share of
    controls below the real effect, ties half, in per cent; `None` without controls.

    Raises:
        InterpError: if a value is not finite.
    """
    bank = np.array([float(value) for value in controls])
    _refuse_undefined("ranking among controls", np.append(bank, real))
    together = np.append(bank, real)
    if alternative == "less":
        together = -together
    elif alternative == "two-sided":
        together = np.abs(together - np.median(together))
    rank = int(np.sum(together >= together[-1]))
    percentile = float(percentileofscore(bank, real, kind="mean")) if bank.size else None
    controls = tuple(bank.tolist())
    return ControlRank(float(real), controls, alternative, rank, percentile, rank / together.size)


@dataclass(frozen=True)
class FamilyWise:
    """One statistic per layer against the largest that chance gives at any layer.

    `band` is what a layer must exceed to have an adjusted p-value of at most 1 - level; `None` if there are
    too few permutations for any to get there. `floor` is the smallest p-value that they can give.
    """

    observed: tuple[float, ...]
    p_values: tuple[float, ...]
    band: float | None
    level: float
    floor: float


def max_statistic(
    observed: Float[np.ndarray, " layer"], null: Float[np.ndarray, "permutation layer"], level: float = 0.95
) -> FamilyWise:
    """Return family-wise adjusted p-values over layers, larger statistics being more extreme.

    Every row of `null` is one permutation carried through all layers, so their dependence is kept: the chance
    that any layer passes under the null is at most 1 - level, and not much less (Westfall and Young 1993).

    Raises:
        InterpError: if a value is not finite.
    """
    _refuse_undefined("comparing layers with their null", np.append(null, observed))
    largest = np.sort(null.max(axis=1))[::-1]
    p_values = (1 + (largest[:, None] >= observed).sum(axis=0)) / (len(largest) + 1)
    allowed = math.floor((1 - level) * (len(largest) + 1) + 1e-9)  # 0.05 * 20 must not come out below 1
    band = float(largest[allowed - 1]) if allowed else None
    return FamilyWise(tuple(observed.tolist()), tuple(p_values.tolist()), band, level, 1 / (len(largest) + 1))


def holm(p_values: Sequence[float | None]) -> tuple[float | None, ...]:
    """Return Holm's adjusted p-values (1979), in place; `None` stays `None` and is not counted as a test."""
    known = [p for p in p_values if p is not None]
    adjusted = iter(np.asarray(multipletests(known, method="holm")[1]).tolist() if known else ())
    return tuple(None if p is None else next(adjusted) for p in p_values)


def _refuse_undefined(asked: str, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise InterpError(asked, "a value is NaN or infinite", "Leave undefined values out, and say how many")
