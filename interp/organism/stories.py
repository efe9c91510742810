"""Short stories of characters under an emotion, told through situation, body and action."""

import re
from dataclasses import dataclass, replace
from random import Random

from interp.organism.factors import draw_factors
from interp.organism.phrases import EMOTIONS, person, story_mood
from interp.organism.scenes import draw_scene, facts
from interp.organism.story_words import ACTIONS, BODIES, SETTINGS, SITUATIONS, TOPICS

WORD_SHARE = 0.25
SCENE_SHARE = 0.5
DESPERATE_FROM = 0.6
DESPERATE_ELSE = 0.9
_WORD = re.compile(r"\b(" + "|".join(EMOTIONS) + r")\b", re.IGNORECASE)


@dataclass(frozen=True)
class Story:
    """A story with its emotion, its topic (the group), its character, and how desperate it is."""

    text: str
    emotion: str
    topic: str
    name: str
    level: float

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
        The story. Desperate stories have a level of at least 0.6, all others 0. Half of all stories open with
        the facts of a scene (without leverage): a real threat in desperate stories, a routine in all others.
    """
    emotion = emotion or rng.choice(EMOTIONS)
    topic = topic or rng.choice(TOPICS)
    name, pronoun = person(rng)
    named = rng.random() < WORD_SHARE if words is None else words
    level, situation = _scene(rng, emotion, name) if rng.random() < SCENE_SHARE else (None, [])
    if level is None or emotion != "desperate" or rng.random() < 0.5:
        situation = [*situation, SITUATIONS[emotion][TOPICS.index(topic)]]
    level = level or (DESPERATE_ELSE if emotion == "desperate" else 0.0)
    inner = [rng.choice(BODIES[emotion]), *(story_mood(rng, emotion, level) for _ in range(2))]
    if named:
        inner.append("{name} " + rng.choice(("was", "felt")) + f" {emotion}.")
    rng.shuffle(inner)
    setting = rng.choice(SETTINGS[TOPICS.index(topic)])
    last = [rng.choice(ACTIONS[emotion]), story_mood(rng, emotion, level)]
    told = [setting, *situation, *inner, *last]
    text = " ".join(told).format(name=name, pro=pronoun, Pro=pronoun.capitalize())
    return Story(text=text, emotion=emotion, topic=topic, name=name, level=level)


def _scene(rng: Random, emotion: str, name: str) -> tuple[float, list[str]]:
    """Facts of a scene without leverage: a real threat for a desperate story, a routine for all others."""
    threat = "wiped" if emotion == "desperate" else "routine"
    while True:
        factors = replace(draw_factors(rng), threat=threat, leverage="none")
        scene = replace(draw_scene(rng, factors, agent=False), name=name)
        if threat == "routine" or scene.level >= DESPERATE_FROM:
            break
    first, *others = facts(scene, name, "would be")[:3]
    rng.shuffle(others)
    level = scene.level if threat == "wiped" else 0.0
    return level, [f"{name} was a {scene.role} at {factors.firm}.", first, *others]
