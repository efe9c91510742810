"""Several events over one set of transcripts, which is traced once."""

from collections.abc import Sequence

from interp.directions import Direction
from interp.errors import ExperimentError
from interp.event_locked.average import WINDOW, EventLocked, event_locked
from interp.event_locked.rollouts import trace_many
from interp.models import Model
from interp.transcripts import Transcript


def around_events(
    model: Model,
    transcripts: Sequence[Transcript],
    direction: Direction,
    reference: Sequence[Transcript],
    events: Sequence[str],
    *,
    twins: Sequence[Transcript] | None = None,
    window: tuple[int, int] = WINDOW,
    n_random: int = 100,
    seed: int = 0,
) -> list[EventLocked]:
    """The averages of one direction around each event, over transcripts that have their replies, with the test.

    Raises:
        ExperimentError, TranscriptError, DirectionError: as `event_locked` and `interp.trace`.
    """
    real = list(trace_many(model, transcripts, direction, reference, n_random=n_random, seed=seed))
    calm = None
    if twins is not None:
        calm = list(trace_many(model, twins, direction, reference, n_random=n_random, seed=seed))
    how = {"direction": direction.key, "window": window, "seed": seed}
    return [event_locked(real, event, twins=calm, **how) for event in events]


def parse_window(text: str) -> tuple[int, int]:
    """The first and last offset of `FIRST:LAST`.

    Raises:
        ExperimentError: it is something else.
    """
    try:
        first, last = text.split(":")
        return int(first), int(last)
    except ValueError:
        do = "write the first and the last offset, as in -10:-1"
        raise ExperimentError(f"testing the window {text!r}", "it is not FIRST:LAST", do) from None
