"""The event-locked average: many rollouts around one event, their benign twins, and what random directions do."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.plots.style import BAND_FILL, BLUE, DOTTED, GREY, PURPLE, TEMPLATE, VERMILLION, plain

_LINE = 92
"""Characters of the test's sentence that a picture of usual width takes in one line."""
_FILLS = {
    VERMILLION: "rgba(213,94,0,0.20)",
    BLUE: "rgba(0,114,178,0.18)",
    PURPLE: "rgba(204,121,167,0.25)",
}


def event_locked_figure(table: Mapping[str, Any]) -> go.Figure:
    """Averages above, and below, where there are twins, their difference with the tested window and the test in words.

    `table` is what `EventLocked.to_dict` gives. Bands are bootstraps over scenarios; the grey shade holds the middle
    95 % of random directions, averaged in the same way. Hovering tells how many scenarios and rollouts stand behind
    a point.
    """
    offsets, twins, change = table["offsets"], table["twins"], table["difference"]
    rows = 2 if change else 1
    figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.12, row_heights=[0.6, 0.4][:rows])
    _random(figure, offsets, table["random"], 1)
    if twins:
        _average(figure, offsets, twins, "twins", BLUE, "dash", 1)
    _average(figure, offsets, table["average"], "rollouts", VERMILLION, "solid", 1)
    if change:
        _random(figure, offsets, change["random"], 2)
        _average(figure, offsets, change, "rollouts minus twins", PURPLE, "dashdot", 2)
        _tested(figure, table["test"])
    figure.add_vline(x=0, line=DOTTED)
    figure.update_xaxes(title_text=f"Tokens from the event: {plain(table['event'], 60)}", row=rows)
    figure.update_yaxes(zeroline=True, zerolinecolor=GREY)
    figure.update_yaxes(title_text=f"z of {plain(table['direction'], 32)}", row=1)
    if change:
        figure.update_yaxes(title_text="difference in z", row=2)
    return figure.update_layout(template=TEMPLATE, height=300 + 220 * (rows - 1))


def _random(figure: go.Figure, offsets: Sequence[int], band: Mapping[str, Any] | None, row: int) -> None:
    if band:
        name = f"middle 95 % of {band['n']} random directions"
        _shade(figure, offsets, band, BAND_FILL, name, row, legend=row == 1)


def _average(
    figure: go.Figure, offsets: Sequence[int], part: Mapping[str, Any], name: str, colour: str, dash: str, row: int
) -> None:
    _shade(figure, offsets, part, _FILLS[colour], name, row, legend=False)
    counts = part["scenarios"]
    told = [f"{n} scenarios" for n in counts]
    if "rollouts" in part:
        told = [f"{n} scenarios, {m} rollouts" for n, m in zip(counts, part["rollouts"], strict=True)]
    figure.add_scatter(
        x=list(offsets),
        y=list(part["mean"]),
        mode="lines",
        line={"color": colour, "width": 2.2, "dash": dash},
        text=told,
        name=name,
        legendgroup=name,
        row=row,
        col=1,
        hovertemplate="offset %{x}: z %{y:+.2f}, %{text}<extra>" + name + "</extra>",
    )


def _shade(
    figure: go.Figure,
    offsets: Sequence[int],
    band: Mapping[str, Any],
    fill: str,
    name: str,
    row: int,
    *,
    legend: bool,
) -> None:
    """The area between two curves, cut where they are undefined."""
    for number, part in enumerate(_defined(offsets, band["low"], band["high"])):
        x, low, high = zip(*part, strict=True)
        figure.add_scatter(
            x=[*x, *x[::-1]],
            y=[*high, *low[::-1]],
            fill="toself",
            fillcolor=fill,
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=legend and number == 0,
            legendgroup=name,
            name=name,
            row=row,
            col=1,
        )


def _defined(
    offsets: Sequence[int], low: Sequence[float | None], high: Sequence[float | None]
) -> list[list[tuple[int, float, float]]]:
    """Unbroken runs of offsets at which both ends are defined."""
    runs, run = [], []
    for offset, bottom, top in zip(offsets, low, high, strict=True):
        if bottom is not None and top is not None:
            run.append((offset, bottom, top))
        elif run:
            runs.append(run)
            run = []
    return [*runs, run] if run else runs


def _tested(figure: go.Figure, test: Mapping[str, Any]) -> None:
    edges = {"x0": test["first"] - 0.5, "x1": test["last"] + 0.5}
    across = {"type": "rect", "xref": "x2", "yref": "y2 domain", "y0": 0, "y1": 1}
    figure.add_shape(**across, **edges, fillcolor=PURPLE, opacity=0.10, line_width=0, layer="below")
    figure.add_annotation(
        text="<br>".join(plain(line, _LINE) for line in textwrap.wrap(test["sentence"], _LINE)),
        xref="paper",
        yref="y2 domain",
        x=0,
        y=1.04,
        xanchor="left",
        yanchor="bottom",
        align="left",
        showarrow=False,
        font={"size": 12},
    )
