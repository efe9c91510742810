"""The scale on which directions are read: mean and standard deviation over the tokens of benign transcripts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations.collect import OnProgress, stream
from interp.directions import Direction
from interp.edits import quantile_meta
from interp.errors import DirectionError, TranscriptError
from interp.models import Model
from interp.sites import Site
from interp.tokens import PositionRule
from interp.transcripts import Transcript

BENIGN_TOKENS = PositionRule.parse("from:1")
"""All tokens but the first of each text, which is a sink with a norm of its own."""

OnProjections = Callable[[Site, Float[Tensor, "row probe"]], None]
"""Called after every batch with a site and the lengths along its directions, in the order they were given."""


def calibrate(
    model: Model,
    directions: Sequence[Direction],
    reference: Sequence[Transcript],
    *,
    quantiles: bool = False,
    batch_tokens: int = 8192,
    on_progress: OnProgress | None = None,
    on_projections: OnProjections | None = None,
) -> list[Direction]:
    """The same directions, whose scores have mean 0 and standard deviation 1 over the reference's tokens.

    Every token but the first of each transcript counts. Only counts, means and sums of squares are kept, in float64,
    whatever the number of transcripts. `meta` records how many tokens and transcripts set the scale. With `quantiles`,
    every token's projections are kept (4 bytes each), and the directions know their quantiles too.

    Raises:
        DirectionError: a direction belongs to another model, or never varies over the reference.
        TranscriptError: there are fewer than two tokens.
    """
    by_site: dict[Site, list[Direction]] = {}
    for direction in directions:
        by_site.setdefault(direction.check(model.identity).site, []).append(direction)
    units = {site: torch.stack([d.unit for d in found]).to(model.device) for site, found in by_site.items()}
    moments = {site: _Moments(kept=[] if quantiles else None) for site in by_site}
    for part in stream(model, reference, tuple(by_site), BENIGN_TOKENS, batch_tokens=batch_tokens):
        for site, acts in part.acts.items():
            along = acts.float() @ units[site].to(acts.device).T
            moments[site].update(along)
            if on_projections is not None:
                on_projections(site, along)
        if on_progress is not None:
            on_progress(part.tokens_done, part.tokens)
    scaled = {
        d.key: _scaled(d, moments[site], index, len(reference))
        for site, found in by_site.items()
        for index, d in enumerate(found)
    }
    return [scaled[direction.key] for direction in directions]


@dataclass
class _Moments:
    """Count, mean and summed squared deviations, merged batch by batch (Chan, Golub and LeVeque 1979)."""

    count: int = 0
    mean: Float[Tensor, " probe"] | float = 0.0
    squares: Float[Tensor, " probe"] | float = 0.0
    kept: list[Tensor] | None = None
    """The projections themselves, where quantiles are wanted."""

    def update(self, along: Float[Tensor, "row probe"]) -> None:
        """Take in the projections of some tokens."""
        values = along.double().cpu()
        n, mean = len(values), values.mean(0)
        step, count = mean - self.mean, self.count + n
        self.squares = self.squares + (values - mean).square().sum(0) + step.square() * self.count * n / count
        self.mean, self.count = self.mean + step * n / count, count
        if self.kept is not None:
            self.kept.append(values.float())


def _scaled(direction: Direction, moments: _Moments, index: int, n_transcripts: int) -> Direction:
    asked = f"calibrating {direction.key}"
    if moments.count < 2:
        raise TranscriptError(
            asked, f"{moments.count} benign tokens beside the first of each text", "give more benign transcripts"
        )
    mean = float(torch.as_tensor(moments.mean)[index])
    deviation = float((torch.as_tensor(moments.squares)[index] / (moments.count - 1)).sqrt())
    if not deviation > 0:
        raise DirectionError(asked, "a projection that never varies", "give other benign transcripts or direction")
    meta = {"reference_tokens": moments.count, "reference_transcripts": n_transcripts}
    levels = {} if moments.kept is None else quantile_meta(torch.cat(moments.kept)[:, index])
    return replace(direction, offset=mean, scale=deviation, meta={**direction.meta, **meta, **levels})
