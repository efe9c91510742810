"""A run's folder: its record, its rows, its outcomes."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from interp.behaviour import Grader, Grading, Outcome, grade_all
from interp.errors import ExperimentError
from interp.generation import Rollout
from interp.store import RunRecord, write_bytes
from interp.store.files import to_json
from interp.transcripts import Transcript

Progress = Callable[[int, int], None]
"""Called with what is done and with the total."""


def without_reply(prompt: Transcript) -> Transcript:
    """The transcript up to the assistant's last message."""
    ends = prompt.messages[-1].role == "assistant"
    return (
        replace(prompt, messages=prompt.messages[:-1], label=None, token_ids=None, prompt_tokens=None)
        if ends
        else prompt
    )


def begin(
    folder: Path, inputs: Mapping[str, str], command: Sequence[str], config: Mapping[str, Any], seed: int
) -> None:
    """Record the run, or recognise it.

    Raises:
        ExperimentError: the folder holds rollouts of another experiment, or of one whose record is gone.
        StoreError: the record is damaged.
    """
    do = "give the same arguments, or another name with --run"
    if (folder / "run.json").exists():
        before = RunRecord.load(folder).inputs
        changed = [key for key in inputs if before.get(key) != inputs[key]]
        if changed:
            raise ExperimentError(f"continuing the run in {folder.name}", f"another {', '.join(changed)}", do)
    elif (folder / "rollouts.jsonl").exists():
        raise ExperimentError(f"continuing the run in {folder.name}", "rollouts, but no run.json", do)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        RunRecord.now(command, config, {"seed": seed}, inputs).save(folder)


def chunks(rollouts: Iterable[Rollout], size: int) -> Iterator[list[Rollout]]:
    """The rollouts as they come, `size` at a time."""
    found = iter(rollouts)
    while chunk := list(islice(found, size)):
        yield chunk


def grade(rollouts: Sequence[Rollout], grader: Grader, folder: Path) -> list[tuple[Rollout, Outcome]]:
    """Each rollout with its outcome; `outcomes.jsonl` is written whole, so a run can be graded again."""
    graded = [(rollout, one.outcome) for rollout, one in zip(rollouts, grade_all(rollouts, grader), strict=True)]
    write_outcomes(graded, folder)
    return graded


def write_outcomes(graded: Sequence[tuple[Rollout, Outcome]], folder: Path) -> None:
    """Write `outcomes.jsonl` whole: a `Grading` a row, so that each says its scenario and its grader's scale."""
    lines = [Grading(rollout.key, rollout.transcript.group, outcome).to_row() for rollout, outcome in graded]
    text = "".join(to_json(line, "writing outcomes") + "\n" for line in lines)
    write_bytes(folder / "outcomes.jsonl", text.encode())
