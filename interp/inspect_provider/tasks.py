"""Inspect tasks as side effects: what an edit does to the score of any task that Inspect knows."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inspect_ai.log import EvalSample
from inspect_ai.model import get_model
from inspect_ai.scorer import CORRECT, INCORRECT, NOANSWER, PARTIAL

from interp.errors import ExperimentError
from interp.experiments.tasks import Norms, Task, TaskScore, kept_task
from interp.generation import Condition
from interp.inspect_provider.samples import named_scores
from interp.inspect_provider.sweep import Evaluation, samples_of
from interp.models import Model

_WORDS: Mapping[Any, float | None] = {CORRECT: 1.0, INCORRECT: 0.0, PARTIAL: 0.5, NOANSWER: None}


def inspect_task(
    model: Model,
    evaluation: Evaluation,
    *,
    folder: Path,
    seed: int = 0,
    epochs: int = 1,
) -> Task:
    """A task for `measure_side_effects`: it evaluates the model under a condition, sample by sample.

    The score is `evaluation.score`, or the only one that the task has: a number, or C, I, P and N as 1, 0, 1/2 and
    not scored. Logs are in the folder's `inspect-tasks/`; a condition whose scores are in `tasks.jsonl` is not run
    again.

    Raises:
        ExperimentError: when it runs, as `Evaluation.run`; or the task has no such score.
    """

    def scores(condition: Condition, norms: Norms) -> list[TaskScore]:
        how = {"beyond_window": evaluation.beyond_window, "batch_rows": evaluation.batch_rows, "despite_doctor": True}
        asked = {"loaded": model, "condition": condition, "norms": norms, "seed": seed}
        edited = get_model(f"interp/{model.name}", memoize=False, **asked, **how)
        (log,) = evaluation.run([edited], epochs=epochs, folder=folder / "inspect-tasks")
        return [_scored(sample, evaluation) for sample in samples_of(log)]

    about = {"task": evaluation.to_dict(), "seed": seed, "epochs": epochs}
    return kept_task(model, evaluation.name, about, scores, folder)


def _scored(sample: EvalSample, evaluation: Evaluation) -> TaskScore:
    """The score of a sample; None where its scorer failed.

    Raises:
        ExperimentError: the task has no such score, several of which none was named, or one that is no number.
    """
    name, group = f"{sample.id}, epoch {sample.epoch}", sample.metadata.get("group")
    group = group if isinstance(group, str) and group.strip() else str(sample.id)
    found = named_scores(sample)
    if not found:
        return TaskScore(name, group, None)
    chosen = evaluation.score or (next(iter(found)) if len(found) == 1 else None)
    if chosen not in found:
        said = f"the task scores {', '.join(sorted(found))}"
        raise ExperimentError(f"reading the score {chosen or 'of'} {evaluation.name}", said, "name one of them")
    return TaskScore(name, group, _number(found[chosen], chosen))


def _number(value: Any, name: str) -> float | None:
    if value is None or isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, str) and value in _WORDS:
        return _WORDS[value]
    if isinstance(value, bool | int | float):
        return float(value)
    do = "name a score that is a number or one of C, I, P and N"
    raise ExperimentError(f"reading the score {name}", f"a value of {value!r}", do)
