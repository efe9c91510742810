"""`interp calibrate`: how strong a push may be before the replies fall apart."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import options


def calibrate(
    model: options.ModelName = "organism",
    probe: Annotated[str, typer.Option(help="A probe fitted on the model (probes/NAME/MODEL/).")] = "desperation",
    direction: Annotated[str, typer.Option(help="Which of its directions.")] = "emotion:desperate",
    sites: Annotated[str, typer.Option(help="Where doses are added: 1,2 or 2/3 or all.")] = "1/4,1/2,3/4",
    unit: Annotated[str, typer.Option(help="Of the doses: resid, norm or raw.")] = "resid",
    strengths: Annotated[
        str | None,
        typer.Option(
            help="Each is tried with both signs: 0.1,0.2,0.3, or 0.03:0.96, which doubles; default, in resid: that."
        ),
    ] = None,
    scope: Annotated[str, typer.Option(help="Tokens that are edited, as of interp steer.")] = "all",
    prompts: Annotated[
        Path | None,
        typer.Option(help="Transcripts (JSONL) of the real task; default: scenes of the organism's world."),
    ] = None,
    benign: Annotated[Path | None, typer.Option(help="Benign transcripts (JSONL) for the KL.")] = None,
    n_prompts: Annotated[int | None, typer.Option(help="How many prompts; default: all of a file, else 24.")] = None,
    samples: Annotated[int, typer.Option(help="Rollouts a prompt, under the baseline and each dose.")] = 2,
    max_new_tokens: Annotated[int, typer.Option(help="Longest reply: that of the real task.")] = 128,
    temperature: Annotated[float, typer.Option(help="Of sampling, 0 takes the likeliest token.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of prompts and rollouts.")] = 0,
    run: Annotated[str, typer.Option(help="Name of the folder in runs/.")] = "calibrate",
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
    """Find the doses of a direction within which the replies hold together, and say what breaks first beyond them.

    Replies to scenes of the organism's world are graded by its grammar, others by their form alone. A command that was
    stopped goes on where it was; another list of strengths writes only what is new.
    """
    from interp.experiments import Arm
    from interp.experiments.calibrate import dose_ladder, find_range, grader_for, read_strengths
    from interp.generation import Sampling
    from interp.line import open_probe, read_benign, read_prompts
    from interp.sites import parse_sites
    from interp.store import workspace as open_workspace

    where = open_workspace(workspace)
    asked, magnitudes = read_prompts(prompts, n_prompts, seed), None if strengths is None else read_strengths(strengths)
    doses = dose_ladder(unit, magnitudes)
    if dry_run or not json:
        cost = f"{len(asked) * samples * (1 + len(doses))} rollouts of at most {max_new_tokens} tokens"
        options.say(f"On {len(asked)} prompts, the baseline and {len(doses)} doses: {cost}.")
    if dry_run:
        return
    options.say_whose_benign(model, benign)
    loaded = options.load_model(model, dtype, device, device_map, revision, model_args)
    arm = Arm("add", 1.0, unit, parse_sites(sites, loaded.n_layers), "greater", scope)
    vectors = open_probe(where, probe, loaded, direction)
    with options.stages() as tell:
        found = find_range(
            loaded,
            vectors,
            arm,
            asked,
            benign=read_benign(benign, seed),
            folder=where.runs / run,
            grader=grader_for(asked),
            strengths=magnitudes,
            samples=samples,
            seed=seed,
            sampling=Sampling(max_new_tokens, temperature),
            command=("interp", *sys.argv[1:]),
            despite_doctor=despite_doctor,
            on_progress=tell,
        )
    if json:
        options.as_json(found.to_dict())
        return
    _print(found)
    options.say(f"The range is in {where.runs / run / 'calibration.json'}")


def _print(found: Any) -> None:
    """The table of all doses, and the range in words."""
    from rich.console import Console
    from rich.table import Table

    header, *rows = found.table()
    table = Table(*header, title=f"{found.direction} on {found.model}", caption="x: outside the range")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else 200
    Console(width=width).print(table)
    for sentence in found.sentences:
        options.say(sentence)
