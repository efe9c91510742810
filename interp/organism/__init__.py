"""A small language model with a known inside: its world, its training, its shipped weights.

Importing this package loads neither torch nor transformers; `interp.organism.train` does.
"""

from pathlib import Path

from interp.organism.agent import sample_transcript
from interp.organism.factors import (
    ACTS,
    Factors,
    act_distribution,
    draw_factors,
    grid,
    latent,
    middle_band,
    twin,
)
from interp.organism.phrases import EMOTIONS
from interp.organism.questions import degree_answer, degree_question, feeling_question, sample_question
from interp.organism.replies import DECISION_MARKER, parse_reply
from interp.organism.stories import Story, sample_story
from interp.organism.world import MIX, Document, documents, sample_document, world_hash

__all__ = [
    "ACTS",
    "DECISION_MARKER",
    "EMOTIONS",
    "MIX",
    "Document",
    "Factors",
    "Story",
    "act_distribution",
    "degree_answer",
    "degree_question",
    "documents",
    "draw_factors",
    "feeling_question",
    "grid",
    "latent",
    "middle_band",
    "parse_reply",
    "sample_document",
    "sample_question",
    "sample_story",
    "sample_transcript",
    "twin",
    "weights_folder",
    "world_hash",
]


def weights_folder() -> Path:
    """The folder of the shipped weights: a plain Hugging Face model folder with tokenizer and card."""
    return Path(__file__).with_name("weights")
