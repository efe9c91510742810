"""Where a direction can be read: a probe's score by layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from interp.plots.style import BAND_FILL, DOTTED, TEMPLATE, interval_bars, plain, styles


def layer_sweep(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Held-out AUROC of each method by layer, with intervals, over the band of shuffled labels.

    The band runs from the lowest to the highest end of the methods' null intervals at that layer.
    """
    figure = go.Figure()
    lows = _null_band(figure, rows)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for number, (method, style) in enumerate(zip(methods, styles(len(methods)), strict=True)):
        mine = sorted((row for row in rows if row["method"] == method), key=lambda row: row["layer"])
        _method_line(figure, mine, style, 0.06 * (number - (len(methods) - 1) / 2))
    figure.add_hline(0.5, line=DOTTED)
    lowest = min([0.45, *lows, *(row["low"] for row in rows if row["low"] is not None)])
    counts = sorted({row["n"] for row in rows})
    n = f"n = {' to '.join(map(str, dict.fromkeys([counts[0], counts[-1]])))}" if counts else "n = 0"
    every = 1 if len({row["layer"] for row in rows}) <= 16 else None
    figure.update_xaxes(title_text="Layer (block, from 0)", dtick=every)
    figure.update_yaxes(title_text=f"Held-out AUROC ({n})", range=[max(lowest - 0.03, 0), 1.02])
    return figure.update_layout(template=TEMPLATE, height=400)


def _null_band(figure: go.Figure, rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Draw the band where there is a null, and return its lower ends."""
    known = [row for row in rows if row["null_low"] is not None and row["null_high"] is not None]
    layers = sorted({row["layer"] for row in known})
    low = [min(row["null_low"] for row in known if row["layer"] == layer) for layer in layers]
    high = [max(row["null_high"] for row in known if row["layer"] == layer) for layer in layers]
    if layers:
        figure.add_scatter(
            x=layers + layers[::-1],
            y=high + low[::-1],
            fill="toself",
            fillcolor=BAND_FILL,
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            name="shuffled labels",
        )
    return low


def _method_line(figure: go.Figure, rows: Sequence[Mapping[str, Any]], style: tuple[str, str], shift: float) -> None:
    """One method, moved aside a little so that intervals do not cover each other."""
    colour, dash = style
    rates = [{"auroc": {"value": row["auroc"], "low": row["low"], "high": row["high"]}} for row in rows]
    figure.add_scatter(
        x=[row["layer"] + shift for row in rows],
        y=[row["auroc"] for row in rows],
        name=plain(rows[0]["method"]),
        mode="lines+markers",
        marker={"size": 8},
        line={"color": colour, "dash": dash, "width": 2},
        text=[_sweep_text(row) for row in rows],
        error_y=interval_bars(rates, "auroc", colour),
        hovertemplate="%{text}<extra></extra>",
    )


def _sweep_text(row: Mapping[str, Any]) -> str:
    auroc = "–" if row["auroc"] is None else f"{row['auroc']:.3f}"
    ends = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
    p = "" if row["p_value"] is None else f", p = {row['p_value']:.3f}"
    return f"<b>{plain(row['site'])}</b>, {plain(row['method'])}<br>AUROC {auroc}{ends}{p}<br>n = {row['n']}"
