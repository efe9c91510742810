"""Directions at equal KL: the search finds the strength, keeps what it tried, and says when it cannot."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from interp.directions import Direction
from interp.edits import Edit, place
from interp.errors import ExperimentError
from interp.experiments import Arm, Plan, design, make_bank
from interp.experiments.equal_kl import EqualKL, Evaluation, matched_banks, strength_at_kl, text_kl
from interp.experiments.plan import Banked
from interp.generation import residual_norms
from interp.models import Model, load, pad
from interp.organism.sets import benign_transcripts
from interp.sites import Site
from interp.testing import random_direction, small_transcripts
from interp.tokens import render
from interp.transcripts import Transcript

SITE = Site(1)
ADD = Arm("add", 1.0, "norm", (SITE,), "greater")
TEXTS = small_transcripts()[:3]


def vectors(model: Model, seed: int = 0) -> dict[Site, Direction]:
    return {SITE: random_direction(model, seed=seed, name=f"d{seed}")}


def kl_at(model: Model, value: float, texts: list[Transcript] = TEXTS, arm: Arm = ADD) -> float:
    edits = replace(arm, value=value).condition("d", vectors(model)).edits
    return text_kl(model, edits, texts)


def test_the_kl_is_that_of_the_definition_over_all_texts_and_positions(model: Model) -> None:
    edit = Edit.of("add", vectors(model)[SITE], 1.0)
    values = []
    for transcript in TEXTS:
        ids = render(transcript, model.tokenizer).ids
        placed = place([(edit,)], d_model=model.d_model)
        before, after = (model.run(pad([ids]), edits=e, logits="all").logits for e in (None, placed))
        assert before is not None and after is not None
        for position in range(1, len(ids) - 1):
            p, q = (torch.softmax(logits[0, position].double(), -1) for logits in (before, after))
            values.append(float((p * (p / q).log()).sum()))
    assert text_kl(model, [edit], TEXTS) == pytest.approx(sum(values) / len(values), rel=1e-3)


def test_nothing_changed_is_a_kl_of_exactly_zero(model: Model) -> None:
    assert kl_at(model, 0.0) == 0 and text_kl(model, [], TEXTS) == 0
    assert kl_at(model, 1.0) > 0, "control"


def test_generated_scope_is_measured_where_it_can_act(llama: Model) -> None:
    scoped = replace(ADD, scope="generated")
    assert 0 < kl_at(llama, 1.0, arm=scoped) != kl_at(llama, 1.0)
    unspoken = [replace(text, messages=text.messages[:1]) for text in TEXTS]
    assert kl_at(llama, 1.0, unspoken) > 0
    with pytest.raises(ExperimentError, match="no position"):
        kl_at(llama, 1.0, unspoken, arm=scoped)


def test_the_strength_of_a_target_is_found_and_every_evaluation_kept(model: Model) -> None:
    target = 1e-3
    found = strength_at_kl(model, ADD, vectors(model), TEXTS, target, within=(0.001, 100.0))
    assert found.kl == pytest.approx(target, rel=0.02)
    assert kl_at(model, found.value) == found.kl, "the strength gives the KL that is said"
    assert found.evaluations[-1] == Evaluation(found.value, found.kl)
    assert found.monotone and len(found.evaluations) < 40
    assert max(one.value for one in found.evaluations) <= 2.001 * found.value, "nothing much stronger was tried"


def test_a_known_strength_is_found_again_with_either_sign(llama: Model) -> None:
    for value in (0.3, -0.3):
        within = (math.copysign(0.01, value), math.copysign(10, value))
        found = strength_at_kl(llama, ADD, vectors(llama), TEXTS, kl_at(llama, value), within=within, tolerance=1e-3)
        assert found.value == pytest.approx(value, rel=0.01)


def test_ablation_is_searched_by_its_fraction(llama: Model) -> None:
    arm = Arm("ablate", 1.0, "fraction", (SITE,), "less")
    half = kl_at(llama, 0.5, arm=arm)
    found = strength_at_kl(llama, arm, vectors(llama), TEXTS, half, within=(0.01, 1.0), tolerance=1e-3)
    assert found.value == pytest.approx(0.5, rel=0.02) and found.unit == "fraction"


@pytest.mark.parametrize(
    ("target", "within", "message"),
    [
        (1e9, (0.01, 1.0), "at 1 norm.*searched from 0.01 to 1"),
        (1e-12, (0.5, 1.0), "at 0.5 norm"),
        (0.0, (0.01, 1.0), "target 0"),
        (0.1, (1.0, 0.01), "range 1 to 0.01"),
        (0.1, (-0.01, 1.0), "range -0.01 to 1"),
        (0.1, (0.0, 1.0), "range 0 to 1"),
    ],
    ids=["too high", "passed at once", "no target", "turned round", "two signs", "from nothing"],
)
def test_a_target_out_of_range_is_refused(llama: Model, target: float, within: tuple, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        strength_at_kl(llama, ADD, vectors(llama), TEXTS, target, within=within)


def test_an_edit_without_a_strength_of_nothing_is_refused(llama: Model) -> None:
    with pytest.raises(ExperimentError, match="cap has no strength 0"):
        strength_at_kl(llama, Arm("cap", 0.0, "z", (SITE,), "less"), vectors(llama), TEXTS, 0.1, within=(0.1, 1.0))


def test_a_kl_that_falls_again_is_seen() -> None:
    tried = (Evaluation(0.1, 0.01), Evaluation(0.2, 0.05), Evaluation(0.4, 0.04))
    found = EqualKL("d", 0.4, "norm", 0.04, 0.04, tried)
    assert not found.monotone and found.to_dict()["monotone"] is False
    assert replace(found, evaluations=tuple(reversed(tried[:2]))).monotone


def test_directions_of_the_organism_are_compared_at_equal_kl_and_not_at_equal_norm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At equal norm the bank disturbs benign text unequally; at the strengths that are found, equally."""
    organism = load("organism")
    sites = (Site(1), Site(2))
    benign = benign_transcripts(2, 5)
    norms = residual_norms(organism, benign, sites)
    treatment = {site: replace(random_direction(organism, name="real"), site=site) for site in sites}
    bank = make_bank(treatment, n=2, seed=1)
    arm = Arm("add", -0.1, "resid", sites, "less")
    plan = Plan("q", "real", (arm, replace(arm, value=-0.05)), n_controls=2, equal_kl=True)
    plain = design(plan, treatment, bank)
    keep = tmp_path / "equal_kl.jsonl"
    matched = matched_banks(organism, plan, plain, benign, norms, keep=keep)
    assert [len(part) for part in matched.equal_kl] == [3, 0] and not matched.unreached
    assert [one.condition.name for one in matched.equal_kl[0]] == [
        f"{arm.name} | {name} at equal KL" for name in ("random:0", "random:1", "flipped")
    ]
    target = text_kl(organism, plain.treated[1].edits, benign, residual_norms=norms)

    def spread(found: Sequence[Banked]) -> float:
        kls = [text_kl(organism, one.condition.edits, benign, residual_norms=norms) for one in found]
        return max(abs(math.log(kl / target)) for kl in kls)

    assert spread(matched.equal_kl[0]) <= 0.021 < spread(plain.banks[0])
    monkeypatch.setattr("interp.experiments.equal_kl.strength_at_kl", None)
    again = matched_banks(organism, plan, plain, benign, norms, keep=keep)
    assert [one.kl for one in again.equal_kl[0]] == [one.kl for one in matched.equal_kl[0]], "kept, not searched again"


def test_a_control_that_does_not_reach_the_kl_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    organism, sites = load("organism"), (Site(1),)
    benign = benign_transcripts(1, 5)
    norms = residual_norms(organism, benign, sites)
    treatment = {Site(1): random_direction(organism, name="real")}
    plan = Plan("q", "real", (Arm("add", -0.1, "resid", sites, "less"),), n_controls=1, equal_kl=True)
    plain = design(plan, treatment, make_bank(treatment, n=1, seed=1))
    monkeypatch.setattr("interp.experiments.equal_kl.NEAR", (0.01, 0.02))
    found = matched_banks(organism, plan, plain, benign, norms)
    assert found.equal_kl == ((),) and [text.partition(" (")[0] for text in found.unreached] == [
        one.condition.name for one in plain.banks[0]
    ]
    assert matched_banks(organism, replace(plan, equal_kl=False), plain, benign, norms) is plain, "control"
