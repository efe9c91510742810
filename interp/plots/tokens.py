"""The token trace: where in a transcript a direction fires.

It imitates figure 26 of Anthropic 2026, "Emotion Concepts and their Function in a Large Language Model", and adds the
band of random directions.
"""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from interp.plots.style import BAND_FILL, DIVERGING, DOTTED, GREY, INK, STYLES, TEMPLATE, plain, styles
from interp.traces import Block, TokenTrace, running_mean

_NAMED_SHARE = 0.045
"""A segment narrower than this share of the longest transcript has a border and no name."""


_PANEL = 238
"""Height of a transcript's part of the figure without its strip, in pixels."""


def trace_figure(
    traces: Sequence[TokenTrace], directions: Sequence[str] | None = None, *, window: int = 12
) -> go.Figure:
    """One transcript above the other, each as a strip of coloured tokens over its lines of z.

    Without `directions`, those at the first one's site, at most six, as many as there are colours and dashes.
    The lines are means over the `window` nearest tokens, with the raw scores faint behind them; the shade is
    the null band of the first direction's site, averaged over the same window. Segment borders are dotted and
    named.
    Colours (PuOr, zero in the middle) and the axis of z have one symmetric range for all transcripts.
    """
    limit = colour_limit(traces)
    figure = make_subplots(rows=2 * len(traces), cols=1)
    for number, trace in enumerate(traces):
        rows = [trace.row(name) for name in directions] if directions else _usual(trace)
        strip, lines = 2 * number + 1, 2 * number + 2
        _strip(figure, trace, rows, strip)
        _band(figure, trace, rows[0], window, lines, first=number == 0)
        _lines(figure, trace, rows, window, lines, first=number == 0)
        _borders(figure, trace, max(map(len, traces)), (strip, lines))
        _axes(figure, traces, number, strip, lines, _cells(len(rows)))
    colours = {
        "colorscale": DIVERGING,
        "cmin": -limit,
        "cmax": limit,
        "cmid": 0,
        "colorbar": {
            "title": {"text": "z"},
            "thickness": 10,
            "lenmode": "pixels",
            "len": 150,
            "y": 1,
            "yanchor": "top",
        },
    }
    height = 90 + (_PANEL + _cells(len(rows))) * len(traces)
    return figure.update_layout(template=TEMPLATE, coloraxis=colours, height=height, legend_y=1.04)


def _cells(n: int) -> int:
    """The height of a strip of `n` directions, in pixels: names of neighbours must not touch."""
    return max(32, 18 * n)


def _usual(trace: TokenTrace) -> list[int]:
    site = trace.directions[0].rpartition("@")[2]
    return [row for row, key in enumerate(trace.directions) if key.rpartition("@")[2] == site][: len(STYLES)]


def _axes(figure: go.Figure, traces: Sequence[TokenTrace], number: int, strip: int, lines: int, cells: int) -> None:
    """The strip of `cells` pixels close above its lines, with room for the names of segments above it."""
    trace, share, panel = traces[number], 1 / len(traces), _PANEL + cells

    def down(pixels: int) -> float:
        return 1 - (number + pixels / panel) * share

    figure.update_xaxes(range=[-0.5, max(map(len, traces)) - 0.5], row=lines)
    figure.update_xaxes(range=[-0.5, max(map(len, traces)) - 0.5], visible=False, row=strip)
    figure.update_xaxes(title_text="Token" if number == len(traces) - 1 else None, row=lines)
    figure.update_yaxes(
        domain=[down(19 + cells), down(19)],
        showgrid=False,
        autorange="reversed",
        dtick=1,
        tickfont_size=11,
        ticks="",
        showticklabels=cells > _cells(1),  # one direction is named by the legend
        row=strip,
    )
    figure.update_yaxes(
        domain=[down(panel - 30), down(27 + cells)],
        range=_reach(traces),
        zeroline=True,
        zerolinecolor=GREY,
        title_text=f"{plain(trace.label or trace.id, 24)}<br>z",
        row=lines,
    )


def colour_limit(traces: Sequence[TokenTrace]) -> float:
    """The |z| at which colours are full: the 99th percentile over all traces, but not below 2."""
    known = np.concatenate([trace.scores[~np.isnan(trace.scores)] for trace in traces] or [np.zeros(1)])
    return max(float(np.percentile(np.abs(known), 99)) if known.size else 0.0, 2.0)


def _reach(traces: Sequence[TokenTrace]) -> list[float]:
    everything = np.concatenate([part.ravel() for trace in traces for part in (trace.scores, trace.low, trace.high)])
    return [float(np.nanmin(everything)) - 0.3, float(np.nanmax(everything)) + 0.3]


def _strip(figure: go.Figure, trace: TokenTrace, rows: Sequence[int], at: int) -> None:
    """Every token as a coloured cell, one line of cells for each direction."""
    words = [plain(piece, 24) or "␣" for piece in trace.pieces]
    names = [plain(trace.directions[row].rpartition("@")[0], 24) for row in rows]
    if len(set(names)) < len(names):
        names = [plain(trace.directions[row], 28) for row in rows]
    figure.add_heatmap(
        z=_listed(trace.scores[rows]),
        y=names,
        meta=at // 2,
        text=[words] * len(rows),
        coloraxis="coloraxis",
        hovertemplate="token %{x} <b>%{text}</b><br>%{y}: z %{z:+.2f}<extra></extra>",
        row=at,
        col=1,
    )


def _band(figure: go.Figure, trace: TokenTrace, row: int, window: int, at: int, *, first: bool) -> None:
    low, high = _listed(running_mean(trace.band(trace.directions[row]), window)[:, 1:])
    x = list(range(1, len(trace)))
    figure.add_scatter(
        x=x + x[::-1],
        y=high + low[::-1],
        fill="toself",
        fillcolor=BAND_FILL,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=first,
        legendgroup="band",
        name=f"middle 95 % of {trace.n_random} random directions",
        row=at,
        col=1,
    )


def _lines(figure: go.Figure, trace: TokenTrace, rows: Sequence[int], window: int, at: int, *, first: bool) -> None:
    x, words = list(range(len(trace))), [plain(piece, 24) or "␣" for piece in trace.pieces]
    raw, smooth = trace.scores[rows], running_mean(trace.scores[rows], window)
    for number, (row, (colour, dash)) in enumerate(zip(rows, styles(len(rows)), strict=True)):
        name = plain(trace.directions[row])
        figure.add_scatter(
            x=x,
            y=_listed(raw)[number],
            mode="lines",
            line={"color": colour, "width": 1},
            opacity=0.35,
            hoverinfo="skip",
            showlegend=False,
            legendgroup=name,
            row=at,
            col=1,
        )
        figure.add_scatter(
            x=x,
            y=_listed(smooth)[number],
            mode="lines",
            text=words,
            legendgroup=name,
            line={"color": colour, "width": 2.2, "dash": dash},
            customdata=_listed(raw)[number],
            meta=at // 2 - 1,
            name=f"{name}, mean of {window} tokens",
            showlegend=first,
            row=at,
            col=1,
            hovertemplate="token %{x} <b>%{text}</b><br>z %{customdata:+.2f}, smoothed %{y:+.2f}<extra></extra>",
        )


def _borders(figure: go.Figure, trace: TokenTrace, longest: int, rows: tuple[int, int]) -> None:
    strip, lines = rows
    for block in named_blocks(trace):
        edge = block.start - 0.5
        figure.add_shape(type="line", x0=edge, x1=edge, yref="y domain", y0=0, y1=1, row=lines, col=1, line=DOTTED)
        if block.stop - block.start >= _NAMED_SHARE * longest:
            figure.add_annotation(
                x=edge,
                y=1.15,
                yref="y domain",
                text=plain(block.name, 16),
                showarrow=False,
                xanchor="left",
                yanchor="bottom",
                font={"size": 11, "color": INK},
                row=strip,
                col=1,
            )


def named_blocks(trace: TokenTrace) -> list[Block]:
    """The blocks that hold words of somebody: neither the template's own tokens nor white space."""
    return [
        block
        for block in trace.blocks
        if block.role is not None and "".join(trace.pieces[block.start : block.stop]).strip()
    ]


def _listed(rows: Float[np.ndarray, "row pos"]) -> list[list[float | None]]:
    """Lists with three decimals, None where undefined: smaller in a page than full floats."""
    return [[None if np.isnan(value) else round(float(value), 3) for value in row] for row in rows]
