"""How emotion vectors lie to each other, always beside the same figure of noise."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.emotions.metrics import Band, Metric, Picture
from interp.emotions.norms import Norms
from interp.plots.style import BLUE, DIVERGING, GREY, INK, TEMPLATE, VERMILLION, plain

NOISE = "same stories, permuted emotions"
_LABELLED = 40
"""With more emotions, names stand at a choice of them, and at all when hovered."""


def cosine_figure(names: Sequence[str], real: Picture, permuted: Picture) -> go.Figure:
    """Cosines of all pairs in the order of their tree, and the same for stories with permuted emotions."""
    figure = make_subplots(1, 2, subplot_titles=("emotion vectors", NOISE), horizontal_spacing=0.16)
    for column, drawn in enumerate((real, permuted), start=1):
        order = list(drawn.order)
        labels = [plain(names[index], 18) for index in order]
        figure.add_heatmap(
            z=drawn.cosines[np.ix_(order, order)].round(4).tolist(),
            x=labels,
            y=labels,
            coloraxis="coloraxis",
            hovertemplate="%{y}, %{x}: %{z:+.2f}<extra></extra>",
            row=1,
            col=column,
        )
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    figure.update_xaxes(tickangle=-60, showline=False, ticks="")
    colours = {"colorscale": DIVERGING, "cmin": -1, "cmax": 1, "cmid": 0}
    bar = {"title": {"text": "cosine"}, "thickness": 10, "len": 0.8}
    height = 440 if len(names) <= _LABELLED else 620
    figure.update_layout(template=TEMPLATE, height=height, coloraxis={**colours, "colorbar": bar})
    return figure


def component_figure(names: Sequence[str], real: Picture, permuted: Picture, norms: Norms | None) -> go.Figure:
    """Emotions on their first two principal components, coloured by valence where it is known; noise beside it."""
    titles = [
        f"{what}<br>{100 * one:.0f} % and {100 * two:.0f} %"
        for what, (one, two) in (("emotion vectors", real.shares), (NOISE, permuted.shares))
    ]
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.16)
    figure.update_annotations(font_size=13)
    few = len(names) <= _LABELLED
    for column, drawn in enumerate((real, permuted), start=1):
        figure.add_scatter(
            x=drawn.places[:, 0].round(4).tolist(),
            y=drawn.places[:, 1].round(4).tolist(),
            mode="markers+text" if few else "markers",
            text=[plain(name, 24) for name in names],
            textposition="top center",
            textfont={"size": 12},
            marker=_marker(norms),
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
            row=1,
            col=column,
        )
        reach = float(np.abs(drawn.places).max()) * 1.3
        figure.update_xaxes(range=[-reach, reach], title_text="first component", row=1, col=column)
        figure.update_yaxes(range=[-reach, reach], title_text="second component", row=1, col=column)
    low, high = (0.0, 1.0) if norms is None else (float(np.nanmin(norms.valence)), float(np.nanmax(norms.valence)))
    bar = {"title": {"text": "valence"}, "thickness": 10, "len": 0.8}
    colours = {"colorscale": DIVERGING, "cmin": low, "cmax": high, "showscale": norms is not None, "colorbar": bar}
    return figure.update_layout(template=TEMPLATE, height=440, margin_t=56, coloraxis=colours)


def _marker(norms: Norms | None) -> dict:
    edge = {"size": 10, "line": {"color": INK, "width": 1}}
    if norms is None:
        return edge | {"color": BLUE}
    return edge | {"color": [None if np.isnan(v) else float(v) for v in norms.valence], "coloraxis": "coloraxis"}


def metric_figure(metrics: Sequence[Metric]) -> go.Figure:
    """Every metric with the middle 95 % of random vectors and of permuted emotions; hollow where noise gives it too."""
    shown = [metric for metric in metrics if metric.value is not None]
    figure = go.Figure()
    for kind, colour, dash, shift in (("random", GREY, "solid", 0.16), ("permuted", BLUE, "dot", -0.16)):
        bands = [(row, band) for row, metric in enumerate(shown) if isinstance(band := getattr(metric, kind), Band)]
        x, y = _whiskers([band for _, band in bands], [row + shift for row, _ in bands])
        said = {"random": "random vectors, 95 %", "permuted": "permuted emotions, 95 %"}[kind]
        figure.add_scatter(
            x=x, y=y, mode="lines", name=said, line={"color": colour, "width": 7, "dash": dash}, hoverinfo="skip"
        )
    for beyond, symbol, said in ((True, "diamond", "beyond noise"), (False, "diamond-open", "what noise gives too")):
        rows = [(row, metric) for row, metric in enumerate(shown) if bool(metric.beyond_noise) is beyond]
        figure.add_scatter(
            x=[metric.value for _, metric in rows],
            y=[row for row, _ in rows],
            mode="markers",
            name=said,
            marker={"symbol": symbol, "size": 13, "color": VERMILLION, "line": {"color": VERMILLION, "width": 2}},
            text=[plain(metric.says, 90) for _, metric in rows],
            hovertemplate="%{x:.3f}: %{text}<extra></extra>",
        )
    rows = list(range(len(shown)))
    figure.update_yaxes(
        tickvals=rows, ticktext=[plain(m.name, 30) for m in shown], autorange="reversed", showgrid=False
    )
    figure.update_xaxes(range=[-1.05, 1.05], title_text="value", zeroline=True, zerolinecolor=GREY)
    return figure.update_layout(template=TEMPLATE, height=130 + 46 * max(len(shown), 1))


def _whiskers(bands: Sequence[Band], rows: Sequence[float]) -> tuple[list[float | None], list[float | None]]:
    """One broken line through all bands."""
    x: list[float | None] = []
    y: list[float | None] = []
    for band, row in zip(bands, rows, strict=True):
        x += [band.low, max(band.high, band.low + 0.004), None]
        y += [row, row, None]
    return x, y
