"""How well a probe tells two classes apart on groups that it has not seen, and what chance would give."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor

from interp.errors import ProbeError
from interp.probes.fit import METHODS, Fitter
from interp.probes.nulls import Groups, aurocs, shuffled_labels, smallest_p
from interp.sites import Site
from interp.stats import auroc, auroc_interval, max_statistic

SLOW = {"logistic": 39}
"""Most shuffles of a method without a closed form, each of which costs a fit per fold and site; 39 reach p = 0.025."""

_CHUNK = 2**24
"""Scores held in memory at once, over shuffles and rows."""


@dataclass(frozen=True)
class Measure:
    """One probe at one site: AUROC on unseen groups, its interval, and what chance gives at any site of the sweep."""

    name: str
    """A fitting method, or the name of a direction that came from other data."""
    site: Site
    auroc: float
    low: float | None
    """Cluster-bootstrap interval over groups at 95 %; None where resampling says nothing."""
    high: float | None
    null_low: float | None
    """What chance gives: with shuffled labels some site of the sweep lies above `null_high` in 5 % of shuffles, and
    below `null_low` in 5 % (either in 5 %, for a direction that was not fitted); None with fewer than 19 shuffles."""
    null_high: float | None
    p_value: float
    """Adjusted for the number of sites (maximum over sites, Westfall and Young 1993). One-sided for a fitted probe,
    whose AUROC means nothing below 1/2; two-sided for a direction from other data."""
    floor: float
    """The smallest p-value that the shuffles could give."""
    n: int
    """Rows."""
    groups: int
    shuffles: int

    def to_row(self) -> dict[str, Any]:
        """A JSON row for a run folder's `probe.json`."""
        row = {"site": str(self.site), "layer": self.site.layer, "method": self.name}
        return row | {key: value for key, value in vars(self).items() if key not in ("site", "name")}


class Fold(NamedTuple):
    """Rows to fit on and rows to score."""

    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]


def grouped_folds(labels: Bool[np.ndarray, " row"], groups: Groups, *, folds: int = 5, seed: int) -> list[Fold]:
    """Folds that keep every group whole, with the classes as even as groups allow; each row is tested once.

    Raises:
        ProbeError: there is one class, or a class has rows in fewer groups than there are folds.
    """
    kinds = {
        name: len({g for g, is_it in zip(groups, of_class, strict=True) if is_it})
        for name, of_class in (("positive", labels), ("negative", ~labels))
    }
    if min(kinds.values()) < folds:
        found = " and ".join(f"{n} groups with {name} rows" for name, n in kinds.items())
        raise ProbeError(
            f"splitting {len(labels)} rows by group into {folds} folds",
            found,
            f"give at least {folds} groups of each class, or fewer folds",
        )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    return [Fold(train, test) for train, test in splitter.split(np.zeros(len(labels)), labels, np.asarray(groups))]


def evaluate(
    acts: Mapping[Site, Float[Tensor, "row d_model"]],
    labels: Bool[np.ndarray, " row"],
    groups: Groups,
    *,
    method: str,
    seed: int,
    folds: int | Sequence[Fold] = 5,
    n_null: int = 200,
) -> tuple[Measure, ...]:
    """One measure per site of `acts`, which is read one site at a time.

    Every row is scored by a probe that was fitted without its group: its distance from the midpoint of the training
    classes, in standard deviations of the training rows. The midpoint does not move with the share of positives, so
    that folds can be pooled. The null repeats all of it with shuffled labels, the same at all sites; `logistic` uses
    at most `SLOW["logistic"]` shuffles.

    Guarantees (tests): a planted direction is found; with labels that mean nothing, any site of a sweep has p <= 0.05
    in about 5 % of sweeps.

    Raises:
        ProbeError: unknown method, too few groups, or a fold with a group in both train and test.
    """
    if method not in METHODS:
        raise ProbeError(f"probe method {method!r}", "unknown", f"choose one of {', '.join(METHODS)}")
    splits = grouped_folds(labels, groups, folds=folds, seed=seed) if isinstance(folds, int) else list(folds)
    _check_folds(splits, groups)
    shuffles = _chance(labels, groups, splits, n=min(n_null, SLOW.get(method, n_null)), seed=seed)
    scores, null = {}, []
    for site, values in acts.items():
        scores[site] = _held_out(values, labels[None], splits, METHODS[method])[0]
        null.append(_null(values, shuffles, splits, METHODS[method]))
    return _measures(method, scores, labels, groups, np.stack(null, axis=1), seed, two_sided=False)


def judge(
    scores: Mapping[Site, Float[np.ndarray, " row"]],
    labels: Bool[np.ndarray, " row"],
    groups: Groups,
    *,
    name: str,
    seed: int,
    n_null: int = 200,
) -> tuple[Measure, ...]:
    """One measure per site for scores of directions that came from other data: nothing is fitted.

    Raises:
        ProbeError: there is one class only.
    """
    if labels.all() or not labels.any():
        raise ProbeError(f"measuring {name}", f"{len(labels)} rows of one class", "give rows of both classes")
    shuffles = _chance(labels, groups, (), n=n_null, seed=seed)
    null = [aurocs(values[None], shuffles) for values in scores.values()]
    return _measures(name, scores, labels, groups, np.stack(null, axis=1), seed, two_sided=True)


def _chance(
    labels: Bool[np.ndarray, " row"], groups: Groups, splits: Sequence[Fold], *, n: int, seed: int
) -> Bool[np.ndarray, "shuffle row"]:
    """Shuffled labels, without the rare ones that leave a class out of a training set."""
    shuffles = shuffled_labels(labels, groups, n=n, seed=seed)
    for rows in [np.arange(len(labels)), *(fold.train for fold in splits)]:
        positive = shuffles[:, rows].sum(axis=1)
        shuffles = shuffles[(positive > 0) & (positive < len(rows))]
    if not len(shuffles):
        raise ProbeError(
            "shuffling labels",
            f"all {n} shuffles leave a training set with one class",
            "give more groups of the smaller class",
        )
    return shuffles


def _held_out(
    acts: Float[Tensor, "row d_model"],
    labels: Bool[np.ndarray, "labelling row"],
    splits: Sequence[Fold],
    fit: Fitter,
) -> Float[np.ndarray, "labelling row"]:
    """Scores by probes that have not seen the row's group, for every labelling; 0 where nothing varies."""
    scores = np.zeros(labels.shape)
    for train, test in splits:
        chosen = labels[:, train]
        vectors = fit(acts[train], chosen)
        units = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-30)
        along = (units @ acts[train].float().T).double().cpu().numpy()
        unseen = (units @ acts[test].float().T).double().cpu().numpy()
        above, below = (np.average(along, axis=1, weights=side) for side in (chosen, ~chosen))
        spread = along.std(axis=1, keepdims=True)
        distance = unseen - ((above + below) / 2)[:, None]
        scores[:, test] = np.divide(distance, spread, out=np.zeros_like(distance), where=spread > 0)
    return scores


def _null(
    acts: Float[Tensor, "row d_model"],
    shuffles: Bool[np.ndarray, "shuffle row"],
    splits: Sequence[Fold],
    fit: Fitter,
) -> Float[np.ndarray, " shuffle"]:
    """The AUROC that each shuffle gives."""
    parts = np.array_split(shuffles, -(-shuffles.size // _CHUNK))
    return np.concatenate([aurocs(_held_out(acts, part, splits, fit), part) for part in parts])


def _measures(
    name: str,
    scores: Mapping[Site, Float[np.ndarray, " row"]],
    labels: Bool[np.ndarray, " row"],
    groups: Groups,
    null: Float[np.ndarray, "shuffle site"],
    seed: int,
    *,
    two_sided: bool,
) -> tuple[Measure, ...]:
    observed = np.array([auroc(values, labels) for values in scores.values()], dtype=float) - 0.5
    null = null - 0.5
    family = max_statistic(np.abs(observed), np.abs(null)) if two_sided else max_statistic(observed, null)
    below = family if two_sided else max_statistic(-observed, -null)
    intervals = [auroc_interval(values, labels, groups, seed=seed) for values in scores.values()]
    shared = {
        "null_low": None if below.band is None else 0.5 - below.band,
        "null_high": None if family.band is None else 0.5 + family.band,
        "floor": max(family.floor, smallest_p(labels, groups)),
        "n": len(labels),
        "groups": len(set(groups)),
        "shuffles": len(null),
    }
    return tuple(
        Measure(
            name,
            site,
            auroc=float(value) + 0.5,
            low=interval and interval.low,
            high=interval and interval.high,
            p_value=p_value,
            **shared,
        )
        for site, value, interval, p_value in zip(scores, observed, intervals, family.p_values, strict=True)
    )


def _check_folds(splits: Sequence[Fold], groups: Groups) -> None:
    """Raise unless every row is tested once, by a probe that has not seen its group."""
    for number, (train, test) in enumerate(splits, start=1):
        shared = {str(groups[row]) for row in train} & {str(groups[row]) for row in test}
        if shared:
            found = f"{len(shared)} groups in both train and test: {', '.join(sorted(shared))}"
            raise ProbeError(f"evaluating a probe on fold {number}", found, "split by group, as grouped_folds does")
    tested = np.bincount(np.concatenate([fold.test for fold in splits]), minlength=len(groups))
    if (tested != 1).any():
        raise ProbeError(
            "evaluating a probe",
            f"{int((tested != 1).sum())} rows are not tested exactly once",
            "give folds whose test rows are a partition, as grouped_folds does",
        )
