"""The three maps of an activation: along one direction, within the span of several, and towards a direction.

Each takes a batch whose rows have their own numbers, returns new activations and where they differ from the old ones,
and leaves tokens outside `where`, and all tokens at strength 0, as they are bit for bit. Projections are taken in
float32, and the step is added in the dtype of the activations.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def shift(
    acts: Float[Tensor, "batch pos d_model"],
    units: Float[Tensor, "batch d_model"],
    shifts: Float[Tensor, "4 batch"],
    where: Bool[Tensor, "batch pos"],
) -> tuple[Float[Tensor, "batch pos d_model"], Bool[Tensor, "batch pos"]]:
    """New activations under a new projection on one unit vector, `clip(slope * p + intercept, low, high)`.

    `shifts` holds slope, intercept, low and high of each row.
    """
    slope, intercept, low, high = shifts[:, :, None]
    along = torch.einsum("bpd,bd->bp", acts.float(), units)
    step = (slope - 1) * along + intercept
    step = torch.minimum(torch.maximum(step, low - along), high - along)
    step = torch.where(where, step, torch.zeros_like(step))
    return acts + (step[..., None] * units[:, None]).to(acts.dtype), step != 0


def within(
    acts: Float[Tensor, "batch pos d_model"],
    basis: Float[Tensor, "batch axis d_model"],
    maps: Float[Tensor, "batch axis axis_plus_3"],
    where: Bool[Tensor, "batch pos"],
) -> tuple[Float[Tensor, "batch pos d_model"], Bool[Tensor, "batch pos"]]:
    """New activations under new coordinates in the span of an orthonormal basis.

    `maps` holds, side by side: the matrix that takes the old coordinates to their change, what is added to it, the
    centre, and the largest distance from the centre (the same in every entry of its column).
    """
    n = basis.shape[1]
    matrix, added, centre, radius = maps[:, :, :n], maps[:, None, :, n], maps[:, None, :, n + 1], maps[:, :1, n + 2]
    inside = torch.einsum("bpd,bkd->bpk", acts.float(), basis)
    step = torch.einsum("bjk,bpk->bpj", matrix, inside) + added
    off = inside + step - centre
    distance = off.norm(dim=-1)
    shrink = torch.where(distance > radius, radius / distance - 1, torch.zeros_like(distance))
    step = torch.where(shrink[..., None] < 0, step + shrink[..., None] * off, step)
    step = torch.where(where[..., None], step, torch.zeros_like(step))
    return acts + torch.einsum("bpk,bkd->bpd", step, basis).to(acts.dtype), (step != 0).any(-1)


def toward(
    acts: Float[Tensor, "batch pos d_model"],
    units: Float[Tensor, "batch d_model"],
    angles: Float[Tensor, " batch"],
    where: Bool[Tensor, "batch pos"],
) -> tuple[Float[Tensor, "batch pos d_model"], Bool[Tensor, "batch pos"]]:
    """Activations turned towards a unit vector by an angle (radians), or away from it, at their own length.

    Every token turns in the plane of itself and the vector, and never past the vector or its opposite. A token that
    lies on the vector's line has no such plane and is left alone.
    """
    wide = acts.float()
    along = torch.einsum("bpd,bd->bp", wide, units)
    across = wide - along[..., None] * units[:, None]
    far = across.norm(dim=-1)
    turns = where & (far > 1e-6 * along.abs()) & (far > 0)
    between = torch.atan2(far, along)
    angle = torch.minimum(torch.maximum(angles[:, None].expand_as(between), between - math.pi), between)
    angle = torch.where(turns, angle, torch.zeros_like(angle))
    shrink, sine = -2 * torch.sin(angle / 2) ** 2, torch.sin(angle)
    step = along * shrink + far * sine
    gain = torch.where(turns, shrink - along / far.clamp(min=1e-30) * sine, torch.zeros_like(step))
    change = step[..., None] * units[:, None] + gain[..., None] * across
    return acts + change.to(acts.dtype), angle != 0


@dataclass(frozen=True, eq=False)
class Along:
    """An edit along one direction for every row: see `shift`."""

    units: Float[Tensor, "batch d_model"]
    shifts: Float[Tensor, "4 batch"]

    def apply(self, acts: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        """New activations, and where they differ."""
        return shift(acts, self.units.to(acts.device), self.shifts.to(acts.device), where)

    def rows(self, index: Int[Tensor, " row"]) -> "Along":
        """Those of some rows."""
        return Along(self.units[index], self.shifts[:, index])


@dataclass(frozen=True, eq=False)
class Within:
    """An edit in the span of several directions for every row: see `within`."""

    basis: Float[Tensor, "batch axis d_model"]
    maps: Float[Tensor, "batch axis axis_plus_3"]

    def apply(self, acts: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        """New activations, and where they differ."""
        return within(acts, self.basis.to(acts.device), self.maps.to(acts.device), where)

    def rows(self, index: Int[Tensor, " row"]) -> "Within":
        """Those of some rows."""
        return Within(self.basis[index], self.maps[index])


@dataclass(frozen=True, eq=False)
class Toward:
    """A rotation towards one direction for every row: see `toward`."""

    units: Float[Tensor, "batch d_model"]
    angles: Float[Tensor, " batch"]

    def apply(self, acts: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
        """New activations, and where they differ."""
        return toward(acts, self.units.to(acts.device), self.angles.to(acts.device), where)

    def rows(self, index: Int[Tensor, " row"]) -> "Toward":
        """Those of some rows."""
        return Toward(self.units[index], self.angles[index])


Move = Along | Within | Toward
