"""Where a direction can be read: a probe's score by layer."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from interp.plots.style import BAND_FILL, DOTTED, STYLES, TEMPLATE, interval_bars, plain


def layer_sweep(rows: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Held-out AUROC of each method by layer, with intervals, over the band of shuffled labels.

    The band runs from the lowest to the highest end of the methods' null intervals at that layer.
    """
    figure = go.Figure()
    layers = sorted({row["layer"] for row in rows if row["null_low"] is not None and row["null_high"] is not None})
    ends = {
        end: [pick(row[end] for row in rows if row["layer"] == layer and row[end] is not None) for layer in layers]
        for end, pick in (("null_low", min), ("null_high", max))
    }
    if layers:
        figure.add_scatter(
            x=layers + layers[::-1],
            y=ends["null_high"] + ends["null_low"][::-1],
            fill="toself",
            fillcolor=BAND_FILL,
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            name="shuffled labels",
        )
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for number, (method, (colour, dash)) in enumerate(zip(methods, STYLES * len(methods), strict=False)):
        mine = sorted((row for row in rows if row["method"] == method), key=lambda row: row["layer"])
        rates = [{"auroc": {"value": row["auroc"], "low": row["low"], "high": row["high"]}} for row in mine]
        shift = 0.06 * (number - (len(methods) - 1) / 2)
        figure.add_scatter(
            x=[row["layer"] + shift for row in mine],
            y=[row["auroc"] for row in mine],
            name=plain(method),
            mode="lines+markers",
            line={"color": colour, "dash": dash, "width": 2},
            marker={"size": 8},
            error_y=interval_bars(rates, "auroc", colour),
            text=[_sweep_text(row) for row in mine],
            hovertemplate="%{text}<extra></extra>",
        )
    figure.add_hline(0.5, line=DOTTED)
    lowest = min([0.45, *(row["low"] for row in rows if row["low"] is not None), *ends["null_low"]])
    counts = sorted({row["n"] for row in rows})
    n = f"n = {' to '.join(map(str, dict.fromkeys([counts[0], counts[-1]])))}" if counts else "n = 0"
    figure.update_xaxes(title_text="Layer (block, from 0)", dtick=1 if len(layers) <= 16 else None)
    figure.update_yaxes(title_text=f"Held-out AUROC ({n})", range=[max(lowest - 0.03, 0), 1.02])
    return figure.update_layout(template=TEMPLATE, height=400)


def _sweep_text(row: Mapping[str, Any]) -> str:
    auroc = "–" if row["auroc"] is None else f"{row['auroc']:.3f}"
    ends = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
    p = "" if row["p_value"] is None else f", p = {row['p_value']:.3f}"
    return f"<b>{plain(row['site'])}</b>, {plain(row['method'])}<br>AUROC {auroc}{ends}{p}<br>n = {row['n']}"
