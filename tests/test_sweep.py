"""One pass over rows scores every method on rows that it has not seen, as fitting fold by fold would."""

import direct_fit as fit
import numpy as np
import pytest
import torch

from interp.errors import ProbeError
from interp.probes import shuffled_labels
from interp.probes.moments import Blocks
from interp.probes.nulls import aurocs
from interp.probes.splits import Fold
from interp.probes.sweep import METHODS, fit_site


def planted(strength: float) -> tuple[torch.Tensor, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 6)
    labels = rng.random(60)[groups] < 0.5
    acts = rng.standard_normal((360, 12)) + 0.5 * rng.standard_normal((60, 12))[groups]
    acts += strength * labels[:, None] * np.eye(12)[3]
    return torch.from_numpy(acts).float(), labels, groups, groups % 5


def _held_out(acts: torch.Tensor, labels: np.ndarray, splits: list[Fold], fitter: fit.Fitter) -> np.ndarray:
    """Each fold fitted and scored directly."""
    scores = np.zeros(labels.shape)
    for train, test in splits:
        chosen = labels[:, train]
        vectors = fitter(acts[train], chosen)
        units = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-30)
        along, unseen = ((units @ acts[rows].T).double().numpy() for rows in (train, test))
        above, below = (np.average(along, axis=1, weights=side) for side in (chosen, ~chosen))
        scores[:, test] = (unseen - ((above + below) / 2)[:, None]) / along.std(axis=1, keepdims=True)
    return scores


def test_held_out_scores_are_those_of_fitting_fold_by_fold() -> None:
    acts, labels, groups, folds = planted(2.0)
    many = np.concatenate([labels[None], shuffled_labels(labels, groups, n=3, seed=0)])
    found = fit_site(Blocks.from_rows(acts, size=50), many, folds, l2=fit.L2)
    splits = [Fold(np.flatnonzero(folds != k), np.flatnonzero(folds == k)) for k in range(5)]
    for name in ("difference_of_means", "logistic"):
        wanted = _held_out(acts, many, splits, fit.METHODS[name])
        assert np.abs(found.held_out[name] - wanted).max() < 2e-3
        assert torch.allclose(found.vectors[name], fit.METHODS[name](acts, many), atol=5e-3)
        unlike = _held_out(acts, many, [Fold(split.train, split.test) for split in splits[::-1]], fit.METHODS[name])
        assert np.allclose(unlike, wanted) and np.abs(found.held_out[name][0] - wanted[1]).max() > 0.5, "control"


@pytest.mark.parametrize("strength", [0.0, 3.0])
def test_every_method_finds_what_is_planted_and_nothing_else(strength: float) -> None:
    acts, labels, _, folds = planted(strength)
    found = fit_site(Blocks.from_rows(acts), labels[None], folds)
    assert list(found.held_out) == list(found.vectors) == list(METHODS)
    for name, scores in found.held_out.items():
        value = aurocs(scores, labels[None])[0]
        assert value > 0.9 if strength else abs(value - 0.5) < 0.15
        assert not strength or abs(int(found.vectors[name][0].abs().argmax())) == 3


def test_rows_that_never_vary_score_nothing() -> None:
    acts, labels, _, folds = planted(0.0)
    scores = fit_site(Blocks.from_rows(acts * 0 + 7), labels[None], folds, METHODS).held_out
    assert all((one == 0).all() for one in scores.values())


def test_an_unknown_method_is_refused() -> None:
    acts, labels, _, folds = planted(0.0)
    with pytest.raises(ProbeError, match="Choose among difference_of_means"):
        fit_site(Blocks.from_rows(acts), labels[None], folds, ["means"])
