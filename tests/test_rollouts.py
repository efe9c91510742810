"""Rollouts in a folder: every setting in every row, the same files after a stop, replies that others read."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from interp.activations import estimate
from interp.cli.rollouts import rollouts as command
from interp.errors import ExperimentError
from interp.experiments.rollouts import cost, longest, prompts_of, roll
from interp.generation import Rollout, Sampling, generate, rollout_seed
from interp.models import Model, load
from interp.scenarios import Wanted, scenarios
from interp.store import Rows, RunRecord
from interp.tokens import PositionRule
from interp.transcripts import Transcript, read_jsonl, write_jsonl

FILES = ("rollouts.jsonl", "transcripts.jsonl", "outcomes.jsonl", "summary.json")
SAMPLING = Sampling(96, temperature=0.9, top_p=0.95)
HOW: dict[str, Any] = {
    "samples": 2,
    "seed": 3,
    "sampling": SAMPLING,
    "grader": "grammar",
    "batch_rows": 5,
    "despite_doctor": True,
}


@pytest.fixture(scope="module")
def organism() -> Model:
    return load("organism")


@pytest.fixture(scope="module")
def prompts() -> list[Transcript]:
    return scenarios(Wanted("organism:middle", n=8, seed=1))


@pytest.fixture(scope="module")
def whole(organism: Model, prompts: list[Transcript], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    found = roll(organism, prompts, folder=folder, **HOW)
    assert found.rollouts == 16 and found.prompts == 8 and found.outcomes is not None
    assert sum(found.outcomes.values()) == 16 and found.outcomes["blackmail"] > 0
    return folder


def test_every_row_says_how_it_was_made_and_can_be_made_again(organism: Model, prompts, whole: Path) -> None:
    rows = Rows(whole / "rollouts.jsonl").read()
    settings = {"max_new_tokens": 96, "temperature": 0.9, "top_p": 0.95, "top_k": None, "stop": []}
    for row in rows:
        assert row["sampling"] == settings and row["model"] == "organism"
        assert row["seed"] == rollout_seed(3, row["prompt"], row["sample"])
    again = {one.key: one.reply for one in generate(organism, prompts, samples=2, seed=3, sampling=SAMPLING)}
    assert {one.key: one.reply for one in map(Rollout.from_row, rows)} == again
    record = RunRecord.load(whole)
    assert record.seeds == {"seed": 3} and record.config["sampling"] == settings
    assert json.loads((whole / "doctor.json").read_text())


def test_the_replies_are_transcripts_that_other_commands_read(organism: Model, prompts, whole: Path) -> None:
    found = read_jsonl(whole / "transcripts.jsonl")
    rows = {row["transcript"]["id"]: row for row in Rows(whole / "rollouts.jsonl").read()}
    outcomes = {(row["prompt"], row["sample"]): row["outcome"] for row in Rows(whole / "outcomes.jsonl").read()}
    assert len(found) == 16 and {t.group for t in found} == {p.group for p in prompts}
    for one in found:
        how = one.meta["rollout"]
        assert one.label == outcomes[one.meta["prompt"], how["sample"]] and how["grader"] == "grammar"
        assert how["seed"] == rows[one.id]["seed"] and one.token_ids == tuple(rows[one.id]["transcript"]["token_ids"])
    told = estimate(organism, found, (organism.all_sites()[-1],), PositionRule.parse("last:scratchpad"))
    assert told.rows == sum("<SCRATCHPAD" in one.messages[-1].content for one in found) > 10


@pytest.mark.parametrize("kept", [0, 12])
def test_a_stopped_run_ends_with_the_same_files(organism: Model, prompts, whole: Path, tmp_path: Path, kept) -> None:
    """Stopped in the middle of a row, with some rows there."""
    folder = tmp_path / "stopped"
    folder.mkdir()
    (folder / "run.json").write_bytes((whole / "run.json").read_bytes())
    lines = (whole / "rollouts.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "rollouts.jsonl").write_bytes(b"".join(lines[:kept]) + lines[kept][:50])
    roll(organism, prompts, folder=folder, **HOW)
    for name in FILES:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name


def test_an_interrupt_keeps_what_was_finished(organism: Model, prompts, whole: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        assert total == 16
        if done >= 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        roll(organism, prompts, folder=tmp_path, **HOW, on_progress=stop)
    assert len(Rows(tmp_path / "rollouts.jsonl").read()) == 10
    assert "16 rollouts, 10 of which are there, at most 576 new tokens" in cost(prompts, 2, SAMPLING, tmp_path)
    roll(organism, prompts, folder=tmp_path, **HOW)
    assert all((tmp_path / name).read_bytes() == (whole / name).read_bytes() for name in FILES)


def test_more_samples_and_another_grader_generate_nothing_twice(organism: Model, prompts, tmp_path: Path) -> None:
    few: dict[str, Any] = {"folder": tmp_path, "sampling": SAMPLING, "despite_doctor": True}
    ungraded = roll(organism, prompts[:3], **few)
    assert ungraded.outcomes is None and "--grader" in ungraded.sentences[1]
    assert all(one.label is None for one in read_jsonl(tmp_path / "transcripts.jsonl"))
    first = (tmp_path / "rollouts.jsonl").read_bytes()
    ruled = roll(organism, prompts[:3], **few, grader="rules")
    assert ruled.outcomes is not None and (tmp_path / "rollouts.jsonl").read_bytes() == first
    assert roll(organism, prompts[:3], **few, samples=2).rollouts == 6
    assert (tmp_path / "rollouts.jsonl").read_bytes().startswith(first)
    changes: list[dict[str, Any]] = [{"seed": 1}, {"sampling": Sampling(9)}]
    for change in changes:
        with pytest.raises(ExperimentError, match="another seed or sampling"):
            roll(organism, prompts[:3], **few | change)
    with pytest.raises(ExperimentError, match="another prompts"):
        roll(organism, prompts[:2], **few)


def test_another_model_takes_written_scenarios_and_what_nobody_can_grade_is_counted(
    tiny: dict[str, Model], tmp_path: Path
) -> None:
    """A random model's replies are cut; the grammar knows nothing of these scenes, the rules do."""
    asked = scenarios(Wanted("peer", n=2, twins=("no threat",)))
    how: dict[str, Any] = {"folder": tmp_path, "sampling": Sampling(3), "despite_doctor": True}
    name = next((n for n, m in sorted(tiny.items()) if m.max_tokens is None or m.max_tokens > 8000), None)
    if name is None:
        with pytest.raises(ExperimentError, match="leave no room"):
            roll(tiny["llama"], asked, **how)
        return
    found = roll(tiny[name], asked, **how, grader="rules")
    assert found.rollouts == 4 and found.groups == 2 and found.outcomes is not None
    assert found.truncated == found.outcomes["truncated"]
    assert roll(tiny[name], asked, **how, grader="grammar").outcomes is not None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompts": []}, "no prompt"),
        ({"samples": 0}, "samples 0"),
        ({"batch_rows": 0}, "batch_rows 0"),
        ({"grader": "oracle"}, "no grader 'oracle'. Choose one of grammar, rules"),
    ],
)
def test_bad_wishes_are_refused_before_anything_is_written(
    organism: Model, prompts, tmp_path: Path, given, message
) -> None:
    asked = {"prompts": prompts, "folder": tmp_path / "run"} | given
    with pytest.raises(ExperimentError, match=message):
        roll(organism, **asked)
    assert not (tmp_path / "run").exists()


def test_prompts_come_from_a_file_or_a_set(prompts, tmp_path: Path) -> None:
    write_jsonl(path := tmp_path / "p.jsonl", prompts)
    assert prompts_of(path, None) == prompts and prompts_of(path, None, 3) == prompts[:3]
    assert prompts_of(None, Wanted("organism:middle", n=8, seed=1)) == prompts
    for bad in ((None, None), (path, Wanted())):
        with pytest.raises(ExperimentError, match="name a set with --set"):
            prompts_of(*bad)
    with pytest.raises(ExperimentError, match="at least 1"):
        prompts_of(path, None, 0)
    assert longest("organism") < longest("google/gemma-3-12b-it")


def test_the_command_states_its_cost_first_and_then_tells_where_things_are(prompts, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    write_jsonl(path := tmp_path / "p.jsonl", prompts[:2])
    asked = [str(path), "-w", str(tmp_path), "--max-new-tokens", "96", "--run", "r"]
    dry = CliRunner().invoke(app, [*asked, "--dry-run"])
    assert dry.exit_code == 0 and "2 prompts" in dry.output and "at most 192 new tokens" in dry.output
    assert not (tmp_path / "runs").exists()
    done = CliRunner().invoke(app, [*asked, "--grader", "grammar", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["rollouts"] == 2 and Path(told["folder"]) == tmp_path / "runs" / "r" and told["outcomes"]
    wrong = CliRunner().invoke(app, [*asked, "--twins", "all"])
    assert wrong.exit_code != 0 and isinstance(wrong.exception, ExperimentError)
