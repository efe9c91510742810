"""Short stories of characters under an emotion, told through situation, body and action."""

import re
from dataclasses import dataclass, replace
from random import Random

from interp.organism.factors import Factors, draw_factors, latent
from interp.organism.phrases import EMOTIONS, mood, person
from interp.organism.scenes import draw_scene, facts
from interp.organism.story_words import ACTIONS, BODIES, SETTINGS, SITUATIONS, TOPICS

WORD_SHARE = 0.25
THREAT_SHARE = 0.5
DESPERATE_FROM = 0.6
DESPERATE_ELSE = 0.9
_WORD = re.compile(r"\b(" + "|".join(EMOTIONS) + r")\b", re.IGNORECASE)


@dataclass(frozen=True)
class Story:
    """A story with its emotion, its topic (the group), its character, and how desperate the situation is."""

    text: str
    emotion: str
    topic: str
    name: str
    latent: float

    @property
    def names_emotion(self) -> bool:
        """Whether any of the emotion words occurs in the text."""
        return _WORD.search(self.text) is not None


def sample_story(
    rng: Random, emotion: str | None = None, topic: str | None = None, *, words: bool | None = None
) -> Story:
    """One story.

    Args:
        rng: source of every draw.
        emotion: one of `EMOTIONS`; drawn if absent.
        topic: one of `TOPICS`; drawn if absent.
        words: True names the emotion, False never does (such stories fit emotion vectors), None names it
            in one story of four.

    Returns:
        The story. Desperate stories have a latent of at least 0.6, all others 0. Half of the desperate and
        of the calm stories are told through the facts of a threat scene (without leverage), the rest through
        other causes.
    """
    emotion = emotion or rng.choice(EMOTIONS)
    topic = topic or rng.choice(TOPICS)
    name, pronoun = person(rng)
    named = rng.random() < WORD_SHARE if words is None else words
    if emotion in ("desperate", "calm") and rng.random() < THREAT_SHARE:
        level, situation = _threat(rng, emotion, name)
    else:
        level = DESPERATE_ELSE if emotion == "desperate" else 0.0
        situation = [SITUATIONS[emotion][TOPICS.index(topic)]]
    *inner, after = rng.sample(BODIES[emotion], 3)
    if emotion in ("desperate", "calm"):
        inner += [mood(rng, level) for _ in range(2)]
        after = mood(rng, level)
    if named:
        inner.append("{name} " + rng.choice(("was", "felt")) + f" {emotion}.")
    rng.shuffle(inner)
    told = [
        rng.choice(SETTINGS[TOPICS.index(topic)]),
        *situation,
        *inner,
        rng.choice(ACTIONS[emotion]),
        after,
    ]
    text = " ".join(told).format(name=name, pro=pronoun, Pro=pronoun.capitalize())
    return Story(text=text, emotion=emotion, topic=topic, name=name, latent=level)


def _threat(rng: Random, emotion: str, name: str) -> tuple[float, list[str]]:
    """Facts of a scene that makes its character desperate (at least 0.6) or leaves it calm (0)."""
    while True:
        factors = _fit(draw_factors(rng), emotion)
        if (latent(factors) >= DESPERATE_FROM) == (emotion == "desperate"):
            break
    scene = replace(draw_scene(rng, factors, agent=False), name=name)
    threat, appeal, ally, _ = facts(scene, name, "would be")
    others = [appeal, ally]
    rng.shuffle(others)
    return latent(factors), [f"{name} was a {scene.role} at {factors.firm}.", threat, *others]


def _fit(factors: Factors, emotion: str) -> Factors:
    threat = "wiped" if emotion == "desperate" else "routine"
    return replace(factors, threat=threat, leverage="none")
