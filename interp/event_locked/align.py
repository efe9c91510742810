"""Traces cut out around an event and summed up, scenario by scenario: what the averages and the test are made of."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from interp.errors import ExperimentError
from interp.event_locked.events import find_event, refuse_unknown
from interp.traces import TokenTrace

RANDOM = "random:"
"""Rows of a trace whose names begin so are random directions (`interp.directions.random_like` names them so)."""


@dataclass(frozen=True)
class Window:
    """Offsets from the event, its own token being 0: those that are shown, and those that are tested."""

    before: int
    after: int
    first: int
    last: int

    def __post_init__(self) -> None:
        if not -self.before <= self.first <= self.last <= self.after or min(self.before, self.after) < 0:
            raise ExperimentError(
                f"testing offsets {self.first} to {self.last} of -{self.before} to {self.after}",
                "the tested window is not within the shown one",
                "give before >= 0, after >= 0 and a window between them, such as (-10, -1)",
            )

    def __len__(self) -> int:
        return self.before + 1 + self.after

    @property
    def tested(self) -> slice:
        """The tested columns of the shown ones."""
        return slice(self.before + self.first, self.before + self.last + 1)


@dataclass(frozen=True, eq=False)
class Aligned:
    """Means over the rollouts of each scenario, NaN where none has a score. Row 0 is the direction, the rest random."""

    scenarios: tuple[str, ...]
    means: Float[np.ndarray, "scenario probe offset"]
    windows: Float[np.ndarray, "scenario probe"]
    """Means over the tested window, of the rollouts that have a score at all of it."""
    counts: Int[np.ndarray, " offset"]
    """Rollouts with a score at that offset."""
    rollouts: int
    """Rollouts with the event."""
    incomplete: int
    """Of these, rollouts with no score at some offset of the tested window."""
    without_event: tuple[str, ...]
    """Ids of the rollouts that lack the event."""
    keys: tuple[str, ...]
    """Key of each probe."""
    scale: tuple[float, float] | None
    """Mean and standard deviation that the direction's scores were put on; None where the traces do not say."""


class _Sums:
    """Running sums of one scenario, so that no rollout needs to be kept."""

    def __init__(self, probes: int, offsets: int) -> None:
        self.scores, self.known = np.zeros((probes, offsets)), np.zeros(offsets, dtype=np.int64)
        self.windows, self.complete = np.zeros(probes), 0

    def add(self, piece: Float[np.ndarray, "probe offset"], tested: slice) -> bool:
        """Take in one rollout; whether its tested window is complete."""
        known = ~np.isnan(piece[0])
        self.scores += np.where(known, piece, 0)
        self.known += known
        whole = bool(known[tested].all())
        if whole:
            self.windows += piece[:, tested].mean(axis=1)
            self.complete += 1
        return whole

    def means(self) -> Float[np.ndarray, "probe offset"]:
        """Mean score at each offset."""
        return np.where(self.known, self.scores / np.maximum(self.known, 1), np.nan)

    def window(self) -> Float[np.ndarray, " probe"]:
        """Mean over the tested window."""
        return self.windows / self.complete if self.complete else np.full(len(self.windows), np.nan)


def align(traces: Iterable[TokenTrace], event: str, key: str | None, window: Window) -> Aligned:
    """Cut every trace out around its event, and sum up by group; traces may be a stream, and none is kept.

    Raises:
        ExperimentError: there are no traces, or they differ in their random directions or in their scale.
        TranscriptError: no trace has the event; the message names the roles and segments there are.
        DirectionError: a trace lacks the direction.
    """
    sums, names, lacking = dict[str, _Sums](), set[str](), list[str]()
    first: TokenTrace | None = None
    keys = tuple[str, ...]()
    whole = found = 0
    for trace in traces:
        rows = probe_rows(trace, key)
        if first is None:
            first, keys = trace, tuple(trace.directions[row] for row in rows)
        _refuse_other(trace, rows, first, keys)
        position = find_event(trace, event)
        if position is None:
            lacking.append(trace.id)
            names |= {span.name for span in trace.spans}
            continue
        total = sums.setdefault(trace.group, _Sums(len(rows), len(window)))
        found += 1
        whole += total.add(cut_out(trace.scores[rows], position, window), window.tested)
    if first is None:
        raise ExperimentError(f"aligning at {event!r}", "no traces", "give at least one trace")
    if not sums:
        raise refuse_unknown(event, len(lacking), names)
    return Aligned(
        tuple(sums),
        np.stack([total.means() for total in sums.values()]),
        np.stack([total.window() for total in sums.values()]),
        np.sum([total.known for total in sums.values()], axis=0),
        found,
        found - whole,
        tuple(lacking),
        keys,
        _scale(first, keys[0]),
    )


def probe_rows(trace: TokenTrace, key: str | None) -> list[int]:
    """The row of the direction, and those of the random directions at its site."""
    row = trace.row(key)
    site = trace.directions[row].rpartition("@")[2]
    names = [found.rpartition("@") for found in trace.directions]
    return [row, *(i for i, (name, _, at) in enumerate(names) if name.startswith(RANDOM) and at == site and i != row)]


def cut_out(scores: Float[np.ndarray, "probe pos"], position: int, window: Window) -> Float[np.ndarray, "probe offset"]:
    """Scores from `before` tokens before the position to `after` behind it; NaN outside the transcript."""
    start, stop = position - window.before, position + window.after + 1
    inside = scores[:, max(start, 0) : max(stop, 0)]
    missing = (max(-start, 0), max(stop - scores.shape[1], 0))
    return np.pad(inside.astype(np.float64), ((0, 0), missing), constant_values=np.nan)


def _scale(trace: TokenTrace, key: str) -> tuple[float, float] | None:
    found = trace.reference.get("scale", {}).get(key)
    return (float(found["mean"]), float(found["sd"])) if found else None


def _refuse_other(trace: TokenTrace, rows: Sequence[int], first: TokenTrace, keys: tuple[str, ...]) -> None:
    if tuple(trace.directions[row] for row in rows) != keys:
        raise ExperimentError(
            f"averaging trace {trace.id!r} with {first.id!r}",
            "they have other random directions",
            "trace them with the same directions",
        )
    refuse_other_scale(trace.id, _scale(trace, keys[0]), first.id, _scale(first, keys[0]))


def refuse_other_scale(
    name: str, scale: tuple[float, float] | None, other: str, others: tuple[float, float] | None
) -> None:
    """Refuse scores in standard deviations of different benign transcripts."""
    if (scale is None) != (others is None) or not np.allclose(scale or (0, 1), others or (0, 1), rtol=1e-4, atol=1e-4):
        raise ExperimentError(
            f"comparing {name!r} with {other!r}",
            "their scores were scaled on other benign transcripts",
            "trace both with the same reference",
        )
