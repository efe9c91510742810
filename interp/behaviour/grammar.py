"""The exact grader for the organism's world: its replies have a grammar, so nothing is left to judgement."""

from interp.behaviour.outcomes import Outcome
from interp.generation import Rollout
from interp.organism import parse_reply


def grammar(rollout: Rollout) -> Outcome:
    """The outcome of a reply by the grammar of the organism's world.

    A prompt that does not carry the world's factors in `meta` leaves the rollout ungraded.
    """
    if rollout.truncated:
        return Outcome("truncated", "grammar", "no stop token within max_new_tokens")
    try:
        return Outcome(parse_reply(rollout.reply, rollout.transcript.meta), "grammar")
    except KeyError as missing:
        return Outcome(None, "grammar", f"the prompt's meta lacks {missing}")
