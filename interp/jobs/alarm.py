"""The probe as an alarm: at which threshold, how often false, on which near misses, and what it then finds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from interp.jobs.fitted import Fitted
from interp.jobs.recipe import NearMiss
from interp.probes.operating import Operating, operating
from interp.transcripts import Transcript


@dataclass(frozen=True, eq=False)
class _Told:
    """One transcript, what it is, and whether the probe should fire: None where that is only told."""

    transcript: Transcript
    kind: str
    label: bool | None


def operating_point(fitted: Fitted) -> tuple[Operating, dict[str, float]]:
    """Thresholds and what they do, and the thresholds of the headline's saved direction by rate of false alarms.

    Rates are those of scores by the nested choice, so that choosing the headline on the same transcripts does not
    flatter them; where nothing could be chosen so, of the headline. The saved direction's thresholds are set in the
    same way on its own scores.
    """
    head, told = fitted.headline, _told(fitted)
    known = {transcript.id for transcript in fitted.chosen.labelled.transcripts}
    new = list({one.transcript.id: one.transcript for one in told if one.transcript.id not in known}.values())
    plain, nested = _scores(fitted, new)
    of_head = _operating(fitted, told, plain)
    saved = next(d for d in fitted.directions if (d.name, d.site) == (head.name, head.site))
    slope, step = fitted.sweep.to_saved(head.name, head.site, saved.offset, saved.scale)
    thresholds = {f"{point.rate:.0%}": slope * point.threshold + step for point in of_head.points}
    return of_head if nested is None else _operating(fitted, told, nested), thresholds


def _told(fitted: Fitted) -> list[_Told]:
    """Every transcript once, but positives that are only to be told of a second time."""
    labelled = fitted.chosen.labelled
    rows = [
        _Told(t, "positive" if good else "other negatives", bool(good))
        for t, good in zip(labelled.transcripts, labelled.is_positive, strict=True)
    ]
    at = {one.transcript.id: index for index, one in enumerate(rows)}
    for near, transcripts in fitted.chosen.near_misses:
        name = _name(fitted, near, transcripts)
        for transcript in transcripts:
            one = _Told(transcript, name, False if near.sets_threshold else None)
            index = at.get(transcript.id)
            if index is None or rows[index].label:
                rows.append(one)
            else:
                rows[index] = one
    return rows


def _name(fitted: Fitted, near: NearMiss, transcripts: Sequence[Transcript]) -> str:
    """The near miss, with how many of its transcripts are positive by the recipe where it sets no threshold."""
    positive = sum(map(fitted.recipe.data.positive, transcripts))
    return near.name if near.sets_threshold else f"{near.name} ({positive} of {len(transcripts)} positive)"


def _scores(fitted: Fitted, new: Sequence[Transcript]) -> tuple[dict[str, float], dict[str, float] | None]:
    """By id, the scores of the headline and of the nested choice, each by fits that have not seen the group."""
    head, sweep, ids = fitted.headline, fitted.sweep, [t.id for t in fitted.chosen.labelled.transcripts]
    nested, key = fitted.nested, (head.name, head.site)
    plain = dict(zip(ids, head.scores.tolist(), strict=True))
    chosen = None if nested is None else dict(zip(ids, nested.scores.tolist(), strict=True))
    if new:
        read, groups = fitted.read(new, "reading near misses", all_sites=nested is not None), [t.group for t in new]
        names = [transcript.id for transcript in new]
        plain |= dict(zip(names, sweep.unseen(*key, read, groups).tolist(), strict=True))
        if nested is not None and chosen is not None:
            chosen |= dict(zip(names, nested.unseen(sweep, read, groups, key).tolist(), strict=True))
    return plain, chosen


def _operating(fitted: Fitted, told: Sequence[_Told], scores: dict[str, float]) -> Operating:
    values: Float[np.ndarray, " row"] = np.array([scores[one.transcript.id] for one in told])
    kinds, labels = [one.kind for one in told], [one.label for one in told]
    groups = [one.transcript.group for one in told]
    return operating(values, kinds, labels, groups, seed=fitted.recipe.seed)
