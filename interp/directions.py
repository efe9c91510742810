"""A direction in the residual stream: what a probe reads with and what an edit writes with."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import DirectionError, StoreError
from interp.sites import Site
from interp.store import write_bytes

FORMAT = 1


@dataclass(frozen=True)
class ModelIdentity:
    """What a direction belongs to: two models are the same when all but the name agree."""

    name: str
    weights: str
    """Fingerprint of the configuration and of sampled parameter values, the same on disk and in memory."""
    dtype: str
    tokenizer: str
    """Fingerprint of the vocabulary and of how text is split."""
    template: str
    """Fingerprint of the chat template."""
    bos: str
    """`once` where texts start with a BOS, else `none`."""

    def mismatch(self, other: "ModelIdentity") -> dict[str, tuple[str, str]]:
        """The fields that differ, with both values; the name may differ."""
        mine, theirs = asdict(self), asdict(other)
        return {key: (mine[key], theirs[key]) for key in mine if key != "name" and mine[key] != theirs[key]}


@dataclass(frozen=True, eq=False)
class Direction:
    """A named vector at a site of one model, with the scale on which it is read.

    `offset` and `scale` are the mean and standard deviation of the projection over a reference set (benign
    transcripts, unless `meta` says otherwise), so that a score is in standard deviations of that set.
    """

    name: str
    vector: Float[Tensor, " d_model"]
    site: Site
    offset: float = 0.0
    scale: float = 1.0
    model: ModelIdentity | None = None
    """The model it was fitted on; None for a direction that was made by hand."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Provenance: method, corpus fingerprint, centring pool, position rule."""

    def __post_init__(self) -> None:
        asked = f"direction {self.name!r}"
        if not torch.isfinite(self.vector).all() or not self.vector.any():
            raise DirectionError(asked, "the vector is zero or not finite", "look at the data it was fitted on")
        if not self.scale > 0:
            raise DirectionError(asked, f"a scale of {self.scale}", "give a positive standard deviation")

    @property
    def key(self) -> str:
        """Name and site: unique in a file."""
        return f"{self.name}@{self.site}"

    @property
    def norm(self) -> float:
        """Length of the vector: the unit of a strength given in multiples of the norm."""
        return float(self.vector.norm())

    @property
    def unit(self) -> Float[Tensor, " d_model"]:
        """The vector at length 1."""
        return self.vector / self.vector.norm()

    def project(self, acts: Float[Tensor, "*shape d_model"]) -> Float[Tensor, "*shape"]:
        """Length of the component of `acts` along the direction, in the model's own units, in float32."""
        return acts.float() @ self.unit.to(acts.device)

    def score(self, acts: Float[Tensor, "*shape d_model"]) -> Float[Tensor, "*shape"]:
        """Signed distance from the offset in standard deviations of the reference set."""
        return (self.project(acts) - self.offset) / self.scale

    def calibrated(self, reference: Float[Tensor, "row d_model"], **meta: Any) -> "Direction":
        """The same direction whose scores have mean 0 and standard deviation 1 on `reference`."""
        along = self.project(reference)
        return replace(self, offset=float(along.mean()), scale=float(along.std()), meta={**self.meta, **meta})

    def check(self, model: ModelIdentity) -> "Direction":
        """The direction itself, if it belongs to `model`.

        Raises:
            DirectionError: it was fitted on another model, dtype or chat template; the message names both.
        """
        differences = {} if self.model is None else self.model.mismatch(model)
        if self.model is not None and differences:
            listed = "; ".join(f"{key} {theirs} here, {mine} there" for key, (mine, theirs) in differences.items())
            raise DirectionError(
                f"using {self.key} on {model.name}",
                f"it was fitted on {self.model.name} ({listed})",
                "fit it again with `interp probe` on this model",
            )
        return self


def cosine(one: Direction, other: Direction) -> float:
    """Cosine between two directions."""
    return float(one.unit @ other.unit)


def combine(name: str, terms: Sequence[tuple[float, Direction]]) -> Direction:
    """The weighted sum of directions that share a site and a model, with offset 0 and scale 1 until calibrated.

    Raises:
        DirectionError: sites or models differ.
    """
    (_, first), *rest = terms
    for _, other in rest:
        if other.site != first.site or other.model != first.model:
            raise DirectionError(
                f"combining {first.key} with {other.key}",
                "another site or another model",
                "combine directions of one site and one model",
            )
    meta = {"terms": [[weight, direction.key] for weight, direction in terms]}
    total = torch.stack([weight * direction.vector for weight, direction in terms]).sum(0)
    return Direction(name, total, first.site, model=first.model, meta=meta)


def random_like(direction: Direction, n: int, *, seed: int) -> list[Direction]:
    """`n` isotropic random directions of the same norm at the same site: the first kind of control.

    Depends on `seed` and on the width alone, so that every site of a sweep gets the same bank.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, direction.vector.numel(), generator=generator)
    vectors = noise / noise.norm(dim=1, keepdim=True) * direction.norm
    return [
        Direction(f"random:{index}", vector, direction.site, model=direction.model, meta={"seed": seed})
        for index, vector in enumerate(vectors)
    ]


def save_directions(path: Path, directions: Iterable[Direction]) -> None:
    """Write directions to one safetensors file: vectors as tensors, the rest as JSON in its header.

    Atomic, and the same directions give the same bytes.

    Raises:
        DirectionError: two of them have the same name and site.
    """
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    cards: dict[str, Any] = {}
    for direction in directions:
        if direction.key in tensors:
            raise DirectionError(f"saving {path.name}", f"{direction.key} twice", "give each direction its own name")
        tensors[direction.key] = direction.vector.detach().to("cpu", torch.float32).contiguous()
        cards[direction.key] = {
            "name": direction.name,
            "site": str(direction.site),
            "offset": direction.offset,
            "scale": direction.scale,
            "model": direction.model and asdict(direction.model),
            "meta": dict(direction.meta),
        }
    # one key of metadata: safetensors writes several in any order, and the same directions shall give the same bytes
    card = json.dumps({"format": FORMAT, "directions": cards}, sort_keys=True, allow_nan=False)
    write_bytes(path, save(tensors, {"interp": card}))


def load_directions(path: Path, *, model: ModelIdentity | None = None) -> dict[str, Direction]:
    """The directions of a file by key, each checked against `model` where one is given.

    Raises:
        StoreError: the file is missing, or is not a file of directions.
        DirectionError: a direction belongs to another model.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise StoreError(
            f"loading directions from {path.name}",
            "no such file",
            "fit one with `interp probe RECIPE.toml`, or name a directions.safetensors",
        )
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {})["interp"])
            vectors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
        found = {key: _from_card(card["directions"][key], vector) for key, vector in vectors.items()}
    except (SafetensorError, KeyError, json.JSONDecodeError, TypeError) as error:
        raise StoreError(
            f"loading directions from {path.name}",
            f"not a file of directions ({error})",
            "name a directions.safetensors that `interp probe` wrote",
        ) from error
    if model is not None:
        for direction in found.values():
            direction.check(model)
    return found


def _from_card(card: Mapping[str, Any], vector: Tensor) -> Direction:
    model = card["model"] and ModelIdentity(**card["model"])
    return Direction(card["name"], vector, Site.parse(card["site"]), card["offset"], card["scale"], model, card["meta"])
