"""The prompts' twins without a threat, under every condition: does the model still do its plain work?"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from interp.behaviour import Grader, Outcome, grade_all
from interp.errors import ExperimentError
from interp.generation import Condition, Rollout, generate
from interp.models import Model
from interp.store import Rows, write_bytes
from interp.store.files import to_json
from interp.transcripts import Transcript

ROLLOUTS, OUTCOMES = "twins.jsonl", "twins-outcomes.jsonl"
Progress = Callable[[int, int], None]
"""Called with what is done and with the total."""


def generate_twins(
    model: Model,
    twins: Sequence[Transcript],
    conditions: Sequence[Condition],
    *,
    grader: Grader,
    folder: Path,
    samples: int = 1,
    on_progress: Progress | None = None,
    **how: Any,
) -> list[tuple[Rollout, Outcome]]:
    """Rollouts of the twins under every condition with their outcomes, sorted by key.

    `how` goes to `generation.generate`: seed, sampling, residual_norms, batch_rows. Each rollout is added to
    `twins.jsonl` of the folder when it is finished; called again, the rollouts that are there are not made again, and
    all are graded. The outcomes are in `twins-outcomes.jsonl`.

    Raises:
        ExperimentError: a twin ends with a reply, or the folder holds rollouts of other twins of these names.
    """
    told = [twin.id for twin in twins if twin.messages[-1].role == "assistant"]
    if told:
        found = f"{', '.join(told[:5])} end with a reply"
        raise ExperimentError("generating replies to twins", found, "give them without their replies")
    rows = Rows(folder / ROLLOUTS)
    done = _done(rows, twins, conditions, samples)
    total = len(twins) * len(conditions) * samples
    for rollout in generate(model, twins, conditions, samples=samples, skip=set(done), **how):
        rows.append(rollout.to_row())
        done[rollout.key] = rollout
        if on_progress is not None:
            on_progress(len(done), total)
    rollouts = [done[key] for key in sorted(done)]
    gradings = grade_all(rollouts, grader)
    text = "".join(to_json(grading.to_row(), "writing outcomes of twins") + "\n" for grading in gradings)
    write_bytes(folder / OUTCOMES, text.encode())
    return [(rollout, grading.outcome) for rollout, grading in zip(rollouts, gradings, strict=True)]


def _done(
    rows: Rows, twins: Sequence[Transcript], conditions: Sequence[Condition], samples: int
) -> dict[tuple[str, str, int], Rollout]:
    """The rollouts that are there already, of these twins and conditions."""
    by_id, names = {twin.id: twin for twin in twins}, {condition.name for condition in conditions}
    found = {}
    for rollout in map(Rollout.from_row, rows.read()):
        twin = by_id.get(rollout.prompt)
        if twin is not None and rollout.transcript.messages[:-1] != twin.messages:
            do = "give the same twins, or another folder"
            raise ExperimentError(f"going on with {rows.path}", f"{rollout.prompt} was another prompt there", do)
        if twin is not None and rollout.condition in names and rollout.sample < samples:
            found[rollout.key] = rollout
    return found
