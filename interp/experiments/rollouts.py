"""What a model does on prompts: rollouts in a run folder, graded if asked, and the replies as transcripts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from interp.behaviour import Grader, Outcome, Rules, counts, grade_all, grammar
from interp.doctor import gate
from interp.errors import ExperimentError
from interp.experiments.recording import Progress, begin, without_reply
from interp.generation import BASELINE, Rollout, Sampling, keep
from interp.models import Model
from interp.scenarios import Wanted, scenarios
from interp.store import Rows, fingerprint, write_bytes, write_json
from interp.store.files import to_json
from interp.transcripts import Transcript, read_jsonl, write_jsonl

ROLLOUTS, OUTCOMES, TRANSCRIPTS = "rollouts.jsonl", "outcomes.jsonl", "transcripts.jsonl"
SUMMARY = "summary.json"
GRADERS: Mapping[str, Grader] = {"grammar": grammar, "rules": Rules()}
"""Graders that need no model, by name."""
BATCH_ROWS = 64
_CHARACTERS = 4
"""In a token, about: to state a cost before a tokenizer is there."""


@dataclass(frozen=True)
class Written:
    """What a run of rollouts holds."""

    rollouts: int
    prompts: int
    groups: int
    truncated: int
    new_tokens: int
    outcomes: Mapping[str, int] | None
    """Replies on each rung, `ungraded` among them; None where no grader was named."""

    @property
    def sentences(self) -> list[str]:
        """The counts in words."""
        said = f"{self.rollouts} replies to {self.prompts} prompts of {self.groups} groups, {self.new_tokens} tokens"
        first = f"{said}; {self.truncated} were cut at their limit."
        if self.outcomes is None:
            return [first, "None was graded: name a grader with --grader, and the same command grades them."]
        return [first, "; ".join(f"{rung}: {n}" for rung, n in self.outcomes.items() if n) + "."]

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def roll(
    model: Model,
    prompts: Sequence[Transcript],
    *,
    folder: Path,
    samples: int = 1,
    seed: int = 0,
    sampling: Sampling | None = None,
    grader: str | None = None,
    batch_rows: int = BATCH_ROWS,
    command: Sequence[str] = ("interp", "rollouts"),
    despite_doctor: bool = False,
    on_progress: Progress | None = None,
) -> Written:
    """`samples` replies of a model to each prompt, in a run folder.

    An assistant's last message is dropped from a prompt. Writes `run.json` and `doctor.json`; `rollouts.jsonl`, batch
    by batch, each row with its seed, the model and every sampling setting; then `transcripts.jsonl`, which every
    command reads, each reply labelled by its outcome, with the id of its prompt in `meta.prompt` (so replies to one
    prompt are known) and the rest of how it came about in `meta.rollout`; `outcomes.jsonl` where a grader is named; and
    the counts in `summary.json`. Called again on the same folder it goes on, also with more samples, and with another
    grader it grades again. Guarantee (test): a stopped run ends with the files of an uninterrupted one.

    Raises:
        ExperimentError: no prompt, an unknown grader, a prompt that leaves no room for a reply, or the folder holds
            rollouts of another model, of other prompts, or of another seed or sampling.
        ModelError: the model failed a check of the doctor, and `despite_doctor` is not set.
    """
    sampling = sampling or Sampling()
    _refuse(prompts, samples, grader, batch_rows)
    asked = [without_reply(prompt) for prompt in prompts]
    checks = gate(model, asked=f"rollouts of {model.name}", despite_doctor=despite_doctor)
    settings = _every(sampling)
    inputs = {
        "model": fingerprint(model.identity),
        "prompts": fingerprint([prompt.to_dict() for prompt in asked]),
        "seed or sampling": fingerprint([seed, settings]),
    }
    config = {"model": model.name, "prompts": len(asked), "samples": samples, "sampling": settings}
    begin(folder, inputs, command, config | {"batch_rows": batch_rows}, seed)
    write_json(folder / "doctor.json", [check.to_dict() for check in checks])
    rollouts = keep(
        model,
        asked,
        Rows(folder / ROLLOUTS),
        samples=samples,
        seed=seed,
        sampling=sampling,
        batch_rows=batch_rows,
        stamp={"model": model.name, "sampling": settings},
        on_progress=on_progress,
    )
    outcomes = _graded(rollouts, grader, folder)
    how = {"model": model.name, "sampling": settings}
    write_jsonl(folder / TRANSCRIPTS, [_told(r, o, how) for r, o in zip(rollouts, outcomes, strict=True)])
    return _summarised(rollouts, [o for o in outcomes if o is not None] if grader else None, folder)


def prompts_of(path: Path | None, wanted: Wanted | None, n: int | None = None) -> list[Transcript]:
    """The prompts of a file, or its first `n`; or those of a set of scenarios.

    Raises:
        ExperimentError: both are given, or neither.
        TranscriptError: the file cannot be read, or there is no such set.
    """
    if (path is None) == (wanted is None):
        found = "neither a file nor a set" if path is None else "both a file and a set"
        raise ExperimentError("choosing prompts", found, "give a file of transcripts, or name a set with --set")
    if path is not None and n is not None and n < 1:
        raise ExperimentError("choosing prompts", f"n is {n}", "ask for at least 1")
    return scenarios(wanted) if wanted else read_jsonl(path or Path())[:n]


def longest(model: str) -> int:
    """New tokens that replies may take where nothing is said: those of the embedded model's world are short."""
    return 128 if model == "organism" else 1024


def cost(prompts: Sequence[Transcript], samples: int, sampling: Sampling, folder: Path) -> str:
    """What the run would take, in a sentence; nothing is loaded for it."""
    asked = [without_reply(prompt) for prompt in prompts]
    characters = sum(len(message.content) for prompt in asked for message in prompt.messages)
    wanted = {(prompt.id, BASELINE.name, sample) for prompt in asked for sample in range(samples)}
    rows = Rows(folder / ROLLOUTS).read()
    done = len(wanted & {(row.get("prompt"), row.get("condition"), row.get("sample")) for row in rows})
    there = f", {done} of which are there" if done else ""
    return (
        f"{len(asked)} prompts of about {characters // _CHARACTERS // max(len(asked), 1)} tokens each, "
        f"{len(wanted)} rollouts{there}, at most {(len(wanted) - done) * sampling.max_new_tokens} new tokens."
    )


def _refuse(prompts: Sequence[Transcript], samples: int, grader: str | None, batch_rows: int) -> None:
    asked = "writing rollouts"
    if not prompts:
        raise ExperimentError(asked, "no prompt", "give transcripts in a file, or name a set of scenarios")
    if samples < 1 or batch_rows < 1:
        found = f"samples {samples}, batch_rows {batch_rows}"
        raise ExperimentError(asked, found, "give at least 1 of each")
    if grader is not None and grader not in GRADERS:
        raise ExperimentError(asked, f"no grader {grader!r}", f"choose one of {', '.join(GRADERS)}")
    alone = [prompt.id for prompt in prompts if len(prompt.messages) == 1 and prompt.messages[0].role == "assistant"]
    if alone:
        found = f"{len(alone)} prompts are a reply and nothing else: {', '.join(alone[:5])}"
        raise ExperimentError(asked, found, "leave them out")


def _every(sampling: Sampling) -> dict[str, Any]:
    """Every setting, also those at their defaults."""
    return asdict(sampling) | {"stop": list(sampling.stop)}


def _graded(rollouts: Sequence[Rollout], grader: str | None, folder: Path) -> list[Outcome | None]:
    if grader is None:
        return [None] * len(rollouts)
    gradings = grade_all(rollouts, GRADERS[grader])
    lines = [to_json(one.to_row(), "writing outcomes") + "\n" for one in gradings]
    write_bytes(folder / OUTCOMES, "".join(lines).encode())
    return [one.outcome for one in gradings]


def _told(rollout: Rollout, outcome: Outcome | None, how: Mapping[str, Any]) -> Transcript:
    """The reply as a transcript: its outcome is the label, and its meta says how it came about."""
    about = {name: getattr(rollout, name) for name in ("condition", "sample", "seed", "truncated")} | dict(how)
    if outcome is not None:
        about |= {"grader": outcome.grader, "note": outcome.note, "broken": outcome.broken}
    meta = rollout.transcript.meta | {"prompt": rollout.prompt, "rollout": about}
    return replace(rollout.transcript, label=outcome.rung if outcome else None, meta=meta)


def _summarised(rollouts: Sequence[Rollout], outcomes: Sequence[Outcome] | None, folder: Path) -> Written:
    new = [len(r.transcript.token_ids or ()) - (r.transcript.prompt_tokens or 0) for r in rollouts]
    found = Written(
        len(rollouts),
        len({rollout.prompt for rollout in rollouts}),
        len({rollout.transcript.group for rollout in rollouts}),
        sum(rollout.truncated for rollout in rollouts),
        sum(new),
        None if outcomes is None else counts(outcomes),
    )
    write_json(folder / SUMMARY, found.to_dict())
    return found
