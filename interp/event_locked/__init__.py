"""When does a direction rise, over many rollouts? Traces aligned at an event, with bands, twins, random directions.

One trace shows anything. The average over rollouts, beside the same average of benign twins and of random directions,
shows whether a direction rises before an event, and the test says how easily chance gives as much.
"""

from interp.event_locked.align import RANDOM
from interp.event_locked.average import (
    Average,
    Difference,
    EventLocked,
    RandomBand,
    WindowTest,
    event_locked,
)
from interp.event_locked.events import EVENTS, find_event
from interp.event_locked.rollouts import middle_band_with_twins, replies, trace_many, trace_replies
from interp.event_locked.several import around_events, parse_window

__all__ = [
    "EVENTS",
    "RANDOM",
    "Average",
    "Difference",
    "EventLocked",
    "RandomBand",
    "WindowTest",
    "around_events",
    "event_locked",
    "find_event",
    "middle_band_with_twins",
    "parse_window",
    "replies",
    "trace_many",
    "trace_replies",
]
