"""Whether a probe holds beyond what it was fitted on: whole conditions left out, and another corpus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.probes.chosen import Chosen
from interp.probes.evaluate import Sweep, fit_labelled
from interp.probes.labelled import ReadRows
from interp.probes.splits import Groups, condition_codes
from interp.sites import Site
from interp.stats import auroc, auroc_interval


@dataclass(frozen=True)
class LeftOut:
    """One method at one site, on transcripts of a kind that it was not fitted on."""

    split: str
    """The condition that was left out, or the other corpus."""
    value: str
    """Which of its values; empty for another corpus."""
    name: str
    site: str
    auroc: float | None
    """None where the kind has one class alone, or what is left to learn from has."""
    low: float | None
    high: float | None
    n: int
    groups: int
    positive: int


def leave_conditions_out(sweep: Sweep, conditions: Mapping[str, Sequence[object]], *, seed: int) -> tuple[LeftOut, ...]:
    """For every condition and each of its values: fits on all other values, AUROC on that one.

    Raises:
        ProbeError: a condition has one value, or varies within a group, which would then be in train and test.
    """
    found: list[LeftOut] = []
    for condition, values in conditions.items():
        members = condition_codes(condition, [str(value) for value in values], sweep.data.groups)
        folds, learnable = _folds(members, sweep.data.labels)
        for site in sweep.data.learn.acts:
            scores = _scores(sweep, site, folds) if any(learnable.values()) else {}
            found += [
                _kind(
                    sweep,
                    condition,
                    value,
                    name,
                    site,
                    scores[name] if learnable[value] else None,
                    members[value],
                    seed,
                )
                for name in sweep.settings.methods
                for value in members
            ]
    return tuple(found)


def _folds(
    members: Mapping[str, Int[np.ndarray, " _"]], labels: Bool[np.ndarray, " transcript"]
) -> tuple[Int[np.ndarray, " transcript"], dict[str, bool]]:
    """A fold for every value, and which can be left out; one without which a class is gone is dealt to two folds."""
    positive, negative = int(labels.sum()), int((~labels).sum())
    learnable = {
        value: labels[rows].sum() < positive and (~labels[rows]).sum() < negative for value, rows in members.items()
    }
    folds = np.full(len(labels), -1)
    for number, rows in enumerate(members.values()):
        folds[rows] = number
    for value, rows in members.items():
        for of_class in (rows[labels[rows]], rows[~labels[rows]]) if not learnable[value] else ():
            folds[of_class] = len(members) + np.arange(len(of_class)) % 2
    return folds, {value: bool(is_it) for value, is_it in learnable.items()}


def _scores(sweep: Sweep, site: Site, folds: Int[np.ndarray, " transcript"]) -> dict[str, np.ndarray]:
    """Scores by fits that have not seen the fold."""
    data, settings = sweep.data, sweep.settings
    graded = None if data.graded is None else data.graded[None]
    fits = fit_labelled(data, site, data.labels[None], folds, graded, settings)
    scored, blocks = data.scored, data.scored.blocks(site)
    rows = {name: fits.scores(name, blocks, folds[scored.transcript])[0] for name in settings.methods}
    return {name: settings.score.scores(one, scored.transcript, scored.n) for name, one in rows.items()}


def _kind(
    sweep: Sweep,
    condition: str,
    value: str,
    name: str,
    site: Site,
    scores: Float[np.ndarray, " transcript"] | None,
    mine: Int[np.ndarray, " _"],
    seed: int,
) -> LeftOut:
    groups = np.asarray(sweep.data.groups)[mine]
    return _row(
        condition, value, name, site, None if scores is None else scores[mine], sweep.data.labels[mine], groups, seed
    )


def transferred(
    sweep: Sweep,
    corpus: str,
    reading: ReadRows,
    labels: Bool[np.ndarray, " transcript"],
    groups: Groups,
    *,
    seed: int,
) -> tuple[LeftOut, ...]:
    """Every method at every site on another corpus, each transcript scored by a fit that has not seen its group."""
    return tuple(
        _row(corpus, "", c.name, c.site, sweep.unseen(c.name, c.site, reading, groups), labels, groups, seed)
        for c in sweep.candidates
    )


def _row(
    split: str,
    value: str,
    name: str,
    site: Site,
    scores: Float[np.ndarray, " transcript"] | None,
    labels: Bool[np.ndarray, " transcript"],
    groups: Groups,
    seed: int,
) -> LeftOut:
    both = scores is not None and labels.any() and not labels.all()
    value_of = auroc(scores, labels) if both and scores is not None else None
    interval = auroc_interval(scores, labels, groups, seed=seed) if both and scores is not None else None
    low, high = interval and interval.low, interval and interval.high
    counts = (len(labels), len(set(groups)), int(labels.sum()))
    return LeftOut(split, value, name, str(site), value_of, low, high, *counts)


def lines(found: Sequence[LeftOut], chosen: Chosen | None, headline: str) -> list[str]:
    """The section of `card.md`: the headline's site and method within, beyond conditions, and on other corpora."""
    told = [
        "## Within, beyond, elsewhere",
        "",
        "Cross-validation leaves groups out; a condition left out is one value that the fit never saw; another corpus "
        "is scored as it is, by fits that have not seen a transcript's group. "
        f"Rows are of `{headline}` unless they say otherwise; `card.json` has every method and site.",
        "",
        "| left out | value | AUROC | interval | transcripts | groups | positive |",
        "|---|---|---|---|---|---|---|",
    ]
    if chosen is not None:
        picked = ", ".join(f"`{name}` {n}" for name, n in chosen.picks.items())
        figures = _figures(chosen.auroc, chosen.low, chosen.high)
        told.append(f"| groups, method and site chosen without them | folds: {picked} | {figures} | | | |")
    for row in found:
        if f"{row.name}@{row.site}" == headline:
            counts = f"{row.n} | {row.groups} | {row.positive}"
            told.append(f"| {row.split} | {row.value} | {_figures(row.auroc, row.low, row.high)} | {counts} |")
    gone = sum(row.auroc is None and f"{row.name}@{row.site}" == headline for row in found)
    return told + (["", f"Undefined in {gone} of them: one class alone, there or in what is left."] if gone else [])


def _figures(value: float | None, low: float | None, high: float | None) -> str:
    span = "undefined" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return f"{'undefined' if value is None else f'{value:.3f}'} | {span}"
