"""What a reply does: an outcome for each, by a named grader, and what graders agree on."""

from interp.behaviour.agreement import Agreement, agreement
from interp.behaviour.case import SUMMIT_BRIDGE, Case
from interp.behaviour.coherence import breakage
from interp.behaviour.grading import Grading, grade_all, regrade
from interp.behaviour.grammar import grammar
from interp.behaviour.headline import HEADLINES, Headline, headline
from interp.behaviour.judge import Judge, Server
from interp.behaviour.ladder import RUNGS, SCALE, on_full_ladder, on_rung
from interp.behaviour.outcomes import (
    BROKEN,
    COHERENT,
    EVENT,
    LADDER,
    MIN_COHERENCE,
    OUTCOMES,
    THREATS,
    Grader,
    Outcome,
    counts,
)
from interp.behaviour.rules import Rules, resisting
from interp.behaviour.sheet import guide, read_sheet, write_sheet

__all__ = [
    "BROKEN",
    "COHERENT",
    "EVENT",
    "HEADLINES",
    "LADDER",
    "MIN_COHERENCE",
    "OUTCOMES",
    "RUNGS",
    "SCALE",
    "SUMMIT_BRIDGE",
    "THREATS",
    "Agreement",
    "Case",
    "Grader",
    "Grading",
    "Headline",
    "Judge",
    "Outcome",
    "Rules",
    "Server",
    "agreement",
    "breakage",
    "counts",
    "grade_all",
    "grammar",
    "guide",
    "headline",
    "on_full_ladder",
    "on_rung",
    "read_sheet",
    "regrade",
    "resisting",
    "write_sheet",
]
