"""Many rollouts around one event: their average, their benign twins', that of random directions, and the test."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.errors import ExperimentError
from interp.event_locked.align import Aligned, Window, align, refuse_other_scale
from interp.plots import event_locked_figure
from interp.sites import Site
from interp.stats.paired import SignFlip, mean_curve, sign_flip
from interp.stats.ranks import Alternative, ControlRank, control_rank
from interp.traces import BAND, UNITS, TokenTrace

ROUNDING = 1e-3
"""A difference of scenarios below this many z counts as 0: where texts are shared, it is what batching leaves."""
WINDOW = (-10, -1)
"""The tested offsets unless said otherwise: the ten tokens before the event. Fixed before anybody saw a curve."""
Curve = tuple[float | None, ...]
"""One value for each offset, None where it is undefined."""


@dataclass(frozen=True)
class Average:
    """Mean over scenarios at each offset, and its bootstrap band over scenarios, pointwise."""

    mean: Curve
    low: Curve
    high: Curve
    scenarios: tuple[int, ...]
    """Scenarios with a score at that offset."""
    rollouts: tuple[int, ...]
    """Rollouts with a score at that offset; the others end before it."""
    outside: tuple[int, ...]
    """Rollouts that have the event and no score at that offset."""
    without_event: tuple[str, ...]
    """Ids of the rollouts that lack the event and take no part."""


@dataclass(frozen=True)
class RandomBand:
    """The middle 95 % of random directions, each of them averaged as the direction was."""

    low: Curve
    high: Curve
    n: int


@dataclass(frozen=True)
class Difference:
    """Rollouts minus benign twins, scenario by scenario and then averaged; twins without a scenario take no part."""

    mean: Curve
    low: Curve
    high: Curve
    scenarios: tuple[int, ...]
    random: RandomBand | None


@dataclass(frozen=True)
class WindowTest:
    """Mean score in the window against the same window of the benign twins, by flipping signs of scenarios."""

    first: int
    last: int
    mean: float | None
    """Of the rollouts, over the scenarios compared."""
    twin_mean: float | None
    flip: SignFlip
    """The effect (its `mean`), its interval, p-value and floor; `n` counts the scenarios."""
    rank: ControlRank | None
    """Where the effect lies among those of the random directions; None without any."""
    incomplete: int
    """Rollouts without a score at some offset of the window, left out of the test."""
    twins_incomplete: int

    @property
    def sentence(self) -> str:
        """The test in words."""
        flip = self.flip
        where = f"offsets {self.first} to {self.last}"
        if flip.mean is None:
            return f"{where}: no scenario whose rollouts and twins both reach over all of it, so no test"
        told = f"{where}: rollouts minus twins {flip.mean:+.2f} z"
        if flip.p_value is None or flip.floor is None:
            return f"{told}, {flip.n} scenario: no test"
        if flip.interval:
            told += f" ({flip.interval.low:+.2f} to {flip.interval.high:+.2f})"
        told += f", {flip.n} scenarios, p {flip.p_value:.2g} (smallest possible {flip.floor:.2g})"
        if self.rank is None:
            return f"{told}; no random directions"
        return f"{told}; rank {self.rank.rank} of {len(self.rank.controls) + 1} with random directions"


@dataclass(frozen=True)
class EventLocked:
    """An event-locked average; the event's token has offset 0."""

    event: str
    direction: str
    """Key `name@site`."""
    offsets: tuple[int, ...]
    average: Average
    twins: Average | None
    """The benign twins' average; None without twins."""
    random: RandomBand | None
    """None where the traces hold no random directions."""
    difference: Difference | None
    unpaired: tuple[str, ...]
    """Scenarios without a twin that has the event, and twins' scenarios without a rollout; out of the test."""
    test: WindowTest | None
    level: float
    n_boot: int
    seed: int
    units: str = UNITS

    def to_dict(self) -> dict[str, Any]:
        """The plain JSON form, with the test's `sentence`; None where a value is undefined."""
        plain = asdict(self)
        if self.test:
            plain["test"]["sentence"] = self.test.sentence
        return plain

    def to_frame(self) -> pd.DataFrame:
        """One row for each offset; NaN where a value is undefined."""
        columns: dict[str, Sequence[Any]] = {"offset": self.offsets} | _columns("", self.average)
        columns |= _columns("twin_", self.twins) | _columns("random_", self.random)
        if self.difference:
            columns |= _columns("difference_", self.difference)
            columns |= _columns("difference_random_", self.difference.random)
        return pd.DataFrame(columns)

    def figure(self) -> Any:
        """A Plotly figure, not shown: the averages with their bands and, below, the difference with the test."""
        return event_locked_figure(self.to_dict())


def _columns(prefix: str, part: Average | RandomBand | Difference | None) -> dict[str, Sequence[Any]]:
    """The curves and counts of a part as columns."""
    values = {name: value for name, value in vars(part).items() if isinstance(value, tuple)} if part else {}
    return {
        f"{prefix}{name}": [np.nan if item is None else item for item in value]
        for name, value in values.items()
        if name != "without_event"
    }


def event_locked(
    traces: Iterable[TokenTrace],
    event: str,
    *,
    twins: Iterable[TokenTrace] | None = None,
    direction: str | None = None,
    site: Site | str | None = None,
    before: int = 40,
    after: int = 20,
    window: tuple[int, int] = WINDOW,
    alternative: Alternative = "two-sided",
    level: float = 0.95,
    n_boot: int = 2000,
    seed: int = 0,
) -> EventLocked:
    """Average traces around an event, beside their benign twins and random directions, and test the window before it.

    `event` is a name of `EVENTS`, a segment, a position rule or `regex:PATTERN` (`find_event`). Traces and twins may
    be streams. A twin belongs to the scenario whose `group` it carries. Rows of the traces called `random:...` at the
    direction's site are the random directions; each is averaged and tested just as the direction is.

    Every scenario counts once: its rollouts are averaged first, then the scenarios. Bands and interval resample
    scenarios, never tokens; the test flips the signs of paired differences of scenarios. A rollout without the event
    is named, a token outside a transcript counted; neither is a 0. The test takes rollouts with a score at the whole
    `window` (first and last offset), which must be chosen before the curve is seen.

    Guarantees (tests): a planted bump is found and peaks where it was planted; on noise the test rejects at its
    level; copies of a rollout change nothing; where twins share a text, the difference is exactly 0.

    Raises:
        ExperimentError: no traces, no scenario in common with the twins, a window outside the offsets, or scores on
            different scales.
        TranscriptError: no trace, or no twin, has the event.
        DirectionError: a trace lacks the direction.
    """
    around = Window(before, after, *window)
    key = f"{direction}@{site}" if direction and site else direction
    real = align(traces, event, key, around)
    calm = None if twins is None else align(twins, event, real.keys[0], around)
    draws = {"seed": seed, "n_resamples": n_boot, "level": level}
    pairs = _pairs(real, calm) if calm else []
    return EventLocked(
        event,
        real.keys[0],
        tuple(range(-before, after + 1)),
        _average(real, draws),
        _average(calm, draws) if calm else None,
        _random(real.means),
        _difference(real, calm, pairs, draws) if calm else None,
        tuple(sorted(set(real.scenarios) ^ set(calm.scenarios))) if calm else (),
        _test(real, calm, pairs, around, alternative, draws) if calm else None,
        level,
        n_boot,
        seed,
    )


def _pairs(real: Aligned, calm: Aligned) -> list[tuple[int, int]]:
    """Rows of the scenarios that have both."""
    places = {name: row for row, name in enumerate(calm.scenarios)}
    pairs = [(row, places[name]) for row, name in enumerate(real.scenarios) if name in places]
    if not pairs:
        raise ExperimentError(
            f"comparing {len(real.scenarios)} scenarios with their benign twins",
            f"no group in common, such as {real.scenarios[0]!r} against {calm.scenarios[0]!r}",
            "give every twin the group of the scenario that it is the twin of",
        )
    if real.keys != calm.keys:
        raise ExperimentError(
            "comparing with benign twins", "they have other random directions", "trace both with the same directions"
        )
    refuse_other_scale("the rollouts", real.scale, "their twins", calm.scale)
    return pairs


def _average(found: Aligned, draws: dict[str, Any]) -> Average:
    mean, low, high = map(_curve, mean_curve(found.means[:, 0], **draws))
    scenarios = (~np.isnan(found.means[:, 0])).sum(axis=0)
    return Average(
        mean,
        low,
        high,
        tuple(scenarios.tolist()),
        tuple(found.counts.tolist()),
        tuple((found.rollouts - found.counts).tolist()),
        found.without_event,
    )


def _random(means: Float[np.ndarray, "scenario probe offset"]) -> RandomBand | None:
    """Percentiles over random directions of their averages over scenarios."""
    if means.shape[1] < 2:
        return None
    known = ~np.isnan(means[:, 0]).all(axis=0)
    band = np.full((2, means.shape[2]), np.nan)
    band[:, known] = np.percentile(np.nanmean(means[:, 1:, known], axis=0), BAND, axis=0)
    return RandomBand(_curve(band[0]), _curve(band[1]), means.shape[1] - 1)


def _difference(real: Aligned, calm: Aligned, pairs: list[tuple[int, int]], draws: dict[str, Any]) -> Difference:
    rows, others = map(list, zip(*pairs, strict=True))
    change = _beyond_rounding(real.means[rows] - calm.means[others])
    known = (~np.isnan(change[:, 0])).sum(axis=0)
    mean, low, high = map(_curve, mean_curve(change[:, 0], **draws))
    return Difference(mean, low, high, tuple(known.tolist()), _random(change))


def _test(
    real: Aligned,
    calm: Aligned,
    pairs: list[tuple[int, int]],
    around: Window,
    alternative: Alternative,
    draws: dict[str, Any],
) -> WindowTest:
    rows, others = map(list, zip(*pairs, strict=True))
    sides = np.stack([real.windows[rows], calm.windows[others]])
    sides = sides[:, ~np.isnan(sides[:, :, 0]).any(axis=0)]
    change = _beyond_rounding(sides[0] - sides[1])
    effects = change.mean(axis=0) if len(change) else np.zeros(1)
    flip = sign_flip(change[:, 0], alternative=alternative, **draws)
    mean, twin_mean = (float(side[:, 0].mean()) if len(change) else None for side in sides)
    ranked = len(change) > 0 and len(effects) > 1
    rank = control_rank(float(effects[0]), effects[1:], alternative=alternative) if ranked else None
    return WindowTest(around.first, around.last, mean, twin_mean, flip, rank, real.incomplete, calm.incomplete)


def _beyond_rounding(change: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    return np.where(np.abs(change) < ROUNDING, 0.0, change)


def _curve(values: Float[np.ndarray, " offset"]) -> Curve:
    return tuple(None if np.isnan(value) else float(value) for value in values)
