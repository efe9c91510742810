"""How well emotion vectors name the emotion of stories on topics that they were not made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.activations import Activations, OnProgress
from interp.emotions.neutral import VARIANCE, NeutralSpace
from interp.emotions.vectors import emotions_of, space_at
from interp.errors import ProbeError
from interp.probes import Measure
from interp.probes.nulls import arrangements, aurocs
from interp.sites import Site
from interp.stats import auroc_interval, max_statistic

FOLDS = 5
_DEALS = 20
"""Times that groups are dealt into so many folds, until every emotion stands in every training set."""
_BUDGET = 2**27
"""Values of all shuffles' vectors together; a large pool gets fewer shuffles."""


@dataclass(frozen=True, eq=False)
class Naming:
    """Held-out scores of every story along every emotion's vector, at one site."""

    names: tuple[str, ...]
    told: Int[np.ndarray, " story"]
    """The emotion of each story, as an index into `names`."""
    scores: Float[np.ndarray, "story emotion"]
    """In standard deviations of the training stories, centred on the mean of their emotions."""
    null: Float[np.ndarray, "shuffle emotion"]
    """AUROC of each emotion with shuffled labels."""

    @property
    def confusion(self) -> Int[np.ndarray, "told named"]:
        """How many stories of each emotion score highest along each vector."""
        found = np.zeros((len(self.names), len(self.names)), np.int64)
        np.add.at(found, (self.told, self.scores.argmax(1)), 1)
        return found

    @property
    def accuracy(self) -> float:
        """The share of stories that score highest along their own emotion's vector; chance is one in so many."""
        return float((self.scores.argmax(1) == self.told).mean())


def held_out(
    acts: Activations,
    neutral: Activations | None = None,
    *,
    variance: float = VARIANCE,
    folds: int = FOLDS,
    n_null: int = 200,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> dict[Site, Naming]:
    """Every story scored by vectors made without its group, at every site; the null repeats it with shuffled labels.

    Labels are shuffled at the level at which they live: each group gets the labels of another, in a random order. The
    shuffles are the same at all sites, and fewer than `n_null` where the pool is so large that their vectors would not
    fit into memory, but at least 19.

    Raises:
        ProbeError: an emotion stands in one group alone, so that no vector of it could be made without that group.
    """
    told = emotions_of(acts)
    names = tuple(sorted(set(told)))
    codes = np.asarray([names.index(name) for name in told])
    splits = _folds(codes, acts.groups, names, folds=folds, seed=seed)
    room = _BUDGET // (len(names) * acts.d_model * len(splits))
    shuffles = shuffled_codes(codes, acts.groups, splits, len(names), n=min(n_null, max(19, room)), seed=seed)
    found = {}
    for site in acts.sites:
        rows, space = acts.read(site).float(), space_at(site, acts, neutral, variance)
        scores = _scores(rows, codes, splits, len(names), space)
        null = []
        for labels in shuffles:
            null.append(_aurocs(_scores(rows, labels, splits, len(names), space), labels))
            if on_progress is not None:
                on_progress(len(found) * len(shuffles) + len(null), len(acts.sites) * len(shuffles))
        found[site] = Naming(names, codes, scores, np.stack(null))
    return found


def unseen_scores(
    rows: Float[Tensor, "story d_model"], emotions: Sequence[str], groups: Sequence[str], *, seed: int = 0
) -> dict[str, Float[np.ndarray, " story"]]:
    """For every emotion, the score of each story along the vector that was made without the story's group.

    Raises:
        ProbeError: an emotion stands in one group alone.
    """
    names = tuple(sorted(set(emotions)))
    codes = np.asarray([names.index(name) for name in emotions])
    splits = _folds(codes, groups, names, folds=FOLDS, seed=seed)
    return dict(zip(names, _scores(rows, codes, splits, len(names), None).T, strict=True))


def measures(namings: Mapping[Site, Naming], groups: Sequence[str], *, seed: int = 0) -> list[Measure]:
    """One measure for each emotion and site: its stories against all others, with what shuffled labels give.

    `p_value` is one-sided and adjusted for the number of sites.
    """
    sites, first = list(namings), next(iter(namings.values()))
    found = []
    for index, name in enumerate(first.names):
        observed = np.asarray([_aurocs(namings[site].scores, first.told)[index] for site in sites])
        null = np.stack([namings[site].null[:, index] for site in sites], axis=1)
        above, below = max_statistic(observed, null), max_statistic(-observed, -null)
        for at, site in enumerate(sites):
            interval = auroc_interval(namings[site].scores[:, index], first.told == index, groups, seed=seed)
            found.append(
                Measure(
                    f"emotion:{name}",
                    site,
                    auroc=float(observed[at]),
                    low=interval and interval.low,
                    high=interval and interval.high,
                    null_low=None if below.band is None else -below.band,
                    null_high=above.band,
                    p_value=above.p_values[at],
                    floor=above.floor,
                    n=len(first.told),
                    groups=len(set(groups)),
                    shuffles=len(null),
                )
            )
    return found


def _folds(
    codes: Int[np.ndarray, " story"], groups: Sequence[str], names: Sequence[str], *, folds: int, seed: int
) -> list[Int[np.ndarray, " _"]]:
    """The test rows of each fold: whole groups, dealt in a random order."""
    spread = {
        name: len({g for g, code in zip(groups, codes, strict=True) if code == i}) for i, name in enumerate(names)
    }
    alone = [name for name, count in spread.items() if count < 2]
    if alone:
        raise ProbeError(
            "measuring emotion vectors on groups that they have not seen",
            f"all stories of {', '.join(alone)} are in one group",
            "give stories of each emotion on at least two topics",
        )
    rng, kinds = np.random.default_rng(seed), sorted(set(groups))
    for count in range(min(folds, len(kinds)), 1, -1):
        for _ in range(_DEALS):
            of_group = {group: number % count for number, group in enumerate(rng.permutation(kinds))}
            fold = np.asarray([of_group[group] for group in groups])
            splits = [np.flatnonzero(fold == number) for number in range(count)]
            if _whole(codes, splits, len(names)):
                return splits
    found = "however the groups are dealt, some emotion is left out of a training set"
    raise ProbeError("measuring emotion vectors on groups that they have not seen", found, "give more groups")


def _whole(codes: Int[np.ndarray, " story"], splits: Sequence[np.ndarray], emotions: int) -> bool:
    """Whether every emotion stands in every training set."""
    counts = np.bincount(codes, minlength=emotions)
    return all((counts > np.bincount(codes[test], minlength=emotions)).all() for test in splits)


def shuffled_codes(
    codes: Int[np.ndarray, " story"],
    groups: Sequence[str],
    splits: Sequence[np.ndarray],
    emotions: int,
    *,
    n: int,
    seed: int,
) -> list[Int[np.ndarray, " story"]]:
    """Labellings as likely as the real one if labels mean nothing; those that leave an emotion out are drawn again."""
    drawn = (codes[order] for order in islice(arrangements(groups, [seed, 1]), 20 * n))
    found = list(islice((one for one in drawn if _whole(one, splits, emotions)), n))
    if len(found) == n:
        return found
    raise ProbeError("shuffling emotions", "nearly every shuffle leaves an emotion out", "give more stories of each")


def _scores(
    rows: Float[Tensor, "story d_model"],
    codes: Int[np.ndarray, " story"],
    splits: Sequence[np.ndarray],
    emotions: int,
    space: NeutralSpace | None,
) -> Float[np.ndarray, "story emotion"]:
    scores = np.zeros((len(codes), emotions))
    member = torch.nn.functional.one_hot(torch.from_numpy(codes), emotions).float().to(rows.device)
    for test in splits:
        train = np.setdiff1d(np.arange(len(codes)), test)
        counts = member[train].sum(0)[:, None]
        means = (member[train].T @ rows[train]) / counts
        centre = means.mean(0)
        vectors = means - centre if space is None else space.without(means - centre)
        units = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-30)
        spread = ((rows[train] - centre) @ units.T).std(0).clamp(min=1e-30)
        scores[test] = (((rows[test] - centre) @ units.T) / spread).double().cpu().numpy()
    return scores


def _aurocs(
    scores: Float[np.ndarray, "story emotion"], codes: Int[np.ndarray, " story"]
) -> Float[np.ndarray, " emotion"]:
    return aurocs(scores.T, codes == np.arange(scores.shape[1])[:, None])
