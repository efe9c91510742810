"""The choice of method and site without its optimism: nested cross-validation."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.probes.descent import held_out_scores
from interp.probes.evaluate import Sweep, fit_labelled
from interp.probes.labelled import ReadRows
from interp.probes.moments import gather
from interp.probes.nulls import aurocs
from interp.probes.splits import Groups
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


@dataclass(frozen=True, eq=False)
class Nested:
    """A sweep that chooses for itself, and the scores that it gives."""

    chosen: Chosen
    scores: Float[np.ndarray, " transcript"]
    picks: tuple[tuple[str, Site], ...]
    """What was chosen for each fold."""

    def unseen(
        self, sweep: Sweep, reading: ReadRows, groups: Groups, otherwise: tuple[str, Site]
    ) -> Float[np.ndarray, " transcript"]:
        """Scores of other transcripts: by the fit without the fold of their group, of the method chosen for that fold.

        Those whose group is in no fold are scored by `otherwise`, fitted on all rows.
        """
        folds, scores = sweep.unseen_folds(groups), np.zeros(reading.n)
        for key in dict.fromkeys([*self.picks, otherwise]):
            mine = np.array([(otherwise if fold < 0 else self.picks[fold]) == key for fold in folds], dtype=bool)
            if mine.any():
                scores[mine] = sweep.unseen(*key, reading, groups)[mine]
        return scores


def cross_chosen(sweep: Sweep, *, seed: int) -> Nested | None:
    """The choice of method and site without its optimism.

    The best of many measures looks better than it is. Here a fold takes part neither in the fits by which it is scored
    nor in those among which is chosen: nested cross-validation, whose inner folds are the other folds. None where two
    folds less leave one class alone, so that nothing can be chosen without them.

    Guarantee (test): where there is nothing, its AUROC is not above 1/2 on average; that of the best is.
    """
    labels, groups = sweep.data.labels, sweep.data.groups
    if not _nests(sweep):
        return None
    inner = {(name, site): one for site in sweep.fits for name, one in _inner_scores(sweep, site).items()}
    scores, picks = np.zeros(len(labels)), list[tuple[str, Site]]()
    for fold in range(sweep.folds.max() + 1):
        mine = sweep.folds == fold
        picks.append(best_of({key: one[fold] for key, one in inner.items()}, ~mine, labels))
        scores[mine] = sweep.candidate(*picks[-1]).scores[mine]
    value, interval = auroc(scores, labels), auroc_interval(scores, labels, groups, seed=seed)
    assert value is not None  # both classes are there, or there had been no folds
    counts = Counter(f"{name}@{site}" for name, site in picks)
    chosen = Chosen(value, interval and interval.low, interval and interval.high, dict(counts))
    return Nested(chosen, scores, tuple(picks))


def best_of(
    scores: Mapping[tuple[str, Site], Float[np.ndarray, " transcript"]],
    rows: Bool[np.ndarray, " transcript"],
    labels: Bool[np.ndarray, " transcript"],
) -> tuple[str, Site]:
    """The candidate of greatest AUROC on some of the transcripts."""
    some = np.stack([one[rows] for one in scores.values()])
    return list(scores)[int(np.argmax(aurocs(some, np.broadcast_to(labels[rows], some.shape))))]


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
