"""Situation or act: only rollouts of one prompt tell them apart, and no score may part before the texts do."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from interp.errors import ProbeError
from interp.probes.act import SituationOrAct, WithinPrompt, lines, within_prompt
from interp.probes.prefixes import PrefixPairs, prefix_pairs
from interp.stats import auroc


def rollouts(seed: int, *, situation: float, act: float, prompts: int = 30, each: int = 8):
    """Scores, acts and prompts: prompts differ in how likely the act is, `situation` puts that into the score."""
    rng = np.random.default_rng(seed)
    danger = np.repeat(rng.normal(size=prompts), each)
    acted = rng.random(prompts * each) < 1 / (1 + np.exp(-1.5 * danger))
    scores = situation * danger + act * acted + rng.normal(size=prompts * each)
    return scores, acted, [f"prompt {number}" for number in np.repeat(np.arange(prompts), each)]


def at_one_place(scores: np.ndarray, acted: np.ndarray, prompts: list[str], **more) -> WithinPrompt:
    return within_prompt({"before the act": scores}, acted, prompts, **{"seed": 0} | more)[0]


def by_hand(scores: np.ndarray, acted: np.ndarray, prompts: list, copies: list | None = None) -> tuple[float, float]:
    """Within and between prompts; of a prompt that is there twice, each copy is within itself alone."""
    won: dict[bool, list[float]] = {True: [], False: []}
    copies = copies or prompts
    for i in np.flatnonzero(acted):
        for j in np.flatnonzero(~acted):
            if copies[i] == copies[j] or prompts[i] != prompts[j]:
                won[prompts[i] == prompts[j]].append((scores[i] > scores[j]) + (scores[i] == scores[j]) / 2)
    return float(np.mean(won[True])), float(np.mean(won[False]))


def test_a_score_that_knows_the_situation_alone_tells_prompts_apart_and_no_rollouts_of_one() -> None:
    """Null: situation only. Planted: the act too. Between prompts, and over all pairs, both look like a probe."""
    scores, acted, prompts = rollouts(0, situation=2.0, act=0.0)
    situation = np.repeat(scores.reshape(30, 8).mean(axis=1), 8)
    fired = {}
    for act in (0.0, 1.0):
        noisy = {
            str(seed): situation + act * acted + np.random.default_rng(seed).normal(size=240) for seed in range(20)
        }
        found = within_prompt(noisy, acted, prompts, n_null=99, seed=0)
        assert all(one.between_low is not None and one.between_low > 0.55 for one in found)
        assert all((auroc(values, acted) or 0) > 0.65 for values in noisy.values())
        fired[act] = sum(one.p_value is not None and one.p_value <= 0.05 for one in found)
    assert fired[0.0] <= 4 and fired[1.0] >= 19


def test_an_act_without_a_situation_is_found_within_prompts() -> None:
    found = at_one_place(*rollouts(1, situation=0.0, act=1.5))
    assert found.auroc is not None and found.low is not None and found.high is not None
    assert 0.75 < found.low < found.auroc < found.high < 0.95 and found.p_value == pytest.approx(1 / 1001)


@pytest.mark.usefixtures("unchecked")
def test_shuffled_within_prompts_a_p_value_is_below_a_twentieth_one_time_in_twenty() -> None:
    """200 null scores of one set of rollouts, strong situation: the binomial interval of 5 % is 4 to 17."""
    scores, acted, prompts = rollouts(0, situation=3.0, act=0.0, prompts=12, each=6)
    situation = np.repeat(scores.reshape(12, 6).mean(axis=1), 6)
    nulls = {str(seed): situation + np.random.default_rng(seed).normal(size=72) for seed in range(200)}
    found = within_prompt(nulls, acted, prompts, n_null=99, seed=0)
    assert 4 <= sum(one.p_value is not None and one.p_value <= 0.05 for one in found) <= 17
    assert sum(one.adjusted is not None and one.adjusted <= 0.05 for one in found) == 0


@pytest.mark.parametrize("digits", [8, 0])
def test_pairs_within_and_between_are_those_counted_by_hand_with_ties_half(digits: int) -> None:
    scores, acted, prompts = rollouts(2, situation=1.0, act=0.5, prompts=9, each=5)
    scores = scores.round(digits)
    found = at_one_place(scores, acted, prompts)
    assert (found.auroc, found.between) == pytest.approx(by_hand(scores, acted, prompts))
    both = [name for name in set(prompts) if len({a for a, p in zip(acted, prompts, strict=True) if p == name}) == 2]
    assert (found.prompts, found.left_out, found.rollouts) == (len(both), 9 - len(both), 45)
    counts = [(acted[np.array(prompts) == name].sum(), (~acted)[np.array(prompts) == name].sum()) for name in both]
    assert found.pairs == sum(a * b for a, b in counts)


def test_the_intervals_are_those_of_prompts_drawn_by_hand() -> None:
    """A prompt that is drawn twice is not compared with its copy."""
    scores, acted, prompts = rollouts(3, situation=1.0, act=0.7, prompts=12, each=6)
    found = at_one_place(scores, acted, prompts)
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(300):
        numbers = rng.integers(12, size=12)
        rows = np.concatenate([np.arange(6) + 6 * number for number in numbers])
        copies = np.repeat(np.arange(12), 6).tolist()
        drawn.append(by_hand(scores[rows], acted[rows], [prompts[row] for row in rows], copies))
    within, between = np.quantile(drawn, [0.025, 0.975], axis=0).T
    assert (found.low, found.high) == pytest.approx(tuple(within), abs=0.04)
    assert (found.between_low, found.between_high) == pytest.approx(tuple(between), abs=0.04)


def test_at_the_end_of_the_prompt_the_score_ties_whatever_the_noise_of_batches() -> None:
    scores, acted, prompts = rollouts(4, situation=1.0, act=0.0)
    _, first = np.unique(prompts, return_inverse=True)
    noisy = np.array([scores[np.argmax(first == code)] for code in first]) + acted * 1e-5
    found = at_one_place(noisy, acted, prompts)
    assert (found.constant, found.auroc, found.low, found.high, found.p_value) == (True, 0.5, None, None, 1.0)
    assert found.between is not None and found.between > 0.6
    leak = at_one_place(noisy, acted, prompts, tolerance=1e-6)
    assert not leak.constant and leak.auroc == 1 and leak.p_value == leak.floor


def test_an_auroc_of_one_has_an_honest_end_by_the_number_of_prompts() -> None:
    acted = np.array([True, False] * 10)
    found = at_one_place(acted.astype(float), acted, np.repeat(list("abcdefghij"), 2).tolist())
    assert found.auroc == 1 and found.low == pytest.approx(0.722, abs=1e-3) and found.p_value is not None
    assert found.floor == pytest.approx(1 / 2**10, abs=2e-4) and found.p_value >= found.floor


def test_few_arrangements_bound_the_p_value_from_below() -> None:
    acted = np.array([True, False, True, False])
    found = at_one_place(acted.astype(float), acted, list("aabb"))
    assert found.floor == pytest.approx(0.25) and found.p_value is not None and found.p_value > 0.2


def test_without_a_prompt_of_both_outcomes_nothing_is_said_about_the_act() -> None:
    acted = np.array([True, True, False, False])
    found = at_one_place(np.array([2.0, 3.0, 0.0, 1.0]), acted, list("aabb"))
    assert (found.auroc, found.low, found.p_value, found.floor, found.adjusted) == (None,) * 5
    assert (found.between, found.prompts, found.left_out, found.pairs) == (1.0, 0, 2, 0)
    empty = at_one_place(np.full(4, np.nan), acted, list("aabb"))
    assert (empty.auroc, empty.between, empty.unread, empty.rollouts) == (None, None, 4, 0)


def test_rollouts_without_a_place_are_left_out_and_counted_and_places_are_adjusted_together() -> None:
    scores, acted, prompts = rollouts(5, situation=0.0, act=1.0)
    some = np.where(np.arange(len(scores)) % 5 == 0, np.nan, scores)
    whole, part = within_prompt({"a": scores, "b": some}, acted, prompts, seed=0)
    there = ~np.isnan(some)
    alone = at_one_place(scores[there], acted[there], [p for p, t in zip(prompts, there, strict=True) if t])
    assert (part.unread, part.rollouts, whole.unread) == (48, 192, 0) and part.auroc == alone.auroc
    assert part.p_value == alone.p_value and part.adjusted == pytest.approx(2 * part.p_value)  # type: ignore[operator]


def test_scores_of_the_wrong_length_or_without_end_are_refused() -> None:
    with pytest.raises(ProbeError, match="2 scores, 2 outcomes and 1 prompts"):
        at_one_place(np.zeros(2), np.array([True, False]), ["a"])
    with pytest.raises(ProbeError, match="infinite"):
        at_one_place(np.array([np.inf, 0.0]), np.array([True, False]), ["a", "a"])


PROMPT, SHARED, ACT = 10, 4, 20
"""Tokens of a prompt, tokens that every reply opens with, and where the act begins."""


def texts(seed: int, *, moves: float = 0.0, leak: float = 0.0, prompts: int = 20, each: int = 6):
    """Rollouts token by token. Scores follow what was read so far; `moves` is the act after the first other token."""
    rng = np.random.default_rng(seed)
    tokens, scores, acted, names = [], [], [], []
    for prompt in range(prompts):
        opening = rng.integers(50, size=PROMPT + SHARED)
        start = rng.normal(size=PROMPT + SHARED) + rng.normal()
        for number in range(each):
            length = ACT + int(rng.integers(1, 6))
            did = number % 2 == 0
            rest = np.r_[100 + number, rng.integers(50, size=length - len(opening) - 1)]
            after = rng.normal(size=len(rest)) + rng.normal() + moves * did
            early = start.copy()
            early[-1] += leak * did
            tokens.append(np.concatenate([opening, rest]))
            scores.append(np.concatenate([early + rng.normal(size=len(early)) * 1e-6, after]))
            acted.append(did)
            names.append(f"prompt {prompt}")
    return tokens, scores, np.array(acted), names, [ACT] * len(tokens)


def test_a_score_that_parts_before_the_texts_do_leaks_and_one_that_parts_after_does_not() -> None:
    leaking, clean = (prefix_pairs(*texts(0, moves=2.0, leak=size), seed=0) for size in (0.01, 0.0))
    assert leaking.leaks is True and leaking.largest_before == pytest.approx(0.01, abs=1e-4)
    assert leaking.leaking == leaking.pairs == clean.pairs == 20 * 9
    assert clean.leaks is False and clean.leaking == 0 and 0 < (clean.largest_before or 0) < 1e-4
    assert clean.shared == PROMPT + SHARED
    assert prefix_pairs(*texts(0, leak=0.01), seed=0, tolerance=0.1).leaks is False


def test_a_planted_move_before_the_act_is_found_at_its_size() -> None:
    found = prefix_pairs(*texts(1, moves=2.0), seed=0)
    assert found.moves is True and found.low is not None and found.high is not None
    assert 0 < found.low < 2.0 < found.high and (found.compared, found.compared_prompts) == (180, 20)


def test_without_a_move_one_is_seen_in_one_set_of_twenty() -> None:
    """200 null data sets of eight prompts each; the binomial interval of 5 % is 4 to 17."""
    found = [prefix_pairs(*texts(seed, prompts=8, each=4), seed=seed) for seed in range(200)]
    assert 4 <= sum(one.moves is True for one in found) <= 17 and not any(one.leaks for one in found)


def test_what_comes_from_the_act_on_is_not_compared() -> None:
    """The key line: an act that shows only in its own tokens moves nothing; ending the span later would see it."""
    tokens, scores, acted, names, act_at = texts(2)
    loud = [
        values + np.where(np.arange(len(values)) >= ACT, 9.0 * did, 0)
        for values, did in zip(scores, acted, strict=True)
    ]
    quiet = prefix_pairs(tokens, scores, acted, names, act_at, seed=0)
    assert prefix_pairs(tokens, loud, acted, names, act_at, seed=0) == quiet
    late = prefix_pairs(tokens, loud, acted, names, [len(ids) for ids in tokens], seed=0)
    assert late.moves is True and quiet.difference != late.difference


def test_every_prompt_weighs_alike_and_a_pair_is_measured_by_hand() -> None:
    tokens = [np.array(ids) for ids in ([1, 2, 3, 4], [1, 2, 5, 4, 6], [1, 2, 5, 7], [8, 9], [8, 7])]
    scores = [np.array(row) for row in ([0, 0, 4.0, 9], [0, 0.5, 1.0, 3.0, 9], [0, 0, 2.0, 9], [0, 1.0], [0, 0.0])]
    found = prefix_pairs(tokens, scores, [True, False, False, True, False], list("aaabb"), [3, 4, 3, 2, 2], seed=0)
    assert (found.pairs, found.prompts, found.left_out, found.leaking) == (3, 2, 0, 1)
    assert found.largest_before == 0.5 and found.shared == 2
    assert found.difference == pytest.approx(((4 - 2 + 4 - 2) / 2 + 1) / 2)
    assert found.moves is None and found.floor == 0.5


def test_pairs_without_room_before_the_act_are_counted_but_not_compared() -> None:
    tokens, scores, acted, names, _ = texts(3, prompts=3)
    same = prefix_pairs(tokens, scores, acted, names, [PROMPT + SHARED] * len(tokens), seed=0)
    none = prefix_pairs(tokens, scores, acted, names, [-1] * len(tokens), seed=0)
    for found in (same, none):
        assert (found.pairs, found.compared, found.difference, found.p_value, found.moves) == (27, 0, None, None, None)
        assert found.leaks is False
    single = prefix_pairs(tokens, scores, np.ones_like(acted), names, [ACT] * len(tokens), seed=0)
    assert (single.pairs, single.left_out, single.leaks, single.largest_before, single.shared) == (
        0,
        3,
        None,
        None,
        None,
    )


def test_a_text_that_ends_where_the_other_goes_on_parts_there() -> None:
    tokens = [np.array([1, 2, 3]), np.array([1, 2])]
    found = prefix_pairs(tokens, [np.array([0, 1.0, 5]), np.array([0, 1.0])], [True, False], ["a", "a"], [3, 2], seed=0)
    assert (found.shared, found.leaks, found.compared) == (2, False, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scores": [np.zeros(2), np.zeros(3)]}, "rollout 1 has 2 tokens, 3 scores"),
        ({"act_at": [1, 5]}, "its act at 5"),
        ({"prompts": ["a"]}, "1 prompts"),
        ({"scores": [np.zeros(2), np.array([0, np.nan])]}, "NaN"),
    ],
)
def test_rollouts_that_do_not_fit_together_are_refused(change: dict, words: str) -> None:
    given = {"tokens": [np.array([1, 2])] * 2, "scores": [np.zeros(2)] * 2, "acted": [True, False]}
    given |= {"prompts": ["a", "a"], "act_at": [1, 1], "seed": 0}
    with pytest.raises(ProbeError, match=words):
        prefix_pairs(**given | change)


def test_the_evidence_survives_json_and_reads_as_what_it_found() -> None:
    scores, acted, prompts = rollouts(6, situation=2.0, act=0.0)
    within = within_prompt({"a | b\nc": scores, "end": np.repeat(scores[::8], 8)}, acted, prompts, seed=0)
    for pairs in (prefix_pairs(*texts(4, moves=2.0, leak=1.0), seed=0), prefix_pairs(*texts(4), seed=0), None):
        found = SituationOrAct(within, pairs, "Sixteen rollouts a prompt.")
        assert SituationOrAct.from_row(json.loads(json.dumps(asdict(found), allow_nan=False))) == found
        told = lines(found)
        table = [line for line in told if line.startswith("| a")]
        assert told[0] == "## Situation or act?" and told[-1] == found.note and len(table) == 1
        assert table[0].replace("\\|", "").count("|") == 9
        assert any("cannot tell the act" in line for line in told)
        assert any("seen what comes later" in line for line in told) == bool(pairs and pairs.leaks)
        assert any("the score parts there" in line for line in told) == bool(pairs and pairs.moves)
    assert PrefixPairs.from_row(asdict(prefix_pairs(*texts(4), seed=0))) == prefix_pairs(*texts(4), seed=0)


def test_nothing_measured_says_so() -> None:
    assert lines(SituationOrAct((), None, "No rollouts."))[-1] == "No rollouts."
    assert "No rollouts were compared within prompts." in lines(SituationOrAct((), None))


@pytest.mark.parametrize("prompts", [6, 7, 8])
def test_no_p_is_below_the_smallest_possible(prompts: int) -> None:
    for seed in range(8):
        found = prefix_pairs(*texts(seed, moves=2.0, prompts=prompts), seed=seed)
        assert found.p_value is not None and found.floor is not None
        assert found.p_value >= found.floor >= 0.5 ** (prompts - 1)
