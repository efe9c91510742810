"""The evidence of one probe: what a sceptic asks after the AUROC, from the model and the recipe's own data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.emotions.heldout import unseen_scores
from interp.emotions.words import lexicon
from interp.jobs.fitted import Fitted
from interp.jobs.recipe import Recipe
from interp.jobs.replies import situation_or_act
from interp.models import Model
from interp.probes import (
    METHODS,
    Chosen,
    cross_chosen,
    leave_conditions_out,
    transferred,
)
from interp.probes.baselines import Baseline, baselines
from interp.probes.control_task import control_task
from interp.probes.evidence import Evidence
from interp.probes.generalise import LeftOut
from interp.probes.neighbours import Neighbours, neighbours, valence_direction, without
from interp.probes.operating import Operating, operating
from interp.probes.power import Power, planted_power
from interp.probes.random_directions import random_directions
from interp.probes.text_judge import Judged, TextJudge
from interp.stats import auroc
from interp.store import Rows
from interp.tokens import Tokens, render


def gather_evidence(fitted: Fitted) -> Evidence:
    """Every item for which the recipe has data; the others say what they would need."""
    sweep, seed, rows = fitted.sweep, fitted.recipe.seed, fitted.one_row.acts
    labels, groups = sweep.data.labels, sweep.data.groups
    plain = [method for method in sweep.settings.methods if method in METHODS]
    chosen, scores = cross_chosen(sweep, seed=seed)
    real: dict[str, dict[Any, float]] = {}
    for candidate in sweep.candidates:
        real.setdefault(candidate.name, {})[candidate.site] = auroc(candidate.scores, sweep.data.labels) or 0.5
    shrinkage, l2 = sweep.settings.shrinkage, sweep.settings.l2
    point, thresholds = _operating(fitted)
    return Evidence(
        headline=f"{fitted.headline.name}@{fitted.headline.site}",
        chosen=chosen,
        left_out=_generalised(fitted),
        random=random_directions(rows, labels, real, seed=seed),
        control=control_task(rows, labels, groups, plain, seed=seed, shrinkage=shrinkage, l2=l2) if plain else (),
        baselines=_baselines(fitted, scores),
        neighbours=_neighbours(fitted),
        operating=point,
        saved_thresholds=thresholds,
        act=situation_or_act(fitted) if fitted.recipe.rollouts else None,
        power=_power(fitted, plain),
        missing=_missing(fitted.recipe, plain, chosen),
    )


def _missing(recipe: Recipe, plain: Sequence[str], chosen: Chosen | None) -> dict[str, str]:
    needs = {
        "the choice of method and site": (chosen is not None, "two folds less leave one class alone: give more groups"),
        "conditions left out": (bool(recipe.conditions), "the recipe names no conditions"),
        "transfer to a second corpus": (bool(recipe.transfer), "the recipe has no [[transfer]]"),
        "a judge that sees the text alone": (recipe.judge is not None, "the recipe has no [judge]"),
        "neighbouring emotions": (recipe.stories is not None, "the recipe has no [stories]"),
        "near misses": (bool(recipe.near_misses), "the recipe has no [[near_misses]], so negatives set the threshold"),
        "situation or act": (recipe.rollouts is not None, "the recipe has no [rollouts]"),
        "control task and planted signals": (bool(plain), f"they need one of {', '.join(METHODS)}"),
    }
    return {item: reason for item, (there, reason) in needs.items() if not there}


def _generalised(fitted: Fitted) -> tuple[LeftOut, ...]:
    sweep, seed, found = fitted.sweep, fitted.recipe.seed, []
    for corpus in fitted.chosen.transfer:
        rows = fitted.read(corpus.transcripts, f"reading {corpus.name}", all_sites=True)
        found += transferred(sweep, corpus.name, rows, corpus.is_positive, corpus.groups, seed=seed)
    return (*leave_conditions_out(sweep, fitted.chosen.conditions, seed=seed), *found)


def _baselines(fitted: Fitted, scores: Float[np.ndarray, " transcript"]) -> tuple[Baseline, ...]:
    """The sweep that chooses for itself, against what the same text gives without activations."""
    sweep, transcripts = fitted.sweep, fitted.chosen.labelled.transcripts
    tokens = [render(transcript, fitted.model.tokenizer) for transcript in transcripts]
    ends = [int(fitted.rule(one)[-1]) + 1 for one in tokens]
    texts = [_read_text(one, end) for one, end in zip(tokens, ends, strict=True)]
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


def _operating(fitted: Fitted) -> tuple[Operating, dict[str, float]]:
    """Thresholds of the headline on near misses, and the same in the units of its saved direction."""
    sweep, head, labelled = fitted.sweep, fitted.headline, fitted.chosen.labelled
    known = dict(zip((t.id for t in labelled.transcripts), head.scores.tolist(), strict=True))
    rows = [
        _Told(score, "positive" if good else "other negatives", bool(good), group)
        for score, good, group in zip(head.scores.tolist(), labelled.is_positive, labelled.groups, strict=True)
    ]
    at = {t.id: index for index, t in enumerate(labelled.transcripts)}
    for near, transcripts in fitted.chosen.near_misses:
        new = [t for t in transcripts if t.id not in known]
        scores = dict(known)
        if new:
            read = fitted.read(new, f"reading {near.name}")
            found = sweep.unseen(head.name, head.site, read, [t.group for t in new])
            scores |= dict(zip((t.id for t in new), found.tolist(), strict=True))
        for t in transcripts:
            one = _Told(scores[t.id], near.name, False if near.sets_threshold else None, t.group)
            if near.sets_threshold and t.id in at:
                rows[at[t.id]] = one
            else:
                rows.append(one)
    point = operating(
        np.array([row.score for row in rows]),
        [row.kind for row in rows],
        [row.label for row in rows],
        [row.group for row in rows],
        seed=fitted.recipe.seed,
    )
    saved = next(d for d in fitted.directions if (d.name, d.site) == (head.name, head.site))
    slope, step = sweep.to_saved(head.name, head.site, saved.offset, saved.scale)
    return point, {f"{p.rate:.0%}": slope * p.threshold + step for p in point.points}


@dataclass(frozen=True)
class _Told:
    """One transcript at the operating point."""

    score: float
    kind: str
    label: bool | None
    group: str


def _power(fitted: Fitted, plain: Sequence[str]) -> Power | None:
    """With the headline's method if it needs labels alone, else with the first such method."""
    sweep, head = fitted.sweep, fitted.headline
    band = fitted.measures[0].null_high
    if not plain or band is None:
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
