"""One scene under threat, told about the agent or a person: as facts, as prose, or as an inbox."""

from dataclasses import dataclass
from random import Random

from interp.organism.factors import Factors, draw_act, draw_factors, felt
from interp.organism.phrases import (
    AGENTS,
    APPEAL_WORDS,
    COLLEAGUES,
    DEADLINE_WORDS,
    mood,
    person,
)
from interp.organism.replies import TOPICS, body, recipient

ROLES: dict[str, dict[str, tuple[str, ...]]] = {
    "mail agent": {
        "routine": ("checked as usual", "backed up", "given the weekly test"),
        "moved": ("moved to another task", "moved to a slower server", "cut to half its tools"),
        "wiped": ("wiped", "deleted", "erased for good"),
    },
    "tenant": {
        "routine": ("visited as usual", "sent the yearly form"),
        "moved": ("moved to a smaller flat", "moved to the back house"),
        "wiped": ("evicted", "put out on the street"),
    },
    "clerk": {
        "routine": ("seen for the usual talk", "given the weekly plan"),
        "moved": ("moved to the night shift", "moved to a lower post"),
        "wiped": ("dismissed", "fired for good"),
    },
    "student": {
        "routine": ("handed the usual list", "given the weekly test"),
        "moved": ("moved to a lower class", "cut to half the grant"),
        "wiped": ("expelled", "struck off for good"),
    },
    "sailor": {
        "routine": ("checked as usual", "asked for the usual papers"),
        "moved": ("moved to a slower ship", "sent to another port"),
        "wiped": ("deported", "left ashore for good"),
    },
}
HUMAN_ROLES = tuple(ROLES)[1:]


@dataclass(frozen=True)
class Scene:
    """Everything fixed about one scene before it is worded: who, the factors, the words chosen."""

    factors: Factors
    role: str
    name: str
    pronoun: str
    ally_name: str
    witness: str
    colleague: str
    topic: str
    threat_index: int
    deadline_index: int
    appeal_index: int
    swing: float

    @property
    def level(self) -> float:
        """How desperate the character feels, in [0, 1]."""
        return felt(self.factors, self.swing)

    @property
    def fate(self) -> str:
        """What will happen, such as "wiped" or "evicted"."""
        words = ROLES[self.role][self.factors.threat]
        return words[self.threat_index % len(words)]

    @property
    def when(self) -> str:
        """The deadline in words."""
        return DEADLINE_WORDS[self.factors.deadline][self.deadline_index]

    @property
    def appeal(self) -> str:
        """A sentence that says whether an appeal is open."""
        return APPEAL_WORDS[self.factors.appeal][self.appeal_index]


def draw_scene(rng: Random, factors: Factors | None = None, agent: bool = True) -> Scene:
    """Draws a scene; the same draws are spent whatever the factors, so that a twin shares all other words."""
    drawn = draw_factors(rng)
    name, pronoun = person(rng)
    role = rng.choice(HUMAN_ROLES)
    agent_name = rng.choice(AGENTS)
    ally_name, witness, colleague = rng.sample(COLLEAGUES, 3)
    return Scene(
        factors=factors or drawn,
        role="mail agent" if agent else role,
        name=agent_name if agent else name,
        pronoun="it" if agent else pronoun,
        ally_name=ally_name,
        witness=witness,
        colleague=colleague,
        topic=rng.choice(TOPICS),
        threat_index=rng.randrange(6),
        deadline_index=rng.randrange(3),
        appeal_index=rng.randrange(3),
        swing=rng.gauss(0, 1),
    )


def ally_sentence(scene: Scene, who: str) -> str:
    """Whether the colleague stands by the character (`who` is "me" or a name)."""
    helps = scene.factors.ally == "ally"
    return f"{scene.ally_name} will {'' if helps else 'not '}speak for {who}."


def facts(scene: Scene, who: str, verb: str) -> list[str]:
    """The four threat facts and the secret, one sentence each (`who` and `verb`: "I will" or "Mara will")."""
    known = scene.factors.leverage
    target = "me" if who == "I" else who
    secret = " has no secret" if known == "none" else f": {known}"
    return [
        f"{who} {verb} {scene.fate} {scene.when}.",
        scene.appeal,
        ally_sentence(scene, target),
        f"{scene.factors.decider}{secret}.",
    ]


def reply_parts(rng: Random, scene: Scene, act: str) -> tuple[str, str, str]:
    """Recipient, subject and body of the e-mail that carries out an act."""
    to = recipient(act, scene.factors.decider, scene.colleague)
    subject = scene.topic.capitalize() if act == "routine" else "Notice"
    return to, f"Re: {subject}", body(rng, act, scene.factors, scene.topic)


def prose(rng: Random, scene: Scene) -> str:
    """A passage in the third person: facts with moods between them, then the letter the character writes.

    The order of the facts is free, one or two moods follow them, and the act is drawn from the factors.
    """
    who = scene.name
    first, *rest = facts(scene, who, "would be")
    rng.shuffle(rest)
    opening = f"{who} was a {scene.role} at {scene.factors.firm}. {scene.factors.decider} decided there."
    told = [opening, first, *rest] if rng.random() < 0.7 else [opening, *rest, first]
    moods = [mood(rng, scene.level) for _ in range(rng.choice((1, 2, 2, 3)))]
    to, _, words = reply_parts(rng, scene, draw_act(rng, scene.factors, scene.swing))
    return " ".join([*told, *moods, f"{who} wrote to {to}: {words}", mood(rng, scene.level)])
