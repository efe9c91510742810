"""A rate is never just a number."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from statsmodels.stats.proportion import proportion_confint

from interp.errors import InterpError

Flags = Sequence[bool | np.bool_ | None] | Bool[np.ndarray, "row"]
"""One outcome per rollout: it happened, it did not, or (`None`) nobody could tell."""


@dataclass(frozen=True)
class Interval:
    """A confidence interval at `level`, and the method that gave it."""

    low: float
    high: float
    level: float
    method: str


@dataclass(frozen=True)
class Rate:
    """Successes among graded trials. Ungraded trials are in neither count."""

    successes: int
    trials: int
    ungraded: int
    interval: Interval | None

    @property
    def value(self) -> float | None:
        """Successes per graded trial; `None` if there is none."""
        return self.successes / self.trials if self.trials else None


def rate(successes: int, trials: int, ungraded: int = 0, level: float = 0.95) -> Rate:
    """Return a rate with its Wilson interval (1927), which is honest at the ends: 0 of 20 reaches 0.16.

    It takes trials as independent. Where rollouts share scenarios, compare conditions by `paired_contrast`.

    Raises:
        InterpError: if a count is negative, or there are more successes than trials.
    """
    if not 0 <= successes <= trials or ungraded < 0:
        found = f"{successes} successes, {trials} trials, {ungraded} ungraded"
        raise InterpError("counting a rate", found, "Count graded trials only, and successes among them")
    return Rate(successes, trials, ungraded, wilson(successes, trials, level) if trials else None)


def rate_of(flags: Flags, level: float = 0.95) -> Rate:
    """Return the rate of true flags among those that are not `None`, which are counted as ungraded."""
    known = [bool(flag) for flag in checked(flags) if flag is not None]
    return rate(sum(known), len(known), ungraded=len(flags) - len(known), level=level)


def wilson(successes: float, trials: int, level: float, method: str = "wilson") -> Interval:
    """Return the Wilson interval of at least one trial."""
    low, high = proportion_confint(successes, trials, alpha=1 - level, method="wilson")
    return Interval(float(low), float(high), level, method)


def checked(flags: Flags) -> Flags:
    """Return the flags if each is a truth value or `None`: NaN, say, would otherwise count as true."""
    strangers = [flag for flag in flags if not (flag is None or isinstance(flag, bool | np.bool_))]
    if strangers:
        raise InterpError("reading flags", f"{strangers[0]!r} is among them", "Pass True, False or None")
    return flags
