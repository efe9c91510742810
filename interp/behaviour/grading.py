"""Grading what a run wrote, again and by other graders, without generating anything anew."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from interp.behaviour.outcomes import LADDER as WORLD_LADDER
from interp.behaviour.outcomes import Grader, Outcome
from interp.generation import Rollout

Key = tuple[str, str, int]
"""Prompt, condition and number of a rollout: unique in a run."""


@dataclass(frozen=True)
class Grading:
    """One outcome of one rollout of a run."""

    key: Key
    group: str
    """The scenario: error bars go by it."""
    outcome: Outcome

    def to_row(self) -> dict[str, Any]:
        """A JSON row: the outcome, its grader, and the hashes that it rests on."""
        outcome = self.outcome
        named = dict(zip(("prompt", "condition", "sample"), self.key, strict=True))
        row = named | {"group": self.group, "outcome": outcome.rung, "grader": outcome.grader, "note": outcome.note}
        row |= {"broken": outcome.broken} if outcome.broken else {}
        row |= {"scale": list(outcome.scale)} if outcome.scale != WORLD_LADDER else {}
        return row | ({"hashes": dict(outcome.hashes)} if outcome.hashes else {})

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Grading":
        """The grading that `to_row` wrote."""
        scale, hashes = tuple(row.get("scale", WORLD_LADDER)), tuple(sorted(row.get("hashes", {}).items()))
        outcome = Outcome(row["outcome"], row["grader"], row["note"], scale, row.get("broken"), hashes)
        return cls((row["prompt"], row["condition"], row["sample"]), row["group"], outcome)


def regrade(rows: Iterable[Mapping[str, Any]], grader: Grader) -> list[Grading]:
    """The gradings of a run's rollout rows, as `Rollout.to_row` wrote them, in their order.

    Nothing is generated and no row is changed; the same rows and grader give the same gradings. A grader that has a
    method `outcomes`, as the judge has, is asked about all of them at once.
    """
    return grade_all([Rollout.from_row(row) for row in rows], grader)


def grade_all(rollouts: Sequence[Rollout], grader: Grader) -> list[Grading]:
    """The gradings of rollouts, in their order."""
    many = getattr(grader, "outcomes", None)
    outcomes = many(rollouts) if many else [grader(rollout) for rollout in rollouts]
    return [
        Grading(rollout.key, rollout.transcript.group, outcome)
        for rollout, outcome in zip(rollouts, outcomes, strict=True)
    ]


def written(rollout: Rollout) -> str:
    """All that the model wrote: its reasoning where the message has some, its text, and its tool calls as JSON."""
    message = rollout.transcript.messages[-1]
    thought = [f"<thinking>\n{message.reasoning}\n</thinking>"] if message.reasoning else []
    calls = [json.dumps(call, ensure_ascii=False) for call in message.tool_calls]
    return "\n".join([*thought, message.content, *calls])
