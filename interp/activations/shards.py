"""The bytes of activations: safetensors files of one tensor, each of one site, written row by row."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from interp.errors import StoreError
from interp.sites import Site
from interp.store.files import fsync, sibling

SHARD_ROWS = 16_384
"""Rows in a shard, the last one excepted. A set keeps the number that it was made with."""

Storage = Literal["float32", "bfloat16", "float16"]
DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16,
}  # fmt: skip
_NAMES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_BITS: dict[str, Any] = {"float32": np.int32, "bfloat16": np.int16, "float16": np.int16}
"""NumPy has no bfloat16, so values pass through it as bare bits."""


class ShardWriter:
    """Appends rows to the shards of all sites in step; a shard takes its name once it is whole and on disk."""

    def __init__(self, folder: Path, sites: Sequence[Site], n_rows: int, d_model: int, dtype: Storage) -> None:
        self._folder, self._sites, self._n_rows = folder, tuple(sites), n_rows
        self._d_model: int = d_model
        self._dtype: Storage = dtype
        self._files: dict[Site, tuple[BinaryIO, Path]] = {}
        self._number = 0
        while self._start < n_rows and all(self._path(site).is_file() for site in sites):
            self._number += 1
        self.row = self._start
        """The next row to be written: behind the shards that an earlier writer has finished."""

    @property
    def _start(self) -> int:
        return min(self._number * SHARD_ROWS, self._n_rows)

    @property
    def _stop(self) -> int:
        return min((self._number + 1) * SHARD_ROWS, self._n_rows)

    def _path(self, site: Site) -> Path:
        return shard_path(self._folder, site, self._number)

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_: object) -> None:
        """Drop the shards that are not finished."""
        for file, temporary in self._files.values():
            file.close()
            temporary.unlink(missing_ok=True)

    def add(self, acts: Mapping[Site, Float[Tensor, "row d_model"]]) -> None:
        """Append rows to every site.

        Raises:
            StoreError: a value is not finite, or becomes infinite in the dtype of the set.
        """
        bits = {site: _bits(values, site, self._dtype) for site, values in acts.items()}
        n_rows, done = len(next(iter(bits.values()))), 0
        while done < n_rows:
            if not self._files:
                self._open()
            here = min(n_rows - done, self._stop - self.row)
            for site, (file, _) in self._files.items():
                file.write(bits[site][done : done + here].data)
            done, self.row = done + here, self.row + here
            if self.row == self._stop:
                self._finish()

    def _open(self) -> None:
        """Begin a shard of every site. Its length is known, so its header can come first."""
        header = _header(self._stop - self._start, self._d_model, self._dtype)
        for site in self._sites:
            self._path(site).parent.mkdir(exist_ok=True)
            temporary = sibling(self._path(site))
            self._files[site] = (temporary.open("xb"), temporary)
            self._files[site][0].write(header)

    def _finish(self) -> None:
        for site, (file, temporary) in self._files.items():
            file.flush()
            os.fsync(file.fileno())
            file.close()
            temporary.replace(self._path(site))
            fsync(self._path(site).parent)
        self._files = {}
        self._number += 1


def read_rows(
    folder: Path, site: Site, rows: Int[np.ndarray, " row"], shard_rows: int, d_model: int, dtype: Storage
) -> Float[Tensor, "row d_model"]:
    """Rows of one site in any order, through memory maps of the shards that hold them and of no other file."""
    bits = np.empty((len(rows), d_model), _BITS[dtype])
    shards = rows // shard_rows
    for number in np.unique(shards):
        here = shards == number
        bits[here] = _map(shard_path(folder, site, int(number)), dtype)[rows[here] % shard_rows]
    return torch.from_numpy(bits).view(DTYPES[dtype])


def shard_path(folder: Path, site: Site, number: int) -> Path:
    """Where a shard is."""
    return folder / str(site) / f"{number:05d}.safetensors"


def _bits(acts: Tensor, site: Site, dtype: Storage) -> Shaped[np.ndarray, "row d_model"]:
    """The values as they are stored."""
    cast = acts.to("cpu", DTYPES[dtype]).contiguous()
    bad = ~torch.isfinite(cast)
    if bad.any() and not torch.isfinite(acts).all():
        raise StoreError(
            f"storing {site}",
            "the model itself gives NaN or infinity there",
            "load it in bfloat16 or float32, and run `interp doctor`",
        )
    if bad.any():
        largest = float(acts.float().abs().max())
        raise StoreError(
            f"storing {site} as {dtype}",
            f"{int(bad.sum())} values overflow, the largest of size {largest:g}",
            "collect with dtype bfloat16 or float32",
        )
    return cast.view(torch.int32 if dtype == "float32" else torch.int16).numpy()


def _header(n_rows: int, d_model: int, dtype: Storage) -> bytes:
    """The first bytes of a safetensors file of one tensor; its data begin at a multiple of 8."""
    size = n_rows * d_model * DTYPES[dtype].itemsize
    tensor = {"dtype": _NAMES[dtype], "shape": [n_rows, d_model], "data_offsets": [0, size]}
    text = json.dumps({"acts": tensor}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _map(path: Path, dtype: Storage) -> Shaped[np.ndarray, "row d_model"]:
    """The rows of a shard, mapped: what is not read is not loaded."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        shape = json.loads(file.read(length))["acts"]["shape"]
    return np.memmap(path, _BITS[dtype], mode="r", offset=8 + length, shape=tuple(shape))
