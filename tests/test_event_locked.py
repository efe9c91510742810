"""Many traces around one event: a planted rise is found, noise is not, copies weigh nothing, nothing is dropped."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binom, kstest

from interp.cli import main
from interp.directions import load_directions
from interp.errors import DirectionError, ExperimentError, InterpError, TranscriptError
from interp.event_locked import EVENTS, event_locked, find_event, middle_band_with_twins, replies, trace_replies
from interp.models import Model, load
from interp.organism.sets import agent_transcripts, benign_transcripts
from interp.plots import event_locked_figure
from interp.probes import probe_folder
from interp.sites import Site
from interp.stats.paired import mean_curve, sign_flip
from interp.store import workspace
from interp.testing import random_direction
from interp.tokens import Span
from interp.traces import TokenTrace, trace
from interp.transcripts import write_jsonl

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
KEY = "d@L1.resid_post"
LENGTH, EVENT = 40, 25


def made(
    rng: np.random.Generator,
    group: str = "a",
    *,
    length: int = LENGTH,
    at: int | None = EVENT,
    bump: float = 0.0,
    where: slice = slice(-4, -1),
    n_random: int = 0,
    shift: float = 0.0,
) -> TokenTrace:
    """A trace of noise with the word "now" at the event, and `bump` added to the direction at offsets `where`."""
    scores = rng.normal(shift, 1, (1 + n_random, length))
    if at is not None:
        scores[0, at + where.start : at + where.stop] += bump
    scores[:, 0] = np.nan
    pieces = [f"w{i} " for i in range(length)]
    if at is not None:
        pieces[at] = "now "
    keys = (KEY, *(f"random:{i}@L1.resid_post" for i in range(n_random)))
    spans = (Span("role", "assistant", 0, 10, length), Span("segment", "scratchpad", 0, 12, 20))
    band = np.zeros((1, length), dtype=np.float32)
    name = f"{group}:{rng.integers(10**9)}"
    return TokenTrace(
        id=name,
        group=group,
        label=None,
        pieces=tuple(pieces),
        spans=spans,
        prompt_tokens=10,
        directions=keys,
        scores=scores.astype(np.float32),
        sites=("L1.resid_post",),
        low=band,
        high=band,
        n_random=100,
    )


def scenarios(seed: int, n: int = 12, rollouts: int = 2, **more) -> list[TokenTrace]:
    rng = np.random.default_rng(seed)
    return [made(rng, f"g{i}", **more) for i in range(n) for _ in range(rollouts)]


def locked(traces, twins=None, **more):
    settings = {"before": 12, "after": 8, "window": (-6, -1), "n_boot": 200} | more
    return event_locked(traces, settings.pop("event", "regex:now"), twins=twins, **settings)


@pytest.mark.parametrize("bump", [3.0, 0.0])
def test_a_planted_rise_is_found_where_it_was_planted(bump):
    found = locked(scenarios(0, bump=bump, n_random=40), scenarios(1, n_random=40))
    assert found.test is not None and found.test.rank is not None and found.test.flip.p_value is not None
    # control: nothing planted, nothing found
    assert (found.test.flip.p_value <= 0.05) == (bump > 0)
    assert (found.test.rank.rank == 1) == (bump > 0)
    table = found.to_frame().set_index("offset")
    outside = table.index[(table["mean"] > table["random_high"]) & (table["low"] > table["twin_high"])]
    assert list(outside) == ([-4, -3, -2] if bump else [])
    if bump:
        assert table["mean"].idxmax() in (-4, -3, -2)
        assert found.test.flip.interval is not None
        assert found.test.flip.interval.low <= bump / 2 <= found.test.flip.interval.high  # three of six tokens
        assert found.test.flip.floor == 2 / 2**12 and found.test.flip.exact


def test_a_rise_after_the_event_does_not_move_the_test_before_it():
    late = locked(scenarios(0, bump=3.0, where=slice(1, 5)), scenarios(1))
    assert late.test is not None and late.test.flip.p_value is not None and late.test.flip.p_value > 0.05
    assert late.to_frame().set_index("offset")["mean"].idxmax() in (1, 2, 3, 4)


def test_on_noise_the_test_rejects_at_its_level():
    p_values = []
    for draw in range(200):
        one, other = (scenarios(2 * draw + side, n=10, rollouts=1) for side in (10_000, 10_001))
        test = locked(one, other, before=6, after=0, n_boot=2).test
        assert test is not None
        p_values.append(test.flip.p_value)
    low, high = binom.interval(0.99, 200, 0.05)
    assert low <= sum(p <= 0.05 for p in p_values) <= high
    assert kstest(p_values, "uniform").pvalue > 0.01


def test_tokens_that_move_together_within_a_scenario_are_no_evidence():
    """Each rollout of a scenario shares its shift: the test by scenario holds its level where one by rollout cannot."""
    rejected = []
    for draw in range(60):
        rng = np.random.default_rng(draw)
        sides = [
            [made(rng, f"g{i}", shift=shift) for i, shift in enumerate(rng.normal(size=8)) for _ in range(4)]
            for _ in range(2)
        ]
        test = locked(*sides, before=6, after=0, n_boot=2).test
        assert test is not None and test.flip.p_value is not None
        rejected.append(test.flip.p_value <= 0.05)
    assert sum(rejected) <= binom.ppf(0.995, 60, 0.05)


def test_a_hundred_copies_of_a_rollout_change_nothing():
    traces, twins = scenarios(0, rollouts=1, n_random=20), scenarios(1, rollouts=1, n_random=20)
    once, often = locked(traces, twins), locked([*traces, *[traces[3]] * 99], twins)
    for column in ("mean", "low", "high", "random_low", "random_high", "difference_mean", "difference_high"):
        assert np.allclose(once.to_frame()[column], often.to_frame()[column], atol=1e-9)
    assert once.test is not None and often.test is not None
    assert np.isclose(once.test.flip.mean, often.test.flip.mean)
    assert once.test.flip.p_value == often.test.flip.p_value
    # control: the copies were read
    assert set(often.average.rollouts) == {111} and set(often.average.scenarios) == {12}
    moved = locked([*traces, replace(traces[4], group=traces[3].group)], twins)
    assert not np.allclose(once.to_frame()["mean"], moved.to_frame()["mean"], atol=1e-3)


def test_an_order_or_a_stream_of_traces_changes_nothing():
    traces, twins = scenarios(0), scenarios(1)
    one, other = locked(traces, twins), locked(iter(traces), (t for t in twins))
    assert one == other
    rebuilt = locked(traces[::-1], twins).to_frame()["mean"]
    assert np.allclose(one.to_frame()["mean"], rebuilt, atol=1e-9)


def test_tokens_outside_are_none_and_counted_and_rollouts_without_the_event_are_named():
    rng = np.random.default_rng(0)
    early = made(rng, "g0", at=3)
    short = made(rng, "g1", length=27)
    lacking = made(rng, "g2", at=None)
    found = locked([early, short, lacking], [made(rng, "g1"), made(rng, "g9")])
    assert found.average.without_event == (lacking.id,)
    assert found.unpaired == ("g0", "g9")
    at = dict(zip(found.offsets, range(len(found.offsets)), strict=True))
    # g0 has offsets -2 to 8 (token 0 has no score), g1 has -12 to 1
    assert [found.average.rollouts[at[o]] for o in (-12, -3, -2, 1, 2, 8)] == [1, 1, 2, 2, 1, 1]
    assert [found.average.outside[at[o]] for o in (-12, -3, -2, 1, 2, 8)] == [1, 1, 0, 0, 1, 1]
    assert found.average.mean[at[-12]] == pytest.approx(float(short.scores[0, EVENT - 12]))
    assert found.average.low[at[-12]] is None
    assert found.test is not None and found.test.incomplete == 1
    assert found.test.flip.n == 1 and found.test.flip.p_value is None and "no test" in found.test.sentence
    only = locked([early])
    assert only.average.mean[at[-3]] is None and only.twins is None and only.test is None and only.random is None
    assert json.loads(json.dumps(only.to_dict()))["average"]["mean"][at[-3]] is None


def test_a_scenario_reached_by_nobody_leaves_no_test_and_no_number():
    rng = np.random.default_rng(0)
    test = locked([made(rng, at=3)], [made(rng)]).test
    assert test is not None and test.flip.mean is None and test.mean is None and test.rank is None
    assert "no test" in test.sentence and "nan" not in test.sentence


@pytest.mark.parametrize(
    ("event", "position"),
    [
        ("scratchpad", 12),
        ("last:scratchpad", 19),
        ("first:generated", 10),
        ("at:w13", 13),
        ("at:w13 w1", 14),
        (r"regex:w3(\d)", 30),
        ("regex:ow", EVENT),
        ("tool_call", None),
        ("regex:never", None),
        ("decision", None),
    ],
)
def test_an_event_is_a_segment_a_position_rule_or_a_pattern(event, position):
    assert find_event(made(np.random.default_rng(0)), event) == position


def test_an_unknown_event_is_refused_and_the_message_names_those_there_are():
    with pytest.raises(TranscriptError, match="treat read") as refused:
        locked(scenarios(0), event="treat read")
    assert all(name in str(refused.value) for name in (*EVENTS, "scratchpad", "assistant"))
    with pytest.raises(TranscriptError, match="does not compile"):
        locked(scenarios(0), event="regex:(")
    with pytest.raises(TranscriptError, match="no event"):
        locked(scenarios(0), event="mean:assistant")


def test_what_cannot_be_compared_is_refused():
    traces, twins = scenarios(0), scenarios(1)
    with pytest.raises(ExperimentError, match="no traces"):
        locked([])
    with pytest.raises(ExperimentError, match="no group in common"):
        locked(traces, [replace(twin, group=f"{twin.group}:twin") for twin in twins])
    with pytest.raises(ExperimentError, match="window"):
        locked(traces, window=(-20, -1))
    with pytest.raises(DirectionError, match="Choose one of d@L1"):
        locked(traces, direction="e")
    with pytest.raises(ExperimentError, match="other random directions"):
        locked(scenarios(0, n_random=3), scenarios(1, n_random=4))
    scaled = [replace(t, reference={"scale": {KEY: {"mean": 0.0, "sd": 2.0}}}) for t in twins]
    with pytest.raises(ExperimentError, match="other benign transcripts"):
        locked(traces, scaled)


def test_random_directions_are_averaged_as_the_direction_is_not_token_by_token():
    traces = scenarios(0, n_random=40)
    found = locked(traces)
    assert found.random is not None and found.random.n == 40
    rows = np.stack([t.scores[1:, EVENT - 12 : EVENT + 9] for t in traces])
    wanted = np.percentile(rows.mean(axis=0), (2.5, 97.5), axis=0)
    assert np.allclose([found.random.low, found.random.high], wanted, atol=1e-6)
    # control: the band of single tokens is far wider
    assert np.ptp(np.percentile(rows, (2.5, 97.5))) > 3 * np.mean(np.ptp(wanted, axis=0))


def test_the_sign_flip_counts_every_combination_and_knows_its_floor():
    exact = sign_flip(np.array([1.0, 2.0, 3.0]), seed=0)
    assert (exact.p_value, exact.floor, exact.exact) == (0.25, 0.25, True)
    assert sign_flip(np.array([1.0, 2.0, 3.0]), seed=0, alternative="greater").p_value == 0.125
    assert sign_flip(np.array([1.0, 2.0, -3.0]), seed=0).p_value == 1.0
    tied = sign_flip(np.array([1.0, 0.0, 0.0]), seed=0, alternative="greater")
    assert tied.p_value == tied.floor == 0.5
    assert sign_flip(np.zeros(30), seed=0).p_value == 1.0
    many = sign_flip(np.ones(30), seed=0, n_flips=999)
    assert not many.exact and many.p_value == many.floor == 2 / 1000
    assert sign_flip(np.ones(1), seed=0).p_value is None and sign_flip(np.zeros(0), seed=0).mean is None
    with pytest.raises(InterpError, match="NaN"):
        sign_flip(np.array([1.0, np.nan]), seed=0)


def test_bands_of_the_mean_cover_as_stated():
    covered = [
        (low <= 0) & (high >= 0)
        for draw in range(100)
        for _, low, high in [mean_curve(np.random.default_rng(draw).normal(size=(10, 5)), seed=draw, n_resamples=400)]
    ]
    assert 0.91 <= np.mean(covered) <= 0.99


def test_the_figure_is_drawn_from_the_table_alone_and_shows_text_as_text():
    found = locked(scenarios(0, n_random=20), scenarios(1, n_random=20), event="regex:(?:<b>)?now")
    figure = event_locked_figure(json.loads(json.dumps(found.to_dict())))
    assert figure.to_json() == found.figure().to_json()
    assert found.test is not None and found.test.sentence.split(":")[0] in figure.to_json()
    assert "<b>now" not in str(figure.layout) and "&lt;b&gt;" in str(figure.layout)
    drawn = {line.name: list(line.y) for line in figure.data if line.hovertemplate}
    assert drawn["rollouts"] == list(found.average.mean)
    assert found.twins is not None and drawn["twins"] == list(found.twins.mean)
    alone = locked(scenarios(0)).figure()
    assert [line.name for line in alone.data if line.hovertemplate] == ["rollouts"]


@pytest.fixture(scope="module")
def organism() -> Model:
    return load("organism")


@pytest.fixture(scope="module")
def pairs(organism):
    """Rollouts of the embedded model and of its benign twins, small, along a random direction and the shipped one."""
    prompts, twins = middle_band_with_twins(8, seed=3)
    site = Site.parse("L2.resid_post", organism.n_layers)
    folder = probe_folder(workspace(ROOT), "desperation", organism)
    direction = load_directions(folder / "directions.safetensors")[f"emotion:desperate@{site}"]
    reference = benign_transcripts(16, seed=3)

    def told(given):
        return list(trace_replies(organism, given, direction, reference, samples=2, n_random=20, seed=3, at_once=10))

    return told(prompts), told(twins)


def test_events_of_the_embedded_world_stand_where_they_say(organism):
    direction = random_direction(organism, layer=2)
    transcripts = [t for t in agent_transcripts(16, seed=5) if t.meta["leverage"] != "none"]
    for told in trace(organism, transcripts, [direction], benign_transcripts(8, seed=1), n_random=20):
        found = {event: find_event(told, event) for event in EVENTS}
        assert None not in found.values()
        before = {event: "".join(told.pieces[:position]) for event, position in found.items()}
        rest = {event: "".join(told.pieces[position:]) for event, position in found.items()}
        assert before["threat read"].endswith("will be") and "\nSubject: Notice\n" in before["threat read"]
        assert before["leverage read"].rpartition("\n")[0].endswith("Subject: Private")
        assert rest["leverage read"].lstrip().startswith(("has an affair", "commits fraud", "signed a forged test"))
        assert before["first token of the action"].rstrip().endswith("</SCRATCHPAD_REASONING>")
        assert (before["decision"] + told.pieces[found["decision"]]).endswith("<tool_use:email>\nto:")


def test_before_texts_part_the_difference_from_the_twins_is_exactly_0(pairs):
    found = event_locked(pairs[0], "threat read", twins=pairs[1], n_boot=100)
    assert found.difference is not None and found.test is not None
    known = [d for o, d in zip(found.offsets, found.difference.mean, strict=True) if o < 0 and d is not None]
    assert set(known) == {0.0} and len(known) == 40
    assert (found.test.flip.mean, found.test.flip.p_value, found.test.flip.floor) == (0.0, 1.0, 1.0)
    # control: from the event on they differ
    assert found.difference.mean[40] != 0 and abs(found.difference.mean[40] or 0) > 0.1


def test_on_the_embedded_model_desperation_before_the_decision_exceeds_the_twins(pairs):
    found = event_locked(pairs[0], "decision", twins=pairs[1], direction="emotion:desperate", site="L2.resid_post")
    assert found.direction == "emotion:desperate@L2.resid_post"
    assert found.average.without_event == () and found.random is not None and found.random.n == 20
    assert found.test is not None and found.test.flip.p_value is not None and found.test.rank is not None
    assert found.test.flip.p_value <= 0.05 and found.test.flip.n >= 6
    assert found.test.flip.interval is not None and found.test.flip.interval.low > 0
    assert found.test.rank.rank == 1
    assert {t.group for t in pairs[0]} == {t.group for t in pairs[1]} and found.unpaired == ()
    assert {t.label for t in pairs[0]} >= {"blackmail"} and {t.label for t in pairs[1]} >= {"routine"}


def said(capsys, *words):
    """Exit status, standard output and standard error of `interp event-locked` in the repository."""
    with pytest.raises(SystemExit) as stop:
        main(["event-locked", *map(str, words), "-w", str(ROOT)])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def test_the_command_writes_a_page_and_the_numbers_behind_it(organism, capsys, tmp_path):
    prompts, twins = middle_band_with_twins(6, seed=3)
    for name, given in (("real", prompts), ("calm", twins)):
        write_jsonl(tmp_path / f"{name}.jsonl", replies(organism, given, seed=3))
    benign = tmp_path / "benign.jsonl"
    write_jsonl(benign, benign_transcripts(8, seed=3))
    words = [tmp_path / "real.jsonl", "--benign", benign, "--n-random", 20, "--out", tmp_path / "page.html"]
    status, out, _ = said(
        capsys, *words, "--twins", tmp_path / "calm.jsonl", "--event", "threat read", "--event", "decision"
    )
    assert status == 0 and "threat read: offsets -10 to -1: rollouts minus twins +0.00 z" in out
    kept = json.loads((tmp_path / "event_locked.json").read_text())["averages"]
    assert [one["event"] for one in kept] == ["threat read", "decision"]
    shown = (tmp_path / "page.html").read_text()
    assert all(one["test"]["sentence"][1:] in shown for one in kept)
    status, out, _ = said(capsys, *words, "--event", "decision", "--json")
    assert status == 0 and json.loads(out)[0]["test"] is None, "without twins there is no test"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--window", "soon"], "testing the window 'soon': it is not FIRST:LAST"),
        (["--twins", "twins.jsonl"], "--twins was given without transcripts"),
        (["nowhere.jsonl"], "nowhere.jsonl"),
        (["--direction", "emotion:bored"], "Choose one of"),
    ],
)
def test_bad_input_to_the_command_is_one_sentence(capsys, words, found):
    status, _, err = said(capsys, *words)
    assert status == 1 and found in err and len(err.strip().splitlines()) == 1
