"""The strength at which a direction disturbs benign text as much as another: directions compared at equal KL."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from interp.directions import Direction
from interp.edits import Edit, lacks, place
from interp.errors import ExperimentError
from interp.experiments.controls import Vectors
from interp.experiments.plan import Arm, Banked, Design, Plan
from interp.generation import Condition
from interp.models import Model, pad
from interp.sites import Site
from interp.store import Rows
from interp.tokens import render
from interp.transcripts import Transcript

SEARCHED = ("add", "ablate", "mean_ablate")
"""Kinds of edit that do nothing at strength 0 and more from there on."""
TOLERANCE = 0.02
TEXTS = 4
"""Benign texts on which controls are brought to a treatment's KL."""
NEAR = (0.7, 2.8)
"""Shares of a first guess between which a control's strength is searched for."""
MOST = 40
"""Evaluations that narrow a step down."""
_CHUNK = 64
"""Positions of which the distributions are held in float64 at once."""


@dataclass(frozen=True)
class Evaluation:
    """The KL at one strength."""

    value: float
    kl: float


@dataclass(frozen=True)
class EqualKL:
    """The strength of one direction at which the KL on benign text is the target."""

    direction: str
    value: float
    unit: str
    kl: float
    target: float
    evaluations: tuple[Evaluation, ...]
    """All of them, in the order in which they were made."""

    @property
    def monotone(self) -> bool:
        """Whether a stronger edit never had a smaller KL: if not, other strengths may give the target too."""
        by_strength = sorted(self.evaluations, key=lambda one: abs(one.value))
        return all(b.kl >= a.kl * (1 - 1e-6) - 1e-9 for a, b in pairwise(by_strength))

    def to_dict(self) -> dict[str, Any]:
        """What a run record keeps."""
        return asdict(self) | {"monotone": self.monotone}


@torch.no_grad()
def text_kl(
    model: Model,
    edits: Sequence[Edit],
    benign: Sequence[Transcript],
    *,
    residual_norms: Mapping[Site, float] | None = None,
) -> float:
    """Mean KL divergence (nats a token) of the edited next-token distribution from the unedited one on benign text.

    Over the positions after the first at which a token of the text follows; where all edits have the scope `generated`,
    from the assistant's first token on, which counts as generated. Texts without the part of the prompt that is edited
    are left out. 0 exactly for an edit that changes nothing.

    Raises:
        ExperimentError: there is no such position.
    """
    scale = {"d_model": model.d_model, "device": model.device, "residual_norms": residual_norms}
    spoken_only = bool(edits) and not any(edit.reads_prompt for edit in edits)
    total, n = 0.0, 0
    for transcript in benign:
        tokens = render(transcript, model.tokenizer)
        spoken = min((span.start for span in tokens.named("assistant")), default=len(tokens))
        first = max(1, spoken) if spoken_only else 1
        text = replace(tokens, prompt_tokens=spoken)
        if first >= len(tokens) - 1 or any(lacks(edit.scope, text) for edit in edits):
            continue
        placed = place([(), edits], **scale, texts=[text] * 2, tokenizer=model.tokenizer)
        run = model.run(pad([tokens.ids] * 2, prompt_tokens=[spoken] * 2), edits=placed, logits="all")
        assert run.logits is not None
        for logits in run.logits[:, first : len(tokens) - 1].split(_CHUNK, dim=1):
            p, q = torch.log_softmax(logits.double(), -1)  # in float32 a small KL would drown in rounding
            total += float((p.exp() * (p - q)).sum())
            n += len(p)
    if not n:
        found = "no position after the first, or none in the edit's scope"
        raise ExperimentError("measuring the KL on benign text", found, "give longer transcripts with replies")
    return total / n


def strength_at_kl(
    model: Model,
    arm: Arm,
    vectors: Mapping[Site, Direction],
    benign: Sequence[Transcript],
    target: float,
    *,
    within: tuple[float, float],
    residual_norms: Mapping[Site, float] | None = None,
    tolerance: float = TOLERANCE,
) -> EqualKL:
    """The strength, in the arm's unit and between `within`, at which the KL on benign text is `target`.

    Kind, unit, sites and scope are the arm's. `within` names the weakest and the strongest strength, of one sign. From
    the weakest the strength is doubled until the KL passes the target, and the step in which it does is narrowed down,
    so nothing much stronger than the answer is tried, and of several answers the weakest step's is found. The
    KL is within the share `tolerance` of the target.

    Raises:
        ExperimentError: the arm's kind has no strength 0, or the target is not reached within the range.
    """
    name = vectors[arm.sites[0]].name
    asked = f"bringing {arm.kind} along {name} to a KL of {target:g}"
    _refuse(asked, arm, target, within)
    made: list[Evaluation] = []

    def at(value: float) -> Evaluation:
        edits = replace(arm, value=value).condition(name, vectors).edits
        kl = text_kl(model, edits, benign, residual_norms=residual_norms)
        made.append(Evaluation(value, kl if math.isfinite(kl) else math.inf))
        return made[-1]

    found = _search(at, target, within, tolerance)
    if found is None:
        tried = ", ".join(f"{one.kl:.3g} at {one.value:g}" for one in sorted(made, key=lambda one: abs(one.value)))
        do = f"choose a target or a range that reaches it (it was searched from {within[0]:g} to {within[1]:g})"
        raise ExperimentError(asked, f"a KL of {tried} {arm.unit}", do)
    return EqualKL(name, found.value, arm.unit, found.kl, target, tuple(made))


def _refuse(asked: str, arm: Arm, target: float, within: tuple[float, float]) -> None:
    if arm.kind not in SEARCHED:
        raise ExperimentError(asked, f"{arm.kind} has no strength 0", f"give an arm of {', '.join(SEARCHED)}")
    weak, strong = within
    if not (target > 0 and math.isfinite(target) and weak * strong > 0 and abs(weak) < abs(strong)):
        found = f"target {target:g}, range {weak:g} to {strong:g}"
        raise ExperimentError(asked, found, "give a target above 0 and a range of one sign, the weakest first")


def _search(at: Any, target: float, within: tuple[float, float], tolerance: float) -> Evaluation | None:
    """The evaluation that hits the target; None where the range does not reach it, or jumps over it."""
    below, above = None, at(within[0])
    while above.kl < target * (1 - tolerance):
        if above.value == within[1]:
            return None
        below, doubled = above, 2 * above.value
        above = at(doubled if abs(doubled) < abs(within[1]) else within[1])
    if above.kl <= target * (1 + tolerance):
        return above
    if below is None:
        return None
    for _ in range(MOST):
        one = at(below.value * (above.value / below.value) ** _step(below, above, target))
        if abs(one.kl - target) <= tolerance * target:
            return one
        below, above = (one, above) if one.kl < target else (below, one)
    return None


def _step(below: Evaluation, above: Evaluation, target: float) -> float:
    """How far between two strengths the target lies, on logarithmic scales, where the KL is nearly a power law."""
    if below.kl <= 0 or not math.isfinite(above.kl):
        return 0.5
    share = math.log(target / below.kl) / math.log(above.kl / below.kl)
    return min(max(share, 0.1), 0.9)


def matched_banks(
    model: Model,
    plan: Plan,
    done: Design,
    benign: Sequence[Transcript],
    residual_norms: Mapping[Site, float],
    guards: Mapping[str, Vectors] | None = None,
    *,
    keep: Path | None = None,
) -> Design:
    """The design with every control of its strongest lowering addition at the treatment's KL too, where that is asked.

    The KL is that of the first `TEXTS` benign transcripts. A control's strength is looked for around a first guess (the
    KL grows with the square of a small dose); one that does not get there is left out and named. What was found is
    added to `keep` at once, so that a search that was stopped goes on.
    """
    benign = benign[:TEXTS]
    if not any(map(plan.compares_kl, plan.arms)):
        return done
    kept = _Kept(keep)
    matched: list[tuple[Banked, ...]] = []
    unreached: list[str] = []
    for arm, condition, bank in zip(plan.arms, done.treated[1:], done.banks, strict=True):
        found: list[Banked] = []
        if plan.compares_kl(arm):
            target = text_kl(model, condition.edits, benign, residual_norms=residual_norms)
            for one in bank:
                search = partial(_searched, model, arm, one, benign, residual_norms, target)
                row = kept.get(one.condition.name, search)
                if row["value"] is None:
                    unreached.append(f"{one.condition.name} ({row['found']})")
                    continue
                again = replace(arm, value=row["value"]).condition(one.control.name, one.control.vectors, guards)
                named = Condition(f"{one.condition.name} at equal KL", again.edits)
                found.append(Banked(one.control, named, row["kl"]))
        matched.append(tuple(found))
    return replace(done, equal_kl=tuple(matched), unreached=tuple(unreached))


class _Kept:
    """Strengths that were found, by condition, in a file that a stopped search goes on from."""

    def __init__(self, path: Path | None) -> None:
        self.rows = Rows(path) if path else None
        self.found = {row["condition"]: row for row in self.rows.read()} if self.rows else {}

    def get(self, condition: str, search: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The row of a condition, searched for only once."""
        if condition not in self.found:
            self.found[condition] = {"condition": condition, **search()}
            if self.rows:
                self.rows.append(self.found[condition])
        return self.found[condition]


def _searched(
    model: Model,
    arm: Arm,
    one: Banked,
    benign: Sequence[Transcript],
    residual_norms: Mapping[Site, float],
    target: float,
) -> dict[str, Any]:
    """The strength of a control at a KL, or what it reached."""
    there = text_kl(model, one.condition.edits, benign, residual_norms=residual_norms)
    guess = arm.value * math.sqrt(target / there) if there > 0 and target > 0 else arm.value
    how = {"within": (guess * NEAR[0], guess * NEAR[1]), "residual_norms": residual_norms}
    try:
        found = strength_at_kl(model, arm, one.control.vectors, benign, target, **how)
    except ExperimentError as error:
        return {"value": None, "kl": None, "found": error.found}
    return {"value": found.value, "kl": found.kl, "found": None}
