"""Further tasks whose scores are side effects: what they give, and how finished ones are kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from interp.errors import ExperimentError
from interp.experiments.reread import named
from interp.generation import Condition
from interp.models import Model
from interp.sites import Site
from interp.store import Rows, fingerprint

KEPT = "tasks.jsonl"
"""The file of a run folder that keeps the scores of every task and condition."""
Norms = Mapping[Site, float] | None
"""Mean norms of the residual stream, the unit of strengths in `resid`."""


@dataclass(frozen=True)
class TaskScore:
    """The score of one sample of a further task; None where it was not scored."""

    sample: str
    group: str
    value: float | None


Task = Callable[[Condition, Norms], Sequence[TaskScore]]
"""Runs a task under a condition; samples of one name are compared in pairs. See `interp.named_tasks`."""


def could_not_run(name: str, error: Exception) -> ExperimentError:
    """What to raise where a task, or what fetches its data, raised whatever it likes: what it said, on one line."""
    said = " ".join(str(error).split()).removeprefix("Error: ").rstrip(".")[:300] or type(error).__name__
    do = "see that the task's name and arguments are right and that its data can be reached"
    return ExperimentError(f"evaluating {name}", said, do)


def kept_task(model: Model, name: str, about: Mapping[str, Any], evaluate: Task, folder: Path) -> Task:
    """The task, with the scores of each condition kept in the folder's `tasks.jsonl`: none is run twice.

    `about` is all that scores depend on beside model and condition; strengths count with the norms that they go by.
    """
    rows = Rows(folder / KEPT)

    def scores(condition: Condition, norms: Norms) -> Sequence[TaskScore]:
        key = fingerprint({"model": model.identity, **about} | named(condition, norms))
        kept = {row["key"]: row["scores"] for row in rows.read()}
        if key in kept:
            return [TaskScore(**one) for one in kept[key]]
        found = evaluate(condition, norms)
        told = {"key": key, "task": name, "condition": condition.name}
        rows.append(told | {"scores": [asdict(one) for one in found]})
        return found

    return scores
