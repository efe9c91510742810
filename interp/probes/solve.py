"""Probes with a closed form, from moments alone: no row is read. Every result has an axis for cells.

Weights read raw activations: `acts @ weights`. For the folds of a cross-validation give `moments.rest()` where no
products are needed, call `ridge_folds`, or go through `moments.without()`. Shrinkage is a share between 0 and 1 and
works on standardised features, so that a dimension of enormous size does not set the scale for the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.probes.moments import Moments

SHRINKAGES = (0.01, 0.1, 0.5)
_EXACT_BELOW = 256
"""A matrix smaller than that is factored in float64; a larger one in float32, and the solution is refined."""
_ROUNDS, _RESIDUAL = 8, 1e-9
_STEPS, _NEAR = 40, 1e-6
"""Most steps of conjugate gradients, and the residual at which they end."""


def difference_of_means(m: Moments) -> Float[Tensor, "cell target d_model"]:
    """Mean of class 1 minus mean of class 0 (mass-mean). A massive dimension rules it: see the standardised one."""
    below, above = m.class_means()
    return above - below


def standardised_difference_of_means(m: Moments) -> Float[Tensor, "cell target d_model"]:
    """The difference of means of standardised features, as weights on raw ones; 0 where a dimension never varies."""
    return difference_of_means(m) * inverse_spread(m)[:, None] ** 2


def lda(m: Moments, shrinkages: Sequence[float] = SHRINKAGES) -> Float[Tensor, "shrinkage cell target d_model"]:
    """Linear discriminant analysis, `((1 - g) W + g D)^-1 (mean 1 - mean 0)` for every shrinkage g.

    W is the covariance within classes and D the diagonal of that of all rows. W differs from the covariance of all rows
    by a multiple of the outer product of the difference of means with itself, which changes the length of the solution
    and not its direction: one factor serves all labellings, and `ridge`.
    """
    return lda_from_ridge(m, ridge(m, shrinkages)[0], shrinkages)


def lda_from_ridge(
    m: Moments, weights: Float[Tensor, "shrinkage cell target d_model"], shrinkages: Sequence[float] = SHRINKAGES
) -> Float[Tensor, "shrinkage cell target d_model"]:
    """What `lda` gives, from the weights of `ridge` at the same shrinkages, without another factor."""
    gaps, share = difference_of_means(m), (m.target_sums / m.count[:, None])[..., None]
    between = (1 - _column(shrinkages, weights)) * share * (1 - share)
    explained = (gaps * weights).sum(-1, keepdim=True)
    return weights / between / (1 - explained).clamp(min=1e-12)


def ridge(
    m: Moments, shrinkages: Sequence[float] = SHRINKAGES
) -> tuple[Float[Tensor, "shrinkage cell target d_model"], Float[Tensor, "shrinkage cell target"]]:
    """Ridge regression of every target on standardised features: weights on raw features, and intercepts.

    A shrinkage g is scikit-learn's `Ridge(alpha)` with `alpha = n g / (1 - g)` on standardised features.
    """
    right = target_covariances(m) * inverse_spread(m)[:, None]
    return _as_ridge(m, torch.stack(shrunk_solve(m, right, shrinkages)), shrinkages)


def ridge_folds(
    m: Moments, shrinkages: Sequence[float] = SHRINKAGES
) -> tuple[Float[Tensor, "shrinkage cell target d_model"], Float[Tensor, "shrinkage cell target"]]:
    """What `ridge` gives on the training moments of every fold, in less time where there are many dimensions.

    One factor per shrinkage, that of all rows, serves all folds: conjugate gradients with it for a preconditioner reach
    the solution of every fold in about ten steps, in which the training matrix of a fold is applied as a difference
    of moments and never formed, to a relative residual of 1e-6. Where they do not (few rows for so many dimensions),
    every fold is factored.
    """
    rest = m.rest()
    right = target_covariances(rest) * inverse_spread(rest)[:, None]
    solved = _conjugate_gradients(_FoldSystems.of(m, rest, shrinkages), right)
    if solved is None:
        each = zip(m.without(), right, strict=True)
        solved = torch.cat([torch.stack(shrunk_solve(one, b[None], shrinkages)) for one, b in each], dim=1)
    return _as_ridge(rest, solved, shrinkages)


def _as_ridge(m: Moments, solved: Tensor, shrinkages: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Weights and intercepts from solutions on standardised features."""
    weights = _column(shrinkages, solved).mul(-1).add(1) * solved * inverse_spread(m)[:, None]
    return weights, m.target_sums / m.count[:, None] - (weights * m.mean[:, None]).sum(-1)


def _column(shrinkages: Sequence[float], like: Tensor) -> Tensor:
    return torch.as_tensor(shrinkages, dtype=like.dtype, device=like.device)[:, None, None, None]


@dataclass(frozen=True, eq=False)
class _FoldSystems:
    """`((1 - g) R + g I) x` for the correlation matrix R outside every cell, and what nearly undoes it."""

    levels: Tensor
    total: Tensor
    products: Tensor
    inverse: Tensor
    centre: Tensor
    count: Tensor
    factors: tuple[Tensor, ...] | None
    """Of the same matrix over all rows, for every shrinkage; None where it is not positive definite."""

    @classmethod
    def of(cls, m: Moments, rest: Moments, shrinkages: Sequence[float]) -> "_FoldSystems":
        shared = correlation(m.total())[0].float()
        assert m.products is not None  # or the line above had raised
        found = [torch.linalg.cholesky_ex(_shrunk(shared, level)) for level in shrinkages]
        whole = not any(bool(failed) for _, failed in found)
        return cls(
            _column(shrinkages, m.sums),
            m.products.sum(0),
            m.products,
            inverse_spread(rest)[:, None],
            rest.sums / rest.count[:, None],
            rest.count[:, None, None],
            tuple(factor for factor, _ in found) if whole else None,
        )

    def apply(self, x: Float[Tensor, "shrinkage cell target d_model"]) -> Tensor:
        """The products with x."""
        raw = (x * self.inverse).movedim(1, 0).flatten(1, 2)
        moved = (raw @ self.total - _times(raw, self.products)) / self.count
        moved = moved - (raw @ self.centre[..., None]) * self.centre[:, None]
        found = moved.reshape(x.shape[1], x.shape[0], -1, x.shape[-1]).movedim(0, 1) * self.inverse
        return (1 - self.levels) * found + self.levels * x

    def precondition(self, x: Float[Tensor, "shrinkage cell target d_model"]) -> Tensor:
        """The solutions for all rows in place of the training rows."""
        found = []
        for one, factor in zip(x, self.factors or (), strict=True):
            flat = one.flatten(0, 1)
            size = flat.norm(dim=1, keepdim=True).clamp(min=1e-300)  # float32 has no small numbers to spare
            found.append((torch.cholesky_solve((flat / size).float().T, factor).T.double() * size).reshape(one.shape))
        return torch.stack(found) * (self.inverse > 0)


def _conjugate_gradients(
    systems: _FoldSystems, right: Float[Tensor, "cell target d_model"]
) -> Float[Tensor, "shrinkage cell target d_model"] | None:
    """The solutions of all systems in step; None where that takes too long."""
    if systems.factors is None:
        return None
    left = right.expand(len(systems.factors), *right.shape).clone()
    found, enough = torch.zeros_like(left), _NEAR * right.norm(dim=-1)
    step = ahead = systems.precondition(left)
    for _ in range(_STEPS):
        if bool((left.norm(dim=-1) <= enough).all()):
            return found
        bent, gain = systems.apply(step), (left * ahead).sum(-1, keepdim=True)
        length = gain / (step * bent).sum(-1, keepdim=True).clamp(min=1e-300)
        found, before, left = found + length * step, left, left - length * bent
        ahead = systems.precondition(left)
        step = ahead + (ahead * (left - before)).sum(-1, keepdim=True) / gain.clamp(min=1e-300) * step
    return None


def pca(m: Moments, n: int) -> tuple[Float[Tensor, "cell n d_model"], Float[Tensor, "cell n"]]:
    """The leading principal components of the raw rows, unit length, largest first; and the variance along each."""
    return _leading(m.covariance, n)


def uncentred_pca(m: Moments, n: int) -> tuple[Float[Tensor, "cell n d_model"], Float[Tensor, "cell n"]]:
    """Leading directions of the rows about zero: with their mean in, as for paired differences."""
    mean = m.mean
    return _leading(m.covariance + mean[:, :, None] * mean[:, None, :], n)


def midpoints(m: Moments, weights: Float[Tensor, "cell target d_model"]) -> Float[Tensor, "cell target"]:
    """Where along the weights the middle between the two class means lies."""
    below, above = m.class_means()
    return (weights * (below + above) / 2).sum(-1)


def as_long_as_the_gap(m: Moments, weights: Float[Tensor, "cell target d_model"]) -> Tensor:
    """The weights at the length by which the class means differ along them."""
    units = weights / weights.norm(dim=-1, keepdim=True).clamp(min=1e-300)
    return units * (units * difference_of_means(m)).sum(-1, keepdim=True)


def target_covariances(m: Moments) -> Float[Tensor, "cell target d_model"]:
    """Covariance of every target with every dimension."""
    n = m.count[:, None, None]
    return m.cross / n - (m.target_sums[..., None] / n) * (m.sums[:, None] / n)


def inverse_spread(m: Moments) -> Float[Tensor, "cell d_model"]:
    """One over the standard deviation of a dimension; 0 where it never varies."""
    spread = m.spread
    varies = spread > 1e-6 * spread.mean(1, keepdim=True)
    return torch.where(varies, 1 / torch.where(varies, spread, 1.0), 0.0)


def correlation(m: Moments) -> Float[Tensor, "cell d_model d_model"]:
    """Covariance of the standardised features; zero rows and columns where a dimension never varies."""
    inverse = inverse_spread(m)
    return m.covariance * inverse[:, :, None] * inverse[:, None, :]


def shrunk_solve(
    m: Moments, right: Float[Tensor, "cell target d_model"], shrinkages: Sequence[float]
) -> list[Float[Tensor, "cell target d_model"]]:
    """`((1 - g) R + g I)^-1 right` for the correlation matrix R and every g."""
    matrices = correlation(m)
    return [
        torch.stack([_solve(one, level, b.T).T for one, b in zip(matrices, right, strict=True)]) for level in shrinkages
    ]


def _times(rows: Float[Tensor, "cell k d_model"], matrices: Float[Tensor, "cell d_model d_model"]) -> Tensor:
    """`rows @ matrices`; on a CPU by NumPy, which is twice as fast where there are few rows."""
    if rows.device.type != "cpu":
        return rows @ matrices
    return torch.from_numpy(np.stack([a @ b for a, b in zip(rows.numpy(), matrices.numpy(), strict=True)]))


def _solve(
    matrix: Float[Tensor, "d_model d_model"], level: float, right: Float[Tensor, "d_model target"]
) -> Float[Tensor, "d_model target"]:
    """`((1 - level) matrix + level I)^-1 right` to a relative residual of 1e-9.

    Half the time goes with a factor in float32; iterated refinement with residuals in float64 gives the digits back.
    Where the matrix is too ill-conditioned for that, the factor is taken in float64; a singular one gives the solution
    of least length.
    """
    if len(matrix) >= _EXACT_BELOW:
        factor, failed = torch.linalg.cholesky_ex(_shrunk(matrix.float(), level))
        solution = torch.zeros_like(right)
        for _ in range(_ROUNDS if not failed else 0):
            left = right - (1 - level) * (matrix @ solution) - level * solution
            if bool((left.norm(dim=0) <= _RESIDUAL * right.norm(dim=0)).all()):
                return solution
            largest = left.norm(dim=0).clamp(min=1e-300)  # float32 has no small numbers to spare
            solution = solution + torch.cholesky_solve((left / largest).float(), factor).double() * largest
    exact = _shrunk(matrix, level)
    factor, failed = torch.linalg.cholesky_ex(exact)
    return torch.linalg.pinv(exact, hermitian=True) @ right if failed else torch.cholesky_solve(right, factor)


def _shrunk(matrix: Tensor, level: float) -> Tensor:
    shrunk = (1 - level) * matrix
    shrunk.diagonal().add_(level)
    return shrunk


def _leading(matrix: Float[Tensor, "cell d_model d_model"], n: int) -> tuple[Tensor, Tensor]:
    """Leading eigenvectors as rows, largest first, the largest entry of each positive; and the eigenvalues."""
    values, vectors = torch.linalg.eigh(matrix)
    rows = vectors.mT.flip(1)[:, :n]
    largest = rows.gather(2, rows.abs().argmax(2, keepdim=True))
    return rows * largest.sign(), values.flip(1)[:, :n]
