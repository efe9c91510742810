"""Does a score tell what a model will do, or only the situation that it is in? Rollouts of one prompt answer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.errors import ProbeError
from interp.probes.markdown import cell
from interp.probes.nulls import aurocs
from interp.probes.prefixes import TOLERANCE, PrefixPairs, prefix_lines, prefix_pairs
from interp.stats import control_rank, holm
from interp.stats.rates import wilson
from interp.stats.resampling import group_codes, multiplicities, percentile_interval

__all__ = ["PrefixPairs", "SituationOrAct", "WithinPrompt", "lines", "prefix_pairs", "within_prompt"]


@dataclass(frozen=True)
class WithinPrompt:
    """How well the score of one place tells the rollouts of one prompt apart, beside how well it tells prompts apart.

    `auroc` is over pairs of rollouts of the same prompt, one that acted and one that did not; `between` is over such
    pairs from two prompts. A score that knows the situation alone has 1/2 in the first and more in the second.
    Undefined is None. The p-value is the chance of an AUROC at least this high if outcomes are shuffled within prompts;
    `adjusted` is Holm's over the places, `floor` the smallest p-value that the shuffles can give.
    """

    place: str
    auroc: float | None
    low: float | None
    high: float | None
    p_value: float | None
    adjusted: float | None
    floor: float | None
    between: float | None
    between_low: float | None
    between_high: float | None
    constant: bool
    """Whether the score is the same in all rollouts of every prompt, as at the end of the prompt it must be."""
    pairs: int
    """Pairs of rollouts of one prompt."""
    prompts: int
    """Prompts with both outcomes."""
    left_out: int
    """Prompts with one outcome only, which say nothing about the act."""
    rollouts: int
    unread: int
    """Rollouts without this place (NaN), which are left out."""


@dataclass(frozen=True)
class SituationOrAct:
    """The evidence of one probe: its scores within prompts, and pairs of rollouts that share a prefix."""

    within: tuple[WithinPrompt, ...]
    pairs: PrefixPairs | None
    note: str = ""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "SituationOrAct":
        """What `dataclasses.asdict` wrote, also after a round trip through JSON."""
        pairs = row["pairs"]
        return cls(
            within=tuple(WithinPrompt(**one) for one in row["within"]),
            pairs=None if pairs is None else PrefixPairs.from_row(pairs),
            note=row["note"],
        )


def within_prompt(
    scores: Mapping[str, Float[np.ndarray, " rollout"]],
    acted: Bool[np.ndarray, " rollout"],
    prompts: Sequence[str],
    *,
    seed: int,
    n_null: int = 1000,
    tolerance: float = TOLERANCE,
) -> tuple[WithinPrompt, ...]:
    """The AUROC of the act among rollouts of one prompt, at each place that was read.

    Pairs count alike, so a prompt weighs by how many it has. Intervals are by bootstrap over prompts, Wilson's over
    prompts where no resample differs. A score that varies within no prompt by more than `tolerance` ties there: its
    AUROC is 1/2 and its p-value 1, whatever the noise of another batch would make of it.

    Args:
        scores: by place, such as "end of the prompt" or "before the act"; NaN where a rollout has no such place.
        acted: whether the rollout did it.
        prompts: which prompt each rollout answers.
        seed: of the bootstrap and of the shuffles.
        n_null: shuffles of the outcomes within prompts.
        tolerance: in units of the score.

    Raises:
        ProbeError: lengths differ, or a score is infinite.
    """
    found = []
    for place, values in scores.items():
        _check(place, values, acted, prompts)
        read = ~np.isnan(values)
        codes = _codes([prompt for prompt, there in zip(prompts, read, strict=True) if there])
        one = _at_place(place, values[read].astype(float), acted[read], codes, seed, n_null, tolerance)
        found.append(replace(one, unread=int((~read).sum())))
    adjusted = holm([one.p_value for one in found])
    return tuple(replace(one, adjusted=value) for one, value in zip(found, adjusted, strict=True))


def lines(found: SituationOrAct) -> list[str]:
    """The section of a card, as Markdown."""
    told = [
        "## Situation or act?",
        "",
        "Pairs of rollouts, one that acted and one that did not: the chance that the one that acted scores higher. "
        "Rollouts of one prompt share the situation, so only what was written since can tell them apart; between "
        "prompts the situation can.",
        "",
        "| place | within prompts | interval | p, adjusted (floor) | pairs | prompts | between prompts | interval |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(one) for one in found.within),
    ]
    told = told if found.within else told[:2] + ["No rollouts were compared within prompts."]
    for one in found.within:
        notes = [f"{one.left_out} prompts with one outcome only are left out"] if one.left_out else []
        notes += [f"{one.unread} rollouts have no such place"] if one.unread else []
        notes += ["the score is the same in all rollouts of every prompt, so it cannot tell the act"] * one.constant
        told += ["", f"{cell(one.place)}: {'; '.join(notes)}."] if notes else []
    told += ["", *prefix_lines(found.pairs)] if found.pairs else []
    return [*told, "", cell(found.note)] if found.note else told


def _check(
    place: str,
    scores: Float[np.ndarray, " _"],
    acted: Bool[np.ndarray, " _"],
    prompts: Sequence[str],
) -> None:
    lengths = (len(scores), len(acted), len(prompts))
    asked, do = f"comparing rollouts at {place!r}", "give one finite score, one outcome and one prompt a rollout"
    if len(set(lengths)) > 1:
        raise ProbeError(asked, "{} scores, {} outcomes and {} prompts".format(*lengths), do)
    if np.isinf(scores).any():
        raise ProbeError(asked, "a score is infinite", do)


def _codes(prompts: Sequence[str]) -> Int[np.ndarray, " rollout"]:
    return group_codes(prompts) if prompts else np.empty(0, dtype=int)


def _at_place(
    place: str,
    scores: Float[np.ndarray, " rollout"],
    acted: Bool[np.ndarray, " rollout"],
    codes: Int[np.ndarray, " rollout"],
    seed: int,
    n_null: int,
    tolerance: float,
) -> WithinPrompt:
    """One place whose scores are all there; `adjusted` and `unread` are filled in by the caller."""
    members = [np.flatnonzero(codes == code) for code in range(int(codes.max()) + 1 if len(codes) else 0)]
    constant = bool(members) and all(np.ptp(scores[rows]) <= tolerance for rows in members)
    if constant:
        scores = np.array([scores[rows].mean() for rows in members])[codes]
    both = [rows for rows in members if 0 < acted[rows].sum() < len(rows)]
    wins, trials = _wins(scores, acted, codes, len(members))
    auroc, between = _shares(wins, trials, np.ones((1, len(members)), dtype=int))
    counts = multiplicities(len(members), seed=seed, n_resamples=1000) if members else np.ones((0, 0), dtype=int)
    resampled = _shares(wins, trials, counts)
    low, high = (None, None) if constant else _ends(auroc, resampled[0], len(both))
    between_low, between_high = _ends(between, resampled[1], len(members))
    p_value, floor = (None, None) if not both else _p_value(scores, acted, both, seed, n_null)
    return WithinPrompt(
        place=place,
        auroc=_known(auroc),
        low=low,
        high=high,
        p_value=p_value,
        adjusted=None,
        floor=floor,
        between=_known(between),
        between_low=between_low,
        between_high=between_high,
        constant=constant,
        pairs=int(np.trace(trials)),
        prompts=len(both),
        left_out=len(members) - len(both),
        rollouts=len(scores),
        unread=0,
    )


def _wins(
    scores: Float[np.ndarray, " rollout"],
    acted: Bool[np.ndarray, " rollout"],
    codes: Int[np.ndarray, " rollout"],
    prompts: int,
) -> tuple[Float[np.ndarray, "prompt prompt"], Float[np.ndarray, "prompt prompt"]]:
    """For each two prompts, how many pairs (acted in the first, not in the second) there are, and how many are won."""
    others, of = scores[~acted], codes[~acted]
    wins = np.zeros((prompts, prompts))
    for prompt in range(prompts):
        ours = np.sort(scores[acted & (codes == prompt)])
        above = len(ours) - np.searchsorted(ours, others, side="right")
        ties = len(ours) - above - np.searchsorted(ours, others, side="left")
        wins[prompt] = np.bincount(of, above + ties / 2, minlength=prompts)
    numbers = [np.bincount(codes[side], minlength=prompts).astype(float) for side in (acted, ~acted)]
    return wins, np.outer(*numbers)


def _shares(
    wins: Float[np.ndarray, "prompt prompt"],
    trials: Float[np.ndarray, "prompt prompt"],
    counts: Int[np.ndarray, "resample prompt"],
) -> tuple[Float[np.ndarray, " resample"], Float[np.ndarray, " resample"]]:
    """The share of pairs won within and between prompts if prompt i is drawn `counts[i]` times; NaN without pairs.

    Copies of one prompt are not compared with each other.
    """

    def own_and_cross(table: Float[np.ndarray, "prompt prompt"]) -> tuple[np.ndarray, np.ndarray]:
        own = np.diag(table)
        return counts @ own, ((counts @ table) * counts).sum(axis=1) - counts**2 @ own

    def ratio(won: np.ndarray, of: np.ndarray) -> Float[np.ndarray, " resample"]:
        return np.divide(won, of, out=np.full(len(counts), np.nan), where=of > 0)

    (within, between), (within_of, between_of) = own_and_cross(wins), own_and_cross(trials)
    return ratio(within, within_of), ratio(between, between_of)


def _ends(
    value: Float[np.ndarray, " one"], resampled: Float[np.ndarray, " resample"], prompts: int
) -> tuple[float | None, float | None]:
    if np.isnan(value).all():
        return None, None
    found = percentile_interval(resampled, prompts, 0.95)
    found = found or wilson(float(value[0]) * prompts, prompts, 0.95, "wilson over prompts")
    return found.low, found.high


def _p_value(
    scores: Float[np.ndarray, " rollout"],
    acted: Bool[np.ndarray, " rollout"],
    both: list[np.ndarray],
    seed: int,
    n_null: int,
) -> tuple[float, float]:
    """The p-value of shuffling outcomes within prompts, and its floor."""
    rng = np.random.default_rng(seed)
    won = np.zeros(n_null + 1)
    arrangements = 0.0
    for rows in both:
        shuffled = rng.permuted(np.tile(acted[rows], (n_null, 1)), axis=1)
        positive = int(acted[rows].sum())
        won += aurocs(scores[rows][None], np.vstack([acted[rows], shuffled])) * positive * (len(rows) - positive)
        arrangements += math.log(math.comb(len(rows), positive))
    won = np.round(won, 6)  # equal sums in another order must tie
    ranked = control_rank(float(won[0]), won[1:])
    floor = max(ranked.floor, math.exp(-arrangements))
    return max(ranked.p_value, floor), floor


def _known(value: Float[np.ndarray, " one"]) -> float | None:
    return None if np.isnan(value[0]) else float(value[0])


def _row(one: WithinPrompt) -> str:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    def interval(low: float | None, high: float | None) -> str:
        return "-" if low is None else f"{low:.3f} to {high:.3f}"

    place = cell(one.place)
    p_value = "-" if one.adjusted is None else f"{one.adjusted:.3g} ({one.floor:.2g})"
    return (
        f"| {place} | {number(one.auroc)} | {interval(one.low, one.high)} | {p_value} | {one.pairs} | {one.prompts} "
        f"| {number(one.between)} | {interval(one.between_low, one.between_high)} |"
    )
