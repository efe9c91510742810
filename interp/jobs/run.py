"""One probe: `probes/NAME/recipe.toml` goes in; `probes/NAME/MODEL/` comes out, whole or not at all.

It holds `directions.safetensors`, `card.json`, and `card.md` for people.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from interp.activations import Activations, Cost, OnProgress, collect, estimate
from interp.activations.scale import BENIGN_TOKENS, calibrate
from interp.directions import Direction, save_directions
from interp.doctor import gate
from interp.emotions import contrast, emotion_vectors, story_rule
from interp.errors import ProbeError
from interp.jobs.choose import Chosen, choose
from interp.jobs.evidence import gather_evidence
from interp.jobs.fitted import Fitted
from interp.jobs.identity import job_fingerprint
from interp.jobs.recipe import Recipe
from interp.jobs.replies import replies_cost
from interp.models import Model
from interp.probes import (
    Aggregation,
    Candidate,
    Labelled,
    ProbeCard,
    ReadRows,
    Settings,
    Sweep,
    evaluate,
    given,
    measures,
    probe_folder,
)
from interp.probes.sweep import READS
from interp.sites import Site, parse_sites
from interp.store import Workspace, new_folder, write_json
from interp.tokens import PositionRule
from interp.transcripts import Transcript

OnStage = Callable[[str, int, int], None]
"""Called with the name of a stage, how much of it is done, and how much there is."""

MASSIVE = 0.5
"""A direction of which one coordinate holds more than that share of the squared length is flagged."""


@dataclass(frozen=True, eq=False)
class _Job:
    """What every step of one probe needs."""

    recipe: Recipe
    model: Model
    sites: tuple[Site, ...]
    chosen: Chosen
    workspace: Workspace
    on_progress: OnStage | None

    def tell(self, stage: str) -> OnProgress | None:
        """A progress callback for a stage."""
        return None if self.on_progress is None else partial(self.on_progress, stage)

    def collect(self, transcripts: Sequence[Transcript], rule: PositionRule | str, stage: str) -> Activations:
        """Rows of transcripts at all sites, kept in the workspace."""
        rule = PositionRule.parse(rule) if isinstance(rule, str) else rule
        return collect(
            self.model, transcripts, self.sites, rule, workspace=self.workspace, on_progress=self.tell(stage)
        )


def probe(
    recipe: Recipe,
    model: Model,
    *,
    workspace: Workspace,
    despite_doctor: bool = False,
    on_progress: OnStage | None = None,
) -> ProbeCard:
    """Fit every direction that the recipe asks for, measure it, and write `probes/NAME/MODEL/`.

    Directions that are saved are fitted on all labelled transcripts; what the card says of them was measured on groups
    left out. Vectors from stories see no transcript and are measured on all. Scores of saved directions have mean 0
    and standard deviation 1 over the tokens of the reference transcripts. What the doctor found stands beside them.
    Run again, it replaces the folder as a whole; a killed one goes on from the activations that it has read.

    Raises:
        ProbeError: the recipe's data cannot give an honest probe.
        ModelError: the model failed a check of the doctor, and `despite_doctor` is not set.
    """
    named = job_fingerprint(recipe, model.identity)  # before the data are read: should they change now, it is outdated
    chosen = choose(recipe)
    checks = gate(model, asked=f"probing {recipe.name}", despite_doctor=despite_doctor)
    job = _Job(recipe, model, parse_sites(recipe.sites, model.n_layers), chosen, workspace, on_progress)
    acts = job.collect(chosen.labelled.transcripts, recipe.position, "reading transcripts")
    sweep = _swept(job, acts)
    told = None if recipe.stories is None else job.collect(*_story_reading(job), "reading stories")
    vectors = [] if told is None else _from_stories(recipe, told)
    candidates = [*sweep.candidates, *_given(sweep, vectors)]
    found = measures(candidates, sweep.data.labels, sweep.data.groups, seed=recipe.seed)
    directions = [*_directions(job, acts, sweep), *vectors]
    if not any((d.name, d.site) == (sweep.best.name, sweep.best.site) for d in directions):
        found_none = f"the rows of all {len(sweep.fits)} sites are the same in every transcript"
        raise ProbeError(f"fitting probe {recipe.name}", found_none, "choose another position rule, or later sites")
    directions = calibrate(model, directions, chosen.reference, on_progress=job.tell("reading benign tokens"))
    evidence = gather_evidence(Fitted(job.recipe, model, chosen, workspace, job.tell, sweep, found, directions, told))
    card = ProbeCard(
        recipe.name,
        recipe.concept,
        model.identity,
        recipe.position,
        chosen.classes,
        found,
        tuple(direction.key for direction in directions),
        {"transcripts": acts.fingerprint} | ({} if told is None else {"stories": told.fingerprint}),
        _scale(job, directions),
        {} if told is None else {key: vectors[-1].meta[key] for key in ("position", "stories")},
        recipe.model_dump(mode="json", by_alias=True, exclude_none=True),
        job=named,
        evidence=evidence,
        notes=_notes(directions, sweep),
    )
    with new_folder(probe_folder(workspace, recipe.name, model), replace=True) as folder:
        save_directions(folder / "directions.safetensors", directions)
        card.save(folder)
        write_json(folder / "doctor.json", [check.to_dict() for check in checks])
    return card


def probe_cost(recipe: Recipe, model: Model) -> dict[str, Cost]:
    """What `probe` would read, write and generate at most, stage by stage; tokens of some are read and not kept."""
    chosen, sites = choose(recipe), parse_sites(recipe.sites, model.n_layers)
    learn, score = PositionRule.parse(recipe.position), PositionRule.parse(recipe.score_position or recipe.position)
    labelled = chosen.labelled.transcripts
    costs = {"transcripts": estimate(model, labelled, sites, learn)}
    if score != learn:
        costs["transcripts to score"] = estimate(model, labelled, sites, score)
    if recipe.stories is not None:
        rule = story_rule(chosen.stories, model.tokenizer, from_token=recipe.stories.from_token)
        costs["stories"] = estimate(model, chosen.stories, sites, rule)
    for corpus in chosen.transfer:
        costs[corpus.name] = estimate(model, corpus.transcripts, sites, score)
    known = {transcript.id for transcript in labelled}
    for near, transcripts in chosen.near_misses:
        new = [transcript for transcript in transcripts if transcript.id not in known]
        if new:
            costs[near.name] = estimate(model, new, sites[:1], score)
    if recipe.rollouts is not None:
        costs["replies"] = replies_cost(recipe, recipe.rollouts, model)
    return costs | {"reference": replace(estimate(model, chosen.reference, sites, BENIGN_TOKENS), bytes=0)}


def _swept(job: _Job, acts: Activations) -> Sweep:
    """Every method that learns from transcripts, at every site."""
    recipe, chosen = job.recipe, job.chosen
    learn = rows_of(acts)
    score = None
    if recipe.score_position is not None:
        score = rows_of(job.collect(chosen.labelled.transcripts, recipe.score_position, "reading what is scored"))
    if recipe.learn != "rows":
        score, learn = score or learn, learn.pooled(Aggregation.parse(recipe.learn))
    data = Labelled(
        learn,
        chosen.labelled.is_positive,
        chosen.labelled.groups,
        score,
        chosen.graded(recipe.graded),
        chosen.pairs(recipe.pair),
    )
    settings = Settings(
        recipe.fitted,
        recipe.folds,
        recipe.n_null,
        recipe.seed,
        recipe.shrinkage,
        recipe.l2,
        Aggregation.parse(recipe.score),
    )
    return evaluate(data, settings, on_progress=job.tell("fitting"))


def rows_of(acts: Activations) -> ReadRows:
    """The rows of a set on disk."""
    return ReadRows(acts, acts.rows.transcript, len(acts.transcripts))


def _directions(job: _Job, acts: Activations, sweep: Sweep) -> list[Direction]:
    """Each method's vector at every site, from all rows, with what it was fitted on."""
    recipe, rows, labels = job.recipe, sweep.data.learn.transcript, sweep.data.labels
    shared = {"position": acts.rule, "data": acts.fingerprint, "rows": len(rows), "positive": int(labels[rows].sum())}
    used = {"lda": ("shrinkage",), "ridge": ("shrinkage", "graded"), "logistic": ("l2",), "paired_pca": ("pair",)}
    found = []
    for method in recipe.fitted:
        for site, fits in sweep.fits.items():
            vector = fits.vectors[method][0].cpu()
            if not vector.any():
                continue  # nothing varies there, as where all texts end in one token
            meta: dict[str, Any] = {"method": method, **shared, "features": READS.get(method, "standardised")}
            meta |= {key: getattr(recipe, key) for key in used.get(method, ())}
            meta["largest_share"] = round(float((vector**2).max() / (vector**2).sum().clamp(min=1e-30)), 4)
            found.append(Direction(method, vector, site, model=acts.model, meta=meta))
    return found


def _notes(directions: Sequence[Direction], sweep: Sweep) -> tuple[str, ...]:
    """What a reader of these directions must know of their features."""
    saved = {(direction.name, direction.site) for direction in directions}
    none = [f"{c.name}@{c.site}" for c in sweep.candidates if (c.name, c.site) not in saved]
    raw = sorted({d.name for d in directions if d.meta.get("features") == "raw"})
    ruled = [d.key for d in directions if d.meta.get("largest_share", 0) > MASSIVE]
    notes = [f"Raw features: {', '.join(raw)}; the other fitted directions standardise features first."] if raw else []
    if none:
        notes.append(f"Nothing varies, so that there is no direction: {', '.join(none)}.")
    if ruled:
        notes.append(
            f"One coordinate holds more than {MASSIVE:.0%} of the squared length of {', '.join(ruled)}: a massive "
            "dimension rules it, so read a standardised direction instead."
        )
    return tuple(notes)


def _story_reading(job: _Job) -> tuple[list[Transcript], PositionRule]:
    assert job.recipe.stories is not None
    stories = job.chosen.stories
    return stories, story_rule(stories, job.model.tokenizer, from_token=job.recipe.stories.from_token)


def _from_stories(recipe: Recipe, acts: Activations) -> list[Direction]:
    """Every emotion's vector at every site, and the contrast where one is asked for."""
    assert recipe.stories is not None
    wanted, other = recipe.stories.emotion, recipe.stories.against
    vectors = emotion_vectors(acts)
    if wanted not in vectors:
        raise ProbeError(
            f"fitting emotion vectors for probe {recipe.name}",
            f"no stories of {wanted}",
            f"choose one of {', '.join(vectors)}",
        )
    found = [direction for of_site in vectors.values() for direction in of_site.values()]
    return found if other == "rest" else [*contrast(vectors, wanted, other).values(), *found]


def _given(sweep: Sweep, vectors: Sequence[Direction]) -> list[Candidate]:
    """How well directions from stories separate the transcripts, emotion by emotion."""
    reading, how = sweep.data.scored, sweep.settings.score
    scores: dict[str, dict[Site, np.ndarray]] = {direction.name: {} for direction in vectors}
    for site in reading.acts if vectors else ():
        rows = reading.acts[site]
        for direction in (d for d in vectors if d.site == site):
            along = direction.project(rows).double().cpu().numpy()
            scores[direction.name][site] = how.scores(along, reading.transcript, reading.n)
    return [one for name, found in scores.items() for one in given(found, sweep.shuffles, name=name)]


def _scale(job: _Job, directions: Sequence[Direction]) -> dict[str, Any]:
    return {
        "transcripts": len(job.chosen.reference),
        "chosen by": str(job.recipe.data.reference),
        "tokens": directions[0].meta["reference_tokens"],
    }
