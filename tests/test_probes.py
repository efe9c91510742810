"""What is planted is found, what is not there is not, and no group is on both sides of a split."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from interp.directions import ModelIdentity
from interp.errors import ProbeError, StoreError
from interp.probes import (
    METHODS,
    Aggregation,
    Classes,
    Labelled,
    Measure,
    ProbeCard,
    ReadRows,
    Settings,
    Sweep,
    chance,
    cross_chosen,
    evaluate,
    given,
    grouped_folds,
    leave_conditions_out,
    measures,
    shuffled_labels,
    transferred,
)
from interp.probes.chosen import _inner_scores
from interp.probes.nulls import aurocs, smallest_p
from interp.probes.splits import Fold, fold_codes
from interp.sites import Site
from interp.stats import auroc

SITES = [Site(0), Site(1), Site(2)]


def rows(acts: dict[Site, torch.Tensor]) -> ReadRows:
    """One row a transcript."""
    n = len(next(iter(acts.values())))
    return ReadRows(acts, np.arange(n), n)


def sweep(
    acts: dict[Site, torch.Tensor],
    labels: np.ndarray,
    groups: list[str] | list[int],
    *methods: str,
    seed: int = 0,
    n_null: int = 39,
    **settings: object,
) -> Sweep:
    asked = Settings(methods or METHODS, seed=seed, n_null=n_null, **settings)  # type: ignore[arg-type]
    return evaluate(Labelled(rows(acts), labels, groups), asked)


def measured(
    acts: dict[Site, torch.Tensor], labels: np.ndarray, groups: list[str] | list[int], *methods: str, **settings: int
) -> tuple[Measure, ...]:
    found = sweep(acts, labels, groups, *methods, **settings)
    return measures(found.candidates, labels, groups, seed=settings.get("seed", 0))


def planted(
    strength: float,
    *,
    n_groups: int = 40,
    per_group: int = 5,
    d: int = 24,
    seed: int = 0,
    by_group: bool = True,
    cluster: float = 0.5,
) -> tuple[torch.Tensor, np.ndarray, list[str], torch.Tensor]:
    """Rows with a common offset per group, and labels along a known direction."""
    rng = np.random.default_rng(seed)
    n = n_groups * per_group
    group = np.repeat(np.arange(n_groups), per_group)
    labels = (group % 2 == 0) if by_group else (np.arange(n) % 2 == 0)
    direction = rng.standard_normal(d)
    direction /= np.linalg.norm(direction)
    acts = rng.standard_normal((n, d)) + cluster * rng.standard_normal((n_groups, d))[group]
    acts += strength * labels[:, None] * direction
    return torch.tensor(acts).float(), labels, [f"g{k}" for k in group], torch.tensor(direction).float()


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(one @ other / one.norm() / other.norm())


@pytest.mark.parametrize("method", METHODS)
def test_held_out_auroc_is_high_where_planted_and_at_chance_elsewhere(method: str) -> None:
    acts, labels, groups, _ = planted(4.0)
    noise = torch.randn(acts.shape, generator=torch.Generator().manual_seed(5))
    there, elsewhere = measured({Site(0): acts, Site(1): noise}, labels, groups, method)
    assert there.auroc > 0.95 and there.p_value == there.floor == 1 / 40
    assert there.null_high is not None and there.auroc > there.null_high
    assert there.low is not None and there.high is not None and there.low <= there.auroc <= there.high
    assert abs(elsewhere.auroc - 0.5) < 0.2 and elsewhere.p_value > 0.05
    assert (there.n, there.groups, there.shuffles) == (200, 40, 39)


def test_two_calls_with_one_seed_are_equal_and_with_two_differ() -> None:
    acts, labels, groups, _ = planted(1.0)
    one, same, other = (
        measured({Site(0): acts}, labels, groups, "difference_of_means", "lda", seed=seed) for seed in (0, 0, 1)
    )
    assert one == same and one != other


def null_data(seed: int, *, by_group: bool) -> tuple[dict[Site, torch.Tensor], np.ndarray, list[str]]:
    """Labels that mean nothing, clustered rows, and three sites that are turned versions of one."""
    acts, labels, groups, _ = planted(0.0, n_groups=20, per_group=4, d=6, seed=seed, by_group=by_group, cluster=1.0)
    turned = (torch.randn(6, 6, generator=torch.Generator().manual_seed(k)) for k in range(3))
    return {Site(k): acts @ turn for k, turn in enumerate(turned)}, labels, groups


@pytest.mark.parametrize("by_group", [True, False])
@pytest.mark.usefixtures("unchecked")
def test_in_200_null_data_sets_anything_passes_the_family_wise_band_as_often_as_5_percent(by_group: bool) -> None:
    """Four methods, three sites and a given direction, whose p and band are those of one family."""
    hits, alone, naive, tried = 0, 0, 0, 200
    for seed in range(tried):
        acts, labels, groups = null_data(seed, by_group=by_group)
        found = sweep(acts, labels, groups, seed=seed, n_null=19, folds=4)
        along = {Site(0): acts[Site(0)][:, 0].double().numpy()}
        family = [*found.candidates, *given(along, found.shuffles, name="emotion:desperate")]
        told = chance(family, labels)
        hits += min(told.p_values) <= 0.05
        alone += any(chance([one], labels).p_values[0] <= 0.05 for one in family)
        values = aurocs(np.stack([one.scores for one in family]), np.stack([labels] * len(family)))
        beyond = values.max() > told.high or values[-1] < 1 - told.high
        assert beyond == (min(told.p_values) <= 0.05), "the band and the p-values say the same"
        if by_group and seed < 30:
            free = sweep(acts, labels, list(range(len(labels))), "lda", seed=seed, n_null=19)
            naive += min(chance(free.candidates, labels).p_values) <= 0.05
    low, high = binomtest(10, tried).proportion_ci(0.95, "exact")
    assert low <= hits / tried <= high, f"{hits} of {tried}"
    assert alone / tried > high, "control: without the correction for the family there are more"
    assert not by_group or naive / 30 > 0.4, "control: rows taken for independent find effects everywhere"


@pytest.mark.usefixtures("unchecked")
def test_choosing_method_and_site_does_not_flatter_where_there_is_nothing() -> None:
    best, honest = [], []
    for seed in range(50):
        acts, labels, groups = null_data(seed, by_group=True)
        found = sweep(acts, labels, groups, "difference_of_means", "lda", seed=seed, n_null=1)
        best.append(auroc(found.best.scores, labels))
        honest.append(cross_chosen(found, seed=seed).chosen.auroc)
    assert np.mean(honest) < 0.5 + 3 * np.std(honest) / 50**0.5
    assert np.mean(best) > np.mean(honest) + 0.05, "control: the best of all is flattered"


def test_inner_scores_are_those_of_fitting_without_both_folds() -> None:
    acts, labels, groups, _ = planted(1.0)
    found = sweep({Site(0): acts}, labels, groups, "difference_of_means", n_null=19)
    inner = _inner_scores(found, Site(0))["difference_of_means"]
    for gone, fold in ((0, 1), (3, 2), (4, 0)):
        train, test = (found.folds != gone) & (found.folds != fold), found.folds == fold
        vector = acts[train & labels].mean(0) - acts[train & ~labels].mean(0)
        middle = (acts[train & labels].mean(0) + acts[train & ~labels].mean(0)) / 2
        along, unit = (acts - middle) @ vector / vector.norm(), (acts[train] @ vector / vector.norm()).std(correction=0)
        assert inner[gone, test] == pytest.approx((along[test] / unit).numpy(), abs=1e-4)
        assert inner[gone, test] != pytest.approx(found.best.scores[test], abs=1e-2), (
            "control: the outer fits are others"
        )


def test_where_two_folds_less_leave_one_class_nothing_is_chosen() -> None:
    acts, labels, groups, _ = planted(3.0, n_groups=8)
    assert cross_chosen(sweep({Site(0): acts}, labels, groups, "lda", folds=2), seed=0) is None
    three = cross_chosen(sweep({Site(0): acts}, labels, groups, "lda", folds=3), seed=0)
    assert three is not None and len(three.picks) == 3, "control"


def test_the_choice_finds_the_site_where_it_is_planted() -> None:
    acts, labels, groups, _ = planted(3.0)
    noise = torch.randn(acts.shape, generator=torch.Generator().manual_seed(5))
    swept = sweep({Site(0): noise, Site(1): acts}, labels, groups)
    found = cross_chosen(swept, seed=0)
    assert found is not None and [site for _, site in found.picks] == [Site(1)] * 5
    assert all(pick.endswith("@L1.resid_post") for pick in found.chosen.picks)
    assert found.chosen.auroc > 0.9 and found.chosen.auroc == auroc(found.scores, labels)
    key = ("lda", Site(1))
    again = found.unseen(swept, rows({Site(0): noise, Site(1): acts}), groups, key)
    assert again == pytest.approx(found.scores, abs=1e-5), "others of the same groups: the same fits"
    new = found.unseen(swept, rows({Site(0): noise, Site(1): acts}), ["new"] * 200, key)
    assert new == pytest.approx(swept.unseen(*key, rows({Site(0): noise, Site(1): acts}), ["new"] * 200))


def test_shuffling_keeps_the_rows_of_a_group_together() -> None:
    _, labels, groups, _ = planted(0.0)
    shuffled = shuffled_labels(labels, groups, n=50, seed=0)
    assert (shuffled.reshape(50, 40, 5).min(2) == shuffled.reshape(50, 40, 5).max(2)).all()
    assert (shuffled.sum(1) == labels.sum()).all()
    assert len({one.tobytes() for one in shuffled}) > 45, "and it is not the identity"


def test_shuffling_moves_rows_within_groups_where_labels_vary_there() -> None:
    _, labels, groups, _ = planted(0.0, per_group=4, by_group=False)
    shuffled = shuffled_labels(labels, groups, n=50, seed=0)
    assert (shuffled.reshape(50, 40, 4).sum(2) == 2).all()
    assert len({one.tobytes() for one in shuffled}) == 50


def test_no_p_is_below_the_number_of_arrangements() -> None:
    labels = np.array([True, True, False, False])
    assert smallest_p(labels, ["a", "a", "b", "b"]) == pytest.approx(1 / 2)
    assert smallest_p(labels, ["a", "b", "c", "d"]) == pytest.approx(1 / 6)
    assert smallest_p(labels, ["a", "b", "a", "b"]) == pytest.approx(1 / 4)
    with pytest.raises(ProbeError, match="1 groups whose labels are all the same"):
        shuffled_labels(np.ones(4, dtype=bool), ["a"] * 4, n=3, seed=0)


def test_many_aurocs_are_the_oracles() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 9, size=(20, 30)).astype(float), rng.random((20, 30)) < 0.4
    wanted = [auroc(one, is_it) for one, is_it in zip(scores, labels, strict=True)]
    assert aurocs(scores, labels) == pytest.approx(wanted)
    assert aurocs(scores[:1], labels) == pytest.approx([auroc(scores[0], is_it) for is_it in labels])
    assert np.isnan(aurocs(scores[:1], np.zeros((1, 30), dtype=bool)))[0]


def test_folds_keep_groups_whole() -> None:
    _, labels, groups, _ = planted(0.0)
    folds = grouped_folds(labels, groups, seed=0)
    for train, test in folds:
        assert not {groups[i] for i in train} & {groups[i] for i in test}
        assert 0.3 < labels[test].mean() < 0.7
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(200))


def test_a_leaked_group_raises_and_is_named() -> None:
    _, labels, groups, _ = planted(1.0)
    shuffled = np.random.default_rng(0).permutation(200)
    leaky = [Fold(shuffled[100:], shuffled[:100]), Fold(shuffled[:100], shuffled[100:])]
    with pytest.raises(ProbeError, match=r"fold 1: \d+ groups in both train and test: g0, g1"):
        fold_codes(leaky, groups)
    half = grouped_folds(labels, groups, folds=2, seed=0)
    with pytest.raises(ProbeError, match="100 rows are not tested exactly once"):
        fold_codes(half[:1], groups)
    assert (np.bincount(fold_codes(half, groups)) > 80).all(), "control"


def test_a_leak_would_have_shown() -> None:
    """With labels that mean nothing, row-wise folds read the group off the rows; grouped folds do not."""
    acts, labels, groups, _ = planted(0.0, n_groups=12, per_group=20, d=64)
    honest = measured({Site(0): acts}, labels, groups, "logistic", n_null=19)[0]
    leaked = measured({Site(0): acts}, labels, list(range(240)), "logistic", n_null=19)[0]
    assert leaked.auroc > 0.85 and honest.auroc < 0.75


def test_too_little_data_is_an_error_with_numbers() -> None:
    acts, labels, groups, _ = planted(1.0, n_groups=8)
    with pytest.raises(ProbeError, match="4 groups with positive rows and 4 groups with negative rows"):
        measured({Site(0): acts}, labels, groups)
    with pytest.raises(ProbeError, match="0 groups with negative rows"):
        measured({Site(0): acts}, labels | True, groups)
    with pytest.raises(ProbeError, match="Choose among difference_of_means"):
        measured({Site(0): planted(1.0)[0]}, *planted(1.0)[1:3], "means")
    with pytest.raises(ProbeError, match="40 transcripts of one class"):
        measures(given({Site(0): np.arange(40.0)}, labels[None], name="x"), labels & False, groups, seed=0)


def test_scores_of_a_given_direction_are_measured_as_they_are() -> None:
    acts, labels, groups, direction = planted(4.0)
    along = (acts @ direction).double().numpy()
    shuffles = shuffled_labels(labels, groups, n=200, seed=0)
    both = given({Site(0): along, Site(1): along * 0}, shuffles, name="emotion:desperate")
    there, constant = measures(both, labels, groups, seed=0)
    assert there.auroc > 0.95 and there.p_value == 1 / 201 and there.name == "emotion:desperate"
    assert constant.auroc == 0.5 and constant.p_value == 1
    assert there.to_row() | {"layer": 0, "method": "emotion:desperate", "n": 200} == there.to_row()
    flipped = measures(given({Site(0): -along}, shuffles, name="emotion:calm"), labels, groups, seed=0)[0]
    assert flipped.auroc == pytest.approx(1 - there.auroc) and flipped.p_value == 1 / 201, "either side counts"


def test_a_position_where_all_rows_are_equal_is_at_chance() -> None:
    _, labels, groups, _ = planted(1.0)
    for measure in measured({Site(0): torch.ones(200, 8)}, labels, groups, n_null=19):
        assert measure.auroc == 0.5


def test_a_condition_that_the_signal_depends_on_shows_when_it_is_left_out() -> None:
    acts, labels, groups, direction = planted(0.0, n_groups=60)
    wide = acts + 4 * torch.from_numpy(labels)[:, None] * direction
    firm = [f"firm {int(group[1:]) % 3}" for group in groups]
    own = torch.eye(24)[torch.tensor([int(name[-1]) for name in firm])]
    narrow = acts + 6 * torch.from_numpy(labels)[:, None] * own
    for site_acts, holds in ((wide, True), (narrow, False)):
        found = sweep({Site(0): site_acts}, labels, groups, "lda")
        assert auroc(found.best.scores, labels) > 0.95, "within, both look alike"
        *kinds, _, _, _ = leave_conditions_out(found, {"meta.firm": firm}, seed=0)
        assert [kind.value for kind in kinds] == ["firm 0", "firm 1", "firm 2"]
        assert sum(kind.n for kind in kinds) == 300 and all(kind.groups == 20 for kind in kinds)
        assert all((kind.auroc > 0.95) == holds for kind in kinds)


@pytest.mark.usefixtures("unchecked")
def test_choosing_without_a_condition_does_not_flatter_where_there_is_nothing() -> None:
    flattered, honest = [], []
    for seed in range(30):
        acts, labels, groups = null_data(seed, by_group=True)
        kind = [str(int(group[1:]) // 2 % 2) for group in groups]
        found = sweep(acts, labels, groups, "difference_of_means", "lda", seed=seed, n_null=1)
        kinds = leave_conditions_out(found, {"kind": kind}, seed=seed)
        best = f"{found.best.name}@{found.best.site}"
        flattered += [one.auroc for one in kinds if f"{one.name}@{one.site}" == best and not one.chosen]
        honest += [one.auroc for one in kinds if one.chosen]
    assert np.mean(honest) < 0.5 + 3 * np.std(honest) / len(honest) ** 0.5
    assert np.mean(flattered) > np.mean(honest) + 0.03, "control: the best of all is flattered there too"


def test_a_condition_left_out_is_what_fitting_without_it_gives() -> None:
    acts, labels, groups, _ = planted(1.0)
    kind = ["a" if int(group[1:]) < 14 else "b" for group in groups]
    found = leave_conditions_out(sweep({Site(0): acts}, labels, groups, "difference_of_means"), {"kind": kind}, seed=0)
    there = np.array(kind) == "a"
    vector = acts[~there & labels].mean(0) - acts[~there & ~labels].mean(0)
    assert found[0].auroc == pytest.approx(auroc((acts[there] @ vector).double().numpy(), labels[there]))


def test_a_condition_that_varies_within_groups_is_refused_and_one_class_is_undefined() -> None:
    acts, labels, groups, _ = planted(2.0)
    found = sweep({Site(0): acts}, labels, groups, "lda")
    with pytest.raises(ProbeError, match="40 groups in both train and test, since they have several values"):
        leave_conditions_out(found, {"meta.x": [str(i % 5) for i in range(200)]}, seed=0)
    with pytest.raises(ProbeError, match="it is same in all 200 transcripts"):
        leave_conditions_out(found, {"meta.x": ["same"] * 200}, seed=0)
    kind = ["a" if is_it and int(g[1:]) < 20 else "b" for g, is_it in zip(groups, labels, strict=True)]
    kind = ["c" if int(g[1:]) >= 30 else one for g, one in zip(groups, kind, strict=True)]
    alone, *others = leave_conditions_out(found, {"meta.x": kind}, seed=0)
    others = [one for one in others if one.value != "a"]
    assert alone.auroc is None and alone.positive == alone.n == 50 and all(one.auroc > 0.65 for one in others)
    every = ["all positive" if is_it else "rest" for is_it in labels]
    assert [one.auroc for one in leave_conditions_out(found, {"meta.x": every}, seed=0)] == [None] * 4


def test_another_corpus_is_scored_by_fits_that_have_not_seen_its_groups() -> None:
    acts, labels, groups, _ = planted(0.0, n_groups=20, per_group=10, d=64)
    found = sweep({Site(0): acts}, labels, groups, "logistic")
    again = transferred(found, "again", rows({Site(0): acts}), labels, groups, seed=0)[0]
    assert again.auroc == pytest.approx(auroc(found.best.scores, labels)), "the same rows: held-out scores again"
    renamed = transferred(found, "renamed", rows({Site(0): acts}), labels, [f"{g}'" for g in groups], seed=0)[0]
    assert renamed.auroc > 0.95 > again.auroc + 0.2, "control: the fit on all rows has learnt these by heart"


def test_scores_of_a_transcript_are_aggregated_as_asked_for_training_and_for_scoring() -> None:
    acts, labels, groups, _ = planted(3.0, n_groups=40, per_group=5)
    of = np.arange(200) // 5
    read = ReadRows({Site(0): acts}, of, 40)
    per, names = labels.reshape(40, 5)[:, 0], [f"g{k}" for k in range(40)]
    everything = evaluate(Labelled(read, per, names), Settings(("lda",), n_null=19, score=Aggregation.parse("max")))
    by_row = sweep({Site(0): acts}, labels, groups, "lda", n_null=19)
    assert (everything.folds[of] == by_row.folds).all() or everything.folds.shape == (40,)
    pooled = Labelled(read.pooled(Aggregation.parse("mean")), per, names, score=read)
    mean = evaluate(pooled, Settings(("lda",), n_null=19))
    top = evaluate(pooled, Settings(("lda",), n_null=19, score=Aggregation.parse("max")))
    assert (mean.best.scores <= top.best.scores + 1e-9).all() and (mean.best.scores < top.best.scores).any()
    direct = sweep({Site(0): read.pooled(Aggregation.parse("mean")).acts[Site(0)]}, per, names, "lda", n_null=19)
    assert mean.best.scores == pytest.approx(direct.best.scores, abs=1e-5), (
        "the mean of scores is the score of the mean"
    )


def test_ridge_learns_the_graded_label_and_paired_pca_what_pairs_differ_by() -> None:
    acts, labels, groups, direction = planted(3.0, per_group=4, by_group=False)
    level = np.where(labels, 1.0, -1.0) + 0.5 * np.random.default_rng(1).standard_normal(160)
    graded = acts + torch.from_numpy(level)[:, None].float() * direction
    pairs = np.array([[row, row + 1] for row in range(0, 160, 2)])
    data = Labelled(rows({Site(0): graded}), labels, groups, graded=level, pairs=pairs)
    found = evaluate(data, Settings(("ridge", "paired_pca"), n_null=39))
    for one in measures(found.candidates, labels, groups, seed=0):
        assert one.auroc > 0.95 and one.p_value == 1 / 40
    for name in ("ridge", "paired_pca"):
        assert cosine(found.fits[Site(0)].vectors[name][0], direction) > 0.8
    nothing = Labelled(rows({Site(0): acts * 0 + torch.randn(160, 24)}), labels, groups, graded=level, pairs=pairs)
    null = evaluate(nothing, Settings(("ridge", "paired_pca"), n_null=39))
    assert min(m.p_value for m in measures(null.candidates, labels, groups, seed=0)) > 0.05, "control"


def test_pairs_that_leave_a_fold_without_any_are_fitted_or_refused_in_a_sentence() -> None:
    acts, labels, groups, _ = planted(3.0, per_group=4, by_group=False)
    few = np.array([[row, row + 1] for row in range(0, 48, 2)])
    found = evaluate(Labelled(rows({Site(0): acts}), labels, groups, pairs=few), Settings(("paired_pca",), n_null=19))
    assert auroc(found.best.scores, labels) > 0.8
    one = Labelled(rows({Site(0): acts}), labels, groups, pairs=few[:1])
    with pytest.raises(ProbeError, match="all pairs in one fold"):
        evaluate(one, Settings(("paired_pca",), n_null=19))


def test_methods_without_what_they_learn_from_are_refused() -> None:
    acts, labels, groups, _ = planted(1.0, per_group=4, by_group=False)
    with pytest.raises(ProbeError, match="no graded labels"):
        measured({Site(0): acts}, labels, groups, "ridge")
    with pytest.raises(ProbeError, match="no pairs"):
        measured({Site(0): acts}, labels, groups, "paired_pca")
    torn = Labelled(rows({Site(0): acts}), labels, groups, pairs=np.array([[0, 9], [2, 21], [4, 33], [6, 45]]))
    with pytest.raises(ProbeError, match="one is fitted on and the other scored"):
        evaluate(torn, Settings(("paired_pca",), n_null=19))


def a_card() -> ProbeCard:
    acts, labels, groups, _ = planted(4.0)
    found = measured(dict.fromkeys(SITES, acts), labels, groups, "difference_of_means")
    nothing = replace(found[0], name="x", auroc=0.5, low=None, high=None, null_low=None, null_high=None)
    return ProbeCard(
        "desperation",
        "desperation",
        ModelIdentity("m", "w", "float32", "v", "t", "once"),
        "last",
        Classes(100, 100, 7, 20, 20, "meta.latent > 0.5", "meta.latent < 0.5"),
        (*found, nothing),
        ("difference_of_means@L0.resid_post",),
        data={"transcripts": "abc"},
        reference={"transcripts": 30, "tokens": 900},
        recipe={"name": "desperation", "sites": ["all"]},
    )


def test_a_card_comes_back_equal_and_reads_well(tmp_path: Path) -> None:
    card = a_card()
    card.save(tmp_path)
    assert ProbeCard.load(tmp_path) == card
    page = (tmp_path / "card.md").read_text()
    assert "# Probe `desperation`" in page and "100 transcripts in 20 groups" in page and "7 transcripts" in page
    assert "| `difference_of_means` | L1.resid_post |" in page and "undefined" in page
    assert card.best("difference_of_means").auroc == max(m.auroc for m in card.measured("difference_of_means"))
    with pytest.raises(ProbeError, match="Choose one of difference_of_means, x"):
        card.best("logistic")
    (tmp_path / "card.json").write_text('{"format": 99}')
    with pytest.raises(StoreError, match="not a card of format 2"):
        ProbeCard.load(tmp_path)
