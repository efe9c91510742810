"""All methods, folds and labellings of one site, from one pass for the moments and one for the scores.

Logistic regression reads the rows a few times more.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import ProbeError
from interp.probes import solve
from interp.probes.descent import held_out_scores, logistic_path
from interp.probes.moments import Blocks, Moments, gather
from interp.probes.paired import paired_moments, paired_pca

SHRINKAGE = 0.1
"""Default share by which LDA and ridge draw the correlations of features towards none."""
L2 = 10.0
"""Default penalty of the logistic fit; Goldowsky-Dill et al. (2502.03407) use the same on standardised features."""


@dataclass(frozen=True, eq=False)
class FoldFits:
    """Every method's fits of one site: without each fold in turn, and, last, on all rows.

    All are on one scale: a score is the distance from the midpoint of the training classes, in standard deviations of
    the training rows; 0 where nothing varies. The midpoint does not move with the share of positives, so that folds can
    be pooled.
    """

    weights: Mapping[str, Float[Tensor, "labelling fold d_model"]]
    steps: Mapping[str, Float[Tensor, "labelling fold"]]
    vectors: Mapping[str, Float[Tensor, "labelling d_model"]]
    """Fitted on all rows; as long as the class means are apart along it."""

    def scores(
        self, method: str, blocks: Blocks, folds: Int[np.ndarray, " row"], labellings: slice = slice(None)
    ) -> Float[np.ndarray, "labelling row"]:
        """The score of every row by the fit without its fold; by the fit on all rows where the fold is -1."""
        weights, steps = self.weights[method][labellings], self.steps[method][labellings]
        return held_out_scores(blocks, np.where(folds < 0, weights.shape[1] - 1, folds), weights, steps)


@dataclass(frozen=True, eq=False)
class SiteFits:
    """What every method gives at one site."""

    held_out: Mapping[str, Float[np.ndarray, "labelling row"]]
    """The score of every row by the probe that has not seen its fold, as `FoldFits` scores."""
    vectors: Mapping[str, Float[Tensor, "labelling d_model"]]


def fit_site(
    blocks: Blocks,
    labels: Bool[np.ndarray, "labelling row"],
    folds: Int[np.ndarray, " row"],
    methods: Sequence[str] | None = None,
    *,
    shrinkage: float = SHRINKAGE,
    l2: float = L2,
) -> SiteFits:
    """Fit and score every method for every labelling, without each fold in turn and on all rows.

    Guarantee (tests): the scores are those that fitting each fold directly gives.

    Raises:
        ProbeError: an unknown method, or a training set with one class.
    """
    wanted = METHODS if methods is None else methods
    fits = fit_folds(blocks, labels, folds, wanted, shrinkage=shrinkage, l2=l2)
    return SiteFits({name: fits.scores(name, blocks, folds) for name in wanted}, fits.vectors)


@dataclass(frozen=True, eq=False)
class _Site:
    """What a method may fit on."""

    blocks: Blocks
    labels: Bool[np.ndarray, "labelling row"]
    folds: Int[np.ndarray, " row"]
    moments: Moments
    rest: Moments
    total: Moments
    shrinkage: float
    l2: float
    graded: Moments | None
    pairs: Int[np.ndarray, "pair 2"] | None


Weights = tuple[Float[Tensor, "fold labelling d_model"], Float[Tensor, "1 labelling d_model"]]
"""Without each fold, and on all rows."""


def fit_folds(
    blocks: Blocks,
    labels: Bool[np.ndarray, "labelling row"],
    folds: Int[np.ndarray, " row"],
    methods: Sequence[str],
    *,
    shrinkage: float = SHRINKAGE,
    l2: float = L2,
    graded: Float[np.ndarray, "labelling row"] | None = None,
    pairs: Int[np.ndarray, "pair 2"] | None = None,
    moments: Moments | None = None,
) -> FoldFits:
    """Every method for every labelling, without each fold in turn and on all rows.

    `ridge` learns the graded labels; `paired_pca` the differences within pairs of rows, turned towards the positives.
    Moments that were gathered already, with `targets` of the same labels, spare a reading.

    Raises:
        ProbeError: an unknown method, one without what it learns from, a pair torn by folds, or a training set with
            one class.
    """
    unknown = sorted(set(methods) - set(_FITTERS))
    if unknown:
        raise ProbeError(f"fitting {', '.join(unknown)}", "unknown", f"choose among {', '.join(_FITTERS)}")
    known, n = moments or gather(blocks, folds, targets(labels, graded)), len(labels)
    moments = known.of_targets(range(n))
    rest, total = moments.rest(), moments.total()
    levels = None if graded is None else known.of_targets(range(n, 2 * n))
    site = _Site(blocks, labels, folds, moments, rest, total, shrinkage, l2, levels, pairs)
    fitted = {method: _FITTERS[method](site) for method in methods}
    scored = {method: _standardised(moments, rest, total, *found) for method, found in fitted.items()}
    return FoldFits(
        {method: weights.transpose(0, 1) for method, (weights, _) in scored.items()},
        {method: steps.T for method, (_, steps) in scored.items()},
        {method: solve.as_long_as_the_gap(total, whole)[0].float() for method, (_, whole) in fitted.items()},
    )


def targets(
    labels: Bool[np.ndarray, "labelling row"], graded: Float[np.ndarray, "labelling row"] | None
) -> Float[np.ndarray, "target row"]:
    """What moments are gathered with: the labels, and after them the graded ones."""
    return labels.astype(float) if graded is None else np.concatenate([labels.astype(float), graded])


def _closed(solver: Callable[[Moments], Tensor]) -> Callable[[_Site], Weights]:
    return lambda site: (solver(site.rest), solver(site.total))


def _lda(site: _Site) -> Weights:
    ridge = solve.ridge_folds(site.moments, (site.shrinkage,))[0]
    whole = solve.lda(site.total, (site.shrinkage,))[0]
    return solve.lda_from_ridge(site.rest, ridge, (site.shrinkage,))[0], whole


def _logistic(site: _Site) -> Weights:
    everywhere = [*range(len(site.moments.count)), -1]
    weights = logistic_path(site.blocks, site.moments, site.folds, site.labels, (site.l2,), folds=everywhere).weights[0]
    return weights[:-1], weights[-1:]


def _ridge(site: _Site) -> Weights:
    if site.graded is None:
        raise ProbeError("fitting ridge", "no graded labels", "name a field of numbers")
    folds = solve.ridge_folds(site.graded, (site.shrinkage,))[0]
    return folds[0], solve.ridge(site.graded.total(), (site.shrinkage,))[0][0]


def _paired(site: _Site) -> Weights:
    if site.pairs is None or not len(site.pairs):
        raise ProbeError("fitting paired_pca", "no pairs", "name a field that both of a pair share")
    first, second = site.pairs.T
    if (site.folds[first] != site.folds[second]).any():
        found = "a pair of which one is fitted on and the other scored"
        raise ProbeError("fitting paired_pca", found, "give both of a pair one group")
    rows = torch.cat([rows for _, rows in site.blocks])
    moments = paired_moments(rows[first], rows[second], site.folds[first], n_cells=len(site.moments.count))
    if bool((moments.rest().count < 1).any()):
        raise ProbeError("fitting paired_pca", "all pairs in one fold", "give pairs in more groups")
    cells = [*moments.without(), moments.total()]
    units = torch.cat([paired_pca(one).vector for one in cells])
    units = units / units.norm(dim=1, keepdim=True)
    gaps = torch.cat([solve.difference_of_means(site.rest), solve.difference_of_means(site.total)])
    along = torch.einsum("fld,fd->fl", gaps, units)
    turned = torch.where(along < 0, -1.0, 1.0)[..., None] * units[:, None]
    return turned[:-1], turned[-1:]


_FITTERS: Mapping[str, Callable[[_Site], Weights]] = {
    "difference_of_means": _closed(solve.difference_of_means),
    "standardised_difference_of_means": _closed(solve.standardised_difference_of_means),
    "lda": _lda,
    "logistic": _logistic,
    "ridge": _ridge,
    "paired_pca": _paired,
}
METHODS = ("difference_of_means", "standardised_difference_of_means", "lda", "logistic")
"""The methods that need labels alone."""
SPECIAL = {"ridge": "graded", "paired_pca": "pair"}
"""The methods that need more, and what."""
FITTED = (*METHODS, *SPECIAL)
"""All methods."""
READS = {"difference_of_means": "raw", "paired_pca": "raw"}
"""Methods that weigh raw features, so that a massive dimension rules them; all others standardise features first."""


def _standardised(
    moments: Moments, rest: Moments, total: Moments, folds: Tensor, whole: Tensor
) -> tuple[Float[Tensor, "fold labelling d_model"], Float[Tensor, "fold labelling"]]:
    """Weights and intercepts that give scores of spread 1 about the midpoint in the training rows; all rows last."""
    assert moments.products is not None  # as gathered above
    products = moments.products.sum(0)
    units = torch.cat([folds, whole])
    units = units / units.norm(dim=-1, keepdim=True).clamp(min=1e-300)
    without = [((w @ products - w @ mine) * w).sum(-1) for w, mine in zip(units[:-1], moments.products, strict=True)]
    square = torch.stack([*without, ((units[-1] @ products) * units[-1]).sum(-1)])
    count = torch.cat([rest.count, total.count])[:, None]
    centre = torch.cat([rest.sums, total.sums]) / count
    variance = square / count - (units * centre[:, None]).sum(-1) ** 2
    varies = variance > 1e-12 * (square / count)
    scaled = units * torch.where(varies, variance.clamp(min=1e-300).rsqrt(), 0.0)[..., None]
    return scaled, -torch.cat([solve.midpoints(rest, scaled[:-1]), solve.midpoints(total, scaled[-1:])])
