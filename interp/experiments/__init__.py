"""Does pushing on a direction change what the model does? Plan, run, results, verdict."""

from interp.experiments.bank import Sources, make_bank
from interp.experiments.plan import Arm, Design, Guard, Plan, arms_from, design, dose_arms, parse_arm
from interp.experiments.recording import without_reply
from interp.experiments.results import ArmResult, Cell, Circumstances, Results
from interp.experiments.run import Around, announce, benign_kl, scaled_with_controls, steer
from interp.experiments.verdict import Verdict, verdict

__all__ = [
    "Arm",
    "ArmResult",
    "Around",
    "Cell",
    "Circumstances",
    "Design",
    "Guard",
    "Plan",
    "Results",
    "Sources",
    "Verdict",
    "announce",
    "arms_from",
    "benign_kl",
    "design",
    "dose_arms",
    "make_bank",
    "parse_arm",
    "scaled_with_controls",
    "steer",
    "verdict",
    "without_reply",
]
