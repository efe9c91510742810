"""Figures from tables: each takes what a run folder holds and returns a Plotly figure, never shown.

Text from transcripts and names of conditions enter a figure as text: Plotly's own little markup in them is
shown, not obeyed. Lines differ by dash as well as by colour.
"""

from interp.plots.arms import control_ranks, outcome_ladder, outcome_rows
from interp.plots.doses import Series, baseline, dose_response, doses
from interp.plots.event_locked import event_locked_figure
from interp.plots.layers import layer_sweep
from interp.plots.still import write_still
from interp.plots.style import counted, describe, event_of, percent, plain, use_in_notebooks
from interp.plots.tokens import trace_figure

__all__ = [
    "Series",
    "baseline",
    "control_ranks",
    "counted",
    "describe",
    "dose_response",
    "doses",
    "event_locked_figure",
    "event_of",
    "layer_sweep",
    "outcome_ladder",
    "outcome_rows",
    "percent",
    "plain",
    "trace_figure",
    "use_in_notebooks",
    "write_still",
]
