"""The rows of a batch while they are written: their caches, their edits, and the draw of the next token."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from interp.edits import Placed
from interp.generation.reading import Reading
from interp.generation.rollouts import Sampling
from interp.generation.stops import ends_at
from interp.models import Batch, Model

_DEAD_SHARE = 0.125
"""Finished rows are dropped from the batch when they make up this share of it."""


class Reply(NamedTuple):
    """What one row wrote, and how often its edits were applied."""

    ids: Int[np.ndarray, " new"]
    stopped: bool
    in_scope: int
    changed: int
    scores: tuple[float, ...] | None


class _RoomyLayer(DynamicLayer):
    """A cache layer with room for every token to come: new keys are written in place, never concatenated."""

    def __init__(self, filled: DynamicLayer, rows: Int[Tensor, " row"], room: int) -> None:
        super().__init__()
        assert filled.keys is not None and filled.values is not None
        self.lazy_initialization(filled.keys, filled.values)
        self._keys, self._values = (_roomy(part, rows, room) for part in (filled.keys, filled.values))
        self._view(filled.keys.shape[-2])

    def _view(self, length: int) -> None:
        self.keys, self.values = self._keys[:, :, :length], self._values[:, :, :length]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new keys and values behind the old ones."""
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        self._keys[:, :, start:stop], self._values[:, :, start:stop] = key_states, value_states
        self._view(stop)
        assert self.keys is not None and self.values is not None
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some rows."""
        length = self.get_seq_length()
        self._keys, self._values = self._keys[indices], self._values[indices]
        self._view(length)


def _roomy(part: Tensor, rows: Int[Tensor, " row"], room: int) -> Tensor:
    _, heads, length, width = part.shape
    buffer = part.new_empty(len(rows), heads, length + room, width)
    torch.index_select(part, 0, rows, out=buffer[:, :, :length])
    return buffer


@dataclass
class Rows:
    """The replies of a batch while they are written; `alive` maps the rows still in the batch to all rows."""

    prefix: Int[Tensor, " row"]
    prompt_tokens: Int[Tensor, " row"]
    attention: Int[Tensor, "row all_pos"] | None
    cache: Any
    edits: Placed
    limits: Int[Tensor, " row"]
    reading: Reading
    written: Int[Tensor, "row new"]
    lengths: Int[Tensor, " row"]
    stopped: Bool[Tensor, " row"]
    in_scope: Int[Tensor, " row"]
    changed: Int[Tensor, " row"]
    alive: Int[Tensor, " live"]

    @classmethod
    def start(
        cls,
        batch: Batch,
        cache: Any,
        prefix: Int[Tensor, " row"],
        limits: Int[Tensor, " row"],
        edits: Placed,
        reading: Reading,
    ) -> "Rows":
        """Rows that have read their prompts: each gets a copy of its prefix's cache, with room to write."""
        room = int(limits.max())
        cache.layers = [
            _RoomyLayer(layer, prefix, room) if type(layer) is DynamicLayer else layer for layer in cache.layers
        ]
        for layer in cache.layers:
            if not isinstance(layer, _RoomyLayer):
                layer.batch_select_indices(prefix)
        n, device = len(prefix), prefix.device
        zeros = torch.zeros(n, dtype=torch.int64, device=device)
        attention = batch.attention
        if attention is not None:
            attention = torch.cat([attention[prefix], attention.new_ones(n, room)], dim=1)
        return cls(
            prefix,
            batch.prompt_tokens[prefix],
            attention,
            cache,
            edits,
            limits,
            reading,
            torch.zeros(n, room, dtype=torch.int64, device=device),
            zeros,
            zeros.bool(),
            zeros,
            zeros,
            torch.arange(n, device=device),
        )

    def running(self) -> Bool[Tensor, " live"]:
        """Which rows of the batch go on: neither stopped nor full."""
        return ~self.stopped[self.alive] & (self.lengths[self.alive] < self.limits[self.alive])

    def take(self, drawn: Int[Tensor, " live"], stops: Int[Tensor, " stop"]) -> None:
        """Write the drawn tokens behind the rows that go on."""
        running = self.running()
        rows = self.alive[running]
        self.written[rows, self.lengths[rows]] = drawn[running]
        self.lengths[rows] += 1
        self.stopped[rows] = torch.isin(drawn[running], stops)

    def stop_at_texts(self, tokenizer: Any, texts: tuple[str, ...]) -> None:
        """Stop the rows that have just spelt one of the texts."""
        rows = self.alive[self.running()]
        lengths = self.lengths[rows].tolist()
        ids = self.written[rows].tolist()
        spelt = [ends_at(tokenizer, one[:length], texts) for one, length in zip(ids, lengths, strict=True)]
        self.stopped[rows] = torch.tensor(spelt, dtype=torch.bool, device=self.stopped.device)

    def follow(self, tokenizer: Any, step: int) -> None:
        """Tell the edits whose scope is what a reply has spelt what every row has spelt so far."""
        scopes = [edit.scope for layers in self.edits.values() for edit in layers if edit.scope.follows]
        if not scopes:
            return
        ids, lengths = self.written[self.alive].tolist(), self.lengths[self.alive].tolist()
        running = self.running().tolist()
        rows = zip(ids, lengths, running, strict=True)
        texts = [tokenizer.decode(one[:length]) if goes_on else None for one, length, goes_on in rows]
        for scope in scopes:
            scope.follow(texts, step)

    def count(self, in_scope: Tensor, changed: Tensor) -> None:
        """Add to the counters of the rows in the batch."""
        self.in_scope = self.in_scope.index_add(0, self.alive, in_scope)
        self.changed = self.changed.index_add(0, self.alive, changed)

    def next_batch(self, ids: Int[Tensor, " live"], step: int, running: Bool[Tensor, " live"]) -> Batch:
        """The newest token of every row in the batch."""
        positions = (self.prompt_tokens + step)[:, None]
        width = None if self.attention is None else self.attention.shape[1] - self.written.shape[1] + step + 1
        mask = None if self.attention is None else self.attention[:, :width]
        return Batch(ids[:, None], positions, running[:, None], self.prompt_tokens, mask)

    def keep(self, index: Int[Tensor, " live"]) -> None:
        """Drop all other rows from the batch; what they wrote stays."""
        self.alive, self.prompt_tokens = self.alive[index], self.prompt_tokens[index]
        self.attention = None if self.attention is None else self.attention[index]
        self.edits = {site: tuple(edit.rows(index) for edit in layers) for site, layers in self.edits.items()}
        self.cache.batch_select_indices(index)

    def replies(self) -> list[Reply]:
        """What every row wrote."""
        written, lengths = self.written.cpu().numpy(), self.lengths.tolist()
        scores = self.reading.scores(lengths)
        counts = zip(self.stopped.tolist(), self.in_scope.tolist(), self.changed.tolist(), scores, strict=True)
        return [Reply(written[row, : lengths[row]], *counted) for row, counted in enumerate(counts)]


def write(
    model: Model, rows: Rows, logits: Float[Tensor, "row vocab"], noise: Float[Tensor, "row new"], sampling: Sampling
) -> None:
    """Write tokens until every row has stopped or is full."""
    stops = torch.tensor(model.stop_ids, dtype=torch.int64, device=model.device)
    noise = noise.to(model.device)
    for step in range(noise.shape[1]):
        drawn = draw(logits[:, : model.n_tokens], noise[rows.alive, step], sampling)
        rows.take(drawn, stops)
        if sampling.stop:
            rows.stop_at_texts(model.tokenizer, sampling.stop)
        running = rows.running()
        if not running.any():
            return
        if (~running).float().mean() > _DEAD_SHARE:
            index = running.nonzero()[:, 0]
            rows.keep(index)
            drawn, running = drawn[index], running[index]
        rows.follow(model.tokenizer, step)
        batch = rows.next_batch(drawn, step, running)
        out = model.run(batch, sites=rows.reading.sites, edits=rows.edits, cache=rows.cache, logits="last")
        assert out.logits is not None
        rows.reading.note(out.captured, rows.alive, step)
        rows.count(out.in_scope, out.changed)
        logits = out.logits[:, -1]


def draw(logits: Float[Tensor, "row vocab"], noise: Float[Tensor, " row"], sampling: Sampling) -> Int[Tensor, " row"]:
    """One token id a row: the inverse of the cumulative distribution at the row's own noise in [0, 1)."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.float() / sampling.temperature, -1)
    if sampling.top_k is not None and sampling.top_k < probabilities.shape[-1]:
        probabilities = _likeliest(probabilities, sampling.top_k)
    if sampling.top_p < 1:
        probabilities = _nucleus(probabilities, sampling.top_p)
    cumulative = probabilities.double().cumsum(-1)
    level = noise.double()[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, level, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def _likeliest(probabilities: Float[Tensor, "row vocab"], top_k: int) -> Float[Tensor, "row vocab"]:
    """Keep the `top_k` likeliest tokens, and all that are as likely as the last of them."""
    least = probabilities.topk(top_k, dim=-1).values[:, -1:]
    return torch.where(probabilities >= least, probabilities, torch.zeros_like(probabilities))


def _nucleus(probabilities: Float[Tensor, "row vocab"], top_p: float) -> Float[Tensor, "row vocab"]:
    """Keep the likeliest tokens that together reach `top_p` of what is left (Holtzman et al. 2019, section 3.1)."""
    ordered, index = probabilities.sort(dim=-1, descending=True)
    total = ordered.sum(-1, keepdim=True)
    ordered = torch.where(ordered.cumsum(-1) - ordered < top_p * total, ordered, torch.zeros_like(ordered))
    return torch.zeros_like(probabilities).scatter(-1, index, ordered)
