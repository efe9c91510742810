"""A direction that reads how bad things are is confused with its neighbours; one that reads the concept is not."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from interp.errors import ProbeError
from interp.probes.neighbours import (
    NEGATIVE,
    VALENCE,
    Neighbours,
    _Bands,
    lines,
    neighbours,
    valence_direction,
    without,
)
from interp.probes.random_directions import draw

BAD, GOOD = ("desperate", "afraid", "sad", "guilty"), ("happy", "calm")
D = 32
AXES = dict(zip((*BAD, *GOOD), torch.eye(D), strict=False))
GOODNESS = torch.eye(D)[-1]
"""Along it good emotions are apart from bad ones."""
VECTORS = {name: axis + (GOODNESS if name in GOOD else -GOODNESS) for name, axis in AXES.items()}
VALENCE_VECTOR = 2 * GOODNESS


def told(strength: float = 3.0, n_topics: int = 20, seed: int = 0) -> tuple[torch.Tensor, list[str], list[int]]:
    """Two stories of every emotion on every topic; stories of a topic share something."""
    rng = np.random.default_rng(seed)
    emotions = [name for _ in range(n_topics) for name in AXES for _ in range(2)]
    groups = [topic for topic in range(n_topics) for _ in range(2 * len(AXES))]
    noise = rng.standard_normal((len(emotions), D)) + 0.3 * rng.standard_normal((n_topics, D))[groups]
    return (
        torch.from_numpy(noise).float() + strength * torch.stack([VECTORS[name] for name in emotions]),
        emotions,
        groups,
    )


def found(
    directions: dict, stories: tuple, valence: torch.Tensor | None = VALENCE_VECTOR, **more: object
) -> Neighbours:
    acts, emotions, groups = stories
    settings = {"valence": valence, "stories": acts, "emotions": emotions, "groups": groups, "seed": 0, **more}
    return neighbours(directions, "desperate", VECTORS, **settings)


def test_a_direction_of_valence_is_confused_with_bad_neighbours_and_one_of_the_concept_with_none() -> None:
    both = found({"valence": -GOODNESS, "concept": AXES["desperate"]}, told())
    bad, own = both.directions
    assert bad.confused == ("afraid", "sad", "guilty") and both.negative == bad.confused
    assert own.confused == () == own.confused_without
    assert all(row.low is not None and row.low > 0.9 for row in own.against)
    assert {row.neighbour for row in bad.against if row.auroc is not None and row.auroc > 0.9} == set(GOOD)
    assert "above those of 2 of 5 neighbours; it is not shown to differ from afraid, sad, guilty" in bad.verdict
    assert own.verdict == "it scores stories of desperate above those of 5 of 5 neighbours"


def test_what_only_valence_tells_apart_is_confused_once_valence_is_taken_out() -> None:
    pure, mixed = found({"pure": -3 * GOODNESS, "mixed": VECTORS["desperate"]}, told()).directions
    assert set(pure.confused_without or ()) == {*BAD[1:], *GOOD} and mixed.confused_without == ()
    assert all(row.without == 0.5 for row in pure.against), "nothing is left of it, not even rounding"
    assert "without valence it is not shown to differ from happy, calm either" in pure.verdict
    happy = {row.neighbour: row for row in mixed.against}["happy"]
    assert happy.auroc is not None and happy.without is not None and happy.auroc > happy.without > 0.9


def test_nothing_is_left_of_valence_itself_not_even_rounding() -> None:
    valence = torch.from_numpy(np.random.default_rng(3).standard_normal(D)) - 3 * GOODNESS
    same, near = found({"same": -valence / 3, "near": valence + 0.01 * AXES["sad"]}, told(), valence).directions
    assert all(row.without == 0.5 for row in same.against) and set(same.confused_without or ()) == {*BAD[1:], *GOOD}
    assert any(row.without not in (None, 0.5) for row in near.against), "control"


def test_all_negative_emotions_stand_together_in_the_last_row() -> None:
    reading = found({"concept": AXES["desperate"]}, told()).directions[0]
    assert reading.against[-1].neighbour == NEGATIVE and reading.against[-1].n == 3 * 40
    named = found({"concept": AXES["desperate"]}, told(), negative=["sad"], valence=None)
    assert named.negative == ("sad",) and named.directions[0].against[-1].n == 40
    none = found({"concept": AXES["desperate"]}, told(), valence=None)
    assert none.negative == () and none.directions[0].against[-1].neighbour == "calm"
    assert none.directions[0].confused_without is None and none.directions[0].against[0].without is None


def test_stories_that_mean_nothing_are_rarely_told_apart() -> None:
    apart = 0
    for seed in range(30):
        acts, emotions, groups = told(0.0, seed=seed)
        one = found({"random": draw(acts, 1, seed=seed)[0]}, (acts, emotions, groups), valence=None).directions[0]
        apart += 5 - len(one.confused)
    assert apart <= 12, "one-sided 2.5 % of 150, whose neighbours share the stories of the concept"


def test_scores_of_fits_that_had_not_seen_a_story_take_the_place_of_projections() -> None:
    rng = np.random.default_rng(0)
    acts, emotions, groups = told(0.0)
    wide = torch.from_numpy(rng.standard_normal((len(emotions), 500))).float()
    mine = np.asarray(emotions) == "desperate"
    learnt = wide[mine].mean(0) - wide[~mine].mean(0)
    blank = {name: torch.eye(500)[i] for i, name in enumerate(AXES)}
    shared = {"valence": blank["happy"], "stories": wide, "emotions": emotions, "groups": groups, "seed": 0}
    flattered = neighbours({"learnt": learnt}, "desperate", blank, **shared).directions[0]
    assert flattered.confused == () and not flattered.held_out, "control: on the stories that it was made of"
    scores = {"learnt": rng.standard_normal(len(emotions))}
    honest = neighbours({"learnt": learnt}, "desperate", blank, scores=scores, **shared).directions[0]
    assert len(honest.confused) >= 4 and honest.held_out and honest.confused_without is None
    again = neighbours({"learnt": learnt}, "desperate", blank, scores=scores, scores_without=scores, **shared)
    assert again.directions[0].confused_without == honest.confused


def test_scoring_stories_without_valence_is_scoring_by_the_direction_without_valence() -> None:
    acts, *_ = told()
    direction = torch.from_numpy(np.random.default_rng(1).standard_normal(D)).float()
    one, other = without(acts, VALENCE_VECTOR) @ direction, acts @ without(direction, VALENCE_VECTOR)
    assert torch.allclose(one, other, atol=1e-4) and not torch.allclose(one, acts @ direction, atol=0.1)
    assert float((without(acts, VALENCE_VECTOR) @ GOODNESS).abs().max()) < 1e-5


def test_cosines_stand_beside_a_band_that_random_directions_keep_to() -> None:
    acts, *_ = told()
    bands = _Bands.of(VECTORS, acts, 2000, 0)
    random = [like for one in draw(acts, 300, seed=77) for like in bands.likenesses(one)]
    assert 0.93 < np.mean([abs(like.cosine or 0) <= (like.band or 0) for like in random]) < 0.97
    own = {like.vector: like for like in found({"own": VECTORS["sad"]}, told()).directions[0].likenesses}
    assert list(own) == [*VECTORS, VALENCE]
    assert own["sad"].cosine == pytest.approx(1) and own["sad"].band is not None and own["sad"].band < 0.9
    assert own["afraid"].cosine == pytest.approx(0.5) and own[VALENCE].cosine == pytest.approx(-(0.5**0.5))
    narrow = {like.vector: like.band for like in found({"x": GOODNESS}, told(0.0)).directions[0].likenesses}
    wide = own[VALENCE].band
    assert wide is not None and narrow[VALENCE] is not None and wide > narrow[VALENCE] + 0.2, "the band is the stories'"


def test_one_topic_alone_gives_no_interval_and_the_verdict_says_so() -> None:
    acts, emotions, groups = told()
    reading = found({"concept": AXES["desperate"]}, (acts, emotions, [0] * len(groups))).directions[0]
    assert reading.confused == () and all(row.low is None for row in reading.against)
    assert "above those of 0 of 5" in reading.verdict and "too few groups to say for afraid" in reading.verdict


def test_too_few_topics_are_not_taken_for_confusion() -> None:
    few = found({"concept": AXES["desperate"]}, told(8.0, n_topics=4)).directions[0]
    assert all(row.auroc == 1 and row.low is not None and row.low <= 0.5 for row in few.against)
    assert few.confused == () and "too few groups to say for afraid, sad, guilty, happy, calm" in few.verdict
    assert found({"x": -GOODNESS}, told(8.0, n_topics=4)).directions[0].confused == BAD[1:], "control"


def test_a_neighbour_that_scores_higher_is_named() -> None:
    reading = found({"wrong": AXES["sad"]}, told()).directions[0]
    assert "sad" in reading.confused and "it scores sad higher than desperate" in reading.verdict


def test_valence_is_made_without_the_concept_and_of_known_emotions_only() -> None:
    made = valence_direction(VECTORS, GOOD, BAD, leave_out=("desperate",))
    assert made @ AXES["desperate"].numpy() == 0 and made @ GOODNESS.numpy() == pytest.approx(2)
    assert valence_direction(VECTORS, GOOD, BAD) @ AXES["desperate"].numpy() < 0, "control"
    with pytest.raises(ProbeError, match="no vector of grumpy"):
        valence_direction(VECTORS, GOOD, ["grumpy"])
    with pytest.raises(ProbeError, match="no emotion left on one side"):
        valence_direction(VECTORS, GOOD, ["sad"], leave_out=["sad"])


def test_json_gives_it_back_and_the_card_shows_the_nearest_first() -> None:
    acts, emotions, groups = told()
    both = found({"bad": -GOODNESS, "own": AXES["desperate"]}, (acts, emotions, groups))
    assert both == Neighbours.from_row(json.loads(json.dumps(asdict(both), allow_nan=False)))
    said = lines(both)
    assert said[0] == "## Neighbours" and both.directions[0].verdict in "\n".join(said)
    table = [line for line in said if line.startswith("|")]
    assert {line.count("|") for line in table} == {9} and len(table) == 2 * (2 + 6 + 2)
    assert table[2].startswith(f"| {NEGATIVE} | 120 |") and [line[2:7] for line in table[6:8]] in (
        ["happy", "calm "],
        ["calm ", "happy"],
    )


def test_what_cannot_be_compared_is_refused() -> None:
    acts, emotions, groups = told()
    with pytest.raises(ProbeError, match="no stories of desperate"):
        found({"x": GOODNESS}, (acts, [name.replace("desperate", "angry") for name in emotions], groups))
    with pytest.raises(ProbeError, match="no stories of any other emotion"):
        found({"x": GOODNESS}, (acts, ["desperate"] * len(emotions), groups))
    with pytest.raises(ProbeError, match="x has length 0"):
        found({"x": GOODNESS * 0}, (acts, emotions, groups))
