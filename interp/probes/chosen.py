"""The choice of method and site without its optimism: nested cross-validation."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from interp.probes.evaluate import Sweep, fit_labelled
from interp.probes.nulls import aurocs
from interp.sites import Site
from interp.stats import auroc, auroc_interval


@dataclass(frozen=True)
class Chosen:
    """The AUROC of a sweep that chooses for itself: each fold is scored by what was best without it."""

    auroc: float
    low: float | None
    high: float | None
    picks: Mapping[str, int]
    """How many folds chose what, `METHOD@SITE`."""


def cross_chosen(sweep: Sweep, *, seed: int) -> tuple[Chosen | None, Float[np.ndarray, " transcript"]]:
    """The choice of method and site without its optimism, and the scores that it gives.

    The best of many measures looks better than it is. Here a fold takes part neither in the fits by which it is scored
    nor in those among which is chosen: nested cross-validation, whose inner folds are the other folds.

    Where folds are so few or so small that two of them leave one class alone, nothing can be chosen so: None, and the
    scores of the best.

    Guarantee (test): where there is nothing, its AUROC is not above 1/2 on average; that of the best is.
    """
    labels, groups = sweep.data.labels, sweep.data.groups
    if not _nests(sweep):
        return None, sweep.best.scores
    scores, picks = np.zeros(len(labels)), dict[str, int]()
    for fold in np.unique(sweep.folds):
        inner, mine = _inner_scores(sweep, int(fold)), sweep.folds == fold
        values = aurocs(np.stack([one[~mine] for one in inner.values()]), np.stack([labels[~mine]] * len(inner)))
        pick = sweep.candidate(*list(inner)[int(np.argmax(values))])
        scores[mine] = pick.scores[mine]
        picks[f"{pick.name}@{pick.site}"] = picks.get(f"{pick.name}@{pick.site}", 0) + 1
    value, interval = auroc(scores, labels), auroc_interval(scores, labels, groups, seed=seed)
    assert value is not None  # both classes are there, or there had been no folds
    return Chosen(value, interval and interval.low, interval and interval.high, picks), scores


def _nests(sweep: Sweep) -> bool:
    """Whether both classes are left when any two folds are taken away."""
    numbers = np.unique(sweep.folds)
    left = [sweep.data.labels[(sweep.folds != a) & (sweep.folds != b)] for a in numbers for b in numbers]
    return all(len(labels) and labels.any() and not labels.all() for labels in left)


def _inner_scores(sweep: Sweep, fold: int) -> dict[tuple[str, Site], Float[np.ndarray, " transcript"]]:
    """Held-out scores of all candidates as if the fold did not exist; it has scores too, which are not to be used."""
    data, rest = sweep.data, np.unique(sweep.folds[sweep.folds != fold])
    folds = np.where(sweep.folds == fold, -1, np.searchsorted(rest, sweep.folds))
    found, graded = {}, None if data.graded is None else data.graded[None]
    for site in data.learn.acts:
        fits = fit_labelled(data, site, data.labels[None], folds, graded, sweep.settings)
        for method in sweep.settings.methods:
            rows = fits.scores(method, data.scored.blocks(site), folds[data.scored.transcript])[0]
            found[method, site] = sweep.settings.score.scores(rows, data.scored.transcript, data.scored.n)
    return found
