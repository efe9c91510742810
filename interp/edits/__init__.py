"""Edits of the residual stream: what each does to an activation, as pure functions of tensors and positions.

An edit along one direction is a map from the old projection to a new one (`shift`): adding, ablation, caps and floors.
An edit in the span of several directions is a map of the coordinates in it (`within`), and a rotation towards a
direction keeps every activation's length (`toward`). Each works on a batch whose rows are under different conditions.
"""

from interp.edits.edit import TOTALS, UNITS, Edit, Strength, When
from interp.edits.moves import Along, Toward, Within, shift, toward, within
from interp.edits.place import Gate, Placed, RowEdits, place
from interp.edits.scope import SCOPES, Scoped, in_reply, lacks, prompt_in_scope
from interp.edits.strength import Shift, level_of, quantile_meta, raw_strength, shift_of, with_quantiles

__all__ = [
    "SCOPES",
    "TOTALS",
    "UNITS",
    "Along",
    "Edit",
    "Gate",
    "Placed",
    "RowEdits",
    "Scoped",
    "Shift",
    "Strength",
    "Toward",
    "When",
    "Within",
    "in_reply",
    "lacks",
    "level_of",
    "place",
    "prompt_in_scope",
    "quantile_meta",
    "raw_strength",
    "shift",
    "shift_of",
    "toward",
    "with_quantiles",
    "within",
]
