"""`interp event-locked`: does a direction rise before an event, over many rollouts and not in one alone?"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from interp.cli import options


def event_locked(
    transcripts: Annotated[
        Path | None,
        typer.Argument(help="Transcripts with replies (JSONL); default: replies of the organism to its middle band."),
    ] = None,
    twins: Annotated[
        Path | None,
        typer.Option(help="Their benign twins (JSONL), of the same `group`s; the test compares with them."),
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(help="Where offset 0 is, repeatable: a named event, or a rule as in at:TEXT; default: decision."),
    ] = None,
    model: options.ModelName = "organism",
    probe: Annotated[str, typer.Option(help="Name of a probe fitted on the model.")] = "desperation",
    direction: Annotated[str, typer.Option(help="Which of its directions.")] = "emotion:desperate",
    site: Annotated[str, typer.Option(help="Where it is read: L2.resid_post, 2/3, -1, ...")] = "2/3",
    window: Annotated[
        str, typer.Option(help="FIRST:LAST offset that the test averages. Choose it before you see the curve.")
    ] = "-10:-1",
    benign: Annotated[Path | None, typer.Option(help="Benign transcripts (JSONL) that set the scale.")] = None,
    n: Annotated[int, typer.Option("--n", help="Prompts, of the organism's world.")] = 24,
    samples: Annotated[int, typer.Option(help="Replies to each of them, and to each twin.")] = 2,
    n_random: Annotated[int, typer.Option(help="Random directions, averaged in the same way.")] = 100,
    seed: Annotated[int, typer.Option(help="Of replies, random directions and resampling.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="The page to write; default: runs/event-locked/event-locked.html.")
    ] = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    revision: options.Revision = None,
    model_arg: options.ModelArgs = None,
    despite_doctor: options.DespiteDoctor = False,
    workspace: options.Where = None,
    json: options.AsJson = False,
) -> None:
    """Average many traces around an event, beside benign twins and random directions, and test the tokens before it.

    The numbers are kept in event_locked.json beside the page; the report of a run whose folder holds one shows it.
    """
    from interp.doctor import gate
    from interp.errors import ExperimentError
    from interp.event_locked import around_events, middle_band_with_twins, parse_window, replies
    from interp.line import at_site, open_probe, read_benign
    from interp.report import write_event_locked
    from interp.sites import Site
    from interp.store import workspace as open_workspace
    from interp.store import write_json
    from interp.transcripts import read_jsonl

    where, asked = open_workspace(workspace), parse_window(window)
    if twins and not transcripts:
        do = "name the transcripts that they are twins of, or leave --twins out"
        raise ExperimentError("averaging around an event", "--twins was given without transcripts", do)
    options.say_whose_benign(model, benign)
    loaded = options.load_model(model, dtype, device, device_map, revision, model_arg)
    chosen = at_site(open_probe(where, probe, loaded, direction), Site.parse(site, loaded.n_layers))
    gate(loaded, asked="averaging traces", despite_doctor=despite_doctor)
    if transcripts is None:
        scenes = middle_band_with_twins(n, seed)
        real, calm = (list(replies(loaded, prompts, samples=samples, seed=seed)) for prompts in scenes)
    else:
        real, calm = read_jsonl(transcripts), read_jsonl(twins) if twins else None
    found = around_events(
        loaded,
        real,
        chosen,
        read_benign(benign, seed),
        event or ["decision"],
        twins=calm,
        window=asked,
        n_random=n_random,
        seed=seed,
    )
    plain = [average.to_dict() for average in found]
    if json:
        return options.as_json(plain)
    page = out or where.runs / "event-locked" / "event-locked.html"
    for average in found:
        sentence = average.test.sentence if average.test else "no benign twins, so no test"
        options.say(f"{average.event}: {sentence}")
    write_json(page.with_name("event_locked.json"), {"averages": plain})
    return options.say(f"The page is {write_event_locked(found, page, command=('interp', *sys.argv[1:]))}")
