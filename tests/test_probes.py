"""What is planted is found, what is not there is not, and no group is on both sides of a split."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from interp.directions import ModelIdentity
from interp.errors import ProbeError, StoreError
from interp.probes import (
    METHODS,
    Classes,
    ProbeCard,
    difference_of_means,
    evaluate,
    grouped_folds,
    judge,
    logistic,
    shuffled_labels,
)
from interp.probes.evaluate import Fold
from interp.probes.nulls import aurocs, smallest_p
from interp.sites import Site
from interp.stats import auroc

SITES = [Site(0), Site(1), Site(2)]


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
def test_a_planted_direction_is_found(method: str) -> None:
    acts, labels, _, direction = planted(6.0, n_groups=200)
    assert cosine(METHODS[method](acts, labels), direction) > 0.9
    shuffled = np.random.default_rng(1).permutation(labels)
    assert abs(cosine(METHODS[method](acts, shuffled), direction)) < 0.8, "control"


@pytest.mark.parametrize("method", METHODS)
def test_a_vector_is_as_long_as_the_classes_are_apart(method: str) -> None:
    acts, labels, _, _ = planted(3.0)
    vector = METHODS[method](acts, labels)
    along = acts @ vector / vector.norm()
    assert float(along[labels].mean() - along[~labels].mean()) == pytest.approx(float(vector.norm()), rel=1e-3)


def test_difference_of_means_is_its_definition() -> None:
    acts, labels, _, _ = planted(1.0)
    wanted = acts[labels].double().mean(0) - acts[~labels].double().mean(0)
    assert torch.allclose(difference_of_means(acts + 1000, labels).double(), wanted, atol=1e-3)
    assert torch.allclose(difference_of_means(acts, labels).double(), wanted, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_many_labellings_at_once_are_each_alone(method: str) -> None:
    acts, labels, groups, _ = planted(1.0)
    many = shuffled_labels(labels, groups, n=4, seed=0)
    together = METHODS[method](acts, many)
    assert together.shape == (4, acts.shape[1])
    for one, vector in zip(many, together, strict=True):
        assert torch.allclose(METHODS[method](acts, one), vector, atol=1e-5)


def test_logistic_survives_a_massive_dimension_and_one_that_never_varies() -> None:
    acts, labels, _, direction = planted(4.0, n_groups=100)
    noise = 1e4 * torch.randn(len(acts), 1, generator=torch.Generator().manual_seed(0))
    wide = torch.cat([acts, noise, torch.full_like(noise, 7.0)], dim=1)
    vector = logistic(wide, labels)
    assert cosine(vector[:-2], direction) > 0.85 and float(vector[-1]) == 0
    assert cosine(difference_of_means(wide, labels)[:-1], torch.cat([direction, torch.zeros(1)])) < 0.5, "control"


@pytest.mark.parametrize("method", METHODS)
def test_held_out_auroc_is_high_where_planted_and_at_chance_elsewhere(method: str) -> None:
    acts, labels, groups, _ = planted(4.0)
    noise = torch.randn(acts.shape, generator=torch.Generator().manual_seed(5))
    there, elsewhere = evaluate({Site(0): acts, Site(1): noise}, labels, groups, method=method, seed=0, n_null=39)
    assert there.auroc > 0.95 and there.p_value == there.floor == 1 / 40
    assert there.null_high is not None and there.auroc > there.null_high
    assert there.low is not None and there.high is not None and there.low <= there.auroc <= there.high
    assert abs(elsewhere.auroc - 0.5) < 0.2 and elsewhere.p_value > 0.05
    assert (there.n, there.groups, there.shuffles) == (200, 40, 39)


def test_two_calls_with_one_seed_are_equal_and_with_two_differ() -> None:
    acts, labels, groups, _ = planted(1.0)
    one, same, other = (
        evaluate({Site(0): acts}, labels, groups, method="difference_of_means", seed=seed) for seed in (0, 0, 1)
    )
    assert one == same and one != other


@pytest.mark.parametrize("by_group", [True, False])
def test_the_family_wise_null_is_calibrated_for_clustered_rows(by_group: bool) -> None:
    """Labels that mean nothing: any of three layers has p <= 0.1 in about 10 % of sweeps, though rows are clustered."""
    sweeps, hits, naive = 100, 0, 0
    for seed in range(sweeps):
        acts, labels, groups, _ = planted(0.0, n_groups=20, per_group=6, d=6, seed=seed, by_group=by_group, cluster=1.0)
        layers = {Site(k): acts @ torch.randn(6, 6, generator=torch.Generator().manual_seed(k)) for k in range(3)}
        found = evaluate(layers, labels, groups, method="difference_of_means", seed=seed, n_null=39)
        hits += min(measure.p_value for measure in found) <= 0.1
        if by_group and seed < 30:
            rows = [f"row{k}" for k in range(len(labels))]
            free = evaluate(layers, labels, rows, method="difference_of_means", seed=seed, n_null=39)
            naive += min(measure.p_value for measure in free) <= 0.1
    assert 0.01 <= hits / sweeps <= 0.19, "3 standard errors about 0.1"
    if by_group:
        assert naive / 30 > 0.4, "control: rows taken for independent find effects everywhere"


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
    acts, labels, groups, _ = planted(1.0)
    rows = np.random.default_rng(0).permutation(200)
    leaky = [Fold(rows[100:], rows[:100]), Fold(rows[:100], rows[100:])]
    with pytest.raises(ProbeError, match=r"fold 1: \d+ groups in both train and test: g0, g1"):
        evaluate({Site(0): acts}, labels, groups, method="difference_of_means", seed=0, folds=leaky)
    half = grouped_folds(labels, groups, folds=2, seed=0)
    with pytest.raises(ProbeError, match="100 rows are not tested exactly once"):
        evaluate({Site(0): acts}, labels, groups, method="difference_of_means", seed=0, folds=half[:1])
    assert evaluate({Site(0): acts}, labels, groups, method="difference_of_means", seed=0, folds=half), "control"


def test_a_leak_would_have_shown() -> None:
    """With labels that mean nothing, row-wise folds read the group off the rows; grouped folds do not."""
    acts, labels, groups, _ = planted(0.0, n_groups=12, per_group=20, d=64)
    honest = evaluate({Site(0): acts}, labels, groups, method="logistic", seed=0, n_null=19)[0]
    leaked = evaluate({Site(0): acts}, labels, list(range(240)), method="logistic", seed=0, n_null=19)[0]
    assert leaked.auroc > 0.85 and honest.auroc < 0.75


def test_too_little_data_is_an_error_with_numbers() -> None:
    acts, labels, groups, _ = planted(1.0, n_groups=8)
    with pytest.raises(ProbeError, match="4 groups with positive rows and 4 groups with negative rows"):
        evaluate({Site(0): acts}, labels, groups, method="difference_of_means", seed=0)
    with pytest.raises(ProbeError, match="0 groups with negative rows"):
        evaluate({Site(0): acts}, labels | True, groups, method="logistic", seed=0)
    with pytest.raises(ProbeError, match="one class alone"):
        difference_of_means(acts, labels & False)
    with pytest.raises(ProbeError, match="Choose one of difference_of_means, logistic"):
        evaluate({Site(0): acts}, labels, groups, method="means", seed=0)
    with pytest.raises(ProbeError, match="40 rows of one class"):
        judge({Site(0): acts[:, 0].double().numpy()}, labels & False, groups, name="x", seed=0)


def test_scores_of_a_given_direction_are_judged_as_they_are() -> None:
    acts, labels, groups, direction = planted(4.0)
    scores = {Site(0): (acts @ direction).double().numpy(), Site(1): acts[:, 0].double().numpy() * 0}
    there, constant = judge(scores, labels, groups, name="emotion:desperate", seed=0)
    assert there.auroc > 0.95 and there.p_value == 1 / 201 and there.name == "emotion:desperate"
    assert constant.auroc == 0.5 and constant.p_value == 1
    assert there.to_row() | {"layer": 0, "method": "emotion:desperate", "n": 200} == there.to_row()
    flipped = judge({Site(0): -scores[Site(0)]}, labels, groups, name="emotion:calm", seed=0)[0]
    assert flipped.auroc == pytest.approx(1 - there.auroc) and flipped.p_value == 1 / 201, "either side counts"


def test_a_position_where_all_rows_are_equal_is_at_chance() -> None:
    _, labels, groups, _ = planted(1.0)
    same = torch.ones(200, 8)
    for method in METHODS:
        assert evaluate({Site(0): same}, labels, groups, method=method, seed=0, n_null=19)[0].auroc == 0.5


def a_card() -> ProbeCard:
    acts, labels, groups, _ = planted(4.0)
    measures = evaluate(dict.fromkeys(SITES, acts), labels, groups, method="difference_of_means", seed=0)
    nothing = replace(measures[0], name="x", auroc=0.5, low=None, high=None, null_low=None, null_high=None)
    return ProbeCard(
        "desperation",
        "desperation",
        ModelIdentity("m", "w", "float32", "v", "t", "once"),
        "last",
        Classes(100, 100, 7, 20, 20, "meta.latent > 0.5", "meta.latent < 0.5"),
        (*measures, nothing),
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
    with pytest.raises(StoreError, match="not a card of format 1"):
        ProbeCard.load(tmp_path)
