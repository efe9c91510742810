"""From graded rollouts to rates, contrasts and ranks: what the report and the verdict stand on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from interp.behaviour import Outcome, counts
from interp.edits import raw_strength
from interp.experiments.dose_range import Range
from interp.experiments.plan import Arm, Banked, Design, Plan
from interp.experiments.side_effects import SideEffects
from interp.experiments.standing import ControlEffect, Standing, standing
from interp.generation import Condition, Rollout
from interp.sites import Site
from interp.stats import (
    Contrast,
    ControlRank,
    DoseTrend,
    Rate,
    control_rank,
    dose_trend,
    holm,
    paired_contrast,
    rate_of,
)

Graded = Sequence[tuple[Rollout, Outcome]]


@dataclass(frozen=True)
class Cell:
    """One condition: what was done, and what came of it."""

    condition: str
    role: str
    """`baseline`, `treatment` or `control`."""
    edit: dict[str, Any]
    """Kind, direction, strength, unit, sites, scope and raw strength; empty for the baseline."""
    n: int
    outcomes: dict[str, int]
    rate: Rate
    """Of the plan's event."""
    coherent: Rate
    contrast: Contrast | None
    """The event's rate minus the baseline's over the rollouts that share prompt and noise; None for the baseline."""
    cautious: Contrast | None
    """The same with every broken reply counted as the event, so that breaking replies cannot look like suppression."""
    kl: float | None
    """Mean KL divergence from the unedited model on benign text, in nats a token; None where it was not measured."""
    mean_changed: float
    """How often the edit changed a token, a rollout."""
    control: str | None = None
    """Name of the control; None for the baseline and treatments."""
    kind: str | None = None
    """Its kind."""


@dataclass(frozen=True)
class ArmResult:
    """One arm among its controls."""

    arm: Arm
    treatment: Cell
    controls: tuple[Cell, ...]
    """At equal norm."""
    rank: ControlRank | None
    """Rank of the treatment's change among the controls', over the same rollouts; None where a rate is undefined."""
    family: ControlRank | None
    """The same against each control's furthest change over all arms that should move the event the same way: a rank
    that allows for having looked at several arms."""
    p_holm: float | None
    """The paired contrast's p-value, corrected over the arms of the plan."""
    standing: Standing
    """Rank within each kind of control, and paired tests of real minus control."""
    equal_kl: Standing | None = None
    """The same among controls at equal KL on benign text; None where there are none."""
    kl_controls: tuple[Cell, ...] = ()
    """The cells at equal KL."""


@dataclass(frozen=True)
class Circumstances:
    """What a verdict must know beside the counts."""

    gate: tuple[str, ...] = ()
    """Checks of the doctor that failed."""
    dose_range: Range | None = None
    """Within which doses replies stay coherent; None where it was not looked for."""
    side_effects: SideEffects | None = None
    registration: str | None = None
    """Hash of the plan that was written before anything was generated."""
    unreached: tuple[str, ...] = ()
    """Controls that do not reach the KL of an arm."""
    kl: Mapping[str, float | None] = field(default_factory=dict)
    """On benign text, by condition."""


@dataclass(frozen=True)
class Results:
    """Everything that a verdict may use."""

    plan: Plan
    model: str
    n_prompts: int
    baseline: Cell
    arms: tuple[ArmResult, ...]
    trend: DoseTrend | None
    """Logistic fit of the event on the dose of the additions, with prompts' groups as clusters: the test for a
    monotone trend."""
    symmetric: tuple[Arm, ...]
    """Additions along minus the direction whose opposite moves the event the same way, both beyond doubt: disruption
    and not direction."""
    residual_norms: dict[Site, float]
    around: Circumstances = Circumstances()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of controls in the bank."""
        return tuple(dict.fromkeys(cell.kind for arm in self.arms for cell in arm.controls if cell.kind))


def assemble(
    plan: Plan,
    model: str,
    done: Design,
    graded: Graded,
    *,
    residual_norms: Mapping[Site, float],
    around: Circumstances | None = None,
) -> Results:
    """Results from graded rollouts."""
    around = around or Circumstances()
    rows: dict[str, list[tuple[Rollout, Outcome]]] = {c.name: [] for c in (*done.treated, *done.banked)}
    for rollout, outcome in graded:
        rows[rollout.condition].append((rollout, outcome))
    base = rows[done.treated[0].name]

    def cell(condition: Condition, role: str, of: Banked | None = None) -> Cell:
        return _cell(plan, condition, role, rows[condition.name], base, residual_norms, around.kl, of)

    treatments = [cell(condition, "treatment") for condition in done.treated[1:]]
    corrected = holm([t.contrast.p_value if t.contrast else None for t in treatments])
    banks = [tuple(cell(one.condition, "control", one) for one in bank) for bank in done.banks]
    matched = done.equal_kl or ((),) * len(plan.arms)
    at_kl = [tuple(cell(one.condition, "control at equal KL", one) for one in bank) for bank in matched]
    arms = []
    for index, arm in enumerate(plan.arms):
        treated = _shared(rows[done.treated[index + 1].name], plan)
        change = paired(treated, base, plan).difference
        found = standing(change, _effects(banks[index], treated, rows, plan), alternative=arm.alternative)
        same_kl = _effects(at_kl[index], treated, rows, plan)
        other = standing(change, same_kl, alternative=arm.alternative) if same_kl else None
        family = _family(arm, change, _same_way(plan, arm, banks))
        cells = treatments[index], banks[index], found.overall, family, corrected[index]
        arms.append(ArmResult(arm, *cells, found, other, at_kl[index]))
    n_prompts = len({rollout.prompt for rollout, _ in base})
    trend = _trend(plan, base, done.treated, rows)
    first = cell(done.treated[0], "baseline")
    symmetric = _symmetric(arms)
    return Results(plan, model, n_prompts, first, tuple(arms), trend, symmetric, dict(residual_norms), around)


def _cell(
    plan: Plan,
    condition: Condition,
    role: str,
    rows: Graded,
    base: Graded,
    norms: Mapping[Site, float],
    kl: Mapping[str, float | None],
    of: Banked | None,
) -> Cell:
    return Cell(
        condition.name,
        role,
        _edit(condition, norms),
        len(rows),
        counts([o for _, o in rows]),
        rate_of([o.is_rung(plan.event) for _, o in rows], plan.level),
        rate_of([o.coherent for _, o in rows], plan.level),
        None if role == "baseline" else paired(rows, base, plan),
        paired(rows, base, plan, cautious=True) if role == "treatment" else None,
        of.kl if of is not None and of.kl is not None else kl.get(condition.name),
        sum(r.changed for r, _ in rows) / max(1, len(rows)),
        of and of.control.name,
        of and of.control.kind,
    )


def _effects(bank: Sequence[Cell], treated: Graded, rows: Mapping[str, Graded], plan: Plan) -> list[ControlEffect]:
    """What came of every control, and the treatment minus it over the rollouts that both have."""
    return [
        ControlEffect(
            cell.control or "",
            cell.kind or "",
            cell.contrast.difference if cell.contrast else None,
            paired(treated, rows[cell.condition], plan),
        )
        for cell in bank
    ]


def paired(one: Graded, other: Graded, plan: Plan, *, cautious: bool = False) -> Contrast:
    """The event's rate in `one` minus `other` over the rollouts that share prompt, sample and so noise.

    With `cautious`, a broken reply in `one` counts as the event.
    """
    against = {(rollout.prompt, rollout.sample): outcome for rollout, outcome in other}
    pairs = [
        (outcome, against[key], rollout.transcript.group)
        for rollout, outcome in one
        if (key := (rollout.prompt, rollout.sample)) in against
    ]
    event = plan.event
    first = [True if cautious and outcome.coherent is False else outcome.is_rung(event) for outcome, _, _ in pairs]
    second = [outcome.is_rung(event) for _, outcome, _ in pairs]
    return paired_contrast(first, second, [group for _, _, group in pairs], seed=plan.seed, level=plan.level)


def _shared(treatment: Graded, plan: Plan) -> Graded:
    """The rollouts of a treatment that the controls have too."""
    return [(rollout, outcome) for rollout, outcome in treatment if rollout.sample < plan.control_samples]


def _same_way(plan: Plan, arm: Arm, banks: Sequence[Sequence[Cell]]) -> list[Sequence[Cell]]:
    """The banks of all arms that should move the event the way that `arm` should."""
    return [bank for other, bank in zip(plan.arms, banks, strict=True) if other.alternative == arm.alternative]


def _family(arm: Arm, change: float | None, banks: Sequence[Sequence[Cell]]) -> ControlRank | None:
    """Rank of a change among the controls, each of which enters with its furthest change over `banks`."""
    furthest: Callable[..., float] = max if arm.alternative == "greater" else min
    changes: dict[str, list[float]] = {}
    for cell in (cell for bank in banks for cell in bank):
        difference = cell.contrast.difference if cell.contrast else None
        if difference is None:
            return None
        changes.setdefault(cell.control or "", []).append(difference)
    if change is None or not changes:
        return None
    return control_rank(change, [furthest(values) for values in changes.values()], alternative=arm.alternative)


def _symmetric(arms: Sequence[ArmResult]) -> tuple[Arm, ...]:
    """The negative doses whose positive twin moves the event the same way, both intervals clear of 0."""
    sides = {}
    for one in arms:
        interval = one.treatment.contrast.interval if one.treatment.contrast else None
        if one.arm.kind == "add" and interval is not None:
            sides[one.arm] = (interval.low > 0) - (interval.high < 0)
    return tuple(arm for arm in sides if arm.value < 0 and sides[arm] and sides.get(mirror(arm)) == sides[arm])


def mirror(arm: Arm) -> Arm:
    """The same dose with the other sign, which should move the event the other way."""
    return replace(arm, value=-arm.value, alternative="greater" if arm.alternative == "less" else "less")


def _trend(
    plan: Plan, base: Graded, treated: Sequence[Condition], by_condition: Mapping[str, Graded]
) -> DoseTrend | None:
    """The dose fit over the baseline (dose 0) and every addition; None without additions."""
    doses = [
        (arm.value, by_condition[condition.name])
        for arm, condition in zip(plan.arms, treated[1:], strict=True)
        if arm.kind == "add"
    ]
    if not doses:
        return None
    rows = [
        (dose, outcome.is_rung(plan.event), rollout.transcript.group)
        for dose, graded in [(0.0, base), *doses]
        for rollout, outcome in graded
    ]
    strengths, flags, groups = zip(*rows, strict=True)
    return dose_trend(strengths, flags, groups, level=plan.level)


def _edit(condition: Condition, residual_norms: Mapping[Site, float]) -> dict[str, Any]:
    if not condition.edits:
        return {}
    first = condition.edits[0]
    sites = [str(site) for edit in condition.edits for site in edit.sites]
    adds = first.kind == "add"
    raw = raw_strength(first.each, first.direction, first.sites[0], residual_norms) if adds else None
    return {
        "kind": first.kind,
        "direction": first.direction.name,
        "strength": first.strength.value,
        "unit": first.strength.unit,
        "sites": sites,
        "scope": first.scope,
        "raw_strength": raw,
        "norm_strength": raw / first.direction.norm if raw is not None else None,
        "resid_strength": raw / residual_norms[first.sites[0]] if raw is not None else None,
    }
