"""`interp demo`: the whole experiment on the embedded model."""

from typing import Annotated

import typer

from interp.cli import options


def demo(
    workspace: options.Where = None,
    run: Annotated[str, typer.Option(help="Name of the folder in runs/.")] = "demo",
) -> None:
    """Probe, trace, steer and report on the embedded model, and say where the report is.

    Run again after a kill, it goes on where it stopped.
    """
    from interp.line import demo as whole_line
    from interp.store import workspace as open_workspace

    where = open_workspace(workspace)
    folder = where.runs / run
    model = options.load_model("organism")
    with options.stages() as tell:
        verdict = whole_line(model, workspace=where, folder=folder, on_progress=tell)
    options.say(verdict.headline)
    typer.echo(f"The report is {folder / 'report.html'}")
