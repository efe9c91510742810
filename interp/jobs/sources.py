"""What a bank of controls is made from, found where the direction under test came from: its probe's recipe."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from interp.activations import collect
from interp.directions import Direction
from interp.emotions import story_rule
from interp.errors import ExperimentError, InterpError
from interp.experiments.bank import Sources
from interp.experiments.controls import FittedRows, StoryRows, Vectors, remainder_control
from interp.jobs.choose import Chosen, choose
from interp.jobs.recipe import Recipe
from interp.jobs.run import OnStage
from interp.models import Model
from interp.sites import Site
from interp.store import Workspace
from interp.tokens import PositionRule

PREFIX = "emotion:"
FITTED = ("lda", "logistic", "ridge", "paired_pca", "difference_of_means", "standardised_difference_of_means")


@dataclass(frozen=True, eq=False)
class Supply:
    """The sources, and what could not be had."""

    sources: Sources
    lacking: tuple[str, ...] = ()
    """Sentences on what is missing."""


def bank_supply(
    recipe: Recipe | None,
    model: Model,
    directions: Mapping[str, Direction],
    name: str,
    sites: Sequence[Site],
    *,
    workspace: Workspace,
    unrelated: Sequence[str] = (),
    on_progress: OnStage | None = None,
) -> Supply:
    """Rows, stories, other emotions and other directions of the concept, at the sites of a plan.

    Args:
        recipe: that of the probe; None where it is not known, and then nothing is fitted with shuffled labels.
        model: the one under test.
        directions: all of the probe, by key.
        name: the direction under test.
        sites: where the plan edits.
        workspace: where activations are kept, so that a second call reads them.
        unrelated: fields of the transcripts' `meta` that have nothing to do with the concept.
        on_progress: told of what is read.
    """
    by_name: dict[str, dict[Site, Direction]] = {}
    for direction in directions.values():
        by_name.setdefault(direction.name, {})[direction.site] = direction
    whole = {key: found for key, found in by_name.items() if set(sites) <= set(found)}
    emotion, _, against = name.removeprefix(PREFIX).partition("-")
    others = {key: v for key, v in whole.items() if key.startswith(PREFIX) and _is_other(key, emotion)}
    concept, lacking = _concept(whole, name)
    if recipe is None:
        return Supply(Sources(emotions=others, concept=concept), (*lacking, "the probe's recipe is not known"))
    try:
        chosen = choose(recipe)
    except InterpError as error:
        return Supply(Sources(emotions=others, concept=concept), (*lacking, str(error)))
    rows = _rows(recipe, chosen, model, name, sites, workspace, unrelated, on_progress)
    stories = _stories(recipe, chosen, model, name, emotion, against, sites, workspace, on_progress)
    return Supply(Sources(rows, stories, others, concept), tuple(lacking))


def _is_other(key: str, emotion: str) -> bool:
    """Whether an emotion vector is of another emotion, and no contrast with this one."""
    return emotion not in key.removeprefix(PREFIX).split("-")


def _concept(whole: Mapping[str, Vectors], name: str) -> tuple[dict[str, Vectors], list[str]]:
    """The first other direction of the concept that takes something out of the direction, and leaves something.

    Contrasts with the same emotion come first, then what was learnt from transcripts.
    """
    treatment, told = whole[name], list[str]()
    emotion = name.removeprefix(PREFIX).partition("-")[0]
    contrasts = [key for key in whole if key.startswith(PREFIX) and not _is_other(key, emotion)]
    for other in (key for key in (*contrasts, *FITTED) if key in whole and key != name):
        try:
            remainder_control(treatment, {other: whole[other]})
            return {other: whole[other]}, []  # what was told of those before it does not matter any more
        except ExperimentError as error:
            told.append(str(error))
    return {}, told[:1]


def _rows(
    recipe: Recipe,
    chosen: Chosen,
    model: Model,
    name: str,
    sites: Sequence[Site],
    workspace: Workspace,
    unrelated: Sequence[str],
    on_progress: OnStage | None,
) -> FittedRows:
    tell = on_progress and partial(on_progress, "reading for controls")
    rule = PositionRule.parse(recipe.position)
    acts = collect(model, chosen.labelled.transcripts, sites, rule, workspace=workspace, on_progress=tell)
    method = name if name in FITTED else "difference_of_means"
    settings = {"shrinkage": recipe.shrinkage, "l2": recipe.l2}
    return FittedRows.of(acts, chosen.labelled.is_positive, unrelated, method=method, settings=settings)


def _stories(
    recipe: Recipe,
    chosen: Chosen,
    model: Model,
    name: str,
    emotion: str,
    against: str,
    sites: Sequence[Site],
    workspace: Workspace,
    on_progress: OnStage | None,
) -> StoryRows | None:
    """The stories behind an emotion vector; None for a direction that was learnt from transcripts."""
    if recipe.stories is None or not name.startswith(PREFIX):
        return None
    tell = on_progress and partial(on_progress, "reading for controls")
    rule = story_rule(chosen.stories, model.tokenizer, from_token=recipe.stories.from_token)
    acts = collect(model, chosen.stories, sites, rule, workspace=workspace, on_progress=tell)
    return StoryRows(acts, emotion, against or None)
