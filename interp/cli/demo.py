"""`interp demo`: the whole experiment on the embedded model."""

import typer

from interp.cli.options import Where, load_model, say, stages


def demo(workspace: Where = None) -> None:
    """Probe, trace, steer and report on the embedded model, and say where the report is.

    Run again after a kill, it goes on where it stopped.
    """
    from interp.line import demo as run
    from interp.store import workspace as open_workspace

    where = open_workspace(workspace)
    folder = where.runs / "demo"
    model = load_model("organism")
    with stages() as tell:
        verdict = run(model, workspace=where, folder=folder, on_progress=tell)
    say(verdict.headline)
    typer.echo(f"The report is {folder / 'report.html'}")
