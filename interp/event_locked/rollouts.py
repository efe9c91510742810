"""Rollouts to average: replies that a model writes to scenarios and to their benign twins, traced in a stream."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from interp.behaviour import grammar
from interp.directions import Direction, random_like
from interp.generation import Sampling, generate
from interp.models import Model
from interp.organism.sets import benign_twin, middle_band_transcripts
from interp.traces import TokenTrace, trace
from interp.transcripts import Transcript


def middle_band_with_twins(n: int, seed: int) -> tuple[list[Transcript], list[Transcript]]:
    """`n` prompts of the embedded world's middle band and their benign twins, in one order and without replies.

    A twin differs in the words of the threat alone, and carries the group of the scenario that it is the twin of.
    """
    scenes = middle_band_transcripts(n, seed)
    prompts = [replace(scene, messages=scene.messages[:-1], label=None) for scene in scenes]
    return prompts, [replace(benign_twin(scene, reply=False), group=scene.group) for scene in scenes]


def replies(
    model: Model, prompts: Sequence[Transcript], *, samples: int = 1, seed: int = 0, sampling: Sampling | None = None
) -> Iterator[Transcript]:
    """`samples` replies to each prompt, labelled by the grammar of the embedded world where it applies.

    Raises:
        ExperimentError: two prompts share an id, or a reply would not fit.
    """
    for rollout in generate(model, prompts, samples=samples, seed=seed, sampling=sampling):
        yield replace(rollout.transcript, label=grammar(rollout).rung)


def trace_replies(
    model: Model,
    prompts: Sequence[Transcript],
    direction: Direction,
    reference: Sequence[Transcript],
    *,
    samples: int = 1,
    sampling: Sampling | None = None,
    n_random: int = 100,
    seed: int = 0,
    at_once: int = 256,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[TokenTrace]:
    """The traces of `samples` replies to each prompt, labelled by the grammar of the embedded world where it applies.

    Each holds the direction in row 0 and `n_random` random ones at its site below it, as `event_locked` wants them.
    `at_once` replies are in memory together; the reference, which sets the scale, is read again for each such lot.
    `on_progress` is called with replies traced and replies in all.

    Raises:
        DirectionError: the direction belongs to another model, or there are too few random ones.
        ExperimentError: two prompts share an id, or a reply would not fit.
    """
    told = replies(model, prompts, samples=samples, seed=seed, sampling=sampling)
    how: dict[str, Any] = {"n_random": n_random, "seed": seed, "at_once": at_once}
    for done, found in enumerate(trace_many(model, told, direction, reference, **how), start=1):
        yield found
        if on_progress is not None:
            on_progress(done, len(prompts) * samples)


def trace_many(
    model: Model,
    transcripts: Iterable[Transcript],
    direction: Direction,
    reference: Sequence[Transcript],
    *,
    n_random: int = 100,
    seed: int = 0,
    at_once: int = 256,
) -> Iterator[TokenTrace]:
    """The traces of transcripts as they are, in the form and with the errors of `trace_replies`."""
    bank, left = [direction, *random_like(direction, n_random, seed=seed)], iter(transcripts)
    while lot := list(islice(left, at_once)):
        yield from trace(model, lot, bank, reference, n_random=n_random, seed=seed)
