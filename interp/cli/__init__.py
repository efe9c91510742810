"""The command line: one file per command, each a thin shell around one library function."""

import errno
import os
import sys
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from interp.errors import InterpError

INTERRUPTED = 130
"""The exit status that typer gives after Ctrl-C."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a system says when a disk, a quota or a file is full."""

COMMANDS = {
    "demo": "Probe, trace, steer and report on the embedded model, and say where the report is.",
    "doctor": "Check a model's template, BOS, stop ids and sites, and that reading and editing it can be believed.",
    "cache": "Keep the residual stream of transcripts at some sites and positions.",
    "probe": "Fit and measure probes, show them, share them, or take one that was shared.",
    "trace": "Score every token of a transcript along directions, with a null band.",
    "event-locked": "Average many traces around an event, beside benign twins, with a test.",
    "power": "Rollouts per arm for two rates, and the effect that a number of rollouts can show.",
    "baserate": "Say which prompt variants have headroom, from a handful of rollouts of each.",
    "calibrate": "Find the doses of a direction within which the replies hold together.",
    "scenarios": "Written scenarios, their benign twins and prompt variants.",
    "rollouts": "Write replies of a model to prompts, with their ids, seeds and every sampling setting.",
    "steer": "Steer, ablate and cap along a direction, against a bank of control directions, and write a report.",
    "grade": "Grade a run's rollouts again, say how the rates by rung change, and how far two graders agree.",
    "report": "Write report.html, one page that opens offline, from the files of a run, or compare several.",
    "transcripts": "Transcripts of other formats: convert them, or say what they hold.",
    "emotions": "Emotion vectors: look through a story corpus, build vectors from it, see their geometry.",
    "notebook": "Copy the notebooks into a folder of yours.",
    "organism": "The embedded model: its world, its training, its measured bars.",
}
"""Every command and what `interp --help` says of it, so that none has to be loaded to say it."""


_PLAIN: dict[str, Any] = {"add_completion": False, "rich_markup_mode": None, "pretty_exceptions_enable": False}
"""Plain help: rich alone costs a third of the time to show it."""


class _Commands(TyperGroup):
    """Commands whose files are read when they are called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        module = import_module(f"interp.cli.{name}")
        one = typer.Typer(**_PLAIN)
        one.callback()(_root)  # a Typer of one command would be that command, not a group that holds it
        if hasattr(module, "app"):
            one.add_typer(module.app, name=cmd_name)
        else:
            one.command(cmd_name)(getattr(module, name))
        return get_group(one).commands[cmd_name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _root() -> None:
    pass


app = typer.Typer(name="interp", cls=_Commands, no_args_is_help=True, **_PLAIN)
app.callback(
    help="Does a language model represent desperation, when does it fire, and does suppressing it lower blackmail?"
)(_root)


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
