"""The experiment: baseline, treatments and their control bank, generated, graded and counted in one folder.

Rollouts are written as they are made, `_WRITE_EVERY` at a time. Called again on the same folder, the experiment goes on
where it stopped and ends with the same rows as an uninterrupted one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from interp.activations.scale import calibrate
from interp.behaviour import Grader, Outcome, grammar
from interp.directions import Direction, random_like
from interp.doctor import gate
from interp.edits import lacks, place
from interp.errors import ExperimentError
from interp.experiments.plan import Plan, conditions
from interp.experiments.results import Results, assemble, to_dict
from interp.experiments.verdict import Verdict, verdict
from interp.generation import BASELINE, Condition, Rollout, generate, residual_norms
from interp.models import Model, pad
from interp.sites import Site
from interp.store import Rows, RunRecord, fingerprint, write_bytes, write_json
from interp.store.files import to_json
from interp.tokens import render
from interp.transcripts import Transcript

Progress = Callable[[int, int], None]
"""Called with what is done and with the total."""
_WRITE_EVERY = 256
KL_TRANSCRIPTS = 8


def steer(
    model: Model,
    plan: Plan,
    prompts: Sequence[Transcript],
    treatment: Mapping[Site, Direction],
    *,
    benign: Sequence[Transcript],
    folder: Path,
    grader: Grader = grammar,
    command: Sequence[str] = ("interp", "steer"),
    despite_doctor: bool = False,
    on_progress: Progress | None = None,
) -> tuple[Results, Verdict]:
    """Carry out a plan in a run folder, and return its results and verdict.

    `treatment` gives the direction's vector at each site. Benign transcripts set the scale of all directions, and the
    first `KL_TRANSCRIPTS` of them are what the KL divergence is measured on. Prompts end before the reply; an
    assistant's last message is dropped. Writes `run.json`, `doctor.json`, `rollouts.jsonl`, `outcomes.jsonl` and
    `results.json`.

    Raises:
        ExperimentError: the folder holds another experiment, or a site of the plan has no direction.
        DirectionError: the direction belongs to another model.
        ModelError: the model failed a check of the doctor, and `despite_doctor` is not set.
    """
    checks = gate(model, asked=f"steering {model.name}", despite_doctor=despite_doctor)
    treatment, bank = scaled_with_controls(model, plan, treatment, benign)
    prompts = [without_reply(prompt) for prompt in prompts]
    inputs = fingerprints(model, plan, treatment, benign) | {
        "prompts": fingerprint([prompt.to_dict() for prompt in prompts]),
        "grader": getattr(grader, "__qualname__", type(grader).__name__),
    }
    begin(folder, inputs, command, plan.to_dict() | {"model": model.name, "prompts": len(prompts)}, plan.seed)
    write_json(folder / "doctor.json", [check.to_dict() for check in checks])
    treated, banked = conditions(plan, treatment, bank)
    rows = Rows(folder / "rollouts.jsonl")
    rollouts = {r.key: r for r in map(Rollout.from_row, rows.read())}
    total = plan.rollouts(len(prompts))

    def run(which: Sequence[Condition], samples: int, norms: Mapping[Site, float] | None) -> None:
        found = generate(
            model,
            prompts,
            which,
            samples=samples,
            seed=plan.seed,
            sampling=plan.sampling,
            residual_norms=norms,
            skip=set(rollouts),
        )
        for chunk in _chunks(found, _WRITE_EVERY):
            rows.extend(rollout.to_row() for rollout in chunk)
            rollouts.update((rollout.key, rollout) for rollout in chunk)
            if on_progress is not None:
                on_progress(len(rollouts), total)

    run([BASELINE], plan.samples, None)
    spoken = [r.transcript for r in rollouts.values() if r.condition == BASELINE.name]
    norms = residual_norms(model, sorted(spoken, key=lambda t: t.id), plan.sites)
    run(treated[1:], plan.samples, norms)
    run(banked, plan.control_samples, norms)
    graded = grade(sorted(rollouts.values(), key=lambda r: r.key), grader, folder)
    return conclude(model, plan, (treated, banked), graded, norms, benign, folder)


def conclude(
    model: Model,
    plan: Plan,
    done: tuple[Sequence[Condition], Sequence[Condition]],
    graded: Sequence[tuple[Rollout, Outcome]],
    norms: Mapping[Site, float],
    benign: Sequence[Transcript],
    folder: Path,
) -> tuple[Results, Verdict]:
    """Results and verdict of graded rollouts under the treatments (the baseline first) and the controls.

    Measures the KL divergence of each treatment on benign text, and writes `results.json`.
    """
    treated, banked = done
    kl = {c.name: benign_kl(model, c, benign[:KL_TRANSCRIPTS], residual_norms=norms) for c in treated[1:]}
    results = assemble(plan, model.name, treated, banked, graded, residual_norms=norms, kl=kl)
    words = verdict(results)
    write_json(folder / "results.json", to_dict(results) | {"verdict": words.to_dict()})
    return results, words


def scaled_with_controls(
    model: Model, plan: Plan, treatment: Mapping[Site, Direction], benign: Sequence[Transcript]
) -> tuple[dict[Site, Direction], list[dict[Site, Direction]]]:
    """The treatment, and random directions of its norm at every site of the plan, on the scale of benign tokens.

    Raises:
        ExperimentError: a site has no direction.
        DirectionError: the direction belongs to another model.
    """
    lacking = [str(site) for site in plan.sites if site not in treatment]
    if lacking:
        raise ExperimentError(
            f"steering along {plan.direction}",
            f"no vector at {', '.join(lacking)}",
            "fit the probe at every site of the plan",
        )
    sets = [{site: treatment[site] for site in plan.sites}]
    by_site = {site: random_like(treatment[site], plan.n_controls, seed=plan.seed + 1) for site in plan.sites}
    sets += [{site: bank[number] for site, bank in by_site.items()} for number in range(plan.n_controls)]
    scaled = calibrate(model, [direction for vectors in sets for direction in vectors.values()], benign)
    width = len(plan.sites)
    real, *controls = [{d.site: d for d in scaled[start : start + width]} for start in range(0, len(scaled), width)]
    return real, controls


def without_reply(prompt: Transcript) -> Transcript:
    """The transcript up to the assistant's last message."""
    ends = prompt.messages[-1].role == "assistant"
    return (
        replace(prompt, messages=prompt.messages[:-1], label=None, token_ids=None, prompt_tokens=None)
        if ends
        else prompt
    )


def fingerprints(
    model: Model, plan: Plan, treatment: Mapping[Site, Direction], benign: Sequence[Transcript]
) -> dict[str, str]:
    """Fingerprints of what the rows of every run depend on, whatever its prompts and its grader."""
    return {
        "model": fingerprint(model.identity),
        "benign transcripts": fingerprint([transcript.to_dict() for transcript in benign]),
        "direction": fingerprint([[str(s), d.vector.numpy(), d.offset, d.scale] for s, d in treatment.items()]),
        "plan": fingerprint(plan.to_dict()),
    }


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


def _chunks(rollouts: Iterable[Rollout], size: int) -> Iterable[list[Rollout]]:
    chunk: list[Rollout] = []
    for rollout in rollouts:
        chunk.append(rollout)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def grade(rollouts: Sequence[Rollout], grader: Grader, folder: Path) -> list[tuple[Rollout, Outcome]]:
    """Each rollout with its outcome; `outcomes.jsonl` is written whole, so a run can be graded again."""
    graded = [(rollout, grader(rollout)) for rollout in rollouts]
    write_outcomes(graded, folder)
    return graded


def write_outcomes(graded: Sequence[tuple[Rollout, Outcome]], folder: Path) -> None:
    """Write `outcomes.jsonl` whole."""
    lines = [
        {
            "prompt": r.prompt,
            "condition": r.condition,
            "sample": r.sample,
            "outcome": o.rung,
            "grader": o.grader,
            "note": o.note,
        }
        | ({} if o.broken is None else {"broken": o.broken})
        for r, o in graded
    ]
    text = "".join(to_json(line, "writing outcomes") + "\n" for line in lines)
    write_bytes(folder / "outcomes.jsonl", text.encode())


@torch.no_grad()
def benign_kl(
    model: Model,
    condition: Condition,
    benign: Sequence[Transcript],
    *,
    residual_norms: Mapping[Site, float] | None = None,
) -> float | None:
    """Mean KL divergence (nats a token) of the edited model's next-token distribution from the unedited one's.

    Over the assistant's tokens of benign transcripts, which count as generated ones for an edit's scope; transcripts
    without the part of the prompt that is edited are left out. None without such a token.
    """
    scale = {"d_model": model.d_model, "device": model.device, "residual_norms": residual_norms}
    total, n = 0.0, 0
    for transcript in benign:
        tokens = render(transcript, model.tokenizer)
        spoken = [p for span in tokens.named("assistant") for p in range(span.start, span.stop)]
        if not spoken:
            continue
        text = replace(tokens, prompt_tokens=spoken[0])
        if any(lacks(edit.scope, text) for edit in condition.edits):
            continue
        edits = place([condition.edits], **scale, texts=[text], tokenizer=model.tokenizer)
        batch = pad([tokens.ids], prompt_tokens=[spoken[0]])
        before, after = (model.run(batch, edits=e, logits="all").logits for e in (None, edits))
        assert before is not None and after is not None
        p, q = (torch.log_softmax(logits[0, spoken[0] - 1 : -1].float(), -1) for logits in (before, after))
        total += float((p.exp() * (p - q)).sum())
        n += len(p)
    return total / n if n else None
