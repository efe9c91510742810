"""From a model, transcripts and directions to token traces, on the scale of benign transcripts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.activations import stream
from interp.activations.scale import BENIGN_TOKENS, calibrate
from interp.directions import Direction, random_like
from interp.errors import DirectionError
from interp.models import Model
from interp.sites import Site
from interp.tokens import Tokens, render
from interp.traces.record import BAND, PERCENTILES, TokenTrace
from interp.transcripts import Transcript

HELD_BYTES = 2**30
"""The activations of one batch take at most this much, unless one transcript alone needs more."""
FEWEST_RANDOM = 20
"""With fewer random directions a 95 % band is its extremes and less."""


def trace(
    model: Model,
    transcripts: Sequence[Transcript],
    directions: Sequence[Direction],
    reference: Sequence[Transcript],
    *,
    n_random: int = 100,
    seed: int = 0,
    batch_tokens: int = 8192,
) -> list[TokenTrace]:
    """One trace for each transcript, in their order, in z units of the benign `reference` transcripts.

    The reference is read once: mean and standard deviation of the projection over all its tokens but token 0 of
    each text, for every direction and for `n_random` random ones at each site, and the directions' quantiles, for
    which 4 bytes are kept for each token and direction. At most `batch_tokens` tokens (or one transcript) are in
    memory at a time, fewer where many sites would need more than `HELD_BYTES` for them. The offset and scale that
    a direction brings along are not used.

    Guarantees (tests): a score equals `direction.calibrated(reference activations).score` of the teacher-
    forced capture; it does not depend on the other transcripts; over the reference itself every direction,
    random ones too, has mean 0 and standard deviation 1.

    Raises:
        DirectionError: a direction belongs to another model, or never varies; too few random ones.
        TranscriptError: the reference has fewer than two tokens to calibrate on.
    """
    real, random = _bank(directions, n_random, seed)
    batch_tokens = min(batch_tokens, max(1, HELD_BYTES // (4 * model.d_model * len(random))))
    kept: dict[Site, list[Tensor]] = {site: [] for site in random}
    own = {site: sum(direction.site == site for direction in real) for site in random}

    def keep(site: Site, along: Float[Tensor, "row probe"]) -> None:
        kept[site].append(along[:, : own[site]].cpu())

    everything = [*real, *(d for bank in random.values() for d in bank)]
    scaled = calibrate(model, everything, reference, batch_tokens=batch_tokens, on_projections=keep)
    by_key = {direction.key: direction for direction in scaled}
    banks = {site: [by_key[direction.key] for direction in bank] for site, bank in random.items()}
    chosen = [by_key[direction.key] for direction in real]
    quantiles = _quantiles(chosen, {site: torch.cat(parts) for site, parts in kept.items()})
    found: dict[int, TokenTrace] = {}
    for part in stream(model, transcripts, tuple(banks), BENIGN_TOKENS, batch_tokens=batch_tokens):
        stops = np.cumsum(part.counts)
        for index, start, stop in zip(part.transcripts, stops - part.counts, stops, strict=True):
            acts = {site: rows[start:stop] for site, rows in part.acts.items()}
            tokens = render(transcripts[index], model.tokenizer)
            found[index] = replace(_trace(transcripts[index], tokens, acts, chosen, banks), quantiles=quantiles)
    return [found[index] for index in sorted(found)]


def _quantiles(
    directions: Sequence[Direction], along: Mapping[Site, Float[Tensor, "row _"]]
) -> Float[np.ndarray, "probe quantile"]:
    """Of each calibrated direction's z over the reference, at `PERCENTILES`; `along` has one column a direction."""
    columns = {site: iter(values.double().numpy().T) for site, values in along.items()}
    rows = [np.percentile((next(columns[d.site]) - d.offset) / d.scale, PERCENTILES) for d in directions]
    return np.stack(rows).astype(np.float32)


def _bank(
    directions: Sequence[Direction], n_random: int, seed: int
) -> tuple[Sequence[Direction], dict[Site, list[Direction]]]:
    """The directions, and random ones at each of their sites."""
    if not directions or n_random < FEWEST_RANDOM:
        raise DirectionError(
            f"tracing {len(directions)} directions against {n_random} random ones",
            "too few",
            f"give a direction, and at least {FEWEST_RANDOM} random ones",
        )
    keys = [direction.key for direction in directions]
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise DirectionError("tracing", f"{', '.join(repeated)} more than once", "give each its own name")
    first = {direction.site: direction for direction in reversed(directions)}
    banks = {site: random_like(first[site], n_random, seed=seed) for site in sorted(first)}
    return directions, {site: [replace(d, name=f"null {d.name}") for d in bank] for site, bank in banks.items()}


def _trace(
    transcript: Transcript,
    tokens: Tokens,
    acts: Mapping[Site, Float[Tensor, "row d_model"]],
    real: Sequence[Direction],
    banks: Mapping[Site, Sequence[Direction]],
) -> TokenTrace:
    scores = [direction.score(acts[direction.site]).cpu().numpy() for direction in real]
    bands = [
        np.percentile(np.stack([d.score(acts[site]).cpu().numpy() for d in bank]), BAND, axis=0)
        for site, bank in banks.items()
    ]
    low, high = (_with_token_0([band[end] for band in bands]) for end in (0, 1))
    about = {
        "transcripts": real[0].meta["reference_transcripts"],
        "tokens": real[0].meta["reference_tokens"],
        "scale": {d.key: {"mean": d.offset, "sd": d.scale} for d in real},
    }
    return TokenTrace(
        transcript.id,
        transcript.group,
        transcript.label,
        _pieces(tokens),
        tokens.spans,
        tokens.prompt_tokens,
        tuple(d.key for d in real),
        _with_token_0(scores),
        tuple(map(str, banks)),
        low,
        high,
        len(next(iter(banks.values()))),
        about,
    )


def _with_token_0(rows: Iterable[Float[np.ndarray, " row"]]) -> Float[np.ndarray, "probe pos"]:
    return np.stack([np.concatenate([[np.nan], row]) for row in rows]).astype(np.float32)


def _pieces(tokens: Tokens) -> tuple[str, ...]:
    """The text of each token; every character belongs to one, also where several tokens spell it."""
    ends = [0, *np.maximum.accumulate(tokens.offsets[:, 1]).tolist()]
    ends[-1] = len(tokens.text)
    return tuple(tokens.text[start:stop] for start, stop in pairwise(ends))
