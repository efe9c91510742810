"""What must be known to repeat a run."""

import dataclasses
import importlib.metadata
import json
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import Any

from interp.errors import StoreError
from interp.store.files import plain, read_json, to_json, write_json

FORMAT = 1
RECORD = "run.json"
_PACKAGES = ("interp", "torch", "transformers", "transformer_lens", "numpy")


@dataclass(frozen=True)
class GitState:
    """The commit a run was made at, and whether tracked or new files differed from it."""

    commit: str
    dirty: bool


@dataclass(frozen=True)
class RunRecord:
    """Command, resolved configuration, seeds, versions, commit and inputs. It holds no absolute path."""

    command: tuple[str, ...]
    config: dict[str, Any]
    seeds: dict[str, int]
    versions: dict[str, str | None]
    git: GitState | None
    inputs: dict[str, str]
    started: str
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def now(
        cls,
        command: str | Sequence[str],
        config: Any,
        seeds: Mapping[str, int],
        inputs: Mapping[str, str],
        extra: Mapping[str, Any] | None = None,
    ) -> "RunRecord":
        """Return the record of a run that starts now, in the current folder.

        `config` is the resolved one, a mapping or a dataclass; `inputs` are fingerprints by name. A path
        inside the current folder becomes relative to it; of any other only the name is kept. `git` is None
        outside a repository, a version None where the package is not installed.

        Raises:
            StoreError: if anything in it is not JSON.
        """
        words = shlex.split(command) if isinstance(command, str) else list(command)
        return cls(
            command=tuple(_portable(words)),
            config=_portable(config),
            seeds=dict(seeds),
            versions={"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
            git=_git_state(),
            inputs=dict(inputs),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            extra=_portable(dict(extra or {})),
        )

    def save(self, folder: str | Path) -> None:
        """Write `run.json` into the folder."""
        write_json(Path(folder) / RECORD, {"format": FORMAT, **plain(self)})

    @classmethod
    def load(cls, folder: str | Path) -> "RunRecord":
        """Return the record that `save` wrote.

        Raises:
            StoreError: if there is none, or it is not of this version.
        """
        row = read_json(path := Path(folder) / RECORD)
        names = {"format", *(spec.name for spec in dataclasses.fields(cls))}
        if not isinstance(row, dict) or set(row) != names or row.pop("format") != FORMAT:
            raise StoreError(f"reading {path}", f"it is no run record of format {FORMAT}", "Repeat the run")
        git = None if row["git"] is None else GitState(**row["git"])
        return cls(**row | {"command": tuple(row["command"]), "git": git})


def _portable(value: Any) -> Any:
    """Return the plain JSON form of `value`, each absolute path in it made relative or cut to its name."""
    here = Path.cwd()

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: walk(item) for key, item in node.items()}
        if isinstance(node, list):
            return [walk(item) for item in node]
        return _shortened(node, here) if isinstance(node, str) else node

    return walk(json.loads(to_json(value, "recording a run")))


def _shortened(text: str, here: Path) -> str:
    """Shorten `/a/b` and `--option=/a/b`. One component (`/think`) or several lines are text, not a path."""
    option, equals, tail = text.rpartition("=") if text.startswith("-") else ("", "", text)
    path = PurePath(tail)
    if not path.is_absolute() or len(path.parts) < 3 or "\n" in tail:
        return text
    return option + equals + (path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_state() -> GitState | None:
    try:
        commit, changes = _git("rev-parse", "--verify", "HEAD"), _git("status", "--porcelain")
    except (OSError, subprocess.SubprocessError):
        return None
    return GitState(commit, dirty=bool(changes))


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()
