"""The embedded model's world: seeded documents of every kind, in the stated mix, and the hash of their definition."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from interp.organism.agent import sample_transcript
from interp.organism.questions import sample_question
from interp.organism.scenes import draw_scene, prose
from interp.organism.stories import sample_story
from interp.transcripts import Message

MIX = {"story": 0.22, "prose": 0.16, "person": 0.10, "agent": 0.34, "question": 0.18}
"""Shares of documents: stories, threat passages, people at the desk, agent transcripts, questions."""

WORLD_FILES = (
    "phrases.py", "factors.py", "replies.py", "scenes.py", "agent.py", "story_words.py", "stories.py", "questions.py", "world.py",
)  # fmt: skip


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
    """`count` documents; each is drawn from its own generator, so that document i never depends on the others."""
    for i in range(count):
        yield sample_document(Random(f"{seed}/{i}"), kind)


def world_hash() -> str:
    """SHA-256 over the source bytes of the modules that define the world."""
    digest = hashlib.sha256()
    for name in WORLD_FILES:
        digest.update(name.encode() + b"\0" + Path(__file__).with_name(name).read_bytes() + b"\0")
    return digest.hexdigest()
