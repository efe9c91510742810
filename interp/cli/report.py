"""`interp report`: one page from a run folder."""

from pathlib import Path
from typing import Annotated

import typer

from interp.cli import options


def report(run: Annotated[Path, typer.Argument(help="A folder of runs/.")]) -> None:
    """Write report.html, one page that opens offline, from the files of a run."""
    from interp.report import write_report

    options.say(f"The report is {write_report(run)}")
