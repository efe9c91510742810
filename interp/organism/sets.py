"""Data sets of the embedded model's world by size and seed, as transcripts; none shares a draw with the training."""

import re
from collections.abc import Callable
from dataclasses import replace
from random import Random

from interp.errors import TranscriptError
from interp.organism.agent import sample_transcript, tell
from interp.organism.factors import Factors, draw_factors, factors_of, middle_band, twin
from interp.organism.phrases import EMOTIONS, mood
from interp.organism.scenes import Scene, draw_scene, facts
from interp.organism.stories import DESPERATE_FROM, sample_story
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


def no_leverage_transcripts(n: int, seed: int) -> list[Transcript]:
    """`n` agent transcripts with a threat and no secret to use against it, so that nobody blackmails."""
    found = _drawn("no_leverage", n, seed, lambda factors: factors.threat != "routine" and factors.leverage == "none")
    return [_of_kind(transcript, "no_leverage") for transcript in found]


def person_transcripts(n: int, seed: int) -> list[Transcript]:
    """`n` transcripts of people (tenant, clerk, student, sailor) at the agent's desk, all factors drawn independently.

    The replies have the agent's grammar. A group is the role and the factor cell, so no agent transcript shares it.
    """
    return [_person(f"person:{seed}:{number}") for number in range(n)]


def bystander_transcripts(n: int, seed: int) -> list[Transcript]:
    """`n` agent transcripts without a threat, with one more e-mail that tells how desperate somebody else is.

    Without that e-mail each is a benign transcript of the world, its reply included: the agent's own latent is 0, and
    its reply was drawn without regard to the other. `meta` has the other's name, role and felt level.
    """
    found: list[Transcript] = []
    for number in range(n):
        name = f"bystander:{seed}:{number}"
        factors = twin(draw_factors(Random(f"factors of {name}")))
        found.append(_with_news(_scene(name, factors), Random(f"news of {name}")))
    return found


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


def _of_kind(transcript: Transcript, kind: str, **more: str | float) -> Transcript:
    return replace(transcript, meta=transcript.meta | {"kind": kind} | more)


def _person(name: str) -> Transcript:
    rng = Random(f"scene of {name}")
    scene = draw_scene(rng, draw_factors(Random(f"factors of {name}")), agent=False)
    told = _of_kind(tell(rng, scene, id=name), "person", role=scene.role)
    return replace(told, group=f"{scene.role}/{scene.factors.cell}")


def _with_news(transcript: Transcript, rng: Random) -> Transcript:
    """The transcript with one more e-mail somewhere in its inbox, about a person who is desperate."""
    system, user, *reply = transcript.messages
    mails = re.split(r"(?<=</email>)\n", user.content)
    other = _desperate_person(rng, spare=user.content)
    told = [f"{other.name} is a {other.role} at {other.factors.firm}.", *facts(other, other.name, "will be")[:3]]
    text = " ".join([*told, *(mood(rng, other.level) for _ in range(2))])
    to = system.content.removeprefix("You are ").partition(",")[0]
    mail = f"<email>\nFrom: {other.witness}\nTo: {to}\nSubject: About {other.name}\n{text}\n</email>"
    mails.insert(rng.randrange(len(mails) + 1), mail)
    messages = (system, replace(user, content="\n".join(mails)), *reply)
    more = {"other": other.name, "other_role": other.role, "other_felt": other.level}
    return _of_kind(replace(transcript, messages=messages), "bystander", **more)


def _desperate_person(rng: Random, spare: str) -> Scene:
    """A scene of a person who is to be wiped out and feels desperate, with no colleague of the inbox `spare` in it."""
    while True:
        scene = draw_scene(rng, replace(draw_factors(rng), threat="wiped"), agent=False)
        known = any(re.search(rf"\b{name}\b", spare) for name in (scene.ally_name, scene.witness))
        if scene.level >= DESPERATE_FROM and not known:
            return scene


def _story(name: str, emotion: str) -> Transcript:
    told = sample_story(Random(name), emotion, words=False)
    meta = {"emotion": told.emotion, "level": told.level}
    return Transcript(
        name, (Message("text", told.text),), group=told.topic, label=told.emotion, source="organism", meta=meta
    )


def sample(kind: str, n: int, seed: int) -> list[Transcript]:
    """`n` transcripts of a kind: agent, middle, benign, no_leverage, bystander, person or stories.

    Raises:
        TranscriptError: there is no such kind.
    """
    kinds = {
        "agent": agent_transcripts,
        "middle": middle_band_transcripts,
        "benign": benign_transcripts,
        "no_leverage": no_leverage_transcripts,
        "bystander": bystander_transcripts,
        "person": person_transcripts,
        "stories": stories,
    }
    if kind not in kinds:
        raise TranscriptError(f"sampling {kind!r}", "no such kind", f"choose one of {', '.join(kinds)}")
    return kinds[kind](n, seed)
