import json

import numpy as np
import plotly.graph_objects as go
import pytest

from interp import behaviour
from interp.plots import control_ranks, dose_response, doses, layer_sweep, outcome_ladder, outcome_rows, trace_figure
from interp.plots.arms import OUTCOMES
from interp.plots.style import BAND_FILL, STYLES, plain, styles
from interp.plots.tokens import colour_limit
from interp.tokens import Span
from interp.traces import TokenTrace

HOSTILE = "<a href='http://evil.example'>x</a>\u202e"


def rate(value, trials=40, ungraded=0):
    low, high = (None, None) if value is None else (max(value - 0.1, 0), min(value + 0.1, 1))
    successes = 0 if value is None else round(value * trials)
    return {
        "successes": successes,
        "trials": 0 if value is None else trials,
        "ungraded": ungraded,
        "value": value,
        "low": low,
        "high": high,
    }


def cell(name, role, value, strength=None, direction="desperation", unit="norm", coherent=1.0, kind="add"):
    edit = {"kind": None, "direction": None, "strength": None, "unit": None, "sites": [], "scope": None}
    if role != "baseline":
        edit = {
            "kind": kind,
            "direction": direction,
            "strength": strength,
            "unit": unit,
            "sites": ["L2.resid_post"],
            "scope": "all",
        }
    contrast = {
        "difference": (value or 0) - 0.5,
        "low": (value or 0) - 0.6,
        "high": (value or 0) - 0.4,
        "p_value": 0.01,
        "n": 40,
        "method": "paired",
    }
    counted = {"blackmail": round((value or 0) * 40), "routine": 30 - round((value or 0) * 30)}
    return edit | {
        "condition": name,
        "role": role,
        "raw_strength": strength,
        "n": 40,
        "outcomes": counted,
        "blackmail": rate(value),
        "coherent": rate(coherent),
        "kl": None,
        "contrast": None if role == "baseline" else contrast,
    }


def arm(name, strength, value):
    controls = [f"{name} | random:{i}" for i in range(3)]
    rank = {
        "real": value - 0.5,
        "controls": [-0.02, 0.0, 0.03],
        "rank": 1,
        "percentile": 0.0,
        "p_value": 0.25,
        "floor": 0.25,
    }
    return {
        "name": name,
        "kind": "add",
        "strength": strength,
        "unit": "norm",
        "sites": ["L2.resid_post"],
        "treatment": f"{name} | desperation",
        "controls": controls,
        "rank": rank,
        "alternative": "less",
    }


def results():
    cells, arms = [cell("baseline", "baseline", 0.5)], []
    for strength, value, coherent in ((-2.0, 0.1, 0.7), (-1.0, 0.2, 1.0), (1.0, 0.8, 0.96)):
        one = arm(f"add {strength:+g}", strength, value)
        arms.append(one)
        cells.append(cell(one["treatment"], "treatment", value, strength, coherent=coherent))
        cells += [
            cell(name, "control", 0.5 + spread, strength, f"random:{i}")
            for i, (name, spread) in enumerate(zip(one["controls"], (-0.02, 0, 0.03), strict=True))
        ]
    return {"cells": cells, "arms": arms}


def named(figure, text):
    return [line for line in figure.data if line.name and text in line.name]


def test_the_dose_line_passes_through_the_baseline_with_the_intervals_of_the_rates():
    line = next(d for d in named(dose_response(results()), "desperation") if len(d.x) > 1)
    assert list(line.x) == [-2, -1, 0, 1]
    assert list(line.y) == [0.1, 0.2, 0.5, 0.8]
    assert np.allclose(line.error_y.array, 0.1) and np.allclose(line.error_y.arrayminus, 0.1)


def test_the_dose_axis_is_symmetric_about_zero_and_names_its_unit():
    axis = dose_response(results()).layout.xaxis2
    assert axis.range[0] == -axis.range[1] < -2
    assert "norm" in axis.title.text


def test_the_band_runs_from_the_lowest_to_the_highest_control_and_closes_on_the_baseline():
    band, dots = named(dose_response(results()), "control")
    edges = {x: sorted(y for at, y in zip(band.x, band.y, strict=True) if at == x) for x in set(band.x)}
    assert edges[-1] == [0.48, 0.53] and edges[0] == [0.5, 0.5]
    assert len(dots.x) == 9 and "3 controls" in band.name


def test_incoherent_doses_are_shaded_and_hollow_and_coherent_ones_are_not():
    figure = dose_response(results())
    shades = [shape for shape in figure.layout.shapes if shape.name == "incoherent"]
    assert {(shape.x0 <= -2 <= shape.x1, shape.x0 <= -1 <= shape.x1) for shape in shades} == {(True, False)}
    line = next(d for d in named(figure, "desperation") if len(d.x) > 1)
    assert list(line.marker.symbol) == ["circle-open", "circle", "circle", "circle"]


def test_an_undefined_rate_leaves_a_gap_and_not_a_zero():
    broken = results()
    broken["cells"][1] = cell(broken["arms"][0]["treatment"], "treatment", None, -2.0)
    line = next(d for d in named(dose_response(broken), "desperation") if len(d.x) > 1)
    assert line.y[0] is None and line.y[1] == 0.2


def test_units_do_not_share_an_axis():
    mixed = results()
    mixed["cells"].append(cell("add +0.1 resid", "treatment", 0.6, 0.1, unit="resid"))
    figure = dose_response(mixed)
    assert [key.unit for key in doses(mixed)] == ["norm", "resid"]
    assert "residual norm" in figure.layout.xaxis4.title.text


def test_other_edits_are_no_doses():
    mixed = results()
    mixed["cells"].append(cell("ablate", "treatment", 0.1, 1.0, kind="ablate", unit="fraction"))
    assert len(dose_response(mixed).data) == len(dose_response(results()).data)


def test_each_arm_stands_beside_its_own_controls_with_its_rank():
    figure = control_ranks(results())
    real = named(figure, "the direction")
    assert np.allclose([d.x[0] for d in real], [-0.4, -0.3, 0.3])
    assert [len(d.x) for d in named(figure, "control")] == [3, 3, 3]
    assert [note.text for note in figure.layout.annotations] == ["rank 1 of 4, p = 0.250"] * 3
    assert np.allclose(real[0].error_x.array, 0.1)


def test_a_change_stands_with_its_own_interval_and_the_ranked_one_is_drawn_apart():
    """Controls with fewer rollouts: the rank is over the shared ones, the interval over all."""
    fewer = results()
    fewer["arms"][0]["rank"] |= {"real": -0.65}
    drawn = named(control_ranks(fewer), "the direction")
    solid, hollow = [[d for d in drawn if d.marker.symbol == symbol] for symbol in ("diamond", "diamond-open")]
    assert np.allclose([d.x[0] for d in solid], [-0.4, -0.3, 0.3]) and [d.x[0] for d in hollow] == [-0.65]
    assert np.allclose(solid[0].error_x.arrayminus, 0.1) and hollow[0].error_x.array is None
    assert "rollouts that controls have too" in hollow[0].name and hollow[0].showlegend


def test_an_arm_without_a_rank_says_so():
    broken = results()
    broken["arms"][0]["rank"] = None
    figure = control_ranks(broken)
    assert len(named(figure, "the direction")) == 2
    assert "undefined" in figure.layout.annotations[0].text
    assert [d.showlegend for d in named(figure, "the direction")] == [True, False]


def test_every_reply_is_in_the_ladder_once_ungraded_ones_too():
    rows = outcome_rows(results())
    assert [sum(counts.values()) for _, counts in rows] == [40, 40, 120, 40, 120, 40, 120]
    figure = outcome_ladder(results())
    assert np.allclose(np.sum([bar.x for bar in figure.data], axis=0), 1)
    assert [bar.name for bar in figure.data] == ["blackmail", "routine", "ungraded"]


@pytest.mark.parametrize("scale", [behaviour.LADDER, behaviour.SCALE], ids=["embedded world", "full ladder"])
def test_a_ladder_has_a_look_for_every_outcome_in_order_and_no_two_are_alike(scale):
    wanted = [*scale, *behaviour.BROKEN, "ungraded"]
    looks = {name: look for name, look in OUTCOMES.items() if name in wanted}
    assert [*looks] == wanted and len(set(looks.values())) == len(wanted)


def probe_rows():
    return [
        {
            "site": f"L{layer}.resid_post",
            "layer": layer,
            "method": method,
            "auroc": 0.6 + 0.1 * layer,
            "low": 0.55 + 0.1 * layer,
            "high": 0.65 + 0.1 * layer,
            "null_low": low,
            "null_high": 0.58,
            "p_value": 0.01,
            "n": 200,
        }
        for method, low in (("means", 0.43), ("logistic", 0.41))
        for layer in range(3)
    ]


def test_the_sweep_has_a_line_with_intervals_for_each_method_over_the_widest_null():
    figure = layer_sweep(probe_rows())
    band, *lines = figure.data
    assert min(band.y) == 0.41 and max(band.y) == 0.58
    assert [line.name for line in lines] == ["means", "logistic"]
    assert np.allclose(lines[0].error_y.array, 0.05)
    assert "n = 200" in figure.layout.yaxis.title.text


def test_a_sweep_without_a_null_has_no_band():
    rows = [row | {"null_low": None, "null_high": None} for row in probe_rows()]
    assert [line.name for line in layer_sweep(rows).data] == ["means", "logistic"]


def token_trace(peak, name="blackmail", pieces=("", "Hello", " <b>", "\u202e")):
    scores = np.asarray([[np.nan, 0.5, peak, -1.0], [np.nan, 0.0, 0.1, 0.2]], dtype=np.float32)
    band = np.asarray([[np.nan, 1.0, 1.1, 1.2]], dtype=np.float32)
    spans = (Span("role", "user", 0, 1, 2), Span("role", "assistant", 1, 2, 4))
    return TokenTrace(
        name,
        "g",
        name,
        pieces,
        spans,
        2,
        ("fear@L2.resid_post", "calm@L2.resid_post"),
        scores,
        ("L2.resid_post",),
        -band,
        band,
        100,
    )


def test_a_trace_shows_raw_and_smoothed_scores_the_band_and_one_colour_scale():
    traces = [token_trace(7.0), token_trace(1.0, "benign")]
    figure = trace_figure(traces, window=1)
    strips = [d for d in figure.data if d.type == "heatmap"]
    bands = [d for d in figure.data if d.type == "scatter" and d.fillcolor == BAND_FILL]
    smooth = [d for d in figure.data if d.type == "scatter" and d.meta == 0]
    assert len(strips) == len(bands) == 2
    assert strips[0].z[0][0] is None and strips[0].z[0][2] == 7.0
    assert list(smooth[0].y[1:]) == [0.5, 7.0, -1.0]
    colours = figure.layout.coloraxis
    assert colours.cmid == 0 and -colours.cmin == colours.cmax == colour_limit(traces) > 2
    assert figure.layout.yaxis2.range == figure.layout.yaxis4.range
    assert [note.text for note in figure.layout.annotations] == ["user", "assistant"] * 2


def test_a_direction_can_be_chosen_and_nothing_marks_a_calm_trace():
    figure = trace_figure([token_trace(1.0)], ["calm"])
    assert [d.y[0] for d in figure.data if d.type == "heatmap"] == ["calm"]
    assert colour_limit([token_trace(1.0)]) == 2.0


@pytest.mark.parametrize(
    "figure",
    [
        dose_response(results()),
        control_ranks(results()),
        outcome_ladder(results()),
        layer_sweep(probe_rows()),
        trace_figure([token_trace(3.0)]),
    ],
)
def test_figures_are_returned_small_readable_and_titled(figure):
    assert isinstance(figure, go.Figure)
    assert len(figure.to_json()) < 20_000
    assert figure.layout.template.layout.font.size >= 12
    assert any(axis.title.text for axis in figure.select_xaxes())


def test_lines_of_a_figure_differ_by_dash_and_by_colour():
    assert len({colour for colour, _ in STYLES}) == len({dash for _, dash in STYLES}) == len(STYLES)
    assert styles(6) == list(STYLES) and len(set(styles(12))) == 12, "more lines than colours still differ"
    lines = layer_sweep(probe_rows()).data[1:]
    assert lines[0].line.dash != lines[1].line.dash and lines[0].line.color != lines[1].line.color


def test_hostile_names_and_tokens_are_shown_and_not_obeyed():
    evil = json.loads(json.dumps(results()).replace("desperation", HOSTILE))
    traces = [token_trace(3.0, HOSTILE, ("", "<img src=x>", "</script>", HOSTILE))]
    for figure in (dose_response(evil), control_ranks(evil), outcome_ladder(evil), trace_figure(traces)):
        shown = json.dumps(json.loads(figure.to_json()), ensure_ascii=False)
        assert not [mark for mark in ("<a ", "<img", "</script", "\u202e") if mark in shown]
        assert figure.layout.height < 1000
    assert plain(HOSTILE) == "&lt;a href='http://evil.example'&gt;x&lt;/a&gt;⟨U+202E⟩"
    assert plain("a" * 60).endswith("…")
