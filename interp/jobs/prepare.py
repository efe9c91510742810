"""A steering experiment made ready: direction, prompts, twins and controls read, and the doses' range found."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.behaviour import Case, Grader, Rules, grammar
from interp.directions import Direction, load_directions
from interp.doctor import gate
from interp.errors import ExperimentError, ProbeError
from interp.experiments import Arm, Around, Plan
from interp.experiments.bank import FITTED_KINDS, KINDS
from interp.experiments.calibrate import find_range, grader_for
from interp.experiments.controls import Vectors
from interp.experiments.dose_range import Range
from interp.generation import keep
from interp.jobs.recipe import Recipe
from interp.jobs.sources import bank_supply
from interp.jobs.steering import DOSES, LADDER, Steering
from interp.models import Model
from interp.organism import Factors
from interp.probes import probe_folder
from interp.sites import Site
from interp.store import Rows, Workspace, read_json
from interp.transcripts import Transcript

Progress = Callable[[str, int, int], None]
"""Called with the stage, what is done of it, and how much there is."""

RANGE_PROMPTS, RANGE_ROLLOUTS = 24, 48
"""On so many prompts, and so many rollouts a dose, the range is found: of few, one broken one would be too many."""
UNRELATED = ("firm", "decider")
"""Fields of the embedded world's transcripts that have nothing to do with desperation."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A steering experiment with all that its form names read, and its doses' range found."""

    plan: Plan
    prompts: list[Transcript]
    benign: list[Transcript]
    treatment: Vectors
    grader: Grader
    around: Around
    lacking: tuple[str, ...]
    """What the bank of controls could not be made from."""


def prepare(
    model: Model,
    asked: Steering,
    *,
    workspace: Workspace,
    folder: Path,
    task: bool = False,
    despite_doctor: bool = False,
    on_progress: Progress | None = None,
) -> Prepared:
    """Read the direction, the prompts, their twins and what the controls are made from, and find the range of doses.

    With `task`, prompts and grades are those of an Inspect task, which has no twins here and no range.

    Raises:
        ExperimentError: replies to the prompts could not be graded, or an arm is none.
        StoreError, DirectionError, ProbeError: the direction is not there, or of another model.
    """
    asked.plan_for(model.n_layers)  # an arm or a site that is none shall be known first
    prompts, twins = ([], []) if task else asked.read_prompts()
    grader = grammar if task else grader_of(asked.grader, prompts)
    home = probe_folder(workspace, asked.probe, model)
    directions = load_directions(home / "directions.safetensors", model=model.identity)
    treatment = chosen_of(directions, asked.probe, asked.direction)
    gate(model, asked=f"steering {model.name}", despite_doctor=despite_doctor)
    benign = answered(model, asked.read_benign(), folder, asked)
    how = {"despite_doctor": despite_doctor, "on_progress": on_progress}
    found = None if task or not asked.calibrate else _range(model, asked, prompts, treatment, benign, folder, **how)
    plan = asked.plan_for(model.n_layers, DOSES if found is None or asked.doses else usual_doses(found))
    recipe = recipe_of(home) if set(plan.kinds or KINDS) & FITTED_KINDS else None
    supply = bank_supply(
        recipe,
        model,
        directions,
        asked.direction,
        plan.sites,
        workspace=workspace,
        unrelated=asked.unrelated or _unrelated(recipe),
        on_progress=on_progress,
    )
    around = Around(
        supply.sources,
        {arm.when.direction: chosen_of(directions, asked.probe, arm.when.direction) for arm in plan.arms if arm.when},
        twins,
        _emotions(directions, model),
        dose_range=found,
        beyond_range=asked.beyond_range,
    )
    return Prepared(plan, prompts, benign, treatment, grader, around, supply.lacking)


def recipe_of(home: Path) -> Recipe | None:
    """The recipe of the probe in a folder, as its card has it; None where it has none."""
    told = read_json(home / "card.json").get("recipe")
    return Recipe.from_card(told, home.parent) if told and "data" in told else None


def _unrelated(recipe: Recipe | None) -> tuple[str, ...]:
    """Fields of the organism's world that have nothing to do with desperation."""
    return UNRELATED if recipe is not None and recipe.data.organism is not None else ()


def _emotions(directions: Mapping[str, Direction], model: Model) -> list[Direction]:
    """All emotions of a probe at two thirds of the depth, without contrasts."""
    at = Site.parse("2/3", model.n_layers)
    return [d for d in directions.values() if d.site == at and d.name.startswith("emotion:") and "-" not in d.name]


def usual_doses(found: Range) -> tuple[float, float]:
    """Half of the doses that stay coherent with both signs, and all of them.

    Raises:
        ExperimentError: with one sign, no dose that was tried stays coherent.
    """
    most = min(-found.low, found.high)
    if not most:
        said = f"replies hold together from {found.low:g} to {found.high:g} {found.unit} only"
        raise ExperimentError("choosing doses", said, "name doses, or other sites, or leave doses out with --add ''")
    return most / 2, most


def _range(
    model: Model,
    asked: Steering,
    prompts: Sequence[Transcript],
    treatment: Vectors,
    benign: Sequence[Transcript],
    folder: Path,
    **how: Any,
) -> Range | None:
    """The range of coherent doses on the first of the prompts; None where nothing is added."""
    adds = [arm for arm in asked.plan_for(model.n_layers).arms if arm.kind == "add"]
    if not adds:
        return None
    here = {abs(arm.value) for arm in adds if (arm.unit, arm.sites, arm.scope) == _place(adds[0])}
    strengths = LADDER if asked.doses is None else sorted({*here, 2 * max(here)})
    prompts = prompts[:RANGE_PROMPTS]
    return find_range(
        model,
        treatment,
        adds[0],
        prompts,
        benign=benign,
        folder=folder / "calibration",
        grader=grader_for(prompts),
        strengths=strengths,
        samples=math.ceil(RANGE_ROLLOUTS / max(1, len(prompts))),
        seed=asked.seed,
        sampling=asked.sampling,
        **how,
    )


def _place(arm: Arm) -> tuple[str, tuple[Site, ...], str]:
    return arm.unit, arm.sites, arm.scope


def chosen_of(found: Mapping[str, Direction], name: str, direction: str) -> dict[Site, Direction]:
    """The direction of that name at every site, of all that a probe has.

    Raises:
        ProbeError: the probe has no such direction.
    """
    chosen = {d.site: d for d in found.values() if d.name == direction}
    if not chosen:
        raise ProbeError(
            f"direction {direction} of probe {name}",
            "it has no such direction",
            f"choose one of {', '.join(sorted({d.name for d in found.values()}))}",
        )
    return chosen


def grader_of(name: str, prompts: Sequence[Transcript]) -> Grader:
    """The grader of that name; `auto` is the grammar for scenes of the organism's world, and the rules for others.

    Raises:
        ExperimentError: there is no such grader, or replies to these prompts could not be graded, so nothing is spent
            on them.
    """
    if name not in ("auto", "grammar", "rules"):
        raise ExperimentError(f"grading by {name}", "no such grader", "choose one of auto, grammar, rules")
    factors = set(Factors.__dataclass_fields__)
    worldly = [factors <= set(prompt.meta) for prompt in prompts]
    name = ("grammar" if all(worldly) else "rules") if name == "auto" else name
    lacking = [p.id for p, known in zip(prompts, worldly, strict=True) if not known]
    do = "take prompts of `interp scenarios` or `interp organism sample middle`, or call interp.steer with a grader"
    if name == "rules":
        lacking = [prompt.id for prompt in prompts if Case.of(prompt.meta) is None]
    if lacking:
        found = f"{len(lacking)} say in meta nothing of their scene, so nobody could grade their replies: "
        raise ExperimentError(f"grading replies to {len(prompts)} prompts", found + ", ".join(lacking[:5]), do)
    return grammar if name == "grammar" else Rules()


def answered(model: Model, benign: Sequence[Transcript], folder: Path, asked: Steering) -> list[Transcript]:
    """The benign transcripts, those without a reply with the model's own, which is kept in `benign.jsonl`."""
    silent = [one for one in benign if one.messages[-1].role in ("user", "tool")]
    if not silent:
        return list(benign)
    rows = Rows(folder / "benign.jsonl")
    written = keep(model, silent, rows, seed=asked.seed, sampling=asked.sampling)
    replies = {one.prompt: one.transcript for one in written}
    return [replies.get(one.id, one) for one in benign]
