"""Planted signals: larger ones are found more often, nothing is found by chance alone, and a blind fit says so."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy.stats import norm

from interp.errors import ProbeError
from interp.probes import fit_site, shuffled_labels
from interp.probes.moments import Blocks
from interp.probes.nulls import aurocs
from interp.probes.power import Power, _labellings, _one_deviation, lines, planted_power
from interp.stats import rate
from interp.stats.threshold import threshold


def rows(n_groups: int = 50, size: int = 5, d: int = 24, shared: float = 0.5) -> tuple:
    """Rows whose groups differ, and labels of groups that have nothing to do with them."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(n_groups), size)
    acts = rng.standard_normal((len(groups), d)) + shared * rng.standard_normal((n_groups, d))[groups]
    labels = (rng.permutation(n_groups) < n_groups // 2)[groups]
    return torch.from_numpy(acts).float(), labels, groups, groups % 5


def honest_band(acts: torch.Tensor, labels: np.ndarray, groups: np.ndarray, folds: np.ndarray, method: str) -> float:
    many = shuffled_labels(labels, groups, n=99, seed=99)
    return float(
        np.quantile(aurocs(fit_site(Blocks.from_rows(acts), many, folds, [method]).held_out[method], many), 0.95)
    )


@pytest.mark.parametrize("method", ["difference_of_means", "lda", "logistic"])
def test_larger_signals_are_found_more_often_up_to_always_and_nothing_is_found_by_chance(method: str) -> None:
    acts, labels, groups, folds = rows()
    band = honest_band(acts, labels, groups, folds, method)
    power = planted_power(acts, labels, groups, folds, method=method, band=band, repeats=12, seed=1)
    shares = [one.found / one.tried for one in power.planted]
    assert power.planted[0].size == 0 and power.planted[0].tried == 100
    assert shares[0] <= 0.12 and power.planted[0].low <= 0.05 and not power.note, "null"
    assert shares[-1] == 1 and np.diff(shares).min() > -0.15
    assert power.smallest is not None and 0.25 < power.smallest < 2
    under = max(one.size for one in power.planted if one.found < 0.8 * one.tried)
    assert under <= power.smallest <= min(one.size for one in power.planted if one.size > under)


def test_a_signal_of_so_many_deviations_gives_the_auroc_that_theory_has_for_it() -> None:
    acts, labels, groups, folds = rows(n_groups=600, size=1, d=4, shared=0.0)
    power = planted_power(
        acts, labels, groups, folds, method="lda", band=0.6, sizes=(0.5, 1, 2), repeats=10, drawn="isotropic", seed=0
    )
    for one in power.planted[1:]:
        assert one.auroc == pytest.approx(norm.cdf(one.size / np.sqrt(2)), abs=0.025)
    assert power.smallest_of_norm is not None and power.smallest is not None
    assert power.smallest_of_norm == pytest.approx(power.smallest / float(acts.norm(dim=1).median()), rel=0.1)


def test_what_the_real_labels_read_is_not_found_where_nothing_is_planted() -> None:
    acts, labels, groups, folds = rows()
    real = acts + 4 * torch.from_numpy(labels)[:, None] * torch.eye(24)[0]
    fits = fit_site(Blocks.from_rows(real), labels[None], folds, ["lda"])
    assert aurocs(fits.held_out["lda"], labels[None])[0] > 0.95, "control"
    power = planted_power(real, labels, groups, folds, method="lda", band=0.75, sizes=(0.1,), repeats=10, seed=0)
    assert power.planted[0].found == 0 and power.planted[1].found <= 1


def test_one_deviation_parts_the_classes_by_their_own_spread_and_not_by_what_parts_them_already() -> None:
    acts, labels, *_ = rows(shared=0.0)
    unit = torch.eye(24)[3]
    apart = acts + 50 * torch.from_numpy(labels)[:, None] * unit
    step = _one_deviation(apart, labels, unit)
    assert float(step.norm()) == pytest.approx(1, abs=0.1) and float(step @ unit) > 0
    assert float(apart[:, 3].std()) > 20, "control: the spread of all rows is another thing"


def test_a_fit_that_could_find_nothing_says_so() -> None:
    acts, labels, groups, folds = rows(n_groups=20, size=1, d=64)
    power = planted_power(
        acts, labels, groups, folds, method="logistic", band=0.9, sizes=(0.1, 0.5), repeats=10, seed=0
    )
    assert power.smallest is None and power.smallest_of_norm is None and power.largest == 0.5
    assert "even 0.5 is not found in 80 % of repeats" in "\n".join(lines(power))


def test_a_band_that_chance_passes_gives_no_figure() -> None:
    acts, labels, groups, folds = rows()
    power = planted_power(acts, labels, groups, folds, method="lda", band=0.5, sizes=(4,), repeats=5, seed=0)
    assert power.planted[1].found == 5 and power.smallest is None
    assert "finding means nothing" in power.note and power.note in "\n".join(lines([power]))
    honest = planted_power(acts, labels, groups, folds, method="lda", band=0.75, sizes=(4,), repeats=5, seed=0)
    assert honest.smallest == 4 and not honest.note, "control"


def test_labels_are_shuffled_among_groups_and_leave_no_training_set_with_one_class() -> None:
    _, labels, groups, folds = rows(n_groups=10, size=4)
    many = _labellings(labels, groups.tolist(), folds, 100, 0)
    assert all(len(set(one[groups == group])) == 1 for one in many for group in range(10))
    assert len({one.tobytes() for one in many}) > 50
    rare = groups < 2
    assert all(one[folds != k].any() for one in _labellings(rare, groups.tolist(), folds, 100, 0) for k in range(5))
    with pytest.raises(ProbeError, match="leave a training set with one class"):
        _labellings(groups < 1, groups.tolist(), folds, 100, 0)


def test_rows_of_no_fold_count_for_nothing() -> None:
    acts, labels, groups, folds = rows()
    more = torch.cat([acts, torch.full((7, 24), 1e6)])
    settings = {"method": "difference_of_means", "band": 0.6, "sizes": (1.0,), "repeats": 5, "seed": 0}
    alone = planted_power(acts, labels, groups, folds, **settings)
    padded = [np.concatenate([one, np.full(7, fill)]) for one, fill in ((labels, True), (groups, 99), (folds, -1))]
    assert planted_power(more, padded[0].astype(bool), padded[1], padded[2], **settings) == alone
    assert alone.n == 250 and alone.groups == 50


def test_the_same_seed_gives_the_same_power_and_json_gives_it_back() -> None:
    acts, labels, groups, folds = rows()
    one, same, other = (
        planted_power(acts, labels, groups, folds, method="lda", band=0.6, sizes=(0.5, 1), repeats=5, seed=seed)
        for seed in (0, 0, 1)
    )
    assert one == same != other
    assert Power.from_row(json.loads(json.dumps(asdict(one), allow_nan=False))) == one


@pytest.mark.parametrize("asked", [{"sizes": ()}, {"sizes": (0.0, 1.0)}, {"repeats": 0}])
def test_nothing_to_plant_is_refused(asked: dict) -> None:
    acts, labels, groups, folds = rows()
    with pytest.raises(ProbeError, match="Give sizes above 0"):
        planted_power(acts, labels, groups, folds, method="lda", band=0.6, seed=0, **asked)


def test_rows_that_never_vary_hold_no_signal() -> None:
    acts, labels, groups, folds = rows()
    power = planted_power(acts * 0 + 7, labels, groups, folds, method="lda", band=0.6, repeats=3, seed=0)
    assert power.smallest is None and power.planted[-1].auroc == 0.5


# -- the threshold


def test_a_threshold_is_that_of_the_curve_behind_the_rates() -> None:
    doses = np.arange(0, 4.1, 0.5)
    rates = [rate(round(1000 * norm.cdf(-2 + 2 * dose)), 1000) for dose in doses]
    assert threshold(doses.tolist(), rates, 0.8) == pytest.approx((norm.ppf(0.8) + 2) / 2, abs=0.01)
    assert threshold(doses.tolist()[::-1], rates[::-1], 0.5) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ([0, 0, 20, 20], 2.0),  # parted completely: the upper of the two
        ([0, 10, 20, 20], 2.0),  # parted but for one dose
        ([20, 20, 20, 20], 0.0),  # everywhere
        ([0, 1, 2, 15], None),  # nowhere
        ([0, 20, 20, 3], None),  # not at the largest, whatever came before
        ([1, 1, 17, 17], 2.0),  # the fitted curve reaches it later than the rates do
    ],
)
def test_a_threshold_never_leaves_the_doses_tried(found: list[int], wanted: float | None) -> None:
    assert threshold([0, 1, 2, 3], [rate(k, 20) for k in found]) == wanted
    between = threshold([0, 1, 2, 3], [rate(k, 20) for k in (1, 5, 19, 20)])
    assert between is not None and 1 < between < 2, "control"
