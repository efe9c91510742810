"""One comparison of two rates, planned: every formula side by side, what pairing gains, what clusters cost."""

import math
from collections.abc import Sequence
from typing import Any

from interp.errors import InterpError
from interp.stats.power import (
    FORMULAS,
    Formula,
    Pairing,
    design_effect,
    detectable,
    exact_paired_power,
    exact_power,
    paired_power_at,
    pairing,
    pairs_needed,
    power_at,
    rollouts_per_arm,
)

QUOTED: tuple[tuple[float, float, int, Formula], ...] = (
    (0.28, 0.10, 73, "pooled"),
    (0.20, 0.05, 75, "pooled"),
    (0.05, 0.15, 140, "pooled"),
    (0.22, 0.35, 187, "arcsine"),
)
"""Base rate, other rate, rollouts per arm as quoted (80 % power, two-sided 0.05), and the formula that gives them."""
CORRELATIONS = (0.0, 0.25, 0.5)
_LARGEST = 600
"""Exact power is added up for no more rollouts than this."""


def compare(
    base: float,
    other: float,
    *,
    n: int | None = None,
    power: float = 0.8,
    alpha: float = 0.05,
    tests: int = 1,
    correlation: float | None = None,
    discordance: float | None = None,
    cluster_size: float = 1,
    intraclass: float = 0,
) -> dict[str, Any]:
    """Return the sizes for telling two rates apart by every formula, paired and unpaired, and the power at `n`.

    With several `tests`, each is planned at alpha / tests, the first step of Holm's correction. `enough` counts
    independent rollouts; `with_clusters` is what that becomes by the design effect, while pairs always count as
    independent. `saved` is the share of rollouts that pairing saves against the pooled formula; negative where it
    costs some. `exact_power` is that of Fisher's or McNemar's exact test at `enough`, None for more than 600 rollouts.

    Raises:
        InterpError: as the functions of `interp.stats.power`, and for fewer than one test.
    """
    each, inflation = _each(alpha, tests), design_effect(cluster_size, intraclass)
    arms, pairs = [], []
    for formula in FORMULAS:
        size = rollouts_per_arm(base, other, power=power, alpha=each, formula=formula)
        row = {"formula": formula, "solution": size.solution, "nearest": size.nearest, "enough": size.enough}
        exact = exact_power(base, other, size.enough, alpha=each) if size.enough <= _LARGEST else None
        arms.append(row | {"with_clusters": math.ceil(size.solution * inflation), "exact_power": exact})
    ways = _pairings(base, other, correlation, discordance)
    for way in ways:
        size = pairs_needed(way, power=power, alpha=each)
        exact = exact_paired_power(way, size.enough, alpha=each) if size.enough <= _LARGEST else None
        row = {"correlation": way.correlation, "discordance": way.discordance}
        row |= {"solution": size.solution, "nearest": size.nearest, "enough": size.enough, "exact_power": exact}
        pairs.append(row | {"saved": 1 - size.solution / arms[0]["solution"]})
    asked = {"base": base, "other": other, "power": power, "alpha": alpha, "tests": tests}
    found = asked | {"design_effect": inflation, "arms": arms, "pairs": pairs}
    return found if n is None else found | {"at": _at(base, other, n, each, ways, inflation)}


def reach(
    base: float,
    n: int,
    *,
    power: float = 0.8,
    alpha: float = 0.05,
    tests: int = 1,
    cluster_size: float = 1,
    intraclass: float = 0,
) -> dict[str, Any]:
    """Return the nearest rates below and above `base` that `n` rollouts in each arm tell from it, by every formula.

    None where no rate on that side is far enough. With clusters, `n` counts for as many independent rollouts as the
    design effect leaves.

    Raises:
        InterpError: as `compare`.
    """
    each, inflation = _each(alpha, tests), design_effect(cluster_size, intraclass)
    effective = max(1, math.floor(n / inflation))
    rows = []
    for formula in FORMULAS:
        below, above = detectable(base, effective, power=power, alpha=each, formula=formula)
        rows.append({"formula": formula, "below": below, "above": above})
    asked = {"base": base, "n": n, "power": power, "alpha": alpha, "tests": tests}
    return asked | {"design_effect": inflation, "effective_n": effective, "detectable": rows}


def _each(alpha: float, tests: int) -> float:
    if tests < 1:
        raise InterpError(f"planning {tests} tests", "too few", "give at least 1")
    return alpha / tests


def _pairings(base: float, other: float, correlation: float | None, discordance: float | None) -> Sequence[Pairing]:
    """The pairing that was stated, else those usual correlations that these two rates allow."""
    if correlation is not None or discordance is not None:
        return [pairing(base, other, correlation=correlation, discordance=discordance)]
    found = []
    for usual in CORRELATIONS:
        try:
            found.append(pairing(base, other, correlation=usual))
        except InterpError:  # rates so far apart cannot go together so closely
            continue
    return found


def _at(base: float, other: float, n: int, alpha: float, ways: Sequence[Pairing], inflation: float) -> dict[str, Any]:
    """The power of `n` rollouts in each arm, and of `n` pairs."""
    effective = max(1, math.floor(n / inflation))
    exact = exact_power(base, other, effective, alpha=alpha) if effective <= _LARGEST else None
    pairs = [{"correlation": way.correlation, "mcnemar": paired_power_at(way, n, alpha=alpha)} for way in ways]
    by_formula = {f: power_at(base, other, effective, alpha=alpha, formula=f) for f in FORMULAS}
    return {"n": n, "effective_n": effective, **by_formula, "fisher": exact, "pairs": pairs}
