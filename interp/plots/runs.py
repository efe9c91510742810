"""Several runs side by side: what each arm changed in each of them, beside that run's own controls."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from interp.plots.style import DOTTED, GREY, TEMPLATE, event_of, percent, plain, styles

SYMBOLS = ("diamond", "circle", "square", "triangle-up", "x", "star")


def changes_by_run(runs: Mapping[str, Mapping[str, Any]]) -> go.Figure:
    """The paired change under every arm (symbols, with their intervals), a row for each run that has the arm.

    The grey line runs from the lowest to the highest control of the same arm in the same run. Arms that share a name
    stand together; an arm whose rate is undefined has no symbol.
    """
    names = list(dict.fromkeys(arm["name"] for results in runs.values() for arm in results["arms"]))
    rows = [(name, run) for name in names for run in runs if any(a["name"] == name for a in runs[run]["arms"])]
    figure = go.Figure()
    for index, (run, (colour, _)) in enumerate(zip(runs, styles(len(runs)), strict=True)):
        places = [(row, _arm(runs[run], name)) for row, (name, of) in enumerate(rows) if of == run]
        known = [(row, arm) for row, arm in places if arm["rank"] is not None]
        _reach(figure, known, first=index == 0)
        _changes(figure, run, runs[run], known, {"color": colour, "size": 11, "symbol": SYMBOLS[index % len(SYMBOLS)]})
    figure.add_vline(0, line=DOTTED)
    event = plain(event_of(next(iter(runs.values()))))
    figure.update_xaxes(title_text=f"Change of the {event} rate against the run's own baseline, in points")
    figure.update_xaxes(tickformat="+.0%")
    figure.update_yaxes(
        tickvals=list(range(len(rows))),
        ticktext=[f"{plain(name)} · {plain(run, 24)}" for name, run in rows],
        range=[len(rows) - 0.4, -0.6],
        showgrid=False,
    )
    return figure.update_layout(template=TEMPLATE, height=130 + 30 * max(len(rows), 2))


def _arm(results: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return next(arm for arm in results["arms"] if arm["name"] == name)


def _reach(figure: go.Figure, arms: Sequence[tuple[int, Mapping[str, Any]]], *, first: bool) -> None:
    """A thick grey line over what the controls of each arm reach."""
    banks = [(row, arm["rank"]["controls"]) for row, arm in arms if arm["rank"]["controls"]]
    figure.add_scatter(
        x=[x for _, bank in banks for x in (min(bank), max(bank), None)],
        y=[y for row, _ in banks for y in (row, row, None)],
        mode="lines",
        line={"color": GREY, "width": 7},
        opacity=0.4,
        name="lowest to highest control",
        legendgroup="controls",
        showlegend=first,
        hoverinfo="skip",
    )


def _changes(
    figure: go.Figure,
    run: str,
    results: Mapping[str, Any],
    arms: Sequence[tuple[int, Mapping[str, Any]]],
    marker: Mapping[str, Any],
) -> None:
    contrasts = {cell["condition"]: cell["contrast"] or {} for cell in results["cells"]}
    found = [contrasts[arm["treatment"]] for _, arm in arms]
    values = [c.get("difference", arm["rank"]["real"]) for c, (_, arm) in zip(found, arms, strict=True)]
    ends = [(c.get("low"), c.get("high")) for c in found]
    figure.add_scatter(
        x=values,
        y=[row for row, _ in arms],
        mode="markers",
        name=plain(run, 24),
        marker=marker,
        error_x={
            "type": "data",
            "array": [None if high is None else max(0.0, high - x) for x, (_, high) in zip(values, ends, strict=True)],
            "arrayminus": [
                None if low is None else max(0.0, x - low) for x, (low, _) in zip(values, ends, strict=True)
            ],
            "color": marker["color"],
            "thickness": 1.4,
            "width": 4,
        },
        text=[
            f"{plain(arm['name'])}, rank {arm['rank']['rank']} of {len(arm['rank']['controls']) + 1}" for _, arm in arms
        ],
        customdata=[f"{percent(low)} to {percent(high)}" for low, high in ends],
        hovertemplate="%{text}<br>change %{x:+.0%} (%{customdata})<extra></extra>",
    )
