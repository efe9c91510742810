"""What a score is worth as a probability: learnt on some groups, judged on others."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from interp.stats.rates import Interval, wilson
from interp.stats.resampling import group_codes, multiplicities, percentile_interval

BINS = 10
"""Most reliability bins; there are fewer where a bin would hold fewer than `BIN_ROWS` rows."""

BIN_ROWS = 10


@dataclass(frozen=True)
class Bin:
    """Rows of like predicted probability: the mean of it, and the share that came true with its 95 % interval."""

    n: int
    predicted: float
    observed: float
    low: float
    high: float


@dataclass(frozen=True)
class Reliability:
    """Probabilities by logistic regression on the score (Platt), fitted on one half and judged on the other.

    `base_brier` is the Brier score of always saying the calibration half's share of positives, `gain` how much lower
    the probe's is; its interval is by bootstrap over groups, None where resampling says nothing.
    """

    slope: float
    intercept: float
    brier: float
    base_rate: float
    base_brier: float
    gain: float
    low: float | None
    high: float | None
    bins: tuple[Bin, ...]

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Reliability":
        """What `dataclasses.asdict` wrote, also after a round trip through JSON."""
        return cls(**{**row, "bins": tuple(Bin(**one) for one in row["bins"])})


def reliability(
    scores: Float[np.ndarray, " row"],
    positive: Bool[np.ndarray, " row"],
    test: Bool[np.ndarray, " row"],
    groups: Sequence[Hashable],
    *,
    seed: int,
) -> Reliability:
    """Fit probabilities on the rows outside `test`, and judge them on the rows of it. Both need both classes."""
    where = np.flatnonzero(test)
    slope, intercept = _platt(scores[~test], positive[~test])
    predicted = 1 / (1 + np.exp(-np.clip(slope * scores[where] + intercept, -700, 700)))
    true, tested = positive[where], [groups[row] for row in where.tolist()]
    base = float(positive[~test].mean())
    errors, base_errors = (predicted - true) ** 2, (base - true) ** 2
    gain = base_errors - errors
    interval = mean_interval(gain, tested, seed=seed)
    return Reliability(
        slope=slope,
        intercept=intercept,
        brier=float(errors.mean()),
        base_rate=base,
        base_brier=float(base_errors.mean()),
        gain=float(gain.mean()),
        low=interval and interval.low,
        high=interval and interval.high,
        bins=tuple(_bins(predicted, true, tested, seed)),
    )


def mean_interval(values: Float[np.ndarray, " row"], groups: Sequence[Hashable], *, seed: int) -> Interval | None:
    """The bootstrap interval over groups of a mean over rows, which draws groups as weights instead of rows."""
    codes = group_codes(groups, rows=len(values))
    counts = multiplicities(int(codes.max()) + 1, seed=seed, n_resamples=1000)
    means = (counts @ np.bincount(codes, values)) / (counts @ np.bincount(codes))
    return percentile_interval(means, counts.shape[1], 0.95)


def share_interval(flags: Bool[np.ndarray, " row"], groups: Sequence[Hashable], *, seed: int) -> tuple[float, float]:
    """The 95 % interval of a share: bootstrap over groups, and at no end inside Wilson's interval over rows.

    The bootstrap alone is too narrow where few rows fire, as at 1 % false positives they should. Where no resample
    differs, it is Wilson's over groups.
    """
    resampled = mean_interval(flags.astype(float), groups, seed=seed)
    if resampled is None:
        n_groups = len(set(groups))
        alone = wilson(float(flags.mean()) * n_groups, n_groups, 0.95)
        return alone.low, alone.high
    rows = wilson(float(flags.sum()), len(flags), 0.95)
    return min(rows.low, resampled.low), max(rows.high, resampled.high)


def reliability_lines(found: Reliability) -> list[str]:
    """The part of a card's section, as Markdown."""
    interval = "" if found.low is None else f" ({found.low:.3f} to {found.high:.3f})"
    return [
        "",
        f"Probabilities from the score (Platt, calibration half): Brier score {found.brier:.3f} on the test half, and "
        f"{found.base_brier:.3f} for always saying {found.base_rate:.2f}; lower by {found.gain:.3f}{interval}. They "
        "hold for a pool with that share of positives.",
        "",
        "| predicted | came true | interval | n |",
        "|---|---|---|---|",
        *(
            f"| {one.predicted:.2f} | {one.observed:.2f} | {one.low:.3f} to {one.high:.3f} | {one.n} |"
            for one in found.bins
        ),
    ]


def _platt(scores: Float[np.ndarray, " row"], positive: Bool[np.ndarray, " row"]) -> tuple[float, float]:
    """Slope and intercept of the logit of a probability, by Platt's targets (1999), which stay finite if classes part.

    The target of a positive row is (P + 1) / (P + 2) and of another 1 / (N + 2), of P positive and N other rows: each
    row stands in the fit twice, as both classes, with these weights.
    """
    scaler = StandardScaler().fit(scores[:, None])
    features = scaler.transform(scores[:, None])
    n_positive, n_other = int(positive.sum()), int((~positive).sum())
    target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_other + 2))
    classes = np.repeat([True, False], len(scores))
    fitted = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(
        np.concatenate([features, features]), classes, sample_weight=np.concatenate([target, 1 - target])
    )
    slope = np.asarray(fitted.coef_).item() / np.asarray(scaler.scale_).item()
    return slope, np.asarray(fitted.intercept_).item() - slope * np.asarray(scaler.mean_).item()


def _bins(
    predicted: Float[np.ndarray, " row"], true: Bool[np.ndarray, " row"], groups: Sequence[Hashable], seed: int
) -> Iterator[Bin]:
    """Bins of as equal a count as ties allow, from the least likely rows to the likeliest."""
    count = max(1, min(BINS, len(predicted) // BIN_ROWS))
    edges = np.unique(np.quantile(predicted, np.arange(1, count) / count)) if count > 1 else np.array([])
    bin_of = np.searchsorted(edges, predicted, side="left")
    for number in np.unique(bin_of):
        where = np.flatnonzero(bin_of == number)
        low, high = share_interval(true[where], [groups[row] for row in where.tolist()], seed=seed)
        yield Bin(len(where), float(predicted[where].mean()), float(true[where].mean()), low, high)
