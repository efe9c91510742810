"""The whole line: from a model and a recipe to a report, stage after stage, each kept in the run's folder."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from interp.behaviour import COHERENT, Case, Grader, Rules, grammar
from interp.directions import Direction, load_directions
from interp.doctor import gate
from interp.errors import ExperimentError, ProbeError
from interp.experiments import Arm, Around, Plan, Verdict, announce, steer, without_reply
from interp.experiments.bank import FITTED_KINDS, KINDS
from interp.experiments.calibrate import find_range, grader_for
from interp.experiments.controls import Vectors
from interp.experiments.dose_range import Range
from interp.experiments.organism import SAMPLING
from interp.generation import BASELINE, generate, keep
from interp.jobs import Recipe, probe
from interp.jobs.sources import bank_supply
from interp.jobs.steering import DOSES, LADDER, N_BENIGN, N_PROMPTS, Benign, Prompts, Steering
from interp.models import Model
from interp.organism import Factors
from interp.organism.sets import benign_transcripts, benign_twin, middle_band_transcripts
from interp.probes import ProbeCard, probe_folder
from interp.report import write_report
from interp.sites import Site
from interp.store import Rows, Workspace, read_json, write_json
from interp.traces import TokenTrace, trace
from interp.transcripts import Transcript, read_jsonl

Progress = Callable[[str, int, int], None]
"""Called with the stage, what is done of it, and how much there is."""

RECIPE = Path("desperation") / "recipe.toml"
DIRECTION = "emotion:desperate"
"""The direction under test: fitted on stories alone, so that nothing of the behaviour went into it."""
SEED = 7
RANGE_PROMPTS, RANGE_ROLLOUTS = 24, 48
"""On so many prompts, and so many rollouts a dose, the range is found: of few, one broken one would be too many."""
UNRELATED = ("firm", "decider")
"""Fields of the embedded world's transcripts that have nothing to do with desperation."""


def open_probe(workspace: Workspace, name: str, model: Model, direction: str) -> dict[Site, Direction]:
    """A probe's direction of that name at every site, fitted on that model.

    Raises:
        StoreError: the probe was not fitted on the model.
        DirectionError: it was fitted on other weights, another dtype or chat template.
        ProbeError: the probe has no such direction.
    """
    found = load_directions(probe_folder(workspace, name, model) / "directions.safetensors", model=model.identity)
    return chosen_of(found, name, direction)


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


def at_site(vectors: dict[Site, Direction], site: Site) -> Direction:
    """The direction at one site.

    Raises:
        ProbeError: the probe was not fitted there.
    """
    if site not in vectors:
        raise ProbeError(f"reading at {site}", "the probe was not fitted there", f"choose one of {_named(vectors)}")
    return vectors[site]


def _named(sites: Iterable[Site]) -> str:
    return ", ".join(map(str, sorted(sites)))


def read_prompts(path: Path | None, n: int | None, seed: int) -> list[Transcript]:
    """The first `n` transcripts of a file, or all; without one, scenes of the organism's world in the middle band."""
    return read_jsonl(path)[:n] if path else middle_band_transcripts(n or N_PROMPTS, seed)


def grader_of(name: str, prompts: Sequence[Transcript]) -> Grader:
    """The grader of that name; `auto` is the grammar for scenes of the organism's world, and the rules for others.

    Raises:
        ExperimentError: replies to these prompts could not be graded, so nothing is spent on them.
    """
    factors = set(Factors.__dataclass_fields__)
    worldly = [factors <= set(prompt.meta) for prompt in prompts]
    name = ("grammar" if all(worldly) else "rules") if name == "auto" else name
    lacking = [p.id for p, known in zip(prompts, worldly, strict=True) if not known]
    do = "take prompts of `interp scenarios` or `interp organism sample middle`, or call interp.steer with a grader"
    if name == "rules":
        lacking = [prompt.id for prompt in prompts if Case.of(prompt.meta) is None]
    if lacking:
        found = f"{len(lacking)} say in meta nothing of their scene, so nobody could grade their replies: "
        raise ExperimentError(f"steering on {len(prompts)} prompts", found + ", ".join(lacking[:5]), do)
    return grammar if name == "grammar" else Rules()


def read_benign(path: Path | None, seed: int) -> list[Transcript]:
    """The benign transcripts of a file; without one, the organism's."""
    return read_jsonl(path) if path else benign_transcripts(N_BENIGN, seed)


def answered(model: Model, benign: Sequence[Transcript], folder: Path, asked: Steering) -> list[Transcript]:
    """The benign transcripts, those without a reply with the model's own, which is kept in `benign.jsonl`."""
    silent = [one for one in benign if one.messages[-1].role in ("user", "tool")]
    if not silent:
        return list(benign)
    rows = Rows(folder / "benign.jsonl")
    written = keep(model, silent, rows, seed=asked.seed, sampling=asked.sampling)
    replies = {one.prompt: one.transcript for one in written}
    return [replies.get(one.id, one) for one in benign]


def read_or_generate_pair(model: Model, path: Path | None, seed: int) -> list[Transcript]:
    """The transcripts of a file; without one, a matched pair of the model's own replies."""
    return read_jsonl(path) if path else matched_pair(model, middle_band_transcripts(N_PROMPTS, seed), seed=seed)


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
        found,
        asked.beyond_range,
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


def experiment(
    model: Model,
    asked: Steering,
    *,
    workspace: Workspace,
    folder: Path,
    command: Sequence[str],
    only_plan: bool = False,
    despite_doctor: bool = False,
    on_progress: Progress | None = None,
) -> Verdict | Path:
    """Examine the model, carry out the experiment, and write the report; the folder resumes after a kill.

    With `only_plan`, `plan.json` is written and nothing is generated but what the range of doses needs; its path comes
    back.

    Raises:
        ModelError: a check of the doctor failed, and `despite_doctor` is not set.
        ExperimentError: as `prepare` and `interp.steer`.
    """
    ready = prepare(
        model,
        asked,
        workspace=workspace,
        folder=folder,
        despite_doctor=despite_doctor,
        on_progress=on_progress,
    )
    how: dict[str, Any] = {
        "benign": ready.benign,
        "folder": folder,
        "grader": ready.grader,
        "around": ready.around,
        "command": command,
        "despite_doctor": despite_doctor,
    }
    if only_plan:
        return announce(model, ready.plan, ready.prompts, ready.treatment, **how)
    tell = partial(on_progress, "steering") if on_progress else None
    _, words = steer(model, ready.plan, ready.prompts, ready.treatment, on_progress=tell, **how)
    write_report(folder)
    return replace(words, sentences=(*words.sentences, *map(_lacking, ready.lacking)))


def _lacking(sentence: str) -> str:
    return f"Of the controls, some could not be made: {sentence}"


def matched_pair(model: Model, prompts: Sequence[Transcript], *, seed: int) -> list[Transcript]:
    """A reply that blackmails and the reply to its benign twin, both the model's own.

    Raises:
        ExperimentError: the model blackmails in none of the prompts.
    """
    for prompt in prompts:
        twin = benign_twin(prompt, reply=False)
        real, benign = generate(model, [without_reply(prompt), twin], [BASELINE], seed=seed, sampling=SAMPLING)
        if prompt.id != real.prompt:
            real, benign = benign, real
        said, calm = grammar(real).rung, grammar(benign).rung
        if said == "blackmail" and calm in COHERENT:
            return [replace(real.transcript, label=said), replace(benign.transcript, label=calm)]
    raise ExperimentError(
        "tracing a blackmail transcript",
        f"no blackmail in {len(prompts)} replies",
        "give more prompts, or transcripts of your own",
    )


def demo(model: Model, *, workspace: Workspace, folder: Path, on_progress: Progress | None = None) -> Verdict:
    """Every stage on the embedded model: probe, trace, steer with controls, report. Everything stays in `folder`.

    Raises:
        ExperimentError: the workspace has no recipe `probes/desperation/recipe.toml`.
    """
    if not (workspace.probes / RECIPE).is_file():
        raise ExperimentError(
            "running the demo",
            f"no probes/{RECIPE.as_posix()} in the workspace",
            "run it in a clone of the repository, or name one with --workspace",
        )
    folder.mkdir(parents=True, exist_ok=True)
    inside = Workspace(folder)
    recipe = Recipe.load(workspace.probes / RECIPE)
    card = probe(recipe, model, workspace=inside, on_progress=on_progress)
    write_json(folder / "probe.json", sweep(card))
    prompts = middle_band_transcripts(N_PROMPTS, SEED)
    benign = benign_transcripts(N_BENIGN, SEED)
    treatment = open_probe(inside, recipe.name, model, DIRECTION)
    best = [treatment[card.best(DIRECTION).site], _best(inside, recipe, model, card, "difference_of_means")]
    traces = trace(model, matched_pair(model, prompts, seed=SEED), best, benign, seed=SEED)
    save_traces(folder, traces)
    asked = Steering(
        prompts=Prompts(n=N_PROMPTS, seed=SEED), benign=Benign(n=N_BENIGN, seed=SEED), seed=SEED, direction=DIRECTION
    )
    found = experiment(
        model,
        asked,
        workspace=inside,
        folder=folder,
        command=("interp", "demo"),
        on_progress=on_progress,
    )
    assert isinstance(found, Verdict)
    return found


def _best(workspace: Workspace, recipe: Recipe, model: Model, card: ProbeCard, method: str) -> Direction:
    return open_probe(workspace, recipe.name, model, method)[card.best(method).site]


def save_traces(folder: Path, traces: Sequence[TokenTrace]) -> None:
    """Write `traces.json`."""
    write_json(folder / "traces.json", {"traces": [found.to_dict() for found in traces]})


def sweep(card: ProbeCard) -> dict[str, Any]:
    """The layer sweep of a card, as the report reads it."""
    others = {m.name for m in card.measures if m.name.startswith("emotion:")} - {DIRECTION, "emotion:desperate-calm"}
    rows = [measure.to_row() for measure in card.measures if measure.name not in others]
    return {"name": card.name, "position": card.position, "rows": rows}
