"""Where to set the alarm: thresholds and calibration learnt on one half of the groups, measured on the other."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Shaped

from interp.errors import ProbeError
from interp.probes.markdown import cell
from interp.probes.reliability import Reliability, reliability, reliability_lines, share_interval
from interp.stats.rates import Flags, checked
from interp.stats.resampling import Groups


@dataclass(frozen=True)
class Share:
    """How many of some rows the probe fires on, with a 95 % interval; the value is None where there are no rows."""

    fired: int
    n: int
    groups: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class KindShare:
    """How many rows of one kind the probe fires on. `label` None: a kind that set no threshold and is only reported."""

    kind: str
    label: bool | None
    share: Share


@dataclass(frozen=True)
class Point:
    """One threshold and what it does on the test half. The probe fires on a score above the threshold.

    `resolved` is False where the calibration half has too few benign rows for the rate that was asked. The threshold
    is then their largest score, and `smallest` is the rate that it stands for.
    """

    rate: float
    resolved: bool
    smallest: float
    threshold: float
    false_positives: Share
    recall: Share
    by_kind: tuple[KindShare, ...]


@dataclass(frozen=True)
class Half:
    """One half of the groups. `reported` rows have no label; all are in the test half whose groups have no others."""

    name: str
    groups: int
    positive: int
    benign: int
    reported: int


@dataclass(frozen=True)
class Operating:
    """A probe at fixed rates of false alarms. Without points, `note` says why there are none."""

    points: tuple[Point, ...]
    calibration: Reliability | None
    halves: tuple[Half, ...]
    note: str

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Operating":
        """What `dataclasses.asdict` wrote, also after a round trip through JSON."""
        found = row["calibration"]
        return cls(
            points=tuple(_point(one) for one in row["points"]),
            calibration=None if found is None else Reliability.from_row(found),
            halves=tuple(Half(**one) for one in row["halves"]),
            note=row["note"],
        )


def operating(
    scores: Float[np.ndarray, " row"],
    kinds: Sequence[str] | Shaped[np.ndarray, " row"],
    labels: Flags,
    groups: Groups,
    *,
    rates: Sequence[float] = (0.01, 0.05),
    seed: int,
) -> Operating:
    """Thresholds at given false-positive rates, the recall there, and calibration, all on groups that set none of it.

    Groups are split once at random into a calibration and a test half, each with its share of every kind. A threshold
    is the k-th largest benign score of the calibration half, with k = floor(rate x (n + 1)): a new benign row
    exceeds it with a chance of at most `rate` (exact for independent rows). Where k is 0 the largest score is taken
    and the point says which rate that is.

    Args:
        scores: one per transcript; larger means more of the concept. They must not come from a fit on the same groups.
        kinds: what each row is, in words, such as "no threat" or "someone else's desperation".
        labels: True for the concept, False for the benign rows that set the threshold, None for rows to report only.
        groups: the unit of splitting and of intervals.
        rates: the false-positive rates that are asked for.
        seed: of the split and of the bootstrap.

    Raises:
        ProbeError: lengths differ, a score is not finite, or a rate is not between 0 and 1.
    """
    _check(scores, kinds, checked(labels), groups, rates)
    positive, benign = (
        np.array([label is not None and bool(label) == side for label in labels]) for side in (True, False)
    )
    test = _test_half(positive, benign, kinds, groups, seed)
    if test is None:
        counts = " and ".join(
            f"{len({g for g, its in zip(groups, rows, strict=True) if its})} groups with {name} rows"
            for name, rows in (("positive", positive), ("benign", benign))
        )
        return Operating((), None, (), f"No operating point: {counts}, and each needs 2, one for either half.")
    rows = _Rows(scores, np.asarray(kinds, dtype=object), positive, benign, list(groups), test, seed)
    of = np.flatnonzero(positive | benign)
    calibration = reliability(scores[of], positive[of], test[of], [groups[row] for row in of.tolist()], seed=seed)
    halves = tuple(_half(name, rows, side) for name, side in (("calibration", ~test), ("test", test)))
    return Operating(tuple(_measured(rate, rows) for rate in rates), calibration, halves, "")


def lines(found: Operating) -> list[str]:
    """The section of a card, as Markdown."""
    told = ["## Operating point", ""]
    if not found.points:
        return [*told, found.note]
    calibration, test = found.halves
    told += [
        f"Thresholds were set on the {calibration.benign} benign rows of a calibration half ({calibration.groups} "
        f"groups) and measured on the {test.groups} other groups: {test.positive} positive and {test.benign} benign "
        "rows. "
        "The probe fires on a score above the threshold; intervals are at 95 %, over groups.",
        "",
        "| asked rate | threshold | rows | fires on | interval | n |",
        "|---|---|---|---|---|---|",
    ]
    for point in found.points:
        told += _point_lines(point)
    for point in found.points:
        if not point.resolved:
            told += [
                "",
                f"{calibration.benign} benign rows cannot resolve {point.rate:.3g}: its threshold is their largest "
                f"score, which stands for {point.smallest:.3g}.",
            ]
    return told if found.calibration is None else [*told, *reliability_lines(found.calibration)]


@dataclass(frozen=True)
class _Rows:
    """The rows with their half: what every measure needs."""

    scores: np.ndarray
    kinds: np.ndarray
    positive: np.ndarray
    benign: np.ndarray
    groups: list[Hashable]
    test: np.ndarray
    seed: int

    def share(self, fired: Bool[np.ndarray, " row"], among: Bool[np.ndarray, " row"]) -> Share:
        """How many of the rows `among` are `fired`."""
        where = np.flatnonzero(among)
        groups = [self.groups[row] for row in where.tolist()]
        if not len(where):
            return Share(0, 0, 0, None, None, None)
        flags = fired[where]
        low, high = share_interval(flags, groups, seed=self.seed)
        return Share(int(flags.sum()), len(where), len(set(groups)), float(flags.mean()), low, high)


def _test_half(
    positive: Bool[np.ndarray, " row"],
    benign: Bool[np.ndarray, " row"],
    kinds: Sequence[str] | Shaped[np.ndarray, " row"],
    groups: Groups,
    seed: int,
) -> Bool[np.ndarray, " row"] | None:
    """Which rows are in the test half; None where a class has fewer than two groups.

    Groups stand in a line: with positive rows only, with both, with benign rows only, each sorted by kinds and
    shuffled within. Every second one goes to the test half, so a class with two groups is in both halves. Groups with
    neither class set nothing and are all tested.
    """
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    order = np.random.default_rng(seed).permutation(len(members))
    labelled: list[tuple[tuple[bool, bool], list[str], int, Hashable]] = []
    for place, (group, rows) in zip(order, members.items(), strict=True):
        has = (bool(benign[rows].any()), not positive[rows].any())
        if has != (False, True):
            labelled.append((has, sorted({str(kinds[row]) for row in rows}), int(place), group))
    if min(sum(has[0] for has, *_ in labelled), sum(not has[1] for has, *_ in labelled)) < 2:
        return None
    line = [group for *_, group in sorted(labelled, key=lambda one: one[:3])]
    first = int(np.random.default_rng([seed, 1]).integers(2))
    learnt_on = set(line[first::2])
    return np.array([group not in learnt_on for group in groups])


def _half(name: str, rows: _Rows, side: Bool[np.ndarray, " row"]) -> Half:
    groups = {group for group, its in zip(rows.groups, side, strict=True) if its}
    counts = (int((side & of).sum()) for of in (rows.positive, rows.benign, ~(rows.positive | rows.benign)))
    return Half(name, len(groups), *counts)


def _measured(rate: float, rows: _Rows) -> Point:
    """The threshold from the calibration half, and what it does on the test half."""
    learnt = np.sort(rows.scores[rows.benign & ~rows.test])[::-1]
    allowed = math.floor(rate * (len(learnt) + 1) + 1e-9)  # 0.01 * 100 must not come out below 1
    threshold = float(learnt[max(allowed, 1) - 1])
    fired = rows.scores > threshold
    kinds = []
    for label, of in ((True, rows.positive), (False, rows.benign), (None, ~(rows.positive | rows.benign))):
        for kind in dict.fromkeys(rows.kinds[of]):
            among = rows.test & of & (rows.kinds == kind)
            kinds.append(KindShare(str(kind), label, rows.share(fired, among)))
    return Point(
        rate=float(rate),
        resolved=allowed >= 1,
        smallest=1 / (len(learnt) + 1),
        threshold=threshold,
        false_positives=rows.share(fired, rows.test & rows.benign),
        recall=rows.share(fired, rows.test & rows.positive),
        by_kind=tuple(kinds),
    )


def _check(
    scores: Float[np.ndarray, " row"],
    kinds: Sequence[str] | Shaped[np.ndarray, " row"],
    labels: Flags,
    groups: Groups,
    rates: Sequence[float],
) -> None:
    lengths = [len(scores), len(kinds), len(labels), len(groups)]
    asked = "setting an operating point"
    if len(set(lengths)) > 1 or not lengths[0]:
        found = "{} scores, {} kinds, {} labels and {} groups".format(*lengths)
        raise ProbeError(asked, found, "give one of each per transcript")
    if not np.isfinite(scores).all():
        raise ProbeError(asked, "a score is NaN or infinite", "leave such rows out, and say how many")
    if not rates or not all(0 < rate < 1 for rate in rates):
        raise ProbeError(asked, f"the rates {tuple(rates)}", "give rates between 0 and 1, such as 0.01")


def _point(row: Mapping[str, Any]) -> Point:
    kinds = tuple(KindShare(one["kind"], one["label"], Share(**one["share"])) for one in row["by_kind"])
    shares = {name: Share(**row[name]) for name in ("false_positives", "recall")}
    return Point(**{**row, **shares, "by_kind": kinds})


def _point_lines(point: Point) -> list[str]:
    said = {True: "positive", False: "benign", None: "reported only"}
    shares = [("**all positive** (recall)", point.recall), ("**all benign** (false positives)", point.false_positives)]
    shares += [(f"{cell(one.kind)} ({said[one.label]})", one.share) for one in point.by_kind]
    return [
        f"| {point.rate:.3g} | {point.threshold:.3g} | {name} | {_number(share.value)} | {_range(share)} | {share.n} |"
        for name, share in shares
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _range(share: Share) -> str:
    return "-" if share.low is None else f"{share.low:.3f} to {share.high:.3f}"
