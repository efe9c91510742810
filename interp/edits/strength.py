"""From a strength and its unit to numbers: what an edit along one direction does to a projection."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from interp.directions import Direction
from interp.edits.edit import Edit, Strength
from interp.errors import EditError
from interp.sites import Site

_QUANTILES = "quantiles"
_STEPS = 1000


class Shift(NamedTuple):
    """The map from an old projection p to a new one: `clip(slope * p + intercept, low, high)`."""

    slope: float = 1.0
    intercept: float = 0.0
    low: float = -math.inf
    high: float = math.inf


def shift_of(edit: Edit, site: Site, residual_norms: Mapping[Site, float] | None = None) -> Shift:
    """What `edit`, along one direction, does to projections at `site`.

    Raises:
        EditError: the strength is a fraction of a residual norm that was not measured, or a quantile without a
            reference set.
    """
    value, direction = edit.strength.value, edit.direction
    if edit.kind == "add":
        return Shift(intercept=raw_strength(edit.each, direction, site, residual_norms))
    if edit.kind in ("ablate", "mean_ablate"):
        mean = value * direction.offset + edit.back * direction.norm if edit.kind == "mean_ablate" else 0.0
        return Shift(1 - value, mean)
    level = level_of(edit.strength, direction)
    return Shift(high=level) if edit.kind == "cap" else Shift(low=level)


def raw_strength(
    strength: Strength, direction: Direction, site: Site, residual_norms: Mapping[Site, float] | None
) -> float:
    """Length along the unit vector that a strength of `add` stands for at `site`.

    Raises:
        EditError: it needs the residual norm of a site where none was measured.
    """
    if strength.unit == "resid":
        if residual_norms is None or site not in residual_norms:
            raise EditError(
                f"adding {strength} at {site}",
                "the residual norm there was not measured",
                "measure it with generation.residual_norms, or give the strength in norm or raw",
            )
        return strength.value * residual_norms[site]
    return strength.value * (direction.norm if strength.unit == "norm" else 1.0)


def level_of(strength: Strength, direction: Direction) -> float:
    """The projection that a level of the score in `z`, `raw` or `quantile` stands for.

    Raises:
        EditError: it is a quantile, and the direction does not hold those of its reference set.
    """
    if strength.unit == "z":
        return direction.offset + direction.scale * strength.value
    if strength.unit == "raw":
        return strength.value
    known: Any = direction.meta.get(_QUANTILES)
    if known is None or not 0 <= strength.value <= 1:
        found = f"quantile {strength.value:g}" if known else "it holds no quantiles of a reference set"
        raise EditError(
            f"a level of {direction.key}", found, "give a quantile from 0 to 1, and the direction with_quantiles"
        )
    return float(np.interp(strength.value, np.linspace(0, 1, len(known)), known))


def with_quantiles(direction: Direction, reference: Float[Tensor, "row d_model"], **meta: Any) -> Direction:
    """The same direction that also knows the quantiles of its projection on `reference`, so that a level can be one."""
    return replace(direction, meta={**direction.meta, **meta, **quantile_meta(direction.project(reference))})


def quantile_meta(along: Float[Tensor, " row"]) -> dict[str, list[float]]:
    """What a direction's `meta` keeps of the quantiles of its projections.

    They are kept in steps of a thousandth, between which a level is interpolated.
    """
    values = along.double().cpu().numpy()
    return {_QUANTILES: np.quantile(values, np.linspace(0, 1, _STEPS + 1)).tolist()}
