"""Dose and response: what adding a direction does to the rate of an event, beside controls."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.behaviour import MIN_COHERENCE
from interp.plots.style import (
    BAND_FILL,
    DOTTED,
    GREY,
    ORANGE,
    STYLES,
    TEMPLATE,
    UNIT_NAMES,
    counted,
    describe,
    event_of,
    interval_bars,
    percent,
    plain,
)

BEYOND = "outside the calibrated range"
"""What figures write where doses were not shown to keep replies coherent."""
_ROUNDING = 1e-9


class Series(NamedTuple):
    """What the doses of one line share."""

    direction: str
    sites: tuple[str, ...]
    scope: str
    unit: str

    @property
    def place(self) -> tuple[tuple[str, ...], str, str]:
        """What a control must share with a treatment to be comparable."""
        return self.sites, self.scope, self.unit


def doses(results: Mapping[str, Any], role: str = "treatment") -> dict[Series, list[Mapping[str, Any]]]:
    """The cells that add a direction, by series, each in order of strength."""
    found: dict[Series, list[Mapping[str, Any]]] = {}
    for cell in results["cells"]:
        if cell["role"] == role and cell["kind"] == "add":
            key = Series(cell["direction"], tuple(cell["sites"]), cell["scope"], cell["unit"])
            found.setdefault(key, []).append(cell)
    return {key: sorted(cells, key=lambda cell: cell["strength"]) for key, cells in found.items()}


def baseline(results: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The cell without edits."""
    return next((cell for cell in results["cells"] if cell["role"] == "baseline"), None)


def calibrated(results: Mapping[str, Any], cell: Mapping[str, Any]) -> tuple[float, float] | None:
    """The range of doses within which replies hold together, if it was measured for a cell's place and unit.

    None where the cell adds nothing, where the results hold no range (`interp calibrate`), and where it was measured at
    other sites, in another scope or in another unit.
    """
    known = results.get("range")
    if known is None or cell["kind"] != "add" or (cell["unit"], cell["scope"]) != (known["unit"], known["scope"]):
        return None
    return (known["low"], known["high"]) if set(cell["sites"]) == set(known["sites"]) else None


def is_beyond(results: Mapping[str, Any], cell: Mapping[str, Any]) -> bool:
    """Whether a cell's dose lies outside the calibrated range; not where there is none for it."""
    within = calibrated(results, cell)
    if within is None:
        return False
    low, high = within
    return not low * (1 + _ROUNDING) <= cell["strength"] <= high * (1 + _ROUNDING)


def dose_response(results: Mapping[str, Any]) -> go.Figure:
    """The event's rate against the strength of an added direction, coherence below it on the same axis.

    Points carry Wilson intervals; zero strength is the baseline. Every control is a faint dot, and
    the band runs from the lowest to the highest of them. Doses with fewer than `MIN_COHERENCE` coherent replies
    are shaded and hollow: a rate among broken replies is no behaviour. What lies outside the calibrated range is shaded
    in another colour, if the results hold one. There is one column for each unit.
    """
    series, controls, zero = doses(results), doses(results, "control"), baseline(results)
    units = list(dict.fromkeys(key.unit for key in series)) or ["norm"]
    figure = make_subplots(
        rows=2, cols=len(units), shared_xaxes=True, shared_yaxes=True, vertical_spacing=0.06, row_heights=[0.74, 0.26]
    )
    shaded = False
    for column, unit in enumerate(units, start=1):
        here = {key: cells for key, cells in series.items() if key.unit == unit}
        bank = [cell for key, cells in controls.items() if key.place in {k.place for k in here} for cell in cells]
        _control_band(figure, bank, zero, column)
        _control_dots(figure, bank, zero, column)
        for (key, cells), style in zip(here.items(), STYLES * len(here), strict=False):
            _dose_line(figure, key, _with_zero(cells, zero), style, column)
        dosed = [cell for cells in here.values() for cell in cells]
        _dose_axes(figure, dosed, bank, unit, column)
        shaded |= _shade_beyond(figure, results, dosed, column, named=shaded)
    if zero is not None and counted(zero)["value"] is not None:
        level = counted(zero)["value"]
        figure.add_shape(type="line", xref="x domain", x0=0, x1=1, y0=level, y1=level, row=1, col="all", line=DOTTED)
    figure.update_yaxes(tickformat=".0%", range=[-0.04, 1.06])
    figure.update_yaxes(title_text=f"{plain(event_of(results)).capitalize()} rate ({_counts(results)})", row=1, col=1)
    figure.update_yaxes(title_text="Coherent", row=2, col=1, tickvals=[0, 0.5, 1])
    return figure.update_layout(template=TEMPLATE, height=520)


def _with_zero(cells: Sequence[Mapping[str, Any]], zero: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """The doses with the baseline among them, unless a zero dose was run."""
    if zero is None or any(cell["strength"] == 0 for cell in cells):
        return list(cells)
    return sorted([*cells, {**zero, "strength": 0.0}], key=lambda cell: cell["strength"])


def _control_band(
    figure: go.Figure, bank: Sequence[Mapping[str, Any]], zero: Mapping[str, Any] | None, column: int
) -> None:
    """The range of the controls at each strength, closed on the baseline."""
    at: dict[float, list[float]] = {}
    for cell in bank:
        if (rate := paired_rate(cell, zero)) is not None:
            at.setdefault(cell["strength"], []).append(rate)
    if not at:
        return
    n = max(map(len, at.values()))
    if zero is not None and counted(zero)["value"] is not None:
        at.setdefault(0.0, [counted(zero)["value"]])
    x = sorted(at)
    figure.add_scatter(
        x=x + x[::-1],
        y=[max(at[s]) for s in x] + [min(at[s]) for s in x[::-1]],
        fill="toself",
        fillcolor=BAND_FILL,
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        legendgroup="controls",
        name=f"range of {n} controls",
        showlegend=column == 1,
        row=1,
        col=column,
    )


def paired_rate(cell: Mapping[str, Any], zero: Mapping[str, Any] | None) -> float | None:
    """The baseline's rate plus the cell's paired change.

    A control has fewer rollouts than the baseline, so its own rate also says which of them were drawn; its change
    against the same rollouts does not. Its own rate where there is no such change; None where it is undefined.
    """
    contrast = cell.get("contrast")
    if contrast is None or contrast["difference"] is None or zero is None or counted(zero)["value"] is None:
        return counted(cell)["value"]
    return counted(zero)["value"] + contrast["difference"]


def _control_dots(
    figure: go.Figure, bank: Sequence[Mapping[str, Any]], zero: Mapping[str, Any] | None, column: int
) -> None:
    figure.add_scatter(
        x=[cell["strength"] for cell in bank],
        y=[paired_rate(cell, zero) for cell in bank],
        mode="markers",
        marker={"color": GREY, "size": 5, "opacity": 0.5},
        legendgroup="controls",
        text=[_dose_text(cell) for cell in bank],
        hovertemplate="%{text}<extra></extra>",
        name="one control",
        showlegend=False,
        row=1,
        col=column,
    )


def _dose_line(
    figure: go.Figure, key: Series, cells: Sequence[Mapping[str, Any]], style: tuple[str, str], column: int
) -> None:
    colour, dash = style
    x, text = [cell["strength"] for cell in cells], [_dose_text(cell) for cell in cells]
    marker = {"color": colour, "size": 9, "symbol": ["circle" if _coherent(c) else "circle-open" for c in cells]}
    name = plain(f"{key.direction} at {', '.join(site.removesuffix('.resid_post') for site in key.sites)}")
    line = {"color": colour, "dash": dash, "width": 2}
    figure.add_scatter(
        x=[None],
        y=[None],
        mode="lines+markers",
        name=name,
        legendgroup=name,
        line=line,
        marker={"color": colour, "size": 9},
        row=1,
        col=column,
    )
    for row, measure in ((1, event_of(cells[0])), (2, "coherent")):
        figure.add_scatter(
            x=x,
            y=[cell[measure]["value"] for cell in cells],
            error_y=interval_bars(cells, measure, colour),
            mode="lines+markers",
            marker=marker,
            line=line,
            name=name,
            legendgroup=name,
            showlegend=False,
            text=text,
            hovertemplate="%{text}<extra></extra>",
            row=row,
            col=column,
        )


def _dose_axes(
    figure: go.Figure, cells: Sequence[Mapping[str, Any]], bank: Sequence[Mapping[str, Any]], unit: str, column: int
) -> None:
    """An axis symmetric about zero, and the shade over incoherent doses."""
    levels = sorted({0.0, *(cell["strength"] for cell in [*cells, *bank])})
    reach = 1.1 * max(map(abs, levels)) or 1.0
    figure.update_xaxes(range=[-reach, reach], col=column)
    figure.update_xaxes(title_text=f"Strength ({UNIT_NAMES.get(unit, unit)})", row=2, col=column)
    edges = [-reach, *((a + b) / 2 for a, b in zip(levels, levels[1:], strict=False)), reach]
    broken = {cell["strength"] for cell in cells if not _coherent(cell)}
    for level, left, right in zip(levels, edges, edges[1:], strict=False):
        if level in broken:
            for row in (1, 2):
                figure.add_shape(
                    type="rect",
                    x0=left,
                    x1=right,
                    yref="y domain",
                    y0=0,
                    y1=1,
                    row=row,
                    col=column,
                    fillcolor=GREY,
                    opacity=0.14,
                    line_width=0,
                    layer="below",
                    name="incoherent",
                )


def _shade_beyond(
    figure: go.Figure, results: Mapping[str, Any], cells: Sequence[Mapping[str, Any]], column: int, *, named: bool
) -> bool:
    """The shade over what is outside the calibrated range, and its name in the legend; whether there is any."""
    within = next((found for cell in cells if (found := calibrated(results, cell)) is not None), None)
    if within is None:
        return False
    left, right = next(figure.select_xaxes(row=1, col=column)).range
    sides = [(start, stop) for start, stop in ((left, within[0]), (within[1], right)) if start < stop]
    look = {"fillcolor": ORANGE, "opacity": 0.16, "line_width": 0, "layer": "below", "name": BEYOND}
    for start, stop in sides:
        for row in (1, 2):
            place = {"x0": start, "x1": stop, "yref": "y domain", "y0": 0, "y1": 1, "row": row, "col": column}
            figure.add_shape(type="rect", **place, **look)
    if sides and not named:
        marker = {"color": ORANGE, "size": 11, "symbol": "square", "opacity": 0.4}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=BEYOND, marker=marker, row=1, col=column)
    return bool(sides)


def _coherent(cell: Mapping[str, Any]) -> bool:
    return cell["coherent"]["value"] is not None and cell["coherent"]["value"] >= MIN_COHERENCE


def _dose_text(cell: Mapping[str, Any]) -> str:
    return (
        f"<b>{plain(cell['condition'])}</b><br>{plain(event_of(cell))} {describe(counted(cell))}"
        f"<br>coherent {percent(cell['coherent']['value'])}"
    )


def _counts(results: Mapping[str, Any]) -> str:
    found = sorted({cell["n"] for cell in results["cells"] if cell["role"] != "control"})
    return f"n = {found[0]}" if len(found) == 1 else f"n = {found[0]} to {found[-1]}" if found else "n = 0"
