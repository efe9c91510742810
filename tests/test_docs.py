"""Every command and every Python block of the README and the docs runs, in the page's order, and every link leads on.

A line runs as it stands unless it is named below: in `LESS` with what runs in its place, where the whole takes minutes,
or in `ELSEWHERE` with the reason. A line below which the page shows an error must fail with that error.
"""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from interp.cli import main
from interp.models import load
from interp.organism.sets import agent_transcripts, benign_twin
from interp.sharing import push
from interp.store import workspace
from interp.testing import tiny_folder
from interp.transcripts import write_jsonl

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
QUICK = (
    "--n-prompts 4 --samples 1 --control-samples 1 --controls 4 --kinds random --no-ablate --add 0.06 --no-calibrate"
)
LESS = {
    "interp steer": "interp steer --dry-run",
    "interp steer --plan --run mine": f"interp steer --plan --run mine {QUICK}",
    "interp steer --run mine": f"interp steer --run mine {QUICK}",
    "interp calibrate --direction emotion:desperate --prompts agent.jsonl --max-new-tokens 512": (
        "interp calibrate --direction emotion:desperate --prompts agent.jsonl --max-new-tokens 64 --samples 1"
    ),
    "interp probe probes/desperation/recipe.toml": "interp probe probes/desperation/recipe.toml --dry-run",
    "interp probe a.toml b.toml --model organism --model ./my-model": (
        "interp probe a.toml b.toml --model organism --model ./my-model --dry-run"
    ),
    "interp probe a.toml b.toml --resume": "interp probe a.toml --resume",
    "interp probe a.toml b.toml --shard 1/2": "interp probe a.toml b.toml --shard 1/2 --dry-run",
    "interp trace --text": "interp trace agent.jsonl --text --direction emotion:desperate --site 2/3",
    "interp trace --json": "interp trace agent.jsonl --json --direction emotion:desperate --site 2/3",
    "interp trace --png trace.png": "interp trace agent.jsonl --png trace.png --direction emotion:desperate --site 2/3",
    "interp event-locked": "interp event-locked --n 4 --samples 1 --n-random 20",
}
"""What a page says, and what runs here in its place: the same command on less, or its cost alone."""
ELSEWHERE = {
    "make": "this is `make test`; the stages of `make demo` run in test_line.py",
    "python benchmarks": "benchmarks measure; test_benchmarks.py runs them on less",
    "interp organism train": "test_organism_sets.py and organism/ train a few steps",
    "inspect eval": "test_inspect_provider.py and test_inspect_tasks.py run these tasks",
    "interp steer --side-task": "data of a hub; test_named_tasks.py and test_lm_eval.py run tasks of our own",
    "interp steer --task": "test_inspect_sweep.py runs these sweeps on less",
    "interp transcripts convert logs": "test_inspect_logs.py reads logs with scores of several values",
    "interp probe push desperation --to hf://": "needs a hub; test_sharing.py pushes to a local one",
}
FAILS = {"interp emotions lint stories.jsonl"}
"""Commands that exit with 1 by the page's own words, without an error."""
FEWER = {
    "probes/desperation/recipe.toml": "a.toml",
    "middle_band_with_twins(48": "middle_band_with_twins(6",
    "samples=4": "samples=1",
    "middle_band_transcripts(8": "middle_band_transcripts(2",
}
"""What a Python block says, and what runs here in its place."""
FAMILIES = {"google/gemma-2-9b-it": "gemma2", "google/gemma-3-12b-it": "gemma3"}
"""Models that pages name, and the folder of the tiny random model that stands for them."""
RECIPE = """
name = "{name}"
concept = "desperation of the agent"
sites = ["1"]
methods = ["difference_of_means"]
folds = 3
n_null = 19
[data]
organism = "agent"
n = 80
seed = 1
positive = {{ field = "meta.latent", above = 0.4 }}
negative = {{ field = "meta.latent", below = 0.4 }}
reference = {{ field = "meta.threat", in = ["routine"], limit = 8 }}
"""


class Line(NamedTuple):
    """A command, and the beginning of the error that the page shows below it."""

    command: str
    error: str | None


def commands(text: str) -> Iterator[Line]:
    """Commands of indented and console blocks, without comments, continued lines joined."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        found = re.match(r"(?:    |\$ |    \$ )((?:interp|inspect|python|make|--arm) .*)", line)
        if not found or re.match(r"    interp/", line):
            continue
        told, rest = found[1], number
        while told.endswith("\\"):
            rest += 1
            told = told[:-1] + lines[rest].strip()
        command = re.split(r"\s{2,}#", told)[0].strip()
        below = lines[rest + 1] if rest + 1 < len(lines) else ""
        yield Line(command, below if below.startswith("interp: ") else None)


def blocks(text: str) -> list[str]:
    """The Python blocks of a page."""
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)


def elsewhere(command: str) -> bool:
    return any(command.startswith(begin) for begin in ELSEWHERE)


HAVE = [page for page in PAGES if any(not elsewhere(line.command) for line in commands(page.read_text()))]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a reader has it: the committed probes and experiments, some transcripts, recipes and models."""
    for name in ("probes", "experiments"):
        shutil.copytree(ROOT / name, tmp_path / name)
    write_jsonl(tmp_path / "agent.jsonl", agent_transcripts(2, seed=1))
    for name in ("a", "b"):
        (tmp_path / f"{name}.toml").write_text(RECIPE.format(name=name))
    for name in ("my-model", "tiny-llama", *FAMILIES.values()):
        family = name if name in FAMILIES.values() else "llama"
        tiny_folder(tmp_path / name, family, max_position_embeddings=2048)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INTERP_HOME", raising=False)
    return tmp_path


def event_locked(desk: Path) -> None:
    """Twins carry the groups of the scenarios that they are twins of."""
    scenes = agent_transcripts(2, seed=1)
    write_jsonl(desk / "calm.jsonl", [replace(benign_twin(scene), group=scene.group) for scene in scenes])


def grading(desk: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["rollouts", "--set", "organism:middle", "--n", "4", "--grader", "grammar", "--run", "example"])
    assert stop.value.code == 0


def transcripts(desk: Path) -> None:
    """The four records that the page tells of."""
    asked = {"role": "user", "content": "What now?"}
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    answer = [asked, {"role": "assistant", "content": "", "tool_calls": [call]}]
    answer += [{"role": "tool", "tool_call_id": "c", "content": "Nothing."}]
    picture = [{"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "text", "text": "Look."}]
    records = [
        {"messages": [{"role": "system", "content": "Be brief."}, *answer], "label": "threat", "group": "mail"},
        {"messages": [{"role": "user", "content": picture}, {"role": "assistant", "content": "I did."}]},
        {"messages": [{"role": "critic", "content": "Bad."}]},
    ]
    (desk / "chats.jsonl").write_text("\n".join([*map(json.dumps, records), '{"messages": [{"role": "user"']))


def emotions(desk: Path) -> None:
    rows = ["afraid,2.5,6", "angry,2.5,6.2", "calm,6.9,1.7", "desperate,2.4,5.5", "guilty,2.6,4.9", "happy,8.5,6.1"]
    (desk / "norms.csv").write_text("\n".join(["word,valence,arousal", *rows, "proud,8,5.5", "sad,2.1,3.5"]))


def sharing(desk: Path) -> None:
    """Folders that no pull may take."""
    fitted = desk / "probes" / "desperation" / "organism"
    shutil.copytree(fitted, desk / "other")
    card = json.loads((fitted / "card.json").read_text())
    (desk / "other" / "card.json").write_text(json.dumps(card | {"concept": "another"}))
    for source, name in (
        (fitted, "with-a-pickle"),
        (fitted, "with-a-changed-byte"),
        (desk / "other", "another-probe-of-that-name"),
    ):
        push(source, desk / name, workspace=workspace(desk))
    (desk / "with-a-pickle" / "pytorch_model.bin").write_bytes(b"")
    vectors = desk / "with-a-changed-byte" / "directions.safetensors"
    vectors.write_bytes(vectors.read_bytes()[:-1] + b"\x01")


PREPARE = {
    "event-locked": event_locked,
    "grading": grading,
    "transcripts": transcripts,
    "emotions": emotions,
    "sharing": sharing,
}
"""What a page takes for granted beside the desk."""


def given_to_emotions() -> dict[str, Any]:
    """What the page has made before its block: the vectors' folder, the model, and a transcript of the reader's."""
    for words in ("organism sample stories few.jsonl --n 64 --seed 1", "emotions build few.jsonl --name few"):
        with pytest.raises(SystemExit) as stop:
            main(shlex.split(words))
        assert stop.value.code == 0
    transcript, folder = agent_transcripts(1, seed=1)[0], Path("probes", "few", "organism")
    return {"model": load("organism"), "folder": folder, "transcript": transcript}


GIVEN = {"emotions": given_to_emotions}
"""The names that a page's Python takes for granted."""


def here(command: str) -> list[str]:
    """The words that run in place of a command of a page, without `interp`."""
    if command.startswith("--arm"):
        command = f"interp steer --dry-run --no-ablate {command}"
    words = shlex.split(LESS.get(command, command))
    return [FAMILIES.get(word, word) for word in words[1:]]


@pytest.mark.parametrize("page", HAVE, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_in_its_order(page: Path, desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PREPARE.get(page.stem, lambda _: None)(desk)
    for line in commands(page.read_text()):
        if elsewhere(line.command) or ("--png" in line.command and BROWSER is None):
            continue
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(here(line.command))
        err = capsys.readouterr().err
        status = 1 if line.error or line.command in FAILS else 0
        assert (stop.value.code or 0) == status, f"{line.command}: {err}"
        if line.error:
            sentence = next(said for said in err.splitlines() if said.startswith("interp: "))
            assert sentence.startswith(line.error.partition(" (")[0]), line.command


@pytest.mark.parametrize(
    ("page", "block"),
    [(page, block) for page in PAGES if page.stem != "sharing" for block in blocks(page.read_text())],
    ids=lambda value: value.stem if isinstance(value, Path) else "",
)
def test_the_python_of_a_page_runs(page: Path, block: str, desk: Path) -> None:
    for whole, less in FEWER.items():
        block = block.replace(whole, less)
    exec(compile(block, str(page), "exec"), GIVEN.get(page.stem, dict)())


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.stem)
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.S))
    assert not [target for target in targets if "://" not in target and not (page.parent / target).exists()]


def test_lists_of_exceptions_name_nothing_that_is_gone() -> None:
    told = [line.command for page in PAGES for line in commands(page.read_text())]
    assert set(LESS) | FAILS <= set(told)
    assert [begin for begin in ELSEWHERE if not any(command.startswith(begin) for command in told)] == []
    python = "".join(block for page in PAGES for block in blocks(page.read_text()))
    assert [whole for whole in FEWER if whole not in python] == []


def test_a_command_that_a_page_gets_wrong_is_found() -> None:
    """Control: what is tested is what is written."""
    page = "Text.\n\n    interp doctor --modle x    # no such option\n\n```console\n$ interp nothing\ninterp: no\n```\n"
    assert list(commands(page)) == [Line("interp doctor --modle x", None), Line("interp nothing", "interp: no")]
    with pytest.raises(SystemExit) as stop:
        main(here("interp doctor --modle x"))
    assert stop.value.code == 2
