"""What collecting would run and write, known before the model runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from interp.activations.shards import DTYPES, Storage
from interp.errors import TranscriptError
from interp.models import Model
from interp.sites import Site
from interp.tokens import PositionRule, Tokens, render
from interp.transcripts import Transcript


@dataclass(frozen=True, eq=False)
class RowTable:
    """What each row is: transcript by transcript in the order given, positions ascending."""

    transcript: Int[np.ndarray, " row"]
    """Index of the transcript."""
    position: Int[np.ndarray, " row"]
    """Absolute position of the token; of a pooled row, the first one."""
    tokens: Int[np.ndarray, " row"]
    """How many tokens the row is the mean of: 1 unless it is pooled."""
    role_code: Int[np.ndarray, " row"]
    segment_code: Int[np.ndarray, " row"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.transcript)

    @property
    def role(self) -> Shaped[np.ndarray, " row"]:
        """The role at each row; empty between messages, and for a pooled row that spans several."""
        return np.asarray(self.names)[self.role_code]

    @property
    def segment(self) -> Shaped[np.ndarray, " row"]:
        """The named part at each row, such as `email:2`; empty where there is none, or several."""
        return np.asarray(self.names)[self.segment_code]


@dataclass(frozen=True)
class Cost:
    """What collecting would spend; bytes are those on disk."""

    transcripts: int
    tokens: int
    rows: int
    bytes: int


@dataclass(frozen=True, eq=False)
class Plan:
    """The token ids of every transcript, the positions to keep, and the order of the work."""

    sites: tuple[Site, ...]
    rule: PositionRule
    ids: list[Int[np.ndarray, " _"]]
    positions: list[Int[np.ndarray, " _"]]
    rows: RowTable

    @cached_property
    def tokens(self) -> int:
        """How many tokens the model reads."""
        return sum(map(len, self.ids))

    @cached_property
    def counts(self) -> Int[np.ndarray, " transcript"]:
        """Rows of each transcript."""
        return np.asarray([1 if self.rule.pooled else len(found) for found in self.positions])

    @cached_property
    def order(self) -> list[int]:
        """The longest transcripts first, so that what does not fit into memory shows at once."""
        return sorted(range(len(self.ids)), key=lambda index: -len(self.ids[index]))

    @cached_property
    def stored(self) -> Int[np.ndarray, " row"]:
        """Where each row goes on disk: the disk is in the order of the work."""
        rows = np.split(np.arange(len(self.rows)), np.cumsum(self.counts)[:-1])
        stored = np.empty(len(self.rows), np.int64)
        stored[np.concatenate([rows[index] for index in self.order])] = np.arange(len(self.rows))
        return stored

    def batches(self, batch_tokens: int, call_tokens: int) -> list[list[int]]:
        """Transcripts that are run together: a function of the lengths and of the two numbers alone.

        Of all ways to cut the sorted transcripts into runs of at most `batch_tokens` tokens with padding (or of one
        transcript), the cheapest, where a batch costs its tokens with padding, and `call_tokens` more.
        """
        lengths = np.asarray([len(self.ids[index]) for index in self.order])
        starts = _cuts(lengths, batch_tokens, call_tokens)
        stops = [*starts[1:], len(lengths)]
        return [self.order[start:stop] for start, stop in zip(starts, stops, strict=True)]


def call_tokens(device: str) -> int:
    """What a forward pass costs beside its tokens, in tokens: measured on a CPU, reckoned for an accelerator."""
    return 64 if device == "cpu" else 512


def _cuts(lengths: Int[np.ndarray, " transcript"], batch_tokens: int, call_tokens: int) -> list[int]:
    """Where batches start: the shortest path over the transcripts, the longest of which come first."""
    count = len(lengths)
    cost, came_from, first = np.zeros(count + 1), np.zeros(count + 1, np.int64), 0
    for stop in range(1, count + 1):
        while first < stop - 1 and (stop - first) * lengths[first] > batch_tokens:
            first += 1
        ways = cost[first:stop] + call_tokens + lengths[first:stop] * np.arange(stop - first, 0, -1)
        came_from[stop] = first + ways.argmin()
        cost[stop] = ways.min()
    starts, stop = [], count
    while stop:
        stop = int(came_from[stop])
        starts.append(stop)
    return starts[::-1]


def estimate(
    model: Model,
    transcripts: Sequence[Transcript],
    sites: Sequence[Site],
    rule: PositionRule,
    *,
    dtype: Storage = "float32",
) -> Cost:
    """The cost of `collect`, from rendering alone; raises what `collect` would raise before the model runs."""
    plan = make_plan(model, transcripts, sites, rule)
    row_bytes = len(sites) * model.d_model * DTYPES[dtype].itemsize
    return Cost(len(transcripts), plan.tokens, len(plan.rows), len(plan.rows) * row_bytes)


def make_plan(model: Model, transcripts: Sequence[Transcript], sites: Sequence[Site], rule: PositionRule) -> Plan:
    """The plan of a collection.

    Raises:
        SiteError: the model lacks a site.
        TranscriptError: naming all that share an id, hold no such position, or are too long for the model.
    """
    for site in sites:
        model.check_site(site)
    if not transcripts:
        raise TranscriptError("reading activations", "no transcripts", "give at least one")
    seen: set[str] = set()
    repeated = [transcript.id in seen or seen.add(transcript.id) is not None for transcript in transcripts]
    _refuse(transcripts, repeated, "repeat an id", "give every transcript its own id")
    ids: list[Any] = []
    positions: list[Any] = []
    columns: list[Any] = []
    codes: dict[str, int] = {"": 0}
    for index, transcript in enumerate(transcripts):
        tokens = render(transcript, model.tokenizer)
        ids.append(tokens.ids.astype(np.int32))
        positions.append(rule(tokens).astype(np.int32))
        columns.append(_columns(index, tokens, positions[-1], rule.pooled, codes))
    _refuse(
        transcripts,
        [not len(found) for found in positions],
        f"have no {rule.text!r}",
        "choose another position rule, or leave these transcripts out",
    )
    room = model.max_tokens
    _refuse(
        transcripts,
        [room is not None and len(text) > room for text in ids],
        f"are longer than the {room} tokens that {model.name} holds",
        "shorten them, or leave them out",
    )
    return Plan(tuple(sites), rule, ids, positions, RowTable(*np.concatenate(columns, axis=1), names=tuple(codes)))


def _columns(
    index: int, tokens: Tokens, positions: Int[np.ndarray, " pos"], pooled: bool, codes: dict[str, int]
) -> Int[np.ndarray, "column row"]:
    """The row table of one transcript; new names are added to `codes`."""
    named = []
    for kind in ("role", "segment"):
        code = np.zeros(len(tokens), np.int32)
        for span in tokens.spans:
            if span.kind == kind:
                code[span.start : span.stop] = codes.setdefault(span.name, len(codes))
        named.append(code[positions])
    if pooled and len(positions):
        named = [code[:1] * (code == code[0]).all() for code in named]
        return np.stack([[index], positions[:1], [len(positions)], *named]).astype(np.int32)
    ones = np.ones_like(positions)
    return np.stack([ones * index, positions, ones, *named]).astype(np.int32)


def _refuse(transcripts: Sequence[Transcript], bad: Sequence[bool], fault: str, do: str) -> None:
    named = [transcript.id for transcript, is_bad in zip(transcripts, bad, strict=True) if is_bad]
    if named:
        more = f" and {len(named) - 5} more" if len(named) > 5 else ""
        found = f"{len(named)} of {len(bad)} transcripts {fault}: {', '.join(named[:5])}{more}"
        raise TranscriptError("reading activations", found, do)
