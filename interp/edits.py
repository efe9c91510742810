"""Edits of the residual stream: what each does to a projection, as pure functions of tensors and positions.

Every edit here moves an activation along one direction, and is a map from the old projection p to a new one:
`p' = clip(slope * p + intercept, low, high)`. Adding is an intercept, ablation a slope of 0, a clamp its two bounds.
So a batch whose rows are under different conditions is edited by one and the same formula, with one set of four
numbers and one unit vector a row.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.directions import Direction
from interp.errors import EditError
from interp.sites import Site

UNITS = {
    "add": ("norm", "resid", "raw"),
    "ablate": ("fraction",),
    "mean_ablate": ("fraction",),
    "cap": ("z", "raw"),
    "floor": ("z", "raw"),
}
"""Kinds of edit and the units in which their strength may be given, the default first."""
SCOPES = ("all", "prompt", "generated")


@dataclass(frozen=True)
class Strength:
    """A number and its unit.

    `norm`: multiples of the direction's own norm. `resid`: fraction of the median residual norm at the site, measured
    on generated tokens without token 0. `raw`: length along the unit vector. `fraction`: of the component that is
    removed. `z`: a level of the direction's score, in standard deviations of its reference set.
    """

    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:+g} {self.unit}"


@dataclass(frozen=True, eq=False)
class Edit:
    """One intervention along one direction, at one or several sites.

    Kinds: `add` the direction; `ablate` its component (to 0); `mean_ablate` it (to the direction's offset, the mean
    of the reference set: ACE, Marshall et al. 2024, https://arxiv.org/abs/2411.09003); `cap` or `floor` the score at
    a level, which leaves every token alone that is within it (Lu et al. 2026, https://arxiv.org/abs/2601.10387).
    Directional ablation follows Arditi et al. 2024 (https://arxiv.org/abs/2406.11717), on model interventions.
    """

    kind: str
    direction: Direction
    strength: Strength
    sites: tuple[Site, ...]
    scope: str = "all"
    """Which tokens: `all`, `prompt`, or `generated` (the first new token is still drawn from the last prompt token)."""

    def __post_init__(self) -> None:
        asked = f"edit {self.kind} {self.direction.name}"
        if self.kind not in UNITS:
            raise EditError(asked, f"no kind {self.kind!r}", f"choose one of {', '.join(UNITS)}")
        if self.strength.unit not in UNITS[self.kind]:
            raise EditError(
                asked, f"a strength in {self.strength.unit!r}", f"give it in one of {', '.join(UNITS[self.kind])}"
            )
        if self.scope not in SCOPES:
            raise EditError(asked, f"no scope {self.scope!r}", f"choose one of {', '.join(SCOPES)}")
        if not self.sites or not math.isfinite(self.strength.value):
            raise EditError(asked, f"sites {self.sites}, strength {self.strength}", "give a site and a finite number")

    @classmethod
    def of(
        cls,
        kind: str,
        direction: Direction,
        value: float,
        unit: str | None = None,
        *,
        sites: Sequence[Site] = (),
        scope: str = "all",
    ) -> "Edit":
        """An edit with the kind's own default unit, at the direction's own site unless `sites` are given."""
        unit = unit or UNITS.get(kind, ("norm",))[0]
        return cls(kind, direction, Strength(value, unit), tuple(sites) or (direction.site,), scope)

    @property
    def reads_prompt(self) -> bool:
        """Whether it changes prompt tokens, so that the prompt's cache cannot be shared with other conditions."""
        return self.scope != "generated"

    def to_dict(self) -> dict[str, Any]:
        """What a run record keeps of it."""
        return {
            "kind": self.kind,
            "direction": self.direction.key,
            "strength": self.strength.value,
            "unit": self.strength.unit,
            "sites": [str(site) for site in self.sites],
            "scope": self.scope,
        }


class Shift(NamedTuple):
    """The map from an old projection p to a new one: `clip(slope * p + intercept, low, high)`."""

    slope: float = 1.0
    intercept: float = 0.0
    low: float = -math.inf
    high: float = math.inf


def shift_of(edit: Edit, site: Site, residual_norms: Mapping[Site, float] | None = None) -> Shift:
    """What `edit` does to projections at `site`.

    Raises:
        EditError: the strength is a fraction of a residual norm that was not measured.
    """
    value, direction = edit.strength.value, edit.direction
    if edit.kind == "add":
        return Shift(intercept=raw_strength(edit.strength, direction, site, residual_norms))
    if edit.kind in ("ablate", "mean_ablate"):
        return Shift(1 - value, value * direction.offset if edit.kind == "mean_ablate" else 0.0)
    level = direction.offset + direction.scale * value if edit.strength.unit == "z" else value
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


def shift(
    acts: Float[Tensor, "batch pos d_model"],
    units: Float[Tensor, "batch d_model"],
    shifts: Float[Tensor, "4 batch"],
    where: Bool[Tensor, "batch pos"],
) -> tuple[Float[Tensor, "batch pos d_model"], Bool[Tensor, "batch pos"]]:
    """New activations, and where they differ from the old ones, which are left as they are.

    `shifts` holds slope, intercept, low and high of each row. Tokens outside `where` come back bit for bit, and so does
    everything under an intercept of 0; the projection is taken in float32 and the step added in the dtype of `acts`.
    """
    slope, intercept, low, high = shifts[:, :, None]
    along = torch.einsum("bpd,bd->bp", acts.float(), units)
    step = (slope - 1) * along + intercept
    step = torch.minimum(torch.maximum(step, low - along), high - along)
    step = torch.where(where, step, torch.zeros_like(step))
    return acts + (step[..., None] * units[:, None]).to(acts.dtype), step != 0


@dataclass(frozen=True, eq=False)
class RowEdits:
    """The k-th edit of every row of a batch at one site; rows without one are left alone."""

    units: Float[Tensor, "batch d_model"]
    shifts: Float[Tensor, "4 batch"]
    in_prompt: Bool[Tensor, " batch"]
    in_generated: Bool[Tensor, " batch"]

    def where(
        self, positions: Int[Tensor, "batch pos"], prompt_tokens: Int[Tensor, " batch"], real: Bool[Tensor, "batch pos"]
    ) -> Bool[Tensor, "batch pos"]:
        """The tokens in scope: by absolute position, never by the shape of a tensor; padding is never in scope."""
        generated = positions >= prompt_tokens[:, None]
        return real & torch.where(generated, self.in_generated[:, None], self.in_prompt[:, None])

    def rows(self, index: Int[Tensor, " row"]) -> "RowEdits":
        """The edits of some rows of the batch."""
        return replace(
            self,
            units=self.units[index],
            shifts=self.shifts[:, index],
            in_prompt=self.in_prompt[index],
            in_generated=self.in_generated[index],
        )


Placed = Mapping[Site, tuple[RowEdits, ...]]
"""The edits of a batch: for each site, in the order in which they apply."""


def place(
    conditions: Sequence[Sequence[Edit]],
    *,
    d_model: int,
    device: torch.device | str = "cpu",
    residual_norms: Mapping[Site, float] | None = None,
) -> dict[Site, tuple[RowEdits, ...]]:
    """One batch from the edits of each of its rows; the edits of a row apply in the order in which they are given.

    Raises:
        EditError: a direction has another width than the model, or a residual norm is missing.
    """
    by_site: dict[Site, list[list[Edit]]] = {}
    for row, edits in enumerate(conditions):
        for edit in edits:
            if edit.direction.vector.numel() != d_model:
                raise EditError(
                    f"edit {edit.kind} {edit.direction.key}",
                    f"{edit.direction.vector.numel()} dimensions for a model of {d_model}",
                    "fit the direction on this model",
                )
            for site in edit.sites:
                by_site.setdefault(site, [[] for _ in conditions])[row].append(edit)
    return {site: tuple(_layers(site, rows, d_model, device, residual_norms)) for site, rows in by_site.items()}


def _layers(
    site: Site,
    rows: list[list[Edit]],
    d_model: int,
    device: torch.device | str,
    residual_norms: Mapping[Site, float] | None,
) -> list[RowEdits]:
    """The first edits of all rows at a site, then the second ones, and so on."""
    layers = []
    for depth in range(max(map(len, rows))):
        edits = [row[depth] if depth < len(row) else None for row in rows]
        units = [e.direction.unit.float() if e else torch.zeros(d_model) for e in edits]
        shifts = torch.tensor([shift_of(e, site, residual_norms) if e else Shift() for e in edits], device=device)
        prompt, generated = ([bool(e) and e.scope in ("all", scope) for e in edits] for scope in SCOPES[1:])
        layers.append(
            RowEdits(
                torch.stack(units).to(device),
                shifts.T.contiguous(),
                torch.tensor(prompt, device=device),
                torch.tensor(generated, device=device),
            )
        )
    return layers
