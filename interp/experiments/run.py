"""The experiment: baseline, treatments and their control bank, generated, graded and counted in one folder.

The plan is written before anything is generated. Rollouts are written as they are made, `_WRITE_EVERY` at a time.
Called again on the same folder, the experiment goes on where it stopped and ends with the same rows as an uninterrupted
one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from interp.activations.scale import calibrate
from interp.behaviour import Grader, Outcome, grammar
from interp.directions import Direction
from interp.doctor import Check, gate
from interp.edits import lacks, place
from interp.errors import ExperimentError
from interp.experiments.bank import Sources, make_bank
from interp.experiments.controls import Control, Vectors
from interp.experiments.dose_range import Range
from interp.experiments.equal_kl import matched_banks
from interp.experiments.plan import Design, Plan, design
from interp.experiments.recording import Progress, begin, grade, without_reply
from interp.experiments.registration import announced, register
from interp.experiments.results import Circumstances, Results, assemble
from interp.experiments.side_effects import SideEffects, measure_side_effects
from interp.experiments.tables import to_dict
from interp.experiments.tasks import Task
from interp.experiments.twins import generate_twins
from interp.experiments.verdict import Verdict, verdict
from interp.generation import BASELINE, Condition, Rollout, keep, residual_norms
from interp.models import Model, pad
from interp.sites import Site
from interp.store import Rows, fingerprint, write_json
from interp.tokens import render
from interp.transcripts import Transcript

_WRITE_EVERY = 256
KL_TRANSCRIPTS = 8


@dataclass(frozen=True, eq=False)
class Around:
    """What an experiment may have beside its plan, its prompts and its direction."""

    sources: Sources | None = None
    """What controls are made from; without them the bank has random directions and the sign flip."""
    guards: Mapping[str, Vectors] = field(default_factory=dict)
    """Directions that arms may be conditioned on."""
    twins: Sequence[Transcript] = ()
    """The prompts without their threat, for the side effects."""
    emotions: Sequence[Direction] = ()
    """Directions that replies are scored along, for the side effects."""
    tasks: Mapping[str, Task] = field(default_factory=dict)
    """Further tasks whose scores are side effects, by name."""
    dose_range: Range | None = None
    """Within which doses replies stay coherent."""
    beyond_range: bool = False
    """Whether doses outside of it may run; figures shade them."""

    def refuse_beyond(self, plan: Plan) -> None:
        """Refuse doses outside the range.

        Raises:
            ExperimentError: naming them.
        """
        known = self.dose_range
        here = [] if known is None else [a for a in plan.arms if (a.sites, a.scope) == (known.sites, known.scope)]
        outside = [a.name for a in here if known is not None and a.kind == "add" and not known.holds(a)]
        if known is None or not outside or self.beyond_range:
            return
        raise ExperimentError(
            f"steering with {', '.join(outside)}",
            f"replies hold together from {known.low:g} to {known.high:g} {known.unit} only",
            "give smaller doses, or --beyond-range to run and shade them",
        )


@dataclass(frozen=True, eq=False)
class _Ready:
    """An experiment of which all is known but its replies."""

    plan: Plan
    prompts: list[Transcript]
    checks: Sequence[Check]
    design: Design
    registration: str


def steer(
    model: Model,
    plan: Plan,
    prompts: Sequence[Transcript],
    treatment: Vectors,
    *,
    benign: Sequence[Transcript],
    folder: Path,
    grader: Grader = grammar,
    around: Around | None = None,
    command: Sequence[str] = ("interp", "steer"),
    despite_doctor: bool = False,
    on_progress: Progress | None = None,
) -> tuple[Results, Verdict]:
    """Carry out a plan in a run folder, and return its results and verdict.

    `treatment` gives the direction's vector at each site. Benign transcripts set the scale of all directions, and the
    first `KL_TRANSCRIPTS` of them are what the KL divergence is measured on. Prompts end before the reply; an
    assistant's last message is dropped. Writes `run.json`, `doctor.json`, `plan.json` (before anything is generated),
    `rollouts.jsonl`, `outcomes.jsonl`, those of the twins, and `results.json`.

    Raises:
        ExperimentError: the folder holds another experiment or another registered plan, a site of the plan has no
            direction, or a dose lies outside the range.
        DirectionError: the direction belongs to another model.
        ModelError: the model failed a check of the doctor, and `despite_doctor` is not set.
    """
    around = around or Around()
    ready = _prepare(model, plan, prompts, treatment, benign, folder, grader, around, command, despite_doctor)
    for task in around.tasks.values():  # one that cannot run shows before hours of rollouts; its scores are kept
        task(BASELINE, None)
    run = _Rollouts(model, ready, folder, on_progress)
    run.add([BASELINE], plan.samples, None)
    norms = residual_norms(model, run.spoken(), plan.sites)
    calm = benign[:KL_TRANSCRIPTS]
    whole = matched_banks(model, plan, ready.design, calm, norms, around.guards, keep=folder / "equal_kl.jsonl")
    run.add(whole.treated[1:], plan.samples, norms)
    run.add(whole.banked, plan.control_samples, norms)
    graded = grade(sorted(run.found, key=lambda r: r.key), grader, folder)
    effects = _side_effects(model, ready, graded, norms, benign, folder, grader, around)
    told = Circumstances(failed_checks(ready.checks), around.dose_range, effects, ready.registration, whole.unreached)
    return conclude(model, plan, whole, graded, norms, benign, folder, told)


def announce(
    model: Model,
    plan: Plan,
    prompts: Sequence[Transcript],
    treatment: Vectors,
    *,
    benign: Sequence[Transcript],
    folder: Path,
    grader: Grader = grammar,
    around: Around | None = None,
    command: Sequence[str] = ("interp", "steer"),
    despite_doctor: bool = False,
) -> Path:
    """Write the plan of what `steer` with the same arguments will do, generate nothing, and return its path.

    Raises:
        As `steer`.
    """
    _prepare(model, plan, prompts, treatment, benign, folder, grader, around or Around(), command, despite_doctor)
    return announced(folder)


def _prepare(
    model: Model,
    plan: Plan,
    prompts: Sequence[Transcript],
    treatment: Vectors,
    benign: Sequence[Transcript],
    folder: Path,
    grader: Grader,
    around: Around,
    command: Sequence[str],
    despite_doctor: bool,
) -> _Ready:
    """Everything before the first reply: checks, controls, the run's record, the registered plan."""
    around.refuse_beyond(plan)
    checks = gate(model, asked=f"steering {model.name}", despite_doctor=despite_doctor)
    treatment, bank = scaled_with_controls(model, plan, treatment, benign, around.sources)
    asked = [without_reply(prompt) for prompt in prompts]
    done = design(plan, treatment, bank, around.guards)
    inputs = fingerprints(model, plan, treatment, benign) | {
        "prompts": fingerprint([prompt.to_dict() for prompt in asked]),
        "grader": getattr(grader, "__qualname__", type(grader).__name__),
        "controls": fingerprint([one.to_dict() for one in bank]),
    }
    begin(folder, inputs, command, plan.to_dict() | {"model": model.name, "prompts": len(asked)}, plan.seed)
    registration = register(folder, plan, inputs, bank, n_prompts=len(asked), dose_range=around.dose_range)
    write_json(folder / "doctor.json", [check.to_dict() for check in checks])
    return _Ready(plan, asked, checks, done, registration)


class _Rollouts:
    """The rollouts of a run: those that are there, and those that are made."""

    def __init__(self, model: Model, ready: _Ready, folder: Path, on_progress: Progress | None) -> None:
        self.model, self.ready, self.on_progress = model, ready, on_progress
        self.rows, self.found = Rows(folder / "rollouts.jsonl"), list[Rollout]()

    def add(self, which: Sequence[Condition], samples: int, norms: Mapping[Site, float] | None) -> None:
        """Make what is missing, and write it as it is made."""
        plan, prompts = self.ready.plan, self.ready.prompts
        before, total = len(self.found), plan.rollouts(len(prompts))
        tell = self.on_progress or (lambda *_: None)
        how = {"seed": plan.seed, "sampling": plan.sampling, "residual_norms": norms, "batch_rows": _WRITE_EVERY}
        self.found += keep(
            self.model,
            prompts,
            self.rows,
            conditions=which,
            samples=samples,
            on_progress=lambda done, _: tell(before + done, total),
            **how,
        )

    def spoken(self) -> list[Transcript]:
        """The baseline's replies."""
        found = [r.transcript for r in self.found if r.condition == BASELINE.name]
        return sorted(found, key=lambda t: t.id)


def _side_effects(
    model: Model,
    ready: _Ready,
    graded: Sequence[tuple[Rollout, Outcome]],
    norms: Mapping[Site, float],
    benign: Sequence[Transcript],
    folder: Path,
    grader: Grader,
    around: Around,
) -> SideEffects:
    """What the treatments do beside the event; twins are answered once a treatment."""
    plan, treated = ready.plan, ready.design.treated
    how = {"seed": plan.seed, "sampling": plan.sampling, "residual_norms": norms}
    twins = [without_reply(twin) for twin in around.twins]
    answered = generate_twins(model, twins, treated, grader=grader, folder=folder, **how) if twins else ()
    return measure_side_effects(
        model,
        treated,
        benign=benign[:KL_TRANSCRIPTS],
        graded=graded,
        twin_graded=answered,
        emotions=around.emotions,
        tasks=around.tasks,
        residual_norms=norms,
        level=plan.level,
        seed=plan.seed,
        folder=folder,
    )


def failed_checks(checks: Sequence[Check]) -> tuple[str, ...]:
    """Their names."""
    return tuple(check.check for check in checks if not check.ok)


def conclude(
    model: Model,
    plan: Plan,
    done: Design,
    graded: Sequence[tuple[Rollout, Outcome]],
    norms: Mapping[Site, float],
    benign: Sequence[Transcript],
    folder: Path,
    around: Circumstances | None = None,
) -> tuple[Results, Verdict]:
    """Results and verdict of graded rollouts under the treatments (the baseline first) and the controls.

    Measures the KL divergence of each treatment on benign text, and writes `results.json`.
    """
    measured = partial(benign_kl, model, benign=benign[:KL_TRANSCRIPTS], residual_norms=norms)
    told = replace(around or Circumstances(), kl={c.name: measured(c) for c in done.treated[1:]})
    results = assemble(plan, model.name, done, graded, residual_norms=norms, around=told)
    words = verdict(results)
    write_json(folder / "results.json", to_dict(results) | {"verdict": words.to_dict()})
    return results, words


def scaled_with_controls(
    model: Model,
    plan: Plan,
    treatment: Vectors,
    benign: Sequence[Transcript],
    sources: Sources | None = None,
) -> tuple[dict[Site, Direction], tuple[Control, ...]]:
    """The treatment, and a bank of controls of its norm at every site of the plan, on the scale of benign tokens.

    Raises:
        ExperimentError: a site has no direction, or a kind of control cannot be made.
        DirectionError: the direction belongs to another model.
    """
    lacking = [str(site) for site in plan.sites if site not in treatment]
    if lacking:
        raise ExperimentError(
            f"steering along {plan.direction}",
            f"no vector at {', '.join(lacking)}",
            "fit the probe at every site of the plan",
        )
    real = {site: treatment[site].check(model.identity) for site in plan.sites}
    bank = make_bank(real, sources, n=plan.n_controls, seed=plan.seed + 1, kinds=plan.kinds)
    levels = any(arm.unit == "quantile" for arm in plan.arms)
    every = [direction for vectors in (real, *(one.vectors for one in bank)) for direction in vectors.values()]
    scaled = calibrate(model, every, benign, quantiles=levels)
    width = len(plan.sites)
    sets = [{d.site: d for d in scaled[start : start + width]} for start in range(0, len(scaled), width)]
    return sets[0], tuple(replace(one, vectors=vectors) for one, vectors in zip(bank, sets[1:], strict=True))


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
