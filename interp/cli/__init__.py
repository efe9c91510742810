"""The command line: one file per command, each a thin shell around one library function."""

import os
import sys
from typing import Any

import typer

from interp.cli import cache, demo, doctor, organism, probe, report, steer, trace
from interp.errors import InterpError

INTERRUPTED = 130
"""The exit status that typer gives after Ctrl-C."""

app = typer.Typer(
    name="interp",
    help="Does a language model represent desperation, when does it fire, and does suppressing it lower blackmail?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,  # plain help: rich alone costs a third of the time to show it
)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("cache")(cache.cache)
app.command("probe")(probe.probe)
app.command("trace")(trace.trace)
app.command("steer")(steer.steer)
app.command("report")(report.report)
app.add_typer(organism.app, name="organism")


def main(arguments: list[str] | None = None) -> Any:
    """Run a command; a mistake of the user's is one sentence on standard error and exit status 1."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin halve the speed where a core is busy
    try:
        return app(arguments)
    except InterpError as error:
        typer.echo(f"interp: {error}", err=True)
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            typer.echo("interp: stopped; what was finished is kept, and the same command goes on from there.", err=True)
        raise
