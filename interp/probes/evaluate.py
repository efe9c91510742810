"""How well probes tell two classes apart on groups that they have not seen, and what chance would give.

One sweep fits every method at every site, for the real labels and for hundreds of shuffles of them. All that it
measures is one family: its band is what nothing of it leaves in 95 % of shuffles.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.errors import ProbeError
from interp.probes.aggregate import Aggregation
from interp.probes.labelled import Labelled, ReadRows, Settings
from interp.probes.moments import Moments
from interp.probes.nulls import aurocs, donors, shuffled_labels, smallest_p
from interp.probes.splits import Groups, fold_codes, grouped_folds
from interp.probes.sweep import FoldFits, fit_folds
from interp.sites import Site
from interp.stats import auroc, auroc_interval, max_statistic

_CHUNK = 2**24
"""Scores held in memory at once, over shuffles and rows."""


@dataclass(frozen=True)
class Measure:
    """One probe at one site: AUROC on unseen groups, its interval, and what chance gives anywhere in its family."""

    name: str
    """A fitting method, or the name of a direction that came from other data."""
    site: Site
    auroc: float
    low: float | None
    """Cluster-bootstrap interval over groups at 95 %; None where resampling says nothing."""
    high: float | None
    null_low: float | None
    """What chance gives: with shuffled labels something in the family lies beyond the band in 5 % of shuffles: above
    `null_high`, or, for a direction that was not fitted, on either side; None with fewer than 19 shuffles."""
    null_high: float | None
    p_value: float
    """Adjusted for the family: all sites and methods of a sweep (maximum, Westfall and Young 1993). One-sided for a
    fitted probe, whose AUROC means nothing below 1/2; two-sided for a direction from other data."""
    floor: float
    """The smallest p-value that the shuffles could give."""
    n: int
    """Transcripts."""
    groups: int
    shuffles: int

    def to_row(self) -> dict[str, Any]:
        """A JSON row for a run folder's `probe.json`."""
        row = {"site": str(self.site), "layer": self.site.layer, "method": self.name}
        return row | {key: value for key, value in vars(self).items() if key not in ("site", "name")}


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way of scoring the transcripts: its scores on unseen groups, and the AUROC of each shuffle."""

    name: str
    site: Site
    scores: Float[np.ndarray, " transcript"]
    null: Float[np.ndarray, " shuffle"]
    fitted: bool = True


@dataclass(frozen=True, eq=False)
class Sweep:
    """Every method at every site."""

    data: Labelled
    settings: Settings
    folds: Int[np.ndarray, " transcript"]
    shuffles: Bool[np.ndarray, "shuffle transcript"]
    candidates: tuple[Candidate, ...]
    fits: Mapping[Site, FoldFits]
    """For the real labels alone."""

    def candidate(self, name: str, site: Site) -> Candidate:
        """The scores of a method at a site."""
        return next(c for c in self.candidates if (c.name, c.site) == (name, site))

    @property
    def best(self) -> Candidate:
        """The candidate of greatest AUROC; being chosen makes that optimistic, and its p allows for it."""
        values = _aurocs([candidate.scores for candidate in self.candidates], self.data.labels)
        return self.candidates[int(np.argmax(values))]

    @cached_property
    def _fold_of(self) -> dict[Any, int]:
        return dict(zip(self.data.groups, self.folds.tolist(), strict=True))

    def unseen_folds(self, groups: Groups) -> Int[np.ndarray, " transcript"]:
        """By which fit other transcripts are scored so that it has not seen their group; -1: by the one on all rows."""
        return np.array([self._fold_of.get(group, -1) for group in groups], dtype=int)

    def unseen(
        self, name: str, site: Site, reading: ReadRows, groups: Groups, *, how: Aggregation | None = None
    ) -> Float[np.ndarray, " transcript"]:
        """Scores of other transcripts by fits that have not seen their group: a score of each, on the same scale."""
        folds = self.unseen_folds(groups)[reading.transcript]
        rows = self.fits[site].scores(name, reading.blocks(site), folds)[0]
        return (how or self.settings.score).scores(rows, reading.transcript, reading.n)

    def to_saved(self, name: str, site: Site, offset: float, scale: float) -> tuple[float, float]:
        """Slope and intercept from a score of the fit on all rows to that of its saved direction."""
        weights, step = self.fits[site].weights[name][0, -1], float(self.fits[site].steps[name][0, -1])
        size = float(weights.norm())
        return (1 / size / scale, (-step / size - offset) / scale) if size > 0 else (0.0, 0.0)


def evaluate(
    data: Labelled,
    settings: Settings | None = None,
    *,
    on_progress: Any = None,
) -> Sweep:
    """Every method at every site of `data`, scored by fits that have not seen a transcript's group.

    A score is the distance from the midpoint of the training classes, in standard deviations of the training rows.
    The null repeats all of it with shuffled labels, the same for all methods and sites.

    Guarantees (tests): a planted direction is found; with labels that mean nothing, anything in a sweep has p <= 0.05
    in about 5 % of sweeps, however many methods and sites it has.

    Raises:
        ProbeError: unknown method, too few groups, or a fold with a group in both train and test.
    """
    asked = settings or Settings()
    splits = grouped_folds(data.labels, data.groups, folds=asked.folds, seed=asked.seed)
    folds = fold_codes(splits, data.groups)
    order = _chance(data.labels, data.groups, folds, n=asked.n_null, seed=asked.seed)
    labellings = np.concatenate([data.labels[None], data.labels[order]])
    graded = None if data.graded is None else np.concatenate([data.graded[None], data.graded[order]])
    candidates, fits = list[Candidate](), dict[Site, FoldFits]()
    for done, site in enumerate(data.learn.acts, start=1):
        of_site = fit_labelled(data, site, labellings, folds, graded, asked)
        for method in asked.methods:
            scores, null = _scored(of_site, method, data, site, folds, labellings, asked.score)
            candidates.append(Candidate(method, site, scores, null))
        fits[site] = _real(of_site)
        if on_progress is not None:
            on_progress(done, len(data.learn.acts))
    candidates.sort(key=lambda candidate: asked.methods.index(candidate.name))  # sites stay in their order
    return Sweep(data, asked, folds, labellings[1:], tuple(candidates), fits)


def given(
    scores: Mapping[Site, Float[np.ndarray, " transcript"]],
    shuffles: Bool[np.ndarray, "shuffle transcript"],
    *,
    name: str,
) -> list[Candidate]:
    """Directions that came from other data: nothing is fitted."""
    return [Candidate(name, site, values, aurocs(values[None], shuffles), False) for site, values in scores.items()]


@dataclass(frozen=True)
class Chance:
    """What chance gives a family of candidates: the bands, and the p-value of each."""

    low: float | None
    """Fitted candidates all lie above in 95 % of shuffles."""
    high: float | None
    """All lie below in 95 % of shuffles; those that were not fitted also lie above 1 less this."""
    p_values: tuple[float, ...]
    floor: float


def chance(candidates: Sequence[Candidate], labels: Bool[np.ndarray, " transcript"]) -> Chance:
    """The family-wise band and p-values: the largest that any candidate reaches, shuffle by shuffle.

    Guarantee (test): in 200 data sets without a signal, some p is at most 0.05 in about 5 % of them.
    """
    fitted = np.array([candidate.fitted for candidate in candidates])
    observed = _aurocs([candidate.scores for candidate in candidates], labels) - 0.5
    null = np.stack([c.null for c in candidates], axis=1) - 0.5
    family = max_statistic(np.where(fitted, observed, np.abs(observed)), np.where(fitted, null, np.abs(null)))
    below = max_statistic(-observed[fitted], -null[:, fitted]).band if fitted.any() else None
    return Chance(
        None if below is None else 0.5 - below,
        None if family.band is None else 0.5 + family.band,
        family.p_values,
        family.floor,
    )


def measures(
    candidates: Sequence[Candidate], labels: Bool[np.ndarray, " transcript"], groups: Groups, *, seed: int
) -> tuple[Measure, ...]:
    """What each candidate is worth, as one family.

    Raises:
        ProbeError: there is one class only.
    """
    if labels.all() or not labels.any():
        raise ProbeError("measuring probes", f"{len(labels)} transcripts of one class", "give both classes")
    family, found = chance(candidates, labels), list[Measure]()
    floor = max(family.floor, smallest_p(labels, groups))
    counts = {"n": len(labels), "groups": len(set(groups)), "shuffles": len(candidates[0].null)}
    for candidate, p_value in zip(candidates, family.p_values, strict=True):
        interval = auroc_interval(candidate.scores, labels, groups, seed=seed)
        found.append(
            Measure(
                candidate.name,
                candidate.site,
                auroc(candidate.scores, labels) or 0.0,
                interval and interval.low,
                interval and interval.high,
                null_low=family.low if candidate.fitted or family.high is None else 1 - family.high,
                null_high=family.high,
                p_value=max(p_value, floor),
                floor=floor,
                **counts,
            )
        )
    return tuple(found)


def _aurocs(
    scores: Sequence[Float[np.ndarray, " transcript"]], labels: Bool[np.ndarray, " transcript"]
) -> Float[np.ndarray, " candidate"]:
    return aurocs(np.stack(scores), np.broadcast_to(labels, (len(scores), len(labels))))


def fit_labelled(
    data: Labelled,
    site: Site,
    labellings: Bool[np.ndarray, "labelling transcript"],
    folds: Int[np.ndarray, " transcript"],
    graded: Float[np.ndarray, "labelling transcript"] | None,
    settings: Settings,
    moments: Moments | None = None,
) -> FoldFits:
    """All methods at one site, for labellings of transcripts; transcripts of fold -1 take no part."""
    where = data.learn.transcript
    return fit_folds(
        data.learn.blocks(site),
        labellings[:, where],
        folds[where],
        settings.methods,
        shrinkage=settings.shrinkage,
        l2=settings.l2,
        graded=None if graded is None else graded[:, where],
        pairs=data.paired_rows(),
        moments=moments,
    )


def _scored(
    fits: FoldFits,
    method: str,
    data: Labelled,
    site: Site,
    folds: Int[np.ndarray, " transcript"],
    labellings: Bool[np.ndarray, "labelling transcript"],
    how: Aggregation,
) -> tuple[Float[np.ndarray, " transcript"], Float[np.ndarray, " shuffle"]]:
    """The real scores, and the AUROC of every shuffle, a part at a time."""
    reading = data.scored
    blocks, step = reading.blocks(site), max(1, _CHUNK // max(len(reading.transcript), 1))
    parts, real = list[np.ndarray](), np.zeros(0)
    for start in range(0, len(labellings), step):
        some = slice(start, start + step)
        rows = fits.scores(method, blocks, folds[reading.transcript], some)
        scores = how.scores(rows, reading.transcript, reading.n)
        real = scores[0] if not start else real
        parts.append(aurocs(scores, labellings[some]))
    return real, np.concatenate(parts)[1:]


def _real(fits: FoldFits) -> FoldFits:
    """The fits for the real labels."""
    cut = [{name: one[:1].clone() for name, one in part.items()} for part in (fits.weights, fits.steps, fits.vectors)]
    return FoldFits(*cut)


def _chance(
    labels: Bool[np.ndarray, " transcript"], groups: Groups, folds: Int[np.ndarray, " transcript"], *, n: int, seed: int
) -> Int[np.ndarray, "shuffle transcript"]:
    """Shuffles, without the rare ones that leave a class out of a training set."""
    shuffled_labels(labels, groups, n=1, seed=seed)  # raises where there is one arrangement only
    order = donors(groups, n=n, seed=seed)
    for fold in [-1, *np.unique(folds)]:
        rows = np.flatnonzero(folds != fold)
        positive = labels[order][:, rows].sum(axis=1)
        order = order[(positive > 0) & (positive < len(rows))]
    if not len(order):
        raise ProbeError(
            "shuffling labels",
            f"all {n} shuffles leave a training set with one class",
            "give more groups of the smaller class",
        )
    return order
