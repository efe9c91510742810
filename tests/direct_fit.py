"""What the engine is held against: fitters that look at the rows directly, logistic regression by scikit-learn.

Both take several labellings of the same rows at once, as leading axes of `labels`, because a null needs hundreds.
The length of a vector is the distance between the means of the two classes along it, whatever the method, so that
adding it once moves a mean of the negative class level with that of the positive one.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor

from interp.errors import ProbeError

Fitter = Callable[[Tensor, np.ndarray], Tensor]

L2 = 10.0
"""Default penalty of the logistic fit; Goldowsky-Dill et al. (2502.03407) use the same on standardised features."""

_SMALL = 2**22
"""Below so many values a fit is fastest on one thread, by a factor of 40 on two busy cores."""


def difference_of_means(
    acts: Float[Tensor, "row d_model"], labels: Bool[np.ndarray, "*labelling row"]
) -> Float[Tensor, "*labelling d_model"]:
    """Mean of the positive rows minus mean of the negative rows (mass-mean; Marks and Tegmark, 2310.06824).

    Raises:
        ProbeError: a class has no rows.
    """
    _refuse_empty(labels)
    centred = acts.float() - acts.float().mean(0)
    positive = torch.from_numpy(labels).to(acts.device, torch.float32)
    negative = 1 - positive
    weights = positive / positive.sum(-1, keepdim=True) - negative / negative.sum(-1, keepdim=True)
    return weights @ centred


def logistic(
    acts: Float[Tensor, "row d_model"], labels: Bool[np.ndarray, "*labelling row"], *, l2: float = L2
) -> Float[Tensor, "*labelling d_model"]:
    """Logistic regression on standardised features, mapped back to the model's own units.

    Minimises the summed log loss + l2 / 2 |w|^2 over w on features divided by their standard deviations (a feature
    that never varies gets no weight), then divides w by those deviations: the result reads raw activations.

    Raises:
        ProbeError: a class has no rows, or the fit did not converge.
    """
    _refuse_empty(labels)
    raw = acts.double().cpu().numpy()
    spread = raw.std(axis=0)
    varies = spread > 1e-6 * max(spread.max(), 1e-30)
    inverse = np.where(varies, 1 / np.where(varies, spread, 1), 0.0)
    features = (raw - raw.mean(axis=0)) * inverse
    many = labels.reshape(-1, labels.shape[-1])
    with threadpool_limits(1 if features.size < _SMALL else None):
        vectors = np.stack([_coefficients(features, one, l2) * inverse for one in many])
    gaps = difference_of_means(acts, many).double().cpu().numpy()
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(lengths > 0, lengths, 1)
    scaled = units * (units * gaps).sum(axis=1, keepdims=True)
    return torch.from_numpy(scaled).float().to(acts.device).reshape(*labels.shape[:-1], acts.shape[1])


METHODS: Mapping[str, Fitter] = {"difference_of_means": difference_of_means, "logistic": logistic}
"""The fitters by the name that a recipe gives them."""


def _coefficients(
    features: Float[np.ndarray, "row d_model"], labels: Bool[np.ndarray, " row"], l2: float
) -> Float[np.ndarray, " d_model"]:
    fitted = LogisticRegression(C=1 / l2, max_iter=2000, tol=1e-5).fit(features, labels)
    if fitted.n_iter_.max() >= fitted.max_iter:
        raise ProbeError(
            "fitting a logistic probe",
            f"no convergence in {fitted.max_iter} steps",
            "raise l2, or look for a feature of enormous size",
        )
    return fitted.coef_[0]


def _refuse_empty(labels: Bool[np.ndarray, "*labelling row"]) -> None:
    counts = labels.sum(axis=-1)
    if (counts == 0).any() or (counts == labels.shape[-1]).any():
        raise ProbeError("fitting a probe", f"{labels.shape[-1]} rows of one class alone", "give rows of both classes")
