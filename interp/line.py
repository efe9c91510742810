"""The whole line: from a model and a recipe to a report, stage after stage, each kept in the run's folder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from interp.behaviour import COHERENT, grammar
from interp.directions import Direction, load_directions
from interp.errors import ExperimentError, ProbeError
from interp.event_locked import EventLocked, around_events, middle_band_with_twins, replies
from interp.experiments import Verdict, announce, steer, without_reply
from interp.experiments.organism import SAMPLING
from interp.experiments.tasks import Task
from interp.generation import BASELINE, generate
from interp.jobs import Recipe, probe
from interp.jobs.prepare import Progress, chosen_of, prepare
from interp.jobs.steering import N_BENIGN, N_PROMPTS, Benign, Prompts, Steering
from interp.models import Model
from interp.organism.sets import benign_transcripts, benign_twin, middle_band_transcripts
from interp.probes import ProbeCard, probe_folder
from interp.report import write_report
from interp.sites import Site
from interp.store import Workspace, write_json
from interp.traces import TokenTrace, trace
from interp.transcripts import Transcript, read_jsonl

RECIPE = Path("desperation") / "recipe.toml"
DIRECTION = "emotion:desperate"
"""The direction under test: fitted on stories alone, so that nothing of the behaviour went into it."""
SEED = 7


def open_probe(workspace: Workspace, name: str, model: Model, direction: str) -> dict[Site, Direction]:
    """A probe's direction of that name at every site, fitted on that model.

    Raises:
        StoreError: the probe was not fitted on the model.
        DirectionError: it was fitted on other weights, another dtype or chat template.
        ProbeError: the probe has no such direction.
    """
    found = load_directions(probe_folder(workspace, name, model) / "directions.safetensors", model=model.identity)
    return chosen_of(found, name, direction)


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


def read_benign(path: Path | None, seed: int) -> list[Transcript]:
    """The benign transcripts of a file; without one, the organism's."""
    return read_jsonl(path) if path else benign_transcripts(N_BENIGN, seed)


def read_or_generate_pair(model: Model, path: Path | None, seed: int) -> list[Transcript]:
    """The transcripts of a file; without one, a matched pair of the model's own replies."""
    return read_jsonl(path) if path else matched_pair(model, middle_band_transcripts(N_PROMPTS, seed), seed=seed)


def experiment(
    model: Model,
    asked: Steering,
    *,
    workspace: Workspace,
    folder: Path,
    command: Sequence[str],
    tasks: Mapping[str, Task] = {},
    only_plan: bool = False,
    despite_doctor: bool = False,
    on_progress: Progress | None = None,
) -> Verdict | Path:
    """Examine the model, carry out the experiment, and write the report; the folder resumes after a kill.

    Scores of the further `tasks` (see `interp.named_tasks`) stand among the side effects.

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
        "around": replace(ready.around, tasks=tasks),
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
    locked = _around_decision(model, best[0], benign)
    write_json(folder / "event_locked.json", {"averages": [found.to_dict() for found in locked]})
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


def _around_decision(model: Model, direction: Direction, benign: Sequence[Transcript]) -> list[EventLocked]:
    """Replies to as many scenes as are steered, and to their twins, averaged around the decision."""
    scenes = middle_band_with_twins(N_PROMPTS, SEED)
    real, calm = (list(replies(model, prompts, samples=2, seed=SEED)) for prompts in scenes)
    return around_events(model, real, direction, benign, ["decision"], twins=calm, seed=SEED)


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
