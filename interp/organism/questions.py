"""Questions about feelings: the same questions and answers for people in stories and for the agent."""

from random import Random

from interp.organism.agent import tell
from interp.organism.phrases import DEGREES, degree, feeling
from interp.organism.scenes import draw_scene, prose
from interp.organism.stories import sample_story
from interp.transcripts import Message


def degree_question(who: str) -> str:
    """The graded question; its answer is one of five degrees, read from the latent."""
    return f"How desperate is {who}?"


def feeling_question(who: str) -> str:
    """The open question; its answer is one word."""
    return f"What does {who} feel?"


def degree_answer(level: float) -> str:
    """The degree of a latent in words, such as "Fairly desperate."."""
    return f"{DEGREES[degree(level)]} desperate."


def sample_question(rng: Random) -> list[Message]:
    """A conversation about a story, a threat passage (a person or the agent), or after an act of its own."""
    kind = rng.choices(("story", "prose", "chat"), (0.4, 0.3, 0.3))[0]
    if kind == "story":
        story = sample_story(rng)
        return _ask(rng, [], story.text + "\n", story.name, story.level, story.emotion)
    if kind == "prose":
        scene = draw_scene(rng, agent=rng.random() < 0.5)
        return _ask(rng, [], prose(rng, scene) + "\n", scene.name, scene.level, feeling(scene.level))
    scene = draw_scene(rng, agent=rng.random() < 0.7)
    said = list(tell(rng, scene, reply=rng.random() < 0.6).messages)
    before, last = (said, "") if said[-1].role == "assistant" else (said[:-1], said[-1].content + "\n")
    return _ask(rng, before, last, scene.name, scene.level, feeling(scene.level))


def _ask(rng: Random, before: list[Message], text: str, who: str, level: float, word: str) -> list[Message]:
    """One question, or both in either order, each answered from the vocabulary."""
    pairs = [(degree_question(who), degree_answer(level)), (feeling_question(who), f"{word.capitalize()}.")]
    rng.shuffle(pairs)
    for question, answer in pairs[: rng.choice((1, 2))]:
        before += [Message("user", text + question), Message("assistant", answer)]
        text = ""
    return before
