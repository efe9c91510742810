"""From graded rollouts to rates, contrasts and ranks: the tables that the report and the verdict stand on."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from interp.behaviour import Outcome, counts
from interp.edits import raw_strength
from interp.experiments.plan import Arm, Plan
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


@dataclass(frozen=True)
class ArmResult:
    """One arm among its controls."""

    arm: Arm
    treatment: Cell
    controls: tuple[Cell, ...]
    rank: ControlRank | None
    """Rank of the treatment's change among the controls', over the same rollouts; None where a rate is undefined."""
    family: ControlRank | None
    """The same against each control's furthest change over all arms that should move the event the same way: a rank
    that allows for having looked at several arms."""
    p_holm: float | None
    """The paired contrast's p-value, corrected over the arms of the plan."""


@dataclass(frozen=True)
class Results:
    """Everything that a verdict may use."""

    plan: Plan
    model: str
    n_prompts: int
    baseline: Cell
    arms: tuple[ArmResult, ...]
    trend: DoseTrend | None
    """Logistic fit of the event on the dose of the additions, with prompts' groups as clusters."""
    residual_norms: dict[Site, float]


def assemble(
    plan: Plan,
    model: str,
    treated: Sequence[Condition],
    banked: Sequence[Condition],
    graded: Graded,
    *,
    residual_norms: Mapping[Site, float],
    kl: Mapping[str, float | None],
) -> Results:
    """Results from graded rollouts."""
    by_condition: dict[str, list[tuple[Rollout, Outcome]]] = {c.name: [] for c in (*treated, *banked)}
    for rollout, outcome in graded:
        by_condition[rollout.condition].append((rollout, outcome))
    base = by_condition[treated[0].name]

    def cell(condition: Condition, role: str) -> Cell:
        rows = by_condition[condition.name]
        contrast = None if role == "baseline" else paired(rows, base, plan)
        cautious = paired(rows, base, plan, cautious=True) if role == "treatment" else None
        return Cell(
            condition.name,
            role,
            _edit(condition, residual_norms),
            len(rows),
            counts([o for _, o in rows]),
            rate_of([o.is_rung(plan.event) for _, o in rows], plan.level),
            rate_of([o.coherent for _, o in rows], plan.level),
            contrast,
            cautious,
            kl.get(condition.name),
            sum(r.changed for r, _ in rows) / max(1, len(rows)),
        )

    treatments = [cell(condition, "treatment") for condition in treated[1:]]
    corrected = holm([t.contrast.p_value if t.contrast else None for t in treatments])
    controls = [cell(condition, "control") for condition in banked]
    banks = [tuple(controls[start : start + plan.n_controls]) for start in range(0, len(controls), plan.n_controls)]
    changes = [_matched_change(by_condition[condition.name], base, plan) for condition in treated[1:]]
    arms = [
        ArmResult(arm, treatment, bank, _rank(arm, change, [bank]), _rank(arm, change, _same_way(plan, arm, banks)), p)
        for arm, treatment, bank, change, p in zip(plan.arms, treatments, banks, changes, corrected, strict=True)
    ]
    n_prompts = len({rollout.prompt for rollout, _ in base})
    trend = _trend(plan, base, treated, by_condition)
    return Results(plan, model, n_prompts, cell(treated[0], "baseline"), tuple(arms), trend, dict(residual_norms))


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


def _matched_change(treatment: Graded, base: Graded, plan: Plan) -> float | None:
    """The treatment's change over the rollouts that the controls have too."""
    shared = [(rollout, outcome) for rollout, outcome in treatment if rollout.sample < plan.control_samples]
    return paired(shared, base, plan).difference


def _same_way(plan: Plan, arm: Arm, banks: Sequence[Sequence[Cell]]) -> list[Sequence[Cell]]:
    """The banks of all arms that should move the event the way that `arm` should."""
    return [bank for other, bank in zip(plan.arms, banks, strict=True) if other.alternative == arm.alternative]


def _rank(arm: Arm, change: float | None, banks: Sequence[Sequence[Cell]]) -> ControlRank | None:
    """Rank of a change among the controls, each of which enters with its furthest change over `banks`."""
    furthest = max if arm.alternative == "greater" else min
    changes = [[cell.contrast.difference if cell.contrast else None for cell in bank] for bank in banks]
    if change is None or any(value is None for bank in changes for value in bank):
        return None
    bank = [furthest(values) for values in zip(*changes, strict=True)]
    return control_rank(change, bank, alternative="greater" if arm.alternative == "greater" else "less")


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


def _rate(rate: Rate) -> dict[str, Any]:
    interval = rate.interval
    return {
        "successes": rate.successes,
        "trials": rate.trials,
        "ungraded": rate.ungraded,
        "value": rate.value,
        "low": interval and interval.low,
        "high": interval and interval.high,
    }


def _contrast(contrast: Contrast | None) -> dict[str, Any] | None:
    return contrast and {
        "difference": contrast.difference,
        "low": contrast.interval and contrast.interval.low,
        "high": contrast.interval and contrast.interval.high,
        "p_value": contrast.p_value,
        "n": contrast.n,
        "method": contrast.method,
    }


def _cell(cell: Cell, event: str) -> dict[str, Any]:
    absent = dict.fromkeys(("kind", "direction", "strength", "unit", "scope", "raw_strength")) | {"sites": []}
    measured = {
        "condition": cell.condition,
        "role": cell.role,
        "n": cell.n,
        "outcomes": cell.outcomes,
        "event": event,
        event: _rate(cell.rate),
        "coherent": _rate(cell.coherent),
        "contrast": _contrast(cell.contrast),
        "cautious": _contrast(cell.cautious),
        "kl": cell.kl,
        "mean_changed": cell.mean_changed,
    }
    return absent | cell.edit | measured


def to_dict(results: Results) -> dict[str, Any]:
    """The JSON form that a run folder keeps and the report reads."""
    arms = [
        {
            "name": result.arm.name,
            "kind": result.arm.kind,
            "strength": result.arm.value,
            "unit": result.arm.unit,
            "sites": [str(site) for site in result.arm.sites],
            "alternative": result.arm.alternative,
            "treatment": result.treatment.condition,
            "controls": [cell.condition for cell in result.controls],
            "rank": result.rank and asdict(result.rank) | {"floor": result.rank.floor},
            "family": result.family and asdict(result.family) | {"floor": result.family.floor},
            "p_holm": result.p_holm,
        }
        for result in results.arms
    ]
    cells = [results.baseline, *(cell for arm in results.arms for cell in (arm.treatment, *arm.controls))]
    return {
        "question": results.plan.question,
        "model": results.model,
        "n_prompts": results.n_prompts,
        "samples": results.plan.samples,
        "control_samples": results.plan.control_samples,
        "direction": results.plan.direction,
        "event": results.plan.event,
        "cells": [_cell(cell, results.plan.event) for cell in cells],
        "arms": arms,
        "dose_trend": results.trend and asdict(results.trend),
        "residual_norms": {str(site): norm for site, norm in results.residual_norms.items()},
    }
