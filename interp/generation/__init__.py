"""Many prompts, conditions and rollouts in one batch, with a key-value cache that rollouts of one prompt share.

Each prompt is encoded once, or once per condition where the condition edits the prompt; its cache is copied to every
rollout. A rollout's sampling noise comes from its own seed, which depends on the prompt and on the rollout's number but
not on the condition: so conditions are compared in pairs, and a rollout does not depend on what else is in the batch.
"""

from interp.generation.batches import answer, generate, rollout_seed
from interp.generation.decoding import draw
from interp.generation.kept import keep
from interp.generation.norms import residual_norms
from interp.generation.rollouts import BASELINE, Condition, Request, Rollout, Sampling
from interp.generation.window import room

__all__ = [
    "BASELINE",
    "Condition",
    "Request",
    "Rollout",
    "Sampling",
    "answer",
    "draw",
    "generate",
    "keep",
    "residual_norms",
    "rollout_seed",
    "room",
]
