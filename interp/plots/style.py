"""What all figures share: colours, dashes, one template, and how text and rates are put into words.

Colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), and PuOr for signed scores with zero in
the middle: both can be told apart under every common colour blindness.
"""

import html
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from shutil import which
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

from interp.traces import visible

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, GREY, INK = "#E69F00", "#56B4E9", "#8C8C8C", "#333333"
STYLES = (
    (VERMILLION, "solid"),
    (BLUE, "dash"),
    (GREEN, "dashdot"),
    (PURPLE, "dot"),
    (ORANGE, "longdash"),
    (SKY, "longdashdot"),
)
"""Colour and dash of the first, second, ... line of a figure."""


def styles(n: int) -> list[tuple[str, str]]:
    """Colour and dash of `n` lines: after the sixth, colours come again with other dashes."""
    count = len(STYLES)
    return [(STYLES[i % count][0], STYLES[(i + i // count) % count][1]) for i in range(n)]


DIVERGING = "PuOr_r"
BAND_FILL = "rgba(140,140,140,0.22)"
DOTTED = {"color": INK, "width": 1, "dash": "dot"}
"""The line of a baseline, of chance, or of a border."""
UNIT_NAMES = {
    "norm": "multiples of the direction's norm",
    "resid": "fraction of the median residual norm",
    "raw": "length along the unit vector",
    "z": "standard deviations of the benign transcripts",
    "fraction": "fraction of the component",
}

TEMPLATE = go.layout.Template(
    layout={
        "font": {
            "family": "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif",
            "size": 13,
            "color": INK,
        },
        "paper_bgcolor": "#FFFFFF",  # pages make it their own; a still picture has to be read on dark pages too
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 64, "r": 16, "t": 40, "b": 52},
        "hovermode": "closest",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": INK},
        "hoverlabel": {"bgcolor": "#FFFFFF", "font": {"size": 12, "color": INK}, "align": "left"},
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "font": {"size": 12},
            "bgcolor": "rgba(0,0,0,0)",
        },
        "xaxis": {
            "showgrid": False,
            "zeroline": False,
            "ticks": "outside",
            "ticklen": 4,
            "linecolor": GREY,
            "showline": True,
            "automargin": True,
            "title": {"font": {"size": 13}},
        },
        "yaxis": {
            "gridcolor": "rgba(140,140,140,0.25)",
            "zeroline": False,
            "automargin": True,
            "title": {"font": {"size": 13}},
        },
    }
)


def plain(text: str, longest: int = 48) -> str:
    """The text as Plotly shall show it: control characters spelt, markup escaped, cut at `longest` characters."""
    shown = visible(text, keep="").strip()
    return html.escape(shown if len(shown) <= longest else shown[: longest - 1] + "…", quote=False)


def percent(value: float | None) -> str:
    """A share in whole percent, or a dash where it is undefined."""
    return "–" if value is None else f"{100 * value:.0f} %"


def event_of(holder: Mapping[str, Any]) -> str:
    """What the rates of results, or of one of their cells, count; older runs name no event and count blackmail."""
    return holder.get("event", "blackmail")


def counted(cell: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rate of the event in one cell."""
    return cell[event_of(cell)]


def describe(rate: Mapping[str, Any]) -> str:
    """A rate with its interval and counts, in words."""
    known = f"{percent(rate['value'])} ({percent(rate['low'])} to {percent(rate['high'])})"
    ungraded = f", {rate['ungraded']} ungraded" if rate["ungraded"] else ""
    return f"{known}, {rate['successes']} of {rate['trials']}{ungraded}"


def interval_bars(rows: Sequence[Mapping[str, Any]], measure: str, colour: str) -> dict[str, Any]:
    """Asymmetric error bars from the intervals of rates."""
    rates = [row[measure] for row in rows]
    up = [None if None in (r["value"], r["high"]) else r["high"] - r["value"] for r in rates]
    down = [None if None in (r["value"], r["low"]) else r["value"] - r["low"] for r in rates]
    return {"type": "data", "array": up, "arrayminus": down, "color": colour, "thickness": 1.2, "width": 3}


def use_in_notebooks() -> None:
    """Show figures interactively in Jupyter, with a still picture beside them where a browser can draw it.

    The picture is what pages that run no JavaScript show. It needs the extra `notebook` and Chromium or Chrome.
    """
    browsers = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    can_draw = find_spec("kaleido") is not None and any(map(which, browsers))
    pio.renderers.default = "plotly_mimetype+png" if can_draw else "plotly_mimetype"
