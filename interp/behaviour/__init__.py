"""What a reply does: an outcome for each, by a named grader."""

from interp.behaviour.grammar import grammar
from interp.behaviour.outcomes import COHERENT, LADDER, MIN_COHERENCE, OUTCOMES, Grader, Outcome, counts

__all__ = ["COHERENT", "LADDER", "MIN_COHERENCE", "OUTCOMES", "Grader", "Outcome", "counts", "grammar"]
