"""Tasks named in words: what a word means, what is refused before anything runs, and a run that has one."""

import json
import shutil
from pathlib import Path

import pytest

from interp import named_tasks as here
from interp.cli import main
from interp.errors import ExperimentError
from interp.jobs.steering import SideTask, Steering, named_values
from interp.models import Model
from interp.named_tasks import named_tasks

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Inspect's, when it is read
ROOT = Path(__file__).parents[1]
QUICK = (
    "--n-prompts 2 --samples 1 --control-samples 1 --controls 2 --kinds random --no-ablate --no-calibrate --cap -0.5"
)


def test_words_become_a_task() -> None:
    found = SideTask.parse("inspect_evals/gsm8k score=match limit=50 fewshot=3 'who=Kyle Johnson'")
    assert found == SideTask(
        name="inspect_evals/gsm8k", limit=50, score="match", arguments={"fewshot": 3, "who": "Kyle Johnson"}
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "name"),
        ("gsm8k fifty", "'fifty' has no name and value"),
        ("gsm8k limit=0", "limit"),
        ("gsm8k 'x", "No closing"),
    ],
)
def test_words_that_are_no_task_are_refused(text: str, said: str) -> None:
    with pytest.raises(ExperimentError, match=said):
        SideTask.parse(text)


def test_a_task_is_named_once() -> None:
    with pytest.raises(ExperimentError, match="a task is there twice among a, a"):
        Steering.of(tasks=[{"name": "a"}, {"name": "a", "limit": 3}])


def test_values_are_read_as_what_they_are() -> None:
    words = ["n=4", "twins=true", "scenario=blackmail", "grader_model=interp_rules/v1", "x=[1,2]", "eq=a=b"]
    wanted = {"n": 4, "twins": True, "scenario": "blackmail", "grader_model": "interp_rules/v1", "x": [1, 2]}
    assert named_values(words, "arguments", "write") == wanted | {"eq": "a=b"}
    with pytest.raises(ExperimentError, match="'n' has no name and value"):
        named_values(["n"], "arguments", "write")


def test_a_folder_of_task_files_is_relative_to_the_experiment(tmp_path: Path) -> None:
    told = '[[tasks]]\nname = "lm_eval/own"\narguments = { include_path = "own", num_fewshot = 2 }\n'
    (tmp_path / "experiment.toml").write_text(told)
    (found,) = Steering.load(tmp_path / "experiment.toml").side_tasks
    assert found.arguments == {"include_path": str(tmp_path / "own"), "num_fewshot": 2}


@pytest.mark.parametrize(("name", "extra"), [("lm_eval/arc_easy", "lm-eval"), ("inspect_evals/gsm8k", "inspect")])
def test_what_is_not_installed_is_named_with_the_extra_that_brings_it(
    llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, extra: str
) -> None:
    monkeypatch.setattr(here, "find_spec", lambda _: None)
    with pytest.raises(ExperimentError, match=rf"is not installed. Run pip install -e '\.\[{extra}\]'"):
        named_tasks(llama, [SideTask(name=name)], folder=tmp_path)


def test_the_command_measures_a_named_task_and_the_report_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "probes", tmp_path / "probes")
    monkeypatch.setenv("INTERP_HOME", str(tmp_path))
    words = ["steer", *QUICK.split(), "--add", "", "--run", "sides"]
    words += ["--side-task", "interp/organism_blackmail n=2 seed=7 score=coherent"]
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0, capsys.readouterr().err
    folder = tmp_path / "runs" / "sides"
    assert len((folder / "tasks.jsonl").read_text().splitlines()) == 2
    effects = json.loads((folder / "results.json").read_text())["side_effects"]["conditions"]
    found = [one for row in effects for one in row["measures"] if one["name"] == "interp/organism_blackmail"]
    assert [one["n"] for one in found] == [2, 2] and found[1]["change"] is not None
    assert "interp/organism_blackmail" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("inspect_evals/nothing", "evaluating inspect_evals/nothing: No inspect tasks were found"),
        ("interp/organism_blackmail n=1 score=kindness", "the task scores blackmail, coherent"),
    ],
)
def test_a_task_that_cannot_run_shows_before_anything_is_generated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, task: str, said: str
) -> None:
    shutil.copytree(ROOT / "probes", tmp_path / "probes")
    monkeypatch.setenv("INTERP_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as stop:
        main(["steer", *QUICK.split(), "--add", "", "--run", "sides", "--side-task", task])
    assert stop.value.code == 1 and said in capsys.readouterr().err
    assert not (tmp_path / "runs" / "sides" / "rollouts.jsonl").exists()


def test_a_task_and_a_side_task_do_not_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["steer", "--task", "interp/organism_blackmail", "--side-task", "lm_eval/arc_easy"])
    assert stop.value.code == 1 and "steering with --side-task" in capsys.readouterr().err
