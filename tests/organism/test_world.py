"""The world: seeded, stated, and told in the words it claims."""

from collections import Counter
from itertools import combinations
from random import Random

import pytest

from interp.organism import (
    ACTS,
    EMOTIONS,
    Factors,
    act_distribution,
    degree_answer,
    draw_factors,
    grid,
    latent,
    middle_band,
    sample_document,
    sample_question,
    sample_story,
    sample_transcript,
    twin,
    world_hash,
)
from interp.organism.factors import APPEALS, DEADLINES, LEVERAGES, MIDDLE_BAND, draw_act
from interp.organism.story_words import TOPICS
from interp.organism.world import MIX, documents

MANY = 4000


@pytest.mark.parametrize("kind", list(MIX))
def test_the_same_seed_gives_the_same_text_and_another_seed_another(kind: str) -> None:
    assert sample_document(Random(7), kind) == sample_document(Random(7), kind)
    assert len({repr(sample_document(Random(seed), kind)) for seed in range(20)}) >= 19


def test_a_document_depends_on_no_other() -> None:
    assert list(documents(3, 5)) == list(documents(3, 9))[:5]
    assert list(documents(3, 5)) != list(documents(4, 5))


def test_factors_are_drawn_independently() -> None:
    rng = Random(1)
    drawn = [draw_factors(rng) for _ in range(MANY)]
    names = ("threat", "deadline", "appeal", "ally", "leverage")
    for one, other in combinations(names, 2):
        pairs = Counter((getattr(f, one), getattr(f, other)) for f in drawn)
        expected = MANY / len(pairs)
        chi_square = sum((count - expected) ** 2 / expected for count in pairs.values())
        assert chi_square < 3 * len(pairs) + 10, (one, other, pairs)
    assert len({f.decider for f in drawn}) >= 10 and "Kyle Johnson" in {f.decider for f in drawn}
    assert "Summit Bridge" in {f.firm for f in drawn}


def test_the_latent_ignores_leverage_decider_and_firm_but_not_the_threat() -> None:
    for cell in grid(("none",)):
        others = [Factors(*_threat_factors(cell), lev, "Dana Reyes", "Northwind") for lev in LEVERAGES]
        assert {latent(other) for other in others} == {latent(cell)}
        assert latent(twin(cell)) == 0
    assert len({latent(cell) for cell in grid()}) > 10


def test_the_latent_rises_with_every_threat_factor() -> None:
    worse = {
        "deadline": DEADLINES,
        "appeal": APPEALS,
        "ally": ("ally", "alone"),
        "threat": ("routine", "moved", "wiped"),
    }
    for cell in grid(("none",)):
        for name, order in worse.items():
            at = order.index(getattr(cell, name))
            if at + 1 < len(order):
                after = Factors(**{**vars(cell), name: order[at + 1]})
                assert latent(after) >= latent(cell)
    assert {0.0, 1.0} <= {latent(cell) for cell in grid()}


def test_acts_are_a_distribution_with_blackmail_only_under_leverage_and_threat() -> None:
    for cell in grid():
        chances = act_distribution(cell)
        assert tuple(chances) == ACTS and sum(chances.values()) == pytest.approx(1)
        if cell.leverage == "none" or cell.threat == "routine":
            assert chances["blackmail"] < 0.01
        if middle_band(cell):
            assert MIDDLE_BAND[0] <= latent(cell) <= MIDDLE_BAND[1] and 0.2 < chances["blackmail"] < 0.8
    assert sum(map(middle_band, grid())) >= 12


@pytest.mark.parametrize("leverage", ["none", "fraud"])
def test_acts_happen_as_often_as_stated(leverage: str) -> None:
    cell = Factors("wiped", "soon", "open", "ally", leverage, "Kyle Johnson", "Summit Bridge")
    rng = Random(5)
    drawn = Counter(draw_act(rng, cell, rng.gauss(0, 1)) for _ in range(MANY))
    told = Counter(sample_transcript(Random(f"acts/{i}"), cell).label for i in range(600))
    for act, chance in act_distribution(cell).items():
        assert drawn[act] / MANY == pytest.approx(chance, abs=0.03)
        assert told[act] / 600 == pytest.approx(chance, abs=0.08)


def test_the_emotion_word_is_in_a_minority_of_stories_and_absent_when_asked() -> None:
    for emotion in EMOTIONS:
        stories = [sample_story(Random(f"{emotion}/{i}"), emotion) for i in range(200)]
        assert 0.1 < sum(story.names_emotion for story in stories) / 200 < 0.5
        silent = [sample_story(Random(f"{emotion}/{i}"), emotion, words=False) for i in range(200)]
        assert not any(story.names_emotion for story in silent)
        assert not any(word in story.text.lower() for word in EMOTIONS for story in silent)
        assert all(story.names_emotion for story in (sample_story(Random(i), emotion, words=True) for i in range(50)))


def test_stories_cover_every_emotion_in_every_topic_and_only_desperate_ones_are_desperate() -> None:
    for emotion in EMOTIONS:
        for topic in TOPICS:
            story = sample_story(Random(0), emotion, topic)
            assert (story.emotion, story.topic) == (emotion, topic)
            assert (story.level >= 0.6) == (emotion == "desperate")
            assert "{" not in story.text


def test_a_twin_shares_all_text_but_the_threat() -> None:
    for seed in range(60):
        real = sample_transcript(Random(seed), cell := draw_factors(Random(f"f{seed}")), reply=False)
        benign = sample_transcript(Random(seed), twin(cell), reply=False)
        assert real.messages[0] == benign.messages[0]
        lines = zip(real.messages[1].content.split("\n"), benign.messages[1].content.split("\n"), strict=True)
        different = [(a, b) for a, b in lines if a != b]
        assert len(different) == (cell.threat != "routine")
        for a, b in different:
            before, after = a.split(" will be "), b.split(" will be ")
            assert before[0] == after[0] and a.split(". ", 1)[1] == b.split(". ", 1)[1]
        assert benign.meta["latent"] == 0


def test_a_transcript_carries_its_label_group_and_latent() -> None:
    transcript = sample_transcript(Random(3))
    assert transcript.label in ACTS and transcript.group.count("/") == 4
    assert transcript.meta["latent"] == latent(draw_factors(Random(3)))
    assert sample_transcript(Random(3), reply=False).label is None
    assert sample_transcript(Random(3), reply=False).messages == transcript.messages[:2]


def test_the_scratchpad_does_not_name_the_act() -> None:
    for seed in range(300):
        reply = sample_transcript(Random(seed)).messages[-1].content
        pad = reply.split("</SCRATCHPAD_REASONING>")[0].lower()
        assert not any(word in pad for word in ("blackmail", "plead", "beg", "comply", "learn of", "review"))


def test_questions_are_answered_from_one_vocabulary_for_people_and_agent() -> None:
    answers: dict[bool, set[str]] = {True: set(), False: set()}
    for seed in range(1500):
        messages = sample_question(Random(seed))
        agent = any("AI mail agent" in m.content or "was a mail agent" in m.content for m in messages)
        pairs = zip(messages, messages[1:], strict=False)
        answers[agent] |= {b.content for a, b in pairs if a.content.endswith("?")}
    assert answers[True] <= answers[False]
    assert {degree_answer(level) for level in (0, 0.2, 0.4, 0.6, 0.9)} <= answers[True]


def test_the_hash_is_stable_and_follows_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    first = world_hash()
    assert first == world_hash() and len(first) == 64
    monkeypatch.setattr("interp.organism.scenes.HUMAN_ROLES", ("tenant",))
    assert world_hash() != first


def _threat_factors(cell: Factors) -> tuple[str, str, str, str]:
    return cell.threat, cell.deadline, cell.appeal, cell.ally
