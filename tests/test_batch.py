"""A batch finishes what it can, keeps what it finished, and comes out the same however it was cut up or cut short."""

import csv
import errno
import gc
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from interp.errors import InterpError, ModelError, ProbeError
from interp.jobs import Recipe
from interp.jobs.batch import Batch, ProbeJob, batch, batch_cost, parse_shard
from interp.jobs.identity import job_fingerprint
from interp.jobs.summary import COLUMNS, facts, to_csv, write_summary
from interp.models import Model, load
from interp.probes import ProbeCard
from interp.report.probes import write_index
from interp.store import Rows, Workspace, read_folder
from interp.testing import tiny_folder
from interp.transcripts import Message, Transcript, write_jsonl

RECIPE = """
name = "NAME"
concept = "an appeal that nobody hears"
sites = ["1"]
methods = ["difference_of_means"]
folds = 3
n_null = 19
seed = SEED
[data]
path = "texts.jsonl"
positive = { field = "label", in = ["threat"] }
negative = { field = "label", in = ["benign"] }
reference = { field = "label", in = ["benign"], limit = 4 }
"""
ENDINGS = {"threat": "nobody would hear the appeal", "benign": "all was done today"}
NAMES = ("first", "second")


def texts(folder: Path, *, greeting: str = "lunch") -> None:
    found = []
    for i in range(24):
        label = ("threat", "benign")[i // 2 % 2]
        said = f"{('Ada', 'Bob', 'Kyle')[i % 3]} and {greeting} {i}: {ENDINGS[label]}"
        found.append(Transcript(f"t{i}", (Message("text", said),), f"g{i // 2}", label=label))
    write_jsonl(folder / "texts.jsonl", found)


def prepare(folder: Path) -> Path:
    """A workspace with a tiny model, texts and two recipes."""
    tiny_folder(folder / "tiny")
    texts(folder)
    for seed, name in enumerate(NAMES):
        (folder / f"{name}.toml").write_text(RECIPE.replace("NAME", name).replace("SEED", str(seed)))
    return folder


def job(folder: Path, name: str = "first") -> ProbeJob:
    return ProbeJob(Recipe.load(folder / f"{name}.toml"), str(folder / "tiny"), source=f"{name}.toml")


def both(folder: Path) -> list[ProbeJob]:
    return [job(folder, name) for name in reversed(NAMES)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Batch]:
    """A workspace in which a batch of both recipes ran to its end, undisturbed."""
    folder = prepare(tmp_path_factory.mktemp("finished"))
    return folder, batch(both(folder), load, workspace=Workspace(folder))


@pytest.fixture
def again(finished: tuple[Path, Batch], tmp_path: Path) -> Path:
    """A copy of the finished workspace."""
    return Path(shutil.copytree(finished[0], tmp_path / "again"))


def made(folder: Path) -> dict[str, bytes]:
    """Every file that a batch leaves for others, by its path, but for what tells of the run itself."""
    found = {path for place in ("probes", "runs") for path in (folder / place).rglob("*") if path.is_file()}
    names = {path.relative_to(folder).as_posix(): path for path in found if not path.name.startswith(("jobs", "run."))}
    return {name: path.read_bytes() for name, path in names.items()}


def started(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    """`interp probe` on both recipes as a process of its own."""
    recipes = [f"{name}.toml" for name in NAMES]
    command = [sys.executable, "-m", "interp", "probe", *recipes, "-m", "tiny", "-w", ".", "--json", *words]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe)


def states(found: Batch) -> dict[str, str]:
    return {row["name"]: row["state"] for row in found.rows}


# -- what a batch leaves


def test_a_batch_leaves_whole_probes_rows_and_one_table(finished: tuple[Path, Batch]) -> None:
    folder, found = finished
    assert states(found) == dict.fromkeys(NAMES, "done") and not found.failed
    for name in NAMES:
        where = folder / "probes" / name / "tiny"
        assert read_folder(where, hashes=True)
        assert ProbeCard.load(where).job == job(folder, name).fingerprint(load(folder / "tiny").identity)
    assert {path.name for path in found.folder.iterdir()} == {"jobs.jsonl", "run.json", "summary.csv", "summary.html"}
    kept = "".join(path.read_text() for path in found.folder.iterdir())
    assert str(folder) not in kept, "no absolute path in any file"
    rows = list(csv.DictReader(io.StringIO((found.folder / "summary.csv").read_text())))
    assert [(row["probe"], row["model"], row["state"]) for row in rows] == [(name, "tiny", "done") for name in NAMES]


def test_the_table_says_what_the_card_says(finished: tuple[Path, Batch]) -> None:
    folder, found = finished
    card = ProbeCard.load(folder / "probes" / "first" / "tiny")
    row, evidence = found.rows[0], card.evidence
    assert evidence is not None and evidence.operating is not None and evidence.power is not None
    assert f"{row['best']['name']}@{row['best']['site']}" == evidence.headline
    assert row["best"]["auroc"] == card.best("difference_of_means").auroc
    compared = [one for one in evidence.baselines if one.beaten is not None]
    assert row["baselines"]["compared"] == len(compared) > 0
    assert row["baselines"]["beaten"] == sum(bool(one.beaten) for one in compared)
    assert row["recall"]["value"] == evidence.operating.points[0].recall.value
    assert row["signal"]["smallest"] == evidence.power.smallest and row["signal"]["largest"] == evidence.power.largest


def test_figures_that_a_card_lacks_are_none_and_not_zero(finished: tuple[Path, Batch]) -> None:
    card = ProbeCard.load(finished[0] / "probes" / "first" / "tiny")
    bare = facts(replace(card, evidence=None))
    keys = ("best", "choosing", "baselines", "recall", "signal")
    assert [bare[key] for key in keys] == [None] * 5 and len(bare["measures"]) == len(card.measures)
    assert None not in [facts(card)[key] for key in keys], "control"
    text = to_csv([{"name": "x", "model": "m", "state": "not yet"}])
    assert text.splitlines()[1] == "x,m,not yet" + "," * (len(COLUMNS) - 3)


# -- models


def test_every_model_is_loaded_once_and_freed_before_the_next_and_failures_do_not_stop_the_rest(
    finished: tuple[Path, Batch], tmp_path: Path
) -> None:
    source = finished[0]
    whole = replace(job(source), model="two")
    broken = replace(whole, recipe=whole.recipe.model_copy(update={"name": "a-broken", "folds": 40}))
    jobs = [whole, broken, replace(broken, model="one")]
    loaded: list[tuple[str, Any]] = []

    def fresh(name: str) -> Model:
        assert all(model() is None for _, model in loaded), "the model before is still in memory"
        gc.collect()
        made_now = load(source / "tiny")
        made_now = Model(made_now.hf, made_now.tokenizer, name=name)
        loaded.append((name, weakref.ref(made_now.hf)))
        return made_now

    found = batch(jobs, fresh, workspace=Workspace(tmp_path))
    assert [name for name, _ in loaded] == ["one", "two"]
    assert [(row["model"], row["name"], row["state"]) for row in found.rows] == [
        ("one", "a-broken", "failed"),
        ("two", "a-broken", "failed"),
        ("two", "first", "done"),
    ]
    assert found.failed == 2 and "splitting" in found.rows[0]["error"]
    page = found.summary.read_text()
    assert "1 fitted, 2 failed." in page and "groups with positive rows" in page


def test_a_model_that_does_not_load_fails_its_jobs_with_its_sentence(
    finished: tuple[Path, Batch], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(name: str) -> Model:
        if name == "a":
            raise ModelError("loading model a", "no such folder", "check it")
        raise ValueError(f"odd weights in {tmp_path}/b")

    jobs = [replace(one, model=name) for one in both(finished[0]) for name in "ab"]
    found = batch(jobs, refuse, workspace=Workspace(tmp_path))
    assert [row["error"] for row in found.rows] == ["loading model a: no such folder. Check it."] * 2 + [
        "ValueError: odd weights in b"
    ] * 2
    assert caplog.text.count("Traceback") == 1, "what nobody foresaw is shown whole, what was foreseen is a sentence"


def test_a_full_disk_stops_the_batch_at_once(finished: tuple[Path, Batch], tmp_path: Path) -> None:
    asked: list[str] = []

    def full(name: str) -> Model:
        asked.append(name)
        raise OSError(errno.ENOSPC if name == "b" else errno.EACCES, "refused")

    jobs = [replace(job(finished[0]), model=name) for name in "abc"]
    with pytest.raises(OSError, match="refused"):
        batch(jobs, full, workspace=Workspace(tmp_path))
    assert asked == ["a", "b"], "another error goes on, a full disk does not"


# -- resuming


def test_resuming_leaves_whole_probes_of_the_same_job_alone(again: Path) -> None:
    before = {path: path.stat().st_ino for path in (again / "probes").rglob("*")}
    rows = next((again / "runs").glob("probe-*/jobs.jsonl")).read_bytes()
    pages = made(again)
    found = batch(both(again), load, workspace=Workspace(again), resume=True)
    assert states(found) == dict.fromkeys(NAMES, "skipped")
    assert {path: path.stat().st_ino for path in (again / "probes").rglob("*")} == before
    assert (found.folder / "jobs.jsonl").read_bytes() == rows and made(again) == pages


def test_resuming_turns_to_what_is_broken_or_of_other_data(again: Path) -> None:
    """What is turned to is stopped at once, and so fails; what is left alone is never told of."""

    def stop(*_: object) -> None:
        raise ProbeError("reading", "stopped", "go on")

    def resumed() -> tuple[dict[str, str], Path]:
        found = batch(both(again), load, workspace=Workspace(again), resume=True, on_progress=stop)
        return states(found), found.folder

    directions = again / "probes" / "first" / "tiny" / "directions.safetensors"
    whole = directions.read_bytes()
    directions.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert (broken := resumed())[0] == {"first": "failed", "second": "skipped"}
    directions.write_bytes(whole)
    assert resumed()[0] == dict.fromkeys(NAMES, "skipped"), "control"
    texts(again, greeting="dinner")
    assert (other := resumed())[0] == dict.fromkeys(NAMES, "failed") and other[1] != broken[1]


def test_a_job_is_its_recipe_data_model_and_version_and_not_its_place(
    finished: tuple[Path, Batch], again: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = load(again / "tiny").identity
    one = job(again)
    name = one.fingerprint(identity)
    assert job(finished[0]).fingerprint(identity) == name == replace(one, sites=("1",)).fingerprint(identity)
    others = {
        replace(one, sites=("0",)).fingerprint(identity),
        one.fingerprint(replace(identity, weights="others")),
        job(again, "second").fingerprint(identity),
    }
    texts(again, greeting="dinner")
    others.add(one.fingerprint(identity))
    (again / "texts.jsonl").unlink()
    others.add(one.fingerprint(identity))
    texts(again)
    monkeypatch.setattr("importlib.metadata.version", lambda _: "9.9")
    others.add(one.fingerprint(identity))
    monkeypatch.undo()
    assert len(others) == 6 and name not in others and one.fingerprint(identity) == name


def test_the_embedded_world_is_part_of_the_job(finished: tuple[Path, Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    of_files = Recipe.load(finished[0] / "first.toml")
    data = of_files.data.model_copy(update={"path": None, "organism": "agent", "n": 8})
    of_world, identity = of_files.model_copy(update={"data": data}), load(finished[0] / "tiny").identity
    before = [job_fingerprint(recipe, identity) for recipe in (of_files, of_world)]
    monkeypatch.setattr("interp.jobs.identity._world", lambda: "another world")
    after = [job_fingerprint(recipe, identity) for recipe in (of_files, of_world)]
    assert after[0] == before[0] and after[1] != before[1]


def test_a_killed_batch_that_is_resumed_equals_one_that_was_not(finished: tuple[Path, Batch], tmp_path: Path) -> None:
    for name in ("tiny", "first.toml", "second.toml", "texts.jsonl"):
        copy = shutil.copytree if (finished[0] / name).is_dir() else shutil.copy
        copy(finished[0] / name, tmp_path / name)
    process = started(tmp_path)
    log = tmp_path / "runs" / finished[1].folder.name / "jobs.jsonl"
    until = time.monotonic() + 120
    page = log.with_name("summary.html")
    while time.monotonic() < until and process.poll() is None:
        if page.is_file() and "1 fitted, 1 not done yet." in page.read_text():
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    assert [row["name"] for row in Rows(log).read()] == ["first"]
    assert not (tmp_path / "probes" / "second" / "tiny").exists(), "it was killed amid the second probe"
    kept = (tmp_path / "probes" / "first" / "tiny" / "card.json").stat().st_ino
    found = batch(both(tmp_path), load, workspace=Workspace(tmp_path), resume=True)
    assert states(found) == {"first": "skipped", "second": "done"}
    assert (tmp_path / "probes" / "first" / "tiny" / "card.json").stat().st_ino == kept
    assert made(tmp_path) == made(finished[0])


def test_an_interrupt_keeps_what_is_done(finished: tuple[Path, Batch], again: Path) -> None:
    def stop(one: ProbeJob, *_: object) -> None:
        if one.recipe.name == "second":
            raise KeyboardInterrupt

    shutil.rmtree(again / "runs")
    (again / "probes" / "second" / "tiny" / "card.md").unlink()
    before = made(again)
    with pytest.raises(KeyboardInterrupt):
        batch(both(again), load, workspace=Workspace(again), resume=True, on_progress=stop)
    folder = again / "runs" / finished[1].folder.name
    assert [(row["name"], row["state"]) for row in Rows(folder / "jobs.jsonl").read()] == [("first", "skipped")]
    assert "1 found whole and left alone, 1 not done yet." in (folder / "summary.html").read_text()
    after = made(again)
    assert {name: after[name] for name in before} == before, "what is there of the second stays as it was"


# -- shards


def test_two_shards_at_once_in_one_folder_make_the_whole(finished: tuple[Path, Batch], tmp_path: Path) -> None:
    for name in ("tiny", "first.toml", "second.toml", "texts.jsonl"):
        copy = shutil.copytree if (finished[0] / name).is_dir() else shutil.copy
        copy(finished[0] / name, tmp_path / name)
    shards = [started(tmp_path, "--shard", f"{i}/2") for i in (1, 2)]
    said = [shard.communicate(timeout=200) for shard in shards]
    assert [shard.returncode for shard in shards] == [0, 0], said
    names = [[one["name"] for one in json.loads(out)["jobs"]] for out, _ in said]
    assert names == [["first"], ["second"]]
    folder = tmp_path / "runs" / finished[1].folder.name
    assert sorted(path.name for path in folder.glob("jobs*")) == ["jobs-1-of-2.jsonl", "jobs-2-of-2.jsonl"]
    assert made(tmp_path) == made(finished[0])


def test_shards_part_the_jobs_however_they_are_given(finished: tuple[Path, Batch], tmp_path: Path) -> None:
    def refuse(name: str) -> Model:
        raise ModelError("loading", name, "no")

    jobs = [replace(job(finished[0], probe), model=model) for probe in NAMES for model in "cab"]
    parts = []
    for i, order in enumerate((jobs, jobs[::-1], jobs[3:] + jobs[:3], jobs), start=1):
        found = batch(order, refuse, workspace=Workspace(tmp_path), shard=(i, 4))
        parts.append([(row["model"], row["name"]) for row in found.rows])
    assert sum(parts, []) == [(model, name) for model in "abc" for name in NAMES]
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_the_last_shard_to_write_the_summary_has_seen_all_rows(tmp_path: Path) -> None:
    one, two = ({"name": name, "model": "m", "state": "failed", "error": "x"} for name in NAMES)
    answers = [[one], [one, two], [one, two]]
    write_summary(tmp_path, lambda: answers.pop(0))
    assert not answers and "second,m,failed" in (tmp_path / "summary.csv").read_text()
    calls: list[int] = []
    write_summary(tmp_path, lambda: [one] if calls.append(1) is None else [])
    assert len(calls) == 2, "control: where nothing came in between it is written once"


# -- bad input


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda jobs: [], "it has no jobs"),
        (lambda jobs: [*jobs, jobs[0]], r"second\.toml and second\.toml both write probes/second/tiny"),
        (lambda jobs: [replace(jobs[0], sites=("middle",))], "site 'middle': it does not parse"),
        (lambda jobs: [replace(jobs[0], sites=("1.resid",))], "no stream 'resid'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(
    finished: tuple[Path, Batch], tmp_path: Path, change: Any, said: str
) -> None:
    def never(name: str) -> Model:
        raise AssertionError(f"{name} was loaded")

    with pytest.raises(InterpError, match=said):
        batch(change(both(finished[0])), never, workspace=Workspace(tmp_path))
    with pytest.raises(InterpError, match=said):
        list(batch_cost(change(both(finished[0])), never))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3", ""])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ProbeError, match="shard"):
        parse_shard(text)
    assert parse_shard("2/3") == (2, 3), "control"


# -- the page


def test_the_page_escapes_what_it_shows_and_its_links_lead_to_cards(again: Path) -> None:
    folder = next((again / "runs").iterdir())
    found = {"name": "first", "model": "<i>m</i>", "state": "done", "folder": "probes/first/tiny"}
    lost = {"name": "x", "model": "m", "state": "failed", "error": "</li><script>alert(1)</script>"}
    page = write_index(folder, [found, lost]).read_text()
    assert "<i>m" not in page and "<script>alert" not in page and "&lt;i&gt;m" in page
    assert page.count("<script>") == 1 and "src=" not in page and "http://" not in page and "https://" not in page
    link = page.partition('href="')[2].partition('"')[0]
    assert (folder / link).resolve() == (again / "probes" / "first" / "tiny" / "card.md") and (folder / link).is_file()
    assert page.count("href=") == 1, "a probe that failed has no card"


def test_the_page_says_which_baselines_stand_and_where_one_percent_is_out_of_reach(tmp_path: Path) -> None:
    best = {"name": "lda", "site": "L1.resid_post", "auroc": 0.9, "low": 0.8, "high": 1.0, "p_value": 0.05}
    row = {
        "name": "x",
        "model": "m",
        "state": "done",
        "best": best | {"floor": 0.05},
        "baselines": {"compared": 5, "beaten": 4, "unbeaten": ["TF-IDF"]},
        "recall": {"rate": 0.043, "value": 0.5, "low": 0.25, "high": 0.75},
        "signal": {"method": "lda", "smallest": None, "largest": 3.0, "note": ""},
    }
    page = write_index(tmp_path, [row]).read_text()
    assert all(said in page for said in ("4 of 5", "not: TF-IDF", "50 %, at 4.3 %", "≤ 0.05<", "up to 3 sd"))
    row["baselines"] = {"compared": 5, "beaten": 5, "unbeaten": []}
    row["recall"] |= {"rate": 0.01}
    row["best"] |= {"p_value": 0.2}
    page = write_index(tmp_path, [row]).read_text()
    assert "all 5" in page and not any(said in page for said in ("not: ", "at 4.3 %", "≤ 0.05<")), "control"
