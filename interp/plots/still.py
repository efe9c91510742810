"""A figure as a picture file, drawn by kaleido with the browser that is there."""

from importlib.util import find_spec
from pathlib import Path

import plotly.graph_objects as go

from interp.errors import StoreError
from interp.store import write_bytes

FORMATS = ("png", "svg")


def write_still(figure: go.Figure, path: str | Path, *, width: int = 1100, scale: float = 2.0) -> Path:
    """Write the figure as PNG or SVG, by the ending of `path`, and return the path.

    Args:
        figure: any Plotly figure with a height.
        path: ends in `.png` or `.svg`.
        width: in pixels, before `scale`.
        scale: pixels of a PNG for each of these.

    Raises:
        StoreError: another ending, or kaleido or a browser is missing.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise StoreError(f"drawing {path.name}", f"the ending {path.suffix!r}", "let it end in .png or .svg")
    asked, instead = f"drawing {path.name}", "or open the page, or print with --text, which need neither"
    if find_spec("kaleido") is None:
        raise StoreError(asked, "no kaleido here", f"install the extra `notebook`, {instead}")
    from choreographer.errors import ChromeNotFoundError

    try:
        image = figure.to_image(format=kind, width=width, height=figure.layout.height, scale=scale)
    except (ChromeNotFoundError, RuntimeError) as error:
        if not isinstance(error, ChromeNotFoundError) and "Chrome" not in str(error):
            raise
        raise StoreError(
            asked, "no Chromium or Chrome here, with which kaleido draws", f"install one, {instead}"
        ) from error
    write_bytes(path, image)
    return path
