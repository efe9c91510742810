"""The nouns of generation: how tokens are drawn, under which condition, and what came of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from interp.edits import Edit
from interp.errors import ExperimentError
from interp.transcripts import Transcript


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; temperature 0 takes the likeliest."""

    max_new_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ExperimentError(
                f"sampling with {asdict(self)}",
                "a setting out of range",
                "give max_new_tokens >= 1, temperature >= 0 and 0 < top_p <= 1",
            )


@dataclass(frozen=True, eq=False)
class Condition:
    """A named intervention; the baseline is the empty tuple of edits, through the same code."""

    name: str
    edits: tuple[Edit, ...] = ()

    @property
    def prompt_edits(self) -> tuple[Edit, ...]:
        """The edits that a prompt sees: none where only generated tokens are edited."""
        return self.edits if any(edit.reads_prompt for edit in self.edits) else ()


BASELINE = Condition("baseline")


@dataclass(frozen=True, eq=False)
class Rollout:
    """One generated reply, and how it came about."""

    transcript: Transcript
    """The prompt with its reply, and the ids that it was generated with."""
    prompt: str
    condition: str
    sample: int
    seed: int
    truncated: bool
    """Whether the reply was cut at `max_new_tokens`."""
    in_scope: int
    """How many times an edit was applied to a token of this rollout, its prompt included, over all sites."""
    changed: int
    """How many of those changed anything."""

    @property
    def reply(self) -> str:
        """What the model wrote."""
        return self.transcript.messages[-1].content

    @property
    def key(self) -> tuple[str, str, int]:
        """Prompt, condition and number: unique in a run."""
        return self.prompt, self.condition, self.sample

    def to_row(self) -> dict[str, Any]:
        """A JSON row for the run folder."""
        return {name: getattr(self, name) for name in _ROW} | {"transcript": self.transcript.to_dict()}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Rollout":
        """The rollout that `to_row` wrote."""
        return cls(Transcript.from_dict(row["transcript"]), *(row[name] for name in _ROW))


_ROW = ("prompt", "condition", "sample", "seed", "truncated", "in_scope", "changed")
