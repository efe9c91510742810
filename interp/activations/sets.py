"""A set of activations on disk, whole."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from safetensors.numpy import load_file
from torch import Tensor

from interp.activations.plan import RowTable
from interp.activations.shards import Storage, read_rows
from interp.directions import ModelIdentity
from interp.errors import StoreError
from interp.sites import Site
from interp.store import read_folder, read_json

FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """What a set keeps of a transcript."""

    id: str
    group: str
    label: str | None
    meta: dict[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, eq=False)
class Activations(Mapping[Site, Tensor]):
    """A finished set on disk; as a mapping, it reads a site's rows whenever they are asked for."""

    folder: Path
    model: ModelIdentity
    sites: tuple[Site, ...]
    rule: str
    dtype: Storage
    d_model: int
    shard_rows: int
    rows: RowTable
    transcripts: tuple[Entry, ...]
    stored: Int[np.ndarray, " row"]
    """Where each row is on disk."""

    @classmethod
    def open(cls, folder: Path) -> "Activations":
        """The set in `folder`.

        Raises:
            StoreError: it is unfinished, damaged, or of another format.
        """
        read_folder(folder)
        card = read_json(folder / "card.json")
        if card["format"] != FORMAT:
            raise StoreError(
                f"opening activations {folder.name}",
                f"format {card['format']}, not {FORMAT}",
                "delete the folder and collect it again",
            )
        columns = load_file(folder / "rows.safetensors")
        stored = columns.pop("stored")
        lines = (folder / "transcripts.jsonl").read_bytes().splitlines()
        return cls(
            folder=folder,
            model=ModelIdentity(**card["model"]),
            sites=tuple(Site.parse(text) for text in card["sites"]),
            rule=card["rule"],
            dtype=card["dtype"],
            d_model=card["d_model"],
            shard_rows=card["shard_rows"],
            rows=RowTable(**columns, names=tuple(card["names"])),
            transcripts=tuple(Entry(**json.loads(line)) for line in lines),
            stored=stored,
        )

    @property
    def fingerprint(self) -> str:
        """The name of the set, made from its content."""
        return self.folder.name

    @cached_property
    def groups(self) -> list[str]:
        """The group of every row."""
        return [self.transcripts[index].group for index in self.rows.transcript]

    def read(self, site: Site, start: int = 0, stop: int | None = None) -> Float[Tensor, "row d_model"]:
        """Rows `start` to `stop` of one site, in the dtype that they are stored in.

        Guarantee (test): no file of another site is opened, and of this one only what the rows need.

        Raises:
            StoreError: the site was not collected.
        """
        if site not in self.sites:
            raise StoreError(f"reading {site}", f"the set holds {', '.join(map(str, self.sites))}", "collect that site")
        rows = self.stored[start:stop]
        return read_rows(self.folder, site, rows, self.shard_rows, self.d_model, self.dtype)

    def __getitem__(self, site: Site) -> Float[Tensor, "row d_model"]:
        return self.read(site)

    def __iter__(self) -> Iterator[Site]:
        return iter(self.sites)

    def __len__(self) -> int:
        return len(self.sites)
