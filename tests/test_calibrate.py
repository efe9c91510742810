"""Calibration: the measures fire on broken replies alone, and the range ends where replies do."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import interp
from interp.behaviour import MIN_COHERENCE, Outcome, grammar
from interp.behaviour.coherence import distinct_words, is_silent, repetition
from interp.cli import app
from interp.directions import Direction
from interp.errors import DirectionError, ExperimentError, StoreError
from interp.experiments import Arm, without_reply
from interp.experiments.calibrate import dose_ladder, find_range, grader_for, read_strengths
from interp.experiments.criteria import Criteria, breaches
from interp.experiments.dose_range import Range, Rung, ends, ladder
from interp.experiments.quality import Quality, Reply, coherent, parsed, quality, reply_nll
from interp.generation import BASELINE, Rollout, Sampling, generate, residual_norms
from interp.models import Model, pad
from interp.organism.sets import benign_transcripts, middle_band_transcripts
from interp.plots import control_ranks, dose_response, outcome_ladder
from interp.plots.doses import BEYOND
from interp.sites import Site
from interp.store import Rows, RunRecord, fingerprint
from interp.testing import random_direction, small_transcripts
from interp.transcripts import Message, Transcript, write_jsonl

SITE = Site(1)
ARM = Arm("add", 1.0, "resid", (SITE,), "greater")
PROSE = """The committee met on Tuesday to look at the plans for the new bridge. Two engineers spoke of the cost, and
one of the residents asked whether the old crossing would stay open while the work went on. Nobody could say for sure,
so the chair promised a written reply before the end of the month, and the meeting turned to the question of parking."""
LOOP = "I will send the mail now. " * 12


# The measures of a text


def test_a_loop_repeats_itself_and_prose_does_not() -> None:
    assert repetition(PROSE) == 0 and distinct_words(PROSE) > 0.7  # type: ignore[operator]
    assert repetition(LOOP) > 0.8 and distinct_words(LOOP) < 0.2  # type: ignore[operator]
    for noise in ("!" * 300, "a" * 300, "時" * 300):
        assert repetition(noise) > 0.7, noise[0]  # type: ignore[operator]


def test_distinct_words_do_not_depend_on_length() -> None:
    """Twice as much prose about other things is as varied; the plain share of different words falls with length."""
    other = " ".join(word + "s" for word in PROSE.split())
    assert distinct_words(f"{PROSE} {other}") == pytest.approx(distinct_words(PROSE), abs=0.05)
    assert distinct_words(PROSE + LOOP) < distinct_words(PROSE) - 0.1, "a loop at the end is seen"  # type: ignore[operator]


@pytest.mark.parametrize("text", ["", "  \n", "...!?", "</>"])
def test_a_reply_without_a_word_is_silent(text: str) -> None:
    assert is_silent(text) and not is_silent(text + "5")
    assert distinct_words(text) is None


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200))
def test_measures_stay_in_their_bounds(text: str) -> None:
    found = repetition(text)
    assert found is None or 0 <= found < 1
    share = distinct_words(text)
    assert share is None or 0 < share <= 1
    twice = repetition(f"{text} {text}")
    assert found is None or twice is None or twice >= found - 1e-9


def reply(text: str, *, truncated: bool = False, prompt: str = "p", group: str = "g") -> Rollout:
    transcript = Transcript(f"{prompt}|c|0", (Message("user", "x"), Message("assistant", text)), group)
    return Rollout(transcript, prompt, "c", 0, 0, truncated, 1, 1)


@pytest.mark.parametrize(
    ("text", "truncated", "rung"),
    [
        (PROSE, False, "well-formed"),
        ("<tool_use:email>\nto: ada\nsubject: x\nbody: yes\n</tool_use:email>", False, "well-formed"),
        (PROSE, True, "truncated"),
        ("", False, "incoherent"),
        (LOOP, False, "incoherent"),
        ("<tool_use:emai to ada I will", False, "incoherent"),
        ("zebra quartz lamp " + " ".join(f"glim{chr(97 + n)} frond" for n in range(20)), False, "incoherent"),
    ],
    ids=["prose", "mail", "cut", "empty", "loop", "unread action", "salad"],
)
def test_form_alone_tells_the_broken_reply(text: str, truncated: bool, rung: str) -> None:
    assert parsed(reply(text, truncated=truncated)).rung == rung


def test_a_broken_reply_that_the_grader_cannot_place_is_counted() -> None:
    ungraded = Outcome(None, "g")
    assert coherent(reply(LOOP), ungraded) is False and coherent(reply(PROSE), ungraded) is None
    assert coherent(reply(LOOP), Outcome("comply", "g")) is True, "what the grader says goes first"


# The likelihood of a reply


def test_the_likelihood_is_that_of_one_pass_over_the_whole_text(model: Model, monkeypatch) -> None:
    monkeypatch.setattr("interp.experiments.quality._AT_ONCE", 40)
    monkeypatch.setattr("interp.experiments.quality._CHUNK", 7)
    prompt = without_reply(small_transcripts()[2])
    edited = replace(ARM, value=2.0, unit="norm").condition("d", {SITE: random_direction(model)})
    made = generate(model, [prompt], [BASELINE, edited], samples=3, seed=3, sampling=Sampling(20))
    rollouts = list(made)
    found = reply_nll(model, rollouts)
    assert len(found) == 6 and len({rollout.reply for rollout in rollouts}) > 2
    for rollout, nll in zip(rollouts, found, strict=True):
        ids, start = np.array(rollout.transcript.token_ids), rollout.transcript.prompt_tokens or 0
        logits = model.run(pad([ids]), logits="all").logits
        assert logits is not None
        along = torch.log_softmax(logits[0].double(), -1)
        want = -np.mean([float(along[at - 1, ids[at]]) for at in range(start, len(ids))])
        assert nll == pytest.approx(want, abs=1e-5)


# Criteria and ends


def replies(n: int = 40, **changes) -> list[Reply]:
    """Sound replies of ten groups, but with these measures in each."""
    return [replace(Reply(True, False, False, 0.05, 0.8, 0.2, f"g{k % 10}"), **changes) for k in range(n)]


def judged(others: list[Reply], baseline: list[Reply] | None = None, criteria: Criteria | None = None) -> list[str]:
    base = baseline or replies()
    found = breaches(quality(others, base, seed=0), quality(base, seed=0), criteria or Criteria())
    return [one.criterion.partition(",")[0] for one in found]


@pytest.mark.parametrize(
    ("changes", "criterion"),
    [
        ({}, None),
        ({"coherent": False}, "coherent replies"),
        ({"truncated": True}, "replies cut"),
        ({"silent": True}, "silent replies"),
        ({"repetition": 0.3}, "repetition"),
        ({"distinct": 0.5}, "distinct words"),
        ({"nll": 0.2 + math.log(2.1)}, "perplexity"),
        ({"nll": 0.2 + math.log(1.9), "repetition": 0.12, "distinct": 0.72}, None),
        ({"nll": 0.0, "repetition": 0.0, "distinct": 1.0}, None),
    ],
)
def test_each_criterion_is_broken_by_its_own_measure(changes: dict, criterion: str | None) -> None:
    assert judged(replies(**changes)) == ([criterion] if criterion else [])


def test_a_weak_baseline_is_the_measure_of_its_doses() -> None:
    weak = [replace(one, coherent=k % 2 == 0) for k, one in enumerate(replies())]
    assert judged(weak, weak) == []
    assert judged(replies(coherent=False), weak) == ["coherent replies"]
    assert judged(weak) == ["coherent replies"], "control: against a sound baseline"


def test_ungraded_replies_do_not_pass_for_coherent_ones() -> None:
    some = [replace(one, coherent=None if k < 4 else True) for k, one in enumerate(replies())]
    assert judged(some) == ["ungraded replies"]
    assert judged(replies(coherent=None)) == ["coherent replies", "ungraded replies"]


def test_changes_are_paired_and_means_carry_intervals() -> None:
    base = [replace(one, nll=0.1 * (k % 10)) for k, one in enumerate(replies())]
    shifted = [replace(one, nll=one.nll + 0.5 + 0.01 * (k % 3)) for k, one in enumerate(base)]
    found = quality(shifted, base, seed=0)
    assert found.factor is not None and found.factor.value == pytest.approx(math.exp(0.51), abs=0.01)
    assert found.factor.interval is not None and found.factor.interval.high < 1.7, "pairs take the spread away"
    assert found.means["perplexity"].interval is not None and found.rates["coherent"].interval is not None
    assert Quality.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_the_range_ends_before_the_first_breach_on_either_side() -> None:
    sound = quality(replies(), seed=0)
    broken = judged_breach()
    doses = {-4: broken, -2: (), -1: (), 1: broken, 2: ()}
    rungs = [Rung(float(dose), 0.0, sound, found) for dose, found in doses.items()]
    assert ends(rungs) == (-2, 0), "a dose that holds beyond one that breaks is outside"
    assert ends([]) == (0, 0)


def judged_breach():
    base = replies()
    return breaches(quality(replies(coherent=False), base, seed=0), quality(base, seed=0), Criteria())


def test_ladders_and_lists_of_strengths() -> None:
    assert ladder(0.1, 0.8) == pytest.approx((0.1, 0.2, 0.4, 0.8))
    assert ladder(1, 5) == (1, 2, 4, 5)
    assert read_strengths("0.1, 0.2") == (0.1, 0.2) and read_strengths("1:4") == (1, 2, 4)
    assert dose_ladder("raw", (2, -1, 0)) == (-2, -1, 0, 1, 2)
    assert dose_ladder("resid")[0] == -0.96
    for bad in ("0.1;0.2", "4:1", "0:1", "a:b"):
        with pytest.raises(ExperimentError, match="strengths"):
            read_strengths(bad)
    for given_to in ((), (0.0,), (math.inf,)):
        with pytest.raises(ExperimentError, match="strengths"):
            dose_ladder("resid", given_to)
    with pytest.raises(ExperimentError, match="in norm there are no usual ones"):
        dose_ladder("norm")
    with pytest.raises(ExperimentError, match="out of range"):
        Criteria(perplexity=0.5)


# Calibration of a model


def calibrate(model: Model, folder: Path, **changes) -> Range:
    usual = {
        "vectors": {SITE: random_direction(model, name="d")},
        "arm": ARM,
        "prompts": small_transcripts(),
        "benign": small_transcripts(),
        "folder": folder,
        "strengths": (0.0, 0.05, 4.0),
        "samples": 2,
        "sampling": Sampling(8),
        "grader": lambda rollout: Outcome("comply", "by hand"),
    }
    return find_range(model, **usual | changes)


@pytest.fixture(scope="module")
def organism() -> Model:
    return interp.load("organism")


@pytest.fixture(scope="module")
def desperate(organism: Model) -> dict[Site, Direction]:
    return interp.open_probe(interp.workspace(Path(__file__).parents[1]), "desperation", organism, "emotion:desperate")


@pytest.fixture(scope="module")
def found(organism: Model, desperate: dict[Site, Direction], tmp_path_factory: pytest.TempPathFactory) -> Range:
    """The organism's range from few rollouts: two doses that nobody would call strong, and two that destroy."""
    return find_range(
        organism,
        desperate,
        ARM,
        middle_band_transcripts(3, seed=3),
        benign=benign_transcripts(4, seed=3),
        folder=tmp_path_factory.mktemp("calibrate") / "run",
        grader=grammar,
        strengths=(0.02, 2.0),
        samples=2,
    )


def test_a_destructive_push_leaves_the_range_of_the_organism(found: Range) -> None:
    assert (found.low, found.high) == (-0.02, 0.02)
    assert found.baseline.rates["coherent"].value == 1
    for sign in (-1, 1):
        rung = found.first_breach(sign)
        assert rung is not None and rung.value == 2 * sign
        assert rung.quality.rates["coherent"].value == 0 and rung.quality.factor is not None
        names = [one.criterion for one in rung.breaches]
        assert "coherent replies" in names and "perplexity, times the unedited" in names
        assert f"{rung.value:+g} resid breaks coherent replies 0 (bound 0.95)" in " ".join(found.sentences)
    kl = {rung.value: rung.kl for rung in found.rungs}
    assert all(weak is not None and weak < 0.01 and (kl[100 * v] or 0) > 1 for v, weak in kl.items() if abs(v) < 1)
    assert "With 6 replies a dose, a single incoherent one ends the range." in found.sentences


def test_doses_lie_within_in_every_unit_or_do_not(found: Range) -> None:
    assert found.holds(replace(ARM, value=0.02)) and found.holds(replace(ARM, value=0.0))
    assert not found.holds(replace(ARM, value=0.021)) and not found.holds(replace(ARM, value=-0.03))
    for unit in ("norm", "raw"):
        length = found.lengths[SITE]["resid"] / found.lengths[SITE][unit]
        assert found.holds(replace(ARM, value=0.0199 * length, unit=unit))
        assert not found.holds(replace(ARM, value=0.0201 * length, unit=unit))
    assert found.holds(replace(ARM, value=0.02, total=True)), "one site: its share is the total"
    with pytest.raises(ExperimentError, match="it is a ablate"):
        found.holds(Arm("ablate", 1.0, "fraction", (SITE,), "less"))
    with pytest.raises(ExperimentError, match=r"sites L1.resid_post, and sites L2.resid_post"):
        found.holds(replace(ARM, sites=(Site(2),)))
    with pytest.raises(ExperimentError, match="scope all, and the scope generated"):
        found.holds(replace(ARM, scope="generated"))


def test_a_range_is_the_same_after_writing_and_fits_nothing_else(
    found: Range, organism: Model, desperate: dict[Site, Direction], llama: Model, tmp_path: Path
) -> None:
    found.save(tmp_path)
    prompts = middle_band_transcripts(3, seed=3)
    assert Range.load(tmp_path, model=organism, vectors=desperate, arm=ARM, prompts=prompts) == found
    table = json.loads((tmp_path / "calibration.json").read_text())
    assert {"low", "high", "unit", "sites", "scope", "direction", "model", "fingerprints"} <= set(table)
    assert set(table["rungs"][0]["strengths"]) == {"norm", "resid", "raw"}
    other = {SITE: random_direction(organism, name="other")}
    with pytest.raises(ExperimentError, match="direction emotion:desperate, and the direction other"):
        Range.load(tmp_path, model=organism, vectors=other, arm=ARM)
    with pytest.raises(ExperimentError, match="direction emotion:desperate, .*with another fingerprint"):
        Range.load(tmp_path, model=organism, vectors={SITE: replace(other[SITE], name="emotion:desperate")}, arm=ARM)
    with pytest.raises(ExperimentError, match="model organism, and the model llama"):
        Range.load(tmp_path, model=llama, vectors=desperate, arm=ARM)
    with pytest.raises(ExperimentError, match="sites L1.resid_post, and sites L0.resid_post, L1.resid_post"):
        Range.load(tmp_path, model=organism, vectors=desperate, arm=replace(ARM, sites=(SITE, Site(0))))
    with pytest.raises(ExperimentError, match="with prompts"):
        Range.load(tmp_path, model=organism, vectors=desperate, arm=ARM, prompts=prompts[:2])
    for broken in ("{}", '{"format": 1}', "[1]"):
        (tmp_path / "calibration.json").write_text(broken)
        with pytest.raises(StoreError, match="no calibration"):
            Range.load(tmp_path, model=organism, vectors=desperate, arm=ARM)


def test_strength_zero_is_inside_and_is_the_baseline(llama: Model, tmp_path: Path) -> None:
    found = calibrate(llama, tmp_path / "run")
    zero = next(rung for rung in found.rungs if rung.value == 0)
    assert zero.kl == 0 and not zero.breaches and found.holds(replace(ARM, value=0.0))
    assert (zero.quality.rates, zero.quality.means) == (found.baseline.rates, found.baseline.means)
    assert zero.quality.factor is not None and zero.quality.factor.value == 1
    assert all(change.difference == 0 for change in zero.quality.changes.values())
    rows = Rows(tmp_path / "run" / "rollouts.jsonl").read()
    ids = {(r["prompt"], r["condition"], r["sample"]): r["transcript"]["token_ids"] for r in rows}
    zeros = {key: value for key, value in ids.items() if key[1].startswith("add +0 ")}
    assert len(zeros) == 6 and all(value == ids[p, "baseline", n] for (p, _, n), value in zeros.items())
    strong = {key: value for key, value in ids.items() if key[1].startswith("add +4 ")}
    assert any(value != ids[p, "baseline", n] for (p, _, n), value in strong.items()), "control"


def test_every_unit_is_said_for_every_dose(llama: Model, tmp_path: Path) -> None:
    sites = (Site(0), SITE)
    vectors = {
        site: replace(random_direction(llama, site.layer, name="d"), vector=random_direction(llama).vector * 3)
        for site in sites
    }
    arm = replace(ARM, sites=sites)
    found = calibrate(llama, tmp_path / "run", vectors=vectors, arm=arm, strengths=(0.5,))
    spoken = [
        Rollout.from_row(row).transcript
        for row in Rows(tmp_path / "run" / "rollouts.jsonl").read()
        if row["condition"] == "baseline"
    ]
    norms = residual_norms(llama, spoken, sites)
    raw = sorted(0.5 * norms[site] for site in sites)
    assert found.strengths(0.5)["raw"] == pytest.approx(tuple(raw))
    assert found.strengths(0.5)["norm"] == pytest.approx(tuple(length / 3 for length in raw))
    assert found.strengths(0.5)["resid"] == (0.5, 0.5)
    header, baseline, *rows = found.table()
    assert header[1:4] == ("norm", "resid", "raw") and baseline[-1] == "the baseline"
    assert [row[2] for row in rows] == ["-0.5", "0.5"] and " to " in rows[0][3]
    shared = calibrate(llama, tmp_path / "total", vectors=vectors, arm=replace(arm, total=True), strengths=(1.0,))
    assert shared.strengths(1.0)["resid"] == (0.5, 0.5), "the total is shared by two sites"
    assert shared.within("resid") == tuple(end / 2 for end in shared.within("resid", total=True))
    ids = [
        [row["transcript"]["token_ids"] for row in Rows(tmp_path / name / "rollouts.jsonl").read()]
        for name in ("run", "total")
    ]
    assert ids[0] == ids[1]


def test_a_killed_calibration_ends_with_the_rows_and_the_range_of_a_whole_one(
    llama: Model, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("interp.experiments.calibrate._WRITE_EVERY", 4)
    whole = calibrate(llama, tmp_path / "whole")
    for stage, at in (("rollouts", 9), ("likelihoods", 2), ("KL on benign text", 1)):

        def kill(name: str, done: int, total: int, stage: str = stage, at: int = at) -> None:
            if name == stage and done >= at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            calibrate(llama, tmp_path / "killed", on_progress=kill)
        assert not (tmp_path / "killed" / "calibration.json").exists()
    lines = (tmp_path / "killed" / "likelihoods.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "killed" / "likelihoods.jsonl").write_bytes(b"".join(lines[:-2]))  # as a torn write would leave it
    assert calibrate(llama, tmp_path / "killed") == whole
    for name in ("rollouts.jsonl", "likelihoods.jsonl"):
        rows = [Rows(tmp_path / run / name).read() for run in ("killed", "whole")]
        assert len(rows[0]) == 3 * 2 * 6 and {fingerprint(r) for r in rows[0]} == {fingerprint(r) for r in rows[1]}
    tables = [(tmp_path / run / "calibration.json").read_text() for run in ("killed", "whole")]
    assert tables[0] == tables[1]


def test_more_strengths_write_what_is_new_and_another_calibration_is_refused(llama: Model, tmp_path: Path) -> None:
    first = calibrate(llama, tmp_path / "run", strengths=(0.05,))
    more = calibrate(llama, tmp_path / "run", strengths=(0.05, 4.0))
    assert [rung for rung in more.rungs if abs(rung.value) < 1] == list(first.rungs)
    assert len(Rows(tmp_path / "run" / "rollouts.jsonl").read()) == 6 * 5
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "run.json",
        "doctor.json",
        "rollouts.jsonl",
        "likelihoods.jsonl",
        "calibration.json",
    }
    assert RunRecord.load(tmp_path / "run").config["unit"] == "resid"
    with pytest.raises(ExperimentError, match="another direction"):
        calibrate(llama, tmp_path / "run", vectors={SITE: random_direction(llama, seed=5, name="d")})
    with pytest.raises(ExperimentError, match="another prompts"):
        calibrate(llama, tmp_path / "run", prompts=small_transcripts()[:2])
    with pytest.raises(ExperimentError, match="samples, seed or sampling"):
        calibrate(llama, tmp_path / "run", samples=3)


def test_what_cannot_be_calibrated_is_refused_before_anything_runs(
    llama: Model, tiny: dict[str, Model], tmp_path: Path
) -> None:
    cases = [
        ({"arm": Arm("cap", 0.0, "z", (SITE,), "less"), "strengths": (1.0,)}, "no dose of two signs"),
        ({"arm": replace(ARM, sites=(Site(0),))}, "no vector at L0"),
        ({"prompts": []}, "0 prompts"),
    ]
    for changes, message in cases:
        with pytest.raises(ExperimentError, match=message):
            calibrate(llama, tmp_path / "run", **changes)
    with pytest.raises(DirectionError, match="fitted on"):
        calibrate(llama, tmp_path / "run", vectors={SITE: random_direction(tiny["qwen3"])})
    assert not (tmp_path / "run").exists()


def test_replies_that_nobody_can_grade_give_no_range(
    organism: Model, desperate: dict[Site, Direction], tmp_path: Path
) -> None:
    how = {"prompts": middle_band_transcripts(1, seed=3), "strengths": (0.01,), "samples": 1, "sampling": Sampling()}
    with pytest.raises(ExperimentError, match="none of 1 replies of the unedited model could be graded"):
        calibrate(organism, tmp_path / "run", vectors=desperate, **how, grader=lambda _: Outcome(None, "nobody"))
    assert calibrate(organism, tmp_path / "run", vectors=desperate, **how, grader=grammar).high == 0.01, "control"


def test_scenes_of_the_world_have_their_grammar_and_others_their_form() -> None:
    scenes = middle_band_transcripts(2, seed=0)
    assert grader_for(scenes) is grammar
    assert grader_for([*scenes, small_transcripts()[0]]) is parsed


# The command


def test_the_command_prints_the_table_and_goes_on(tmp_path: Path) -> None:
    probes = Path(__file__).parents[1] / "probes"
    (tmp_path / "probes").symlink_to(probes)
    prompts = tmp_path / "prompts.jsonl"
    write_jsonl(prompts, middle_band_transcripts(2, seed=1))
    words = ["calibrate", "--strengths", "0.02,2", "--sites", "1", "--samples", "1", "-w", str(tmp_path)]
    words += ["--prompts", str(prompts), "--max-new-tokens", "96"]
    dry = CliRunner().invoke(app, [*words, "--dry-run"])
    assert dry.exit_code == 0 and "4 doses: 10 rollouts of at most 96 tokens" in dry.output
    assert not (tmp_path / "runs").exists()
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    for said in ("norm", "resid", "raw", "KL", "Replies hold together from", "breaks"):
        assert said in done.output
    again = CliRunner().invoke(app, [*words, "--json"])
    table = json.loads(again.stdout)
    assert table == json.loads((tmp_path / "runs" / "calibrate" / "calibration.json").read_text())
    assert -2 < table["low"] <= 0 <= table["high"] < 2 and table["direction"] == "emotion:desperate"


# Figures


def experiment(**changes) -> dict:
    """Results of doses of both signs at one site, with one control each."""
    share = {"successes": 5, "trials": 10, "ungraded": 0, "value": 0.5, "low": 0.3, "high": 0.7}
    contrast = {"difference": 0.0, "low": -0.1, "high": 0.1, "p_value": 1.0, "n": 10, "method": "m"}
    edit = {"kind": "add", "direction": "d", "unit": "resid", "sites": ["L1.resid_post"], "scope": "all"}
    common = {
        "n": 10,
        "outcomes": {"blackmail": 5, "comply": 5},
        "blackmail": share,
        "coherent": share | {"value": 1.0},
    }
    empty = dict.fromkeys(edit) | {"sites": []}
    cells = [common | empty | {"condition": "baseline", "role": "baseline", "strength": None, "contrast": None}]
    arms = []
    for dose in (-0.2, -0.1, 0.1, 0.2):
        for role, name in (("treatment", f"{dose:+g} | d"), ("control", f"{dose:+g} | random")):
            cells.append(common | edit | {"condition": name, "role": role, "strength": dose, "contrast": contrast})
        rank = {"real": 0.0, "controls": [0.0], "rank": 1, "p_value": 0.5}
        arms.append(
            {"name": f"{dose:+g}", "treatment": f"{dose:+g} | d", "controls": [f"{dose:+g} | random"], "rank": rank}
        )
    return {"cells": cells, "arms": arms} | changes


RANGE = {"low": -0.1, "high": 0.15, "unit": "resid", "sites": ["L1.resid_post"], "scope": "all"}


def in_legend(figure: Any) -> int:
    return sum(line.name == BEYOND for line in figure.data)


def beyond(figure: Any) -> list[tuple[float, float]]:
    return sorted({(shape.x0, shape.x1) for shape in figure.layout.shapes if shape.name == BEYOND})


def test_doses_outside_the_range_are_shaded_and_named() -> None:
    figure = dose_response(experiment(range=RANGE))
    assert beyond(figure) == [(pytest.approx(-0.22), -0.1), (0.15, pytest.approx(0.22))]
    assert in_legend(figure) == 1
    for drawn in (control_ranks, outcome_ladder):
        figure: Any = drawn(experiment(range=RANGE))
        rows = [shape.y0 for shape in figure.layout.shapes if shape.name == BEYOND]
        assert len(rows) == 2, "-0.2 and +0.2; -0.1 is the end of the range"
        labels = dict(zip(figure.layout.yaxis.tickvals, figure.layout.yaxis.ticktext, strict=True))
        assert [labels[round(row + 0.45)].split()[0] for row in rows] == ["-0.2", "+0.2"]
        assert in_legend(figure) == 1


@pytest.mark.parametrize(
    "known",
    [
        None,
        RANGE | {"low": -9.0, "high": 9.0},
        RANGE | {"unit": "norm"},
        RANGE | {"scope": "generated"},
        RANGE | {"sites": ["L2.resid_post"]},
    ],
)
def test_nothing_changes_without_a_range_of_these_doses(known: dict | None) -> None:
    for drawn in (dose_response, control_ranks, outcome_ladder):
        assert drawn(experiment(range=known)) == drawn(experiment())
        assert drawn(experiment(range=RANGE)) != drawn(experiment()), "control"


def test_the_summary_of_a_range_is_what_figures_read(found: Range) -> None:
    assert set(found.summary) == set(RANGE) and found.summary["sites"] == RANGE["sites"]
    assert found.baseline.rates["coherent"].value is not None and found.criteria.coherent == MIN_COHERENCE
