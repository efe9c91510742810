"""The edits of a batch whose rows are under different conditions, site by site and in order."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.directions import Direction
from interp.edits.edit import Edit
from interp.edits.moves import Along, Move, Toward, Within
from interp.edits.scope import Scoped
from interp.edits.strength import Shift, level_of, shift_of
from interp.errors import EditError
from interp.sites import Site
from interp.tokens import Tokens

_DEPENDENT = 1e-4
"""Directions whose angle to the span of those before them has a smaller sine are no basis of a span."""


@dataclass(frozen=True, eq=False)
class Gate:
    """The condition of every row's edit: the projection at `site` lies within bounds; rows without one always pass."""

    site: Site
    units: Float[Tensor, "batch d_model"]
    bounds: Float[Tensor, "2 batch"]

    def passes(self, acts: Float[Tensor, "batch pos d_model"]) -> Bool[Tensor, "batch pos"]:
        """At which tokens the condition holds."""
        low, high = self.bounds.to(acts.device)[:, :, None]
        along = torch.einsum("bpd,bd->bp", acts.float(), self.units.to(acts.device))
        return (along >= low) & (along <= high)

    def rows(self, index: Int[Tensor, " row"]) -> "Gate":
        """The conditions of some rows."""
        return replace(self, units=self.units[index], bounds=self.bounds[:, index])


@dataclass(frozen=True, eq=False)
class RowEdits:
    """The k-th edit of every row of a batch at one site, as far as they are of one shape; other rows are left alone."""

    move: Move
    scope: Scoped
    gate: Gate | None = None

    def where(
        self, positions: Int[Tensor, "batch pos"], prompt_tokens: Int[Tensor, " batch"], real: Bool[Tensor, "batch pos"]
    ) -> Bool[Tensor, "batch pos"]:
        """The tokens in scope, whether or not the condition holds there."""
        return self.scope.where(positions, prompt_tokens, real)

    def rows(self, index: Int[Tensor, " row"]) -> "RowEdits":
        """The edits of some rows of the batch."""
        return RowEdits(self.move.rows(index), self.scope.rows(index), self.gate and self.gate.rows(index))


Placed = Mapping[Site, tuple[RowEdits, ...]]
"""The edits of a batch: for each site, in the order in which they apply."""


def place(
    conditions: Sequence[Sequence[Edit]],
    *,
    d_model: int,
    device: torch.device | str = "cpu",
    residual_norms: Mapping[Site, float] | None = None,
    texts: Sequence[Tokens] | None = None,
    tokenizer: Any = None,
    room: int = 0,
) -> dict[Site, tuple[RowEdits, ...]]:
    """One batch from the edits of each of its rows; the edits of a row apply in the order in which they are given.

    Scopes that name spans need the rows' rendered `texts`, and those that follow a reply the `tokenizer`; `room` is how
    many tokens may still be written behind each text.

    Raises:
        EditError: a direction has another width than the model, directions do not span a space of their number, a
            residual norm is missing, or a text lacks the span that is to be edited.
    """
    by_site: dict[Site, list[list[Edit]]] = {}
    for row, edits in enumerate(conditions):
        for edit in edits:
            _check_width(edit, d_model)
            for site in edit.sites:
                by_site.setdefault(site, [[] for _ in conditions])[row].append(edit)
    placed: dict[Site, tuple[RowEdits, ...]] = {}
    for site, rows in by_site.items():
        layers = []
        for edits in _same_shape(rows):
            scopes = [edit and edit.scope for edit in edits]
            scoped = Scoped.of(scopes, device=device, texts=texts, tokenizer=tokenizer, room=room)
            move = _move(edits, site, d_model, device, residual_norms)
            layers.append(RowEdits(move, scoped, _gate(edits, d_model, device)))
        placed[site] = tuple(layers)
    return placed


def _check_width(edit: Edit, d_model: int) -> None:
    for direction in (*edit.directions, *([edit.when.direction] if edit.when else [])):
        if direction.vector.numel() != d_model:
            raise EditError(
                f"edit {edit.kind} {direction.key}",
                f"{direction.vector.numel()} dimensions for a model of {d_model}",
                "fit the direction on this model",
            )


def _shape(edit: Edit) -> tuple[type, Site | None]:
    """Edits that differ in this do not run in one call."""
    move = Within if edit.span else Toward if edit.kind == "rotate" else Along
    return move, edit.when.direction.site if edit.when else None


def _same_shape(rows: list[list[Edit]]) -> list[list[Edit | None]]:
    """The first edits of all rows, then the second ones, and so on; those of several shapes one shape at a time."""
    layers = []
    for depth in range(max(map(len, rows))):
        edits = [row[depth] if depth < len(row) else None for row in rows]
        for shape in dict.fromkeys(_shape(edit) for edit in edits if edit):
            layers.append([edit if edit and _shape(edit) == shape else None for edit in edits])
    return layers


def _move(
    edits: list[Edit | None],
    site: Site,
    d_model: int,
    device: torch.device | str,
    residual_norms: Mapping[Site, float] | None,
) -> Move:
    """The numbers of every row's edit; all of them have one shape."""
    kind, _ = _shape(next(edit for edit in edits if edit))
    if kind is Within:
        n = max(len(edit.directions) for edit in edits if edit)
        found = [_span(edit, n, d_model) for edit in edits]
        basis, maps = (torch.stack(part).to(device) for part in zip(*found, strict=True))
        return Within(basis, maps)
    units = torch.stack([e.direction.unit.float() if e else torch.zeros(d_model) for e in edits]).to(device)
    if kind is Toward:
        angles = [math.radians(edit.each.value) if edit else 0.0 for edit in edits]
        return Toward(units, torch.tensor(angles, device=device))
    shifts = torch.tensor([shift_of(e, site, residual_norms) if e else Shift() for e in edits], device=device)
    return Along(units, shifts.T.contiguous())


def _span(edit: Edit | None, n: int, d_model: int) -> tuple[Tensor, Tensor]:
    """Basis and maps (see `within`) of one edit in a span, filled up to `n` axes with empty ones."""
    basis, maps = torch.zeros(n, d_model), torch.zeros(n, n + 3)
    maps[:, n + 2] = math.inf
    if edit is None:
        return basis, maps
    axes, mean = _axes(edit.directions)
    k, value = len(axes), edit.strength.value
    basis[:k] = axes.float()
    if edit.kind == "rotate":
        angle = math.radians(edit.each.value)
        shrink, sine = -2 * math.sin(angle / 2) ** 2, math.sin(angle)
        maps[:2, :2] = torch.tensor([[shrink, sine], [-sine, shrink]])
    elif edit.kind == "cap":
        maps[:k, n + 1], maps[:, n + 2] = mean.float(), value
    else:
        maps[:k, :k] = -value * torch.eye(k)
        maps[:k, n] = value * mean.float() if edit.kind == "mean_ablate" else 0.0
    return basis, maps


def _axes(directions: Sequence[Direction]) -> tuple[Float[Tensor, "axis d_model"], Float[Tensor, " axis"]]:
    """An orthonormal basis, the first direction first, and the coordinates of the point at every one's offset.

    Raises:
        EditError: one of the directions lies in the span of the others.
    """
    units = torch.stack([direction.unit.double().cpu() for direction in directions])
    q, r = torch.linalg.qr(units.T)
    if units.shape[0] > units.shape[1] or bool((r.diagonal().abs() < _DEPENDENT).any()):
        raise EditError(
            f"the span of {', '.join(direction.key for direction in directions)}",
            "one of them lies in the span of the others",
            "leave it out",
        )
    signs = r.diagonal().sign()
    q, r = q * signs, r * signs[:, None]
    offsets = torch.tensor([direction.offset for direction in directions], dtype=torch.float64)
    return q.T, torch.linalg.solve(r.T, offsets)


def _gate(edits: list[Edit | None], d_model: int, device: torch.device | str) -> Gate | None:
    whens = [edit.when if edit else None for edit in edits]
    site = next((when.direction.site for when in whens if when), None)
    if site is None:
        return None
    units, bounds = [], []
    for when in whens:
        level = level_of(when.level, when.direction) if when else -math.inf
        units.append(when.direction.unit.float() if when else torch.zeros(d_model))
        bounds.append((-math.inf, level) if when and when.below else (level, math.inf))
    return Gate(site, torch.stack(units).to(device), torch.tensor(bounds, device=device).T.contiguous())
