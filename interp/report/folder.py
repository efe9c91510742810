"""What a run folder holds, as the page needs it; a file that is not there is None."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import StoreError
from interp.generation import Rollout
from interp.store import Rows, read_json
from interp.traces import TokenTrace

_NEEDED = ("question", "model", "n_prompts", "cells", "arms", "verdict")


@dataclass(frozen=True, eq=False)
class RunFolder:
    """The parts of one experiment."""

    path: Path
    results: Mapping[str, Any]
    record: Mapping[str, Any] | None
    """`run.json`: command, configuration, seeds, versions."""
    plan: Mapping[str, Any] | None
    """`plan.json`: what was announced before anything was generated."""
    probe: Mapping[str, Any] | None
    traces: tuple[TokenTrace, ...]
    locked: tuple[Mapping[str, Any], ...]
    """`event_locked.json`: averages around events, in their plain form."""
    checks: tuple[Mapping[str, Any], ...] | None
    """`doctor.json`, None where the doctor was not asked."""
    rollouts: tuple[Rollout, ...]
    outcomes: Mapping[tuple[str, str, int], Mapping[str, Any]]
    """By prompt, condition and sample."""

    @property
    def name(self) -> str:
        """The folder's."""
        return self.path.name


def read_run(folder: Path) -> RunFolder:
    """The parts of the run in `folder`.

    Raises:
        StoreError: there are no results, or a file is broken.
    """
    if not (folder / "results.json").is_file():
        raise StoreError(
            f"reporting on {folder.name}", "it holds no results.json", "finish the run with `interp steer`"
        )
    results = read_json(folder / "results.json")
    missing = [key for key in _NEEDED if not isinstance(results, dict) or key not in results]
    if missing:
        raise StoreError(f"reporting on {folder.name}", f"results.json lacks {', '.join(missing)}", "repeat the run")
    try:
        traces = tuple(
            TokenTrace.from_dict(row) for row in (_optional(folder, "traces.json") or {"traces": []})["traces"]
        )
        rollouts = tuple(Rollout.from_row(row) for row in Rows(folder / "rollouts.jsonl").read())
        graded = {(r["prompt"], r["condition"], r["sample"]): r for r in Rows(folder / "outcomes.jsonl").read()}
    except (KeyError, TypeError) as error:
        raise StoreError(f"reporting on {folder.name}", f"a row of it is broken ({error})", "repeat the run") from error
    checks = _optional(folder, "doctor.json")
    return RunFolder(
        folder,
        results,
        _optional(folder, "run.json"),
        _optional(folder, "plan.json"),
        _optional(folder, "probe.json"),
        traces,
        tuple((_optional(folder, "event_locked.json") or {"averages": ()})["averages"]),
        None if checks is None else tuple(checks),
        rollouts,
        graded,
    )


def _optional(folder: Path, name: str) -> Any:
    return read_json(folder / name) if (folder / name).is_file() else None
