"""Two rollouts of one prompt, token by token: a score may part only where their texts have parted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.errors import ProbeError
from interp.probes.reliability import mean_interval
from interp.stats import control_rank

TOLERANCE = 1e-3
"""Scores of one text that differ by no more than this are the same score, read in another batch."""

FEWEST = 6
"""Prompts from which a difference can be told from 0: of five, all have one sign by chance in 1 case of 16."""

FLIPS = 2000
"""Random signs of the prompts' differences, for the p-value."""


@dataclass(frozen=True)
class PrefixPairs:
    """Pairs of rollouts of one prompt, one that acted and one that did not, before and after their first other token.

    `leaks` says that the score of some pair differs before that token by more than `tolerance`: what the probe reads
    there has seen what comes later, or is not the text that was given. `difference` is the mean score from that token
    up to the act, acted minus not, first over the pairs of a prompt and then over prompts; its interval is by bootstrap
    over prompts. Undefined is None.
    """

    pairs: int
    prompts: int
    left_out: int
    """Prompts with one outcome only."""
    largest_before: float | None
    leaking: int
    """Pairs whose scores part too early."""
    tolerance: float
    leaks: bool | None
    shared: float | None
    """Median number of tokens that a pair shares."""
    compared: int
    """Pairs with tokens between the first other one and the act in both."""
    compared_prompts: int
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    """Of the difference, two-sided, by flipping the signs of prompts."""
    floor: float | None
    moves: bool | None
    """Whether the p-value is at most 0.05; None with fewer than six prompts."""

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "PrefixPairs":
        """What `dataclasses.asdict` wrote."""
        return cls(**row)


def prefix_pairs(
    tokens: Sequence[Int[np.ndarray, " _"]],
    scores: Sequence[Float[np.ndarray, " _"]],
    acted: Bool[np.ndarray, " rollout"] | Sequence[bool],
    prompts: Sequence[str],
    act_at: Sequence[int] | Int[np.ndarray, " rollout"],
    *,
    seed: int,
    tolerance: float = TOLERANCE,
) -> PrefixPairs:
    """Whether scores of one prompt's rollouts part before their texts do (they must not) and before the act (they may).

    Args:
        tokens: the ids of every rollout, prompt included.
        scores: one per token.
        acted: whether the rollout did it.
        prompts: which prompt each rollout answers.
        act_at: the index of the first token of the act, such as the recipient; below 0 where there is no act. What
            is compared after the first other token ends before it.
        seed: of the bootstrap.
        tolerance: in units of the score; numbers of another batch or dtype differ a little.

    Raises:
        ProbeError: lengths differ, a score is not finite, or an act is beyond the last token.
    """
    _check(tokens, scores, acted, prompts, act_at)
    pairs: list[_Pair] = []
    split = 0
    for prompt in dict.fromkeys(prompts):
        rows = [row for row, name in enumerate(prompts) if name == prompt]
        sides = [[row for row in rows if bool(acted[row]) == side] for side in (True, False)]
        split += all(sides)
        pairs += (_pair(prompt, tokens, scores, act_at, did, did_not) for did, did_not in product(*sides))
    before = [pair.before for pair in pairs]
    leaking = sum(value > tolerance for value in before)
    names, means = _by_prompt(pairs)
    interval = mean_interval(means, names, seed=seed) if names else None
    p_value, floor = _p_value(means, seed) if names else (None, None)
    return PrefixPairs(
        pairs=len(pairs),
        prompts=split,
        left_out=len(set(prompts)) - split,
        largest_before=max(before) if before else None,
        leaking=leaking,
        tolerance=float(tolerance),
        leaks=leaking > 0 if pairs else None,
        shared=float(np.median([pair.first for pair in pairs])) if pairs else None,
        compared=sum(pair.after is not None for pair in pairs),
        compared_prompts=len(names),
        difference=float(means.mean()) if names else None,
        low=interval and interval.low,
        high=interval and interval.high,
        p_value=p_value,
        floor=floor,
        moves=None if p_value is None or len(names) < FEWEST else p_value <= 0.05,
    )


def prefix_lines(found: PrefixPairs) -> list[str]:
    """The part of a card's section, as Markdown."""
    if not found.pairs:
        return ["No prompt has rollouts of both outcomes, so no pair shares a prefix."]
    verdict = (
        f"**{found.leaking} pairs differ there: what is read has seen what comes later, or is another text.**"
        if found.leaks
        else f"No pair differs there by more than {found.tolerance:.2g}, as it must be."
    )
    told = [
        f"{found.pairs} pairs of {found.prompts} prompts share a median of {found.shared:.0f} tokens. Before the first "
        f"token that differs their scores differ by at most {found.largest_before:.2g}. {verdict}",
    ]
    if found.difference is None:
        return [*told, "No pair has tokens between that one and the last that is scored."]
    interval = "no interval" if found.low is None else f"{found.low:.3f} to {found.high:.3f}"
    moved = {
        True: "the score parts there.",
        False: "the score is not seen to part there.",
        None: f"{found.compared_prompts} prompts are too few to tell it from 0.",
    }
    told.append(
        "From that token up to the last one that is scored the rollout that acts scores higher by "
        f"{found.difference:.3f} ({interval}; p = {found.p_value:.2g}, the smallest possible {found.floor:.2g}; "
        f"{found.compared} pairs of {found.compared_prompts} prompts): {moved[found.moves]}"
    )
    return told


class _Pair(NamedTuple):
    """One pair: tokens shared, largest difference among them, mean difference from there up to the act."""

    prompt: str
    first: int
    before: float
    after: float | None


def _pair(
    prompt: str,
    tokens: Sequence[np.ndarray],
    scores: Sequence[np.ndarray],
    act_at: Sequence[int] | np.ndarray,
    did: int,
    did_not: int,
) -> _Pair:
    shorter = min(len(tokens[did]), len(tokens[did_not]))
    other = tokens[did][:shorter] != tokens[did_not][:shorter]
    first = int(other.argmax()) if other.any() else shorter
    gaps = np.abs(scores[did][:first] - scores[did_not][:first])
    parts = [scores[row][first : max(int(act_at[row]), 0)] for row in (did, did_not)]
    after = float(parts[0].mean() - parts[1].mean()) if all(map(len, parts)) else None
    return _Pair(prompt, first, float(gaps.max(initial=0)), after)


def _by_prompt(pairs: Sequence[_Pair]) -> tuple[list[str], Float[np.ndarray, " prompt"]]:
    """The mean difference after the first other token, of every prompt that has one."""
    found: dict[str, list[float]] = {}
    for pair in pairs:
        if pair.after is not None:
            found.setdefault(pair.prompt, []).append(pair.after)
    return list(found), np.array([np.mean(values) for values in found.values()])


def _p_value(means: Float[np.ndarray, " prompt"], seed: int) -> tuple[float, float]:
    """The p-value of signs flipped at random, and the smallest that it could be."""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(FLIPS, len(means)))
    ranked = control_rank(round(abs(float(means.sum())), 9), np.abs(signs @ means).round(9))
    floor = max(ranked.floor, 0.5 ** (len(means) - 1))
    return max(ranked.p_value, floor), floor


def _check(tokens: Sequence[Any], scores: Sequence[Any], acted: Any, prompts: Sequence[str], act_at: Any) -> None:
    lengths = [len(part) for part in (tokens, scores, acted, prompts, act_at)]
    asked, do = "comparing rollouts token by token", "give the same rollouts to each argument, one score a token"
    if len(set(lengths)) > 1:
        raise ProbeError(asked, "{} texts, {} scores, {} outcomes, {} prompts, {} acts".format(*lengths), do)
    for row, (ids, values, at) in enumerate(zip(tokens, scores, act_at, strict=True)):
        if len(ids) != len(values) or int(at) > len(ids) or not np.isfinite(values).all():
            found = f"rollout {row} has {len(ids)} tokens, {len(values)} scores and its act at {int(at)}"
            raise ProbeError(
                asked, found if np.isfinite(values).all() else f"rollout {row} has NaN or infinite scores", do
            )
