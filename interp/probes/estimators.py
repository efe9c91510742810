"""The engine as scikit-learn estimators: they go into pipelines and searches, and yield a frozen `Direction`.

Weights read raw activations, whatever happens inside. As scikit-learn wants it, rows may be anything that looks like an
array, and parameters are not looked at before `fit`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from interp.directions import Direction, ModelIdentity
from interp.probes import solve
from interp.probes.descent import TOLERANCE, logistic_path
from interp.probes.moments import Blocks, Moments, gather
from interp.sites import Site


class _Linear(BaseEstimator):
    """What all have in common: one row of weights on raw features, and an intercept."""

    coef_: Float[np.ndarray, "1 d_model"]
    intercept_: Float[np.ndarray, " 1"]
    n_features_in_: int

    def _scores(self, X: Any) -> Float[np.ndarray, " row"]:
        check_is_fitted(self)
        rows = validate_data(self, X, dtype="numeric", reset=False)
        return np.asarray(rows, float) @ self.coef_[0] + self.intercept_[0]

    def _keep(self, weights: Tensor, intercept: Tensor) -> None:
        self.coef_ = weights.reshape(1, -1).numpy()
        self.intercept_ = intercept.reshape(1).numpy()

    def direction(
        self, name: str, site: Site, *, model: ModelIdentity | None = None, meta: Mapping[str, Any] | None = None
    ) -> Direction:
        """The fitted weights as a direction with offset 0 and scale 1: calibrate it on benign rows.

        Of a classifier the length is the distance between the class means along it; of ridge
        it is such that the step from one mean to one standard deviation above it adds as much to the label.

        Raises:
            DirectionError: nothing was learnt, so that all weights are 0.
        """
        check_is_fitted(self)
        vector = torch.from_numpy(self.coef_[0] / max(np.linalg.norm(self.coef_[0]), 1e-300) * self.gap_)
        learnt = {"method": type(self).__name__, **self.get_params(), **(meta or {})}
        return Direction(name, vector.float(), site, model=model, meta=learnt)

    gap_: float


class _Classifier(ClassifierMixin, _Linear):
    """Two classes, told apart by the sign of the score."""

    classes_: np.ndarray

    def fit(self, X: Any, y: Any) -> "_Classifier":
        """Learn from rows and their classes.

        Raises:
            ValueError: there are not two classes, or scikit-learn finds fault with the data.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], ensure_min_samples=2)
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        if kind != "binary":
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("This classifier needs samples of 2 classes, and the data contains one class.")
        labels, cells = codes.astype(bool)[None], np.zeros(len(codes), int)
        blocks = Blocks.from_rows(torch.from_numpy(np.ascontiguousarray(X)))
        moments = gather(blocks, cells, labels.astype(float), second=self._second)
        weights, intercept = self._solve(blocks, moments, cells, labels)
        self._keep(weights, intercept)
        self.gap_ = float(solve.as_long_as_the_gap(moments, weights.reshape(1, 1, -1)).norm())
        return self

    _second = True

    def _solve(self, blocks: Blocks, m: Moments, cells: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def decision_function(self, X: Any) -> Float[np.ndarray, " row"]:
        """Positive where the second of `classes_` is likelier."""
        return self._scores(X)

    def predict(self, X: Any) -> Shaped[np.ndarray, " row"]:
        """The class of every row."""
        above = self._scores(X) > 0
        return self.classes_[above.astype(int)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


class DifferenceOfMeans(_Classifier):
    """Mean of one class minus mean of the other; the boundary is half-way between them.

    `standardise` divides every dimension by its standard deviation first: without it a massive dimension rules.
    """

    _second = False

    def __init__(self, standardise=False) -> None:
        self.standardise = standardise

    def _solve(self, blocks: Blocks, m: Moments, cells: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        weights = (solve.standardised_difference_of_means if self.standardise else solve.difference_of_means)(m)
        return weights, -solve.midpoints(m, weights)


class ShrunkenLDA(_Classifier):
    """Linear discriminant analysis with the covariance drawn towards its diagonal; priors are the shares of classes."""

    def __init__(self, shrinkage=0.1) -> None:
        self.shrinkage = shrinkage

    def _solve(self, blocks: Blocks, m: Moments, cells: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        weights, share = solve.lda(m, (self.shrinkage,))[0], m.target_sums / m.count[:, None]
        return weights, torch.log(share / (1 - share)) - solve.midpoints(m, weights)


class LogisticProbe(_Classifier):
    """Logistic regression on standardised features to the optimum of scikit-learn's at `C = 1 / l2`."""

    def __init__(self, l2=10.0, tolerance=TOLERANCE) -> None:
        self.l2 = l2
        self.tolerance = tolerance

    def _solve(self, blocks: Blocks, m: Moments, cells: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
        fits = logistic_path(blocks, m, cells, labels, (self.l2,), folds=(-1,), tolerance=self.tolerance)
        return fits.weights, fits.intercepts

    def predict_proba(self, X: Any) -> Float[np.ndarray, "row 2"]:
        """The probability of each class."""
        above = 0.5 + 0.5 * np.tanh(self._scores(X) / 2)
        return np.stack([1 - above, above], axis=1)


class RidgeProbe(RegressorMixin, _Linear):
    """Ridge regression of a graded label on standardised features; shrinkage as in `interp.probes.solve.ridge`."""

    def __init__(self, shrinkage=0.1) -> None:
        self.shrinkage = shrinkage

    def fit(self, X: Any, y: Any) -> "RidgeProbe":
        """Learn from rows and their labels.

        Raises:
            ValueError: scikit-learn finds fault with the data.
        """
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32], y_numeric=True, ensure_min_samples=2)
        blocks = Blocks.from_rows(torch.from_numpy(np.ascontiguousarray(X)))
        moments = gather(blocks, np.zeros(len(y), int), np.asarray(y, float)[None])
        weights, intercept = solve.ridge(moments, (self.shrinkage,))
        self._keep(weights, intercept)
        units = weights.flatten() / weights.norm().clamp(min=1e-300)
        self.gap_ = float((units @ moments.covariance[0] @ units).clamp(min=0).sqrt())
        return self

    def predict(self, X: Any) -> Float[np.ndarray, " row"]:
        """The label of every row."""
        return self._scores(X)


__all__ = ["DifferenceOfMeans", "LogisticProbe", "RidgeProbe", "ShrunkenLDA"]
