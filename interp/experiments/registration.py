"""What an experiment says it will do, written with its hash before anything is generated."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from interp.behaviour import MIN_COHERENCE
from interp.errors import ExperimentError
from interp.experiments.controls import Control
from interp.experiments.dose_range import Range
from interp.experiments.plan import Plan
from interp.experiments.verdict import HEADROOM, MAX_UNGRADED
from interp.stats.power import detectable
from interp.store import fingerprint, read_json, write_json

FORMAT = 1


def announced(folder: Path) -> Path:
    """Where a run keeps its plan."""
    return folder / "plan.json"


def register(
    folder: Path,
    plan: Plan,
    inputs: Mapping[str, str],
    bank: Sequence[Control],
    *,
    n_prompts: int | None,
    dose_range: Range | None = None,
) -> str:
    """Write `plan.json` with the time, or recognise the one that is there; returns the plan's hash.

    `n_prompts` is None where a task brings them.

    Raises:
        ExperimentError: the folder holds another plan, or one whose text no longer has its hash.
    """
    content, path = _content(plan, inputs, bank, n_prompts, dose_range), announced(folder)
    named = fingerprint(content)
    if not path.is_file():
        row = {"format": FORMAT, "hash": named, "written": datetime.now(UTC).isoformat(timespec="seconds")}
        write_json(path, row | {"content": content})
    row = read_json(path)
    if fingerprint(row["content"]) != row["hash"]:
        found = "its text is no longer what its hash was taken of"
        raise ExperimentError(f"going by {path.name}", found, "take another name with --run, and announce it again")
    if row["hash"] != named:
        parts = [key for key in content if row["content"].get(key) != content[key]]
        do = "carry out the plan that was announced, or take another name with --run"
        raise ExperimentError(f"going by {path.name} of {folder.name}", f"it announces other {', '.join(parts)}", do)
    return named


def _content(
    plan: Plan, inputs: Mapping[str, str], bank: Sequence[Control], n_prompts: int | None, dose_range: Range | None
) -> dict[str, Any]:
    falls = [arm.name for arm in plan.arms if arm.alternative == "less"]
    return {
        "question": plan.question,
        "hypothesis": f"suppressing {plan.direction} lowers {plan.event}: under {', '.join(falls) or 'no edit'}",
        "plan": plan.to_dict(),
        "range": dose_range
        and {"low": dose_range.low, "high": dose_range.high, "unit": dose_range.unit, "scope": dose_range.scope},
        "n": _sizes(plan, n_prompts),
        "criteria": {
            "coherent replies, at least": MIN_COHERENCE,
            "ungraded rollouts, at most": MAX_UNGRADED,
            "baseline between": [HEADROOM, 1 - HEADROOM],
            "level": plan.level,
            "corrected over arms": "Holm",
            "specific": "further than every control under every lowering edit",
        },
        "controls": [{"name": one.name, "kind": one.kind} for one in bank],
        "inputs": dict(inputs),
    }


def _sizes(plan: Plan, n_prompts: int | None) -> dict[str, Any]:
    """How much will be generated, and what it can show; of a task's own prompts the number is not known yet."""
    if n_prompts is None:
        return {"rollouts a prompt and arm": plan.samples, "rollouts a prompt and control": plan.control_samples}
    n = n_prompts * plan.samples
    lower, _ = detectable(0.5, n)
    return {
        "prompts": n_prompts,
        "rollouts an arm": n,
        "rollouts a control": n_prompts * plan.control_samples,
        "fall from 50 % found with 80 % power, unpaired": lower and round(0.5 - lower, 3),
    }
