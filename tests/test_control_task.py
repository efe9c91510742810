"""Control tasks: what is planted is selective, what is learnt by heart is not."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from interp.probes.control_task import ControlTask, _halves, control_task, lines
from interp.probes.sweep import METHODS
from interp.sites import Site

HERE, THERE = Site.parse("L0.resid_post"), Site.parse("L1.resid_post")


def rows(strength: float, *, d: int = 12, n_groups: int = 60, seed: int = 0, shared: float = 1.5) -> tuple:
    """Groups of six rows that bear the mark of their group, and a label of the group along one dimension."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), 6)
    labels = (rng.permutation(n_groups) < n_groups // 2)[groups]
    acts = rng.standard_normal((len(groups), d)) + shared * rng.standard_normal((n_groups, d))[groups]
    acts += strength * labels[:, None] * np.eye(d)[3]
    return torch.from_numpy(acts).float(), labels, groups


def test_a_planted_direction_is_selective_with_every_method_at_its_site_alone() -> None:
    acts, labels, groups = rows(5.0)
    found = control_task({HERE: acts, THERE: rows(0.0)[0]}, labels, groups, seed=0)
    assert [(one.site, one.method) for one in found] == [
        (str(site), name) for site in (HERE, THERE) for name in METHODS
    ]
    for one in found[:4]:
        assert one.auroc is not None and one.control is not None and one.selectivity is not None
        assert one.auroc > 0.9 and one.control < 0.8 and one.selectivity > 0.15 and one.p_value == one.floor == 1 / 40
    for one in found[4:]:
        assert one.selectivity is not None and abs(one.selectivity) < 0.12, "null"


def test_labels_that_mean_nothing_are_learnt_by_heart_and_seen_not_to_be_selective() -> None:
    acts, labels, groups = rows(0.0, d=40)
    (one,) = control_task({HERE: acts}, labels, groups, ["lda"], seed=0)
    assert one.auroc is not None and one.control is not None and one.control_low is not None
    assert one.auroc > 0.8 and one.control > 0.8, "a group's other rows give its label away"
    assert one.control_low <= one.auroc and abs(one.auroc - one.control) < 0.06
    assert one.p_value is not None and one.p_value > 0.05


def test_a_probe_with_room_for_every_group_is_never_selective() -> None:
    acts, labels, groups = rows(5.0, d=200)
    (one,) = control_task({HERE: acts}, labels, groups, ["logistic"], seed=0)
    assert one.auroc is not None and one.selectivity is not None
    assert one.auroc > 0.98 and one.selectivity < 0.05


@pytest.mark.usefixtures("unchecked")
def test_labels_that_mean_nothing_have_a_small_p_in_five_per_cent() -> None:
    hits = 0
    for seed in range(200):
        acts, labels, groups = rows(0.0, d=6, n_groups=12, seed=seed)
        (one,) = control_task({HERE: acts}, labels, groups, ["difference_of_means"], seed=seed, n_controls=19)
        hits += one.p_value is not None and one.p_value <= 0.05
    assert binomtest(hits, 200, 0.05).pvalue > 0.01


def test_every_group_stands_in_both_halves_and_lone_rows_are_left_out() -> None:
    acts, labels, groups = rows(5.0)
    lone = np.concatenate([groups, 100 + np.arange(7)])
    halves = _halves(lone, np.random.default_rng(0))
    assert (halves[-7:] == -1).all()
    assert all((halves[lone == group] == 0).sum() == 3 for group in range(60))
    more = torch.cat([acts, torch.full((7, 12), 1e4)])
    (one,) = control_task({HERE: more}, np.append(labels, [True] * 7), lone, ["lda"], seed=0)
    assert (one.n, one.groups, one.left_out) == (360, 60, 7)
    assert one.auroc is not None and one.auroc > 0.9
    assert "7 rows that are alone in their group are left out" in "\n".join(lines([one]))


@pytest.mark.parametrize(
    ("groups", "labels", "reason"),
    [
        (np.arange(40), np.arange(40) % 2 == 0, "every group has one row"),
        (np.arange(40) // 20, np.arange(40) < 20, "too few"),
        (np.arange(40) // 4, np.arange(40) >= 0, "one class"),
    ],
)
def test_where_there_can_be_no_control_task_the_reason_is_given(
    groups: np.ndarray, labels: np.ndarray, reason: str
) -> None:
    acts = torch.from_numpy(np.random.default_rng(0).standard_normal((40, 3))).float()
    found = control_task({HERE: acts}, labels, groups, ["lda", "logistic"], seed=0)
    assert len(found) == 2 and all(
        one.auroc is None and one.selectivity is None and reason in one.note for one in found
    )
    assert any(reason in line for line in lines(found))


def test_labels_that_differ_within_groups_have_no_rank_among_controls_that_do_not() -> None:
    acts, _, groups = rows(0.0, shared=0.0)
    labels = np.arange(360) % 2 == 0
    acts = acts + 3 * torch.from_numpy(labels)[:, None] * torch.eye(12)[0]
    (one,) = control_task({HERE: acts}, labels, groups, ["lda"], seed=0)
    assert one.selectivity is not None and one.selectivity > 0.3 and one.p_value is None and one.floor is None


def test_json_gives_it_back_and_the_card_says_that_groups_are_split_on_purpose() -> None:
    acts, labels, groups = rows(5.0)
    found = control_task({HERE: acts}, labels, groups, ["lda"], seed=0)
    assert found == control_task({HERE: acts}, labels, groups, ["lda"], seed=0)
    assert found == tuple(ControlTask.from_row(json.loads(json.dumps(asdict(one), allow_nan=False))) for one in found)
    said = "\n".join(lines(found))
    assert "a group is in train and test on purpose" in said and "<= 0.025" in said and lines(()) == []
