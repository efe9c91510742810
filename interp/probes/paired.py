"""The leading direction of paired differences: linear artificial tomography (LAT; Zou et al., 2310.01405)."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import ProbeError
from interp.probes.moments import Blocks, Moments, gather
from interp.probes.solve import uncentred_pca


@dataclass(frozen=True, eq=False)
class Paired:
    """The leading direction of differences within pairs."""

    vector: Float[Tensor, "cell d_model"]
    """Towards the first of a pair, and as long as pairs are apart along it on average."""
    explained: Float[Tensor, " cell"]
    """Its share of the squared length of the differences: 1 where all pairs differ along it alone."""
    agreement: Float[Tensor, " cell"]
    """Cosine with the mean difference: far from 1, pairs differ most along something that they do not share."""


def paired_moments(
    first: Float[Tensor, "pair d_model"],
    second: Float[Tensor, "pair d_model"],
    cells: Int[np.ndarray, " pair"],
    *,
    n_cells: int | None = None,
) -> Moments:
    """The moments of first minus second. A fold keeps a pair whole."""
    return gather(Blocks.from_rows(first - second), cells, n_cells=n_cells)


def paired_pca(moments: Moments) -> Paired:
    """The first principal direction of differences about zero, for every cell of `paired_moments`.

    About zero, not about their mean, which holds what all pairs share: RepE flips a random half of the pairs before it
    centres them, and this is what it finds on average, without the coin. The sign is that of the mean difference.

    Raises:
        ProbeError: all differences are zero.
    """
    (vectors, strengths), mean = uncentred_pca(moments, 1), moments.mean
    square = moments.covariance.diagonal(dim1=1, dim2=2).sum(1) + mean.square().sum(1)
    if bool((square <= 0).any()):
        raise ProbeError("fitting paired differences", "no pair differs", "look at how the pairs were made")
    along = (vectors[:, 0] * mean).sum(1)
    unit = vectors[:, 0] * torch.where(along < 0, -1.0, 1.0)[:, None]
    cosine = along.abs() / mean.norm(dim=1).clamp(min=1e-300)
    return Paired(unit * along.abs().clamp(min=1e-12)[:, None], strengths[:, 0] / square, cosine)
