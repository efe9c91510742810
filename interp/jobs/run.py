"""One probe: `probes/NAME/recipe.toml` goes in; `probes/NAME/MODEL/` comes out, whole or not at all.

It holds `directions.safetensors`, `card.json`, and `card.md` for people.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Bool

from interp.activations import Activations, Cost, OnProgress, collect, estimate
from interp.activations.scale import BENIGN_TOKENS, calibrate
from interp.directions import Direction, save_directions
from interp.doctor import gate
from interp.emotions import contrast, emotion_vectors, story_rule
from interp.errors import ProbeError
from interp.jobs.recipe import Recipe
from interp.models import Model
from interp.probes import METHODS, Classes, Measure, ProbeCard, evaluate, grouped_folds, judge, probe_folder
from interp.sites import Site, parse_sites
from interp.store import Workspace, new_folder, write_json
from interp.tokens import PositionRule
from interp.transcripts import Transcript

OnStage = Callable[[str, int, int], None]
"""Called with the name of a stage, how much of it is done, and how much there is."""


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The transcripts of a recipe, sorted out."""

    labelled: list[Transcript]
    is_positive: Bool[np.ndarray, " transcript"]
    reference: list[Transcript]
    stories: list[Transcript]
    classes: Classes


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
    Run again, it replaces the folder as a whole.

    Raises:
        ProbeError: the recipe's data cannot give an honest probe.
        ModelError: the model failed a check of the doctor, and `despite_doctor` is not set.
    """
    checks = gate(model, asked=f"probing {recipe.name}", despite_doctor=despite_doctor)
    chosen, sites = _choose(recipe), parse_sites(recipe.sites, model.n_layers)
    told = _staged(on_progress)
    acts = collect(
        model,
        chosen.labelled,
        sites,
        PositionRule.parse(recipe.position),
        workspace=workspace,
        on_progress=told("reading transcripts"),
    )
    labels = chosen.is_positive[acts.rows.transcript]
    directions, measures = _fitted(recipe, acts, labels, told("fitting"))
    data, pool = {"transcripts": acts.fingerprint}, {}
    if recipe.stories is not None:
        vectors = _from_stories(recipe, model, chosen.stories, sites, workspace, told("reading stories"))
        measures += _judged(recipe, acts, labels, vectors)
        directions += vectors
        data["stories"] = vectors[-1].meta["data"]
        pool = {key: vectors[-1].meta[key] for key in ("position", "stories")}
    directions = calibrate(model, directions, chosen.reference, on_progress=told("reading benign tokens"))
    scale = {
        "transcripts": len(chosen.reference),
        "chosen by": str(recipe.data.reference),
        "tokens": directions[0].meta["reference_tokens"],
    }
    card = ProbeCard(
        recipe.name,
        recipe.concept,
        model.identity,
        recipe.position,
        chosen.classes,
        tuple(measures),
        tuple(direction.key for direction in directions),
        data,
        scale,
        pool,
        recipe.model_dump(mode="json", by_alias=True, exclude_none=True),
    )
    with new_folder(probe_folder(workspace, recipe.name, model), replace=True) as folder:
        save_directions(folder / "directions.safetensors", directions)
        card.save(folder)
        write_json(folder / "doctor.json", [check.to_dict() for check in checks])
    return card


def probe_cost(recipe: Recipe, model: Model) -> dict[str, Cost]:
    """What `probe` would read and write at most, stage by stage; benign tokens are read and not kept."""
    chosen, sites = _choose(recipe), parse_sites(recipe.sites, model.n_layers)
    costs = {"transcripts": estimate(model, chosen.labelled, sites, PositionRule.parse(recipe.position))}
    if recipe.stories is not None:
        rule = story_rule(chosen.stories, model.tokenizer, from_token=recipe.stories.from_token)
        costs["stories"] = estimate(model, chosen.stories, sites, rule)
    return costs | {"reference": replace(estimate(model, chosen.reference, sites, BENIGN_TOKENS), bytes=0)}


def _choose(recipe: Recipe) -> _Chosen:
    """The recipe's transcripts by class.

    Raises:
        ProbeError: a field that no transcript has, a transcript in both classes, or a class without any.
    """
    everything, data = recipe.transcripts(), recipe.data
    asked = f"choosing the transcripts of probe {recipe.name}"
    named = {"positive": data.positive, "negative": data.negative, "reference": data.reference}
    for key, rule in named.items():
        if all(rule.value(transcript) is None for transcript in everything):
            raise ProbeError(
                asked,
                f"data.{key}.field {rule.field}: none of {len(everything)} transcripts has it",
                "name a field that they have",
            )
        if not any(map(rule, everything)):
            raise ProbeError(asked, f"data.{key} ({rule}): none of {len(everything)} transcripts", "widen it")
    both = [t.id for t in everything if data.positive(t) and data.negative(t)]
    if both:
        raise ProbeError(asked, f"{len(both)} are positive and negative: {', '.join(both)}", "part the two rules")
    labelled = [t for t in everything if data.positive(t) or data.negative(t)]
    is_positive = np.array([data.positive(t) for t in labelled])
    groups = [{t.group for t in labelled if rule(t)} for rule in (data.positive, data.negative)]
    classes = Classes(
        int(is_positive.sum()),
        int((~is_positive).sum()),
        len(everything) - len(labelled),
        len(groups[0]),
        len(groups[1]),
        str(data.positive),
        str(data.negative),
    )
    if set(recipe.methods) & set(METHODS):  # too few groups shall be known before the model runs
        grouped_folds(is_positive, [t.group for t in labelled], folds=recipe.folds, seed=recipe.seed)
    benign = [t for t in everything if data.reference(t)][: data.reference.limit]
    return _Chosen(labelled, is_positive, benign, recipe.told(), classes)


def _fitted(
    recipe: Recipe, acts: Activations, labels: Bool[np.ndarray, " row"], on_progress: OnProgress | None
) -> tuple[list[Direction], list[Measure]]:
    """The methods that learn from transcripts: directions from all rows, measures from rows left out."""
    methods = [method for method in recipe.methods if method in METHODS]
    meta = {"position": acts.rule, "data": acts.fingerprint, "rows": len(labels), "positive": int(labels.sum())}
    directions, measures = [], []
    for done, method in enumerate(methods, start=1):
        measures += evaluate(
            acts, labels, acts.groups, method=method, seed=recipe.seed, folds=recipe.folds, n_null=recipe.n_null
        )
        directions += [
            Direction(
                method,
                METHODS[method](acts.read(site), labels).cpu(),
                site,
                model=acts.model,
                meta={"method": method, **meta},
            )
            for site in acts.sites
        ]
        if on_progress is not None:
            on_progress(done, len(methods))
    return directions, measures


def _from_stories(
    recipe: Recipe,
    model: Model,
    stories: Sequence[Transcript],
    sites: Sequence[Site],
    workspace: Workspace,
    on_progress: OnProgress | None,
) -> list[Direction]:
    """Every emotion's vector at every site, and the contrast where one is asked for."""
    assert recipe.stories is not None
    wanted, other = recipe.stories.emotion, recipe.stories.against
    rule = story_rule(stories, model.tokenizer, from_token=recipe.stories.from_token)
    vectors = emotion_vectors(collect(model, stories, sites, rule, workspace=workspace, on_progress=on_progress))
    if wanted not in vectors:
        raise ProbeError(
            f"fitting emotion vectors for probe {recipe.name}",
            f"no stories of {wanted}",
            f"choose one of {', '.join(vectors)}",
        )
    found = [direction for of_site in vectors.values() for direction in of_site.values()]
    return found if other == "rest" else [*contrast(vectors, wanted, other).values(), *found]


def _judged(
    recipe: Recipe, acts: Activations, labels: Bool[np.ndarray, " row"], vectors: Sequence[Direction]
) -> list[Measure]:
    """How well directions from stories separate the transcripts, emotion by emotion."""
    scores: dict[str, dict[Site, np.ndarray]] = {direction.name: {} for direction in vectors}
    for site in acts.sites:
        values = acts.read(site)
        for direction in (d for d in vectors if d.site == site):
            scores[direction.name][site] = direction.project(values).double().numpy()
    return [
        measure
        for name, of_site in scores.items()
        for measure in judge(of_site, labels, acts.groups, name=name, seed=recipe.seed, n_null=recipe.n_null)
    ]


def _staged(on_progress: OnStage | None) -> Callable[[str], OnProgress | None]:
    """A progress callback for each stage."""

    def stage(name: str) -> OnProgress | None:
        return None if on_progress is None else partial(on_progress, name)

    return stage
