"""`interp demo`: the whole experiment on the embedded model."""

from typing import Annotated

import typer

from interp.cli.options import Where, load_model, say, stages


def demo(
    workspace: Where = None,
    run: Annotated[str, typer.Option(help="Name of the folder in runs/.")] = "demo",
) -> None:
    """Probe, trace, steer and report on the embedded model, and say where the report is.

    Run again after a kill, it goes on where it stopped.
    """
    from interp.line import demo as whole_line
    from interp.store import workspace as open_workspace

    where = open_workspace(workspace)
    folder = where.runs / run
    model = load_model("organism")
    with stages() as tell:
        verdict = whole_line(model, workspace=where, folder=folder, on_progress=tell)
    say(verdict.headline)
    typer.echo(f"The report is {folder / 'report.html'}")
