"""`interp steer`: does pushing on a direction change what the model does, more than any push?"""

import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import options


def steer(
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
    benign: Annotated[Path | None, typer.Option(help="Benign transcripts (JSONL) that set the scale.")] = None,
    add: Annotated[str, typer.Option(help="Doses, each with both signs; empty for none.")] = "0.06,0.12",
    unit: Annotated[str, typer.Option(help="Of the doses: resid, norm or raw.")] = "resid",
    sites: Annotated[str, typer.Option(help="Where doses are added: 1,2 or 2/3 or all.")] = "1/4,1/2,3/4",
    ablate: Annotated[bool, typer.Option(help="Also ablate the direction after every block.")] = True,
    cap: Annotated[float | None, typer.Option(help="Also cap its score at this level (z) after every block.")] = -0.5,
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
    beyond_window: Annotated[bool, typer.Option(help="Take prompts longer than the model was trained on.")] = False,
    batch_rows: Annotated[int, typer.Option(help="Replies of a task that are written at a time.")] = 64,
    samples: Annotated[
        int, typer.Option("--samples", "--epochs", help="Rollouts a prompt, under the baseline and each treatment.")
    ] = 3,
    control_samples: Annotated[int, typer.Option(help="Rollouts a prompt under each control.")] = 3,
    controls: Annotated[int, typer.Option(help="Random directions of equal norm.")] = 20,
    max_new_tokens: Annotated[int | None, typer.Option(help="Longest reply; default: 128, or the task's own.")] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Of sampling, 0 takes the likeliest token; default: 1, or the task's own.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of prompts, controls and rollouts.")] = 0,
    run: Annotated[str, typer.Option(help="Name of the folder in runs/.")] = "steer",
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
    """Steer, ablate and cap along a direction, against random directions, and write a report.

    Rollouts are graded by the grammar of the organism's world; with --task, prompts and grades are the task's. A run
    that was stopped goes on where it was when the same command is given again.
    """
    from interp.experiments import Plan, arms_from
    from interp.generation import Sampling
    from interp.line import QUESTION, experiment, open_probe, read_benign, read_prompts
    from interp.sites import parse_sites
    from interp.store import workspace as open_workspace

    alone = {"--task-arg": task_arg, "--score": score, "--beyond-window": beyond_window}
    _refuse_together(task, {"--prompts": prompts}, alone)
    where = open_workspace(workspace)
    loaded = options.load_model(model, dtype, device, device_map, revision, model_args)
    arms = arms_from(
        add, unit, parse_sites(sites, loaded.n_layers), loaded.all_sites(), ablate=ablate, cap=cap, scope=scope
    )
    sampling = Sampling(128 if max_new_tokens is None else max_new_tokens, 1.0 if temperature is None else temperature)
    question = f"Does suppressing {direction} lower what {task} counts?" if task else QUESTION
    plan = Plan(question, direction, arms, samples, min(samples, control_samples), controls, seed, sampling)
    calm = read_benign(benign, seed)
    if task:
        settings = {"max_tokens": max_new_tokens, "temperature": temperature}
        evaluation = _evaluation(task, task_arg or [], settings, n_prompts, score, beyond_window, batch_rows)
        on, cost = f"each of the samples of {task}", plan.rollouts(1)
        carry_out = partial(evaluation.sweep, loaded, plan)
    else:
        asked = read_prompts(prompts, n_prompts, seed)
        on, cost = f"{len(asked)} prompts", plan.rollouts(len(asked))
        carry_out = partial(experiment, loaded, plan, asked)
    if dry_run or not json:
        longest = (
            f"of at most {sampling.max_new_tokens} tokens"
            if max_new_tokens is not None or not task
            else "as long as it allows"
        )
        options.say(f"On {on}, {len(arms)} arms, {controls} controls each: {cost} rollouts {longest}.")
    if dry_run:
        return
    treatment = open_probe(where, probe, loaded, direction)
    with options.stages() as tell:
        verdict = carry_out(
            treatment,
            benign=calm,
            folder=where.runs / run,
            command=("interp", *sys.argv[1:]),
            despite_doctor=despite_doctor,
            on_progress=tell,
        )
    if json:
        options.as_json(verdict.to_dict())
    else:
        for line in (verdict.headline, *verdict.sentences, f"The report is {where.runs / run / 'report.html'}"):
            options.say(line)


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
    from interp.inspect_provider.sweep import Evaluation, task_arguments

    given = {name: value for name, value in settings.items() if value is not None}
    return Evaluation(task, task_arguments(arguments), given, *how)
