"""Bare vectors in safetensors, as other programs write and read them: one tensor a block, or one row a block."""

import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from interp.directions import Direction, ModelIdentity
from interp.errors import DirectionError, SiteError, StoreError
from interp.sites import Site
from interp.store import write_bytes

_BLOCK = re.compile(r"(?:layers?|blocks?|direction)[._]?(\d+)")


def save_vectors(path: Path, directions: Iterable[Direction]) -> None:
    """Write the vectors of one direction as a plain safetensors file, a tensor a site, named as the site; atomic.

    Offset, scale and model are not in such a file: `directions.save_directions` keeps them.

    Raises:
        DirectionError: there are none, several names, or two at one site.
    """
    from safetensors.torch import save

    given = list(directions)
    tensors = {str(one.site): one.vector.detach().to("cpu", torch.float32).contiguous() for one in given}
    if len({one.name for one in given}) != 1 or len(tensors) < len(given):
        names = ", ".join(one.key for one in given) or "no direction"
        raise DirectionError(f"writing {path.name}", f"it would hold {names}", "write one direction to a file")
    write_bytes(path, save(tensors))


def load_vectors(
    path: Path,
    *,
    name: str | None = None,
    site: Site | None = None,
    hidden_states: bool = False,
    model: ModelIdentity | None = None,
) -> dict[str, Direction]:
    """The directions of a plain safetensors file by key, with offset 0 and scale 1.

    A tensor belongs to the site that it is named after (`L14.resid_post`, `14`, `layer.14`, `direction.14`); a single
    tensor of one vector to `site`; and row N of a single tensor of many to the output of block N or, with
    `hidden_states`, to Hugging Face's hidden_states[N], which is the output of block N - 1 (row 0, the embedding, is
    left out). `name` is by default the file's. `model` is what they are said to belong to.

    Raises:
        StoreError: the file is missing or no safetensors file, or it is not clear what its tensors are.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    asked = f"reading vectors from {path.name}"
    if not path.is_file():
        raise StoreError(asked, "no such file", "name a safetensors file")
    try:
        tensors = load(path.read_bytes())
    except SafetensorError as error:
        raise StoreError(asked, f"not a safetensors file ({error})", "name a safetensors file") from error
    placed = _placed(tensors, site, hidden_states)
    if placed is None:
        shapes = ", ".join(f"{key} {tuple(tensor.shape)}" for key, tensor in tensors.items()) or "nothing"
        raise StoreError(
            asked, f"it holds {shapes}", "name tensors after their sites, give the site of one, or stack all blocks"
        )
    found = [Direction(name or path.stem, vector.float(), at, model=model) for at, vector in placed]
    return {direction.key: direction for direction in found}


def _placed(tensors: dict[str, Tensor], site: Site | None, hidden_states: bool) -> list[tuple[Site, Tensor]] | None:
    """The site of every vector, or None where it is not clear."""
    if len(tensors) == 1:
        (only,) = tensors.values()
        if only.ndim == 2 and site is None:
            rows = only[1:] if hidden_states else only
            return [(Site(block), row) for block, row in enumerate(rows)]
        if only.ndim == 1 and site is not None:
            return [(site, only)]
    sites = {key: _site(key) for key in tensors}
    if site is not None or hidden_states or not tensors or any(tensor.ndim != 1 for tensor in tensors.values()):
        return None
    placed = [(at, tensors[key]) for key, at in sites.items() if at is not None]
    clear = len({at for at, _ in placed}) == len(tensors)
    return sorted(placed, key=lambda one: one[0]) if clear else None


def _site(key: str) -> Site | None:
    match = _BLOCK.fullmatch(key)
    try:
        return Site(int(match[1])) if match else Site.parse(key)
    except SiteError:
        return None
