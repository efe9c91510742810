"""What chance gives: labels shuffled at the level at which they live."""

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from itertools import islice

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.errors import ProbeError
from interp.probes.splits import Groups


def shuffled_labels(
    labels: Bool[np.ndarray, " row"], groups: Groups, *, n: int, seed: int
) -> Bool[np.ndarray, "shuffle row"]:
    """`n` labellings that are as likely as the real one if labels have nothing to do with activations.

    Every group gets the labels of a group drawn at random, in a random order. Where labels are constant within
    groups this permutes them among groups, and rows of one group never part; where each group has both classes
    alike, it permutes rows within groups; with one row a group, it permutes rows. Shuffling rows freely would take
    the rows of a group for independent and find effects everywhere; shuffling them only within groups of one class
    would change nothing and find none. Exact for groups of one size; a larger group repeats the donor's labels, a
    smaller one takes a sample.

    Raises:
        ProbeError: the labels can be arranged in one way only.
    """
    if smallest_p(labels, groups) == 1:
        raise ProbeError(
            "shuffling labels",
            f"{len(set(groups))} groups whose labels are all the same",
            "give groups of both classes, or rows of both classes in a group",
        )
    return labels[donors(groups, n=n, seed=seed)]


def donors(groups: Groups, *, n: int, seed: int) -> Int[np.ndarray, "shuffle row"]:
    """For `n` shuffles, from which row each row takes its label; see `shuffled_labels`. Graded labels use it too."""
    return np.stack(list(islice(arrangements(groups, seed), n)))


def arrangements(groups: Groups, seed: int | Sequence[int]) -> Iterator[Int[np.ndarray, " row"]]:
    """Shuffles without end, one at a time: from which row each row takes its label."""
    rng, members = np.random.default_rng(seed), _members(groups)
    while True:
        one = np.empty(len(groups), dtype=int)
        for rows, donor in zip(members, rng.permutation(len(members)), strict=True):
            one[rows] = np.resize(rng.permutation(members[donor]), len(rows))
        yield one


def smallest_p(labels: Bool[np.ndarray, " row"], groups: Groups) -> float:
    """One over the number of ways to arrange the labels: no shuffle, however often repeated, gives a smaller p."""
    found = [(len(rows), int(labels[rows].sum())) for rows in _members(groups)]
    between = math.lgamma(len(found) + 1) - sum(math.lgamma(n + 1) for n in Counter(found).values())
    within = sum(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for n, k in found)
    return math.exp(-between - within)


def aurocs(
    scores: Float[np.ndarray, "#labelling row"], labels: Bool[np.ndarray, "labelling row"]
) -> Float[np.ndarray, " labelling"]:
    """The AUROC of each row of labels; NaN where a class is missing. `interp.stats.auroc`, many at a time."""
    ranks = np.stack([_ranks(one) for one in scores])
    positive = labels.sum(axis=1)
    pairs = positive * (labels.shape[1] - positive)
    wins = np.einsum("lr,lr->l", np.broadcast_to(ranks, labels.shape), labels) - positive * (positive + 1) / 2
    return np.divide(wins, pairs, out=np.full(len(labels), np.nan), where=pairs > 0)


def _ranks(values: Float[np.ndarray, " row"]) -> Float[np.ndarray, " row"]:
    """1 for the smallest; equal values share the mean of their ranks."""
    _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[level]


def _members(groups: Groups) -> list[np.ndarray]:
    """The rows of every group."""
    rows: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    return [np.asarray(found) for found in rows.values()]
