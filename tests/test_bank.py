"""Banks of controls and where the real direction stands in them: planted, null, and what any push gives."""

import gc
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.activations import collect
from interp.directions import Direction
from interp.emotions import emotion_vectors
from interp.errors import ExperimentError, ProbeError
from interp.experiments.bank import KINDS, Sources, make_bank, not_shown, under
from interp.experiments.controls import Control, FittedRows, StoryRows, permuted_controls, permuted_emotions
from interp.experiments.standing import ControlEffect, standing
from interp.models import Model
from interp.probes import Blocks, fit_site, grouped_folds, shuffled_labels
from interp.probes.splits import fold_codes
from interp.sites import Site
from interp.stats import Contrast, Interval, paired_contrast
from interp.store import Workspace
from interp.tokens import PositionRule
from interp.transcripts import Message, Transcript

SITES = (Site(0), Site(1), Site(2))
WIDTH, N = 24, 120


def planted_rows(seed: int = 0, method: str = "difference_of_means") -> FittedRows:
    """Rows in which a concept, a firm and a decider each have an axis of their own, in groups of four rows."""
    rng = np.random.default_rng(seed)
    group = np.arange(N) // 4
    label, firm, decider = group % 2 == 0, group % 3, group % 5 < 2
    acts = {}
    for site in SITES:
        rows = rng.standard_normal((N, WIDTH)) * 0.3
        rows[:, 0] += 2 * label
        rows[:, 1] += 2 * (firm == 1)
        rows[:, 2] += 2 * decider
        acts[site] = torch.from_numpy(rows).float()
    fields = {"firm": [f"firm {k}" for k in firm], "decider": [str(bool(k)) for k in decider]}
    return FittedRows(acts, label, [f"g{k}" for k in group], method, fields)


def fitted(rows: FittedRows) -> dict[Site, Direction]:
    folds = fold_codes(grouped_folds(rows.labels, rows.groups, folds=2, seed=0), rows.groups)
    found = {}
    for site in SITES:
        fits = fit_site(Blocks.from_rows(rows.acts[site]), rows.labels[None], folds, (rows.method,))
        found[site] = Direction("real", fits.vectors[rows.method][0] * (1 + site.layer), site)
    return found


def along(*shares: float) -> dict[Site, Direction]:
    vector = torch.zeros(WIDTH)
    vector[: len(shares)] = torch.tensor(shares)
    return {site: Direction("along", vector, site) for site in SITES}


def sources(rows: FittedRows) -> Sources:
    axes = torch.eye(WIDTH)
    wrong = {f"emotion:{k}": {s: Direction(f"emotion:{k}", axes[5 + k], s) for s in SITES} for k in range(6)}
    return Sources(rows, emotions=wrong, concept={"other fit": along(1.0, 0.2)})


def moved(direction: Direction) -> float:
    """What a push does in a world in which the planted axis alone matters."""
    return float(direction.vector[0])


def test_every_kind_has_the_norm_of_the_treatment_and_its_own_seed_at_every_site() -> None:
    rows = planted_rows()
    real = fitted(rows)
    bank = make_bank(real, sources(rows), seed=3)
    kinds = [control.kind for control in bank]
    assert set(kinds) == set(KINDS) and len(bank) == 21 and kinds.count("flipped") == 1
    assert [*dict.fromkeys(kinds)] == list(KINDS) and len({control.name for control in bank}) == 21
    assert max(kinds.count(k) for k in ("random", "covariance", "permuted", "emotion", "concept")) <= 4
    for control in bank:
        assert set(control.vectors) == set(SITES)
        for site, direction in control.vectors.items():
            assert direction.meta["control"] == control.kind and direction.meta["seed"] == control.seed
            assert direction.norm == pytest.approx(real[site].norm, rel=1e-5)
            assert direction.site == site and direction.name == control.name
            assert control.cosines[site] == pytest.approx(float(direction.unit @ real[site].unit), abs=1e-5)
    drawn = {control.kind: control.seed for control in bank if control.seed is not None}
    assert set(drawn) == {"random", "covariance", "permuted"} and len(set(drawn.values())) == 3


def test_a_bank_is_made_again_from_its_seed_and_not_from_another() -> None:
    rows = planted_rows()
    real = fitted(rows)
    one, same, other = (make_bank(real, sources(rows), seed=seed) for seed in (3, 3, 4))
    for a, b, c in zip(one, same, other, strict=True):
        assert a.to_dict() == b.to_dict()
        alike = all(torch.equal(a.vectors[site].vector, c.vectors[site].vector) for site in SITES)
        assert alike == (a.seed is None)


def test_the_same_draw_and_the_same_labelling_stand_at_all_sites() -> None:
    """With the same rows at every site, a control is the same there; with other labellings it would not be."""
    rows = planted_rows()
    same = replace(rows, acts=dict.fromkeys(SITES, rows.acts[SITES[0]]))
    bank = make_bank(along(1.0), Sources(same), seed=0)
    for control in bank:
        first, *others = (control.vectors[site].vector for site in SITES)
        assert all(torch.allclose(first, other, atol=1e-5) for other in others), control.name
    permuted = [control.vectors[SITES[0]].unit for control in bank if control.kind == "permuted"]
    assert abs(float(permuted[0] @ permuted[1])) < 0.999


@pytest.mark.parametrize("method", ["difference_of_means", "lda", "logistic"])
def test_permuted_controls_are_what_the_fitting_code_makes_of_shuffled_labels(method: str) -> None:
    rows = planted_rows(method=method)
    real = fitted(rows)
    controls = permuted_controls(real, rows, 12, seed=1)
    assert all(control.vectors[site].meta["method"] == method for control in controls for site in SITES)
    cosines = np.array([list(control.cosines.values()) for control in controls])
    assert abs(cosines.mean()) < 0.5 and cosines.max() < 0.98
    labelling = shuffled_labels(rows.labels, rows.groups, n=12, seed=1)[5]
    direct = fitted(replace(rows, labels=labelling))[SITES[1]]
    assert float(direct.unit @ controls[5].vectors[SITES[1]].unit) == pytest.approx(1, abs=1e-4)
    assert float(direct.unit @ controls[4].vectors[SITES[1]].unit) < 0.99, "control"


def test_a_handful_of_groups_is_enough_for_permuted_controls() -> None:
    rows = planted_rows()
    few = replace(rows, groups=[f"g{k}" for k in np.arange(N) // 20], labels=(np.arange(N) // 20) % 2 == 0, fields={})
    assert len(permuted_controls(along(1.0), few, 20, seed=0)) == 20


def test_labels_that_cannot_be_shuffled_are_refused() -> None:
    rows = planted_rows()
    with pytest.raises(ProbeError, match="groups"):
        permuted_controls(along(1.0), replace(rows, labels=np.ones(N, bool)), 2, seed=0)


def test_covariance_controls_vary_as_the_rows_do_and_random_ones_do_not() -> None:
    rows = planted_rows()
    wide = {site: acts * torch.tensor([10.0] * 4 + [0.1] * (WIDTH - 4)) for site, acts in rows.acts.items()}
    bank = make_bank(along(0.0, 0.0, 0.0, 0.0, 1.0), Sources(replace(rows, acts=wide, fields={})), n=24, seed=0)

    def share(kind: str) -> float:
        return float(np.mean([float(c.vectors[SITES[0]].unit[:4].square().sum()) for c in bank if c.kind == kind]))

    assert share("covariance") > 0.9 and share("random") < 0.5


def test_concepts_are_the_planted_axes_and_point_to_the_treatments_side() -> None:
    rows = planted_rows()
    by_name = {c.name: c for c in make_bank(along(1.0, -0.5, 0.5), Sources(rows), seed=0) if c.kind == "concept"}
    assert abs(float(by_name["concept:firm!=firm 1"].vectors[SITES[0]].unit[1])) > 0.9
    assert len([name for name in by_name if name.startswith("concept:decider")]) == 1, "of two values, one direction"
    assert all(np.mean(list(control.cosines.values())) > 0 for control in by_name.values())


def test_a_field_that_never_varies_is_refused() -> None:
    rows = replace(planted_rows(), fields={"firm": ["one"] * N})
    with pytest.raises(ExperimentError, match="no value of firm"):
        make_bank(along(1.0), Sources(rows), seed=0)


def test_the_remainder_has_nothing_of_the_concept_left() -> None:
    bank = make_bank(along(1.0, 1.0), Sources(concept={"a": along(1.0), "b": along(2.0, 0.0, 1.0)}), n=3, seed=0)
    (remainder,) = [control for control in bank if control.kind == "remainder"]
    for direction in remainder.vectors.values():
        assert direction.unit[1] == pytest.approx(1.0) and direction.meta["kept"] == pytest.approx(0.5**0.5)
        assert float(direction.vector[[0, 2]].abs().max()) < 1e-6
    with pytest.raises(ExperimentError, match="nothing is left"):
        make_bank(along(1.0, 1.0), Sources(concept={"a": along(1.0), "b": along(1.0, 0.5)}), n=3, seed=0)
    with pytest.raises(ExperimentError, match="95% of its length is left"):
        make_bank(along(1.0, 3.0), Sources(concept={"a": along(1.0)}), n=3, seed=0)


def test_the_flip_is_no_control_of_an_edit_that_does_not_know_the_sign() -> None:
    bank = make_bank(along(1.0), n=20, seed=0)
    assert len(under(bank, "add")) == len(under(bank, "cap")) == 21
    assert len(under(bank, "ablate")) == len(under(bank, "mean_ablate")) == 20
    assert torch.equal(bank[-1].vectors[SITES[0]].vector, -along(1.0)[SITES[0]].vector)


def test_what_a_bank_leaves_open_is_said() -> None:
    assert "another emotion, or bad news" in not_shown(["random", "flipped"]) and not_shown(list(KINDS)) == ()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (dict(kinds=["random", "emotion"]), "nothing to make emotion of"),
        (dict(kinds=["flipped"]), "0 kinds"),
        (dict(n=0), "1 kinds"),
    ],
)
def test_a_bank_that_cannot_be_made_is_refused(how: dict, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        make_bank(along(1.0), seed=0, **how)


def test_too_few_controls_of_the_wanted_kinds_are_refused() -> None:
    rows = planted_rows()
    with pytest.raises(ExperimentError, match="6 of emotion"):
        make_bank(fitted(rows), sources(rows), n=20, seed=0, kinds=["emotion"])


def test_the_direction_under_test_is_no_wrong_emotion() -> None:
    with pytest.raises(ExperimentError, match="it is the direction under test"):
        make_bank(along(1.0), Sources(emotions={"emotion:desperate": along(2.0)}), seed=0)


def test_emotion_vectors_are_permuted_by_their_own_recipe(llama: Model, tmp_path) -> None:
    words = {"desperate": "plan deadline", "calm": "lunch noon", "angry": "email team"}
    told = [
        Transcript(f"{topic}{name}", (Message("user", f"{word} {topic} today."),), f"t{topic}", meta={"emotion": name})
        for topic in range(6)
        for name, word in words.items()
    ]
    acts = collect(llama, told, SITES, PositionRule.parse("mean:from:1"), workspace=Workspace(tmp_path))
    treatment = emotion_vectors(acts)["desperate"]
    stories = StoryRows(acts, "desperate")
    controls = permuted_emotions(treatment, stories, 10, seed=0)
    cosines = np.array([[control.cosines[site] for site in SITES] for control in controls])
    assert cosines.max() < 0.999 and abs(cosines.mean()) < 0.6
    bank = make_bank(treatment, Sources(stories=stories), seed=0)
    assert {control.kind for control in bank} == {"random", "covariance", "permuted", "flipped"}
    told_apart = StoryRows(acts, "desperate", against="calm")
    assert len(permuted_emotions(treatment, told_apart, 2, seed=0)) == 2
    with pytest.raises(ExperimentError, match="no stories of sad"):
        permuted_emotions(treatment, StoryRows(acts, "sad"), 2, seed=0)


def test_rows_of_a_collected_set_take_their_labels_and_fields_from_transcripts(llama: Model, tmp_path) -> None:
    said = [
        Transcript(f"{k}", (Message("user", "reply to the team"),), f"g{k}", meta={"firm": k % 2}) for k in range(4)
    ]
    acts = collect(llama, said, SITES, PositionRule.parse("all"), workspace=Workspace(tmp_path))
    rows = FittedRows.of(acts, [True, False, True, False], ["firm"], method="lda")
    assert len(rows.labels) == len(acts.rows) > 4 and rows.method == "lda"
    assert [value == "0" for value in rows.fields["firm"]] == rows.labels.tolist()
    with pytest.raises(ExperimentError, match="3 labels for 4"):
        FittedRows.of(acts, [True] * 3)
    with pytest.raises(ExperimentError, match="no mood in meta of 4"):
        FittedRows.of(acts, [True] * 4, ["mood"])


def effects(bank: tuple[Control, ...], push: Callable[[Direction], float]) -> list[ControlEffect]:
    return [ControlEffect(c.name, c.kind, push(c.vectors[SITES[0]])) for c in bank]


def test_a_planted_effect_is_outside_every_kind() -> None:
    rows = planted_rows()
    real = fitted(rows)
    found = standing(
        moved(real[SITES[0]]), effects(make_bank(real, sources(rows), seed=0), moved), alternative="greater"
    )
    assert found.outside(0.95) and found.overall is not None and found.overall.percentile == 100
    assert all(one.rank is not None and one.rank.rank == 1 for one in found.kinds)
    assert {one.kind for one in found.kinds} == set(KINDS)


def test_an_effect_that_any_push_gives_is_outside_no_kind() -> None:
    rows = planted_rows()
    real = fitted(rows)
    bank = make_bank(real, sources(rows), seed=0)
    found = standing(real[SITES[0]].norm, effects(bank, lambda d: d.norm + 1e-3), alternative="greater")
    assert not found.outside(0.95)
    assert all(one.rank is not None and one.rank.rank == one.n + 1 for one in found.kinds)


def test_an_effect_of_one_kind_is_seen_to_be_that_kinds() -> None:
    """A real direction that only does what its remainder does beats all others, and is not outside the bank."""
    bank = make_bank(along(1.0, 1.0), Sources(concept={"a": along(1.0)}), seed=0)
    push = lambda d: float(d.vector[1])  # noqa: E731
    found = standing(push(along(1.0, 1.0)[SITES[0]]), effects(bank, push), alternative="greater")
    ranks = {one.kind: one.rank.rank for one in found.kinds if one.rank is not None}
    assert ranks["remainder"] == 2 and ranks["random"] == ranks["flipped"] == 1 and not found.outside(0.95)


def test_an_undefined_change_makes_its_rank_undefined_and_no_other() -> None:
    bank = [ControlEffect(f"random:{k}", "random", 0.0) for k in range(20)] + [
        ControlEffect("flipped", "flipped", None)
    ]
    found = standing(-0.3, bank, alternative="less")
    by_kind = {one.kind: one.rank for one in found.kinds}
    assert found.overall is None and by_kind["flipped"] is None and by_kind["random"] is not None
    assert not found.outside(0.95) and found.separated(0.95) == ()
    with pytest.raises(ExperimentError, match="no control"):
        standing(-0.3, [], alternative="less")


def by_formula(one: np.ndarray, other: np.ndarray) -> Contrast:
    """What `paired_contrast` gives, but for the interval, which is the normal one: fast enough for thousands."""
    more, fewer, n = int((one & ~other).sum()), int((other & ~one).sum()), len(one)
    tail = sum(math.comb(more + fewer, k) for k in range(min(more, fewer) + 1)) / 2 ** (more + fewer)
    change, spread = (more - fewer) / n, (more + fewer - (more - fewer) ** 2 / n) ** 0.5 / n
    interval = Interval(change - 1.96 * spread, change + 1.96 * spread, 0.95, "normal")
    return Contrast(change, interval, min(1.0, 2 * tail), "mcnemar exact", n)


def test_the_formula_is_that_of_the_library() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.random(80) < 0.3, rng.random(80) < 0.5
    fast, slow = by_formula(one, other), paired_contrast(one.tolist(), other.tolist(), seed=0)
    assert fast.p_value == pytest.approx(slow.p_value) and fast.difference == pytest.approx(slow.difference)
    assert slow.interval is not None and fast.interval is not None
    assert fast.interval.low == pytest.approx(slow.interval.low, abs=0.03)


def paired_world(
    rates: dict[str, list[float]], real: float, rng: np.random.Generator, n: int = 80
) -> list[ControlEffect]:
    """Effects and contrasts of rollouts that share their noise in part, from the rate under each control of a kind."""
    shared = rng.random(n)

    def flags(rate: float) -> np.ndarray:
        return np.where(rng.random(n) < 0.5, shared, rng.random(n)) < rate

    base, treated = flags(0.5), flags(real)
    found = []
    for kind, of_kind in rates.items():
        for number, rate in enumerate(of_kind):
            mine = flags(rate)
            change = float(mine.mean() - base.mean())
            found.append(ControlEffect(f"{kind}:{number}", kind, change, by_formula(treated, mine)))
    return found


def change_of(rate: float) -> float:
    return rate - 0.5


def test_paired_tests_separate_a_planted_effect_from_every_kind_and_a_tied_kind_from_none() -> None:
    rng = np.random.default_rng(0)
    rates = {kind: [0.5] * 3 for kind in KINDS}
    found = standing(change_of(0.05), paired_world(rates, 0.05, rng), alternative="less")
    assert set(found.separated(0.95)) == set(KINDS) and found.outside(0.95)
    assert all(one.difference is not None and one.difference < -0.2 for one in found.kinds)
    tied = standing(change_of(0.05), paired_world(rates | {"emotion": [0.5, 0.05]}, 0.05, rng), alternative="less")
    assert set(tied.separated(0.95)) == set(KINDS) - {"emotion"}
    (emotion,) = [one for one in tied.kinds if one.kind == "emotion"]
    assert emotion.nearest == "emotion:1" and emotion.n == 2
    wrong_way = standing(change_of(0.95), paired_world(rates, 0.95, rng), alternative="less")
    assert wrong_way.separated(0.95) == () and all(one.p_value == 1 for one in wrong_way.kinds)


def test_groups_can_withhold_what_the_p_value_gives() -> None:
    """All disagreeing pairs are of one prompt: McNemar's p is small, and the interval over groups reaches 0."""
    one, other = [False] * 40, [True] * 12 + [False] * 28
    groups = ["a"] * 12 + [f"g{k}" for k in range(28)]
    clustered = paired_contrast(one, other, groups, seed=0)
    apart = paired_contrast(one, other, seed=0)
    for contrast, said in ((clustered, ()), (apart, ("random",))):
        assert contrast.p_value is not None and contrast.p_value < 0.001
        found = standing(-0.3, [ControlEffect("random:0", "random", 0.0, contrast)], alternative="less")
        assert found.separated(0.95) == said


def test_the_family_wise_rate_over_null_draws_is_kept_and_without_the_correction_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """200 worlds with one control a kind, as good as the real direction: further ones could only hide a kind."""
    monkeypatch.setattr(gc, "collect", lambda: 0)  # which statsmodels calls for every correction: half a second here
    rng = np.random.default_rng(1)
    called = raw = 0
    for _ in range(200):
        real, *controls = rng.random((11, 80)) < 0.3
        contrasts = [by_formula(real, control) for control in controls]
        found = [ControlEffect(f"{k}:0", f"kind {k}", None, against) for k, against in enumerate(contrasts)]
        null = standing(None, found, alternative="less")
        called += bool(null.separated(0.95))
        raw += any(one.p_value is not None and one.p_value <= 0.05 for one in null.kinds)
    allowed = 200 * 0.05 + 2.33 * (200 * 0.05 * 0.95) ** 0.5
    assert called <= allowed
    assert raw > allowed, "control: the tests are not so weak that no correction is needed"


def test_of_exchangeable_directions_one_in_as_many_is_outside() -> None:
    """Each of 21 null effects in turn as the real one: exactly one is outside, so the rate is 1/21."""
    values = np.random.default_rng(2).standard_normal(21).tolist()
    bank = [ControlEffect(f"{k}", "random" if k % 2 else "covariance", value) for k, value in enumerate(values)]
    outside = [standing(v, bank[:k] + bank[k + 1 :], alternative="less").outside(0.95) for k, v in enumerate(values)]
    assert outside.count(True) == 1 and outside[int(np.argmin(values))]
    assert not standing(min(values), bank[:19], alternative="less").outside(0.951), "too few to reach the level"
