"""Moments of a site's rows, gathered in one pass: all that probes with a closed form need, fold by fold.

Rows belong to cells (folds, say). The training rows of a fold are all rows but the fold's, so that their moments are a
difference: `moments.total() - moments.cell(fold)`. No row is read twice, whatever the number of folds, penalties,
labellings or methods.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import ProbeError
from interp.sites import Site

BLOCK_BYTES = 2**28
"""Rows are read in blocks of at most so many bytes."""
_PIECE_BYTES = 2**24
"""Rows of one cell that are copied at a time; more, where their product is larger than they are."""
_PILOT_ROWS = 1024
"""So many of the first block are enough for a pilot."""


@dataclass(frozen=True, eq=False)
class Blocks:
    """Rows of one site that are read a block at a time; rows that make one block are read once and kept."""

    read: Callable[[int, int], Tensor]
    """Rows `start` to `stop`."""
    n_rows: int
    size: int
    """Rows in a block."""

    @classmethod
    def of(
        cls, acts: Mapping[Site, Tensor], site: Site, n_rows: int, d_model: int, *, limit: int = BLOCK_BYTES
    ) -> "Blocks":
        """Rows of a site: slices from disk where `acts` can read slices, as `interp.activations.Activations` can."""
        reader: Any = getattr(acts, "read", None)
        size = max(1, limit // (4 * d_model))
        if reader is None:
            return cls.from_rows(acts[site], size=size)
        return cls._keeping(lambda start, stop: reader(site, start, stop), n_rows, size)

    @classmethod
    def from_rows(cls, rows: Float[Tensor, "row d_model"], *, size: int | None = None) -> "Blocks":
        """Rows that are in memory already."""
        return cls(lambda start, stop: rows[start:stop], len(rows), size or max(1, len(rows)))

    @classmethod
    def _keeping(cls, read: Callable[[int, int], Tensor], n_rows: int, size: int) -> "Blocks":
        if n_rows > size:
            return cls(read, n_rows, size)
        kept: list[Tensor] = []

        def once(start: int, stop: int) -> Tensor:
            if not kept:
                kept.append(read(0, n_rows))
            return kept[0][start:stop]

        return cls(once, n_rows, size)

    def __iter__(self) -> Iterator[tuple[slice, Float[Tensor, "row d_model"]]]:
        """Which rows, and the rows: float64 where they are stored so, else float32."""
        for start in range(0, self.n_rows, self.size):
            stop = min(start + self.size, self.n_rows)
            yield slice(start, stop), _floats(self.read(start, stop))


def _floats(rows: Tensor) -> Float[Tensor, "row d_model"]:
    return rows if rows.dtype == torch.float64 else rows.float()


@dataclass(frozen=True, eq=False)
class Moments:
    """Counts, sums and second moments of rows and of their targets, for each of several cells; all in float64.

    Rows enter as differences from `pilot`, a point near their mean: about zero, a dimension of mean 1,000 and deviation
    1 would lose its variance to rounding in float32. A target is a column of numbers, one per row: 0 and 1 for a class
    or for a shuffled labelling, any value for a graded label. Nothing in here is ever changed.

    Guarantees (tests): equal to sums over rows computed directly; neither the order of rows nor the size of blocks
    matters; sums and differences are the moments of the united and of the remaining rows, also across pilots; a massive
    dimension keeps its variance.
    """

    pilot: Float[Tensor, " d_model"]
    count: Float[Tensor, " cell"]
    sums: Float[Tensor, "cell d_model"]
    squares: Float[Tensor, "cell d_model"]
    products: Float[Tensor, "cell d_model d_model"] | None
    """Sums of outer products; None where they were not gathered."""
    target_sums: Float[Tensor, "cell target"]
    target_squares: Float[Tensor, "cell target"]
    cross: Float[Tensor, "cell target d_model"]
    """Sums of target times row. With 0 and 1 for a target these are the sums of class 1."""

    def __add__(self, other: "Moments") -> "Moments":
        return self._with(other, 1)

    def __sub__(self, other: "Moments") -> "Moments":
        return self._with(other, -1)

    def _with(self, other: "Moments", sign: int) -> "Moments":
        if self.cross.shape != other.cross.shape:
            found = f"{tuple(self.cross.shape)} and {tuple(other.cross.shape)} cells, targets and dimensions"
            raise ProbeError("adding moments", found, "gather both with the same cells and targets")
        moved = other.about(self.pilot)
        return self._from([mine + sign * theirs for mine, theirs in zip(self._parts, moved._parts, strict=True)])

    @property
    def _parts(self) -> list[Tensor]:
        light = [self.count, self.sums, self.squares, self.target_sums, self.target_squares, self.cross]
        return light if self.products is None else [*light, self.products]

    def _from(self, parts: Sequence[Tensor]) -> "Moments":
        count, sums, squares, target_sums, target_squares, cross, *products = parts
        return Moments(
            self.pilot, count, sums, squares, products[0] if products else None, target_sums, target_squares, cross
        )

    def about(self, pilot: Float[Tensor, " d_model"]) -> "Moments":
        """The same moments about another pilot."""
        if torch.equal(pilot, self.pilot):
            return self
        shift, count = self.pilot - pilot, self.count[:, None]
        products = self.products
        if products is not None:
            mixed = self.sums[:, :, None] * shift
            products = products + mixed + mixed.mT + count[..., None] * (shift[:, None] * shift)
        return replace(
            self,
            pilot=pilot,
            sums=self.sums + count * shift,
            squares=self.squares + 2 * self.sums * shift + count * shift**2,
            products=products,
            cross=self.cross + self.target_sums[..., None] * shift,
        )

    def light(self) -> "Moments":
        """The same without products."""
        return replace(self, products=None)

    def total(self) -> "Moments":
        """All cells as one."""
        return self._from([part.sum(0, keepdim=True) for part in self._parts])

    def cell(self, index: int) -> "Moments":
        """One cell alone."""
        return self._from([part[index : index + 1] for part in self._parts])

    def without(self) -> Iterator["Moments"]:
        """For each cell in turn, the moments of all rows outside it: the training moments of a fold."""
        total = self.total()
        for index in range(len(self.count)):
            yield total - self.cell(index)

    def rest(self) -> "Moments":
        """The same for all cells at once, without products: cell k holds all rows outside cell k."""
        light = self.light()
        return light._from([part.sum(0, keepdim=True) - part for part in light._parts])

    def joined(self, cells: Sequence[int]) -> "Moments":
        """Some of the cells as one, such as those of one class."""
        chosen = torch.as_tensor(list(cells), device=self.count.device)
        return self._from([part[chosen].sum(0, keepdim=True) for part in self._parts])

    def only(self, cells: Sequence[int]) -> "Moments":
        """Some of the cells, each as it is: the folds that are left when others are taken away."""
        chosen = torch.as_tensor(list(cells), device=self.count.device)
        return self._from([part[chosen] for part in self._parts])

    def of_targets(self, chosen: Sequence[int]) -> "Moments":
        """The same rows with some of the targets."""
        index = list(chosen)
        cut = {name: getattr(self, name)[:, index] for name in ("target_sums", "target_squares", "cross")}
        return replace(self, **cut)

    @property
    def mean(self) -> Float[Tensor, "cell d_model"]:
        """Mean of the rows of each cell."""
        return self.pilot + self.sums / self.count[:, None]

    @property
    def covariance(self) -> Float[Tensor, "cell d_model d_model"]:
        """Covariance of the rows of each cell, divided by their number.

        Raises:
            ProbeError: products were not gathered.
        """
        if self.products is None:
            raise ProbeError("taking a covariance", "moments without products", "gather them with second=True")
        centre = self.sums / self.count[:, None]
        return self.products / self.count[:, None, None] - centre[:, :, None] * centre[:, None, :]

    @property
    def spread(self) -> Float[Tensor, "cell d_model"]:
        """Standard deviation of every dimension, divided by the number of rows; 0 where it is rounding alone."""
        variance = self.squares / self.count[:, None]
        left = variance - (self.sums / self.count[:, None]) ** 2
        return left.clamp(min=0).sqrt() * (left > 1e-9 * variance)

    def class_means(self) -> tuple[Float[Tensor, "cell target d_model"], Float[Tensor, "cell target d_model"]]:
        """Means of the rows whose target is 0, and of those whose target is 1.

        Raises:
            ProbeError: a target has other values than 0 and 1, or a class is empty.
        """
        n, positive = self.count[:, None], self.target_sums
        if not torch.allclose(self.target_squares, positive, atol=1e-6):
            raise ProbeError("taking class means", "a target with other values than 0 and 1", "fit ridge to it")
        if bool(((positive < 0.5) | (positive > n - 0.5)).any()):
            raise ProbeError("fitting a probe", "rows of one class alone", "give rows of both classes")
        below = (self.sums[:, None] - self.cross) / (n - positive)[..., None]
        return self.pilot + below, self.pilot + self.cross / positive[..., None]


def gather(
    blocks: Blocks,
    cells: Int[np.ndarray, " row"],
    targets: Float[np.ndarray, "target row"] | None = None,
    *,
    n_cells: int | None = None,
    second: bool = True,
) -> Moments:
    """The moments of rows by cell, in one pass over blocks; rows of cell -1 are left out.

    Products are taken in the precision of the rows and summed over blocks in float64. Memory holds one block, some
    rows of one of its cells, and the moments: `8 n_cells d_model^2` bytes. For second moments by class as well, give
    every pair of fold and class a cell of its own and join them. `second=False` gathers squares without products.

    Raises:
        ProbeError: rows, cells and targets differ in number, or a value is not finite.
    """
    wanted = np.zeros((0, len(cells))) if targets is None else targets
    if not blocks.n_rows == len(cells) == wanted.shape[1]:
        found = f"{blocks.n_rows} rows, {len(cells)} cells and {wanted.shape[1]} target values"
        raise ProbeError("gathering moments", found, "give one cell and one value of each target per row")
    n, sums = n_cells or int(cells.max(initial=0)) + 1, None
    for where, rows in blocks:
        sums = sums or _Sums.near(rows, n, len(wanted), second=second)
        piece = max(_PIECE_BYTES // (4 * rows.shape[1]), 2 * rows.shape[1])
        for cell in np.unique(cells[where]):
            chosen = np.flatnonzero(cells[where] == cell)
            for start in range(0, len(chosen) if cell >= 0 else 0, piece):
                part = chosen[start : start + piece]
                sums.add(int(cell), rows, part, wanted[:, where][:, part])
        del rows  # or it would stay while the next block is read
    if sums is None:
        raise ProbeError("gathering moments", "no rows", "give at least one")
    return sums.done()


@dataclass(frozen=True, eq=False)
class _Sums:
    """Moments in the making."""

    moments: Moments

    @classmethod
    def near(cls, rows: Tensor, cells: int, targets: int, *, second: bool) -> "_Sums":
        """Zeros, about the mean of some rows rounded to their own precision."""
        pilot = rows[:: max(1, len(rows) // _PILOT_ROWS)].double().mean(0).to(rows.dtype).double()
        zeros, d = partial(torch.zeros, cells, dtype=torch.float64, device=rows.device), rows.shape[1]
        products = zeros(d, d) if second else None
        return cls(
            Moments(pilot, zeros(), zeros(d), zeros(d), products, zeros(targets), zeros(targets), zeros(targets, d))
        )

    def add(self, cell: int, rows: Tensor, chosen: np.ndarray, targets: np.ndarray) -> None:
        into = self.moments
        part = rows if len(chosen) == len(rows) else rows[torch.from_numpy(chosen).to(rows.device)]
        part = part - into.pilot.to(rows.dtype)
        values = torch.from_numpy(np.ascontiguousarray(targets, float)).to(part.device)
        into.count[cell] += len(part)
        into.sums[cell] += part.sum(0, dtype=torch.float64)
        if into.products is None:
            into.squares[cell] += (part * part).sum(0, dtype=torch.float64)
        else:
            squared = _squared(part)
            into.products[cell] += squared
            into.squares[cell] += squared.diagonal()
        into.target_sums[cell] += values.sum(1)
        into.target_squares[cell] += (values * values).sum(1)
        if len(values):
            into.cross[cell] += values.to(part.dtype) @ part

    def done(self) -> Moments:
        if not torch.isfinite(self.moments.sums).all():
            raise ProbeError("gathering moments", "a row that is not finite", "look at the activations")
        return self.moments


def _squared(rows: Float[Tensor, "row d_model"]) -> Float[Tensor, "d_model d_model"]:
    """`rows.T @ rows`; on a CPU by NumPy, which sees that the result is symmetric and does half the work."""
    if rows.device.type != "cpu":
        return rows.T @ rows
    values = rows.numpy()
    return torch.from_numpy(values.T @ values)
