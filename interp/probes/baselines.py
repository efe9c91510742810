"""What words, length, embeddings and other readers tell without the activations: a probe has to beat them."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.errors import ProbeError
from interp.probes.nulls import Groups, aurocs
from interp.probes.surface import Split, embedding_cue, held_out, length_cue, lexicon_cue, word_cues
from interp.stats import Interval, auroc_difference_interval, auroc_interval


@dataclass(frozen=True)
class Baseline:
    """How well something other than the probe tells the classes apart on the same rows, and the probe less that."""

    name: str
    auroc: float | None
    """On groups that it was not fitted on; None where undefined, as in all that follows."""
    low: float | None
    """Interval at 95 %, over groups."""
    high: float | None
    difference: float | None
    """AUROC of the probe minus AUROC of the baseline, both on the rows that have both scores."""
    difference_low: float | None
    """Interval at 95 %: groups are drawn once for both."""
    difference_high: float | None
    beaten: bool | None
    """Whether the whole interval of the difference lies above 0."""
    n: int
    """Rows compared."""
    note: str
    """What the baseline saw, or why it is undefined."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Baseline":
        """The baseline of which `dataclasses.asdict` made the row."""
        return cls(**row)


@dataclass(frozen=True, eq=False)
class _Rows(Split):
    """The rows of all folds, and what the probe says of them."""

    probe: Float[np.ndarray, " row"]


def baselines(
    probe: Float[np.ndarray, " row"],
    labels: Bool[np.ndarray, " row"],
    groups: Groups,
    folds: Int[np.ndarray, " row"],
    *,
    texts: Sequence[str],
    positions: Mapping[str, Float[np.ndarray, " row"]] = {},
    embeddings: Float[np.ndarray, "row d_model"] | None = None,
    lexicon: Mapping[str, frozenset[str]] = {},
    given: Mapping[str, Float[np.ndarray, " row"]] = {},
    seed: int,
) -> tuple[Baseline, ...]:
    """Compare held-out scores of a probe with what can be had without the activations, on the same rows.

    Args:
        probe: score of every row by a probe that has not seen its group; larger means more of the concept.
        labels: true for the positive class.
        groups: the unit of splitting and resampling.
        folds: which fold a row is held out with; -1 for rows of no fold, which are left out.
        texts: what the model had read up to where the probe reads, word for word.
        positions: numbers known of a row, such as tokens, turns and the position read, for "length and position".
        embeddings: mean input embedding of the tokens that the model had read.
        lexicon: word forms by name, phrases among them, for "emotion words"; left out without any.
        given: scores from elsewhere, such as a judge's, NaN where a row has none: compared on the rest, and fitted to
            nothing.
        seed: of the inner folds and the resampling.

    Returns:
        "bag of words", "TF-IDF", "length and position"; then "emotion words", "embeddings" and the given ones, where
        there are any. Each but the given is a logistic regression fitted without the row's fold, penalty and number of
        words chosen on inner folds of the training groups.

    Guarantees (tests): words that give the class away are not beaten; a signal that no word carries beats them; scores
    that mean nothing beat nothing; nothing of a fold's rows enters the fit that scores them.

    Raises:
        ProbeError: a group in two folds, rows that do not fit together, or a score that is not finite.
    """
    _check(probe, groups, folds, texts, {**positions, **{f"given {name}": one for name, one in given.items()}})
    chosen = np.flatnonzero(folds >= 0).tolist()
    told = [texts[row] for row in chosen]
    rows = _Rows(labels[chosen], [groups[row] for row in chosen], folds[chosen], seed, probe[chosen])
    _finite({"the probe": rows.probe, **{name: positions[name][chosen] for name in positions}})
    cues = [*word_cues(told), length_cue(told, {name: values[chosen] for name, values in positions.items()})]
    cues += [lexicon_cue(told, lexicon)] if lexicon else []
    cues += [embedding_cue(embeddings[chosen])] if embeddings is not None else []
    fitted = [_compared(cue.name, held_out(cue, rows), cue.note, rows) for cue in cues]
    return (*fitted, *(_compared(name, one[chosen], "given, not fitted here", rows) for name, one in given.items()))


def beats_all(found: Sequence[Baseline]) -> bool | None:
    """Whether every baseline is beaten: one that is not decides; None without any, or if only undefined ones are left.

    Each interval may be read at its own level: to beat all is to pass every one of the tests.
    """
    states = [one.beaten for one in found]
    if False in states:
        return False
    return None if not states or None in states else True


def verdict(found: Sequence[Baseline]) -> str:
    """One sentence on the family as a whole."""
    if not found:
        return "No baseline was measured."
    if beats_all(found):
        return f"The probe beats all {len(found)}."
    said = []
    for state, does in ((False, "does not beat"), (None, "cannot be compared with")):
        names = [one.name for one in found if one.beaten is state]
        said += [f"{does} {', '.join(names)}"] if names else []
    return f"The probe beats {sum(one.beaten is True for one in found)} of {len(found)}: it {', and '.join(said)}."


def repeated(texts: Sequence[str], groups: Groups) -> int:
    """How many texts stand word for word in another group: to a fit without the group they are not new."""
    owners: dict[str, set[Hashable]] = {}
    for text, group in zip(texts, groups, strict=True):
        owners.setdefault(text, set()).add(group)
    return sum(len(owners[text]) > 1 for text in texts)


def lines(found: Sequence[Baseline]) -> list[str]:
    """The section of `card.md`."""
    return [
        "## Baselines on the same rows",
        "",
        "How well the classes are told apart without the activations. The probe chooses method and site anew for "
        "every fold. Words, length, emotion words and embeddings are "
        "logistic regressions on what the model had read, fitted and tuned on the other folds. The probe beats a "
        "baseline where the whole 95 % interval of the difference (groups drawn once for both) lies above 0. "
        f"{verdict(found)}",
        "",
        "| baseline | AUROC | interval | probe minus baseline | interval | beaten | rows | saw |",
        "|---|---|---|---|---|---|---|---|",
        *map(_table_row, found),
        "",
    ]


def _compared(name: str, scores: Float[np.ndarray, " row"] | str, note: str, rows: _Rows) -> Baseline:
    """The baseline beside the probe, on the rows that have a score."""
    if isinstance(scores, str):
        return Baseline(name, *[None] * 7, n=0, note=scores)
    known = ~np.isnan(scores)
    labels, n = rows.labels[known], int(known.sum())
    if n < len(known):
        note += f"; {len(known) - n} of {len(known)} rows have no score"
    if not labels.any() or labels.all():
        return Baseline(name, *[None] * 7, n=n, note=f"{note}; those that have one are not of two classes")
    groups = [group for group, has in zip(rows.groups, known, strict=True) if has]
    mine, its = rows.probe[known], scores[known]
    interval = auroc_interval(its, labels, groups, seed=rows.seed)
    one, other = _aurocs(mine, its, labels)
    apart = _difference(mine, its, labels, groups, rows.seed)
    return Baseline(
        name,
        auroc=other,
        low=interval and interval.low,
        high=interval and interval.high,
        difference=one - other,
        difference_low=apart and apart.low,
        difference_high=apart and apart.high,
        beaten=None if apart is None else apart.low > 0,
        n=n,
        note=note,
    )


def _aurocs(
    mine: Float[np.ndarray, " row"], its: Float[np.ndarray, " row"], labels: Bool[np.ndarray, " row"]
) -> tuple[float, float]:
    one, other = aurocs(np.stack([mine, its]), np.stack([labels, labels]))
    return float(one), float(other)


def _difference(
    mine: Float[np.ndarray, " row"],
    its: Float[np.ndarray, " row"],
    labels: Bool[np.ndarray, " row"],
    groups: Sequence[Hashable],
    seed: int,
) -> Interval | None:
    """The interval of one AUROC minus the other: percentiles of the difference, groups drawn once for both.

    Where no draw differs, as with two AUROCs of 1, it is put together from the intervals of both as if they had been
    measured on different rows, which is wider (Newcombe 1998, method 10).
    """
    if paired := auroc_difference_interval(mine, its, labels, groups, seed=seed):
        return paired
    first, second = (auroc_interval(scores, labels, groups, seed=seed) for scores in (mine, its))
    if first is None or second is None:
        return None
    one, other = _aurocs(mine, its, labels)
    down = float(np.hypot(one - first.low, second.high - other))
    up = float(np.hypot(first.high - one, other - second.low))
    return Interval(one - other - down, one - other + up, first.level, "newcombe")


def _check(
    probe: Float[np.ndarray, " row"],
    groups: Groups,
    folds: Int[np.ndarray, " row"],
    texts: Sequence[str],
    columns: Mapping[str, Float[np.ndarray, " row"]],
) -> None:
    """Raise unless there is one of everything per row, some row is in a fold, and no group is in two."""
    asked, lengths = "comparing a probe with baselines", {"groups": groups, "texts": texts, **columns}
    wrong = [f"{len(values)} {name}" for name, values in lengths.items() if len(values) != len(probe)]
    if wrong or not (folds >= 0).any():
        found = f"{', '.join(wrong)} for {len(probe)} rows" if wrong else "no row is in a fold"
        raise ProbeError(asked, found, "give one of each per row, and folds of rows that were held out")
    fold_of: dict[Hashable, int] = {}
    for group, fold in zip(groups, folds.tolist(), strict=True):
        if fold >= 0 and fold_of.setdefault(group, fold) != fold:
            raise ProbeError(asked, f"group {group} is in folds {fold_of[group]} and {fold}", "keep every group whole")


def _finite(columns: Mapping[str, Float[np.ndarray, " row"]]) -> None:
    for name, values in columns.items():
        if not np.isfinite(values).all():
            raise ProbeError(
                "comparing a probe with baselines",
                f"{name} is not finite on {int((~np.isfinite(values)).sum())} rows",
                "leave such rows out with fold -1",
            )


def _table_row(one: Baseline) -> str:
    def span(low: float | None, high: float | None, sign: str = "") -> str:
        return "undefined" if low is None or high is None else f"{low:{sign}.3f} to {high:{sign}.3f}"

    cells = (
        one.name,
        "undefined" if one.auroc is None else f"{one.auroc:.3f}",
        span(one.low, one.high),
        "undefined" if one.difference is None else f"{one.difference:+.3f}",
        span(one.difference_low, one.difference_high, "+"),
        {True: "yes", False: "no", None: "undefined"}[one.beaten],
        str(one.n),
        one.note,
    )
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"
