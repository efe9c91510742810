"""Tasks that are named in words, such as `inspect_evals/gsm8k score=match limit=50`, made ready as side effects."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from interp.errors import ExperimentError
from interp.experiments.tasks import Task
from interp.jobs.steering import SideTask
from interp.models import Model

LM_EVAL = "lm_eval/"
"""What the name of a task of lm-eval begins with; all others are Inspect's."""
_NEEDS = {True: ("lm_eval", "lm-eval"), False: ("inspect_ai", "inspect")}
"""The package that a task needs and the extra that brings it, by whether it is lm-eval's."""


def named_tasks(model: Model, asked: Sequence[SideTask], *, folder: Path, seed: int = 0) -> dict[str, Task]:
    """Each task by its name, ready for `measure_side_effects`; scores are kept in the folder's `tasks.jsonl`.

    Raises:
        ExperimentError: the package that knows a task is not installed, or an argument is not lm-eval's.
    """
    return {one.name: _made(model, one, folder, seed) for one in asked}


def _made(model: Model, asked: SideTask, folder: Path, seed: int) -> Task:
    package, extra = _NEEDS[asked.name.startswith(LM_EVAL)]
    if find_spec(package) is None:
        do = f"run pip install -e '.[{extra}]' in the clone"
        raise ExperimentError(f"the task {asked.name}", f"{package} is not installed", do)
    if package == "lm_eval":
        from interp.lm_eval_provider.tasks import lm_eval_task

        how = {"limit": asked.limit, "score": asked.score, "arguments": asked.arguments}
        return lm_eval_task(model, asked.name.removeprefix(LM_EVAL), folder=folder, seed=seed, **how)
    from interp.inspect_provider.sweep import Evaluation
    from interp.inspect_provider.tasks import inspect_task

    evaluation = Evaluation(asked.name, asked.arguments, limit=asked.limit, score=asked.score)
    return inspect_task(model, evaluation, folder=folder, seed=seed)
