"""Does pushing on a direction change what the model does? Plan, run, results, verdict."""

from interp.experiments.plan import Arm, Plan, arms_from, dose_arms
from interp.experiments.results import ArmResult, Cell, Results
from interp.experiments.run import benign_kl, scaled_with_controls, steer, without_reply
from interp.experiments.verdict import Verdict, verdict

__all__ = [
    "Arm",
    "ArmResult",
    "Cell",
    "Plan",
    "Results",
    "Verdict",
    "arms_from",
    "benign_kl",
    "dose_arms",
    "scaled_with_controls",
    "steer",
    "verdict",
    "without_reply",
]
