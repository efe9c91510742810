"""`interp report`: one page from a run folder, or one that compares several."""

from pathlib import Path
from typing import Annotated

import typer

from interp.cli import options


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="A folder of runs/, or several to compare.")],
    out: Annotated[
        Path | None, typer.Option(help="Of several: the page to write; default: comparison.html beside the first.")
    ] = None,
) -> None:
    """Write report.html, one page that opens offline, from the files of a run, or compare several."""
    from interp.errors import StoreError
    from interp.report import write_comparison, write_report

    if len(runs) > 1:
        page = write_comparison(runs, out or runs[0].resolve().parent / "comparison.html")
        return options.say(f"The comparison is {page}")
    if out:
        raise StoreError("reporting on one run", "--out was given", "leave it out: its page is report.html in the run")
    return options.say(f"The report is {write_report(runs[0])}")
