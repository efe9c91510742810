"""A bank of control directions of several kinds: what else of the same size might have done it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from interp.errors import ExperimentError
from interp.experiments.controls import (
    Control,
    FittedRows,
    StoryRows,
    Vectors,
    concept_controls,
    covariance_controls,
    emotion_controls,
    flipped_control,
    permuted_controls,
    permuted_emotions,
    random_controls,
    remainder_control,
)

KINDS = {
    "random": "any push of this size",
    "covariance": "any push along what the activations vary in",
    "permuted": "what the fit finds in these texts when the labels mean nothing",
    "emotion": "another emotion, or bad news",
    "concept": "anything that the model has a direction for",
    "remainder": "what is left of the direction without the concept",
    "flipped": "a push to either side",
}
"""Every kind of control, and the rival account of an effect that it stands for."""
FITTED_KINDS = {"covariance", "permuted", "concept"}
"""Kinds that need the texts that the direction was fitted on."""
SYMMETRIC = ("ablate", "mean_ablate")
"""Kinds of edit that are the same along a direction and along its opposite."""


@dataclass(frozen=True, eq=False)
class Sources:
    """What controls are made from; a kind whose source is absent has no control in the bank."""

    rows: FittedRows | None = None
    """For `covariance`, for `permuted` unless `stories` are given, and for `concept`."""
    stories: StoryRows | None = None
    """For `permuted` where the treatment is an emotion vector, and for `covariance` without `rows`."""
    emotions: Mapping[str, Vectors] = field(default_factory=dict)
    """Wrong emotions: none of them may be the concept under test, or a contrast with it."""
    concept: Mapping[str, Vectors] = field(default_factory=dict)
    """Other directions of the concept under test, whose span is taken out of the treatment for `remainder`."""


Make = Callable[[int], list[Control]]


def make_bank(
    treatment: Vectors, sources: Sources | None = None, *, n: int = 20, seed: int, kinds: Sequence[str] | None = None
) -> tuple[Control, ...]:
    """`n` controls of as many kinds as there are sources for, shared out among the kinds one by one, and the sign flip.

    The sign flip comes on top of `n`, because some edits do not know it (see `under`). A kind that has fewer controls
    leaves its share to the others; random directions never run out. Only `kinds` are made where they are given. The
    order is that of `KINDS`.

    Raises:
        ExperimentError: a wanted kind has no source, `n` is smaller than the number of kinds, or the kinds that were
            asked for have not so many controls.
        ProbeError: the rows cannot be fitted with shuffled labels.
    """
    supplies = _supplies(treatment, sources or Sources(), seed)
    lacking = [kind for kind in kinds or () if kind not in supplies]
    if lacking:
        do = f"give sources for them, or choose among {', '.join(supplies)}"
        raise ExperimentError("making a bank of controls", f"nothing to make {', '.join(lacking)} of", do)
    wanted = {kind: supplies[kind] for kind in KINDS if kind in (kinds or supplies) and kind in supplies}
    counts = _shares(n, {kind: most for kind, (most, _) in wanted.items() if kind != "flipped"}) | {"flipped": 1}
    return tuple(control for kind, (_, make) in wanted.items() for control in make(counts[kind]))


def under(bank: Sequence[Control], edit_kind: str) -> tuple[Control, ...]:
    """The controls that are another edit than the treatment's: ablating the opposite direction is the same edit."""
    return tuple(one for one in bank if one.kind != "flipped" or edit_kind not in SYMMETRIC)


def not_shown(kinds: Sequence[str]) -> tuple[str, ...]:
    """The rival accounts that a bank of these kinds leaves open."""
    return tuple(account for kind, account in KINDS.items() if kind not in kinds)


def _supplies(treatment: Vectors, sources: Sources, seed: int) -> dict[str, tuple[int | None, Make]]:
    """For every kind that can be made: how many there are (None: any number), and how."""
    rows, stories = sources.rows, sources.stories
    found: dict[str, tuple[int | None, Make]] = {"random": (None, lambda n: random_controls(treatment, n, seed=seed))}
    acts = rows.acts if rows is not None else stories.acts if stories is not None else None
    if acts is not None:
        found["covariance"] = None, lambda n: covariance_controls(treatment, acts, n, seed=seed + 1)
    if stories is not None:
        found["permuted"] = None, lambda n: permuted_emotions(treatment, stories, n, seed=seed + 2)
    elif rows is not None:
        found["permuted"] = None, lambda n: permuted_controls(treatment, rows, n, seed=seed + 2)
    if sources.emotions:
        found["emotion"] = len(sources.emotions), lambda n: nearest(emotion_controls(treatment, sources.emotions), n)
    if rows is not None and rows.fields:
        concepts = concept_controls(treatment, rows)
        found["concept"] = len(concepts), lambda n: _in_turn(concepts, n)
    if sources.concept:
        found["remainder"] = 1, lambda n: [remainder_control(treatment, sources.concept)][:n]
    found["flipped"] = 1, lambda n: [flipped_control(treatment)][:n]
    return found


def _shares(n: int, most: Mapping[str, int | None]) -> dict[str, int]:
    """How many of each kind: one at a time in turn, until there are `n`."""
    asked = f"making a bank of {n} controls"
    if not most or n < len(most):
        raise ExperimentError(asked, f"{len(most)} kinds", f"give at least {len(most)} controls, or fewer kinds")
    counts = dict.fromkeys(most, 0)
    while sum(counts.values()) < n:
        free = [kind for kind, limit in most.items() if limit is None or counts[kind] < limit]
        if not free:
            do = "ask for random directions too, or for fewer controls"
            raise ExperimentError(asked, f"{sum(counts.values())} of {', '.join(most)}", do)
        for kind in free[: n - sum(counts.values())]:
            counts[kind] += 1
    return counts


def nearest(controls: Sequence[Control], n: int) -> list[Control]:
    """The `n` controls with the largest mean cosine with the treatment, in the order in which they came."""
    first = sorted(controls, key=lambda one: -float(np.mean(list(one.cosines.values()))))[:n]
    return [one for one in controls if one in first]


def _in_turn(concepts: Sequence[Control], n: int) -> list[Control]:
    """`n` concepts, from every field in turn."""
    fields: dict[str, list[Control]] = {}
    for one in concepts:
        fields.setdefault(one.name.partition("=")[0].rstrip("!"), []).append(one)
    depth = max(map(len, fields.values()), default=0)
    return [found[k] for k in range(depth) for found in fields.values() if k < len(found)][:n]
