"""The choice of method and site without its optimism: nested cross-validation."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.probes.descent import held_out_scores
from interp.probes.evaluate import Sweep, fit_labelled
from interp.probes.moments import gather
from interp.probes.nulls import aurocs
from interp.probes.sweep import targets
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
    inner = {(name, site): one for site in sweep.fits for name, one in _inner_scores(sweep, site).items()}
    keys, scores, picks = list(inner), np.zeros(len(labels)), dict[str, int]()
    for fold in range(sweep.folds.max() + 1):
        mine = sweep.folds == fold
        others = np.stack([one[fold, ~mine] for one in inner.values()])
        values = aurocs(others, np.broadcast_to(labels[~mine], others.shape))
        pick = sweep.candidate(*keys[int(np.argmax(values))])
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


def _inner_scores(sweep: Sweep, site: Site) -> dict[str, Float[np.ndarray, "fold transcript"]]:
    """For every method and fold, held-out scores as if the fold did not exist; its own are 0 and not to be used.

    The rows are read once for the moments of all folds, and once for the scores of each method.
    """
    data, folds, settings = sweep.data, sweep.folds, sweep.settings
    labels, graded = data.labels[None], None if data.graded is None else data.graded[None]
    where, numbers = data.learn.transcript, range(folds.max() + 1)
    wanted = targets(labels[:, where], None if graded is None else graded[:, where])
    moments = gather(data.learn.blocks(site), folds[where], wanted)
    weights, steps = ({name: list[Tensor]() for name in settings.methods} for _ in range(2))
    for gone in numbers:
        left = np.where(folds == gone, -1, folds - (folds > gone))
        rest = moments.only([number for number in numbers if number != gone])
        fits = fit_labelled(data, site, labels, left, graded, settings, rest)
        for name in settings.methods:
            weights[name].append(_with_gap(fits.weights[name][0, :-1], gone))
            steps[name].append(_with_gap(fits.steps[name][0, :-1], gone))
    found, scored = {}, data.scored
    for name in settings.methods:
        stacked = torch.stack(weights[name]), torch.stack(steps[name])
        rows = held_out_scores(scored.blocks(site), folds[scored.transcript], *stacked)
        found[name] = settings.score.scores(rows, scored.transcript, scored.n)
    return found


def _with_gap(values: Float[Tensor, "fold *d_model"], at: int) -> Float[Tensor, "_ *d_model"]:
    """Zeros put in for the fold that is gone."""
    return torch.cat([values[:at], torch.zeros_like(values[:1]), values[at:]])
