"""`interp notebook`: the notebooks, in a folder of your own."""

from pathlib import Path
from typing import Annotated

import typer

from interp.cli import options


def notebook(
    folder: Annotated[Path, typer.Argument(help="Where to; made if need be.")] = Path("interp-notebooks"),
) -> None:
    """Copy the notebooks into a folder of yours; nothing there is overwritten."""
    from interp.store.notebooks import copy_notebooks

    for path in copy_notebooks(folder):
        options.say(str(path))
    options.say(f"Open them with: jupyter lab {folder}")
