"""Two experiments' changes compared: a planted difference is found, none is found as often as chance has it."""

import numpy as np
import pytest
from scipy.stats import binomtest

from interp.stats import Change, between_changes

SCENES = 16
SHARED = [f"scene {i}" for i in range(SCENES)]
OTHERS = [f"other {i}" for i in range(SCENES)]


def change(names, fall, rng, pairs=6):
    """An experiment over scenes that differ in their own rates, of which an edit takes a share away."""
    one, other, groups = [], [], []
    for name in names:
        start = rng.uniform(0.3, 0.8)
        for _ in range(pairs):
            other.append(bool(rng.random() < start))
            one.append(bool(rng.random() < start * (1 - fall)))
            groups.append(name)
    return Change.of(one, other, groups)


def test_a_change_is_the_mean_over_graded_pairs():
    found = Change.of([True, False, None, False], [False, False, True, True], ["a", "a", "b", "b"])
    assert found.value == 0.0 and found.dropped == 1
    assert found.sums == {"a": 1.0, "b": -1.0} and found.pairs == {"a": 2, "b": 1}
    assert Change.of([None], [True], ["a"]).value is None


@pytest.mark.parametrize("names", [SHARED, OTHERS], ids=["shared", "apart"])
def test_a_planted_difference_is_found_and_lies_in_its_interval(names):
    rng = np.random.default_rng(1)
    strong, weak = change(SHARED, 0.9, rng, pairs=20), change(names, 0.1, rng, pairs=20)
    found = between_changes(strong, weak, seed=0)
    assert found.difference == pytest.approx(strong.value - weak.value) and found.difference < -0.2
    assert found.p_value is not None and found.p_value < 0.001
    assert found.interval is not None and found.interval.low < found.difference < found.interval.high < 0
    assert found.interval.level == 0.95
    back = between_changes(weak, strong, seed=0)
    assert back.difference == pytest.approx(-found.difference) and back.p_value == pytest.approx(
        found.p_value, abs=0.01
    )


@pytest.mark.parametrize("names", [SHARED, OTHERS], ids=["shared", "apart"])
def test_equal_changes_differ_as_often_as_five_percent(names, unchecked):
    rng = np.random.default_rng(2)
    found = [
        between_changes(change(SHARED, 0.5, rng), change(names, 0.5, rng), seed=i, n_flips=199, n_resamples=300)
        for i in range(200)
    ]
    tests = sum(one.p_value <= 0.05 for one in found)
    misses = sum(not one.interval.low <= 0 <= one.interval.high for one in found)
    assert binomtest(tests, 200, 0.05).pvalue > 0.01 and binomtest(misses, 200, 0.05).pvalue > 0.01


def test_only_shared_scenarios_count_where_some_are_shared():
    rng = np.random.default_rng(3)
    one, other = change(SHARED, 0.5, rng), change(SHARED[:5] + OTHERS, 0.5, rng)
    found = between_changes(one, other, seed=0)
    assert found.n == 5 and found.method == "sign flips of 5 shared scenarios"
    assert found.difference == pytest.approx(one.within(SHARED[:5]).value - other.within(SHARED[:5]).value)


def test_scenarios_of_unequal_size_weigh_by_their_pairs():
    one = Change.of([True] * 9 + [False], [False] * 10, ["a"] * 9 + ["b"])
    for names in (["a", "b"], ["c", "d"]):
        other = Change.of([False] * 2, [False] * 2, names)
        assert between_changes(one, other, seed=0).difference == pytest.approx(0.9)


def test_too_few_scenarios_have_no_test():
    one = Change.of([True], [False], ["a"])
    assert between_changes(one, Change.of([True], [True], ["a"]), seed=0).p_value is None
    apart = between_changes(one, Change.of([True, False], [True, True], ["b", "c"]), seed=0)
    assert (apart.difference, apart.interval, apart.p_value) == (1.5, None, None)
    assert between_changes(one, Change.of([None], [True], ["b"]), seed=0).difference is None
