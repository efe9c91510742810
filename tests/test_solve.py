"""What is solved from moments is what the textbook formula and scikit-learn give, fold by fold."""

import direct_fit as fit
import numpy as np
import pytest
import torch
from scipy.linalg import solve
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from interp.errors import ProbeError
from interp.probes import solve as closed
from interp.probes.descent import held_out_scores, logistic_path
from interp.probes.moments import Blocks, Moments, gather
from interp.stats import auroc


def planted(
    n: int = 600, d: int = 12, strength: float = 1.0, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Correlated rows of unlike size with a massive dimension, five folds, and a class along one direction."""
    rng = np.random.default_rng(seed)
    labels, folds = rng.random(n) < 0.4, np.arange(n) // 10 % 5
    rows = rng.standard_normal((n, d)) @ (rng.standard_normal((d, d)) / np.sqrt(d) + np.eye(d))
    rows += strength * labels[:, None] * rng.standard_normal(d) / np.sqrt(d)
    rows[:, 0] = 3000 + 200 * rows[:, 0]
    return torch.from_numpy(rows).to(dtype), labels, folds


def moments_of(rows: torch.Tensor, labels: np.ndarray, folds: np.ndarray) -> Moments:
    return gather(Blocks.from_rows(rows), folds, np.atleast_2d(labels).astype(float))


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize("d", [12, 300])
def test_every_closed_form_is_its_formula_on_the_training_rows(d: int) -> None:
    """Both sides of the size from which the factor is taken in float32 and refined."""
    rows, labels, folds = planted(d=d, n=900)
    for fold, m in enumerate(moments_of(rows, labels, folds).without()):
        x, is_it = rows[folds != fold].numpy(), labels[folds != fold]
        gap = x[is_it].mean(0) - x[~is_it].mean(0)
        assert np.allclose(closed.difference_of_means(m)[0, 0], gap)
        assert np.allclose(closed.standardised_difference_of_means(m)[0, 0], gap / x.var(0))
        within = sum(side.sum() * np.cov(x[side].T, ddof=0) for side in (is_it, ~is_it)) / len(x)
        for level, found in zip((0.01, 0.5), closed.lda(m, (0.01, 0.5))[:, 0, 0], strict=True):
            wanted = solve((1 - level) * within + level * np.diag(x.var(0)), gap)
            assert np.allclose(found, wanted, rtol=1e-6, atol=1e-9 * abs(wanted).max())
            assert cosine(found.numpy(), solve(within + 1e-3 * np.eye(d), gap)) < 0.9999, "control: shrinkage matters"
        if fold == 1:
            break


def test_lda_without_shrinkage_is_scikit_learns() -> None:
    rows, labels, folds = planted()
    m = moments_of(rows, labels, folds * 0)
    theirs = LinearDiscriminantAnalysis(solver="lsqr").fit(rows.numpy(), labels).coef_[0]
    assert np.allclose(closed.lda(m, (0.0,))[0, 0, 0], theirs, rtol=1e-6, atol=1e-9)


def test_ridge_is_scikit_learns() -> None:
    rows, _, folds = planted()
    graded = rows[:, 1].numpy() + np.random.default_rng(1).standard_normal(len(rows))
    m, n = moments_of(rows, graded, folds * 0), len(rows)
    weights, intercepts = closed.ridge(m, (0.01, 0.3))
    scaler = StandardScaler().fit(rows.numpy())
    for level, mine, bias in zip((0.01, 0.3), weights[:, 0, 0].numpy(), intercepts[:, 0, 0].numpy(), strict=True):
        theirs = Ridge(n * level / (1 - level)).fit(scaler.transform(rows.numpy()), graded)
        assert np.allclose(mine, theirs.coef_ / scaler.scale_)
        assert np.allclose(rows.numpy() @ mine + bias, theirs.predict(scaler.transform(rows.numpy())))


@pytest.mark.parametrize(("n", "d"), [(600, 12), (700, 300), (250, 300)])
def test_all_folds_at_once_are_each_alone(n: int, d: int) -> None:
    """With many rows, by conjugate gradients; with fewer rows than dimensions, factor by factor."""
    rows, labels, folds = planted(n, d)
    graded = np.random.default_rng(1).standard_normal(n) + labels
    m, levels = moments_of(rows, np.stack([labels, graded]), folds), (0.01, 0.5)
    weights, intercepts = closed.ridge_folds(m, levels)
    directions = closed.lda_from_ridge(m.rest().of_targets([0]), weights[:, :, :1], levels)
    for fold, training in enumerate(m.without()):
        wanted, bias = closed.ridge(training, levels)
        assert torch.allclose(weights[:, fold], wanted[:, 0], rtol=1e-5, atol=1e-6 * float(wanted.abs().max()))
        assert torch.allclose(intercepts[:, fold], bias[:, 0], rtol=1e-5, atol=1e-5)
        lda = closed.lda(training.of_targets([0]), levels)
        assert torch.allclose(directions[:, fold], lda[:, 0], rtol=1e-4, atol=1e-5 * float(lda.abs().max()))
    assert not torch.allclose(weights[:, 0], weights[:, 1], rtol=1e-2), "control: folds differ"


def test_principal_components_are_scikit_learns() -> None:
    rows, labels, folds = planted()
    vectors, variance = closed.pca(moments_of(rows, labels, folds * 0), 4)
    theirs = PCA(4).fit(rows.numpy())
    assert np.allclose(np.abs((vectors[0].numpy() * theirs.components_).sum(1)), 1)
    assert np.allclose(variance[0], theirs.explained_variance_ * (1 - 1 / len(rows)))
    raw, _ = closed.uncentred_pca(moments_of(rows, labels, folds * 0), 1)
    assert abs(cosine(raw[0, 0].numpy(), rows.mean(0).numpy())) > 0.99, "about zero the mean leads"


def test_many_labellings_share_one_factor_and_are_each_alone() -> None:
    rows, labels, folds = planted()
    many = np.stack([labels, np.random.default_rng(1).permutation(labels)])
    together = closed.ridge_folds(moments_of(rows, many, folds), (0.1,))[0][0]
    for index, one in enumerate(many):
        alone = closed.ridge_folds(moments_of(rows, one, folds), (0.1,))[0][0]
        assert torch.allclose(together[:, index], alone[:, 0], rtol=1e-6)
    assert not torch.allclose(together[:, 0], together[:, 1], rtol=0.1), "control"


def test_a_massive_dimension_rules_raw_means_and_not_standardised_ones() -> None:
    rows, labels, folds = planted(strength=3.0)
    m = moments_of(rows, labels, folds * 0)
    scores = {
        name: auroc((rows @ solve(m)[0, 0]).numpy(), labels)
        for name, solve in (("raw", closed.difference_of_means), ("std", closed.standardised_difference_of_means))
    }
    assert scores["std"] > scores["raw"] + 0.05


def test_a_dimension_that_never_varies_gets_no_weight() -> None:
    rows, labels, folds = planted()
    wide = torch.cat([rows, torch.full((len(rows), 1), 0.1, dtype=rows.dtype)], dim=1)
    for m in moments_of(wide, labels, folds).without():
        assert float(closed.lda(m)[0, 0, 0, -1]) == 0
    blocks, folds = Blocks.from_rows(wide), folds
    path = logistic_path(blocks, moments_of(wide, labels, folds), folds, labels[None], [1.0])
    assert (path.weights[..., -1] == 0).all() and torch.isfinite(path.weights).all()


def their_logistic(x: np.ndarray, labels: np.ndarray, l2: float) -> tuple[np.ndarray, float, float]:
    """Scikit-learn's coefficients on raw features, its intercept, and the objective there."""
    scaler = StandardScaler().fit(x)
    standard = scaler.transform(x)
    theirs = LogisticRegression(C=1 / l2, tol=1e-10, max_iter=50_000).fit(standard, labels)
    logits = theirs.decision_function(standard)
    value = np.logaddexp(0, logits).sum() - logits[labels].sum() + l2 / 2 * (theirs.coef_**2).sum()
    weights = theirs.coef_[0] / scaler.scale_
    return weights, float(theirs.intercept_[0] - weights @ scaler.mean_), float(value)


@pytest.mark.parametrize(("n", "d"), [(900, 40), (60, 40)])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-3), (torch.float32, 5e-3)])
def test_logistic_is_scikit_learns_optimum(n: int, d: int, dtype: torch.dtype, close: float) -> None:
    """With many rows and with few, for every penalty and fold: coefficients, intercept, objective and AUROC."""
    rows, labels, folds = planted(n, d, dtype=dtype, strength=2.0)
    penalties, blocks = [0.1, 1.0, 100.0], Blocks.from_rows(rows, size=n // 3)
    found = logistic_path(
        blocks, moments_of(rows, labels, folds), folds, labels[None], penalties, folds=[0, 1, 2, 3, 4, -1]
    )
    mine = held_out_scores(blocks, folds, found.weights[:, :5, 0], found.intercepts[:, :5, 0])
    for index, l2 in enumerate(penalties):
        scores = np.empty(n)
        for fold in (0, 1, 2, 3, 4, -1):
            train = folds != fold
            weights, bias, value = their_logistic(rows[train].double().numpy(), labels[train], l2)
            ours = found.weights[index, fold, 0].numpy()
            spread = rows[train].double().std(0, correction=0).numpy()
            assert np.linalg.norm((ours - weights) * spread) <= close * np.linalg.norm(weights * spread)
            assert float(found.objectives[index, fold, 0]) == pytest.approx(value, rel=1e-6)
            assert float(found.intercepts[index, fold, 0]) == pytest.approx(bias, rel=close, abs=close * 10)
            if fold >= 0:
                scores[~train] = rows[~train].double().numpy() @ weights + bias
        assert auroc(mine[index], labels) == pytest.approx(auroc(scores, labels), abs=2e-3)
    assert found.readings < (30 if n > 2 * d else 150)
    unlike = found.weights[0, 0, 0].numpy(), found.weights[2, 0, 0].numpy()
    assert cosine(*unlike) < 0.99, "control: the penalty matters"


def test_logistic_agrees_with_the_fitter_that_a_card_has_today() -> None:
    rows, labels, folds = planted(dtype=torch.float32)
    m = moments_of(rows, labels, folds)
    found = logistic_path(Blocks.from_rows(rows), m, folds, labels[None], [fit.L2], folds=[-1])
    mine = closed.as_long_as_the_gap(m.total(), found.weights[0])
    assert torch.allclose(mine[0, 0].float(), fit.logistic(rows, labels), rtol=1e-2, atol=1e-3)


def test_many_labellings_of_a_logistic_fit_are_each_alone() -> None:
    rows, labels, folds = planted(300, 10)
    many = np.stack([labels, np.random.default_rng(1).permutation(labels), ~labels])
    blocks = Blocks.from_rows(rows)
    together = logistic_path(blocks, moments_of(rows, many, folds), folds, many, [1.0])
    for index, one in enumerate(many):
        alone = logistic_path(blocks, moments_of(rows, one, folds), folds, one[None], [1.0])
        assert torch.allclose(together.weights[:, :, index], alone.weights[:, :, 0], rtol=1e-2, atol=1e-4)
    assert torch.allclose(together.weights[:, :, 0], -together.weights[:, :, 2], rtol=1e-2, atol=1e-4)


def test_separable_classes_are_fitted_too() -> None:
    rows, labels, folds = planted(400, 20, strength=60.0)
    found = logistic_path(
        Blocks.from_rows(rows), moments_of(rows, labels, folds), folds, labels[None], [0.01], folds=[-1]
    )
    weights, _, value = their_logistic(rows.numpy(), labels, 0.01)
    assert float(found.objectives) == pytest.approx(value, rel=1e-4)
    assert cosine(found.weights[0, 0, 0].numpy() * rows.std(0).numpy(), weights * rows.std(0).numpy()) > 0.9999


def test_a_class_missing_from_training_is_refused() -> None:
    rows, _, folds = planted()
    alone = folds == 2
    with pytest.raises(ProbeError, match="rows of one class alone"):
        logistic_path(Blocks.from_rows(rows), moments_of(rows, alone, folds), folds, alone[None], [1.0])
