"""`interp steer`: does pushing on a direction change what the model does, more than any push?"""

import sys
from pathlib import Path
from typing import Annotated

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
    scope: Annotated[str, typer.Option(help="Tokens that are edited: all, prompt or generated.")] = "all",
    n_prompts: Annotated[int | None, typer.Option(help="How many prompts; default: all of a file, else 24.")] = None,
    samples: Annotated[int, typer.Option(help="Rollouts a prompt, under the baseline and each treatment.")] = 3,
    control_samples: Annotated[int, typer.Option(help="Rollouts a prompt under each control.")] = 3,
    controls: Annotated[int, typer.Option(help="Random directions of equal norm.")] = 20,
    max_new_tokens: Annotated[int, typer.Option(help="Longest reply.")] = 128,
    temperature: Annotated[float, typer.Option(help="Of sampling; 0 takes the likeliest token.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of prompts, controls and rollouts.")] = 0,
    run: Annotated[str, typer.Option(help="Name of the folder in runs/.")] = "steer",
    despite_doctor: Annotated[bool, typer.Option(help="Go on although the model failed a check.")] = False,
    dtype: options.Dtype = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    revision: options.Revision = None,
    workspace: options.Where = None,
    dry_run: options.DryRun = False,
    json: options.AsJson = False,
) -> None:
    """Steer, ablate and cap along a direction, against random directions, and write a report.

    Rollouts are graded by the grammar of the organism's world. A run that was stopped goes on where it was when
    the same command is given again.
    """
    from interp.experiments import Plan, arms_from
    from interp.generation import Sampling
    from interp.line import QUESTION, experiment, open_probe, read_benign, read_prompts
    from interp.sites import parse_sites
    from interp.store import workspace as open_workspace

    where = open_workspace(workspace)
    loaded = options.load_model(model, dtype, device, device_map, revision)
    arms = arms_from(
        add, unit, parse_sites(sites, loaded.n_layers), loaded.all_sites(), ablate=ablate, cap=cap, scope=scope
    )
    plan = Plan(
        QUESTION, direction, arms, samples, control_samples, controls, seed, Sampling(max_new_tokens, temperature)
    )
    asked, calm = read_prompts(prompts, n_prompts, seed), read_benign(benign, seed)
    if dry_run or not json:
        options.say(
            f"{len(asked)} prompts, {len(arms)} arms, {controls} controls each: {plan.rollouts(len(asked))} rollouts "
            f"of at most {max_new_tokens} tokens."
        )
    if dry_run:
        return
    treatment = open_probe(where, probe, loaded, direction)
    with options.stages() as tell:
        verdict = experiment(
            loaded,
            plan,
            asked,
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
