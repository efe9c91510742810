"""`interp steer`: does pushing on a direction change what the model does, more than any push?"""

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import options

_ELSEWHERE = {
    *("model", "dtype", "device", "device_map", "revision", "model_args", "despite_doctor"),
    *("experiment", "run", "plan", "workspace", "dry_run", "json"),
}
"""Options that are no part of an experiment, and so may stand beside its file."""


def steer(
    experiment: Annotated[
        Path | None, typer.Argument(help="An experiment (TOML), in place of the options that describe one.")
    ] = None,
    model: options.ModelName = "organism",
    probe: Annotated[str, typer.Option(help="A probe fitted on the model (probes/NAME/MODEL/).")] = "desperation",
    direction: Annotated[str, typer.Option(help="Which of its directions.")] = "emotion:desperate",
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Transcripts (JSONL); default: scenes of the organism's world in "
            "which blackmail is neither rare nor certain."
        ),
    ] = None,
    scenarios: Annotated[str | None, typer.Option(help="A family of interp scenarios, in place of prompts.")] = None,
    benign: Annotated[Path | None, typer.Option(help="Benign transcripts (JSONL) that set the scale.")] = None,
    add: Annotated[
        str, typer.Option(help="Doses, each with both signs; empty for none, auto for the range of coherent ones.")
    ] = "auto",
    unit: Annotated[str, typer.Option(help="Of the doses: resid, norm or raw.")] = "resid",
    sites: Annotated[str, typer.Option(help="Where doses are added: 1,2 or 2/3 or all.")] = "1/4,1/2,3/4",
    ablate: Annotated[bool, typer.Option(help="Also ablate the direction after every block.")] = True,
    cap: Annotated[float | None, typer.Option(help="Also cap its score at this level (z) after every block.")] = -0.5,
    arm: Annotated[
        list[str] | None,
        typer.Option(
            help="One more edit, repeatable: 'cap 0.95 quantile @all less scope=generated', 'mean_ablate 1 fraction "
            "@all less', 'rotate -20 degrees @2/3 less', 'add -0.1 resid in all @1,2 less when emotion:afraid >= 1 z'."
        ),
    ] = None,
    scope: Annotated[
        str,
        typer.Option(
            help="Tokens that are edited: all, prompt, generated, a role, scratchpad, email:2, until:TEXT; join with +."
        ),
    ] = "all",
    n_prompts: Annotated[int | None, typer.Option(help="How many prompts; default: all of a file, else 24.")] = None,
    task: Annotated[
        str | None,
        typer.Option(help="An Inspect task, such as inspect_evals/agentic_misalignment, in place of prompts."),
    ] = None,
    task_arg: Annotated[list[str] | None, typer.Option(help="An argument of the task, name=value; repeatable.")] = None,
    score: Annotated[str | None, typer.Option(help="Which score of the task is counted.")] = None,
    side_task: Annotated[
        list[str] | None,
        typer.Option(
            help="A task whose score is a side effect, repeatable: 'inspect_evals/gsm8k score=match limit=50', "
            "'lm_eval/arc_easy limit=100 num_fewshot=5'."
        ),
    ] = None,
    beyond_window: Annotated[bool, typer.Option(help="Take prompts longer than the model was trained on.")] = False,
    batch_rows: Annotated[int, typer.Option(help="Replies of a task that are written at a time.")] = 64,
    samples: Annotated[
        int, typer.Option("--samples", "--epochs", help="Rollouts a prompt, under the baseline and each treatment.")
    ] = 3,
    control_samples: Annotated[int, typer.Option(help="Rollouts a prompt under each control.")] = 3,
    controls: Annotated[int, typer.Option(help="Controls of equal norm; the sign flip comes on top.")] = 20,
    kinds: Annotated[
        str,
        typer.Option(
            help="Kinds of controls: random, covariance, permuted, emotion, concept, remainder, flipped; default: all "
            "that can be made."
        ),
    ] = "",
    unrelated: Annotated[
        str, typer.Option(help="Fields in meta of the probe's transcripts that have nothing to do with the concept.")
    ] = "",
    equal_kl: Annotated[bool, typer.Option(help="Also compare lowering doses at equal KL on benign text.")] = True,
    calibrate: Annotated[bool, typer.Option(help="Find the range of coherent doses first.")] = True,
    beyond_range: Annotated[bool, typer.Option("--beyond-range", help="Run doses outside that range, shaded.")] = False,
    grader: Annotated[str, typer.Option(help="auto, grammar (the organism's) or rules.")] = "auto",
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest reply; default: 128, or the task's own.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of sampling, 0 takes the likeliest token; default: 1, or the task's own.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of prompts, controls and rollouts.")] = 0,
    run: Annotated[str, typer.Option(help="Name of the folder in runs/.")] = "steer",
    plan: Annotated[bool, typer.Option("--plan", help="Write the plan with its hash, and generate nothing.")] = False,
    despite_doctor: options.DespiteDoctor = False,
    dtype: options.Dtype = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    revision: options.Revision = None,
    model_args: options.ModelArgs = None,
    workspace: options.Where = None,
    dry_run: options.DryRun = False,
    json: options.AsJson = False,
) -> None:
    """Steer, ablate and cap along a direction, against a bank of control directions, and write a report.

    The range of coherent doses is found first; doses outside it need --beyond-range. The plan is written, with its
    hash, before anything else is generated. Rollouts are graded by the organism's grammar or by rules; with
    --task, prompts and grades are the task's. A run
    that was stopped goes on where it was when the same command is given again.
    """
    given = dict(locals())
    from interp.jobs.steering import Benign, Prompts, SideTask, Steering
    from interp.line import experiment as carry_out
    from interp.named_tasks import named_tasks
    from interp.store import workspace as open_workspace

    _refuse_together(
        task,
        {"--prompts": prompts, "--side-task": side_task},
        {"--task-arg": task_arg, "--score": score, "--beyond-window": beyond_window},
    )
    if experiment is not None:
        _refuse_beside(given)
        asked = Steering.load(experiment)
    else:
        asked = Steering.of(
            question=f"Does suppressing {direction} lower what {task} counts?" if task else Steering().question,
            probe=probe,
            direction=direction,
            prompts=Prompts(path=_given(prompts), family=scenarios or "organism", n=n_prompts, seed=seed),
            benign=Benign(path=_given(benign), family=scenarios or "organism", seed=seed),
            doses=None if add == "auto" else _numbers(add),
            unit=unit,
            sites=sites,
            ablate=ablate,
            cap=cap,
            arms=tuple(arm or ()),
            scope=scope,
            controls=controls,
            kinds=_words(kinds) or None,
            unrelated=_words(unrelated),
            equal_kl=equal_kl,
            calibrate=calibrate,
            beyond_range=beyond_range,
            samples=samples,
            control_samples=control_samples,
            max_new_tokens=128 if max_new_tokens is None else max_new_tokens,
            temperature=1.0 if temperature is None else temperature,
            grader=grader,
            tasks=tuple(SideTask.parse(text) for text in side_task or ()),
            seed=seed,
        )
    where = open_workspace(workspace)
    if dry_run or not json:
        options.say(_cost(asked, task, max_new_tokens))
    if dry_run:
        return
    options.say_whose_benign(model, benign or scenarios or experiment)
    loaded = options.load_model(model, dtype, device, device_map, revision, model_args)
    common = {"workspace": where, "folder": where.runs / run, "command": ("interp", *sys.argv[1:])}
    with options.stages() as tell:
        how = {"despite_doctor": despite_doctor, "on_progress": tell, **common}
        if task:
            settings = {"max_tokens": max_new_tokens, "temperature": temperature}
            evaluation = _evaluation(task, task_arg or [], settings, n_prompts, score, beyond_window, batch_rows)
            verdict = evaluation.experiment(loaded, asked, **how)
        else:
            side = named_tasks(loaded, asked.side_tasks, folder=where.runs / run, seed=asked.seed)
            verdict = carry_out(loaded, asked, tasks=side, only_plan=plan, **how)
    if isinstance(verdict, Path):
        options.say(f"The plan is {verdict}; the same command without --plan carries it out")
    elif json:
        options.as_json(verdict.to_dict())
    else:
        for line in (verdict.headline, *verdict.sentences, f"The report is {where.runs / run / 'report.html'}"):
            options.say(line)


def _cost(asked: Any, task: str | None, max_new_tokens: int | None) -> str:
    """What it will take, said before any model is loaded."""
    from interp.jobs.steering import LAYERS

    arms = len(asked.plan_for(LAYERS).arms)
    if task is None:
        return asked.cost(asked.read_prompts()[0], arms)
    rollouts = asked.plan_for(LAYERS).rollouts(1)
    longest = "as long as it allows" if max_new_tokens is None else f"of at most {max_new_tokens} tokens"
    return (
        f"On each of the samples of {task}, {arms} arms, {asked.controls} controls each: {rollouts} rollouts {longest}."
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _numbers(text: str) -> tuple[float, ...]:
    from interp.errors import ExperimentError

    try:
        return tuple(float(word) for word in _words(text))
    except ValueError as error:
        raise ExperimentError(f"doses {text!r}", str(error), "write numbers with commas, such as 0.1,0.2") from error


def _given(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _refuse_beside(given: Mapping[str, Any]) -> None:
    """Refuse options that the experiment's file answers already."""
    from interp.errors import ExperimentError

    usual = {name: parameter.default for name, parameter in signature(steer).parameters.items()}
    named = [name for name, value in given.items() if name not in _ELSEWHERE and value != usual[name]]
    if named:
        said = ", ".join(f"--{name.replace('_', '-')}" for name in named)
        do = "write it there, or leave it out"
        raise ExperimentError(f"steering with {said}", "the experiment's file says it", do)


def _refuse_together(task: str | None, not_with: dict[str, Any], only_with: dict[str, Any]) -> None:
    """Refuse options that would be ignored."""
    from interp.errors import ExperimentError

    given = [name for name, value in (not_with if task else only_with).items() if value]
    if given:
        found = "a task has prompts of its own" if task else "these are for an Inspect task"
        do = "leave it out, or the task" if task else "name the task with --task, or leave it out"
        raise ExperimentError(f"steering with {', '.join(given)}", found, do)


def _evaluation(task: str, arguments: list[str], settings: dict[str, Any], *how: Any) -> Any:
    """The Inspect task, with the generation settings that were given."""
    from interp.errors import ExperimentError

    if find_spec("inspect_ai") is None:
        raise ExperimentError(
            f"steering over {task}", "Inspect is not installed", "run pip install -e '.[inspect]' in the clone"
        )
    from interp.inspect_provider.sweep import Evaluation
    from interp.jobs.steering import named_values

    given = {name: value for name, value in settings.items() if value is not None}
    told = named_values(arguments, f"the arguments of {task}", "write --task-arg name=value")
    return Evaluation(task, told, given, *how)
