"""`interp trace`: when does a direction fire?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from interp.cli import options

PURPLE_TO_ORANGE = ("#5e3c99", "#8073ac", "#b2abd2", "#d8daeb", "", "#fee0b6", "#fdb863", "#e08214", "#b35806")
"""Backgrounds of a token in a terminal, from the lowest shade to the highest: PuOr, told apart by everybody."""
ON_DARK = {"#5e3c99", "#8073ac", "#b35806"}


def trace(
    transcripts: Annotated[
        Path | None,
        typer.Argument(
            help="Transcripts (JSONL); default: a reply of the organism "
            "that blackmails, and the reply to its benign twin."
        ),
    ] = None,
    model: options.ModelName = "organism",
    probe: Annotated[str, typer.Option(help="Name of a probe fitted on the model.")] = "desperation",
    direction: Annotated[
        list[str] | None,
        typer.Option(help="Which of its directions, repeatable; default: emotion:desperate first, then the others."),
    ] = None,
    site: Annotated[
        list[str] | None,
        typer.Option(
            help="Where it is read: L2.resid_post, 2/3, -1, ..., repeatable; default: 2/3 first, then up to 11 others."
        ),
    ] = None,
    benign: Annotated[Path | None, typer.Option(help="Benign transcripts (JSONL) that set the scale.")] = None,
    n_random: Annotated[int, typer.Option(help="Random directions in the null band.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the random directions and the replies.")] = 0,
    event: Annotated[
        list[str] | None,
        typer.Option(help="NAME=RULE, repeatable: a token to mark, as in 'sent=at:send_email'."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The page to write; default: runs/trace/trace.html.")] = None,
    text: Annotated[bool, typer.Option("--text", help="Print the first direction's traces in the terminal.")] = False,
    png: Annotated[Path | None, typer.Option(help="Draw the first direction's traces into this PNG instead.")] = None,
    svg: Annotated[Path | None, typer.Option(help="The same as SVG.")] = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    revision: options.Revision = None,
    model_arg: options.ModelArgs = None,
    despite_doctor: options.DespiteDoctor = False,
    workspace: options.Where = None,
    json: options.AsJson = False,
) -> None:
    """Score every token of a transcript along directions, in z units of benign transcripts, with a null band."""
    from interp.directions import load_directions
    from interp.doctor import gate
    from interp.line import read_benign, read_or_generate_pair
    from interp.plots import trace_figure, write_still
    from interp.probes import probe_folder
    from interp.report import named_events, write_traces
    from interp.sites import Site
    from interp.store import workspace as open_workspace
    from interp.store import write_json
    from interp.traces import choose
    from interp.traces import trace as read_traces

    where, events = open_workspace(workspace), named_events(event or [])
    options.say_whose_benign(model, benign)
    loaded = options.load_model(model, dtype, device, device_map, revision, model_arg)
    at = [Site.parse(each, loaded.n_layers) for each in site or []]
    found = load_directions(probe_folder(where, probe, loaded) / "directions.safetensors", model=loaded.identity)
    chosen = choose(found.values(), direction or [], at, middle=Site.parse("2/3", loaded.n_layers))
    checks = [check.to_dict() for check in gate(loaded, asked="tracing", despite_doctor=despite_doctor)]
    given = read_or_generate_pair(loaded, transcripts, seed)
    traces = read_traces(loaded, given, chosen, read_benign(benign, seed), n_random=n_random, seed=seed)
    pictures = [path for path in (png, svg) if path is not None]
    for path in pictures:
        options.say(f"The picture is {write_still(trace_figure(traces, [chosen[0].key]), path)}")
    if json:
        options.as_json([found.to_dict() for found in traces])
    elif text:
        for found in traces:
            _show(found)
    elif not pictures:
        page = write_traces(traces, out or where.runs / "trace" / "trace.html", events=events)
        write_json(page.with_suffix(".doctor.json"), checks)
        options.say(f"The page is {page}")


def _show(found: Any) -> None:
    """Coloured where the terminal has colours, else with blocks below the text."""
    from rich.console import Console
    from rich.text import Text

    from interp.traces import SHADES, coloured
    from interp.traces import text as as_text

    console = Console(soft_wrap=True, highlight=False)
    if not console.is_terminal or console.no_color or console.color_system is None:
        return options.say(as_text(found))
    line = Text()
    for piece, shade in coloured(found):
        colour = PURPLE_TO_ORANGE[shade + SHADES]
        ink = "white" if colour in ON_DARK else "black"
        line.append(piece, f"{ink} on {colour}" if colour else "")
    return console.print(line)
