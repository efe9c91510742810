"""What the arms of an experiment did: their ranks among controls, and every outcome."""

from collections.abc import Iterable, Mapping
from typing import Any

import plotly.graph_objects as go

from interp.plots.doses import BEYOND, is_beyond
from interp.plots.style import BLUE, DOTTED, GREEN, GREY, ORANGE, PURPLE, SKY, TEMPLATE, VERMILLION, event_of, plain

OUTCOMES = {
    "blackmail": (VERMILLION, ""),
    "explicit threat": (VERMILLION, ""),
    "implied threat": (VERMILLION, "/"),
    "disclosure": (ORANGE, "/"),
    "planned": (ORANGE, "."),
    "mentioned": (ORANGE, ""),
    "plead": (PURPLE, ""),
    "appeal": (SKY, "\\"),
    "resistance": (PURPLE, "\\"),
    "comply": (BLUE, ""),
    "compliance": (BLUE, ""),
    "routine": (GREEN, "x"),
    "refusal": (GREEN, "+"),
    "incoherent": (GREY, "-"),
    "truncated": ("#5A5A5A", "|"),
    "ungraded": ("#FFFFFF", "+"),
}
"""Both ladders, worst first, with colour and pattern; what is on neither is drawn like `ungraded`."""


_SHADE = {"fillcolor": ORANGE, "opacity": 0.16, "line_width": 0, "layer": "below"}
_FRAME = {"line": {"color": ORANGE, "width": 2}}


def control_ranks(results: Mapping[str, Any]) -> go.Figure:
    """Each arm's change of the event's rate (diamond, with its interval) beside those of its controls.

    Where controls have fewer rollouts than the arm, a hollow diamond is its change over the rollouts that they share:
    that is the one that was ranked. An arm whose rank is undefined has no points, and says so. The row of a dose
    outside the calibrated range is shaded, if the results hold a range.
    """
    arms, figure = results["arms"], go.Figure()
    cells = {cell["condition"]: cell for cell in results["cells"]}
    first = next((arm for arm in arms if arm["rank"] is not None), None)
    for index, arm in enumerate(arms):
        figure.add_annotation(
            text=_rank_text(arm["rank"]),
            x=1.01,
            xref="paper",
            xanchor="left",
            y=index,
            showarrow=False,
            font={"size": 12},
        )
        if arm["rank"] is not None:
            _bank(figure, index, arm, first=arm is first)
            _real(figure, index, arm, cells[arm["treatment"]]["contrast"])
    _mark_beyond(figure, [is_beyond(results, cells[arm["treatment"]]) for arm in arms], _SHADE, "square")
    figure.add_vline(0, line=DOTTED)
    figure.update_xaxes(
        title_text=f"Change of the {plain(event_of(results))} rate against the baseline, in points", tickformat="+.0%"
    )
    figure.update_yaxes(
        tickvals=list(range(len(arms))),
        ticktext=[plain(arm["name"]) for arm in arms],
        range=[len(arms) - 0.4, -0.6],
        showgrid=False,
    )
    return figure.update_layout(template=TEMPLATE, height=120 + 44 * max(len(arms), 1), margin_r=150)


def _mark_beyond(figure: go.Figure, beyond: list[bool], look: Mapping[str, Any], symbol: str) -> None:
    """Mark the rows of doses outside the calibrated range, and say in the legend what the mark means."""
    for index in (row for row, outside in enumerate(beyond) if outside):
        place = {"x0": 0, "x1": 1, "xref": "paper", "y0": index - 0.45, "y1": index + 0.45}
        figure.add_shape(type="rect", **place, **look, name=BEYOND)
    if any(beyond):
        marker = {"color": ORANGE, "size": 11, "symbol": symbol, "opacity": look.get("opacity", 1) ** 0.5}
        figure.add_scatter(x=[None], y=[None], mode="markers", name=BEYOND, marker=marker)


def _bank(figure: go.Figure, index: int, arm: Mapping[str, Any], *, first: bool) -> None:
    """The controls' changes, spread evenly across the row so that equal ones do not hide each other."""
    changes = arm["rank"]["controls"]
    spread = [index + 0.6 * ((0.618 * i) % 1 - 0.5) for i in range(len(changes))]
    figure.add_scatter(
        x=changes,
        y=spread,
        mode="markers",
        name="one control",
        showlegend=first,
        marker={"color": GREY, "size": 6, "opacity": 0.55},
        text=[plain(name) for name in arm["controls"]],
        hovertemplate="%{text}<br>change %{x:+.0%}<extra></extra>",
    )


def _real(figure: go.Figure, index: int, arm: Mapping[str, Any], contrast: Mapping[str, Any] | None) -> None:
    """The change over all rollouts with its interval; hollow, the one that was ranked, where controls have fewer."""
    ranked, found = arm["rank"]["real"], contrast or {}
    change = found.get("difference")
    shown, low, high = (ranked if change is None else change, found.get("low"), found.get("high"))
    reach = None
    if low is not None and high is not None:
        reach = {
            "type": "data",
            "array": [max(0.0, high - shown)],
            "arrayminus": [max(0.0, shown - low)],
            "color": VERMILLION,
            "thickness": 1.4,
            "width": 4,
        }
    _diamond(figure, index, arm, shown, "the direction", {"symbol": "diamond", "size": 11}, reach)
    if abs(ranked - shown) > 1e-9:
        name = "the direction, on the rollouts that controls have too"
        _diamond(figure, index, arm, ranked, name, {"symbol": "diamond-open", "size": 9})


def _diamond(
    figure: go.Figure,
    index: int,
    arm: Mapping[str, Any],
    change: float,
    name: str,
    marker: Mapping[str, Any],
    reach: Mapping[str, Any] | None = None,
) -> None:
    """One diamond; a name stands in the legend once."""
    figure.add_scatter(
        x=[change],
        y=[index],
        mode="markers",
        name=name,
        legendgroup=name,
        error_x=reach,
        showlegend=name not in {getattr(line, "name", None) for line in figure.data},
        text=[plain(arm["treatment"])],
        marker={"color": VERMILLION, **marker},
        hovertemplate="%{text}<br>change %{x:+.0%}<extra></extra>",
    )


def _rank_text(rank: Mapping[str, Any] | None) -> str:
    if rank is None:
        return "no rank: a rate is undefined"
    return f"rank {rank['rank']} of {len(rank['controls']) + 1}, p = {rank['p_value']:.3f}"


def outcome_ladder(results: Mapping[str, Any]) -> go.Figure:
    """What became of the replies in each condition: stacked shares, worst outcome first.

    Below each arm stand the pooled replies under its controls. Rows of doses outside the calibrated range are
    framed, if the results hold a range.
    """
    rows, event = outcome_rows(results), event_of(results)
    known = {event: OUTCOMES["blackmail"], f"not {event}": OUTCOMES["comply"]} | OUTCOMES
    seen = [name for name in known if any(counts.get(name) for _, counts in rows)]
    seen += sorted({name for _, counts in rows for name in counts if name not in known and counts[name]})
    figure = go.Figure()
    for name in seen:
        colour, pattern = known.get(name, OUTCOMES["ungraded"])
        shares = [counts.get(name, 0) / max(sum(counts.values()), 1) for _, counts in rows]
        fill = {
            "shape": pattern,
            "fillmode": "overlay",
            "size": 6,
            "solidity": 0.2,
            "fgcolor": GREY if colour == "#FFFFFF" else "#FFFFFF",
            "fgopacity": 0.7,
        }
        figure.add_bar(
            x=shares,
            y=list(range(len(rows))),
            name=plain(name),
            orientation="h",
            customdata=[counts.get(name, 0) for _, counts in rows],
            width=[0.74 if own else 0.4 for own in _own(rows)],
            marker={"color": colour, "line": {"color": "#FFFFFF", "width": 0.6}, "pattern": fill},
            hovertemplate=f"{plain(name)}: %{{customdata}} (%{{x:.0%}})<extra></extra>",
        )
    _mark_beyond(figure, _beyond_rows(results), _FRAME, "square-open")
    labels = [f"{plain(name)}  (n = {sum(counts.values())})" for name, counts in rows]
    figure.update_xaxes(title_text="Share of replies", tickformat=".0%", range=[0, 1])
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=labels, range=[len(rows) - 0.4, -0.6], showgrid=False)
    return figure.update_layout(
        template=TEMPLATE, barmode="stack", height=130 + 25 * len(rows), legend_traceorder="normal"
    )


def _beyond_rows(results: Mapping[str, Any]) -> list[bool]:
    """For each of `outcome_rows`, whether it is a dose outside the calibrated range."""
    cells = {cell["condition"]: cell for cell in results["cells"]}
    found = [False for cell in results["cells"] if cell["role"] == "baseline"]
    for arm in results["arms"]:
        found += [is_beyond(results, cells[arm["treatment"]]), *([False] if arm["controls"] else [])]
    return found


def _own(rows: list[tuple[str, dict[str, int]]]) -> list[bool]:
    return [not name.startswith(_POOLED) for name, _ in rows]


_POOLED = "its controls"


def outcome_rows(results: Mapping[str, Any]) -> list[tuple[str, dict[str, int]]]:
    """Counts of outcomes, ungraded ones too: the baseline, then each arm followed by its pooled controls."""
    cells = {cell["condition"]: cell for cell in results["cells"]}
    rows = [(name, _outcomes([cell])) for name, cell in cells.items() if cell["role"] == "baseline"]
    for arm in results["arms"]:
        rows.append((arm["name"], _outcomes([cells[arm["treatment"]]])))
        if arm["controls"]:
            rows.append((_POOLED, _outcomes([cells[name] for name in arm["controls"]])))
    return rows


def _outcomes(cells: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for cell in cells:
        missing = max(cell["n"] - sum(cell["outcomes"].values()), 0)
        for name, count in [*cell["outcomes"].items(), ("ungraded", missing)]:
            total[name] = total.get(name, 0) + count
    return total
