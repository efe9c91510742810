"""How many rollouts a comparison of two rates needs, and what a given number can show.

Three formulas for independent arms of equal size, all two-sided:

- `pooled`: the z test with the pooled variance under the null and each arm's own under the alternative (Fleiss,
  Levin and Paik 2003, without continuity correction). To the nearest rollout it gives the figures that are quoted for
  28 % to 10 % (73), 20 % to 5 % (75) and 5 % to 15 % (140).
- `arcsine`: Cohen's effect size h on the arcsine scale (Cohen 1988). It gives the 187 quoted for 22 % to 35 %, where
  the pooled formula gives 188.
- `corrected`: the pooled formula with the continuity correction of Casagrande, Pike and Smith (1978), close to what
  Fisher's exact test needs, which is the test of `contrast`.

Quoted figures are rounded to the nearest rollout, which can leave the power a little below what was asked; `enough` is
rounded up. Paired arms follow McNemar's test (Connor 1987), and `exact_power` and `exact_paired_power` add up the exact
tests over all tables that can occur, without any approximation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.stats import binom, hypergeom, norm
from statsmodels.stats.power import NormalIndPower, normal_power_het, normal_sample_size_one_tail
from statsmodels.stats.proportion import proportion_effectsize

from interp.errors import InterpError
from interp.stats.rates import Flags, checked
from interp.stats.resampling import Groups, group_codes

Formula = Literal["pooled", "arcsine", "corrected"]
FORMULAS: tuple[Formula, ...] = get_args(Formula)
_TIE = 1 + 1e-7
"""Tables whose probabilities differ by less than this are equally likely, as in scipy's Fisher test."""


@dataclass(frozen=True)
class Size:
    """Rollouts in one arm, or pairs: the solution of the formula, and whole numbers near it."""

    formula: str
    solution: float

    @property
    def nearest(self) -> int:
        """To the nearest whole number, as such figures are usually quoted."""
        return max(1, round(self.solution))

    @property
    def enough(self) -> int:
        """The first whole number with at least the power that was asked, by the same formula."""
        return max(1, math.ceil(self.solution - 1e-9))


@dataclass(frozen=True)
class Pairing:
    """How the two halves of a pair go together, for given rates: chances of the four outcomes follow from it."""

    base: float
    other: float
    discordance: float
    """Chance that the halves differ."""

    @property
    def correlation(self) -> float | None:
        """Phi coefficient of the halves; None where a rate is 0 or 1."""
        spread = math.sqrt(self.base * (1 - self.base) * self.other * (1 - self.other))
        both = (self.base + self.other - self.discordance) / 2
        return round((both - self.base * self.other) / spread, 12) + 0.0 if spread else None  # no -0.0


def rollouts_per_arm(
    base: float, other: float, *, power: float = 0.8, alpha: float = 0.05, formula: Formula = "pooled"
) -> Size:
    """Return how many independent rollouts each arm needs to tell the two rates apart.

    Raises:
        InterpError: a rate outside [0, 1], equal rates, a power or alpha outside (0, 1), an unknown formula.
    """
    _check(base, other, power=power, alpha=alpha, formula=formula)
    if formula == "arcsine":
        effect = abs(float(proportion_effectsize(base, other)))
        z = NormalIndPower().solve_power(effect, alpha=alpha, power=power)
        return Size(formula, float(np.squeeze(z)))
    gap = abs(base - other)
    pooled = float(normal_sample_size_one_tail(gap, power, alpha / 2, *_spreads(base, other)))
    return Size(formula, pooled if formula == "pooled" else _continuity(pooled, gap))


def power_at(base: float, other: float, n: int, *, alpha: float = 0.05, formula: Formula = "pooled") -> float:
    """Return the chance that `n` independent rollouts in each arm tell the two rates apart.

    Raises:
        InterpError: as `rollouts_per_arm`, and for fewer than one rollout.
    """
    _check(base, other, alpha=alpha, formula=formula, n=n)
    if formula == "arcsine":
        return float(NormalIndPower().power(abs(float(proportion_effectsize(base, other))), n, alpha))
    gap = abs(base - other)
    if formula == "corrected":  # as many as without correction, solving _continuity(m) = n for m
        return (
            0.0 if n * gap <= 1 else _normal_power(gap, n - 2 / gap + 1 / (n * gap**2), alpha, *_spreads(base, other))
        )
    return _normal_power(gap, n, alpha, *_spreads(base, other))


def exact_power(base: float, other: float, n: int, *, alpha: float = 0.05) -> float:
    """Return the chance that Fisher's exact test tells the two rates apart with `n` rollouts in each arm.

    Adds up every table that can occur. The time grows with the square of `n`: about half a second at 500.

    Raises:
        InterpError: as `power_at`.
    """
    _check(base, other, alpha=alpha, n=n)
    chance_base, chance_other = (binom.pmf(np.arange(n + 1), n, rate) for rate in (base, other))
    total = 0.0
    for events in range(2 * n + 1):
        first = np.arange(max(0, events - n), min(n, events) + 1)
        rejected = _two_sided(hypergeom.pmf(first, 2 * n, n, events)) <= alpha
        total += float(chance_base[first[rejected]] @ chance_other[events - first[rejected]])
    return min(1.0, total)


def detectable(
    base: float, n: int, *, power: float = 0.8, alpha: float = 0.05, formula: Formula = "pooled"
) -> tuple[float | None, float | None]:
    """Return the highest lower rate and the lowest higher rate that `n` rollouts in each arm tell from `base`.

    None where even 0, or even 1, is too near to be told apart with this power.

    Raises:
        InterpError: as `rollouts_per_arm`, and for fewer than one rollout.
    """
    _check(base, power=power, alpha=alpha, formula=formula, n=n)

    def gap(rate: float) -> float:
        return power_at(base, rate, n, alpha=alpha, formula=formula) - power

    return _crossing(gap, base, 0.0), _crossing(gap, base, 1.0)


def pairing(
    base: float, other: float, *, discordance: float | None = None, correlation: float | None = None
) -> Pairing:
    """Return how pairs go together, from the chance that halves differ or from their correlation (phi).

    Raises:
        InterpError: neither or both are given, or no pair of rates like these can go together so.
    """
    _check(base, other)
    if (discordance is None) == (correlation is None):
        raise InterpError("pairing two rates", "not one of discordance and correlation", "give one of the two")
    if discordance is None:
        both = base * other + (correlation or 0.0) * math.sqrt(base * (1 - base) * other * (1 - other))
        discordance = base + other - 2 * both
    low, high = abs(base - other), min(base + other, 2 - base - other)
    if not low - 1e-12 <= discordance <= high + 1e-12:
        ends = sorted(Pairing(base, other, end).correlation or 0.0 for end in (low, high))
        found = f"halves that differ with chance {discordance:.3g}"
        do = f"stay within {low:.3g} to {high:.3g}, that is a correlation of {ends[0]:+.2f} to {ends[1]:+.2f}"
        raise InterpError(f"pairing rates of {base:g} and {other:g}", found, do)
    return Pairing(base, other, min(max(discordance, low), high))


def observed_pairing(one: Flags, other: Flags) -> Pairing | None:
    """Return how the halves of observed pairs go together; None without a pair that is graded on both sides.

    The rates may be equal here, so that two runs of the baseline can tell how much pairing will gain.
    """
    pairs = [(bool(a), bool(b)) for a, b in zip(checked(one), checked(other), strict=True) if None not in (a, b)]
    if not pairs:
        return None
    first, second = np.array(pairs).T
    return Pairing(float(first.mean()), float(second.mean()), float(np.mean(first != second)))


def pairs_needed(pairs: Pairing, *, power: float = 0.8, alpha: float = 0.05) -> Size:
    """Return how many pairs McNemar's test needs (Connor 1987): to be held against the rollouts of one arm.

    Raises:
        InterpError: equal rates, or a power or alpha outside (0, 1).
    """
    _check(pairs.base, pairs.other, power=power, alpha=alpha)
    gap = abs(pairs.base - pairs.other)
    null, alternative = _paired_spreads(pairs)
    return Size("mcnemar", float(normal_sample_size_one_tail(gap, power, alpha / 2, null, alternative)))


def paired_power_at(pairs: Pairing, n: int, *, alpha: float = 0.05) -> float:
    """Return the chance that McNemar's test tells the rates apart with `n` pairs, by the normal approximation.

    Raises:
        InterpError: as `pairs_needed`, and for fewer than one pair.
    """
    _check(pairs.base, pairs.other, alpha=alpha, n=n)
    return _normal_power(abs(pairs.base - pairs.other), n, alpha, *_paired_spreads(pairs))


def exact_paired_power(pairs: Pairing, n: int, *, alpha: float = 0.05) -> float:
    """Return the chance that McNemar's exact test, which `paired_contrast` uses, tells the rates apart with `n` pairs.

    Raises:
        InterpError: as `paired_power_at`.
    """
    _check(pairs.base, pairs.other, alpha=alpha, n=n)
    share = (pairs.discordance + pairs.base - pairs.other) / (2 * pairs.discordance)
    differing = binom.pmf(np.arange(n + 1), n, pairs.discordance)
    total = 0.0
    for m in range(1, n + 1):
        ways = np.arange(m + 1)
        p_values = np.minimum(1.0, 2 * binom.cdf(np.minimum(ways, m - ways), m, 0.5))
        total += float(differing[m] * binom.pmf(ways, m, share)[p_values <= alpha].sum())
    return min(1.0, total)


def design_effect(cluster_size: float, intraclass: float) -> float:
    """Return by what rollouts must be multiplied when `cluster_size` of them share a scenario (Kish 1965).

    1 + (cluster size - 1) x intraclass correlation. It holds for arms on scenarios of their own; where both arms run on
    the same scenarios it is an upper bound, since what a scenario adds to both cancels in their difference.

    Raises:
        InterpError: a cluster of less than one, or a correlation outside [0, 1].
    """
    if cluster_size < 1 or not 0 <= intraclass <= 1:
        found = f"{cluster_size:g} rollouts a scenario, a correlation of {intraclass:g}"
        raise InterpError("allowing for clusters", found, "give at least 1 rollout, and a correlation from 0 to 1")
    return 1 + (cluster_size - 1) * intraclass


def intraclass_correlation(flags: Flags, groups: Groups) -> float | None:
    """Return how alike rollouts of one group are: the analysis-of-variance estimate (Donner 1986), from below 0 to 1.

    None where it is undefined: fewer than two groups, no group with two graded rollouts, or all outcomes the same.
    """
    rows = [(bool(f), g) for f, g in zip(checked(flags), groups, strict=True) if f is not None]
    if not rows:
        return None
    values, codes = np.array([f for f, _ in rows], dtype=float), group_codes([g for _, g in rows])
    sizes = np.bincount(codes)
    n, k = len(values), len(sizes)
    if k < 2 or n == k or np.ptp(values) == 0:
        return None
    means = np.bincount(codes, weights=values) / sizes
    between = float((sizes * (means - values.mean()) ** 2).sum()) / (k - 1)
    within = float(((values - means[codes]) ** 2).sum()) / (n - k)
    typical = (n - float((sizes**2).sum()) / n) / (k - 1)
    return (between - within) / (between + (typical - 1) * within)


def _spreads(base: float, other: float) -> tuple[float, float]:
    """Deviation of the difference of one rollout an arm, under the null (pooled) and under the alternative."""
    mean = (base + other) / 2
    return math.sqrt(2 * mean * (1 - mean)), math.sqrt(base * (1 - base) + other * (1 - other))


def _paired_spreads(pairs: Pairing) -> tuple[float, float]:
    return math.sqrt(pairs.discordance), math.sqrt(max(0.0, pairs.discordance - (pairs.base - pairs.other) ** 2))


def _normal_power(gap: float, n: float, alpha: float, null: float, alternative: float) -> float:
    if alternative == 0:  # the outcome is certain
        return float(norm.isf(alpha / 2) * null < gap * math.sqrt(n))
    return float(normal_power_het(gap, n, alpha, std_null=null, std_alternative=alternative))


def _continuity(n: float, gap: float) -> float:
    return n / 4 * (1 + math.sqrt(1 + 4 / (n * gap))) ** 2


def _two_sided(chances: Float[np.ndarray, " table"]) -> Float[np.ndarray, " table"]:
    """The p-value of every table: the chance of all that are no more likely."""
    ordered = np.sort(chances)
    upto = np.searchsorted(ordered, chances * _TIE, side="right") - 1
    return np.cumsum(ordered)[upto]


def _crossing(gap: Callable[[float], float], base: float, end: float) -> float | None:
    """The rate between `base` and `end` at which the power is what was asked."""
    near = base + 1e-6 * (end - base)
    if near in (base, end) or gap(end) < 0:
        return None
    return float(brentq(gap, near, end))  # pyright: ignore[reportArgumentType]


def _check(
    *rates: float, power: float | None = None, alpha: float | None = None, formula: str = "pooled", n: int = 1
) -> None:
    shown = " and ".join(f"{rate:g}" for rate in rates)
    if not all(0 <= rate <= 1 for rate in rates):
        raise InterpError(f"planning for rates of {shown}", "one is no share", "give shares from 0 to 1: 0.28, not 28")
    if len(rates) == 2 and rates[0] == rates[1] and power is not None:
        raise InterpError(f"planning for rates of {shown}", "no difference to find", "give two rates that differ")
    for name, share in (("a power", power), ("an alpha", alpha)):
        if share is not None and not 0 < share < 1:
            raise InterpError(f"planning with {name} of {share:g}", "it is not between 0 and 1", "give one that is")
    if formula not in FORMULAS:
        raise InterpError(f"planning by formula {formula!r}", "no such formula", f"choose one of {', '.join(FORMULAS)}")
    if n < 1:
        raise InterpError(f"planning for {n} rollouts", "too few", "give at least 1")
