"""The planner: the figures that are quoted, what the formulas promise, and the exact tests that they stand for."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import typer
from scipy.stats import binom, binomtest, fisher_exact
from statsmodels.stats.proportion import power_proportions_2indep
from typer.testing import CliRunner

from interp.cli.power import power as command
from interp.errors import InterpError
from interp.stats import power
from interp.stats.planner import QUOTED, compare, reach
from interp.stats.power import FORMULAS, pairing, rollouts_per_arm

EFFECTS = [(0.28, 0.10), (0.20, 0.05), (0.05, 0.15), (0.22, 0.35), (0.61, 0.30)]


@pytest.mark.parametrize(
    ("base", "other", "quoted", "formula", "solution"),
    [
        (0.28, 0.10, 73, "pooled", 73.37),
        (0.20, 0.05, 75, "pooled", 75.12),
        (0.05, 0.15, 140, "pooled", 140.10),
        (0.22, 0.35, 187, "arcsine", 187.05),
    ],
)
def test_the_quoted_figures_come_from_the_formula_that_is_named(base, other, quoted, formula, solution) -> None:
    size = rollouts_per_arm(base, other, formula=formula)
    assert size.nearest == quoted and size.solution == pytest.approx(solution, abs=0.005)
    assert size.enough == quoted + 1, "all four were rounded down, so one more is enough"
    assert (base, other, quoted, formula) in QUOTED
    others = [rollouts_per_arm(base, other, formula=name).nearest for name in FORMULAS if name != formula]
    assert quoted not in others, "no other formula gives it"


@pytest.mark.parametrize(("base", "other"), EFFECTS)
@pytest.mark.parametrize("formula", FORMULAS)
def test_enough_is_the_first_number_that_has_the_power(base: float, other: float, formula) -> None:
    size = rollouts_per_arm(base, other, formula=formula)
    assert power.power_at(base, other, size.enough, formula=formula) >= 0.8
    assert power.power_at(base, other, size.enough - 1, formula=formula) < 0.8


@pytest.mark.parametrize(("base", "other"), EFFECTS)
def test_the_pooled_power_is_that_of_statsmodels(base: float, other: float) -> None:
    theirs = power_proportions_2indep(base - other, other, 60, return_results=False)
    assert power.power_at(base, other, 60) == pytest.approx(float(theirs), abs=1e-12)


def test_fishers_power_is_the_sum_over_all_tables_of_what_scipy_rejects() -> None:
    n, base, other = 12, 0.6, 0.1
    expected = sum(
        binom.pmf(a, n, base) * binom.pmf(b, n, other)
        for a in range(n + 1)
        for b in range(n + 1)
        if fisher_exact([[a, n - a], [b, n - b]])[1] <= 0.05
    )
    assert power.exact_power(base, other, n) == pytest.approx(expected, abs=1e-12)


def test_mcnemars_power_is_the_sum_over_all_tables_of_what_scipy_rejects() -> None:
    n, pairs = 20, pairing(0.6, 0.2, correlation=0.3)
    lost = (pairs.discordance + 0.4) / 2
    gained = pairs.discordance - lost
    expected = sum(
        binom.pmf(m, n, pairs.discordance) * binom.pmf(k, m, lost / (lost + gained))
        for m in range(1, n + 1)
        for k in range(m + 1)
        if binomtest(k, m, 0.5).pvalue <= 0.05
    )
    assert power.exact_paired_power(pairs, n) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("base", "other"), EFFECTS)
def test_the_corrected_formula_is_enough_for_fishers_test_and_the_pooled_one_is_not(base, other) -> None:
    """The tests of `contrast` are exact, so the quoted figures are too small for them."""
    corrected, pooled = (rollouts_per_arm(base, other, formula=name).enough for name in ("corrected", "pooled"))
    assert 0.79 <= power.exact_power(base, other, corrected) <= 0.87
    assert power.exact_power(base, other, pooled) < 0.79


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5])
def test_where_nothing_differs_the_exact_tests_find_something_in_at_most_one_of_twenty(rate: float) -> None:
    assert 0 < power.exact_power(rate, rate, 60) <= 0.05
    assert 0 < power.exact_paired_power(pairing(rate, rate, correlation=0.4), 60) <= 0.05


def test_pairing_gains_with_correlation_and_costs_a_little_without() -> None:
    sizes = [power.pairs_needed(pairing(0.28, 0.10, correlation=phi)).enough for phi in (0, 0.25, 0.5)]
    assert sizes == [77, 60, 44]
    alone = rollouts_per_arm(0.28, 0.10).enough
    assert sizes[0] > alone > sizes[1] > sizes[2]


def test_the_power_of_pairs_is_what_simulated_pairs_show() -> None:
    pairs = pairing(0.45, 0.25, correlation=0.4)
    rng, n = np.random.default_rng(0), 50
    lost = (pairs.discordance + 0.2) / 2
    chances = [lost, pairs.discordance - lost, 1 - pairs.discordance]
    draws = rng.multinomial(n, chances, size=4000)
    found = {(b, c): binomtest(int(b), int(b + c), 0.5).pvalue <= 0.05 if b + c else False for b, c, _ in draws}
    simulated = np.mean([found[b, c] for b, c, _ in draws])
    assert power.exact_paired_power(pairs, n) == pytest.approx(simulated, abs=0.025)
    assert power.paired_power_at(pairs, n) == pytest.approx(simulated, abs=0.08)


def test_discordance_and_correlation_say_the_same() -> None:
    by_phi = pairing(0.4, 0.2, correlation=0.35)
    by_chance = pairing(0.4, 0.2, discordance=by_phi.discordance)
    assert by_chance.correlation == pytest.approx(0.35)
    both = (by_phi.base + by_phi.other - by_phi.discordance) / 2
    assert (both - 0.4 * 0.2) / np.sqrt(0.4 * 0.6 * 0.2 * 0.8) == pytest.approx(0.35)


def test_observed_pairs_leave_out_those_that_nobody_graded() -> None:
    found = power.observed_pairing([True, True, False, None, False], [True, False, False, True, None])
    assert found is not None and found.discordance == pytest.approx(1 / 3)
    assert (found.base, found.other) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert power.observed_pairing([None], [True]) is None


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_detectable_rate_has_just_the_power(formula) -> None:
    below, above = power.detectable(0.28, 100, formula=formula)
    assert below is not None and above is not None and below < 0.28 < above
    for rate in (below, above):
        assert power.power_at(0.28, rate, 100, formula=formula) == pytest.approx(0.8, abs=1e-6)


def test_a_fall_from_a_low_base_is_not_detectable_and_says_so() -> None:
    below, above = power.detectable(0.05, 20)
    assert below is None and above is not None
    assert power.detectable(0.0, 20)[0] is None


def test_a_design_effect_of_one_group_each_is_one_and_of_copies_is_their_number() -> None:
    assert power.design_effect(1, 0.7) == 1 and power.design_effect(8, 0) == 1 and power.design_effect(8, 1) == 8


def test_the_intraclass_correlation_of_planted_groups_is_found_and_of_shuffled_ones_is_nothing() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(300), 6)
    chance = rng.beta(2 * 0.4, 2 * 0.6, size=300)  # of beta-binomial groups it is 1 / (a + b + 1)
    flags = rng.random(len(groups)) < chance[groups]
    planted = power.intraclass_correlation(flags, groups)
    assert planted == pytest.approx(1 / 3, abs=0.06)
    assert power.intraclass_correlation(rng.permutation(flags), groups) == pytest.approx(0, abs=0.05)
    assert power.intraclass_correlation([True] * 4, [0, 0, 1, 1]) is None
    assert power.intraclass_correlation([True, False], [0, 1]) is None
    assert power.intraclass_correlation([True, True, None, False, False], [0, 0, 0, 1, 1]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("mistake", "found"),
    [
        (lambda: rollouts_per_arm(28, 10), "0.28, not 28"),
        (lambda: rollouts_per_arm(0.2, 0.2), "no difference"),
        (lambda: rollouts_per_arm(0.2, 0.1, power=1.0), "power of 1"),
        (lambda: power.power_at(0.2, 0.1, 0), "at least 1"),
        (lambda: pairing(0.9, 0.1, correlation=0.9), "stay within"),
        (lambda: pairing(0.4, 0.2), "give one of the two"),
        (lambda: power.design_effect(4, 1.5), "from 0 to 1"),
        (lambda: compare(0.3, 0.1, tests=0), "at least 1"),
    ],
)
def test_what_cannot_be_planned_is_refused(mistake: Callable[[], object], found: str) -> None:
    with pytest.raises(InterpError, match=f"(?i){found}"):
        mistake()


@pytest.mark.parametrize(("base", "other"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.3)])
def test_rates_of_none_and_all_can_be_planned(base: float, other: float) -> None:
    for formula in FORMULAS:
        assert power.power_at(base, other, 200, formula=formula) == pytest.approx(1, abs=1e-6)
    pairs = pairing(base, other, discordance=abs(base - other))
    assert pairs.correlation is None and power.paired_power_at(pairs, 200) == pytest.approx(1, abs=1e-6)


def test_clusters_and_several_tests_cost_rollouts() -> None:
    plain = compare(0.28, 0.10)["arms"][0]
    clustered = compare(0.28, 0.10, cluster_size=5, intraclass=0.25)["arms"][0]
    assert plain["with_clusters"] == plain["enough"] == 74 and clustered["with_clusters"] == 147
    assert compare(0.28, 0.10, tests=4)["arms"][0]["solution"] == pytest.approx(
        rollouts_per_arm(0.28, 0.10, alpha=0.0125).solution
    )
    assert reach(0.28, 200, cluster_size=5, intraclass=0.25)["detectable"] == reach(0.28, 100)["detectable"]


@pytest.fixture
def run() -> Callable[..., str]:
    app = typer.Typer()
    app.command()(command)

    def call(*words: str) -> str:
        done = CliRunner().invoke(app, list(words), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return call


def test_the_command_shows_the_quoted_figures_and_who_gives_them(run) -> None:
    lines = run().splitlines()
    for base, other, quoted, formula in QUOTED:
        line = next(line for line in lines if line.startswith(f"{100 * base:.3g} % to {100 * other:.3g} %"))
        assert line.split()[5:7] == [str(quoted), formula]


def test_the_command_plans_a_comparison_for_people_and_for_machines(run) -> None:
    said = run("28%", "0.10", "--n", "60")
    assert "28 % to 10 %: 80 % power, two-sided 0.05" in said and "correlation 0.50" in said and "60 pairs" in said
    planned = json.loads(run("28%", "0.10", "--n", "60", "--json"))
    assert planned == compare(0.28, 0.10, n=60)
    assert planned["at"]["fisher"] == pytest.approx(power.exact_power(0.28, 0.10, 60))
    assert len(json.loads(run("0.28", "0.1", "--correlation", "0.4", "--json"))["pairs"]) == 1


def test_the_command_says_what_a_number_can_show(run) -> None:
    assert "12.2 %" in run("0.28", "--n", "100")
    assert "no change in that direction" in run("0.05", "--n", "20")
    assert json.loads(run("0.28", "--n", "100", "--json")) == reach(0.28, 100)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("28",), "neither another rate nor --n"),
        (("much", "0.1"), "write 0.28 or 28%"),
        (("--n", "50"), "no base rate"),
        (("0.2", "--n", "50", "--correlation", "0.5"), "it needs two rates"),
        (("28", "10"), "0.28, not 28"),
    ],
)
def test_the_command_refuses_what_it_cannot_plan(run, words: tuple[str, ...], found: str) -> None:
    with pytest.raises(InterpError, match=f"(?i){found}"):
        run(*words)
