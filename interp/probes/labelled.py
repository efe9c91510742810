"""What a sweep learns from and scores: rows read of transcripts, their classes and groups, and its settings."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import ProbeError
from interp.probes.aggregate import Aggregation
from interp.probes.moments import Blocks
from interp.probes.splits import Groups
from interp.probes.sweep import L2, METHODS, SHRINKAGE
from interp.sites import Site


@dataclass(frozen=True, eq=False)
class ReadRows:
    """Rows that were read of transcripts, at some sites."""

    acts: Mapping[Site, Float[Tensor, "row d_model"]]
    """Read one site at a time, in slices where it can be."""
    transcript: Int[np.ndarray, " row"]
    """Whose row it is."""
    n: int
    """How many transcripts."""

    def blocks(self, site: Site) -> Blocks:
        """The rows of a site, a block at a time."""
        on_disk: Any = self.acts
        if hasattr(on_disk, "read"):
            return Blocks.of(on_disk, site, len(self.transcript), on_disk.d_model)
        return Blocks.from_rows(self.acts[site])

    def pooled(self, how: Aggregation) -> "ReadRows":
        """One row a transcript."""
        return ReadRows(_Pooled(self, how), np.arange(self.n), self.n)


@dataclass(frozen=True, eq=False)
class _Pooled(Mapping[Site, Tensor]):
    """Rows of a reading, pooled when they are asked for."""

    reading: ReadRows
    how: Aggregation

    def __getitem__(self, site: Site) -> Tensor:
        return self.how.rows(self.reading.acts[site], self.reading.transcript, self.reading.n)

    def __iter__(self) -> Iterator[Site]:
        return iter(self.reading.acts)

    def __len__(self) -> int:
        return len(self.reading.acts)


@dataclass(frozen=True)
class Settings:
    """How a sweep is made."""

    methods: tuple[str, ...] = METHODS
    folds: int = 5
    n_null: int = 200
    seed: int = 0
    shrinkage: float = SHRINKAGE
    l2: float = L2
    score: Aggregation = field(default_factory=lambda: Aggregation("mean"))
    """How the scores of a transcript's rows become one."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Transcripts of two classes in groups, what was read of them to learn from, and what is scored."""

    learn: ReadRows
    labels: Bool[np.ndarray, " transcript"]
    groups: Groups
    score: ReadRows | None = None
    """Other rows of the same transcripts at the same sites; None scores those that were learnt from."""
    graded: Float[np.ndarray, " transcript"] | None = None
    pairs: Int[np.ndarray, "pair 2"] | None = None
    """Transcripts that are alike but for their class."""

    @property
    def scored(self) -> ReadRows:
        """The rows that are scored."""
        return self.score or self.learn

    def paired_rows(self) -> Int[np.ndarray, "pair 2"] | None:
        """The pairs as rows.

        Raises:
            ProbeError: pairs of transcripts that have several rows.
        """
        if self.pairs is None:
            return None
        if len(self.learn.transcript) != self.learn.n:
            found = f"{len(self.learn.transcript)} rows of {self.learn.n} transcripts"
            raise ProbeError("pairing rows", found, "read one row a transcript, or learn from their mean")
        return np.argsort(self.learn.transcript)[self.pairs]
