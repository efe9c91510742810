"""The command line: one file per command, each a thin shell around one library function."""

import errno
import os
import sys
from typing import Any

import typer

from interp.cli import (
    baserate,
    cache,
    calibrate,
    demo,
    doctor,
    emotions,
    grade,
    organism,
    power,
    probe,
    report,
    rollouts,
    scenarios,
    steer,
    trace,
    transcripts,
)
from interp.errors import InterpError

INTERRUPTED = 130
"""The exit status that typer gives after Ctrl-C."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a system says when a disk, a quota or a file is full."""

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
app.add_typer(probe.app, name="probe")
app.command("trace")(trace.trace)
app.command("power")(power.power)
app.command("baserate")(baserate.baserate)
app.command("calibrate")(calibrate.calibrate)
app.add_typer(scenarios.app, name="scenarios")
app.command("rollouts")(rollouts.rollouts)
app.command("steer")(steer.steer)
app.command("grade")(grade.grade)
app.command("report")(report.report)
app.add_typer(transcripts.app, name="transcripts")
app.add_typer(emotions.app, name="emotions")
app.add_typer(organism.app, name="organism")


def main(arguments: list[str] | None = None) -> Any:
    """Run a command; a mistake of the user's is one sentence on standard error and exit status 1."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin halve the speed where a core is busy
    try:
        return app(arguments)
    except InterpError as error:
        typer.echo(f"interp: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        full = f"interp: writing: {error.strerror}. Free some space; what was finished is kept, and the same command"
        typer.echo(f"{full} goes on from there.", err=True)
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            typer.echo("interp: stopped; what was finished is kept, and the same command goes on from there.", err=True)
        raise
