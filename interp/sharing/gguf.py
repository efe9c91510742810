"""Directions as GGUF control vectors, which llama.cpp and repeng read and write.

Such a file holds one vector for each block, `direction.N`, that is added to the output of block N at every token;
llama.cpp has no place for block 0. Added with scale 1 there, a vector is the edit `add` of strength 1 norm here. A file
written here also holds what makes the vectors directions (offset, scale, model, provenance); others do not.
"""

import importlib
import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from interp.directions import Direction, ModelIdentity
from interp.errors import DirectionError, StoreError
from interp.sites import Site
from interp.store import write_bytes

ARCHITECTURE = "controlvector"
_CARD = "interp.directions"
_NAME = re.compile(r"direction\.(\d+)")


def save_gguf(path: Path, directions: Iterable[Direction]) -> None:
    """Write the vectors of one direction at the outputs of some blocks as a control vector; atomic.

    Guarantee (test): `load_gguf` gives the same directions back, vectors bit for bit in float32.

    Raises:
        DirectionError: they have several names, widths or models, share a block, or are elsewhere than at the outputs
            of blocks from 1 on.
        StoreError: the package `gguf` is not installed.
    """
    asked = f"writing {path.name}"
    gguf = _package(asked)
    given = list(directions)
    _refuse(asked, given)
    first = given[0]
    with tempfile.TemporaryDirectory() as folder:
        writer = gguf.GGUFWriter(Path(folder) / path.name, ARCHITECTURE)
        writer.add_string(f"{ARCHITECTURE}.model_hint", first.model.name if first.model else "")
        writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(given))
        writer.add_string(_CARD, json.dumps(_card(given), sort_keys=True, allow_nan=False))
        for direction in sorted(given, key=lambda one: one.site):
            vector = direction.vector.detach().to("cpu", torch.float32).contiguous().numpy()
            writer.add_tensor(f"direction.{direction.site.layer}", vector)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        write_bytes(path, (Path(folder) / path.name).read_bytes())


def load_gguf(path: Path, *, name: str | None = None, model: ModelIdentity | None = None) -> dict[str, Direction]:
    """The directions of a control vector by key, each checked against `model` where the file knows its own.

    `name` is what they are called, by default what the file says, or its own name. A file that another program wrote
    gives directions with offset 0 and scale 1, of no particular model; calibrate them before a cap or a score.

    Raises:
        StoreError: the file is missing or no control vector, or the package `gguf` is not installed.
        DirectionError: it belongs to another model.
    """
    asked = f"reading {path.name}"
    gguf = _package(asked)
    if not path.is_file():
        raise StoreError(asked, "no such file", "name a control vector (.gguf)")
    try:
        reader = gguf.GGUFReader(path)
        kind = reader.get_field("general.architecture")
        vectors = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}
        card = reader.get_field(_CARD)
        told = json.loads(card.contents()) if card else {}
        architecture = kind.contents() if kind else "no architecture"
        found = [
            _direction(key, vector, told, name or told.get("name") or path.stem) for key, vector in vectors.items()
        ]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, OSError) as error:
        raise StoreError(asked, f"it is no control vector ({error})", "name one that llama.cpp would take") from error
    if architecture != ARCHITECTURE or not found:
        raise StoreError(asked, f"it is a file of {architecture}", "name a control vector (.gguf)")
    if model is not None:
        for direction in found:
            direction.check(model)
    return {direction.key: direction for direction in found}


def _package(asked: str) -> Any:
    if find_spec("gguf") is None:
        raise StoreError(asked, "the package gguf is not installed", "run pip install gguf")
    return importlib.import_module("gguf")


def _refuse(asked: str, given: list[Direction]) -> None:
    """A control vector has one vector for each block, all of one model."""
    if not given or len({(one.name, one.vector.numel(), one.model) for one in given}) > 1:
        names = ", ".join(one.key for one in given) or "no direction"
        raise DirectionError(asked, f"it would hold {names}", "write one direction of one model to a file")
    misplaced = [one.key for one in given if one.site.stream != "resid_post" or one.site.layer == 0]
    if misplaced:
        raise DirectionError(
            asked,
            f"{', '.join(misplaced)} has no place in a control vector",
            "give directions at the output of a block from 1 on",
        )
    if len({one.site for one in given}) < len(given):
        raise DirectionError(asked, "two directions at one block", "give one for each block")


def _card(given: list[Direction]) -> dict[str, Any]:
    first = given[0]
    scales = {str(one.site.layer): {"offset": one.offset, "scale": one.scale, "meta": dict(one.meta)} for one in given}
    return {"name": first.name, "model": first.model and asdict(first.model), "blocks": scales}


def _direction(key: str, vector: torch.Tensor, told: Mapping[str, Any], name: str) -> Direction:
    match = _NAME.fullmatch(key)
    if match is None or vector.ndim != 1 or vector.dtype != torch.float32:
        raise ValueError(f"tensor {key} of shape {tuple(vector.shape)} in {vector.dtype}")
    own = told.get("blocks", {}).get(match[1], {})
    model = ModelIdentity(**told["model"]) if told.get("model") else None
    scale = {"offset": own.get("offset", 0.0), "scale": own.get("scale", 1.0), "meta": own.get("meta", {})}
    return Direction(name, vector, Site(int(match[1])), model=model, **scale)
