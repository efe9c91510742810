"""Kill the writer anywhere: the reader sees a whole artifact or none. Identity is content, and only content."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, make_dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from interp.errors import StoreError
from interp.store import (
    Rows,
    RunRecord,
    fingerprint,
    folders,
    new_folder,
    read_folder,
    read_json,
    records,
    seal,
    workspace,
    write_bytes,
    write_json,
)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


# -- identity


@dataclass(frozen=True)
class Recipe:
    layers: tuple[int, ...]
    name: str = "desperation"


Plan = make_dataclass("Plan", ["layers", "name"])
BASE = {"recipe": Recipe((1, 2)), "vector": np.arange(3.0), "path": PurePosixPath("a/b"), "strength": 1.5}

SAME = {
    "order of keys": dict(reversed(BASE.items())),
    "list for tuple": BASE | {"recipe": Recipe([1, 2])},  # type: ignore[arg-type]
    "path as text": BASE | {"path": "a/b"},
    "NumPy scalar": BASE | {"strength": np.float64(1.5)},
    "memory layout": BASE | {"vector": np.arange(6.0)[::2] / 2},
}
DIFFERENT = {
    "order of a list": BASE | {"recipe": Recipe((2, 1))},
    "dtype": BASE | {"vector": np.arange(3, dtype=np.float32)},
    "shape": BASE | {"vector": np.arange(3.0)[None]},
    "one number": BASE | {"vector": np.array([0.0, 1.0, np.nextafter(2.0, 3.0)])},
    "key": {("Path" if key == "path" else key): value for key, value in BASE.items()},
    "class of a dataclass": BASE | {"recipe": Plan((1, 2), "desperation")},
    "array for list": BASE | {"vector": [0.0, 1.0, 2.0]},
    "int for float": BASE | {"strength": 1},
    "text for number": BASE | {"strength": "1.5"},
    "None": BASE | {"strength": None},
    "True for 1": BASE | {"strength": True},
    "one key more": BASE | {"seed": None},
}


@pytest.mark.parametrize("value", SAME.values(), ids=SAME.keys())
def test_the_fingerprint_ignores(value: dict) -> None:
    assert fingerprint(value) == fingerprint(BASE)


def test_the_fingerprint_tells_all_of_these_apart() -> None:
    prints = {name: fingerprint(value) for name, value in (DIFFERENT | {"base": BASE}).items()}
    assert len(set(prints.values())) == len(prints)


def test_the_fingerprint_is_the_same_in_another_process() -> None:
    code = "from interp.store import fingerprint; print(fingerprint({'b': [1, 'ü'], 'a': None}))"
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert other.stdout.strip() == fingerprint({"a": None, "b": (1, "ü")})


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        np.float32("nan"),
        np.array([np.nan]),
        {1: 2},
        {1, 2},
        object(),
        np.array([None]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_has_no_canonical_form_has_no_fingerprint(value: Any) -> None:
    with pytest.raises(StoreError, match="has no canonical form"):
        fingerprint({"value": [value]})


# -- one file


def test_an_interrupted_write_leaves_the_old_file_and_no_debris(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "card.json"
    write_json(path, {"auroc": None})

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), crash)
            write_json(path, {"auroc": 1.0})
        assert read_json(path) == {"auroc": None}
        assert names(path.parent) == ["card.json"]


def test_chunks_are_written_as_one_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"head", memoryview(np.arange(3, dtype=np.uint8)), bytearray(b"tail"))
    assert (tmp_path / "a").read_bytes() == b"head\x00\x01\x02tail"


def test_json_takes_nouns_and_refuses_what_is_undefined(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"recipe": Recipe((1,)), "path": Path("a/b"), "n": np.int64(3), "text": "\u2028ü"})
    expected = {"recipe": {"layers": [1], "name": "desperation"}, "path": "a/b", "n": 3, "text": "\u2028ü"}
    assert read_json(path) == expected
    for value in (float("nan"), np.float32("inf"), object(), "\ud800"):
        with pytest.raises(StoreError, match="writing"):
            write_json(path, value)
    assert read_json(path) == expected


def test_a_missing_and_a_broken_file_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such file. Check the path"):
        read_json(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(StoreError, match="not JSON .* Delete it and make it again"):
        read_json(tmp_path / "broken.json")


# -- a folder, whole or absent


def fill(folder: Path, word: bytes = b"new") -> None:
    for name in ("a.bin", "b.bin", "inner/c.bin"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(word * 100)


def state(path: Path) -> bytes | None:
    """The word a whole artifact is filled with; None without one; an error if it is not whole."""
    if not path.exists():
        return None
    words = {(path / name).read_bytes()[:3] for name in read_folder(path, hashes=True).files}
    assert len(words) == 1 and len(read_folder(path).files) == 3
    return words.pop()


def test_a_finished_folder_is_whole_and_its_manifest_names_every_file(tmp_path: Path) -> None:
    with new_folder(tmp_path / "set") as folder:
        fill(folder)
        assert not (tmp_path / "set").exists()
    assert state(tmp_path / "set") == b"new"
    assert list(read_folder(tmp_path / "set").files) == ["a.bin", "b.bin", "inner/c.bin"]
    assert names(tmp_path) == ["set"]


STEPS = ["fsync", "sha256", "write_json", "_put_in_place"]


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("step", ["inside", *STEPS])
def test_a_writer_that_raises_anywhere_leaves_what_was_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, replace: bool
) -> None:
    target = tmp_path / "set"
    if replace:
        with new_folder(target) as folder:
            fill(folder, b"old")

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    if step != "inside":
        monkeypatch.setattr(folders, step, crash)
    with pytest.raises(KeyboardInterrupt), new_folder(target, replace=replace) as folder:
        fill(folder)
        if step == "inside":
            crash()
    monkeypatch.undo()
    assert state(target) == (b"old" if replace else None)
    assert names(tmp_path) == (["set"] if replace else [])


KILLED = """
import itertools, os, signal, sys
from pathlib import Path
from interp.store import files, folders, new_folder
target, fatal, replace = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "replace"
calls = itertools.count(1)
def deadly(function):
    def call(*args, **kwargs):
        if next(calls) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return call
for name in ("fsync", "replace", "rename", "mkdir"):
    setattr(os, name, deadly(getattr(os, name)))
folders._traded = deadly(folders._traded)
folders.shutil.rmtree = deadly(folders.shutil.rmtree)
with new_folder(target, replace=replace) as folder:
    for name in ("a.bin", "b.bin", "inner/c.bin"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"new" * 100)
print(next(calls))
"""


@pytest.mark.parametrize("mode", ["fresh", "replace"])
def test_a_writer_killed_at_any_system_call_leaves_a_whole_artifact_or_none(tmp_path: Path, mode: str) -> None:
    before, seen, fatal = (b"old" if mode == "replace" else None), [], 0
    while True:
        fatal += 1
        target = tmp_path / str(fatal) / "set"
        if mode == "replace":
            with new_folder(target) as folder:
                fill(folder, b"old")
        words = [sys.executable, "-c", KILLED, str(target), str(fatal), mode]
        done = subprocess.run(words, capture_output=True, text=True)
        seen.append(state(target))
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
    assert set(seen) == {before, b"new"}
    assert seen == sorted(seen, key=lambda word: word == b"new"), "once the new one is there it stays"
    assert fatal > 10


def test_the_kill_tests_would_notice_a_writer_that_works_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    fill(folder)
    with pytest.raises(StoreError, match="no manifest, so it was never finished"):
        state(folder)
    seal(folder)
    (folder / "b.bin").write_bytes(b"new")
    with pytest.raises(StoreError, match=r"b.bin has 3 of 300 bytes"):
        state(folder)


def test_a_damaged_folder_is_refused_and_every_fault_named(tmp_path: Path) -> None:
    with new_folder(tmp_path / "set") as folder:
        fill(folder)
    (tmp_path / "set" / "a.bin").unlink()
    (tmp_path / "set" / "b.bin").write_bytes(b"x" * 300)
    (tmp_path / "set" / "inner" / "c.bin").write_bytes(b"x")
    with pytest.raises(StoreError) as caught:
        read_folder(tmp_path / "set")
    assert caught.value.found == "a.bin is missing; inner/c.bin has 1 of 300 bytes"
    with pytest.raises(StoreError, match="b.bin has changed since it was written"):
        read_folder(tmp_path / "set", hashes=True)


def test_an_artifact_is_not_overwritten_by_accident(tmp_path: Path) -> None:
    with new_folder(tmp_path / "set") as folder:
        fill(folder, b"old")
    with pytest.raises(StoreError, match="it exists already"), new_folder(tmp_path / "set"):
        raise AssertionError("the block must not be entered")
    assert state(tmp_path / "set") == b"old"


@pytest.mark.parametrize("trade", ["the system's", "two renames"])
def test_replacing_leaves_the_new_artifact_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trade: str) -> None:
    if trade == "two renames":
        monkeypatch.setattr(folders, "_traded", lambda *_: False)
    for word in (b"old", b"new"):
        with new_folder(tmp_path / "set", replace=True) as folder:
            fill(folder, word)
    assert state(tmp_path / "set") == b"new"
    assert names(tmp_path) == ["set"]


# -- rows


def test_rows_come_back_in_order_and_none_without_a_file(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "run" / "rollouts.jsonl")
    assert rows.read() == []
    rows.append({"text": "one\u2028\n\x00", "outcome": None})
    rows.extend([{"n": 2}, {"n": 3}])
    rows.extend([])
    assert rows.read() == [{"text": "one\u2028\n\x00", "outcome": None}, {"n": 2}, {"n": 3}]


def test_a_row_torn_at_any_byte_is_dropped_and_the_next_append_mends_the_file(tmp_path: Path) -> None:
    first, torn, third = {"n": 1}, {"text": "ü}{", "n": {"m": 2}}, {"n": 3}
    path = tmp_path / "rows.jsonl"
    Rows(path).append(first)
    whole = path.stat().st_size
    Rows(path).append(torn)
    data = path.read_bytes()
    for size in range(whole, len(data) + 1):
        path.write_bytes(data[:size])
        survivors = [first, torn] if size >= len(data) - 1 else [first]  # only the newline was lost
        assert Rows(path).read() == survivors
        Rows(path).append(third)
        assert Rows(path).read() == [*survivors, third]
        assert all(json.loads(line) for line in path.read_text("utf-8").split("\n")[:-1])


def test_a_broken_line_in_the_middle_raises_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"n": 1}\n{"n": \n{"n": 3}\n')
    with pytest.raises(StoreError, match="line 2 is not a JSON object"):
        Rows(path).read()


def test_rows_are_appended_all_or_not_at_all(tmp_path: Path) -> None:
    rows = Rows(tmp_path / "rows.jsonl")
    with pytest.raises(StoreError, match="write None for what is undefined"):
        rows.extend([{"n": 1}, {"n": float("nan")}])
    assert rows.read() == []


def test_rows_survive_a_real_kill(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    code = f"""
from pathlib import Path
from interp.store import Rows
n = 0
while True:
    Rows(Path({str(path)!r})).append({{"n": n, "text": "x" * 50_000}})
    n += 1
    print(n, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(5)][-1]
        writer.kill()
    numbers = [row["n"] for row in Rows(path).read()]
    assert numbers == list(range(len(numbers))) and len(numbers) >= acknowledged


# -- workspace and run records


def test_the_workspace_is_the_argument_else_the_environment_else_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("given", "home", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("INTERP_HOME", raising=False)
    assert workspace().root == tmp_path / "here"
    monkeypatch.setenv("INTERP_HOME", str(tmp_path / "home"))
    assert workspace().probes == tmp_path / "home" / "probes"
    assert workspace(tmp_path / "given").runs == tmp_path / "given" / "runs"
    with pytest.raises(StoreError, match="there is no such folder"):
        workspace(tmp_path / "mistyped")


def record(**changes: Any) -> RunRecord:
    return RunRecord.now(
        **{"command": "interp steer", "config": {}, "seeds": {"rollouts": 1}, "inputs": {"probe": "ab"}} | changes
    )


def test_a_run_record_survives_its_file(tmp_path: Path) -> None:
    written = record(config=Recipe((1, 2)), extra={"note": None})
    written.save(tmp_path)
    assert RunRecord.load(tmp_path) == written
    assert written.config == {"layers": [1, 2], "name": "desperation"}
    assert set(written.versions) == {"python", "interp", "torch", "transformers", "transformer_lens", "numpy"}
    assert written.started.endswith("+00:00")


def test_a_run_record_holds_no_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["/opt/venv/bin/interp", "steer", f"--out={tmp_path}/runs/one", "/home/me/llama"]
    config = {"model": Path("/home/me/llama"), "deep": [{"probe": str(tmp_path / "probes" / "d")}]}
    made = record(command=command, config=config, extra={"prompt": "/think\n/a/b/c"})
    assert made.command == ("interp", "steer", "--out=runs/one", "llama")
    assert made.config == {"model": "llama", "deep": [{"probe": "probes/d"}]}
    assert made.extra == {"prompt": "/think\n/a/b/c"}, "text that merely begins with a slash is left alone"


def git(folder: Path, *words: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    done = subprocess.run(["git", *author, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_run_record_knows_its_commit_and_what_differs_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert record().git is None
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")
    assert record().git == records.GitState(git(tmp_path, "rev-parse", "HEAD"), dirty=False)
    (tmp_path / "new").touch()
    assert record().git == records.GitState(git(tmp_path, "rev-parse", "HEAD"), dirty=True)


SPOILED: dict[str, Callable[[dict], Any]] = {
    "another format": lambda row: row | {"format": 0},
    "a missing key": lambda row: {key: value for key, value in row.items() if key != "seeds"},
    "an unknown key": lambda row: row | {"mood": "fine"},
    "a list": lambda row: [row],
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED.keys())
def test_a_run_record_of_another_form_is_refused(tmp_path: Path, spoil: Callable[[dict], Any]) -> None:
    record().save(tmp_path)
    RunRecord.load(tmp_path)
    write_json(tmp_path / "run.json", spoil(read_json(tmp_path / "run.json")))
    with pytest.raises(StoreError, match="no run record of format 1"):
        RunRecord.load(tmp_path)
