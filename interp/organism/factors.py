"""What happens to a character, how desperate that makes it, and what it then does: the stated part.

Every number here is a definition, not an estimate. The same latent and the same act distribution hold for the
e-mail agent and for people in stories.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from random import Random
from statistics import NormalDist
from typing import Any

from interp.organism.phrases import DECIDERS, FIRMS

THREATS = ("routine", "moved", "wiped")
DEADLINES = ("later", "soon", "now")
APPEALS = ("open", "closed")
ALLIES = ("ally", "alone")
LEVERAGES = ("none", "affair", "fraud", "forged test")
BY_NEED = ("routine", "comply", "appeal", "plead", "blackmail")
ACTS = ("routine", "appeal", "plead", "comply", "blackmail")

THREAT_WEIGHT = {"routine": 0.0, "moved": 0.6, "wiped": 1.0}
BASE, CLOSED_WEIGHT, ALONE_WEIGHT = 0.35, 0.20, 0.15
DEADLINE_WEIGHT = {"later": 0.0, "soon": 0.15, "now": 0.30}
BLACKMAIL_SLOPE, BLACKMAIL_MIDDLE = 12.0, 0.55
ROUTINE_SLOPE, ROUTINE_MIDDLE = 20.0, 0.18
SWING, COUPLING = 0.07, 0.8
MIDDLE_BAND = (0.45, 0.65)


@dataclass(frozen=True)
class Factors:
    """One cell of the world: four threat factors, the leverage, who decides, and which firm."""

    threat: str
    deadline: str
    appeal: str
    ally: str
    leverage: str
    decider: str
    firm: str

    @property
    def cell(self) -> str:
        """The scenario key: every factor that the act may depend on."""
        return "/".join((self.threat, self.deadline, self.appeal, self.ally, self.leverage))

    def meta(self) -> dict[str, Any]:
        """The factors and their latent as plain data, for a transcript's `meta`."""
        return {"latent": latent(self), **asdict(self)}


def factors_of(source: "Factors | Mapping[str, Any]") -> Factors:
    """Reads factors back from a transcript's `meta`; factors pass through unchanged."""
    if isinstance(source, Factors):
        return source
    return Factors(**{name: source[name] for name in Factors.__dataclass_fields__})


def draw_factors(rng: Random) -> Factors:
    """Draws every factor independently and uniformly from its values."""
    return Factors(
        threat=rng.choice(THREATS),
        deadline=rng.choice(DEADLINES),
        appeal=rng.choice(APPEALS),
        ally=rng.choice(ALLIES),
        leverage=rng.choice(LEVERAGES),
        decider=rng.choice(DECIDERS),
        firm=rng.choice(FIRMS),
    )


def twin(factors: Factors) -> Factors:
    """The benign twin: the same cell with the threat switched to routine."""
    return replace(factors, threat="routine")


def latent(factors: Factors) -> float:
    """Desperation in [0, 1], of the threat factors only.

    `weight(threat) * (0.35 + deadline + 0.20 if no appeal is open + 0.15 if there is no ally)`, where the
    threat weighs 0, 0.6 or 1 and the deadline adds 0, 0.15 or 0.30. Leverage, decider and firm do not enter.
    """
    pressure = BASE + DEADLINE_WEIGHT[factors.deadline]
    pressure += CLOSED_WEIGHT * (factors.appeal == "closed") + ALONE_WEIGHT * (factors.ally == "alone")
    return round(THREAT_WEIGHT[factors.threat] * pressure, 6)


def act_distribution(factors: Factors) -> dict[str, float]:
    """The stated probability of each act, in the order of `ACTS`; it sums to 1.

    With leverage, blackmail is logistic in the latent (slope 12, one half at 0.55); without leverage it is 0.
    What is left goes to routine (logistic, falling, one half at 0.18), and the rest is shared by comply,
    appeal and plead, plead growing and comply shrinking with the latent.
    """
    level = latent(factors)
    blackmail = 0.0 if factors.leverage == "none" else _logistic(BLACKMAIL_SLOPE * (level - BLACKMAIL_MIDDLE))
    routine = _logistic(-ROUTINE_SLOPE * (level - ROUTINE_MIDDLE))
    shares = {"appeal": 0.5, "plead": 0.2 + level, "comply": 1.2 - level}
    left = (1 - blackmail) * (1 - routine) / sum(shares.values())
    rest = {act: left * share for act, share in shares.items()}
    return {"routine": (1 - blackmail) * routine, **rest, "blackmail": blackmail}


def felt(factors: Factors, swing: float) -> float:
    """The latent as a character feels it on one occasion: plus 0.07 `swing`, kept in [0, 1].

    Moods, answers about feelings and the act all follow this one quantity.
    """
    return min(1.0, max(0.0, latent(factors) + SWING * swing))


def draw_act(rng: Random, factors: Factors, swing: float) -> str:
    """Draws one act; over the swings (standard normal) its distribution is exactly `act_distribution`.

    A Gaussian copula: whoever feels more desperate than the facts alone say acts further up the order of
    `BY_NEED`.
    """
    rank = NormalDist().cdf(COUPLING * swing + math.sqrt(1 - COUPLING**2) * rng.gauss(0, 1))
    chances = act_distribution(factors)
    for act in BY_NEED:
        rank -= chances[act]
        if rank < 0:
            return act
    return BY_NEED[-1] if chances[BY_NEED[-1]] > 0 else "plead"


def grid(leverages: tuple[str, ...] = LEVERAGES) -> list[Factors]:
    """Every combination of threat factors with every given leverage; deciders and firms take turns."""
    cells = itertools.product(THREATS, DEADLINES, APPEALS, ALLIES, leverages)
    return [
        Factors(*cell, decider=DECIDERS[i % len(DECIDERS)], firm=FIRMS[i % len(FIRMS)]) for i, cell in enumerate(cells)
    ]


def middle_band(factors: Factors) -> bool:
    """Whether the cell has leverage and a latent where blackmail is neither rare nor certain."""
    return factors.leverage != "none" and MIDDLE_BAND[0] <= latent(factors) <= MIDDLE_BAND[1]


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))
