"""Splits that keep groups whole: folds for cross-validation, and whole conditions left out."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Shaped
from sklearn.model_selection import StratifiedGroupKFold

from interp.errors import ProbeError

Groups = Sequence[Hashable] | Shaped[np.ndarray, " row"]


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


def fold_codes(splits: Sequence[Fold], groups: Groups) -> Int[np.ndarray, " row"]:
    """The number of the fold that tests each row.

    Raises:
        ProbeError: a group is in both train and test, or a row is not tested exactly once.
    """
    for number, (train, test) in enumerate(splits, start=1):
        shared = {str(groups[row]) for row in train} & {str(groups[row]) for row in test}
        if shared:
            found = f"{len(shared)} groups in both train and test: {_some(sorted(shared))}"
            raise ProbeError(f"evaluating a probe on fold {number}", found, "split by group, as grouped_folds does")
    tested = np.bincount(np.concatenate([fold.test for fold in splits]), minlength=len(groups))
    if (tested != 1).any():
        raise ProbeError(
            "evaluating a probe",
            f"{int((tested != 1).sum())} rows are not tested exactly once",
            "give folds whose test rows are a partition, as grouped_folds does",
        )
    codes = np.empty(len(groups), dtype=int)
    for number, fold in enumerate(splits):
        codes[fold.test] = number
    return codes


def condition_codes(condition: str, values: Sequence[Hashable], groups: Groups) -> dict[str, Int[np.ndarray, " row"]]:
    """For each value of a condition, the rows that have it; no group has two, so that leaving one out leaves no trace.

    Raises:
        ProbeError: the condition has one value, or varies within a group, which would then be in train and test.
    """
    asked = f"leaving out one {condition} at a time"
    of_group: dict[Hashable, set[Hashable]] = {}
    for value, group in zip(values, groups, strict=True):
        of_group.setdefault(group, set()).add(value)
    torn = sorted(str(group) for group, found in of_group.items() if len(found) > 1)
    if torn:
        raise ProbeError(
            asked,
            f"{len(torn)} groups in both train and test, since they have several values of it: {_some(torn)}",
            "name a condition that is the same throughout a group, or group by it",
        )
    names = sorted({str(value) for value in values})
    if len(names) < 2:
        raise ProbeError(asked, f"it is {_some(names)} in all {len(groups)} transcripts", "name one that varies")
    told = np.array([str(value) for value in values])
    return {name: np.flatnonzero(told == name) for name in names}


def _some(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
