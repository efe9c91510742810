"""Reading a graded quantity, such as the organism's latent, by ridge regression."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

PENALTIES = np.logspace(-2, 4, 13)


def held_out_r2(
    acts: Float[Tensor, "row d_model"], values: Float[np.ndarray, " row"], groups: Sequence[str], *, folds: int = 5
) -> float:
    """Share of the variance of `values` that ridge regression predicts on groups it has not seen (R2).

    Features are standardised and the penalty is chosen by leave-one-out within the training folds. 0 is what the mean
    predicts; a fit can be worse than that.
    """
    pipeline = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
    features = acts.double().cpu().numpy()
    predicted = cross_val_predict(pipeline, features, values, groups=list(groups), cv=GroupKFold(folds))
    return float(1 - ((values - predicted) ** 2).sum() / ((values - values.mean()) ** 2).sum())
