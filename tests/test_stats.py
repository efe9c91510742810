"""Intervals cover, nulls hold their level, and what is undefined says so."""

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from scipy.stats import binom
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from interp.errors import InterpError
from interp.stats import (
    Interval,
    auroc,
    auroc_difference_interval,
    auroc_interval,
    cluster_bootstrap,
    contrast,
    control_rank,
    dose_trend,
    holm,
    max_statistic,
    paired_contrast,
    rate,
    rate_of,
)
from interp.stats.resampling import expanded


def ends(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    return interval.low, interval.high


def scattered(seed: int, n_groups: int, size: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Values with mean zero whose groups differ by `spread` standard deviations of their rows."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), size)
    return rng.normal(size=n_groups * size) + spread * rng.normal(size=n_groups)[groups], groups


# -- rates


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (0, 20, 0.0, 0.161),
        (20, 20, 0.839, 1.0),
        (1, 1, 0.207, 1.0),
        (72, 100, 0.625, 0.799),
        (0, 50, 0.0, 0.071),
    ],
)
def test_a_rate_has_its_known_wilson_interval(successes: int, trials: int, low: float, high: float) -> None:
    interval = rate(successes, trials).interval
    assert ends(interval) == pytest.approx((low, high), abs=5e-4)
    assert ends(interval) == pytest.approx(proportion_confint(successes, trials, method="wilson"))
    assert interval == Interval(*ends(interval), level=0.95, method="wilson")


def test_nothing_of_twenty_is_not_certainty() -> None:
    wald = proportion_confint(0, 20, method="normal")
    assert wald == (0, 0), "the control: the textbook interval claims to know"
    assert ends(rate(0, 20).interval)[1] == pytest.approx(0.16, abs=0.005)


def test_a_rate_of_no_trials_is_undefined_and_not_zero() -> None:
    empty = rate(0, 0, ungraded=3)
    assert (empty.value, empty.interval, empty.ungraded) == (None, None, 3)
    assert rate(0, 3).value == 0.0


def test_ungraded_flags_are_counted_and_never_a_no() -> None:
    with_gaps, without = rate_of([True, None, False, np.True_, None]), rate_of(np.array([True, False, True]))
    assert with_gaps.value == without.value == 2 / 3
    assert (with_gaps.trials, with_gaps.ungraded) == (3, 2)
    assert (without.trials, without.ungraded) == (3, 0)


def test_impossible_counts_and_strange_flags_are_refused() -> None:
    with pytest.raises(InterpError, match="4 successes, 3 trials"):
        rate(4, 3)
    gaps = [*[True] * 3, float("nan")]
    with pytest.raises((InterpError, TypeCheckError)):  # beartype looks at one item at random, rate_of at each
        rate_of(gaps)


def test_a_contrast_has_its_known_newcombe_interval() -> None:
    found = contrast(rate(72, 100, ungraded=1), rate(22, 100, ungraded=2))
    assert found.difference == pytest.approx(0.5)
    assert ends(found.interval) == pytest.approx((0.369, 0.605), abs=5e-4)
    assert found.p_value is not None and found.p_value < 1e-10
    assert (found.n, found.dropped) == (200, 3)


def test_a_contrast_of_nothing_with_nothing_is_wide_and_of_no_trials_undefined() -> None:
    both_zero = contrast(rate(0, 20), rate(0, 20))
    assert ends(both_zero.interval) == pytest.approx((-0.161, 0.161), abs=5e-4)
    assert both_zero.p_value == pytest.approx(1)
    empty = contrast(rate(0, 0), rate(3, 20))
    assert (empty.difference, empty.interval, empty.p_value) == (None, None, None)


def test_pairing_sees_what_independent_arms_cannot() -> None:
    calm = np.arange(100) < 40
    desperate = np.arange(100) < 50  # the same rollouts and ten more
    paired = paired_contrast(desperate, calm, seed=0)
    unpaired = contrast(rate_of(desperate), rate_of(calm))
    assert paired.difference == pytest.approx(0.1) == unpaired.difference
    assert paired.p_value == pytest.approx(2 * 0.5**10)
    assert ends(paired.interval)[0] > 0 > ends(unpaired.interval)[0]


def test_pairs_with_an_ungraded_half_are_dropped_and_counted() -> None:
    found = paired_contrast([True, None, True, False], [False, True, None, False], seed=0)
    assert (found.difference, found.n, found.dropped) == (0.5, 2, 2)
    nothing = paired_contrast([None], [True], seed=0)
    assert (nothing.difference, nothing.interval, nothing.p_value, nothing.dropped) == (None, None, None, 1)


def test_pairs_that_never_disagree_are_no_certainty() -> None:
    same = paired_contrast([False] * 20, [False] * 20, seed=0)
    assert (same.difference, same.p_value) == (0, 1)
    assert ends(same.interval) == pytest.approx((-0.161, 0.161), abs=5e-4)
    assert same.interval is not None and same.interval.method == "newcombe"


def test_a_single_group_has_no_interval_but_its_pairs_have() -> None:
    one, other = [True, True, False, True], [False, True, False, False]
    assert paired_contrast(one, other, ["g"] * 4, seed=0).interval is None
    assert paired_contrast(one, other, seed=0).interval is not None


# -- resampling


def test_the_cluster_bootstrap_covers_grouped_data_and_the_naive_one_does_not() -> None:
    def covers(by_group: bool, seed: int) -> bool:
        values, groups = scattered(seed, n_groups=25, size=8, spread=1.0)
        units = groups if by_group else np.arange(len(values))
        low, high = ends(cluster_bootstrap(lambda rows: values[rows].mean(), units, seed=seed, n_resamples=199))
        return low <= 0 <= high

    by_group, naive = (np.mean([covers(kind, seed) for seed in range(120)]) for kind in (True, False))
    assert by_group > binom.ppf(0.001, 120, 0.93) / 120, "0.93: the percentile bootstrap is a little narrow"
    assert naive < 0.8


def test_the_cluster_bootstrap_resamples_whole_groups() -> None:
    groups = ["a", "b", "a", "c", "b", "a"]
    sizes = {"a": 3, "b": 2, "c": 1}

    def whole(rows: np.ndarray) -> float:
        drawn = [groups[row] for row in rows]
        assert all(drawn.count(name) % size == 0 for name, size in sizes.items())
        return float(len(rows))

    assert cluster_bootstrap(whole, groups, seed=0, n_resamples=50) is not None


def test_resampling_that_says_nothing_gives_no_interval() -> None:
    values = np.arange(6.0)
    assert cluster_bootstrap(lambda rows: values[rows].mean(), ["g"] * 6, seed=0) is None
    assert cluster_bootstrap(lambda rows: 1.0, range(6), seed=0) is None
    assert cluster_bootstrap(lambda rows: None, range(6), seed=0) is None
    assert cluster_bootstrap(lambda rows: values[rows].mean(), range(6), seed=0) is not None


def test_resampling_depends_on_its_seed_and_on_nothing_else() -> None:
    values, groups = scattered(0, n_groups=10, size=3, spread=1.0)
    one, again, other = (cluster_bootstrap(lambda rows: values[rows].mean(), groups, seed=seed) for seed in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize("decimals", [0, 8], ids=["many ties", "no ties"])
def test_auroc_equals_sklearn_in_every_resample(decimals: int) -> None:
    values, groups = scattered(3, n_groups=12, size=5, spread=0.5)
    scores = values.round(decimals)
    labels = np.random.default_rng(0).integers(2, size=60).astype(bool)
    assert auroc(scores, labels) == auroc(scores, labels.astype(int)) == roc_auc_score(labels, scores)
    fast = auroc_interval(scores, labels, groups, seed=5, n_resamples=200)
    counts = np.random.default_rng(5).multinomial(12, np.full(12, 1 / 12), size=200)
    slow = [roc_auc_score(labels, scores, sample_weight=count[groups]) for count in counts]
    level = expanded(0.95, 12)
    assert ends(fast) == pytest.approx(tuple(np.quantile(slow, [(1 - level) / 2, (1 + level) / 2])))
    assert fast is not None and fast.level == 0.95


@pytest.mark.parametrize("decimals", [0, 8], ids=["many ties", "no ties"])
def test_the_interval_of_a_difference_of_aurocs_is_the_bootstraps(decimals: int) -> None:
    values, groups = scattered(3, n_groups=8, size=5, spread=0.5)
    other = (values + np.random.default_rng(1).normal(size=40)).round(decimals)
    labels = np.random.default_rng(0).integers(2, size=40).astype(bool)

    def change(rows):
        both = [auroc(scores[rows], labels[rows]) for scores in (values, other)]
        return None if None in both else both[0] - both[1]

    slow = cluster_bootstrap(change, groups, seed=5, n_resamples=200)
    fast = auroc_difference_interval(values, other, labels, groups, seed=5, n_resamples=200)
    assert ends(fast) == pytest.approx(ends(slow)) and fast.method == slow.method and fast.low < fast.high
    assert auroc_difference_interval(values, values, labels, groups, seed=5) is None, "no resample differs"


def test_percentiles_are_expanded_for_few_groups_so_that_the_interval_of_a_mean_is_students() -> None:
    from scipy.stats import norm, t

    for n in (3, 12, 48):
        reach = norm.ppf((1 + expanded(0.95, n)) / 2) * np.sqrt((n - 1) / n)
        assert reach == pytest.approx(t.ppf(0.975, n - 1))
    assert expanded(0.95, 10_000) == pytest.approx(0.95, abs=1e-4) and expanded(0.95, 1) == 0.95


def test_an_auroc_interval_over_few_groups_covers_more_often_than_plain_percentiles() -> None:
    covered = {True: 0, False: 0}
    for seed in range(150):
        values, groups = scattered(seed, n_groups=10, size=3, spread=1.0)
        labels = np.arange(30) % 2 == 0
        scores = values + labels * np.random.default_rng(seed).standard_normal(30) * 0.0
        wide = auroc_interval(scores, labels, groups, seed=seed, n_resamples=200)
        counts = np.random.default_rng(seed).multinomial(10, np.full(10, 0.1), size=200)
        above, below = counts[:, groups[labels]], counts[:, groups[~labels]]
        wins = np.sign(scores[labels][:, None] - scores[~labels]) / 2 + 0.5
        drawn = np.einsum("rp,pn,rn->r", above, wins, below) / (above.sum(1) * below.sum(1))
        if seed == 0:
            assert drawn[0] == pytest.approx(roc_auc_score(labels, scores, sample_weight=counts[0][groups]))
        plain = np.quantile(drawn, [0.025, 0.975])
        covered[True] += wide.low <= 0.5 <= wide.high
        covered[False] += plain[0] <= 0.5 <= plain[1]
    assert covered[True] > covered[False] and covered[True] / 150 > 0.9, covered


def test_auroc_without_both_classes_is_undefined() -> None:
    scores, groups = np.arange(4.0), ["a", "b", "c", "d"]
    for labels in (np.ones(4, bool), np.zeros(4, bool)):
        assert auroc(scores, labels) is None
        assert auroc_interval(scores, labels, groups, seed=0) is None
    assert auroc(scores, np.array([False, True, False, True])) == 0.75
    with pytest.raises(InterpError, match="neither 0 nor 1"):
        auroc(scores, np.array([1, 2, 1, 2]))


def test_a_perfect_auroc_on_few_groups_is_no_certainty() -> None:
    def low_end(n_groups: int, size: int) -> float:
        labels = np.repeat(np.arange(n_groups) % 2 == 0, size)
        groups = np.repeat(np.arange(n_groups), size)
        return ends(auroc_interval(labels.astype(float), labels, groups, seed=0))[0]

    assert low_end(10, 1) == pytest.approx(ends(rate(5, 5).interval)[0])
    assert low_end(10, 50) == low_end(10, 1), "more rows of the same groups are no more evidence"
    assert low_end(100, 1) > 0.9 > low_end(10, 1)


def test_an_auroc_interval_by_group_is_wider_than_one_that_forgets_the_groups() -> None:
    values, groups = scattered(1, n_groups=30, size=10, spread=1.0)
    labels = np.arange(300) // 10 % 2 == 0
    by_group, naive = (
        np.subtract(*ends(auroc_interval(values, labels, units, seed=0))[::-1]) for units in (groups, range(300))
    )
    assert by_group > 1.5 * naive


# -- ranks


@pytest.mark.parametrize(
    ("alternative", "real", "rank"),
    [
        ("greater", 9.0, 1),
        ("greater", -9.0, 20),
        ("less", -9.0, 1),
        ("two-sided", -9.0, 1),
        ("two-sided", 9.0, 1),
    ],
)
def test_an_extreme_effect_reaches_the_floor_and_no_further(alternative: str, real: float, rank: int) -> None:
    found = control_rank(real, np.linspace(-1, 1, 19), alternative=alternative)
    assert (found.rank, found.p_value, found.floor) == (rank, rank / 20, 1 / 20)
    assert found.percentile == (100 if real > 0 else 0)


def test_ties_count_against_the_real_effect_and_no_controls_prove_nothing() -> None:
    assert control_rank(1.0, [0.0, 1.0, 1.0, 2.0]).p_value == 4 / 5
    assert control_rank(1.0, [0.0, 1.0, 1.0, 2.0]).percentile == 50
    alone = control_rank(1.0, [])
    assert (alone.p_value, alone.floor, alone.percentile) == (1, 1, None)
    with pytest.raises(InterpError, match="NaN"):
        control_rank(1.0, [0.0, float("nan")])


@pytest.mark.parametrize("alternative", ["greater", "less", "two-sided"])
def test_the_rank_of_nothing_among_controls_is_uniform(alternative: str) -> None:
    draws = np.random.default_rng(0).normal(loc=3, size=(2000, 20))
    p_values = np.array([control_rank(row[0], row[1:], alternative=alternative).p_value for row in draws])
    for level in (0.05, 0.25, 0.5):
        low, high = binom.interval(0.999, 2000, level)
        assert low <= np.sum(p_values <= level + 1e-9) <= high


def layer_statistics(seed: int, effect: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """How far apart two classes are at each of eight correlated layers, and the same with labels shuffled."""
    rng = np.random.default_rng(seed)
    acts = rng.normal(size=(40, 8)).cumsum(axis=1) / np.sqrt(np.arange(1, 9))
    labels = np.arange(40) < 20
    acts[labels, 5] += effect
    shuffled = np.array([rng.permutation(labels) for _ in range(99)])
    signs = np.where(np.vstack([labels, shuffled]), 1, -1) / 20
    differences = np.abs(signs @ acts)
    return differences[0], differences[1:]


def test_family_wise_false_positives_are_at_the_nominal_rate_and_uncorrected_ones_are_not() -> None:
    tables = [layer_statistics(seed) for seed in range(200)]
    corrected = sum(min(max_statistic(*table).p_values) <= 0.05 for table in tables)
    low, high = binom.interval(0.99, 200, 0.05)
    assert low <= corrected <= high
    uncorrected = sum(
        any(control_rank(float(real), null).p_value <= 0.05 for real, null in zip(observed, nulls.T, strict=True))
        for observed, nulls in tables
    )
    assert uncorrected > 2 * high


def test_a_planted_layer_is_found_and_named() -> None:
    found = max_statistic(*layer_statistics(0, effect=3.0))
    assert int(np.argmin(found.p_values)) == 5
    assert min(found.p_values) == found.floor == 0.01


@pytest.mark.parametrize("n", [19, 39, 60, 99])
def test_the_band_is_what_a_layer_must_exceed(n: int) -> None:
    observed, null = layer_statistics(1, effect=0.7)
    found = max_statistic(observed, null[:n])
    assert found.band is not None
    assert [p <= 0.05 + 1e-9 for p in found.p_values] == (observed > found.band).tolist()
    at_band = max_statistic(
        np.array([found.band, np.nextafter(found.band, 9)]), null[:n, :2] * 0 + null[:n].max(1)[:, None]
    )
    assert at_band.p_values[0] > 0.05 >= at_band.p_values[1] - 1e-9


def test_too_few_permutations_have_no_band() -> None:
    observed, null = layer_statistics(1, effect=9.0)
    found = max_statistic(observed, null[:18])
    assert found.band is None
    assert min(found.p_values) == found.floor == 1 / 19 > 0.05


def test_holm_is_the_known_adjustment_and_leaves_the_undefined_alone() -> None:
    assert holm([0.01, None, 0.04, 0.03]) == (
        pytest.approx(0.03),
        None,
        pytest.approx(0.06),
        pytest.approx(0.06),
    )
    assert holm([]) == ()
    assert holm([None]) == (None,)


# -- dose


def dosed(seed: int, slope: float, spread: float, n_groups: int = 20) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rollouts at five strengths; each group has a level, and a liking for strength, of its own."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), 20)
    strengths = np.tile(np.linspace(-1, 1, 5), n_groups * 4)
    own = slope + spread * rng.normal(size=n_groups)[groups]
    chance = 1 / (1 + np.exp(-(own * strengths + spread * rng.normal(size=n_groups)[groups])))
    return strengths, rng.random(len(groups)) < chance, groups


def test_the_dose_trend_finds_a_planted_slope() -> None:
    found = dose_trend(*dosed(0, slope=1.0, spread=0.0, n_groups=40))
    low, high = ends(found.interval)
    assert low <= 1.0 <= high and high - low < 1.2
    assert found.p_value is not None and found.p_value < 1e-6
    assert found.reason is None


def test_the_dose_trend_allows_for_groups_and_a_naive_one_does_not() -> None:
    def alarms(by_group: bool) -> int:
        tables = [dosed(seed, slope=0.0, spread=1.5) for seed in range(60)]
        found = [dose_trend(x, y, groups if by_group else None) for x, y, groups in tables]
        return sum(trend.p_value is not None and trend.p_value <= 0.05 for trend in found)

    assert alarms(by_group=True) <= binom.ppf(0.999, 60, 0.06)
    assert alarms(by_group=False) > 12


def test_ungraded_rollouts_have_no_dose() -> None:
    strengths, flags, groups = dosed(0, slope=1.0, spread=0.0)
    with_gaps = dose_trend([*strengths, 5.0, -5.0], [*flags.tolist(), None, None], [*groups, 0, 1])
    assert (with_gaps.n, with_gaps.ungraded) == (400, 2)
    assert with_gaps.slope == dose_trend(strengths, flags, groups).slope


UNDEFINED = {
    "all outcomes are the same": ([-1.0, 0.0, 1.0] * 4, [False] * 12),
    "all strengths are the same": ([1.0] * 12, [True, False] * 6),
    "parts the outcomes completely": ([-1.0, 0.0, 1.0] * 4, [False, False, True] * 4),
    "parts the outcomes": ([-1.0, 0.0, 1.0] * 4, [False, False, True, False, True, True] * 2),
    "no outcome is graded": ([-1.0, 0.0, 1.0] * 4, [None] * 12),
    "fewer than three groups": ([-1.0, 0.0, 1.0] * 4, [False, False, True, True, True, False] * 2),
}


@pytest.mark.parametrize(("reason", "table"), UNDEFINED.items(), ids=UNDEFINED.keys())
def test_an_undefined_trend_says_why_and_never_warns(reason: str, table: tuple[list, list]) -> None:
    groups = ["a", "b"] * 6 if "groups" in reason else None
    found = dose_trend(*table, groups)
    assert (found.slope, found.interval, found.p_value) == (None, None, None)
    assert found.reason is not None and reason in found.reason
