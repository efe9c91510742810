"""How small a signal the fit would still have found on these rows: without it, a null result says nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import ProbeError
from interp.probes.moments import Blocks
from interp.probes.nulls import Groups, aurocs, shuffled_labels
from interp.probes.random_directions import draw
from interp.probes.sweep import fit_site
from interp.stats import rate
from interp.stats.threshold import threshold

SIZES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)
"""In standard deviations."""
REPEATS = 20
WANTED = 0.8
_AT_ZERO = 100
"""Labellings without a signal; they share their rows, so that all cost little more than one."""
_ALLOWED = 0.05
_TOGETHER = 25
"""Labellings that are fitted together."""
_SPARE = (2, 20)
"""Shuffles drawn for each that is needed, at first and then: some leave a class out of a training set."""


@dataclass(frozen=True)
class Planted:
    """How often a signal of one size was found."""

    size: float
    """Standard deviations within classes, along the planted direction; 0: nothing was planted."""
    found: int
    tried: int
    low: float
    """Wilson's interval of the share found, at 95 %."""
    high: float
    auroc: float
    """Median over repeats, held out."""


@dataclass(frozen=True)
class Power:
    """The power of one method on one site's rows, by size of signal."""

    method: str
    band: float
    """A signal counts as found where the held-out AUROC is above."""
    wanted: float
    """Share of repeats in which a signal must be found."""
    planted: tuple[Planted, ...]
    """By size, 0 first: its share is that of false positives."""
    smallest: float | None
    """Smallest size found as often as wanted; None where even the largest was not, or where finding means nothing."""
    smallest_of_norm: float | None
    """The same as a share of the median length of a row."""
    largest: float
    """Largest size tried."""
    drawn: str
    n: int
    """Rows."""
    groups: int
    note: str
    """What speaks against the figures; empty where nothing does."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Power":
        """What `dataclasses.asdict` wrote."""
        return cls(**{**row, "planted": tuple(Planted(**one) for one in row["planted"])})


def planted_power(
    acts: Float[Tensor, "row d_model"],
    labels: Bool[np.ndarray, " row"],
    groups: Groups,
    folds: Int[np.ndarray, " row"],
    *,
    method: str,
    band: float,
    sizes: Sequence[float] = SIZES,
    repeats: int = REPEATS,
    drawn: str = "covariance",
    wanted: float = WANTED,
    shrinkage: float = 0.1,
    l2: float = 10.0,
    seed: int,
) -> Power:
    """Plant signals of several sizes in the rows of one site, run the same fit, and count how often it finds them.

    In each repeat labels are shuffled at the level at which they live, which leaves all that the rows are and takes
    away what labels had to do with them; a random direction is drawn (as the rows vary, or `isotropic`); and the
    positive rows move along it by so many of its standard deviations within classes. A repeat uses the same labels and
    direction at all sizes. `folds` are those of the real fit; rows of fold -1 are left out. `band` is the AUROC that a
    site had to pass in the real sweep.

    It costs `len(sizes) * repeats` fits of one labelling: 0.5 s (difference of means) to 3 s (logistic) for 800 rows of
    128 dimensions, one to three minutes for 1,000 rows of 2,048, on one core.

    Guarantees (tests): larger signals are found more often, up to always; nothing planted is found about as often as
    chance passes the band, also where the real labels are easy to read; a signal of so many deviations gives the AUROC
    that theory has for it.

    Raises:
        ProbeError: no sizes or repeats, or shuffles that leave a training set with one class.
    """
    if not sizes or min(sizes) <= 0 or repeats < 1:
        found = f"sizes {', '.join(map(str, sizes)) or 'none'}, {repeats} repeats"
        raise ProbeError("planting signals", found, "give sizes above 0 and at least one repeat; 0 is always tried")
    kept = np.flatnonzero(folds >= 0)
    rows, of_fold, mine = acts[kept], folds[kept], [groups[int(row)] for row in kept]
    rows = rows if rows.dtype == torch.float64 else rows.float()
    for_labels, for_directions = (int(one) for one in np.random.SeedSequence(seed).generate_state(2))
    many = _labellings(labels[kept], mine, of_fold, max(_AT_ZERO, repeats), for_labels)

    def measured(moved: Tensor, which: Bool[np.ndarray, "labelling row"]) -> Float[np.ndarray, " labelling"]:
        fits = fit_site(Blocks.from_rows(moved), which, of_fold, (method,), shrinkage=shrinkage, l2=l2)
        return aurocs(fits.held_out[method], which)

    parts = np.array_split(many, -(-len(many) // _TOGETHER))
    by_size = {0.0: np.concatenate([measured(rows, part) for part in parts])}
    directions = draw(rows, repeats, drawn=drawn, seed=for_directions)
    steps = [_one_deviation(rows, which, unit) for which, unit in zip(many, directions, strict=False)]
    for size in sorted(set(map(float, sizes))):
        moved = (rows + size * _on(which, rows)[:, None] * step for which, step in zip(many, steps, strict=False))
        found = [measured(one, which[None]) for one, which in zip(moved, many, strict=False)]
        by_size[size] = np.concatenate(found)
    length = float(rows.norm(dim=1).median())
    one = float(np.median([float(step.norm()) for step in steps])) / length if length > 0 else None
    return _power(method, band, wanted, by_size, one, drawn, len(rows), len(set(mine)))


def _labellings(
    labels: Bool[np.ndarray, " row"], groups: Groups, folds: Int[np.ndarray, " row"], n: int, seed: int
) -> Bool[np.ndarray, "labelling row"]:
    """Shuffled labels, without those that leave a training set with one class."""
    shuffles, drawn = np.zeros((0, len(labels)), dtype=bool), 0
    for spare in _SPARE:
        drawn, shuffles = spare * n, shuffled_labels(labels, groups, n=spare * n, seed=seed)
        for fold in np.unique(folds):
            positive = shuffles[:, folds != fold].sum(axis=1)
            shuffles = shuffles[(positive > 0) & (positive < (folds != fold).sum())]
        if len(shuffles) >= n:
            return shuffles[:n]
    found = f"{drawn - len(shuffles)} of {drawn} shuffles leave a training set with one class"
    raise ProbeError("planting signals in shuffled labels", found, "give more groups of the smaller class")


def _on(labels: Bool[np.ndarray, " row"], like: Tensor) -> Float[Tensor, " row"]:
    return torch.from_numpy(labels).to(like.device, like.dtype)


def _one_deviation(
    rows: Float[Tensor, "row d_model"], labels: Bool[np.ndarray, " row"], unit: Float[Tensor, " d_model"]
) -> Float[Tensor, " d_model"]:
    """A step along the unit as long as the rows' standard deviation along it, within the two classes."""
    along = ((rows - rows[:1]).double() @ unit.double()).cpu().numpy()
    squares = sum(along[side].var() * side.sum() for side in (labels, ~labels))
    return unit.to(rows.dtype) * float(np.sqrt(squares / len(labels)))


def _power(
    method: str,
    band: float,
    wanted: float,
    by_size: Mapping[float, Float[np.ndarray, " repeat"]],
    one: float | None,
    drawn: str,
    n: int,
    groups: int,
) -> Power:
    rates = [rate(int((values > band).sum()), len(values)) for values in by_size.values()]
    planted = []
    for size, values, share in zip(by_size, by_size.values(), rates, strict=True):
        assert share.interval is not None  # something was tried
        low, high = share.interval.low, share.interval.high
        planted.append(Planted(size, share.successes, share.trials, low, high, float(np.median(values))))
    chance, note = planted[0], ""
    if chance.low > _ALLOWED:
        note = f"nothing planted was found {chance.found} times of {chance.tried}, so that finding means nothing"
    smallest = None if note else threshold(list(by_size), rates, wanted)
    of_norm = None if smallest is None or one is None else smallest * one
    largest = max(by_size)
    return Power(method, band, wanted, tuple(planted), smallest, of_norm, largest, drawn, n, groups, note)


def lines(found: Power | Sequence[Power]) -> list[str]:
    """The section of the card."""
    many = [found] if isinstance(found, Power) else list(found)
    if not many:
        return []
    said = [
        "## Planted signals",
        "",
        "How small a signal this fit would still have found on these rows: labels are shuffled, the positive rows move "
        "along a random direction, and the same fit runs on the same folds. Size is in standard deviations within "
        "classes along the direction; found means a held-out AUROC above the band. The same shift in every positive "
        "row is a clean signal: one that differs from group to group must be larger.",
        "",
    ]
    for power in many:
        said += [
            f"`{power.method}`, {power.n} rows in {power.groups} groups, found above AUROC {power.band:.3f}: "
            + _verdict(power),
            "",
            "| size | found | share | interval | median AUROC |",
            "|---|---|---|---|---|",
            *(
                f"| {p.size:g} | {p.found} of {p.tried} | {p.found / p.tried:.2f} | {p.low:.2f} to {p.high:.2f} | "
                f"{p.auroc:.3f} |"
                for p in power.planted
            ),
            "",
        ]
    return said


def _verdict(power: Power) -> str:
    share = f"{power.wanted:.0%}".replace("%", " %")
    if power.note:
        return f"no figure, for {power.note}."
    if power.smallest is None:
        return f"even {power.largest:g} is not found in {share} of repeats; finding nothing here would say nothing."
    smallest_tried = min(one.size for one in power.planted if one.size > 0)
    of = "" if power.smallest_of_norm is None else f" ({power.smallest_of_norm:.2g} of the median length of a row)"
    about = "at most" if power.smallest <= smallest_tried else "about"
    return f"a signal of {about} {power.smallest:.2g}{of} is found in {share} of repeats."
