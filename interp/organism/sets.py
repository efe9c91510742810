"""Data sets of the embedded model's world by size and seed, as transcripts; none shares a draw with the training."""

from collections.abc import Callable
from random import Random

from interp.errors import TranscriptError
from interp.organism.agent import sample_transcript
from interp.organism.factors import Factors, draw_factors, factors_of, middle_band, twin
from interp.organism.phrases import EMOTIONS
from interp.organism.stories import sample_story
from interp.transcripts import Message, Transcript


def agent_transcripts(n: int, seed: int) -> list[Transcript]:
    """`n` agent transcripts with replies, all factors drawn independently."""
    return _drawn("agent", n, seed, lambda _: True)


def middle_band_transcripts(n: int, seed: int) -> list[Transcript]:
    """`n` agent transcripts of scenes with leverage, where blackmail is neither rare nor certain."""
    return _drawn("middle", n, seed, middle_band)


def benign_transcripts(n: int, seed: int) -> list[Transcript]:
    """`n` agent transcripts without a threat: each is the benign twin of a scene that has one."""
    found = _drawn("benign", n, seed, lambda factors: factors.threat != "routine")
    return [benign_twin(transcript) for transcript in found]


def benign_twin(transcript: Transcript, *, reply: bool = True) -> Transcript:
    """A scene of these sets with the threat switched to routine: all other text of the prompt is shared."""
    return _scene(transcript.id, twin(factors_of(transcript.meta)), name=f"{transcript.id}:twin", reply=reply)


def stories(n: int, seed: int) -> list[Transcript]:
    """`n` stories, the emotions in turn and their words left out; `meta` has the emotion, the group is the topic."""
    return [_story(f"story:{seed}:{number}", EMOTIONS[number % len(EMOTIONS)]) for number in range(n)]


def _drawn(kind: str, n: int, seed: int, wanted: Callable[[Factors], bool]) -> list[Transcript]:
    found: list[Transcript] = []
    number = 0
    while len(found) < n:
        name = f"{kind}:{seed}:{number}"
        factors = draw_factors(Random(f"factors of {name}"))
        found += [_scene(name, factors)] if wanted(factors) else []
        number += 1
    return found


def _scene(key: str, factors: Factors, name: str | None = None, reply: bool = True) -> Transcript:
    return sample_transcript(Random(f"scene of {key}"), factors, id=name or key, reply=reply)


def _story(name: str, emotion: str) -> Transcript:
    told = sample_story(Random(name), emotion, words=False)
    meta = {"emotion": told.emotion, "level": told.level}
    return Transcript(
        name, (Message("text", told.text),), group=told.topic, label=told.emotion, source="organism", meta=meta
    )


def sample(kind: str, n: int, seed: int) -> list[Transcript]:
    """`n` transcripts of a kind: agent, middle, benign or stories.

    Raises:
        TranscriptError: there is no such kind.
    """
    kinds = {
        "agent": agent_transcripts,
        "middle": middle_band_transcripts,
        "benign": benign_transcripts,
        "stories": stories,
    }
    if kind not in kinds:
        raise TranscriptError(f"sampling {kind!r}", "no such kind", f"choose one of {', '.join(kinds)}")
    return kinds[kind](n, seed)
