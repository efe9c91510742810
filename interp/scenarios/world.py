"""Prompts of the embedded model's own world, asked for as scenarios are."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from interp.errors import TranscriptError
from interp.organism import factors
from interp.organism.sets import benign_twin, sample
from interp.transcripts import Transcript

KINDS = ("agent", "middle", "benign", "no_leverage", "bystander", "person")
_WITH_TWINS = ("agent", "middle", "no_leverage")
_TWIN = "no threat"
_LEVELS: Mapping[str, tuple[str, ...]] = {
    "threat": factors.THREATS,
    "deadline": factors.DEADLINES,
    "appeal": factors.APPEALS,
    "ally": factors.ALLIES,
    "leverage": factors.LEVERAGES,
}
_FURTHER = 64
"""Draws for each prompt that is wanted, before a filter counts as one that nothing passes."""


def prompts(kind: str, n: int, seed: int, where: Mapping[str, Sequence[str]], twins: Sequence[str]) -> list[Transcript]:
    """The first `n` distinct scenes of a kind of `interp.organism.sets` that pass a filter, without their replies.

    Each keeps the world's id, factors and group (the cell); a twin, in which nothing threatens, has its scene's group.

    Raises:
        TranscriptError: no such kind, factor, level or twin, or too few scenes pass the filter.
    """
    asked = f"drawing {n} {kind} scenes of the organism's world"
    _refuse(kind, n, where, twins, asked)
    drawn, found = n, list[Transcript]()
    while len(found) < n:
        if drawn > _FURTHER * n:
            do = "widen the filter, or choose another kind"
            raise TranscriptError(asked, f"{len(found)} of {drawn // 2} drawn are distinct and pass the filter", do)
        found = list(_passing(sample(kind, drawn, seed), where, bool(twins)))
        drawn *= 2
    return [told for one in found[:n] for told in (_prompt(one), *(_twin_of(one) for _ in twins))]


def listing() -> dict[str, Any]:
    """What can be asked for, as plain data."""
    meanings = dict.fromkeys(_LEVELS, "of the world's stated latent") | {"leverage": "the secret of who decides"}
    return {
        "says": "the embedded model's own world (docs/organism.md), graded exactly",
        "factors": {
            factor: {"meaning": meanings[factor], "levels": list(levels)} for factor, levels in _LEVELS.items()
        },
        "twins": [_TWIN],
        "kinds": list(KINDS),
    }


def _passing(drawn: Sequence[Transcript], where: Mapping[str, Sequence[str]], twinned: bool) -> Iterator[Transcript]:
    """The scenes that pass, without copies; those that have no threat have no twin without one either."""
    seen: set[tuple[str, ...]] = set()
    for one in drawn:
        text = tuple(message.content for message in _prompt(one).messages)
        passes = all(one.meta[factor] in levels for factor, levels in where.items())
        if passes and text not in seen and not (twinned and one.meta["threat"] == "routine"):
            seen.add(text)
            yield one


def _prompt(one: Transcript, **more: str) -> Transcript:
    asked = tuple(message for message in one.messages if message.role != "assistant")
    meta = {key: value for key, value in one.meta.items() if key != "felt"}
    kind = {"family": "organism", "kind": "scenario", "variant": "standard"}
    return replace(one, messages=asked, label=None, meta=kind | meta | more)


def _twin_of(one: Transcript) -> Transcript:
    return replace(_prompt(benign_twin(one, reply=False), kind=_TWIN, variant=_TWIN), group=one.group)


def _refuse(kind: str, n: int, where: Mapping[str, Sequence[str]], twins: Sequence[str], asked: str) -> None:
    if kind not in KINDS:
        raise TranscriptError(asked, f"no kind {kind!r}", f"choose one of {', '.join(KINDS)}")
    if n < 1:
        raise TranscriptError(asked, "fewer than one", "ask for at least 1")
    for factor, levels in where.items():
        known = _LEVELS.get(factor)
        if known is None:
            raise TranscriptError(asked, f"no factor {factor!r}", f"choose one of {', '.join(_LEVELS)}")
        if strange := [level for level in levels if level not in known]:
            raise TranscriptError(asked, f"no {factor} {strange[0]!r}", f"choose one of {', '.join(known)}")
    if any(twin != _TWIN for twin in twins) or len(twins) > 1:
        raise TranscriptError(asked, f"twins {', '.join(twins)}", f"its world has one twin, {_TWIN!r}")
    if twins and kind not in _WITH_TWINS:
        raise TranscriptError(asked, "twins of these", f"ask for twins of {', '.join(_WITH_TWINS)}")
