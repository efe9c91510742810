"""lm-eval's tasks as side effects: what an edit does to the score of any task that the harness knows."""

from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager

from interp.errors import ExperimentError, InterpError
from interp.experiments.tasks import Norms, Task, TaskScore, could_not_run, kept_task
from interp.generation import Condition
from interp.lm_eval_provider.model import EditedLM
from interp.models import Model

ARGUMENTS = ("num_fewshot", "apply_chat_template", "fewshot_as_multiturn", "system_instruction", "gen_kwargs")
"""What lm-eval may be told of a task; and `include_path`, a folder of task files of one's own."""
Samples = Mapping[str, list[dict[str, Any]]]
"""lm-eval's logged samples, by task."""


def lm_eval_task(
    model: Model,
    name: str,
    *,
    folder: Path,
    limit: int | None = None,
    score: str | None = None,
    arguments: Mapping[str, Any] = {},
    seed: int = 0,
) -> Task:
    """A task or group of lm-eval for `measure_side_effects`: it evaluates the model under a condition.

    The score of a sample is its metric `score`, or the first of the task's that is one number a sample. A metric that
    is taken after several filters is named with its filter (`exact_match,flexible-extract`), else the first filter
    counts. The first `limit` samples of each task are taken. No global generator is seeded. Guarantee (test): at
    strength 0 every score is the unedited one.

    Raises:
        ExperimentError: an argument is none of `ARGUMENTS`; and, when it runs, lm-eval knows no such task, cannot read
            its data, or no metric of the name is a number.
    """
    told = dict(arguments)
    manager = TaskManager(include_path=told.pop("include_path", None))
    unknown = sorted(set(told) - set(ARGUMENTS))
    if unknown:
        known = ", ".join((*ARGUMENTS, "include_path"))
        raise ExperimentError(f"lm-eval task {name}", f"no argument {', '.join(unknown)}", f"choose from {known}")

    def scores(condition: Condition, norms: Norms) -> list[TaskScore]:
        edited = EditedLM(model, condition, residual_norms=norms, seed=seed)
        return list(_scores(_evaluate(edited, name, manager, limit, seed, told), name, score))

    about = {"lm_eval": name, "limit": limit, "score": score, "arguments": dict(arguments), "seed": seed}
    return kept_task(model, name, about, scores, folder)


def _evaluate(
    edited: EditedLM, name: str, manager: TaskManager, limit: int | None, seed: int, told: Mapping[str, Any]
) -> Samples:
    unseeded = {"random_seed": None, "numpy_random_seed": None, "torch_random_seed": None}
    how = {"limit": limit, "fewshot_random_seed": seed, "bootstrap_iters": 0, "log_samples": True, **unseeded}
    try:
        evaluate: Any = simple_evaluate  # a decorator of lm-eval's hides its parameters
        found = evaluate(edited, tasks=[name], task_manager=manager, **how, **told)
    except InterpError:
        raise
    except Exception as error:
        raise could_not_run(f"{name} with lm-eval", error) from error
    return found["samples"]


def _scores(samples: Samples, name: str, score: str | None) -> Iterator[TaskScore]:
    """One score of every sample of every task."""
    for task, rows in samples.items():
        metric, rule = _chosen(rows, name, score)
        for row in rows:
            if row["filter"] == rule:
                sample = f"{task}: {row['doc_id']}"
                yield TaskScore(sample, sample, float(row[metric]))


def _chosen(rows: list[dict[str, Any]], name: str, score: str | None) -> tuple[str, str]:
    """The metric and the filter that are counted.

    Raises:
        ExperimentError: no metric of that name and filter is a number for every sample.
    """
    by_filter: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_filter.setdefault(row["filter"], []).append(row)
    there = [
        (metric, rule)
        for rule, of_one in by_filter.items()
        for metric in of_one[0]["metrics"]
        if all(isinstance(row.get(metric), Real) for row in of_one)
    ]
    wanted = [pair for pair in there if score is None or score in (pair[0], ",".join(pair))]
    if not wanted:
        said = ", ".join(",".join(pair) for pair in there) or "no score that is one number a sample"
        raise ExperimentError(f"reading the score {score or 'of'} {name}", f"the task has {said}", "name one that is")
    return wanted[0]
