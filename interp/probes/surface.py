"""What is told without activations: features of words, length and embeddings, and logistic scores on unseen groups."""

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from sklearn.decomposition import KernelPCA
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.feature_selection import chi2
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.utils.extmath import row_norms

from interp.probes.nulls import aurocs
from interp.stats.resampling import group_codes

PENALTIES = tuple(10.0 ** np.arange(-3, 4))
"""Values of scikit-learn's `C` to choose among, for features whose rows have a mean squared length of 1."""
WIDTHS = (None, 300, 30)
"""Numbers of words to choose among, None for all: a class that one word gives away is lost among thousands."""

_INNER, _STEPS = 3, 2000
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_TOKEN = r"\w+|[^\w\s]"
"""Words of any length, and marks: what gives a class away may be an `I` or a `!`."""
_TURNED_BELOW = 2000
"""Training rows up to which features that outnumber them are turned into as many as there are rows."""


@dataclass(frozen=True, eq=False)
class Cue:
    """Features of all rows, none of them fitted to anything; what is fitted is fitted on training rows."""

    name: str
    features: Any
    """Dense or sparse, rows by features."""
    note: str
    """What it sees."""
    steps: Callable[[], tuple] = field(default=tuple)
    """Fresh scikit-learn transformers, for each fit anew."""
    rare: int = 0
    """Columns that are not zero in so many training rows or fewer are left out."""
    widths: tuple[int | None, ...] = (None,)
    """How many features may be kept, those that differ most between the classes (chi-squared); None for all."""


@dataclass(frozen=True, eq=False)
class Split:
    """Labels, groups and folds of the rows."""

    labels: Bool[np.ndarray, " row"]
    groups: Sequence[Hashable]
    folds: Int[np.ndarray, " row"]
    seed: int
    """Of the inner folds."""


def word_cues(texts: Sequence[str]) -> Iterator[Cue]:
    """Counts of words and pairs of words. Which of them count, and how much, is left to the training rows."""
    saw = "words and pairs of words"
    vectorizer = CountVectorizer(ngram_range=(1, 2), token_pattern=_TOKEN)
    has_words = any(re.search(_TOKEN, text) for text in texts)
    counts = vectorizer.fit_transform(texts) if has_words else np.zeros((len(texts), 0))
    yield Cue("bag of words", counts, f"counts of {saw}", rare=1, widths=WIDTHS)
    yield Cue("TF-IDF", counts, f"weighted {saw}", lambda: (TfidfTransformer(sublinear_tf=True),), 1, WIDTHS)


def length_cue(texts: Sequence[str], positions: Mapping[str, Float[np.ndarray, " row"]]) -> Cue:
    """Lengths and places, with logarithms, squares and products: being far from what is usual counts as well."""
    known = {name: np.asarray(values, float) for name, values in positions.items()}
    known["words"] = np.array([len(_WORD.findall(text)) for text in texts], float)
    known["characters"] = np.array([len(text) for text in texts], float)
    known["lines"] = np.array([text.count("\n") + 1 for text in texts], float)
    values = np.stack(list(known.values()), axis=1)
    features = np.concatenate([values, np.sign(values) * np.log1p(np.abs(values))], axis=1)

    def steps() -> tuple:
        return StandardScaler(), PolynomialFeatures(2, include_bias=False), StandardScaler()

    return Cue("length and position", features, ", ".join(known), steps)


def lexicon_cue(texts: Sequence[str], lexicon: Mapping[str, frozenset[str]]) -> Cue:
    """How often the forms of each name occur, and of all together: as counts, and as shares of the words."""
    named: dict[tuple[str, ...], list[int]] = {}
    for number, forms in enumerate(lexicon.values()):
        for form in {tuple(_WORD.findall(form.lower())) for form in forms} - {()}:
            named.setdefault(form, []).append(number)
    counts, totals = np.zeros((len(texts), len(lexicon) + 1)), np.ones((len(texts), 1))
    for row, text in enumerate(texts):
        words = _WORD.findall(text.lower())
        totals[row] = max(len(words), 1)
        for numbers in _found(words, named):
            counts[row, [*numbers, -1]] += 1
    with_any = int((counts[:, -1] > 0).sum())
    note = f"{len(named)} forms of {len(lexicon)} emotions; {with_any} of {len(texts)} texts have any"
    return Cue("emotion words", np.concatenate([counts, counts / totals], axis=1), note, lambda: (StandardScaler(),))


def embedding_cue(embeddings: Float[np.ndarray, "row d_model"]) -> Cue:
    """The mean input embedding, every dimension on its own scale."""
    return Cue("embeddings", embeddings, "mean input embedding of the tokens", lambda: (StandardScaler(),))


def held_out(cue: Cue, split: Split) -> Float[np.ndarray, " row"] | str:
    """The score of every row by a fit without its fold; or the reason why there is none.

    Vocabulary, weights of words, scales, the number of words and the penalty are fitted or chosen on the training rows.
    So that folds can be pooled, a score is the distance from half-way between the classes, where new rows lie: the mean
    of the training rows, moved by the gap that inner folds show. The midpoint of the training classes will not do:
    rows learnt by heart lie further out the smaller their class, which pushes chance below 1/2.
    """
    scores = np.full(len(split.labels), np.nan)
    for fold in np.unique(split.folds):
        train, test = np.flatnonzero(split.folds != fold), np.flatnonzero(split.folds == fold)
        labels = split.labels[train]
        if not labels.any() or labels.all():
            return f"without fold {fold} there are not two classes to learn from"
        width, penalty, gap = _choice(cue, split, train)
        (found,) = _scores(cue, split.labels, train, test, width, (penalty,))
        scores[test] = found + (labels.mean() - 0.5) * gap
    return scores


def _found(words: Sequence[str], named: Mapping[tuple[str, ...], list[int]]) -> Iterator[list[int]]:
    """The names of every form in the text; a form of several words is looked for as a phrase."""
    for size in {len(form) for form in named}:
        for start in range(len(words) - size + 1):
            numbers = named.get(tuple(words[start : start + size]))
            if numbers:
                yield numbers


def _choice(cue: Cue, split: Split, train: Int[np.ndarray, " train"]) -> tuple[int | None, float, float]:
    """The width and penalty that separate best on inner folds of the training groups, and the gap of the classes there.

    Of equals, the widest at the strongest penalty. Where a class has rows in one group only there are no inner folds:
    then all features, a penalty of 1, and no gap.
    """
    labels, codes = split.labels[train], group_codes([split.groups[row] for row in train])
    fewest = min(len(set(codes[labels])), len(set(codes[~labels])))
    if fewest < 2:
        return None, 1.0, 0.0
    splitter = StratifiedGroupKFold(min(_INNER, fewest), shuffle=True, random_state=split.seed)
    inner = [(train[known], train[unseen]) for known, unseen in splitter.split(labels, labels, codes)]
    right, gap = np.zeros((2, len(cue.widths), len(PENALTIES)))
    for row, width in enumerate(cue.widths):
        for known, unseen in inner:
            side = split.labels[unseen]
            path = _scores(cue, split.labels, known, unseen, width, PENALTIES)
            if side.any() and not side.all():
                right[row] += aurocs(path, np.repeat(side[None], len(path), axis=0)).round(9)
                gap[row] += (path[:, side].mean(axis=1) - path[:, ~side].mean(axis=1)) / len(inner)
    at, penalty = np.unravel_index(right.argmax(), right.shape)
    return cue.widths[at], PENALTIES[penalty], float(gap[at, penalty])


def _scores(
    cue: Cue,
    labels: Bool[np.ndarray, " row"],
    train: Int[np.ndarray, " train"],
    test: Int[np.ndarray, " test"],
    width: int | None,
    penalties: Sequence[float],
) -> Float[np.ndarray, "penalty test"]:
    """Scores of the test rows at each penalty, by fits to the training rows: each starts where the last one ended.

    Measured from the mean of the training rows, in their standard deviations; 0 where no feature varies.
    """
    scores, side = np.zeros((len(penalties), len(test))), labels[train]
    known, unseen = _features(cue, side, train, test, width)
    if not known.shape[1] or side.all() or not side.any():
        return scores
    model = LogisticRegression(warm_start=True, max_iter=_STEPS)
    for row, penalty in zip(scores, penalties, strict=True):
        model.set_params(C=penalty).fit(known, side)
        along, out = model.decision_function(known), model.decision_function(unseen)
        spread = along.std()
        row[:] = (out - along.mean()) / spread if spread > 1e-12 * (1 + abs(along.mean())) else 0.0
    return scores


def _features(
    cue: Cue,
    side: Bool[np.ndarray, " train"],
    train: Int[np.ndarray, " train"],
    test: Int[np.ndarray, " test"],
    width: int | None,
) -> tuple[Any, Any]:
    """Training and test rows on features that the training rows chose and scaled.

    Features that outnumber the rows are turned so that only as many are left: to a penalty on length it is all the
    same, and faster.
    """
    known, unseen = cue.features[train], cue.features[test]
    if cue.rare and known.shape[1]:
        common = known.getnnz(axis=0) > cue.rare
        known, unseen = known[:, common], unseen[:, common]
    if not known.shape[1]:
        return known, unseen
    for step in cue.steps():
        known, unseen = step.fit_transform(known), step.transform(unseen)
    if width is not None and width < known.shape[1]:
        differing = np.argsort(-np.nan_to_num(chi2(known, side)[0]), kind="stable")[:width]
        known, unseen = known[:, differing], unseen[:, differing]
    length = float(np.sqrt(row_norms(known, squared=True).mean())) or 1.0
    known, unseen = known / length, unseen / length
    if known.shape[0] < min(known.shape[1], _TURNED_BELOW):
        turn = KernelPCA(kernel="linear", eigen_solver="dense", remove_zero_eig=True).fit(known)
        return turn.transform(known), turn.transform(unseen)
    return known, unseen
