"""Random directions: a real one stands out where it should, and not where anything would do."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from interp.errors import ProbeError
from interp.probes import random_directions as module
from interp.probes.random_directions import RandomDirections, draw, lines, random_directions
from interp.sites import Site
from interp.stats import auroc

HERE, THERE = Site.parse("L0.resid_post"), Site.parse("L1.resid_post")


def noise(n: int = 200, d: int = 32, seed: int = 0) -> tuple[torch.Tensor, np.ndarray]:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((n, d))).float(), np.arange(n) % 2 == 0


def along(rows: torch.Tensor, unit: torch.Tensor, labels: np.ndarray) -> float:
    value = auroc((rows @ unit).numpy(), labels)
    assert value is not None
    return value


def test_a_planted_direction_is_first_among_random_ones_at_its_site_and_not_at_another() -> None:
    acts, labels = noise()
    planted = acts + 2.5 * torch.from_numpy(labels)[:, None] * torch.eye(32)[3]
    at = {HERE: planted, THERE: acts}
    real = {"probe": {site: along(rows, torch.eye(32)[3], labels) for site, rows in at.items()}}
    found = random_directions(at, labels, real, n=200, seed=0)
    assert [(one.site, one.drawn) for one in found] == [
        (str(site), drawn) for site in at for drawn in ("isotropic", "covariance")
    ]
    assert all(one.standings[0].rank == 1 and one.standings[0].p_value == 1 / 201 for one in found[:2])
    assert all(one.standings[0].rank > 5 and one.high < 0.65 for one in found[2:]), "null"


def test_a_direction_that_reads_nothing_is_first_of_twenty_in_five_per_cent() -> None:
    hits = 0
    for seed in range(200):
        acts, labels = noise(60, 16, seed)
        value = along(acts, draw(acts, 1, seed=10_000 + seed)[0], labels)
        real = {"probe": {HERE: max(value, 1 - value)}}
        found = random_directions({HERE: acts}, labels, real, n=19, seed=seed)
        hits += next(one for one in found if one.drawn == "covariance").standings[0].p_value <= 0.05
    assert binomtest(hits, 200, 0.05).pvalue > 0.01


def test_classes_that_differ_along_everything_are_told_apart_by_any_direction() -> None:
    acts, labels = noise()
    everywhere = acts + 20 * torch.from_numpy(labels)[:, None] * torch.from_numpy(np.sign(acts[0].numpy()))
    real = {"probe": {HERE: 0.99}}
    for one in random_directions({HERE: everywhere}, labels, real, n=200, seed=0):
        assert one.median > 0.95 and one.standings[0].rank > 20
    assert all(one.median < 0.6 for one in random_directions({HERE: acts}, labels, real, n=200, seed=0)), "control"


def test_directions_drawn_as_the_rows_vary_find_what_rows_vary_in() -> None:
    acts, labels = noise(d=300)
    large = acts.clone()
    large[:, 0] = 10 * (acts[:, 0] + 2 * torch.from_numpy(labels))
    isotropic, covariance = random_directions({HERE: large}, labels, {}, n=200, seed=0)
    assert covariance.median > 0.85 > isotropic.median + 0.1
    share = (
        (draw(large, 500, seed=0)[:, 0] ** 2).mean(),
        (draw(large, 500, drawn="isotropic", seed=0)[:, 0] ** 2).mean(),
    )
    assert share[0] > 0.3 and share[1] < 0.02


def test_many_at_once_are_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    acts, labels = noise()
    whole = random_directions({HERE: acts + 1000}, labels, {}, n=50, seed=0)
    monkeypatch.setattr(module, "_CHUNK", 3 * len(labels))
    assert random_directions({HERE: acts + 1000}, labels, {}, n=50, seed=0) == whole
    units = draw(acts, 50, drawn="isotropic", seed=module._seed(0, 0, 0))
    each = [along(acts, unit, labels) for unit in units]
    assert whole[0].median == pytest.approx(np.median([max(value, 1 - value) for value in each]), abs=2e-3)


def test_what_all_rows_share_is_nothing_that_they_vary_in() -> None:
    acts, _ = noise()
    assert (draw(acts + 1000 * torch.eye(32)[0], 200, seed=0)[:, 0] ** 2).mean() < 0.1
    units = draw(acts, 200, seed=0)
    assert torch.allclose(units.norm(dim=1), torch.ones(200), atol=1e-5) and units.dtype == torch.float32


def test_rows_that_differ_by_rounding_alone_tell_nothing_apart() -> None:
    acts, labels = noise()
    rounded = torch.where(torch.from_numpy(labels)[:, None], 0.1 * (1 + 2**-23), 0.1) + 0 * acts
    assert len(rounded.unique()) == 2, "control: classes differ, if by rounding"
    for one in random_directions({HERE: rounded}, labels, {}, n=20, seed=0):
        assert one.low == one.median == one.high == 0.5


def test_rows_that_never_vary_tell_nothing_apart() -> None:
    acts, labels = noise()
    for one in random_directions({HERE: acts * 0 + 0.1}, labels, {"probe": {HERE: 0.5}}, n=20, seed=0):
        assert one.low == one.median == one.high == 0.5 and one.standings[0].rank == 21


def test_json_gives_it_back_and_the_card_shows_every_probe_of_every_site() -> None:
    acts, labels = noise()
    real = {"lda": {HERE: 0.7, THERE: 0.6}, "stories": {THERE: 0.4}}
    found = random_directions({HERE: acts, THERE: acts}, labels, real, n=20, seed=0)
    assert found == tuple(
        RandomDirections.from_row(json.loads(json.dumps(asdict(one), allow_nan=False))) for one in found
    )
    said = lines(found)
    assert said[0] == "## Random directions" and lines(()) == []
    table = [line for line in said if line.startswith("|")]
    assert len(table) == 2 + 4 and {line.count("|") for line in table} == {8}
    assert "(0.400)" in table[-1] and "(0.400)" not in table[2]


def test_one_class_and_unknown_draws_are_refused() -> None:
    acts, labels = noise()
    with pytest.raises(ProbeError, match="rows of one class"):
        random_directions({HERE: acts}, labels | True, {}, seed=0)
    with pytest.raises(ProbeError, match="Choose one of isotropic, covariance"):
        draw(acts, 3, drawn="uniform", seed=0)
