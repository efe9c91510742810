"""The whole line on the embedded model, small: every command does its work, and bad input gets one sentence."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from interp.cli import main
from interp.line import matched_pair, open_probe
from interp.models import Model, load
from interp.organism.sets import benign_twin, middle_band_transcripts
from interp.store import Workspace
from interp.testing import small_transcripts
from interp.transcripts import write_jsonl

ROOT = Path(__file__).parents[1]
RECIPE = """
name = "small"
concept = "desperation"
methods = ["difference_of_means", "emotion_vector"]
position = "last:scratchpad"
folds = 3
n_null = 19
[data]
organism = "agent"
n = 60
seed = 1
positive = { field = "meta.latent", above = 0.4 }
negative = { field = "meta.latent", below = 0.4 }
reference = { field = "meta.threat", in = ["routine"] }
[stories]
organism = "stories"
n = 64
seed = 1
emotion = "desperate"
against = "calm"
"""


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    status = 0
    try:
        main(list(words))
    except SystemExit as stop:
        status = int(stop.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture(scope="module")
def organism() -> Model:
    return load("organism")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which a small probe was fitted by the command."""
    where = tmp_path_factory.mktemp("workspace")
    (where / "small.toml").write_text(RECIPE)
    with pytest.raises(SystemExit) as stop:
        main(["probe", str(where / "small.toml"), "-w", str(where)])
    assert not stop.value.code
    return where


def test_probe_leaves_directions_and_a_card(fitted: Path, organism: Model) -> None:
    folder = fitted / "probes" / "small" / "organism"
    assert {path.name for path in folder.iterdir()} == {
        "directions.safetensors",
        "card.json",
        "card.md",
        "doctor.json",
        "manifest.json",
    }
    assert set(open_probe(Workspace(fitted), "small", organism, "emotion:desperate-calm")) == set(organism.all_sites())


def test_steer_runs_resumes_and_reports(fitted: Path, capsys) -> None:
    words = (
        "steer",
        "-w",
        str(fitted),
        "--probe",
        "small",
        "--n-prompts",
        "3",
        "--samples",
        "1",
        "--controls",
        "2",
        "--add",
        "0.1",
        "--no-ablate",
        "--kinds",
        "random",
        "--no-equal-kl",
        "--beyond-range",
        "--max-new-tokens",
        "100",
        "--json",
    )
    status, out, _ = run(capsys, *words)
    first = json.loads(out)
    assert status == 0 and first["word"]
    page = (fitted / "runs" / "steer" / "report.html").read_text()
    assert first["headline"].split(":")[0] in page and "<script src" not in page
    rows = (fitted / "runs" / "steer" / "rollouts.jsonl").read_text()
    assert json.loads(run(capsys, *words)[1]) == first
    assert (fitted / "runs" / "steer" / "rollouts.jsonl").read_text() == rows


def test_steer_states_its_cost_and_stops(fitted: Path, capsys) -> None:
    status, out, _ = run(capsys, "steer", "-w", str(fitted), "--probe", "small", "--dry-run", "--run", "dry")
    assert status == 0 and "rollouts of at most 128 tokens" in out
    assert not (fitted / "runs" / "dry").exists()


def test_trace_writes_a_page_text_or_json(fitted: Path, capsys) -> None:
    words = ("trace", "-w", str(fitted), "--probe", "small", "--n-random", "20")
    status, out, _ = run(capsys, *words)
    assert status == 0 and (fitted / "runs" / "trace" / "trace.html").is_file()
    traces = json.loads(run(capsys, *words, "--json")[1])
    assert [len(trace["pieces"]) for trace in traces] == [len(trace["scores"][0]) for trace in traces]
    assert "scratchpad" in run(capsys, *words, "--text")[1]


def test_sampled_transcripts_go_through_cache(tmp_path: Path, capsys) -> None:
    file = tmp_path / "agent.jsonl"
    assert run(capsys, "organism", "sample", "agent", str(file), "--n", "5")[0] == 0
    words = ("cache", str(file), "-w", str(tmp_path), "--sites", "2/3", "--position", "mean:assistant", "--json")
    status, out, _ = run(capsys, *words)
    assert status == 0 and json.loads(out)["rows"] == 5
    assert Path(json.loads(out)["folder"]).is_dir()
    status, out, _ = run(capsys, *words[:-1], "--dry-run")
    assert status == 0 and "5 transcripts" in out


def test_doctor_passes_the_organism(capsys) -> None:
    status, out, _ = run(capsys, "doctor", "--json")
    assert status == 0 and json.loads(out)["sound"] is True


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("interp.models.load", interrupt)
    status, _, err = run(capsys, "doctor")
    assert status == 130 and "the same command goes on" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("doctor", "--model", "no/where"), "no such folder"),
        (("probe", "missing.toml"), "reading recipe missing.toml"),
        (("cache", "missing.jsonl"), "missing.jsonl"),
        (("steer", "--probe", "nothing"), "no such file"),
        (("steer", "--direction", "joy", "-w", "."), "it has no such direction"),
        (("steer", "--add", "a lot"), "write numbers"),
        (("steer", "--sites", "9"), "blocks 0 to 3"),
        (("trace", "--site", "x"), "does not parse"),
        (("trace", "--site", "L1.resid_pre", "-w", "."), "was not fitted there"),
        (("steer", "--prompts", "other.jsonl", "-w", "."), "say in meta nothing"),
        (("report", "missing"), "no results.json"),
        (("organism", "sample", "cats", "x.jsonl"), "choose one of agent"),
        (("doctor", "--dtype", "float8"), "choose float32"),
        (("cache", "bad.jsonl"), "line 2"),
        (("demo", "-w", "empty"), "no probes/desperation/recipe.toml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_gets_one_sentence_and_a_non_zero_exit(
    words: tuple[str, ...], sentence: str, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"id": "a", "group": "g", "messages": [{"role": "user", "content": "x"}]}\n{')
    (tmp_path / "empty").mkdir()
    write_jsonl(tmp_path / "other.jsonl", small_transcripts())
    if words[-1] == ".":
        words = (*words[:-1], str(ROOT))
    status, out, err = run(capsys, *words)
    assert status == 1
    assert sentence.lower() in err.lower() and err.strip().startswith("interp: ") and "Traceback" not in err
    assert len(err.strip().splitlines()) == (3 if "line 2" in sentence else 1)


@pytest.mark.parametrize("command", ["calibrate", "steer", "trace", "event-locked"])
def test_another_model_is_told_whose_benign_text_it_is_read_with(tmp_path: Path, capsys, command: str) -> None:
    own = ("--benign", str(tmp_path / "own.jsonl"))
    said = [run(capsys, command, "--model", str(tmp_path / "no-model"), *words) for words in ((), own)]
    assert [status for status, *_ in said] == [1, 1]
    assert ["Benign text is that of the embedded world" in err for *_, err in said] == [True, False]


def test_a_matched_pair_differs_by_the_threat_alone(organism: Model) -> None:
    prompts = middle_band_transcripts(24, seed=7)
    real, benign = matched_pair(organism, prompts, seed=7)
    texts = [transcript.messages[1].content for transcript in (real, benign)]
    assert texts[0] != texts[1]
    lines = [set(text.splitlines()) for text in texts]
    assert len(lines[0] ^ lines[1]) <= 4, "one e-mail differs"
    assert benign.messages[0] == real.messages[0]
    assert benign_twin(prompts[0], reply=False).meta["threat"] == "routine"


def test_a_full_disk_is_one_sentence_and_the_command_goes_on_afterwards(tmp_path) -> None:
    def interp(*words: str, bytes: int = resource.RLIM_INFINITY) -> subprocess.CompletedProcess[str]:
        """The command in a process that may write no file larger than so many bytes."""
        return subprocess.run(
            [sys.executable, "-m", "interp", *words, "--workspace", str(tmp_path)],
            capture_output=True,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, resource.RLIM_INFINITY)),
        )

    write_jsonl(tmp_path / "small.jsonl", small_transcripts())
    words = ("cache", str(tmp_path / "small.jsonl"), "--position", "all")
    stopped = interp(*words, bytes=20_000)
    assert stopped.returncode == 1 and "Traceback" not in stopped.stderr
    assert "Free some space" in stopped.stderr and not list(tmp_path.glob("activations/*/manifest.json"))
    done = interp(*words)
    assert done.returncode == 0 and len(list(tmp_path.glob("activations/*/manifest.json"))) == 1


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--task", "interp/organism_blackmail", "--prompts", "mine.jsonl"), "a task has prompts of its own"),
        (("--score", "harmful"), "these are for an Inspect task"),
        (("--beyond-window",), "these are for an Inspect task"),
        (("--max-new-tokens", "0"), "max_new_tokens: Input should"),
    ],
)
def test_options_that_would_be_ignored_are_refused(capsys, words: tuple[str, ...], found: str) -> None:
    status, _, err = run(capsys, "steer", *words, "--workspace", str(ROOT))
    assert status == 1 and found in err
