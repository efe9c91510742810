"""Directions as other programs keep them: GGUF control vectors and bare safetensors, there and back."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from interp.directions import Direction, ModelIdentity
from interp.errors import DirectionError, StoreError
from interp.sharing import gguf as exchange
from interp.sharing.gguf import load_gguf, save_gguf
from interp.sharing.vectors import load_vectors, save_vectors
from interp.sites import Site

HERE = ModelIdentity("tiny", "w", "float32", "t", "c", "once")


def calm(block: int, **changes: Any) -> Direction:
    vector = torch.randn(32, generator=torch.Generator().manual_seed(block)) * (block + 1)
    made = Direction("calm", vector, Site(block), 0.1 * block, 1.5, HERE, {"method": "mean", "n": block})
    return replace(made, **changes)


def same(one: Direction, other: Direction) -> bool:
    told = [(d.name, d.site, d.offset, d.scale, d.model, dict(d.meta)) for d in (one, other)]
    return told[0] == told[1] and torch.equal(one.vector, other.vector)


def test_a_control_vector_comes_back_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    given = [calm(block) for block in (12, 1, 3)]
    save_gguf(tmp_path / "calm.gguf", given)
    found = load_gguf(tmp_path / "calm.gguf", model=HERE)
    assert set(found) == {one.key for one in given} and all(same(found[one.key], one) for one in given)
    assert load_gguf(tmp_path / "calm.gguf", name="still")["still@L3.resid_post"].name == "still"
    written = (tmp_path / "calm.gguf").read_bytes()
    save_gguf(tmp_path / "calm.gguf", reversed(given))
    assert (tmp_path / "calm.gguf").read_bytes() == written, "the same directions give the same bytes"
    with pytest.raises(DirectionError, match="fitted on tiny"):
        load_gguf(tmp_path / "calm.gguf", model=replace(HERE, weights="other"))


def test_the_file_is_what_other_programs_read(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    save_gguf(tmp_path / "calm.gguf", [calm(2), calm(1)])
    reader = gguf.GGUFReader(tmp_path / "calm.gguf")
    assert reader.get_field("general.architecture").contents() == "controlvector"
    assert reader.get_field("controlvector.model_hint").contents() == "tiny"
    assert reader.get_field("controlvector.layer_count").contents() == 2
    assert [tensor.name for tensor in reader.tensors] == ["direction.1", "direction.2"]
    for tensor in reader.tensors:
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32 and list(tensor.shape) == [32]
    assert np.array_equal(reader.tensors[0].data, calm(1).vector.numpy())


def foreign(path: Path, architecture: str, tensors: dict[str, np.ndarray]) -> Path:
    """A file with nothing of this package's in it."""
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_string(f"{architecture}.model_hint", "mistral")
    writer.add_uint32(f"{architecture}.layer_count", len(tensors))
    for key, tensor in tensors.items():
        writer.add_tensor(key, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_control_vector_of_another_program_is_read(tmp_path: Path) -> None:
    vectors = {f"direction.{block}": calm(block).vector.numpy() for block in (1, 2)}
    found = load_gguf(foreign(tmp_path / "happy.gguf", "controlvector", vectors), model=HERE)
    assert set(found) == {"happy@L1.resid_post", "happy@L2.resid_post"}
    one = found["happy@L2.resid_post"]
    assert torch.equal(one.vector, calm(2).vector) and (one.offset, one.scale, one.model) == (0.0, 1.0, None)


@pytest.mark.parametrize(
    ("architecture", "key", "tensor"),
    [
        ("llama", "direction.1", np.ones(4, np.float32)),
        ("controlvector", "token_embd.weight", np.ones(4, np.float32)),
        ("controlvector", "direction.1", np.ones((4, 4), np.float32)),
        ("controlvector", "direction.1", np.ones(4, np.float16)),
    ],
)
def test_a_file_that_is_no_control_vector_is_refused(tmp_path: Path, architecture: str, key: str, tensor) -> None:
    with pytest.raises(StoreError, match="control vector"):
        load_gguf(foreign(tmp_path / "odd.gguf", architecture, {key: tensor}))


def test_a_broken_or_missing_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("gguf")
    save_gguf(tmp_path / "calm.gguf", [calm(1)])
    whole = (tmp_path / "calm.gguf").read_bytes()
    for broken in (b"", b"no such thing at all", whole[:40], whole[:-64]):
        (tmp_path / "broken.gguf").write_bytes(broken)
        with pytest.raises(StoreError, match="no control vector"):
            load_gguf(tmp_path / "broken.gguf")
    with pytest.raises(StoreError, match="no such file"):
        load_gguf(tmp_path / "nothing.gguf")


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ([], "no direction"),
        ([calm(1), calm(2, name="other")], "one direction of one model"),
        ([calm(1), calm(2, model=None)], "one direction of one model"),
        ([calm(1), calm(1)], "two directions at one block"),
        ([calm(0)], "no place"),
        ([calm(1, site=Site(1, "resid_pre"))], "no place"),
    ],
)
def test_what_a_control_vector_cannot_hold_is_refused(tmp_path: Path, given: list[Direction], match: str) -> None:
    pytest.importorskip("gguf")
    with pytest.raises(DirectionError, match=match):
        save_gguf(tmp_path / "calm.gguf", given)
    assert not list(tmp_path.iterdir())


def test_without_the_package_a_sentence_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "find_spec", lambda name: None)
    for attempt in (lambda: load_gguf(tmp_path / "a.gguf"), lambda: save_gguf(tmp_path / "a.gguf", [calm(1)])):
        with pytest.raises(StoreError, match="pip install gguf"):
            attempt()


def test_bare_vectors_come_back_bit_for_bit(tmp_path: Path) -> None:
    given = [calm(0), calm(4), calm(4, site=Site(4, "resid_mid"))]
    save_vectors(tmp_path / "calm.safetensors", given)
    assert set(load_file(tmp_path / "calm.safetensors")) == {str(one.site) for one in given}
    found = load_vectors(tmp_path / "calm.safetensors", model=HERE)
    assert set(found) == {one.key for one in given}
    assert all(torch.equal(found[one.key].vector, one.vector) for one in given)
    assert all(one.model == HERE and (one.offset, one.scale) == (0.0, 1.0) for one in found.values())
    with pytest.raises(DirectionError, match="one direction to a file"):
        save_vectors(tmp_path / "two.safetensors", [calm(0), calm(1, name="other")])


@pytest.mark.parametrize("key", ["14", "layer.14", "layers_14", "direction.14", "blocks.14.hook_resid_post", "L14"])
def test_a_tensor_belongs_to_the_block_it_is_named_after(tmp_path: Path, key: str) -> None:
    save_file({key: calm(1).vector.half(), "layer.3": calm(3).vector}, tmp_path / "v.safetensors")
    found = load_vectors(tmp_path / "v.safetensors")
    assert list(found) == ["v@L3.resid_post", "v@L14.resid_post"]
    assert found["v@L14.resid_post"].vector.dtype == torch.float32


def test_rows_are_blocks_or_hidden_states(tmp_path: Path) -> None:
    stack = torch.stack([calm(block).vector for block in range(4)])
    save_file({"vector": stack}, tmp_path / "v.safetensors")
    blocks, states = (load_vectors(tmp_path / "v.safetensors", hidden_states=asked) for asked in (False, True))
    assert (len(blocks), len(states)) == (4, 3)
    assert torch.equal(blocks["v@L1.resid_post"].vector, stack[1])
    assert torch.equal(states["v@L1.resid_post"].vector, stack[2])
    save_file({"anything": stack[0]}, tmp_path / "one.safetensors")
    assert set(load_vectors(tmp_path / "one.safetensors", site=Site(7))) == {"one@L7.resid_post"}


@pytest.mark.parametrize(
    "tensors",
    [
        {"anything": torch.ones(4)},
        {"layer.1": torch.ones(4), "L1.resid_post": torch.ones(4)},
        {"layer.1": torch.ones(4), "bias": torch.ones(4)},
        {"layer.1": torch.ones(4, 4), "layer.2": torch.ones(4, 4)},
    ],
)
def test_tensors_of_which_it_is_not_clear_what_they_are_are_refused(tmp_path: Path, tensors) -> None:
    save_file(tensors, tmp_path / "v.safetensors")
    with pytest.raises(StoreError, match="it holds"):
        load_vectors(tmp_path / "v.safetensors")
    (tmp_path / "v.safetensors").write_bytes(b"nothing of that kind")
    with pytest.raises(StoreError, match="not a safetensors file"):
        load_vectors(tmp_path / "v.safetensors")
