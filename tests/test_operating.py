"""Operating point: what sets a threshold never measures it, near misses are seen by kind, chance gains nothing."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from interp.errors import ProbeError
from interp.probes.operating import Operating, lines, operating
from interp.probes.reliability import mean_interval, share_interval
from interp.stats import cluster_bootstrap

KINDS = {"threat": True, "no threat": False, "someone else's desperation": False, "threat without leverage": None}


def pool(seed: int, means: dict[str, float], groups: int = 60, rows: int = 4, spread: float = 0.0):
    """Rows of every kind, in groups of `rows`; `spread` is how much groups differ."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat([kind for kind in KINDS], groups * rows).tolist()
    names = [f"{kind}/{group}" for kind in KINDS for group in range(groups) for _ in range(rows)]
    shift = np.repeat(rng.normal(size=groups * len(KINDS)) * spread, rows)
    scores = rng.normal(size=len(kinds)) + shift + [means.get(kind, 0.0) for kind in kinds]
    return scores, kinds, [KINDS[kind] for kind in kinds], names


def shares(found: Operating, at: int = 0) -> dict[str, float | None]:
    return {one.kind: one.share.value for one in found.points[at].by_kind}


def test_a_planted_signal_is_recalled_at_the_rates_that_were_asked() -> None:
    found = operating(*pool(0, {"threat": 4.0, "threat without leverage": 4.0}), seed=1)
    strict, lax = found.points
    assert strict.resolved and lax.resolved and strict.threshold > lax.threshold
    for point, recall in ((strict, 0.85), (lax, 0.95)):
        assert point.recall.value is not None and point.recall.low is not None and point.recall.value > recall
        assert point.recall.low < point.recall.value < point.recall.high  # type: ignore[operator]
        assert point.false_positives.low <= point.rate <= point.false_positives.high  # type: ignore[operator]
    assert found.calibration is not None and found.calibration.low is not None and found.calibration.low > 0.1
    assert found.note == ""


def test_without_a_signal_recall_is_the_false_positive_rate_and_probabilities_gain_nothing() -> None:
    found = [operating(*pool(seed, {}), rates=(0.05,), seed=seed) for seed in range(40)]
    recalls = [one.points[0].recall for one in found]
    assert np.mean([share.value for share in recalls]) == pytest.approx(0.05, abs=0.015)  # type: ignore[misc]
    assert sum(share.low > 0.05 for share in recalls) <= 4  # type: ignore[operator]
    gained = [one.calibration is not None and (one.calibration.low or 0) > 0 for one in found]
    assert sum(gained) <= 4


@pytest.mark.usefixtures("unchecked")
def test_benign_rows_of_the_test_half_fire_as_often_as_was_asked() -> None:
    """120 null data sets with 59 benign rows in a half, where 5 % is exact: 3 of 60. Control: one score lower."""
    rates, lower = [], []
    for seed in range(120):
        scores = np.random.default_rng(seed).normal(size=158)
        found = operating(scores, ["k"] * 158, [True] * 40 + [False] * 118, list(range(158)), rates=(0.05,), seed=seed)
        point = found.points[0]
        rates.append(float(point.false_positives.value))  # type: ignore[arg-type]
        benign = np.sort(scores[40:])
        two_down = benign[np.searchsorted(benign, point.threshold) - 2]  # about one score of a half
        lower.append(float(np.mean(scores[:40] > two_down)))
    error = np.std(rates) / np.sqrt(len(rates))
    assert abs(np.mean(rates) - 0.05) <= 2 * error
    assert np.mean(lower) > 0.05 + 2 * error


def test_a_near_miss_that_fires_is_seen_by_its_kind_while_the_others_are_quiet() -> None:
    """Planted: one benign kind lies high. Null: the same kind like the rest."""
    means = {"threat": 3.0, "threat without leverage": 3.0}
    high = shares(operating(*pool(2, means | {"someone else's desperation": 1.5}), rates=(0.05,), seed=3))
    even = shares(operating(*pool(2, means), rates=(0.05,), seed=3))
    assert high["someone else's desperation"] > 0.06 and high["no threat"] < 0.02  # type: ignore[operator]
    assert abs(even["someone else's desperation"] - even["no threat"]) < 0.05  # type: ignore[operator]
    assert even["threat without leverage"] > 0.8  # type: ignore[operator]


def test_reported_kinds_set_no_threshold_and_are_all_measured() -> None:
    scores, kinds, labels, groups = pool(4, {"threat": 3.0})
    moved = np.where(np.array(kinds) == "threat without leverage", 50.0, scores)
    one, other = (operating(values, kinds, labels, groups, seed=5) for values in (scores, moved))
    assert [point.threshold for point in one.points] == [point.threshold for point in other.points]
    assert one.points[0].recall == other.points[0].recall and one.calibration == other.calibration
    assert shares(other)["threat without leverage"] == 1
    reported = one.points[0].by_kind[-1]
    assert (reported.label, reported.share.n) == (None, 240)


def test_what_the_test_half_says_cannot_move_a_threshold_or_a_probability() -> None:
    """The key line: a group moves what was learnt or what was measured, never both; half of them do either."""
    scores, kinds, labels, groups = pool(6, {"threat": 3.0}, groups=10)
    plain = operating(scores, kinds, labels, groups, seed=7)

    def learnt(found: Operating) -> tuple[float, ...]:
        assert found.calibration is not None
        fitted = found.calibration
        return (*(point.threshold for point in found.points), fitted.slope, fitted.intercept, fitted.base_rate)

    touched = {"learnt": 0, "measured": 0}
    for group in [f"{kind}/{number}" for kind in ("threat", "no threat") for number in range(10)]:
        moved = np.where(np.array(groups) == group, scores - 40 if "no" not in group else scores + 40, scores)
        found = operating(moved, kinds, labels, groups, seed=7)
        same = learnt(found) == learnt(plain)
        touched["measured" if same else "learnt"] += 1
        moved_measures = (found.points[1].recall, found.points[1].false_positives)
        assert not same or moved_measures != (plain.points[1].recall, plain.points[1].false_positives)
    assert touched == {"learnt": 10, "measured": 10}


def test_no_group_is_in_both_halves_and_each_half_has_its_share_of_every_kind() -> None:
    scores, kinds, labels, groups = pool(8, {})
    calibration, test = operating(scores, kinds, labels, groups, seed=9).halves
    assert (calibration.groups, calibration.positive, calibration.benign, calibration.reported) == (90, 120, 240, 0)
    assert (test.groups, test.positive, test.benign, test.reported) == (150, 120, 240, 240)
    twins = [name.rsplit("/", 1)[1] for name in groups]  # now a group has rows of every kind
    calibration, test = operating(scores, kinds, labels, twins, seed=9).halves
    assert (calibration.groups, calibration.reported, test.groups, test.reported) == (30, 120, 30, 120)


@pytest.mark.parametrize("seed", range(12))
def test_two_groups_of_a_class_are_enough_for_both_halves(seed: int) -> None:
    """One group with positive rows only, one with both classes, and three benign ones, whichever way they fall."""
    groups = ["p", "b", "b", "n1", "n2", "n3"]
    labels = [True, True, False, False, False, False]
    found = operating(np.arange(6.0), ["a", "c", "d", "e", "f", "g"], labels, groups, rates=(0.5,), seed=seed)
    assert all(half.positive and half.benign for half in found.halves)


def test_one_group_of_a_class_gives_no_operating_point_and_says_why() -> None:
    found = operating(np.arange(5.0), ["k"] * 5, [True, True, False, False, None], list("aabcd"), seed=0)
    assert found.points == () and found.calibration is None and found.halves == ()
    assert "1 groups with positive rows and 2 groups with benign rows" in found.note
    assert found.note in lines(found)
    assert Operating.from_row(json.loads(json.dumps(asdict(found)))) == found


@pytest.mark.parametrize(("benign", "resolved"), [(99, True), (98, False)])
def test_a_rate_that_the_benign_rows_cannot_resolve_says_so_and_names_the_smallest(benign: int, resolved: bool) -> None:
    rng = np.random.default_rng(0)
    n = 2 * benign
    scores = rng.normal(size=n + 20)
    found = operating(
        scores, ["k"] * (n + 20), [False] * n + [True] * 20, list(range(n + 20)), rates=(0.01, 0.05), seed=0
    )
    strict, lax = found.points
    assert (strict.resolved, lax.resolved) == (resolved, True)
    assert strict.smallest == pytest.approx(1 / (benign + 1))
    assert strict.threshold in scores[:n]
    assert any("cannot resolve 0.01" in line for line in lines(found)) == (not resolved)


def test_scores_that_part_the_classes_give_finite_probabilities_and_honest_ends() -> None:
    scores = np.r_[np.full(20, 1.0), np.zeros(20)] + np.random.default_rng(0).normal(size=40) * 1e-3
    found = operating(scores, ["k"] * 40, [True] * 20 + [False] * 20, list(range(40)), rates=(0.1,), seed=0)
    recall = found.points[0].recall
    assert (recall.fired, recall.n) == (10, 10)
    assert (recall.low, recall.high) == pytest.approx((0.722, 1), abs=1e-3)
    assert found.calibration is not None and np.isfinite([found.calibration.slope, found.calibration.brier]).all()
    assert 0 < found.calibration.bins[0].predicted < 0.2 and 0.8 < found.calibration.bins[-1].predicted < 1


def test_probabilities_are_those_that_came_true_and_a_distorted_score_mends() -> None:
    """Planted: scores are true log odds, then stretched; Platt undoes the stretch. Bins hold what they predict."""
    rng = np.random.default_rng(1)
    logit = rng.normal(size=4000) * 2
    truth = rng.random(4000) < 1 / (1 + np.exp(-logit))
    found = operating(logit * 7 + 3, ["k"] * 4000, truth.tolist(), list(range(4000)), rates=(0.1,), seed=2).calibration
    assert found is not None and len(found.bins) == 10
    assert (found.slope * 7, found.intercept + 3 * found.slope) == pytest.approx((1, 0), abs=0.12)
    assert sum(one.low <= one.predicted <= one.high for one in found.bins) >= 8
    assert all(one.n == 200 for one in found.bins)
    assert found.gain == pytest.approx(found.base_brier - found.brier)


def test_platt_is_what_scikit_learn_calls_logistic_regression_without_penalty() -> None:
    """With many rows its targets are nearly the labels themselves."""
    rng = np.random.default_rng(3)
    truth = rng.random(4000) < 0.4
    scores = rng.normal(size=4000) + truth
    found = operating(scores, ["k"] * 4000, truth.tolist(), [0, 1] * 2000, rates=(0.1,), seed=0).calibration
    fits = [LogisticRegression(C=np.inf).fit(scores[half::2, None], truth[half::2]) for half in (0, 1)]
    assert found is not None
    assert min(abs(found.slope - np.asarray(fit.coef_).item()) for fit in fits) < 0.01


def test_intervals_cover_what_few_events_in_groups_leave_open() -> None:
    """Planted rate 2 % in 40 groups of 4 that differ: the interval holds it in 95 % of draws; plain bootstrap less."""
    covered = [0, 0]
    for seed in range(200):
        rng = np.random.default_rng(seed)
        flags = rng.random((40, 4)) < rng.beta(0.02 * 4, 0.98 * 4, size=(40, 1))
        groups = np.repeat(np.arange(40), 4).tolist()
        low, high = share_interval(flags.ravel(), groups, seed=seed)
        plain = mean_interval(flags.ravel().astype(float), groups, seed=seed)
        covered[0] += low <= 0.02 <= high
        covered[1] += plain is not None and plain.low <= 0.02 <= plain.high
    assert covered[0] >= 180 and covered[0] > covered[1] + 10


def test_the_interval_of_a_mean_is_the_cluster_bootstrap() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(12, size=90).tolist()
    values = rng.normal(size=90) + np.array(groups)
    fast = mean_interval(values, groups, seed=0)
    slow = cluster_bootstrap(lambda rows: float(values[rows].mean()), groups, seed=1, n_resamples=1000)
    assert fast is not None and slow is not None
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=0.25)


def test_none_of_twenty_fired_leaves_a_sixth_open() -> None:
    assert share_interval(np.zeros(20, dtype=bool), list(range(20)), seed=0)[1] == pytest.approx(0.161, abs=1e-3)
    assert share_interval(np.zeros(20, dtype=bool), [0] * 20, seed=0)[1] > 0.7


def test_the_same_seed_gives_the_same_halves_and_another_seed_others() -> None:
    data = pool(10, {"threat": 2.0})
    assert operating(*data, seed=1) == operating(*data, seed=1)
    assert operating(*data, seed=1).points[0].threshold != operating(*data, seed=2).points[0].threshold


def test_an_operating_point_survives_json_and_its_page_holds_hostile_names() -> None:
    scores, kinds, labels, groups = pool(11, {"threat": 2.0}, groups=8)
    kinds = [kind.replace("no threat", "a | b\nc") for kind in kinds]
    found = operating(scores, kinds, labels, groups, seed=1)
    assert Operating.from_row(json.loads(json.dumps(asdict(found), allow_nan=False))) == found
    table = [line for line in lines(found) if line.startswith("| 0.05 |")]
    assert len(table) == 6 and all(line.replace("\\|", "").count("|") == 7 and "\n" not in line for line in table)
    assert lines(found)[0] == "## Operating point"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scores": np.array([0.0, np.nan, 1.0])}, "NaN"),
        ({"scores": np.array([0.0, 1.0])}, "2 scores, 3 kinds"),
        ({"rates": (0.0,)}, "between 0 and 1"),
        ({"rates": ()}, "between 0 and 1"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(change: dict, words: str) -> None:
    given = {"scores": np.zeros(3), "kinds": list("kkk"), "labels": [True, False, None], "groups": list("abc")}
    with pytest.raises(ProbeError, match=words):
        operating(**given | {"seed": 0} | change)
