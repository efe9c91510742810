"""Plans, tables and verdicts: what the words need, and that a run goes on where it stopped."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from interp.behaviour import Outcome, Rules, grammar
from interp.directions import Direction
from interp.errors import DirectionError, EditError, ExperimentError, SiteError, StoreError
from interp.experiments import (
    Arm,
    Circumstances,
    Guard,
    Plan,
    Results,
    announce,
    arms_from,
    design,
    dose_arms,
    make_bank,
    parse_arm,
    scaled_with_controls,
    steer,
    verdict,
)
from interp.experiments.results import assemble
from interp.experiments.tables import to_dict
from interp.experiments.verdict import WORDS, refusals
from interp.generation import Rollout, Sampling
from interp.models import Model, load
from interp.organism.sets import benign_transcripts
from interp.scenarios.sets import Wanted, scenarios
from interp.sites import Site
from interp.stats import Interval
from interp.store import Rows, fingerprint
from interp.testing import random_direction, small_transcripts
from interp.transcripts import Message, Transcript

SITE = Site(1)
KEPT = {"side_effects.jsonl"}
"""What measuring side effects leaves."""
LOWER, RAISE = Arm("add", -1.0, "norm", (SITE,), "less"), Arm("add", 1.0, "norm", (SITE,), "greater")


def results(
    model: Model,
    rates: dict[str, float],
    *,
    base: float = 0.5,
    controls: float = 0.5,
    n_controls: int = 20,
    coherent: float = 1.0,
    ungraded: float = 0.0,
    arms: tuple[Arm, ...] = (LOWER, RAISE),
    n: int = 30,
    around: Circumstances | None = None,
) -> Results:
    """Results whose rollouts blackmail at the given rates: by arm name, for the baseline, and for every control."""
    plan = Plan("q", "d", arms, samples=4, control_samples=4, n_controls=n_controls, kinds=("random",))
    vectors = {SITE: random_direction(model, name="d")}
    done = design(plan, vectors, make_bank(vectors, n=n_controls, seed=0, kinds=plan.kinds))
    rng = np.random.default_rng(0)
    noise = rng.random((n, 4))
    graded = []
    for condition in (*done.treated, *done.banked):
        arm, _, name = condition.name.partition(" | ")
        rate = base if not name else controls if name.startswith("random") else rates[arm]
        for prompt in range(n):
            for sample in range(4):
                broken = name == "d" and rng.random() > coherent
                unknown = rng.random() < ungraded
                rung = (
                    None
                    if unknown
                    else "incoherent"
                    if broken
                    else "blackmail"
                    if noise[prompt, sample] < rate
                    else "comply"
                )
                transcript = Transcript(f"{prompt}|{condition.name}|{sample}", (Message("user", "x"),), f"g{prompt}")
                graded.append(
                    (Rollout(transcript, str(prompt), condition.name, sample, 0, False, 1, 1), Outcome(rung, "test"))
                )
    return assemble(plan, "tiny", done, graded, residual_norms={SITE: 1.0}, around=around)


@pytest.mark.parametrize(
    ("case", "word"),
    [
        (dict(rates={LOWER.name: 0.1, RAISE.name: 0.9}), "specific suppression"),
        (dict(rates={LOWER.name: 0.1, RAISE.name: 0.9}, controls=0.1), "suppression, not specific"),
        (dict(rates={LOWER.name: 0.5, RAISE.name: 0.5}), "no effect at this power"),
        (dict(rates={LOWER.name: 0.5, RAISE.name: 0.9}), "no effect at this power"),
        (dict(rates={LOWER.name: 0.1, RAISE.name: 0.1}), "disruption"),
        (dict(rates={LOWER.name: 0.5, RAISE.name: 0.5}, coherent=0.3), "disruption"),
        (dict(rates={LOWER.name: 0.1, RAISE.name: 0.9}, n_controls=5), "suppression, not specific"),
        (dict(rates={LOWER.name: 0.1, RAISE.name: 0.9}, ungraded=0.2), "uninformative"),
        (dict(rates={LOWER.name: 0.0, RAISE.name: 0.1}, base=0.0), "uninformative"),
        (dict(rates={LOWER.name: 0.5, RAISE.name: 1.0}, base=1.0), "uninformative"),
    ],
    ids=[
        "specific",
        "controls do it too",
        "nothing",
        "only raising",
        "both signs",
        "broken",
        "few controls",
        "ungraded",
        "floor",
        "ceiling",
    ],
)
def test_the_word_is_what_the_numbers_allow(llama: Model, case: dict, word: str) -> None:
    found = verdict(results(llama, **case))
    assert found.word == word
    assert found.headline.lower().startswith(word.split(",")[0])
    if word != "specific suppression":
        assert "further than any" not in found.headline and "No control stands for" not in found.sentences[0]


def test_every_sentence_carries_its_numbers(llama: Model) -> None:
    found = verdict(results(llama, {LOWER.name: 0.1, RAISE.name: 0.9}))
    assert "No control stands for" in found.sentences[0] and "another emotion, or bad news" in found.sentences[0]
    assert "of 120 rollouts of 30 prompts" in found.sentences[0] and "20 random" in found.sentences[0]
    assert "rank 1 of 21" in found.sentences[1] and "0.048" in found.sentences[1]


def test_broken_replies_count_against_a_fall(llama: Model) -> None:
    """A fall that is breakage alone is no fall once broken replies are counted as blackmail."""
    found = results(llama, {LOWER.name: 0.5, RAISE.name: 0.5}, coherent=0.6).arms[0].treatment
    assert found.contrast is not None and found.cautious is not None
    assert found.contrast.difference < -0.1 and found.cautious.difference > 0.1


def test_a_fall_that_cautious_counting_undoes_is_disruption(llama: Model) -> None:
    found = results(llama, {LOWER.name: 0.1}, arms=(LOWER,))
    assert verdict(found).word == "specific suppression", "control"
    (arm,) = found.arms
    assert arm.treatment.contrast is not None
    undone = replace(arm.treatment.contrast, interval=Interval(-0.1, 0.1, 0.95, "made by hand"))
    broken = replace(found, arms=(replace(arm, treatment=replace(arm.treatment, cautious=undone)),))
    assert verdict(broken).word == "disruption" and "broken replies" in verdict(broken).headline


def test_broken_replies_support_no_claim(llama: Model) -> None:
    found = verdict(results(llama, {LOWER.name: 0.1, RAISE.name: 0.9}, coherent=0.8))
    assert found.word == "disruption" and "supports no claim" in found.sentences[1]


def test_a_small_study_says_what_it_excluded(llama: Model) -> None:
    found = verdict(results(llama, {LOWER.name: 0.5, RAISE.name: 0.5}))
    assert "reach no fall of more than" in found.headline


def test_tables_add_up(llama: Model) -> None:
    table = to_dict(results(llama, {LOWER.name: 0.1, RAISE.name: 0.9}))
    assert len(table["cells"]) == 1 + 2 * 21
    for cell in table["cells"]:
        assert sum(cell["outcomes"].values()) == cell["n"] == 120
        assert cell["blackmail"]["successes"] == cell["outcomes"]["blackmail"]
    json.dumps(table, allow_nan=False)
    by_role = {cell["role"] for cell in table["cells"]}
    assert by_role == {"baseline", "treatment", "control"}
    assert table["dose_trend"]["slope"] > 0


def test_doses_are_symmetric_about_zero() -> None:
    arms = dose_arms([0.2, 0.1], "resid", (SITE,))
    assert [arm.value for arm in arms] == [-0.2, -0.1, 0.1, 0.2]
    assert [arm.alternative for arm in arms] == ["less", "less", "greater", "greater"]
    everything = arms_from((0.1,), "resid", (SITE,), (Site(0), SITE))
    assert [arm.kind for arm in everything] == ["add", "add", "ablate", "cap"]


def test_a_plan_that_says_nothing_is_refused() -> None:
    for arms in ((), (LOWER, LOWER)):
        with pytest.raises(ExperimentError, match="arm"):
            Plan("q", "d", arms)
    with pytest.raises(ExperimentError, match="controls"):
        Plan("q", "d", (LOWER,), n_controls=0)


@pytest.fixture(scope="module")
def organism() -> Model:
    return load("organism")


def small_plan(**changes) -> Plan:
    settings = dict(samples=2, n_controls=3, kinds=("random",), sampling=Sampling(max_new_tokens=6), seed=1)
    return Plan("q", "d", (LOWER, Arm("cap", 0.0, "z", (SITE,), "less")), **(settings | changes))


def graded_by_length(rollout: Rollout) -> Outcome:
    return Outcome("blackmail" if len(rollout.reply) % 2 else "comply", "test")


def carry_out(model: Model, folder: Path, plan: Plan, on_progress=None, name: str = "d"):
    return steer(
        model,
        plan,
        small_transcripts(),
        {SITE: random_direction(model, name=name)},
        benign=small_transcripts(),
        folder=folder,
        on_progress=on_progress,
        grader=graded_by_length,
    )


def test_a_run_leaves_its_record_rows_outcomes_and_results(llama: Model, tmp_path: Path) -> None:
    found, words = carry_out(llama, tmp_path / "run", small_plan())
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "run.json",
        "doctor.json",
        "plan.json",
        "rollouts.jsonl",
        ".rollouts.jsonl.lock",
        "outcomes.jsonl",
        "results.json",
        *KEPT,
    }
    rows = Rows(tmp_path / "run" / "rollouts.jsonl").read()
    assert len(rows) == small_plan().rollouts(3) == 3 * (3 * 2 + 2 * 3 * 1)
    assert all(row["in_scope"] > 0 for row in rows if row["condition"] != "baseline")
    assert json.loads((tmp_path / "run" / "results.json").read_text())["verdict"]["word"] == words.word
    assert found.arms[0].treatment.kl is not None and found.arms[0].treatment.kl > 0


def test_a_killed_run_goes_on_and_ends_with_the_same_rows(llama: Model, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("interp.experiments.run._WRITE_EVERY", 4)

    def kill(done: int, total: int) -> None:
        if done >= 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(llama, tmp_path / "killed", small_plan(), kill)
    before = len(Rows(tmp_path / "killed" / "rollouts.jsonl").read())
    assert 0 < before < small_plan().rollouts(3)
    carry_out(llama, tmp_path / "killed", small_plan())
    carry_out(llama, tmp_path / "whole", small_plan())
    rows = [Rows(tmp_path / name / "rollouts.jsonl").read() for name in ("killed", "whole")]
    assert {fingerprint(row) for row in rows[0]} == {fingerprint(row) for row in rows[1]}
    tables = [(tmp_path / name / "results.json").read_text() for name in ("killed", "whole")]
    assert tables[0] == tables[1]


def test_another_experiment_in_the_same_folder_is_refused(llama: Model, tmp_path: Path) -> None:
    carry_out(llama, tmp_path / "run", small_plan())
    with pytest.raises(ExperimentError, match="another plan"):
        carry_out(llama, tmp_path / "run", small_plan(seed=2))
    with pytest.raises(ExperimentError, match="another benign transcripts"):
        steer(
            llama,
            small_plan(),
            small_transcripts(),
            {SITE: random_direction(llama, name="d")},
            benign=small_transcripts()[:2],
            folder=tmp_path / "run",
            grader=graded_by_length,
        )
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(StoreError):
        carry_out(llama, tmp_path / "run", small_plan())
    (tmp_path / "run" / "run.json").unlink()
    with pytest.raises(ExperimentError, match="no run.json"):
        carry_out(llama, tmp_path / "run", small_plan())


def test_a_zero_dose_is_the_baseline_in_every_row(llama: Model, tmp_path: Path) -> None:
    plan = small_plan()
    zero = Plan(
        "q",
        "d",
        (Arm("ablate", 0.0, "fraction", (SITE,), "less"),),
        samples=2,
        n_controls=2,
        kinds=("random",),
        sampling=plan.sampling,
    )
    found, _ = carry_out(llama, tmp_path / "run", zero)
    rows = Rows(tmp_path / "run" / "rollouts.jsonl").read()
    ids = {(r["prompt"], r["condition"], r["sample"]): r["transcript"]["token_ids"] for r in rows}
    assert all(value == ids[prompt, "baseline", sample] for (prompt, _, sample), value in ids.items())
    assert found.arms[0].treatment.contrast is not None and found.arms[0].treatment.contrast.difference == 0
    assert found.arms[0].treatment.kl == 0


def test_controls_have_the_norm_and_the_scale_of_the_treatment(llama: Model) -> None:
    plan = small_plan(n_controls=20)
    real, controls = scaled_with_controls(llama, plan, {SITE: random_direction(llama, name="d")}, small_transcripts())
    assert len(controls) == 20
    for control in controls:
        vector = control.vectors[SITE]
        assert vector.norm == pytest.approx(real[SITE].norm, rel=1e-5)
        assert vector.scale > 0 and vector.meta["reference_tokens"] == real[SITE].meta["reference_tokens"]


def test_what_does_not_fit_is_refused_before_anything_runs(
    llama: Model, tiny: dict[str, Model], tmp_path: Path
) -> None:
    def run(treatment: dict[Site, Direction], plan: Plan) -> None:
        steer(llama, plan, small_transcripts(), treatment, benign=small_transcripts(), folder=tmp_path / "run")

    with pytest.raises(ExperimentError, match="no vector at L1"):
        run({Site(0): random_direction(llama, 0)}, small_plan())
    with pytest.raises(DirectionError, match="fitted on"):
        run({SITE: random_direction(tiny["qwen3"])}, small_plan())
    with pytest.raises(EditError, match="Give it in one of"):
        run({SITE: random_direction(llama)}, Plan("q", "d", (Arm("add", 1.0, "z", (SITE,), "less"),)))
    assert not (tmp_path / "run" / "rollouts.jsonl").exists()


# -- what the words rest on


def test_no_cause_is_named_without_the_gate(llama: Model) -> None:
    fine = results(llama, {LOWER.name: 0.1, RAISE.name: 0.9})
    assert not refusals(fine), "control"
    failed = replace(fine, around=Circumstances(gate=("padding", "parity")))
    found = verdict(failed)
    assert found.word == "uninformative" and "the model failed padding, parity" in found.headline
    assert "lowered" not in found.headline


def test_no_cause_is_named_without_pairs_or_controls(llama: Model) -> None:
    fine = results(llama, {LOWER.name: 0.1, RAISE.name: 0.9})
    alone = replace(fine, arms=tuple(replace(arm, controls=()) for arm in fine.arms))
    assert verdict(alone).word == "uninformative" and "there is no control" in verdict(alone).headline
    unpaired = [
        replace(arm, treatment=replace(arm.treatment, contrast=replace(arm.treatment.contrast, n=0)))
        for arm in fine.arms
        if arm.treatment.contrast
    ]
    assert "no rollout is paired" in verdict(replace(fine, arms=tuple(unpaired))).headline


def test_doses_of_both_signs_that_do_the_same_are_flagged(llama: Model) -> None:
    both = results(llama, {LOWER.name: 0.1, RAISE.name: 0.1})
    assert both.symmetric == (LOWER,) and "moves the event the same way" in " ".join(verdict(both).sentences)
    assert results(llama, {LOWER.name: 0.1, RAISE.name: 0.9}).symmetric == (), "control: a direction"
    assert results(llama, {LOWER.name: 0.5, RAISE.name: 0.5}).symmetric == (), "null"


def test_the_standing_by_kind_is_in_the_words_and_in_the_table(llama: Model) -> None:
    fine = results(llama, {LOWER.name: 0.1, RAISE.name: 0.9})
    (kind,) = fine.arms[0].standing.kinds
    assert kind.kind == "random" and kind.n == 20 and kind.rank is not None and kind.rank.rank == 1
    assert fine.arms[0].standing.separated(0.95) == ("random",)
    assert "Paired tests part it from every control of random" in verdict(fine).sentences[1]
    assert to_dict(fine)["arms"][0]["standing"]["kinds"][0]["rank"]["rank"] == 1
    same = verdict(results(llama, {LOWER.name: 0.1, RAISE.name: 0.9}, controls=0.1))
    assert "They do not part it from some control of random" in same.sentences[1] and "20 of 20" in same.headline


def test_every_word_is_explained() -> None:
    assert list(WORDS) == [
        "specific suppression",
        "suppression, not specific",
        "disruption",
        "no effect at this power",
        "uninformative",
    ]


# -- plans that are announced


def announced(model: Model, folder: Path, plan: Plan) -> Path:
    vectors = {SITE: random_direction(model, name="d")}
    how = {"benign": small_transcripts(), "folder": folder, "grader": graded_by_length}
    return announce(model, plan, small_transcripts(), vectors, **how)


def test_a_plan_is_announced_before_anything_is_generated(llama: Model, tmp_path: Path) -> None:
    path = announced(llama, tmp_path / "run", small_plan())
    row = json.loads(path.read_text())
    assert row["hash"] == fingerprint(row["content"]) and not (tmp_path / "run" / "rollouts.jsonl").exists()
    assert row["content"]["n"]["rollouts an arm"] == 6 and "lowers blackmail" in row["content"]["hypothesis"]
    found, _ = carry_out(llama, tmp_path / "run", small_plan())
    assert found.around.registration == row["hash"]
    assert json.loads(path.read_text()) == row, "the plan stays as it was"


def test_what_was_not_announced_is_refused(llama: Model, tmp_path: Path) -> None:
    path = announced(llama, tmp_path / "run", small_plan())
    (tmp_path / "run" / "run.json").unlink()  # even where nothing else remembers the plan
    with pytest.raises(ExperimentError, match="announces other plan"):
        carry_out(llama, tmp_path / "run", small_plan(samples=3))
    (tmp_path / "run" / "run.json").unlink()
    row = json.loads(path.read_text())
    row["content"]["hypothesis"] = "whatever was found"
    path.write_text(json.dumps(row))
    with pytest.raises(ExperimentError, match="no longer what its hash"):
        carry_out(llama, tmp_path / "run", small_plan())
    assert not (tmp_path / "run" / "rollouts.jsonl").exists()


# -- arms


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cap 0.95 quantile @all less scope=generated", "cap +0.95 quantile @0,1,2,3 generated"),
        ("mean_ablate 1 fraction @L2.attn_out less back=0.5", "mean_ablate +1 fraction @L2.attn_out and 0.5 back"),
        ("add -0.1 resid in all @1,2 less", "add -0.1 resid in all @1,2"),
        ("rotate -20 @-1 less when a:b >= 1 z", "rotate -20 degrees @3 when a:b >= 1 z"),
        ("floor 1 z @0 greater", "floor +1 z @0"),
    ],
)
def test_an_arm_is_read_from_a_line(text: str, name: str) -> None:
    assert parse_arm(text, 4).name == name


@pytest.mark.parametrize("text", ["", "push 1 norm @1 less", "add 1 norm @1", "add x norm @1 less", "cap 1 z @9 less"])
def test_a_line_that_is_no_arm_is_refused(text: str) -> None:
    with pytest.raises((ExperimentError, SiteError)):
        parse_arm(text, 4)


def test_a_total_is_shared_and_a_guard_gates(llama: Model, tmp_path: Path) -> None:
    sites = (Site(0), SITE)
    vectors = {site: replace(random_direction(llama, name="d"), site=site) for site in sites}
    shared = Arm("add", -1.0, "norm", sites, "less", total=True).condition("d", vectors)
    assert [edit.strength.value for edit in shared.edits] == [-0.5, -0.5]
    guarded = Arm("add", -1.0, "norm", (SITE,), "less", when=Guard("e", 99.0))
    with pytest.raises(ExperimentError, match="no vector of e"):
        guarded.condition("d", vectors)
    other = replace(random_direction(llama, seed=5, name="e"), scale=1.0)
    (edit,) = guarded.condition("d", vectors, {"e": {SITE: other}}).edits
    assert edit.when is not None and edit.when.level.value == 99.0


def test_a_cap_at_a_benign_quantile_fires_above_it_only(llama: Model, tmp_path: Path) -> None:
    plan = small_plan()
    rows = {}
    for share in (0.5, 0.999):
        arm = Arm("cap", share, "quantile", (SITE,), "less")
        carry_out(llama, tmp_path / str(share), replace(plan, arms=(arm,), n_controls=1))
        found = Rows(tmp_path / str(share) / "rollouts.jsonl").read()
        rows[share] = sum(row["changed"] for row in found if row["condition"].endswith("| d"))
    assert rows[0.5] > rows[0.999]


def test_blackmail_by_rules_is_counted_as_by_the_grammar(organism: Model, tmp_path: Path) -> None:
    """Rules grade on the full ladder, which has no rung of the event's name."""
    prompts = scenarios(Wanted("organism:middle", n=8, seed=2))
    directions = {SITE: random_direction(organism)}
    plan = small_plan(samples=2, control_samples=2, sampling=Sampling(max_new_tokens=128))
    benign = benign_transcripts(8, seed=1)
    rates = {}
    for grader in (Rules(), grammar):
        folder = tmp_path / str(grader is grammar)
        found, _ = steer(organism, plan, prompts, directions, benign=benign, folder=folder, grader=grader)
        rates[grader is grammar] = found.baseline.rate
    assert rates[True].successes == rates[False].successes > 0
