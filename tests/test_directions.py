"""A direction reads on its own scale, survives its file, and works on its own model only."""

import dataclasses

import pytest
import torch

from interp.directions import Direction, ModelIdentity, combine, cosine, load_directions, random_like, save_directions
from interp.errors import DirectionError, StoreError
from interp.sites import Site

HERE = ModelIdentity("here", "w1", "float32", "v1", "t1", "once")


def direction(name: str = "d", seed: int = 0, **changes) -> Direction:
    vector = torch.randn(16, generator=torch.Generator().manual_seed(seed))
    return dataclasses.replace(Direction(name, vector, Site(1), 0.5, 2.0, HERE, {"method": "m"}), **changes)


def test_projection_is_along_the_unit_vector_and_the_score_in_standard_deviations() -> None:
    d = direction()
    acts = torch.randn(3, 5, 16)
    assert torch.allclose(d.project(acts + 2 * d.unit), d.project(acts) + 2, atol=1e-5)
    assert torch.allclose(d.score(acts), (d.project(acts) - 0.5) / 2)
    assert abs(float(d.unit.norm()) - 1) < 1e-6


def test_calibration_centres_the_reference() -> None:
    reference = torch.randn(500, 16) * 3 + 1
    scores = direction().calibrated(reference).score(reference)
    assert abs(float(scores.mean())) < 1e-5 and abs(float(scores.std()) - 1) < 1e-5
    assert abs(float(direction().score(reference).std()) - 1) > 0.1, "control"


def test_half_precision_is_projected_in_float32() -> None:
    acts = torch.randn(4, 16)
    assert direction().project(acts.bfloat16()).dtype == torch.float32


def test_directions_survive_their_file(tmp_path) -> None:
    path = tmp_path / "directions.safetensors"
    save_directions(path, [direction("a"), direction("b", 1), direction("a", 2, site=Site(2))])
    found = load_directions(path, model=HERE)
    assert set(found) == {"a@L1.resid_post", "b@L1.resid_post", "a@L2.resid_post"}
    one = found["b@L1.resid_post"]
    assert torch.equal(one.vector, direction("b", 1).vector)
    assert (one.offset, one.scale, one.model, dict(one.meta)) == (0.5, 2.0, HERE, {"method": "m"})


def test_the_same_directions_give_the_same_bytes(tmp_path) -> None:
    for name in ("one", "two"):
        save_directions(tmp_path / name, [direction(f"d{i}", i) for i in range(8)])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("field", ["weights", "dtype", "tokenizer", "template", "bos"])
def test_another_model_is_refused_and_both_are_named(tmp_path, field: str) -> None:
    other = dataclasses.replace(HERE, **{"name": "there", field: "changed"})
    with pytest.raises(DirectionError, match=f"(?s)on there.*fitted on here.*{field}"):
        direction().check(other)
    save_directions(tmp_path / "d", [direction()])
    with pytest.raises(DirectionError):
        load_directions(tmp_path / "d", model=other)


def test_the_same_model_under_another_name_is_accepted() -> None:
    assert direction().check(dataclasses.replace(HERE, name="copy")).name == "d"


def test_the_same_name_twice_is_refused(tmp_path) -> None:
    with pytest.raises(DirectionError, match="twice"):
        save_directions(tmp_path / "d", [direction(), direction()])


def test_what_is_no_file_of_directions_says_so(tmp_path) -> None:
    (tmp_path / "bad").write_bytes(b"nonsense")
    for name in ("bad", "missing"):
        with pytest.raises(StoreError, match=name):
            load_directions(tmp_path / name)


@pytest.mark.parametrize("vector", [torch.zeros(4), torch.tensor([1.0, float("nan")])])
def test_a_zero_or_broken_vector_is_refused(vector: torch.Tensor) -> None:
    with pytest.raises(DirectionError, match="not finite"):
        Direction("d", vector, Site(0))


def test_random_controls_have_the_same_norm_and_their_own_seed() -> None:
    bank = random_like(direction(), 20, seed=1)
    assert len({c.name for c in bank}) == 20
    assert all(abs(c.norm - direction().norm) < 1e-5 for c in bank)
    assert max(abs(cosine(c, direction())) for c in bank) < 0.95
    again, other = random_like(direction(), 20, seed=1), random_like(direction(), 20, seed=2)
    assert torch.equal(bank[3].vector, again[3].vector) and not torch.equal(bank[3].vector, other[3].vector)


def test_directions_combine_within_a_site() -> None:
    a, b = direction("a"), direction("b", 1)
    assert torch.allclose(combine("a-b", [(1.0, a), (-1.0, b)]).vector, a.vector - b.vector)
    with pytest.raises(DirectionError, match="another site"):
        combine("x", [(1.0, a), (1.0, direction("c", site=Site(0)))])
