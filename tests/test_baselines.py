"""Baselines are as strong as what they see allows, and a probe beats them only where it knows more."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

from interp.errors import ProbeError
from interp.probes import surface
from interp.probes.baselines import Baseline, baselines, beats_all, lines, verdict
from interp.stats import auroc

N, GROUPS = 120, 40
COMMON = [f"word{i}" for i in range(60)]
GROUP = np.arange(N) // (N // GROUPS)
FOLDS = GROUP % 3


@pytest.fixture(autouse=True)
def less_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three penalties instead of seven."""
    monkeypatch.setattr(surface, "PENALTIES", (0.01, 1.0, 100.0))


def data(seed: int, giveaway: str = "", share: float = 1.0) -> tuple[np.ndarray, list[str]]:
    """Labels, and texts of common words; a share of the positive ones has the giveaway in it."""
    rng = np.random.default_rng(seed)
    labels = rng.random(N) < 0.5
    texts = []
    for is_positive in labels:
        words = list(rng.choice(COMMON, size=30))
        if giveaway and is_positive and rng.random() < share:
            words[rng.integers(30)] = giveaway
        texts.append(" ".join(words))
    return labels, texts


def noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=N)


def found(probe: np.ndarray, labels: np.ndarray, texts: list[str], **more) -> dict[str, Baseline]:
    return {one.name: one for one in baselines(probe, labels, GROUP.tolist(), FOLDS, texts=texts, seed=0, **more)}


def test_words_that_give_the_class_away_are_not_beaten_by_a_good_probe() -> None:
    labels, texts = data(0, "alarm")
    words = found(labels * 3.0 + noise(1), labels, texts)
    for name in ("bag of words", "TF-IDF"):
        assert (words[name].auroc or 0) > 0.97 and words[name].beaten is False
    assert words["length and position"].beaten is True
    assert "does not beat bag of words, TF-IDF" in verdict(tuple(words.values()))


def test_a_signal_that_no_word_carries_beats_all_baselines() -> None:
    labels, texts = data(2)
    embeddings = np.random.default_rng(3).normal(size=(N, 16))
    lexicon = {"afraid": frozenset({"word1", "word2"})}
    result = found(labels * 2.0 + noise(4), labels, texts, embeddings=embeddings, lexicon=lexicon)
    assert list(result) == ["bag of words", "TF-IDF", "length and position", "emotion words", "embeddings"]
    for one in result.values():
        assert one.beaten is True and one.low < 0.6 and one.difference_low > 0.1
        assert one.difference == pytest.approx(auroc(labels * 2.0 + noise(4), labels) - one.auroc)
    assert verdict(tuple(result.values())) == "The probe beats all 5."


def test_scores_that_mean_nothing_beat_nothing() -> None:
    labels, texts = data(5)
    result = found(noise(6), labels, texts, given={"judge": noise(7)})
    assert [one.beaten for one in result.values()] == [False] * 4
    assert beats_all(tuple(result.values())) is False


def test_one_word_among_thousands_is_found() -> None:
    labels, texts = data(8, "alarm", share=0.6)
    rng = np.random.default_rng(9)
    texts = [" ".join([text, *(f"rare{i}" for i in rng.integers(3000, size=300))]) for text in texts]
    one = found(noise(10), labels, texts)["bag of words"]
    assert (one.auroc or 0) > 0.7  # 0.8 is what the word tells
    split = surface.Split(labels, GROUP.tolist(), FOLDS, 0)
    cue = dataclasses.replace(next(iter(surface.word_cues(texts))), widths=(None,))
    scores = surface.held_out(cue, split)
    assert not isinstance(scores, str) and (auroc(scores, labels) or 1) < (one.auroc or 0) - 0.05


@pytest.mark.parametrize("far_from_usual", [False, True])
def test_length_and_position_find_a_confound_of_length(far_from_usual: bool) -> None:
    """The second case has both the shortest and the longest positive: a line through length would see nothing."""
    labels, texts = data(11)
    rng = np.random.default_rng(12)
    extra = np.where(labels, rng.choice([0, 60] if far_from_usual else [60], size=N), 30) + rng.integers(0, 8, size=N)
    texts = [f"{text}{' filler' * int(n)}" for text, n in zip(texts, extra, strict=True)]
    one = found(labels * 1.0 + noise(13), labels, texts)["length and position"]
    assert (one.auroc or 0) > 0.95 and one.beaten is False


def test_length_and_position_see_the_numbers_that_are_passed() -> None:
    labels, texts = data(14)[0], [""] * N
    turns = labels * 2.0 + np.abs(noise(15)) * 0.1
    with_turns = found(noise(16), labels, texts, positions={"turns": turns})["length and position"]
    without = found(noise(16), labels, texts)["length and position"]
    assert (with_turns.auroc or 0) > 0.99 and "turns" in with_turns.note
    assert (without.auroc or 1) < 0.65


def test_the_lexicon_finds_its_forms_and_phrases_and_no_others() -> None:
    labels, _ = data(17)
    told = ["She was AT EASE." if is_it else "at her ease" for is_it in labels]
    hit = found(noise(18), labels, told, lexicon={"calm": frozenset({"at ease", "calmly"})})["emotion words"]
    assert (hit.auroc or 0) > 0.99 and f"{labels.sum()} of {N} texts" in hit.note
    miss = found(noise(18), labels, told, lexicon={"angry": frozenset({"anger"})})["emotion words"]
    assert miss.auroc == 0.5 and f"0 of {N} texts" in miss.note


def test_counts_go_to_the_name_that_the_form_belongs_to() -> None:
    """Both classes have as many emotion words: only which they are tells them apart."""
    labels, _ = data(19)
    told = ["afraid" if is_it else "angry" for is_it in labels]
    lexicon = {"afraid": frozenset({"afraid"}), "angry": frozenset({"angry"})}
    assert (found(noise(20), labels, told, lexicon=lexicon)["emotion words"].auroc or 0) > 0.99


def test_embeddings_on_any_scale_are_used() -> None:
    labels, texts = data(21)[0], [""] * N
    embeddings = np.random.default_rng(22).normal(size=(N, 300))
    embeddings[:, 0] *= 1e4
    embeddings[:, 1] += 8 * labels
    one = found(noise(23), labels, texts, embeddings=embeddings)["embeddings"]
    assert (one.auroc or 0) > 0.7 and one.beaten is False


def test_a_judge_is_compared_on_the_rows_it_has_scored() -> None:
    labels, texts = data(24)[0], [""] * N
    probe, judge = labels * 2.0 + noise(25), labels * 2.0 + noise(26)
    judge[::4] = np.nan
    one = found(probe, labels, texts, given={"judge": judge})["judge"]
    known = ~np.isnan(judge)
    assert one.n == known.sum() and one.auroc == pytest.approx(auroc(judge[known], labels[known]))
    assert one.difference == pytest.approx(auroc(probe[known], labels[known]) - auroc(judge[known], labels[known]))
    assert one.beaten is False and "30 of 120 rows have no score" in one.note


def test_a_judge_without_scores_is_undefined_and_so_is_beating_all() -> None:
    labels, texts = data(27)[0], [""] * N
    result = tuple(found(labels * 2.0 + noise(28), labels, texts, given={"judge": np.full(N, np.nan)}).values())
    assert result[-1].auroc is None and result[-1].beaten is None and result[-1].n == 0
    assert beats_all(result) is None and "cannot be compared with judge" in verdict(result)


def test_two_perfect_scores_are_a_draw_and_a_constant_is_beaten() -> None:
    """No resample differs in either case: an interval of width zero would claim certainty."""
    labels, texts = data(29)[0], [""] * N
    result = found(labels * 1.0, labels, texts, given={"same": labels * 3.0, "constant": np.ones(N)})
    same, constant = result["same"], result["constant"]
    assert same.difference == 0 and same.beaten is False and same.difference_low < 0 < same.difference_high
    assert constant.auroc == 0.5 and constant.beaten is True and constant.difference_low < 0.5


def test_drawing_groups_for_both_at_once_finds_small_differences() -> None:
    labels, texts = data(30)[0], [""] * N
    base = labels * 1.0 + noise(31)
    one = found(base + 0.3 * labels, labels, texts, given={"worse": base})["worse"]
    assert one.beaten is True and one.auroc + one.difference < one.high  # though the intervals of both overlap
    assert one.difference_high - one.difference_low < one.high - one.low


def test_equally_good_scores_are_rarely_beaten() -> None:
    """2.5 % of each are beaten by chance; the twenty share their labels, so a few at once are rare and no more."""
    labels, texts = data(33)
    shared = noise(34)
    given = {f"twin {i}": labels * 1.0 + shared + noise(100 + i) for i in range(10)}
    beaten = []
    for seed in (35, 36):
        rows = baselines(
            labels * 1.0 + shared + noise(seed), labels, GROUP.tolist(), FOLDS, texts=[""] * N, given=given, seed=0
        )
        beaten += [one.beaten for one in rows if one.name.startswith("twin")]
    assert len(beaten) == 20 and sum(beaten) <= 4


def test_held_out_rows_do_not_enter_their_fit() -> None:
    """The texts and labels of a fold are replaced: the scores of its rows see the new texts alone, by the old fits."""
    labels, texts = data(38, "alarm", share=0.5)
    split = surface.Split(labels, GROUP.tolist(), FOLDS, 0)
    for number in range(2):
        before = surface.held_out(list(surface.word_cues(texts))[number], split)
        flipped = np.where(FOLDS == 2, ~labels, labels)
        after = surface.held_out(list(surface.word_cues(texts))[number], dataclasses.replace(split, labels=flipped))
        np.testing.assert_allclose(after[FOLDS == 2], before[FOLDS == 2])
        assert not np.allclose(after[FOLDS != 2], before[FOLDS != 2])
        others = [f"{text} unheard of {'x' * i}" if FOLDS[i] == 2 and i % 2 else text for i, text in enumerate(texts)]
        moved = surface.held_out(list(surface.word_cues(others))[number], split)
        unmoved = (FOLDS == 2) & (np.arange(N) % 2 == 0)
        np.testing.assert_allclose(moved[unmoved], before[unmoved], atol=1e-6)


def test_features_are_those_of_scikit_learn_fitted_on_the_training_rows() -> None:
    _, texts = data(39)
    train, test = np.flatnonzero(FOLDS != 0), np.flatnonzero(FOLDS == 0)
    vectorizer = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]", min_df=2)
    weigh = TfidfTransformer(sublinear_tf=True)
    known = weigh.fit_transform(vectorizer.fit_transform([texts[i] for i in train])).toarray()
    unseen = weigh.transform(vectorizer.transform([texts[i] for i in test])).toarray()
    cue = list(surface.word_cues(texts))[1]
    mine, mine_unseen = surface._features(cue, np.arange(len(train)) % 2 == 0, train, test, None)
    centred = known - known.mean(axis=0)
    np.testing.assert_allclose(mine @ mine.T, centred @ centred.T, atol=1e-8)  # turned, which keeps all products
    np.testing.assert_allclose(mine_unseen @ mine.T, (unseen - known.mean(axis=0)) @ centred.T, atol=1e-8)


def test_chance_stays_at_one_half_where_folds_differ_in_their_share_of_positives() -> None:
    """Measured from the midpoint of rows that were learnt by heart, chance would lie lower, and flatter every probe."""
    found_by_chance = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        labels = np.repeat(rng.permutation(20) % 2 == 0, 4)
        split = surface.Split(labels, (np.arange(80) // 4).tolist(), np.arange(80) // 4 % 5, 0)
        cue = dataclasses.replace(surface.embedding_cue(rng.normal(size=(80, 400))))
        found_by_chance.append(auroc(surface.held_out(cue, split), labels))
    assert 0.46 < np.mean(found_by_chance) < 0.54


def test_rows_of_no_fold_are_left_out() -> None:
    labels, texts = data(40, "alarm")
    probe, folds = labels * 3.0 + noise(41), np.where(GROUP < 8, -1, FOLDS)
    probe[GROUP < 8] = np.nan
    result = baselines(probe, labels, GROUP, folds, texts=texts, given={"judge": noise(42)}, seed=0)
    assert [one.n for one in result] == [96] * 4


def test_texts_without_a_word_are_at_chance() -> None:
    labels, _ = data(43)
    result = found(labels * 2.0 + noise(44), labels, [""] * N)
    assert [one.auroc for one in result.values()] == [0.5] * 3 and all(one.beaten for one in result.values())


def test_too_few_groups_to_learn_from_is_said() -> None:
    labels, texts = data(45)
    one_fold = baselines(noise(46), labels, GROUP, np.zeros(N, int), texts=texts, seed=0)
    assert {one.beaten for one in one_fold} == {None} and "not two classes to learn from" in one_fold[0].note
    one_class = baselines(noise(46), np.ones(N, bool), GROUP, FOLDS, texts=texts, given={"judge": noise(1)}, seed=0)
    assert {one.auroc for one in one_class} == {None}


def test_what_does_not_fit_is_refused() -> None:
    labels, texts = data(47)
    with pytest.raises(ProbeError, match="group 0 is in folds"):
        baselines(noise(1), labels, GROUP, np.arange(N) % 3, texts=texts, seed=0)
    with pytest.raises(ProbeError, match="119 texts for 120 rows"):
        baselines(noise(1), labels, GROUP, FOLDS, texts=texts[1:], seed=0)
    with pytest.raises(ProbeError, match="the probe is not finite on 1 rows"):
        baselines(np.append(noise(1)[1:], np.nan), labels, GROUP, FOLDS, texts=texts, seed=0)
    with pytest.raises(ProbeError, match="no row is in a fold"):
        baselines(noise(1), labels, GROUP, np.full(N, -1), texts=texts, seed=0)


def test_a_baseline_comes_back_from_json_and_the_page_shows_all_of_them() -> None:
    labels, texts = data(48)[0], [""] * N
    result = tuple(found(labels * 2.0 + noise(49), labels, texts, given={"judge": np.full(N, np.nan)}).values())
    rows = json.loads(json.dumps([dataclasses.asdict(one) for one in result], allow_nan=False))
    assert tuple(map(Baseline.from_row, rows)) == result
    page = lines(result)
    assert page[0].startswith("## ") and sum(line.startswith("| ") for line in page) == 1 + len(result)
    assert "| judge | undefined | undefined | undefined | undefined | undefined | 0 |" in "\n".join(page)
    assert "No baseline" in lines(())[2] and beats_all(()) is None
