"""Whether a probe holds beyond what it was fitted on: whole conditions left out, and another corpus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.probes.chosen import Chosen, best_of
from interp.probes.evaluate import Sweep, fit_labelled
from interp.probes.labelled import ReadRows
from interp.probes.markdown import cell
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
    chosen: bool = False
    """Whether method and site were chosen without what was left out: the others flatter where they are picked."""


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
        found += [_chosen(sweep, condition, value, rows, learnable[value], seed) for value, rows in members.items()]
    return tuple(found)


def _chosen(
    sweep: Sweep, condition: str, value: str, mine: Int[np.ndarray, " _"], learnable: bool, seed: int
) -> LeftOut:
    """The value left out, scored by the method and site that do best, fold by fold, without it."""
    labels, folds = sweep.data.labels, sweep.folds.copy()
    folds[mine] = -1
    numbers = np.unique(folds[folds >= 0])
    left = [labels[(folds >= 0) & (folds != number)] for number in numbers]
    whole = learnable and len(numbers) > 1 and all(one.any() and not one.all() for one in left)
    key, scores = next(iter((c.name, c.site) for c in sweep.candidates)), None
    if whole:
        rest, folds = folds >= 0, np.where(folds < 0, -1, np.searchsorted(numbers, folds))
        found = {(name, site): one for site in sweep.fits for name, one in _scores(sweep, site, folds).items()}
        key = best_of(found, rest, labels)
        scores = found[key]
    return replace(_kind(sweep, condition, value, *key, scores, mine, seed), chosen=True)


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
    """The section of `card.md`: within, beyond conditions, and on other corpora."""
    told = [
        "## Within, beyond, elsewhere",
        "",
        "Cross-validation leaves groups out; a condition left out is one value that neither the fits nor the choice of "
        "method and site ever saw; another corpus is scored as it is, by fits that have not seen a transcript's group. "
        "`card.json` has every method and site.",
        "",
        "| left out | value | AUROC | interval | by | transcripts | groups | positive |",
        "|---|---|---|---|---|---|---|---|",
    ]
    if chosen is not None:
        picked = ", ".join(f"`{name}` ({n} of {sum(chosen.picks.values())} folds)" for name, n in chosen.picks.items())
        told.append(f"| groups | | {_figures(chosen.auroc, chosen.low, chosen.high)} | {picked} | | | |")
    shown = [row for row in found if is_shown(row, headline)]
    for row in shown:
        by = "undefined" if row.auroc is None else f"`{row.name}@{row.site}`"
        counts = f"{row.n} | {row.groups} | {row.positive}"
        figures = _figures(row.auroc, row.low, row.high)
        told.append(f"| {cell(row.split)} | {cell(row.value)} | {figures} | {by} | {counts} |")
    gone = sum(row.auroc is None for row in shown)
    return told + (["", f"Undefined in {gone} of them: one class alone, there or in what is left."] if gone else [])


def is_shown(row: LeftOut, headline: str) -> bool:
    """Of a condition, what was chosen without it; of another corpus, which had no part in the choice, the headline."""
    return row.chosen or (not row.value and f"{row.name}@{row.site}" == headline)


def _figures(value: float | None, low: float | None, high: float | None) -> str:
    span = "undefined" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return f"{'undefined' if value is None else f'{value:.3f}'} | {span}"
