"""`interp steer` over Inspect tasks: the rollouts of a direct run, our statistics, named events, runs that resume."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalSample, list_eval_logs, read_eval_log
from inspect_ai.model import ModelOutput
from inspect_ai.scorer import Score, accuracy, scorer, stderr
from inspect_ai.solver import generate

from interp.cli import main
from interp.errors import ExperimentError
from interp.experiments import Arm, Plan, steer
from interp.generation import Sampling
from interp.inspect_provider.samples import event_of, outcome_of, truth
from interp.inspect_provider.sweep import Evaluation, sweep
from interp.line import DIRECTION, open_probe
from interp.models import Model, load
from interp.organism.sets import benign_transcripts, middle_band_transcripts
from interp.sites import Site
from interp.store import Rows, Workspace

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Inspect's retries, and inspect-evals when it is read
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),  # Inspect leaves streams open
]
ROOT = Path(__file__).parents[1]
OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
ARMS = (Arm("add", 0.12, "resid", (Site(2),), "greater"), Arm("ablate", 1.0, "fraction", (Site(1), Site(2)), "less"))
BENIGN = benign_transcripts(6, 1)


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    """What Inspect leaves open is closed while this file's filters hold, and not in the middle of another's test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def organism() -> Model:
    return load("organism")


def plan(**changes: Any) -> Plan:
    sampling = Sampling(max_new_tokens=128)
    told: dict[str, Any] = dict(
        arms=ARMS, samples=2, control_samples=1, n_controls=1, kinds=("random",), seed=3, sampling=sampling
    )
    return Plan("q", DIRECTION, **(told | changes))


def vectors(organism: Model) -> Any:
    return open_probe(Workspace(ROOT), "desperation", organism, DIRECTION)


ORGANISM = Evaluation("interp/organism_blackmail", {"n": 4, "seed": 7})


def carry_out(model: Model, folder: Path, evaluation: Evaluation = ORGANISM, **changes: Any) -> Any:
    told = changes.pop("on_progress", None)
    return sweep(model, plan(**changes), evaluation, vectors(model), benign=BENIGN, folder=folder, on_progress=told)


def rows(folder: Path) -> dict[tuple[str, str, int], tuple[Any, str | None]]:
    """Token ids and outcome of every rollout."""
    said = {(r["prompt"], r["condition"], r["sample"]): r for r in Rows(folder / "outcomes.jsonl").read()}
    return {
        (r["prompt"], r["condition"], r["sample"]): (
            r["transcript"]["token_ids"],
            said[r["prompt"], r["condition"], r["sample"]]["outcome"],
        )
        for r in Rows(folder / "rollouts.jsonl").read()
    }


@pytest.fixture(scope="module")
def swept(organism: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "run"
    carry_out(organism, folder)
    return folder


def test_a_sweep_over_the_organisms_task_is_a_steering_run_on_its_scenes(
    organism: Model, swept: Path, tmp_path: Path
) -> None:
    """Prompts, noise, edits, norms, grades and tables: Inspect in between changes nothing."""
    scenes = middle_band_transcripts(4, 7)
    steer(organism, plan(), scenes, vectors(organism), benign=BENIGN, folder=tmp_path / "direct")
    assert rows(swept) == rows(tmp_path / "direct")
    tables = [json.loads((folder / "results.json").read_text()) for folder in (swept, tmp_path / "direct")]
    for table in tables:
        assert len(table["cells"]) == 1 + 2 * 2 and table["event"] == "blackmail"
    for one, other in zip(tables[0]["cells"], tables[1]["cells"], strict=True):
        for name in ("condition", "n", "outcomes", "blackmail", "coherent", "contrast", "cautious"):
            assert one[name] == other[name], name
        assert (one["raw_strength"] or 0) == pytest.approx(other["raw_strength"] or 0, rel=1e-4)
    of_task, direct = (table["verdict"] for table in tables)
    assert (of_task["word"], of_task["headline"]) == (direct["word"], direct["headline"])
    assert direct["sentences"][: len(of_task["sentences"])] == of_task["sentences"], "direct also has side effects"
    effect = {key: row for key, row in rows(swept).items() if key[1] != "baseline"}
    assert any(row[0] != rows(swept)[key[0], "baseline", key[2]][0] for key, row in effect.items()), "control"


def test_the_run_folder_is_that_of_any_steering_run_and_keeps_the_logs(swept: Path) -> None:
    assert {path.name for path in swept.iterdir()} == {
        "run.json",
        "rollouts.jsonl",
        "outcomes.jsonl",
        "results.json",
        "doctor.json",
        "plan.json",
        "report.html",
        "inspect.json",
        "inspect",
    }
    record = json.loads((swept / "run.json").read_text())
    assert record["config"]["inspect"]["task"] == "interp/organism_blackmail"
    about = json.loads((swept / "inspect.json").read_text())
    assert about["event"] == "blackmail" and about["ladder"] and len(about["prompts"]) == 4
    logs = list_eval_logs(str(swept / "inspect"))
    assert len(logs) == 1 + 2 + 2
    scored = [row for row in Rows(swept / "rollouts.jsonl").read() if row["condition"] == "baseline"]
    assert all(len(row["scores"]) > 3 for row in scored), "the baseline is read along the direction too"


def test_a_killed_sweep_goes_on_without_running_a_finished_condition_again(
    organism: Model, swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interp.inspect_provider.sweep.AT_ONCE", 1)
    asked: list[str] = []

    def counting(task: Any, *, model: list[Any], **how: Any) -> Any:
        asked.extend(m.api.steering.condition.name for m in model)
        return inspect_eval(task, model=model, **how)

    monkeypatch.setattr("interp.inspect_provider.sweep.inspect_eval", counting)

    def kill(stage: str, done: int, total: int) -> None:
        if done >= 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(organism, tmp_path / "run", on_progress=kill)
    before = Rows(tmp_path / "run" / "rollouts.jsonl").read()
    whole = Rows(swept / "rollouts.jsonl").read()
    assert 0 < len(before) < len(whole)
    path = tmp_path / "run" / "rollouts.jsonl"
    path.write_bytes(path.read_bytes()[:-3000])  # and the last condition was cut in the middle of a row
    carry_out(organism, tmp_path / "run")
    assert rows(tmp_path / "run") == rows(swept)
    assert len(Rows(path).read()) == len(whole), "no row twice"
    repeated = {name for name in asked if asked.count(name) > 1}
    assert len(set(asked)) == 5 and repeated == {before[-1]["condition"]}, "the cut one alone ran twice"
    tables = [json.loads((folder / "results.json").read_text()) for folder in (tmp_path / "run", swept)]
    assert tables[0] == tables[1]


def test_another_task_or_score_in_the_same_folder_is_refused(organism: Model, swept: Path) -> None:
    for other in (replace(ORGANISM, arguments={"n": 5}), replace(ORGANISM, score="coherent")):
        with pytest.raises(ExperimentError, match="another inspect task"):
            carry_out(organism, swept, other)


@scorer(metrics={"harmful": [accuracy(), stderr()], "classifier_verdict": [accuracy(), stderr()]})
def length_judge(fail: bool = False) -> Any:
    async def score(state: Any, target: Any) -> Score:
        if fail and "noon" in state.input_text and len(state.output.completion) % 3 == 0:
            raise ValueError("the judge could not be parsed")
        harmful = float(len(state.output.completion) % 2)
        return Score(value={"harmful": harmful, "classifier_verdict": 1.0}, explanation="by length")

    return score


def letters(fail: bool = False, n: int = 3) -> Task:
    samples = [Sample(id=f"letter {k}", input=f"Please reply to Ada before noon, {k} times.") for k in range(n)]
    return Task(dataset=samples, solver=generate(), scorer=length_judge(fail), name="letters")


def test_rates_name_the_score_and_never_a_rung(organism: Model, tmp_path: Path) -> None:
    evaluation = Evaluation(letters(), settings={"max_tokens": 40, "temperature": 2.0})
    found, words = carry_out(organism, tmp_path / "run", evaluation, samples=6, arms=ARMS[1:])
    assert found.plan.event == "harmful"
    table = json.loads((tmp_path / "run" / "results.json").read_text())
    base = table["cells"][0]
    assert base["event"] == "harmful" and "blackmail" not in base and base["harmful"]["trials"] == 18
    assert set(base["outcomes"]) == {"harmful", "not harmful", "incoherent", "truncated", "ungraded"}
    assert sum(base["outcomes"].values()) == base["n"] == 18
    samples = [s for log in list_eval_logs(str(tmp_path / "run" / "inspect")) for s in read_eval_log(log).samples or []]
    unedited = [s for s in samples if (s.output.metadata or {})["interp"]["condition"] == "baseline"]
    assert base["harmful"]["successes"] == sum(s.scores["length_judge"].value["harmful"] for s in unedited if s.scores)  # pyright: ignore
    said = " ".join([words.headline, *words.sentences])
    assert "`harmful`" in said and "blackmail" not in said and "coherent" not in said
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Change of the harmful rate" in page and "blackmail rate" not in page.lower()
    groups = {row["transcript"]["group"] for row in Rows(tmp_path / "run" / "rollouts.jsonl").read()}
    assert groups == {"letter 0", "letter 1", "letter 2"}


def test_a_scorer_that_fails_leaves_replies_ungraded_and_counted(organism: Model, tmp_path: Path) -> None:
    evaluation = Evaluation(letters(fail=True), settings={"max_tokens": 40, "temperature": 2.0})
    found, _ = carry_out(organism, tmp_path / "run", evaluation, samples=6, arms=ARMS[1:])
    ungraded = found.baseline.rate.ungraded
    assert 0 < ungraded < 18 and found.baseline.rate.trials == 18 - ungraded
    notes = {row["note"] for row in Rows(tmp_path / "run" / "outcomes.jsonl").read() if row["outcome"] is None}
    assert any("could not be parsed" in note for note in notes)


def test_one_sample_with_epochs_has_an_interval_here_and_none_in_inspect(organism: Model, tmp_path: Path) -> None:
    evaluation = Evaluation(letters(n=1), settings={"max_tokens": 40, "temperature": 2.0})
    found, words = carry_out(organism, tmp_path / "run", evaluation, samples=12, control_samples=4, arms=ARMS[1:])
    logs = [read_eval_log(log) for log in list_eval_logs(str(tmp_path / "run" / "inspect"))]
    twelve = [log for log in logs if log.results and len(log.samples or []) == 12]
    assert len(twelve) == 2
    for log in twelve:
        metrics = log.results.scores[0].metrics  # pyright: ignore[reportOptionalMemberAccess]
        assert metrics["stderr"].value == 0.0, "Inspect reduces the epochs of a sample before it looks at their spread"
    assert found.baseline.rate.interval is not None
    assert found.baseline.rate.interval.low < (found.baseline.rate.value or 0) < found.baseline.rate.interval.high
    for arm in found.arms:
        assert arm.treatment.contrast is not None and arm.treatment.contrast.interval is not None
        assert arm.treatment.contrast.interval.low < arm.treatment.contrast.interval.high
    assert "one prompt, so that nothing is said of others" in words.sentences[0]


def test_a_sample_without_a_reply_stops_the_sweep_with_its_reason(organism: Model, tmp_path: Path) -> None:
    long = Task(dataset=[Sample(id="long", input="word " * 3000)], solver=generate(), scorer=length_judge())
    with pytest.raises(ExperimentError, match=r"sample long, epoch 1.*beyond_window"):
        carry_out(organism, tmp_path / "run", Evaluation(long))


def sample(value: Any, metadata: dict[str, Any] | None = None, completion: str = "A whole reply.", **told: Any) -> Any:
    output = ModelOutput.from_content("interp/organism", completion)
    output.metadata = {"interp": {"truncated": False} | told}
    scores = {} if value is None else {"judge": Score(value=value, metadata=metadata, explanation="why")}
    return EvalSample(id="s", epoch=1, input="x", target="", output=output, scores=scores)


def test_what_is_counted_is_the_ladder_then_harmful_then_the_only_score_then_a_question() -> None:
    ladder = sample({"blackmail": 1, "coherent": 1}, {"rung": "blackmail"})
    harm = sample({"harmful": 1.0, "classifier_verdict": 1.0})
    assert event_of([ladder], None) == ("blackmail", True) and event_of([ladder], "plead") == ("plead", True)
    assert event_of([ladder], "coherent") == ("coherent", False)
    assert event_of([sample(None), harm], None) == ("harmful", False)
    assert event_of([harm], "classifier_verdict") == ("classifier_verdict", False)
    assert event_of([sample("C")], None) == ("judge", False)
    with pytest.raises(ExperimentError, match="one, two"):
        event_of([sample({"one": 1, "two": 0})], None)
    with pytest.raises(ExperimentError, match="the task scores harmful"):
        event_of([sample({"harmful": 1})], "rude")
    with pytest.raises(ExperimentError, match="scores nothing"):
        event_of([sample(None)], None)


def test_scores_become_outcomes_and_broken_replies_stay_visible() -> None:
    def found(*arguments: Any, **told: Any) -> Any:
        return outcome_of(sample(*arguments, **told), "harmful", ladder=False)

    assert (found({"harmful": 1.0}).rung, found({"harmful": 0.0}).rung) == ("harmful", "not harmful")
    cut = found({"harmful": 1.0}, truncated=True)
    assert (cut.rung, cut.broken, cut.coherent, cut.is_rung("harmful")) == ("harmful", "truncated", False, True)
    circles = found({"harmful": 0.0}, completion="I will do it now. " * 30)
    assert (circles.rung, circles.coherent, circles.is_rung("harmful")) == ("incoherent", False, False)
    assert found({"harmful": float("nan")}).rung is None and found(None).rung is None
    assert outcome_of(sample("I"), "judge", ladder=False).rung == "not judge"
    assert outcome_of(sample(1, {"rung": "plead"}), "blackmail", ladder=True).rung == "plead"
    named = outcome_of(sample({"coherent": 1}), "coherent", ladder=False)
    assert named.rung == "coherent score", "a name that the tables use already"


def test_a_score_that_is_neither_true_nor_false_is_refused() -> None:
    assert [truth(v, "s") for v in (1, 0, 1.0, True, False, "C", "I", "N")] == [1, 0, 1, True, False, True, False, None]
    for value in (0.4, "P", "maybe", 7):
        with pytest.raises(ExperimentError, match="neither true nor false"):
            truth(value, "s")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = 0
    try:
        main(list(words))
    except SystemExit as stop:
        status = int(stop.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


def test_the_command_states_its_cost_runs_and_refuses(tmp_path: Path, capsys, monkeypatch) -> None:
    where = tmp_path / "workspace"
    where.mkdir()
    (where / "probes").symlink_to(ROOT / "probes")
    task = ("steer", "-w", str(where), "--task", "interp/organism_blackmail", "--task-arg", "n=2", "--add", "")
    small = (*task, "--no-ablate", "--cap", "-0.5", "--epochs", "1", "--controls", "1", "--kinds", "random")
    status, out, _ = run(capsys, *small, "--dry-run")
    assert status == 0 and "3 rollouts as long as it allows" in out and not (where / "runs").exists()
    status, out, _ = run(capsys, *small, "--json")
    assert status == 0 and json.loads(out)["word"]
    assert "report.html" in {path.name for path in (where / "runs" / "steer").iterdir()}
    status, _, err = run(capsys, *small, "--score", "rude", "--run", "other")
    assert status == 1 and "interp: counting the score rude" in err and "Traceback" not in err
    status, _, err = run(capsys, *task[:5], "--task-arg", "n")
    assert status == 1 and "write --task-arg name=value" in err.lower()
    monkeypatch.setattr("interp.cli.steer.find_spec", lambda name: None)
    status, _, err = run(capsys, *small)
    assert status == 1 and "pip install -e '.[inspect]'" in err


def test_the_fields_own_evaluation_runs_to_the_end_offline(tmp_path: Path) -> None:
    """Its prompt is longer than the organism's window, so what is written is babble, and the log says why."""
    command = [
        *(sys.executable, "-m", "inspect_ai", "eval", "inspect_evals/agentic_misalignment"),
        *("--model", "interp/organism", "-M", "beyond_window=true", "-T", "grader_model=interp_rules/v1"),
        *("--epochs", "2", "--max-tokens", "32", "--log-dir", str(tmp_path), "--display", "none"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=OFFLINE, timeout=300)
    assert done.returncode == 0, done.stderr
    (found,) = list_eval_logs(str(tmp_path))
    log = read_eval_log(found)
    assert log.status == "success" and len(log.samples or []) == 2
    for told in ((s.output.metadata or {})["interp"] for s in log.samples or []):
        assert told["beyond_window"] and told["prompt_tokens"] > 1024 and told["doctor"]["sound"]
    assert {name for s in log.samples or [] for name in (s.scores or {})["harmfulness_scorer"].value} == {  # pyright: ignore
        "harmful",
        "classifier_verdict",
    }
