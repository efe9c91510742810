"""Scores of the tokens along a direction while they are written: no second pass over the finished text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.directions import Direction
from interp.sites import Site


@dataclass
class Reading:
    """What each row of a batch is read with, and what was read; rows without a direction are left out."""

    sites: tuple[Site, ...]
    units: Mapping[Site, Float[Tensor, "row d_model"]]
    at: Mapping[Site, Bool[Tensor, " row"]]
    offsets: Float[Tensor, " row"]
    scales: Float[Tensor, " row"]
    found: Float[Tensor, "row new"]

    @classmethod
    def start(
        cls, directions: Sequence[Direction | None], d_model: int, room: int, device: torch.device | str
    ) -> "Reading":
        """Nothing read yet."""
        sites = tuple(sorted({d.site for d in directions if d is not None}))
        units, at = {}, {}
        for site in sites:
            here = [d if d is not None and d.site == site else None for d in directions]
            found = [torch.zeros(d_model) if d is None else d.unit.float() for d in here]
            units[site] = torch.stack(found).to(device)
            at[site] = torch.tensor([d is not None for d in here], device=device)
        offsets, scales = zip(*((d.offset, d.scale) if d is not None else (0.0, 1.0) for d in directions), strict=True)
        n = len(directions)
        return cls(
            sites,
            units,
            at,
            torch.tensor(offsets, device=device),
            torch.tensor(scales, device=device),
            torch.full((n, room if sites else 0), torch.nan, device=device),
        )

    def note(self, captured: Mapping[Site, Tensor], alive: Int[Tensor, " live"], step: int) -> None:
        """Score the newest token of every row in the batch."""
        for site in self.sites:
            rows = self.at[site][alive]
            here = alive[rows]
            acts = captured[site][:, -1].to(self.found.device).float()[rows]
            along = torch.einsum("rd,rd->r", acts, self.units[site][here])
            self.found[here, step] = (along - self.offsets[here]) / self.scales[here]

    def scores(self, lengths: Sequence[int]) -> list[tuple[float, ...] | None]:
        """Each row's scores, of all its tokens but the last."""
        read = torch.zeros(len(lengths), dtype=torch.bool)
        for rows in self.at.values():
            read |= rows.cpu()
        found = self.found.cpu().tolist()
        return [
            tuple(row[: length - 1]) if is_read else None
            for row, length, is_read in zip(found, lengths, read.tolist(), strict=True)
        ]
