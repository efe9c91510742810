"""The evidence of one probe: what a sceptic asks after the AUROC, from the model and the recipe's own data."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.emotions.heldout import unseen_scores
from interp.emotions.words import lexicon
from interp.jobs.alarm import operating_point
from interp.jobs.fitted import Fitted
from interp.jobs.replies import situation_or_act
from interp.models import Model
from interp.probes import (
    METHODS,
    leave_conditions_out,
    transferred,
)
from interp.probes.baselines import Baseline, baselines, repeated
from interp.probes.control_task import control_task
from interp.probes.evidence import Evidence
from interp.probes.generalise import LeftOut
from interp.probes.neighbours import Neighbours, neighbours, valence_direction, without
from interp.probes.power import Power, planted_power
from interp.probes.random_directions import random_directions
from interp.probes.text_judge import Judged, TextJudge
from interp.stats import auroc
from interp.store import Rows, only_writer
from interp.tokens import Tokens, render


def gather_evidence(fitted: Fitted) -> Evidence:
    """Every item for which the recipe has data; the others say what they would need."""
    sweep, seed, rows, nested = fitted.sweep, fitted.recipe.seed, fitted.one_row, fitted.nested
    labels, groups = sweep.data.labels, sweep.data.groups
    plain = [method for method in sweep.settings.methods if method in METHODS] if rows else []
    real: dict[str, dict[Any, float]] = {}
    for candidate in sweep.candidates:
        real.setdefault(candidate.name, {})[candidate.site] = auroc(candidate.scores, labels) or 0.5
    shrinkage, l2 = sweep.settings.shrinkage, sweep.settings.l2
    point, thresholds = operating_point(fitted)
    texts = _texts(fitted)
    return Evidence(
        headline=f"{fitted.headline.name}@{fitted.headline.site}",
        chosen=nested.chosen if nested else None,
        left_out=_generalised(fitted),
        random=random_directions(rows.acts, labels, real, seed=seed) if rows else (),
        control=control_task(rows.acts, labels, groups, plain, seed=seed, shrinkage=shrinkage, l2=l2)
        if rows and plain
        else (),
        baselines=_baselines(fitted, nested.scores, *texts) if nested else (),
        repeated=repeated(texts[-1], groups),
        neighbours=_neighbours(fitted),
        operating=point,
        saved_thresholds=thresholds,
        act=situation_or_act(fitted) if fitted.recipe.rollouts else None,
        power=_power(fitted, plain),
        missing=_missing(fitted, plain),
    )


def _missing(fitted: Fitted, plain: Sequence[str]) -> dict[str, str]:
    recipe, few = fitted.recipe, "two folds less leave one class alone, so the choice would flatter: give more groups"
    elsewhere = "they read where the probe learns, and it is scored elsewhere"
    needs = {
        "the choice of method and site, and baselines": (fitted.nested is not None, few),
        "conditions left out": (bool(recipe.conditions), "the recipe names no conditions"),
        "transfer to a second corpus": (bool(recipe.transfer), "the recipe has no [[transfer]]"),
        "a judge that sees the text alone": (recipe.judge is not None, "the recipe has no [judge]"),
        "neighbouring emotions": (recipe.stories is not None, "the recipe has no [stories]"),
        "near misses": (bool(recipe.near_misses), "the recipe has no [[near_misses]], so negatives set the threshold"),
        "situation or act": (recipe.rollouts is not None, "the recipe has no [rollouts]"),
        "random directions": (fitted.one_row is not None, elsewhere),
        "control task and planted signals": (
            bool(plain),
            f"they need one of {', '.join(METHODS)}" if fitted.one_row else elsewhere,
        ),
    }
    return {item: reason for item, (there, reason) in needs.items() if not there}


def _generalised(fitted: Fitted) -> tuple[LeftOut, ...]:
    sweep, seed, found = fitted.sweep, fitted.recipe.seed, []
    for corpus in fitted.chosen.transfer:
        rows = fitted.read(corpus.transcripts, f"reading {corpus.name}", all_sites=True)
        found += transferred(sweep, corpus.name, rows, corpus.is_positive, corpus.groups, seed=seed)
    return (*leave_conditions_out(sweep, fitted.chosen.conditions, seed=seed), *found)


def _texts(fitted: Fitted) -> tuple[list[Tokens], list[int], list[str]]:
    """The tokens of every labelled transcript, how many are read, and what they spell."""
    tokens = [render(transcript, fitted.model.tokenizer) for transcript in fitted.chosen.labelled.transcripts]
    ends = [int(fitted.rule(one)[-1]) + 1 for one in tokens]
    return tokens, ends, [_read_text(one, end) for one, end in zip(tokens, ends, strict=True)]


def _baselines(
    fitted: Fitted, scores: Float[np.ndarray, " transcript"], tokens: list[Tokens], ends: list[int], texts: list[str]
) -> tuple[Baseline, ...]:
    """The sweep that chooses for itself, against what the same text gives without activations."""
    sweep, transcripts = fitted.sweep, fitted.chosen.labelled.transcripts
    counted = {
        "tokens read": np.array(ends, dtype=float),
        "messages": np.array([len(t.messages) for t in transcripts], dtype=float),
    }
    judged = _judged(fitted, texts)
    found = baselines(
        scores,
        sweep.data.labels,
        sweep.data.groups,
        sweep.folds,
        texts=texts,
        positions=counted,
        embeddings=_embeddings(fitted.model, tokens, ends),
        lexicon=lexicon(),
        given={} if judged is None else {"judge": judged.scores},
        seed=fitted.recipe.seed,
    )
    return tuple(replace(one, note=judged.note) if judged and one.name == "judge" else one for one in found)


def _judged(fitted: Fitted, texts: Sequence[str]) -> Judged | None:
    """What the judge of the recipe says of the texts; its replies are kept in the workspace."""
    asked = fitted.recipe.judge
    if asked is None:
        return None
    judge = TextJudge(asked.base_url, asked.model, fitted.recipe.concept, asked.key_variable)
    cache = Rows(fitted.workspace.activations / "judge" / f"{judge.version}.jsonl")
    with only_writer(cache.path):
        return judge.scores(texts, cache, on_progress=fitted.tell("asking the judge"))


def _read_text(tokens: Tokens, end: int) -> str:
    """What the model has read when it has read `end` tokens."""
    return tokens.text[: max((int(stop) for _, stop in tokens.offsets[:end]), default=0)]


def _embeddings(model: Model, tokens: Sequence[Tokens], ends: Sequence[int]) -> Float[np.ndarray, "transcript d_model"]:
    """The mean input embedding of the tokens that were read."""
    table = model.hf.get_input_embeddings().weight
    rows = [table[one.ids[:end].tolist()].detach().float().mean(0).cpu() for one, end in zip(tokens, ends, strict=True)]
    return np.stack([row.double().numpy() for row in rows])


def _neighbours(fitted: Fitted) -> Neighbours | None:
    """The saved directions at the headline's site among emotions, on stories that none of them was fitted on."""
    told, stories, site = fitted.stories, fitted.recipe.stories, fitted.headline.site
    if told is None or stories is None:
        return None
    here = {d.name: d.vector for d in fitted.directions if d.site == site}
    emotions = [str(entry.meta["emotion"]) for entry in told.transcripts]
    vectors = {name: here[f"emotion:{name}"] for name in sorted(set(emotions))}
    good, bad = ([name for name in side if name in vectors] for side in (stories.positive, stories.negative))
    bad = [name for name in bad if name != stories.emotion]
    valence = valence_direction(vectors, good, bad, leave_out=(stories.emotion,)) if good and bad else None
    own, rows, groups = f"emotion:{stories.emotion}", told.read(site).float(), told.groups
    unseen = {own: unseen_scores(rows, emotions, groups, seed=fitted.recipe.seed)[stories.emotion]}
    clean = {}
    if valence is not None:
        left = unseen_scores(without(rows, valence), emotions, groups, seed=fitted.recipe.seed)
        clean[own] = left[stories.emotion]
    return neighbours(
        {own: here[own]} | {name: here[name] for name in fitted.sweep.settings.methods},
        stories.emotion,
        vectors,
        valence=valence,
        stories=rows,
        emotions=emotions,
        groups=groups,
        seed=fitted.recipe.seed,
        scores=unseen,
        scores_without=clean,
        negative=stories.neighbours or bad,
    )


def _power(fitted: Fitted, plain: Sequence[str]) -> Power | None:
    """With the headline's method if it needs labels alone, else with the first such method."""
    sweep, head = fitted.sweep, fitted.headline
    band = fitted.measures[0].null_high
    if not plain or band is None or fitted.one_row is None:
        return None
    return planted_power(
        fitted.one_row.acts[head.site],
        sweep.data.labels,
        sweep.data.groups,
        sweep.folds,
        method=head.name if head.name in plain else plain[0],
        band=band,
        shrinkage=sweep.settings.shrinkage,
        l2=sweep.settings.l2,
        seed=fitted.recipe.seed,
    )
