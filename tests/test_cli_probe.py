"""`interp probe` fits one recipe or many, says what it would cost, and shows what was found."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from interp.cli import main
from interp.probes import ProbeCard

RECIPE = """
name = "small"
concept = "desperation of the agent"
sites = ["1", "2"]
methods = ["difference_of_means"]
folds = 3
n_null = 19
[data]
organism = "agent"
n = 80
seed = 1
positive = { field = "meta.latent", above = 0.4 }
negative = { field = "meta.latent", below = 0.4 }
reference = { field = "meta.threat", in = ["routine"], limit = 8 }
"""
BROKEN = RECIPE.replace('"small"', '"broken"').replace("above = 0.4", "above = 40")


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of `interp probe`."""
    status = 0
    try:
        main(["probe", *map(str, words)])
    except SystemExit as stop:
        status = int(stop.code or 0)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the command fitted one of two recipes, at one site; the other recipe is broken."""
    where = tmp_path_factory.mktemp("workspace")
    (where / "small.toml").write_text(RECIPE)
    (where / "broken.toml").write_text(BROKEN)
    with pytest.raises(SystemExit) as stop:
        main(["probe", f"{where}/small.toml", f"{where}/broken.toml", "--sites", "1", "-w", str(where)])
    assert stop.value.code == 1
    return where


def test_many_recipes_make_one_table_and_exit_status_1_where_one_failed(fitted: Path, capsys: Any) -> None:
    words = [fitted / "small.toml", fitted / "broken.toml", "--sites", "1", "-w", fitted, "--resume"]
    status, out, _ = run(capsys, *words)
    assert status == 1 and "skipped  small on organism: difference_of_means@L1.resid_post AUROC 0." in out
    assert "failed   broken on organism: choosing the transcripts of probe broken: data.positive" in out
    assert Path(out.splitlines()[-1].removeprefix("The table of all is ")).is_file()
    status, out, _ = run(capsys, *words, "--json")
    told = json.loads(out)
    assert status == 1 and set(told) == {"jobs", "summary"}
    broken, small = told["jobs"]
    assert {key: broken[key] for key in ("name", "model", "state", "folder", "best", "measures")} == {
        "name": "broken",
        "model": "organism",
        "state": "failed",
        "folder": None,
        "best": None,
        "measures": [],
    }
    assert small["state"] == "skipped" and small["error"] is None and small["recipe"] == "small.toml"
    card = ProbeCard.load(Path(small["folder"]))
    assert [m["site"] for m in small["measures"]] == [str(m.site) for m in card.measures] == ["L1.resid_post"]
    assert small["best"] == small["measures"][0] and small["best"]["auroc"] == card.measures[0].auroc


def test_one_recipe_prints_its_card_and_where_the_probe_is(fitted: Path, capsys: Any) -> None:
    words = [fitted / "small.toml", "--sites", "1", "-w", fitted, "--resume"]
    status, out, _ = run(capsys, *words)
    folder = fitted / "probes" / "small" / "organism"
    assert status == 0 and out.startswith("# Probe `small`")
    assert out.endswith(f"The probe is in {folder} (it was there already)\n")
    status, out, err = run(capsys, fitted / "broken.toml", "-w", fitted)
    assert (status, out) == (1, "") and "interp: choosing the transcripts of probe broken" in err


def test_the_cost_of_every_job_is_stated_and_nothing_runs(fitted: Path, tmp_path: Path, capsys: Any) -> None:
    status, out, _ = run(capsys, fitted / "small.toml", "-w", tmp_path, "--dry-run")
    assert status == 0 and "small on organism:" in out and "transcripts: 80 texts" in out
    words = [fitted / "small.toml", fitted / "broken.toml", "-w", tmp_path, "--dry-run"]
    status, out, err = run(capsys, *words)
    assert status == 1 and "transcripts: 80 texts" in out and "data.positive (meta.latent > 40)" in err
    status, out, _ = run(capsys, *words, "--json")
    broken, small = json.loads(out)["jobs"]
    assert status == 1 and broken["cost"] == {} and "data.positive" in broken["error"]
    assert small["cost"]["transcripts"]["transcripts"] == 80 and small["error"] is None
    one = json.loads(run(capsys, words[0], *words[2:], "--sites", "1", "--json")[1])["jobs"][0]["cost"]
    assert one["transcripts"]["bytes"] * 2 == small["cost"]["transcripts"]["bytes"], "one of two sites"
    assert not list(tmp_path.iterdir())


def test_show_prints_the_card_for_people_and_for_machines(fitted: Path, capsys: Any, monkeypatch: Any) -> None:
    folder = fitted / "probes" / "small" / "organism"
    page = (folder / "card.md").read_text()
    assert run(capsys, "show", "small", "-w", fitted)[:2] == (0, page + "\n")
    assert run(capsys, "show", folder, "-w", fitted, "--model", "organism")[:2] == (0, page + "\n")
    assert json.loads(run(capsys, "show", "small", "-w", fitted, "--json")[1]) == json.loads(
        (folder / "card.json").read_bytes()
    )
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    status, out, _ = run(capsys, "show", "small", "-w", fitted)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert status == 0 and "\x1b[" in out and "|---|" not in plain and "───" in plain, "set for a terminal"
    assert "difference_of_means" in plain and f"{ProbeCard.load(folder).measures[0].auroc:.3f}" in plain


def test_show_is_not_misled_by_what_a_killed_writer_left(fitted: Path, capsys: Any) -> None:
    debris = fitted / "probes" / "small" / ".organism.0123abcd.tmp"
    debris.mkdir()
    (debris / "card.json").write_text("{}")
    assert run(capsys, "show", "small", "-w", fitted)[0] == 0
    (debris / "card.json").unlink()
    debris.rename(other := debris.with_name("another"))
    (other / "card.json").write_text("{}")
    status, _, err = run(capsys, "show", "small", "-w", fitted)
    assert status == 1 and "fitted on 2 models: another, organism" in err, "control"
    (other / "card.json").unlink()


def test_show_makes_the_page_again_where_it_is_gone(fitted: Path, capsys: Any) -> None:
    page = fitted / "probes" / "small" / "organism" / "card.md"
    text = page.read_text()
    page.unlink()
    assert run(capsys, "show", "small", "-w", fitted)[1] == text + "\n"
    page.write_text(text)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("small.toml", "missing.toml"), "reading recipe missing.toml"),
        (("small.toml", "small.toml"), "both write probes/small/organism"),
        (("small.toml", "-m", "organism", "-m", "organism"), "both write probes/small/organism"),
        (("small.toml", "--shard", "3/2"), "shard 3/2: there is no such part"),
        (("small.toml", "--shard", "first"), "Write i/n"),
        (("small.toml", "--sites", "1,middle"), "site 'middle': it does not parse"),
        (("small.toml", "-m", "no/where/at/all"), "no such folder"),
        (("show", "nothing"), "the workspace has no such probe"),
        (("show", "../small"), "the workspace has no such probe"),
        (("show", "small", "-m", "other"), "no such probe fitted on other"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_gets_one_sentence_and_leaves_nothing(
    fitted: Path, words: tuple[str, ...], said: str, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(fitted)
    before = {path for path in (fitted / "probes").rglob("*")}
    status, out, err = run(capsys, *words, "-w", ".")
    sentence = [line for line in err.splitlines() if line.startswith("interp: ")]
    assert (status, out) == (1, "") and len(sentence) == 1 and said in sentence[0] and "Traceback" not in err
    assert {path for path in (fitted / "probes").rglob("*")} == before


def test_ctrl_c_amid_a_batch_says_how_finished_probes_are_left_alone(
    fitted: Path, capsys: Any, monkeypatch: Any
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("interp.models.load", interrupt)
    words = [fitted / "small.toml", fitted / "broken.toml", "-w", fitted]
    status, _, err = run(capsys, *words)
    assert status == 130 and "add --resume" in err and "what was finished is kept" in err
    assert "add --resume" not in run(capsys, *words, "--resume")[2], "control"


def test_help_names_show_and_what_a_batch_takes(capsys: Any) -> None:
    out = run(capsys, "--help")[1]
    assert all(word in out for word in ("show", "push", "pull", "fit", "--resume", "--shard", "--sites", "--dry-run"))
