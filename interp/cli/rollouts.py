"""`interp rollouts`: what a model does on these prompts."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import options
from interp.cli.scenarios import Cross, Filters, Twins, wanted


def rollouts(
    prompts: Annotated[Path | None, typer.Argument(help="Prompts (JSONL); or name a set with --set.")] = None,
    model: options.ModelName = "organism",
    named: Annotated[
        str | None, typer.Option("--set", help="replacement, peer, organism or organism:KIND, in place of a file.")
    ] = None,
    n: Annotated[
        int | None, typer.Option("--n", help="Scenes of the set (48), or the first so many of a file.")
    ] = None,
    where: Filters = None,
    cross: Cross = "",
    twins: Twins = "",
    samples: Annotated[int, typer.Option(help="Replies to each prompt.")] = 1,
    grader: Annotated[str | None, typer.Option(help="Label the replies: rules, or grammar (the organism's).")] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Longest reply; default: 128 of the organism, else 1024.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="Of sampling, 0 takes the likeliest token.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Sample from the likeliest tokens that hold this probability.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(help="Sample from so many of the likeliest tokens.")] = None,
    batch_rows: Annotated[int, typer.Option(help="Replies that are written at a time, and kept together.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the set and of the rollouts.")] = 0,
    run: Annotated[str, typer.Option(help="Name of the folder in runs/.")] = "rollouts",
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
    """Write replies of a model to prompts, with their ids, seeds and every sampling setting.

    They are kept batch by batch: a command that was stopped goes on where it was. runs/NAME/transcripts.jsonl is what
    the other commands read.
    """
    from interp.experiments.rollouts import cost, longest, prompts_of, roll
    from interp.generation import Sampling
    from interp.store import workspace as open_workspace

    _refuse_for_a_file(prompts, {"--where": where, "--cross": cross, "--twins": twins})
    sampling = Sampling(longest(model) if max_new_tokens is None else max_new_tokens, temperature, top_p, top_k)
    given = None if named is None else wanted(named, 48 if n is None else n, seed, where, cross, twins)
    asked = prompts_of(prompts, given, n)
    folder = open_workspace(workspace).runs / run
    if dry_run or not json:
        options.say(cost(asked, samples, sampling, folder))
    if dry_run:
        return
    loaded = options.load_model(model, dtype, device, device_map, revision, model_args)
    with options.progress("rollouts") as tell:
        found = roll(
            loaded,
            asked,
            folder=folder,
            samples=samples,
            seed=seed,
            sampling=sampling,
            grader=grader,
            batch_rows=batch_rows,
            command=("interp", *sys.argv[1:]),
            despite_doctor=despite_doctor,
            on_progress=tell,
        )
    if json:
        options.as_json(found.to_dict() | {"folder": str(folder)})
    else:
        for line in (*found.sentences, f"The rollouts are in {folder}"):
            options.say(line)


def _refuse_for_a_file(prompts: Path | None, options_of_a_set: dict[str, Any]) -> None:
    """Refuse options that would be ignored."""
    from interp.errors import ExperimentError

    given = [name for name, value in options_of_a_set.items() if value]
    if prompts is not None and given:
        do = "leave it out, or name a set with --set in place of the file"
        raise ExperimentError(f"choosing prompts with {', '.join(given)}", "a file is taken as it is", do)
