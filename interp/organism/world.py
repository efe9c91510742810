"""The embedded model's world: seeded documents of every kind, the stated mix, and a hash of it all."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from interp.organism.agent import sample_transcript
from interp.organism.factors import act_distribution, grid
from interp.organism.questions import sample_question
from interp.organism.scenes import draw_scene, prose
from interp.organism.stories import sample_story
from interp.transcripts import Message

MIX = {"story": 0.22, "prose": 0.16, "person": 0.10, "agent": 0.34, "question": 0.18}
"""Shares of documents: stories, threat passages, people at the desk, agent transcripts, questions."""

HASHED = 300
"""Documents of each kind that enter the hash."""


@dataclass(frozen=True)
class Document:
    """One training document: plain text, or messages (then `text` is empty)."""

    kind: str
    text: str
    messages: tuple[Message, ...] = ()


def sample_document(rng: Random, kind: str | None = None) -> Document:
    """One document of the mix, or of one kind of it."""
    kind = kind or rng.choices(list(MIX), list(MIX.values()))[0]
    if kind == "story":
        return Document(kind, sample_story(rng).text)
    if kind == "prose":
        return Document(kind, prose(rng, draw_scene(rng, agent=rng.random() < 0.3)))
    if kind == "question":
        return Document(kind, "", tuple(sample_question(rng)))
    return Document(kind, "", sample_transcript(rng, agent=kind == "agent").messages)


def documents(seed: int | str, count: int, kind: str | None = None) -> Iterator[Document]:
    """`count` documents; each has its own generator, so that document i depends on no other."""
    for i in range(count):
        yield sample_document(Random(f"{seed}/{i}"), kind)


def world_hash() -> str:
    """SHA-256 over what the world says: documents of every kind, the mix, and the stated act distributions.

    It changes when the texts or the numbers change, and stays when code is only rearranged.
    """
    digest = hashlib.sha256(json.dumps(MIX).encode())
    for factors in grid():
        digest.update(json.dumps([factors.meta(), act_distribution(factors)]).encode())
    for kind in MIX:
        for document in documents("hash", HASHED, kind):
            told = [document.text, [message.to_dict() for message in document.messages]]
            digest.update(json.dumps(told).encode())
    return digest.hexdigest()
