"""Does a direction read its concept, or a neighbour of it, or no more than that things are bad?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import ProbeError
from interp.probes.markdown import cell
from interp.probes.nulls import Groups
from interp.probes.random_directions import draw
from interp.stats import auroc, auroc_interval

Vector = Float[Tensor, " d_model"] | Float[np.ndarray, " d_model"]

N_RANDOM = 2000
_ROUNDING = 1e-6
"""A direction of which taking valence out leaves a smaller share was valence."""
VALENCE, NEGATIVE = "valence", "all negative emotions"
_SHOWN = 20
"""Rows of a table on the card; `card.json` has all."""


@dataclass(frozen=True)
class Likeness:
    """Cosine of a direction with one vector, beside that of random directions."""

    vector: str
    """An emotion, or "valence"."""
    cosine: float | None
    band: float | None
    """95 % of random directions that vary as stories do have a cosine with it of at most so much, in size."""


@dataclass(frozen=True)
class Against:
    """How well a direction tells stories of the concept from stories of one neighbour: 1/2 is not at all."""

    neighbour: str
    """An emotion, or "all negative emotions"."""
    auroc: float | None
    """Above 1/2: stories of the concept score higher."""
    low: float | None
    """Interval over groups at 95 %."""
    high: float | None
    without: float | None
    """The same after valence is taken out of the direction; None where that was not to be had."""
    without_low: float | None
    without_high: float | None
    n: int
    """Stories of the neighbour."""


@dataclass(frozen=True)
class Reading:
    """One direction among the neighbours of its concept."""

    direction: str
    held_out: bool
    """Whether its scores were handed in, by fits that had not seen a story's group; else stories are projected."""
    likenesses: tuple[Likeness, ...]
    against: tuple[Against, ...]
    """One per neighbour; last all negative emotions together, where it is known which they are."""
    confused: tuple[str, ...]
    """Neighbours from which it cannot be told: the interval reaches 1/2, and not for want of groups alone."""
    confused_without: tuple[str, ...] | None
    """Those from which it cannot be told once valence is taken out; None where that was not to be had."""
    verdict: str

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Reading":
        """What `dataclasses.asdict` wrote."""
        without = row["confused_without"]
        nested = {
            "likenesses": tuple(Likeness(**one) for one in row["likenesses"]),
            "against": tuple(Against(**one) for one in row["against"]),
            "confused": tuple(row["confused"]),
            "confused_without": None if without is None else tuple(without),
        }
        return cls(**{**row, **nested})


@dataclass(frozen=True)
class Neighbours:
    """Every direction of a concept among the concept's neighbours."""

    concept: str
    directions: tuple[Reading, ...]
    negative: tuple[str, ...]
    """The emotions that count as negative, without the concept."""
    n: int
    """Stories of the concept."""
    groups: int
    """Of all stories."""
    random: int
    """Random directions behind every band."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Neighbours":
        """What `dataclasses.asdict` wrote."""
        nested = {
            "directions": tuple(Reading.from_row(one) for one in row["directions"]),
            "negative": tuple(row["negative"]),
        }
        return cls(**{**row, **nested})


def valence_direction(
    vectors: Mapping[str, Vector], positive: Sequence[str], negative: Sequence[str], leave_out: Sequence[str] = ()
) -> Float[np.ndarray, " d_model"]:
    """The mean of the positive emotions' vectors minus that of the negative ones: it points to what is good.

    Leave out the concept, or taking valence out would take some of the concept out by construction.

    Raises:
        ProbeError: an emotion has no vector, or no emotion is left on one side.
    """
    sides = [[name for name in side if name not in leave_out] for side in (positive, negative)]
    missing = sorted({name for side in sides for name in side} - set(vectors))
    if missing or not all(sides):
        found = f"no vector of {', '.join(missing)}" if missing else "no emotion left on one side"
        raise ProbeError("making a valence direction", found, "name emotions that have vectors, some of either side")
    above, below = (np.mean([_array(vectors[name]) for name in side], axis=0) for side in sides)
    return above - below


def without(rows: Float[Tensor, "*shape d_model"], valence: Vector) -> Float[Tensor, "*shape d_model"]:
    """The rows (or directions) with nothing along valence; a zero valence changes nothing.

    Scoring rows by a direction without valence is scoring rows without valence by the direction, so held-out scores
    without valence are those of the same fits on these rows.
    """
    unit = torch.from_numpy(_unit(valence)).to(rows.device, rows.dtype)
    return rows - (rows @ unit)[..., None] * unit


def neighbours(
    directions: Mapping[str, Vector],
    concept: str,
    vectors: Mapping[str, Vector],
    *,
    valence: Vector | None,
    stories: Float[Tensor, "story d_model"],
    emotions: Sequence[str],
    groups: Groups,
    seed: int,
    scores: Mapping[str, Float[np.ndarray, " story"]] | None = None,
    scores_without: Mapping[str, Float[np.ndarray, " story"]] | None = None,
    negative: Sequence[str] | None = None,
    n_random: int = N_RANDOM,
) -> Neighbours:
    """Each direction's cosines with every emotion's vector, and how well it tells the concept from each emotion.

    `stories` are one row each at one site, of the emotion in `emotions`; a direction's score of one is its projection.
    A direction that was fitted on these very stories would be flattered by that: hand its held-out scores in, in
    `scores` by its name, and those of the same fits on `without(stories, valence)` in `scores_without`. `negative`
    names the emotions that count as negative; by default, those whose vectors point against valence.

    Guarantees (tests): a direction that reads a valence which neighbours share is confused with them; one that reads
    the concept is not; what is left without valence is told apart or confused on its own; cosines of random directions
    stay within the band.

    Raises:
        ProbeError: no stories of the concept or of another emotion, or a direction of length 0.
    """
    given, given_without = scores or {}, scores_without or {}
    others = _others(concept, emotions, directions)
    bad = [one for one in _negative(vectors, valence, negative) if one in others]
    told, found = np.asarray(emotions), []
    bands = _Bands.of(vectors if valence is None else {**vectors, VALENCE: valence}, stories, n_random, seed)
    for name, vector in directions.items():
        plain = given[name] if name in given else _along(stories, vector)
        clean = given_without.get(name)
        if valence is not None and name not in given:
            clean = _along(stories, _left(vector, valence))
        pairs = [(one, told == one) for one in others] + ([(NEGATIVE, np.isin(told, bad))] if bad else [])
        rows = [_against(one, plain, clean, told == concept, other, groups, seed) for one, other in pairs]
        found.append(_reading(name, name in given, bands.likenesses(vector), rows, concept, clean is not None))
    return Neighbours(
        concept, tuple(found), tuple(bad), int((told == concept).sum()), len({*groups}), bands.cosines.shape[0]
    )


def _others(concept: str, emotions: Sequence[str], directions: Mapping[str, Vector]) -> list[str]:
    others = [name for name in dict.fromkeys(emotions) if name != concept]
    if concept not in emotions or not others:
        found = f"no stories of {concept if others else 'any other emotion'}"
        raise ProbeError(f"comparing {concept} with its neighbours", found, "give stories of it and of its neighbours")
    zero = [name for name, vector in directions.items() if not _array(vector).any()]
    if zero:
        raise ProbeError(f"reading directions of {concept}", f"{', '.join(zero)} has length 0", "leave it out")
    return others


def _array(vector: Vector) -> Float[np.ndarray, " d_model"]:
    return vector.detach().double().cpu().numpy() if isinstance(vector, Tensor) else vector.astype(float)


def _unit(vector: Vector) -> Float[np.ndarray, " d_model"]:
    exact = _array(vector)
    return exact / max(float(np.linalg.norm(exact)), 1e-300)


def _along(stories: Float[Tensor, "story d_model"], vector: Vector) -> Float[np.ndarray, " story"]:
    unit = torch.from_numpy(_unit(vector)).to(stories.device)
    return (stories.double() @ unit).cpu().numpy()


def _left(vector: Vector, valence: Vector) -> Float[np.ndarray, " d_model"]:
    """The vector without valence; exactly zero where only rounding is left."""
    exact = _array(vector)
    left = without(torch.from_numpy(exact), valence).numpy()
    return left * (np.linalg.norm(left) > _ROUNDING * np.linalg.norm(exact))


def _negative(vectors: Mapping[str, Vector], valence: Vector | None, named: Sequence[str] | None) -> list[str]:
    if named is not None or valence is None:
        return list(named or ())
    return [name for name, vector in vectors.items() if float(_unit(vector) @ _unit(valence)) < 0]


@dataclass(frozen=True, eq=False)
class _Bands:
    """Cosines of random directions with every vector."""

    units: Mapping[str, np.ndarray]
    cosines: Float[np.ndarray, "direction vector"]

    @classmethod
    def of(cls, vectors: Mapping[str, Vector], stories: Tensor, n: int, seed: int) -> "_Bands":
        units = {name: _unit(vector) for name, vector in vectors.items()}
        random = draw(stories, n, seed=seed).double().cpu().numpy()
        return cls(units, random @ np.stack(list(units.values()), axis=1) if units else np.zeros((n, 0)))

    def likenesses(self, direction: Vector) -> tuple[Likeness, ...]:
        """One for every vector; undefined for one of length 0."""
        unit, found = _unit(direction), []
        for (name, other), random in zip(self.units.items(), self.cosines.T, strict=True):
            some = bool(other.any())
            band = float(np.quantile(np.abs(random), 0.95)) if some else None
            found.append(Likeness(name, float(unit @ other) if some else None, band))
        return tuple(found)


def _against(
    neighbour: str,
    plain: Float[np.ndarray, " story"],
    clean: Float[np.ndarray, " story"] | None,
    concept: Bool[np.ndarray, " story"],
    other: Bool[np.ndarray, " story"],
    groups: Groups,
    seed: int,
) -> Against:
    rows = np.flatnonzero(concept | other)
    labels, mine = concept[rows], [groups[int(row)] for row in rows]

    def measured(values: np.ndarray | None) -> tuple[float | None, float | None, float | None]:
        if values is None:
            return None, None, None
        interval = auroc_interval(values[rows], labels, mine, seed=seed)
        return auroc(values[rows], labels), interval and interval.low, interval and interval.high

    return Against(neighbour, *measured(plain), *measured(clean), n=int(other.sum()))


def _reading(
    name: str, held_out: bool, likenesses: tuple[Likeness, ...], rows: list[Against], concept: str, cleaned: bool
) -> Reading:
    single = [row for row in rows if row.neighbour != NEGATIVE]
    confused = tuple(row.neighbour for row in single if row.low is not None and row.low <= 0.5 and row.auroc != 1)
    later = tuple(
        row.neighbour for row in single if row.without_low is not None and row.without_low <= 0.5 and row.without != 1
    )
    unknown = [row.neighbour for row in single if row.low is None or (row.low <= 0.5 and row.auroc == 1)]
    above = [row.neighbour for row in single if row.high is not None and row.high < 0.5]
    apart = len(single) - len(confused) - len(unknown)
    said = [f"it scores stories of {concept} above those of {apart} of {len(single)} neighbours"]
    said += [f"it is not shown to differ from {', '.join(confused)}"] if confused else []
    said += [f"it scores {', '.join(above)} higher than {concept}"] if above else []
    said += [f"there are too few groups to say for {', '.join(unknown)}"] if unknown else []
    lost = [one for one in later if one not in confused]
    said += [f"without valence it is not shown to differ from {', '.join(lost)} either"] if lost else []
    verdict = "; ".join(said)
    return Reading(name, held_out, likenesses, tuple(rows), confused, later if cleaned else None, verdict)


def lines(found: Neighbours) -> list[str]:
    """The section of the card."""
    said = [
        "## Neighbours",
        "",
        f"AUROC of {found.n} stories of {found.concept} against stories of each other emotion ({found.groups} groups), "
        "with its interval over groups: where it reaches 0.5 the direction is not shown to differ from one that reads "
        "the neighbour. Without valence: the same with the difference between good and bad emotions taken out of the "
        "direction. Band: the size of cosine that 95 % of directions stay within that are random, but vary as stories "
        "do. Every interval is for one neighbour alone: of twenty, one may err.",
        "",
    ]
    for one in found.directions:
        how = "held-out scores" if one.held_out else "projection of the stories, on which it must not have been fitted"
        said += [
            f"`{cell(one.direction)}` ({how}): {cell(one.verdict)}.",
            "",
            "| neighbour | stories | AUROC | interval | without valence | interval | cosine | band |",
            "|---|---|---|---|---|---|---|---|",
            *_table(one),
            "",
        ]
    return said


def _table(one: Reading) -> list[str]:
    """The pooled row, then the neighbours from the nearest on; then the vectors that have no stories of their own."""
    ranked = sorted(one.against, key=lambda row: (row.neighbour != NEGATIVE, 1.0 if row.auroc is None else row.auroc))
    likeness = {like.vector: like for like in one.likenesses}
    rows = []
    for row in ranked[:_SHOWN]:
        like = likeness.get(row.neighbour)
        plain = f"{_figure(row.auroc)} | {_span(row.low, row.high)}"
        clean = f"{_figure(row.without)} | {_span(row.without_low, row.without_high)}"
        rows.append(f"| {cell(row.neighbour)} | {row.n} | {plain} | {clean} | {_cosines(like)} |")
    told = {row.neighbour for row in one.against}
    for like in [like for like in one.likenesses if like.vector not in told][:_SHOWN]:
        rows.append(f"| {cell(like.vector)} | | | | | | {_cosines(like)} |")
    left = len(ranked) - _SHOWN
    return [*rows, *([f"| {left} more, farther away | | | | | | | |"] if left > 0 else [])]


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _span(low: float | None, high: float | None) -> str:
    return "undefined" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _cosines(like: Likeness | None) -> str:
    if like is None or like.cosine is None or like.band is None:
        return " | "
    return f"{like.cosine:+.2f} | {like.band:.2f}"
