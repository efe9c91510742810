"""The JSON form of results: what a run folder keeps and the report reads."""

from dataclasses import asdict
from typing import Any

from interp.experiments.bank import not_shown
from interp.experiments.results import ArmResult, Cell, Results
from interp.stats import Contrast, ControlRank, Rate


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
        "control": cell.control,
        "control_kind": cell.kind,
        "kl": cell.kl,
        "mean_changed": cell.mean_changed,
    }
    return absent | cell.edit | measured


def _ranked(rank: ControlRank | None) -> dict[str, Any] | None:
    return rank and asdict(rank) | {"floor": rank.floor}


def _arm(result: ArmResult) -> dict[str, Any]:
    arm = result.arm.to_dict()
    return arm | {
        "strength": arm.pop("value"),
        "treatment": result.treatment.condition,
        "controls": [cell.condition for cell in result.controls],
        "kl_controls": [cell.condition for cell in result.kl_controls],
        "rank": _ranked(result.rank),
        "family": _ranked(result.family),
        "p_holm": result.p_holm,
        "standing": result.standing.to_dict(),
        "equal_kl": result.equal_kl and result.equal_kl.to_dict(),
    }


def to_dict(results: Results) -> dict[str, Any]:
    """The JSON form that a run folder keeps and the report reads."""
    plan, around = results.plan, results.around
    of_arms = [(arm.treatment, *arm.controls, *arm.kl_controls) for arm in results.arms]
    cells = [results.baseline, *(cell for cells in of_arms for cell in cells)]
    shaded = around.dose_range and {
        "low": around.dose_range.low,
        "high": around.dose_range.high,
        "unit": around.dose_range.unit,
        "sites": [str(site) for site in around.dose_range.sites],
        "scope": around.dose_range.scope,
    }
    return {
        "question": plan.question,
        "model": results.model,
        "n_prompts": results.n_prompts,
        "samples": plan.samples,
        "control_samples": plan.control_samples,
        "level": plan.level,
        "direction": plan.direction,
        "event": plan.event,
        "cells": [_cell(cell, plan.event) for cell in cells],
        "arms": [_arm(result) for result in results.arms],
        "dose_trend": results.trend and asdict(results.trend),
        "symmetric": [arm.name for arm in results.symmetric],
        "kinds": list(results.kinds),
        "not_shown": list(not_shown(results.kinds)),
        "residual_norms": {str(site): norm for site, norm in results.residual_norms.items()},
        "gate": list(around.gate),
        "range": shaded,
        "side_effects": around.side_effects and around.side_effects.to_dict(),
        "registration": around.registration,
        "unreached": list(around.unreached),
    }
