"""A shared probe comes back byte for byte or not at all; what is no whole probe of this model is refused by name."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from local_hub import hub

from interp.cli import main
from interp.directions import load_directions, save_directions
from interp.errors import DirectionError, InterpError, ProbeError, StoreError
from interp.line import open_probe
from interp.models import Model, load
from interp.probes import ProbeCard
from interp.sharing import find_probe, pull, push
from interp.sharing.page import page
from interp.store import Workspace, read_folder, seal
from interp.testing import tiny_folder

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "probes" / "desperation" / "organism"
CLAIM = ("directions.safetensors", "card.json")


@pytest.fixture(scope="module")
def organism() -> Model:
    return load("organism")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """The shipped probe, pushed to a folder."""
    return push(SHIPPED, tmp_path / "shared", workspace=Workspace(ROOT)).folder


@pytest.fixture
def here(tmp_path: Path) -> Workspace:
    (tmp_path / "here").mkdir()
    return Workspace(tmp_path / "here")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def other_version(folder: Path, **changes: str) -> Path:
    """Another probe of the same name in `folder`: every vector doubled, or, with changes, of another model."""
    folder.mkdir(parents=True)
    card = ProbeCard.load(SHIPPED)
    identity = replace(card.model, **changes)
    directions = load_directions(SHIPPED / "directions.safetensors").values()
    factor = 1 if changes else 2
    save_directions(folder / CLAIM[0], [replace(one, vector=one.vector * factor, model=identity) for one in directions])
    replace(card, model=identity).save(folder)
    seal(folder)
    return folder


# -- there and back


def test_what_is_pulled_is_what_was_pushed_byte_for_byte(shared: Path, here: Workspace, organism: Model) -> None:
    rest = {"README.md", "recipe.toml"} | {"doctor.json"} & {path.name for path in SHIPPED.iterdir()}
    assert set(read_folder(shared, hashes=True).files) == {*CLAIM, *rest}
    got = pull(shared, here, model=organism)
    assert (got.folder, got.new, got.checked_against) == (here.probes / "desperation" / "organism", True, "organism")
    assert all((got.folder / name).read_bytes() == (SHIPPED / name).read_bytes() for name in (*CLAIM, "card.md"))
    assert (got.folder / "recipe.toml").read_bytes() == (SHIPPED.parent / "recipe.toml").read_bytes()
    assert read_folder(got.folder, hashes=True) and got.card == ProbeCard.load(SHIPPED)
    ours, theirs = [open_probe(at, "desperation", organism, "logistic") for at in (Workspace(ROOT), here)]
    assert all(torch.equal(ours[site].vector, theirs[site].vector) for site in ours | theirs)
    again = push(got.folder, shared.with_name("again"), workspace=here).folder
    assert (
        find_probe(Workspace(ROOT), str(SHIPPED)) == SHIPPED and find_probe(Workspace(ROOT), "desperation") == SHIPPED
    )
    assert all((again / name).read_bytes() == (shared / name).read_bytes() for name in (*CLAIM, "recipe.toml"))


def test_what_the_doctor_found_travels_along(here: Workspace, organism: Model, tmp_path: Path) -> None:
    """A probe that was fitted here and one that is pulled over it hold the same kinds of files."""
    fitted = here.probes / "desperation" / "organism"
    shutil.copytree(SHIPPED, fitted)
    rows = [{"check": "parity", "ok": True, "detail": "equal"}, {"check": "BOS <b>", "ok": False, "detail": "twice"}]
    (fitted / "doctor.json").write_text(json.dumps(rows))
    out = push(fitted, tmp_path / "out", workspace=here).folder
    assert "1 of 2 checks in order (not: BOS &lt;b>)" in (out / "README.md").read_text()
    assert pull(out, here, model=organism).folder == fitted
    assert json.loads((fitted / "doctor.json").read_bytes()) == rows and (fitted / "README.md").is_file()
    spoil("doctor.json", b'[{"ok": 1}]', sealed=True)(out)
    with pytest.raises(StoreError, match="its card or doctor.json does not read"):
        pull(out, here, model=organism)


def test_the_same_again_writes_nothing(shared: Path, here: Workspace, organism: Model) -> None:
    folder = pull(shared, here, model=organism).folder
    before = {path: path.stat().st_ino for place in (shared, folder) for path in (place, *place.iterdir())}
    assert not pull(shared, here, model=organism).new
    assert push(SHIPPED, shared, workspace=Workspace(ROOT)).arrived
    assert {path: path.stat().st_ino for path in before} == before


def test_another_name_gives_another_folder(shared: Path, here: Workspace, organism: Model) -> None:
    assert pull(shared, here, model=organism, name="theirs").folder == here.probes / "theirs" / "organism"


def test_a_page_that_was_edited_where_it_lies_is_no_fault(shared: Path, here: Workspace, organism: Model) -> None:
    (shared / "README.md").write_text("---\nlicense: mit\n---\nOurs.\n")
    (shared / ".gitattributes").write_text("*.safetensors filter=lfs")
    assert pull(shared, here, model=organism).new


# -- refusals


def test_a_probe_of_another_model_is_refused_and_both_are_named(
    shared: Path, here: Workspace, organism: Model, tmp_path: Path
) -> None:
    other = load(tiny_folder(tmp_path / "tiny-llama", "llama"))
    with pytest.raises(DirectionError, match=r"on tiny-llama: it was fitted on organism \(weights"):
        pull(shared, here, model=other)
    assert not here.probes.exists()
    assert pull(shared, here, model=organism).new, "control: nothing else was wrong with it"


def test_without_a_model_the_embedded_one_is_at_hand(here: Workspace, shared: Path, tmp_path: Path) -> None:
    assert pull(shared, here, name="good").checked_against == "organism"
    forged = other_version(tmp_path / "forged", weights="0" * 16)
    with pytest.raises(
        DirectionError, match="fitted on organism .weights 363adbfd83a1e6d8 here, 0000000000000000 there"
    ):
        pull(forged, here)
    far = push(other_version(tmp_path / "far", name="maker/model-1b"), tmp_path / "out", workspace=here).folder
    got = pull(far, here)
    assert got.checked_against is None and got.folder.name == "maker--model-1b"


def spoil(name: str, data: bytes | None = None, *, sealed: bool = False) -> Callable[[Path], None]:
    """Change, add or (without data) remove one file; `sealed` also makes the manifest agree."""

    def change(folder: Path) -> None:
        if data is None:
            (folder / name).unlink()
        else:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        if sealed:
            seal(folder)

    return change


def flip(name: str, at: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[at] ^= 1
        (folder / name).write_bytes(data)

    return change


def card(sealed: bool = True, **changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        row = json.loads((folder / "card.json").read_bytes()) | changes
        spoil("card.json", json.dumps(row).encode(), sealed=sealed)(folder)

    return change


class Boom:
    """Unpickled, it writes a file: nobody may unpickle it."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("boom"),)


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "one bit of a vector": (flip(CLAIM[0], -1), "directions.safetensors has changed since it was shared"),
    "a number of the card": (card(sealed=False, name="desperatiox"), r"card.json has \d+ of \d+ bytes"),
    "cut short": (spoil(CLAIM[0], b"x"), r"directions.safetensors has 1 of \d+ bytes"),
    "a pickle beside": (spoil("probe.pkl", pickle.dumps(Boom())), "it holds probe.pkl"),
    "a sealed pickle beside": (spoil("probe.pkl", pickle.dumps(Boom()), sealed=True), "it holds probe.pkl"),
    "a pickle inside": (spoil(CLAIM[0], pickle.dumps(Boom()), sealed=True), "not a file of directions"),
    "code": (spoil("interp.py", b"print('hello')"), "it holds interp.py"),
    "a folder": (spoil("more/x.bin", b"x"), "it holds more"),
    "no manifest": (spoil("manifest.json"), "it has no manifest"),
    "an odd manifest": (spoil("manifest.json", b'{"files": 3}'), "its manifest is none of this toolkit"),
    "no json": (spoil("manifest.json", b"["), "it is not JSON"),
    "no directions": (spoil(CLAIM[0]), "it is no probe: it lacks directions.safetensors"),
    "no recipe": (spoil("recipe.toml"), "recipe.toml is missing"),
    "an odd recipe": (spoil("recipe.toml", b"x = 1"), "recipe.toml has 5 of"),
    "a card without measures": (card(measures=None), "its card or doctor.json does not read"),
    "a card of another format": (card(format=1), "not a card of format 2"),
    "a card of other directions": (card(directions=["x@L0.resid_post"]), "card and directions name different"),
    "a way out": (card(name="../../out"), "'../../out' is no name of a probe"),
    "a dot": (card(name=".."), "'..' is no name of a probe"),
}


@pytest.mark.parametrize(("change", "said"), SPOILT.values(), ids=SPOILT)
def test_what_is_not_whole_or_not_a_probe_is_refused(
    shared: Path,
    here: Workspace,
    organism: Model,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    said: str,
) -> None:
    monkeypatch.chdir(here.root)
    change(shared)
    with pytest.raises(StoreError, match=said):
        pull(shared, here, model=organism)
    assert list(here.root.iterdir()) == [], "nothing was kept and nothing was unpickled"


def test_a_place_without_a_probe_is_named(here: Workspace, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such folder"):
        pull(tmp_path / "nowhere", here)
    with pytest.raises(StoreError, match="it is no probe: it lacks card.json and directions.safetensors"):
        pull(here.root, here)
    with pytest.raises(StoreError, match="it is no probe"):
        push(here.root, tmp_path / "out", workspace=here)
    with pytest.raises(ProbeError, match="no such probe"):
        find_probe(here, "desperation")


def test_a_model_s_name_never_leads_out_of_the_workspace(here: Workspace, tmp_path: Path) -> None:
    evil = other_version(tmp_path / "evil", name="../../evil")
    with pytest.raises(StoreError, match="its model is called '../../evil'"):
        pull(evil, here)


def test_another_probe_is_replaced_only_on_purpose(
    shared: Path, here: Workspace, organism: Model, tmp_path: Path
) -> None:
    folder, other = pull(shared, here, model=organism).folder, other_version(tmp_path / "other")
    before = contents(folder), contents(shared)
    with pytest.raises(StoreError, match="holds another probe already"):
        pull(other, here, model=organism)
    with pytest.raises(StoreError, match="holds another probe already"):
        push(other, shared, workspace=here)
    assert (contents(folder), contents(shared)) == before
    assert pull(other, here, model=organism, force=True).new
    assert push(other, shared, workspace=here, force=True).arrived
    assert all((place / CLAIM[0]).read_bytes() == (other / CLAIM[0]).read_bytes() for place in (folder, shared))
    assert read_folder(shared, hashes=True)


def test_force_never_replaces_what_is_no_probe(here: Workspace, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    for place in (tmp_path / "thesis", tmp_path / "thesis" / "chapter.tex"):
        with pytest.raises(StoreError, match="exists and is no probe .it holds chapter.tex"):
            push(SHIPPED, place, workspace=here, force=True)
    assert contents(tmp_path / "thesis") == {"chapter.tex": b"years of work"}


def test_a_pull_killed_at_any_system_call_leaves_the_old_probe_or_the_new(
    shared: Path, here: Workspace, organism: Model, tmp_path: Path
) -> None:
    """The child is killed at its first, second, ... call that changes the disk, until it lives to the end."""
    folder = pull(other_version(tmp_path / "other"), here, model=organism).folder
    old, seen = contents(folder), []
    for fatal in count(1):
        child = os.fork()
        if child == 0:
            calls = count(1)

            def deadly(function: Callable, calls: count = calls, fatal: int = fatal) -> Callable:
                def call(*args: object, **options: object) -> object:
                    if next(calls) == fatal:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return function(*args, **options)

                return call

            for name in ("fsync", "replace", "rename", "mkdir"):
                setattr(os, name, deadly(getattr(os, name)))
            pull(shared, here, model=organism, force=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        seen.append("old" if contents(folder) == old else "new")
        if seen[-1] == "new":
            assert (
                read_folder(folder, hashes=True)
                and (folder / CLAIM[0]).read_bytes() == (shared / CLAIM[0]).read_bytes()
            )
        if os.WIFEXITED(status):
            break
        assert os.WTERMSIG(status) == signal.SIGKILL
    assert seen[0] == "old" and seen[-1] == "new" and len(seen) > 8


# -- the page


def test_every_number_of_the_page_is_the_card_s(shared: Path) -> None:
    told = ProbeCard.load(SHIPPED)
    loaded = ModelCard.load(shared / "README.md", ignore_metadata_errors=False)
    text, data = loaded.text, loaded.data
    for measure in told.measures:
        assert (
            f"| `{measure.name}` | {measure.site} | {measure.auroc:.3f} | {measure.low:.3f} to {measure.high:.3f} |"
            in text
        )
    counts = told.classes
    for number in (counts.positive, counts.negative, counts.positive_groups, counts.negative_groups):
        assert f" {number} " in text
    assert told.model.weights in text and told.data["transcripts"] in text and told.concept in text
    assert all(heading in text for heading in ("## What it reads", "## Known confounds", "## Not for use", "```python"))
    assert data.to_dict()["library_name"] == "interp" and data.eval_results is not None
    best = told.best("logistic")
    assert (f"AUROC of logistic at {best.site}", round(best.auroc, 4)) in {
        (result.metric_name, result.metric_value) for result in data.eval_results
    }
    assert "base_model" not in data.to_dict(), "organism is no repository of the hub"


def test_a_hub_model_is_named_as_base_and_hostile_text_stays_text() -> None:
    told, directions = ProbeCard.load(SHIPPED), load_directions(SHIPPED / CLAIM[0])
    told = replace(
        told, model=replace(told.model, name="maker/model-1b"), concept="x<script>alert(1)</script>\n# y {{ 7*7 }}"
    )
    loaded = ModelCard(page(told, directions, source="someone/x").decode())
    assert loaded.data.to_dict()["base_model"] == "maker/model-1b"
    assert loaded.data.to_dict()["base_model_relation"] == "adapter"
    assert "interp probe pull someone/x --model maker/model-1b" in loaded.text
    assert "<script>" not in loaded.text and "\n# y" not in loaded.text and "{{ 7*7 }}" in loaded.text


# -- the command line


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def test_the_commands_push_and_pull(
    here: Workspace, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert said(capsys, "probe", "push", "desperation", "--to", out, "-w", ROOT)[:2] == (0, f"The probe is in {out}\n")
    status, text, _ = said(capsys, "probe", "pull", out, "-w", here.root)
    assert status == 0 and "desperation/organism\nIt was fitted on organism, the same weights" in text
    status, _, err = said(capsys, "probe", "pull", tmp_path, "-w", here.root)
    assert status == 1 and err.startswith("interp: pulling") and err.count("\n") == 1
    other_version(here.probes / "desperation" / "maker--model-1b", name="maker/model-1b")
    status, _, err = said(capsys, "probe", "push", "desperation", "--to", out, "-w", here.root)
    assert status == 1 and "fitted on 2 models: maker/model-1b, organism. Name one with --model" in err
    words = ("probe", "push", "desperation", "--to", tmp_path / "second", "-w", here.root, "--model", "maker/model-1b")
    assert said(capsys, *words)[0] == 0


def test_offline_the_folder_is_written_and_the_upload_explained(
    here: Workspace, capsys: pytest.CaptureFixture[str], organism: Model
) -> None:
    status, text, _ = said(capsys, "probe", "push", SHIPPED, "--to", "hf://someone/probe", "-w", here.root)
    folder = here.runs / "share" / "someone--probe"
    assert status == 1 and "Not uploaded: the hub is switched off here by HF_HUB_OFFLINE." in text
    assert f"hf upload someone/probe {folder} ." in text
    assert pull(folder, here, model=organism).new, "what is to be uploaded is a whole probe"
    status, _, err = said(capsys, "probe", "pull", "hf://someone/probe", "-w", here.root)
    assert status == 1 and err.count("\n") == 1 and "HF_HUB_OFFLINE. Try again online" in err


def test_fitting_stays_the_default_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("name = 3")
    for words in (["probe", tmp_path / "recipe.toml"], ["probe", "fit", tmp_path / "recipe.toml"]):
        status, _, err = said(capsys, *words)
        assert status == 1 and "reading recipe recipe.toml" in err
    status, _, err = said(capsys, "probe", "--dry-run", tmp_path / "none.toml")
    assert status == 1 and "reading recipe none.toml" in err
    text = said(capsys, "probe", "--help")[1]
    assert all(word in text for word in ("push", "pull", "fit", "--dry-run", "--device-map", "A recipe (TOML)"))


def test_a_name_with_one_slash_is_a_folder_where_one_is_there(
    here: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert push(SHIPPED, "someone/probe", workspace=here).repository == "someone/probe"
    (tmp_path / "someone").mkdir()
    assert push(SHIPPED, "someone/probe", workspace=here).folder.resolve() == tmp_path / "someone" / "probe"
    assert pull("someone/probe", here).new
    for bad in ("hf://someone", "hf://../x", "hf://a/b/c"):
        with pytest.raises(InterpError, match="no name of a repository"):
            push(SHIPPED, bad, workspace=here)
        with pytest.raises(InterpError, match="no name of a repository"):
            pull(bad, here)


# -- a hub, on this machine

AGAINST_A_HUB = """
import sys
from pathlib import Path
from interp.errors import InterpError
from interp.sharing import pull, push
from interp.store import Workspace

def tell(function, *words, **options):
    try:
        got = function(*words, **options)
        print(getattr(got, "url", None) or getattr(got, "unreached", None) or got.new)
    except InterpError as error:
        print(error)

probe, other, here = map(Path, sys.argv[1:4])
here = Workspace(here)
tell(push, probe, "hf://someone/probe", workspace=here)
tell(push, probe, "hf://someone/probe", workspace=here)
tell(push, other, "hf://someone/probe", workspace=here)
tell(pull, "hf://someone/probe", here)
tell(push, other, "hf://someone/probe", workspace=here, force=True)
tell(pull, "hf://someone/probe", here)
tell(pull, "hf://someone/probe", here, force=True)
tell(pull, "hf://someone/nothing", here)
tell(pull, "hf://someone/pickled", here)
tell(push, probe, "hf://someone/pickled", workspace=here, force=True)
"""


def test_a_repository_of_a_hub_takes_and_gives_a_probe(here: Workspace, tmp_path: Path) -> None:
    """The client is the real one; only the server is ours, and takes every file as it is, in one commit."""
    other = other_version(tmp_path / "other")
    with hub() as server:
        server.repositories["someone/pickled"] = [{name: b"x" for name in ("card.json", "pytorch_model.bin")}]
        env = os.environ | {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
        env |= {"HF_TOKEN": "hf_of_the_test", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        words = [sys.executable, "-c", AGAINST_A_HUB, str(SHIPPED), str(other), str(here.root)]
        done = subprocess.run(words, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[0] == lines[1] == lines[4] == f"{server.url}/someone/probe"
        assert "someone/probe holds another probe already" in lines[2] and "holds another probe already" in lines[5]
        assert (lines[3], lines[6]) == ("True", "True")
        assert "the hub has no someone/nothing" in lines[7]
        assert "it holds pytorch_model.bin" in lines[8] and "it holds pytorch_model.bin" in lines[9]
        assert not any("pytorch_model" in asked for asked in server.asked), "it was not even downloaded"
        first, last = server.repositories["someone/probe"][1], server.repositories["someone/probe"][-1]
        assert len(server.repositories["someone/pickled"]) == 1
    assert (
        first["card.json"] == (SHIPPED / "card.json").read_bytes()
        and b"interp probe pull someone/probe" in first["README.md"]
    )
    assert (
        last[CLAIM[0]]
        == (other / CLAIM[0]).read_bytes()
        == (here.probes / "desperation/organism" / CLAIM[0]).read_bytes()
    )
    env["HF_HOME"] = str(tmp_path / "another")
    words = [sys.executable, "-m", "interp", "probe", "pull", "hf://someone/probe", "-w", str(here.root)]
    gone = subprocess.run(words, env=env, capture_output=True, text=True)
    assert (
        gone.returncode == 1 and "the hub cannot be reached from here" in gone.stderr and gone.stderr.count("\n") == 1
    )


def test_the_refusals_would_notice_a_reader_that_trusts(shared: Path, here: Workspace) -> None:
    """Control: the spoilt folders above would have been taken by a reader that only copies."""
    flip(CLAIM[0], -1)(shared)
    target = here.probes / "desperation" / "organism"
    shutil.copytree(shared, target)
    with pytest.raises(StoreError, match="has changed"):
        read_folder(target, hashes=True)
    assert load_directions(target / CLAIM[0]), "the flipped bit still parses"
