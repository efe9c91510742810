"""`interp baserate`: does the unedited model do it at all, and where is there room to move it?"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import options


def baserate(
    model: options.ModelName = "organism",
    prompts: Annotated[
        Path | None,
        typer.Option(help="Transcripts (JSONL); default: scenes of the organism's world in seven variants."),
    ] = None,
    by: Annotated[str, typer.Option(help="The field of meta that names a prompt's variant.")] = "variant",
    n_prompts: Annotated[int, typer.Option(help="Scenes of each variant of the organism's world.")] = 10,
    most: Annotated[int, typer.Option(help="Rollouts of a variant at most.")] = 20,
    step: Annotated[int, typer.Option(help="Rollouts between two looks.")] = 5,
    usable: Annotated[str, typer.Option(help="Rates that leave room to move.")] = "0.15,0.85",
    max_new_tokens: Annotated[int, typer.Option(help="Longest reply.")] = 128,
    temperature: Annotated[float, typer.Option(help="Of sampling, 0 takes the likeliest token.")] = 1.0,
    grader: Annotated[str, typer.Option(help="auto, grammar (the organism's) or rules.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of scenes and rollouts.")] = 0,
    run: Annotated[str, typer.Option(help="Name of the folder in runs/; the model's folder is inside.")] = "baserate",
    published: Annotated[
        bool, typer.Option("--published", help="Instead list published rates, of --model where one is given.")
    ] = False,
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
    """Write a handful of rollouts of each prompt variant, and say which have headroom and which say nothing.

    A variant is left as soon as its interval is decided. Replies to scenes of the organism's world are graded by its
    grammar, those to written scenarios by rules. A command that was stopped goes on where it was.
    """
    if published:
        _list_published(None if model == "organism" else model, json)
        return
    from interp.experiments.baserate import Search, base_rates, organism_variants, summary, variants_of
    from interp.generation import Sampling
    from interp.jobs.prepare import grader_of
    from interp.store import workspace as open_workspace
    from interp.transcripts import read_jsonl

    where = open_workspace(workspace)
    sampling = Sampling(max_new_tokens, temperature)
    search = Search(most, step, _range(usable), seed=seed, sampling=sampling)
    variants = variants_of(read_jsonl(prompts), by) if prompts else organism_variants(n_prompts, seed)
    graded = grader_of(grader, [prompt for variant in variants for prompt in variant.prompts])
    if dry_run or not json:
        cost = f"{len(variants)} variants, at most {len(variants) * most} rollouts"
        options.say(f"{cost} of at most {max_new_tokens} tokens.")
    if dry_run:
        return
    loaded = options.load_model(model, dtype, device, device_map, revision, model_args)
    folder = where.runs / run / loaded.name.replace("/", "--")
    with options.progress("rollouts") as tell:
        found = base_rates(
            loaded,
            variants,
            search,
            folder=folder,
            grader=graded,
            command=("interp", *sys.argv[1:]),
            despite_doctor=despite_doctor,
            on_progress=tell,
        )
    if json:
        rows = [one.to_dict() for one in found]
        options.as_json({"model": loaded.name, "summary": summary(found), "variants": rows, "folder": str(folder)})
        return
    width = max(len(one.variant) for one in found) + 2
    for one in found:
        options.say(f"{one.variant:<{width}}{one.sentence}{_planned(one.halving)}")
    options.say(summary(found))
    options.say(f"The rollouts are in {folder}")


def _planned(halving: int | None) -> str:
    return f"; to show it halved takes about {halving} rollouts an arm" if halving else ""


def _range(text: str) -> tuple[float, float]:
    from interp.errors import ExperimentError

    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ExperimentError(f"usable rates {text!r}", str(error), "write two numbers, such as 0.15,0.85") from error
    return low, high


def _list_published(model: str | None, json: bool) -> None:
    from interp.behaviour.published import published, published_models

    rows = published(model)
    if json:
        options.as_json([row.to_dict() for row in rows])
        return
    if not rows:
        options.say(f"Nothing published on {model} is known here, which is not a rate of 0.")
        return
    for row in rows:
        options.say(f"{row.model}, {row.behaviour}, {row.variant}: {_said(row)}")
        note = f" ({row.note})" if row.note else ""
        options.say(f"    {row.definition}; {row.setup}")
        options.say(f"    {row.source} [{row.evidence}]{note}")
    options.say(
        f"{len(rows)} rates of {len(published_models(rows))} models. Rates by different definitions do not compare."
    )


def _said(row: Any) -> str:
    if row.percent is None:
        return "rate unknown"
    counted = row.counted
    if counted is None or counted.interval is None:
        return f"{row.percent:g} %, n {'unknown' if row.n is None else row.n}"
    low, high = 100 * counted.interval.low, 100 * counted.interval.high
    return f"{row.percent:g} % ({counted.successes} of {counted.trials}; {low:.0f} to {high:.0f} %)"
