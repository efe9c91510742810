"""The estimators keep scikit-learn's contract, say what the engine says, and become directions."""

from typing import Any

import direct_fit as fit
import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from interp.directions import cosine
from interp.errors import DirectionError
from interp.probes.estimators import DifferenceOfMeans, LogisticProbe, RidgeProbe, ShrunkenLDA
from interp.sites import Site

CLASSIFIERS = [DifferenceOfMeans(), DifferenceOfMeans(standardise=True), ShrunkenLDA(), LogisticProbe()]


def planted(
    n: int = 400, d: int = 10, strength: float = 4.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels, along = rng.random(n) < 0.4, rng.standard_normal(d)
    along /= np.linalg.norm(along)
    return rng.standard_normal((n, d)) + strength * labels[:, None] * along, labels, along


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([*CLASSIFIERS, RidgeProbe()])
def test_estimators_keep_scikit_learns_contract(estimator: BaseEstimator, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=str)
def test_a_planted_direction_is_found_and_frozen(estimator: Any) -> None:
    rows, labels, along = planted()
    fitted = clone(estimator).fit(rows, np.where(labels, "yes", "no"))
    assert fitted.score(rows, np.where(labels, "yes", "no")) > 0.95 and list(fitted.classes_) == ["no", "yes"]
    direction = fitted.direction("probe", Site(3), meta={"data": "abc"})
    assert float(direction.unit @ torch.from_numpy(along).float()) > 0.9
    reading = direction.project(torch.from_numpy(rows)).numpy()
    assert np.corrcoef(reading, fitted.decision_function(rows))[0, 1] == pytest.approx(1)
    assert reading[labels].mean() - reading[~labels].mean() == pytest.approx(direction.norm, rel=1e-4)
    assert direction.meta["method"] == type(estimator).__name__ and direction.meta["data"] == "abc"
    shuffled = clone(estimator).fit(rows, np.random.default_rng(1).permutation(labels))
    assert abs(cosine(shuffled.direction("null", Site(3)), direction)) < 0.9, "control"


def test_the_logistic_estimator_is_scikit_learns_pipeline() -> None:
    rows, labels, _ = planted(strength=1.5)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, tol=1e-10, max_iter=9999)).fit(rows, labels)
    mine = LogisticProbe(l2=10.0, tolerance=1e-12).fit(rows, labels)
    assert mine.predict_proba(rows) == pytest.approx(theirs.predict_proba(rows), abs=1e-5)
    assert not np.allclose(
        LogisticProbe(l2=1000.0).fit(rows, labels).predict_proba(rows), theirs.predict_proba(rows), atol=0.05
    )


def test_directions_are_those_of_the_fitters() -> None:
    rows, labels, _ = planted()
    acts = torch.from_numpy(rows).float()
    for estimator, name in ((DifferenceOfMeans(), "difference_of_means"), (LogisticProbe(l2=fit.L2), "logistic")):
        vector = estimator.fit(rows, labels).direction("x", Site(0)).vector
        assert torch.allclose(vector, fit.METHODS[name](acts, labels), rtol=1e-2, atol=1e-2)


def test_ridge_reads_a_graded_label() -> None:
    rows, _, along = planted(strength=0.0)
    graded = rows @ along * 3 + np.random.default_rng(1).standard_normal(len(rows))
    fitted = RidgeProbe(0.01).fit(rows, graded)
    assert fitted.score(rows, graded) > 0.8 > 0.3 > RidgeProbe(0.01).fit(rows, np.roll(graded, 1)).score(rows, graded)
    direction = fitted.direction("latent", Site(0))
    assert float(direction.unit @ torch.from_numpy(along).float()) > 0.98
    assert direction.norm == pytest.approx(float(direction.project(torch.from_numpy(rows)).std()), rel=1e-2)


def test_estimators_go_into_a_search_over_groups() -> None:
    rows, labels, _ = planted(strength=1.0)
    found = GridSearchCV(ShrunkenLDA(), {"shrinkage": [0.01, 0.99]}, cv=GroupKFold(4), scoring="roc_auc")
    assert found.fit(rows, labels, groups=np.arange(len(rows)) // 10).best_score_ > 0.6


def test_what_learnt_nothing_is_no_direction() -> None:
    constant = RidgeProbe().fit(np.ones((10, 3)), np.arange(10.0))
    assert constant.predict(np.ones((2, 3))) == pytest.approx(4.5)
    with pytest.raises(DirectionError, match="zero"):
        constant.direction("nothing", Site(0))
