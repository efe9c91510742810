"""From transcripts to activations: run in batches of like length, kept at the sites and positions asked for."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.numpy import save
from torch import Tensor

from interp.activations import shards
from interp.activations.plan import Plan, RowTable, call_tokens, make_plan
from interp.activations.sets import FORMAT, Activations, Entry
from interp.activations.shards import ShardWriter, Storage
from interp.models import Model, pad
from interp.sites import Site
from interp.store import Workspace, fingerprint, only_writer, seal, write_bytes, write_json
from interp.store.files import is_temporary
from interp.tokens import PositionRule
from interp.transcripts import Transcript

OnProgress = Callable[[int, int], None]
"""Called after every batch with tokens done and tokens in all."""


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of one batch."""

    transcripts: tuple[int, ...]
    """Indices of the transcripts in it."""
    counts: tuple[int, ...]
    """Rows of each."""
    acts: dict[Site, Float[Tensor, "row d_model"]]
    first_row: int
    """Rows in the batches before."""
    tokens_done: int
    tokens: int
    """Of all batches."""


def collect(
    model: Model,
    transcripts: Sequence[Transcript],
    sites: Sequence[Site],
    rule: PositionRule,
    *,
    workspace: Workspace,
    dtype: Storage = "float32",
    batch_tokens: int = 8192,
    on_progress: OnProgress | None = None,
) -> Activations:
    """The activations of every transcript at `sites`, at the positions that `rule` finds.

    The set is named by its content (model, transcripts, sites, rule, dtype; not the batch size), so that a second
    call reads the disk and does not run the model. Transcripts of like length share a batch, which has at most
    `batch_tokens` tokens with padding, or one transcript. Memory holds one batch, and of every transcript its ids and
    positions. Means are taken in float32. Processes that ask for one set at once make it once: the others wait.

    Guarantees (tests): rows equal those of each transcript run alone, to rounding; a collection that was killed
    and resumed equals an uninterrupted one byte for byte; what a reader finds is whole.

    Raises:
        SiteError: the model lacks a site.
        TranscriptError: naming every transcript that has no such position, or that the model cannot hold.
        StoreError: a value does not fit `dtype`; the message names the site.
    """
    folder = workspace.activations / identity(model, transcripts, sites, rule, dtype)
    if not (folder / "manifest.json").is_file():
        plan = make_plan(model, transcripts, sites, rule)
        with only_writer(folder):  # which may have waited for another process that made the same set
            if not (folder / "manifest.json").is_file():
                _write(folder, model, transcripts, plan, dtype, batch_tokens, on_progress)
    return Activations.open(folder)


def stream(
    model: Model,
    transcripts: Sequence[Transcript],
    sites: Sequence[Site],
    rule: PositionRule,
    *,
    batch_tokens: int = 8192,
) -> Iterator[Part]:
    """What `collect` would write, batch by batch, kept nowhere: for sums over more tokens than a disk should hold."""
    return _run(model, make_plan(model, transcripts, sites, rule), batch_tokens)


def identity(
    model: Model,
    transcripts: Sequence[Transcript],
    sites: Sequence[Site],
    rule: PositionRule,
    dtype: Storage = "float32",
) -> str:
    """The fingerprint that names a set; the model's name and the batch size do not count."""
    named = asdict(model.identity)
    named.pop("name")
    return fingerprint(
        {
            "format": FORMAT,
            "model": named,
            "transcripts": [fingerprint(transcript.to_dict()) for transcript in transcripts],
            "sites": [str(site) for site in sites],
            "rule": rule.text,
            "dtype": dtype,
        }
    )


def _write(
    folder: Path,
    model: Model,
    transcripts: Sequence[Transcript],
    plan: Plan,
    dtype: Storage,
    batch_tokens: int,
    on_progress: OnProgress | None,
) -> None:
    """Go on from what a killed writer left, to the end."""
    for debris in [path for path in folder.rglob("*") if is_temporary(path)]:
        debris.unlink()
    _write_index(folder, model, transcripts, plan, dtype, batch_tokens)
    with ShardWriter(folder, plan.sites, len(plan.rows), model.d_model, dtype) as writer:
        for part in _run(model, plan, batch_tokens, from_row=writer.row):
            new = max(0, writer.row - part.first_row)
            writer.add({site: acts[new:] for site, acts in part.acts.items()})
            if on_progress is not None:
                on_progress(part.tokens_done, part.tokens)
    seal(folder)


def _run(model: Model, plan: Plan, batch_tokens: int, *, from_row: int = 0) -> Iterator[Part]:
    """The batches that hold any row from `from_row` on."""
    rows = tokens = 0
    for batch in plan.batches(batch_tokens, call_tokens(model.device.type)):
        counts = tuple(int(plan.counts[index]) for index in batch)
        tokens += sum(len(plan.ids[index]) for index in batch)
        if rows + sum(counts) > from_row:
            yield Part(tuple(batch), counts, _capture(model, plan, batch), rows, tokens, plan.tokens)
        rows += sum(counts)


def _capture(model: Model, plan: Plan, batch: Sequence[int]) -> dict[Site, Tensor]:
    """The kept rows of one batch; pooled inside the pass, so that it never holds more than one layer of tokens."""
    positions = [plan.positions[index] for index in batch]
    lengths = [len(found) for found in positions]
    texts = torch.from_numpy(np.repeat(np.arange(len(batch)), lengths)).to(model.device)
    columns = torch.from_numpy(np.concatenate(positions).astype(np.int64)).to(model.device)

    def pooled(_: Site, acts: Tensor) -> Tensor:
        rows = acts[texts.to(acts.device), columns.to(acts.device)]
        return torch.stack([part.float().mean(0) for part in rows.split(lengths)])

    padded = pad([plan.ids[index].astype(np.int64) for index in batch])
    return model.run(padded, sites=plan.sites, keep=pooled if plan.rule.pooled else (texts, columns)).captured


def _write_index(
    folder: Path,
    model: Model,
    transcripts: Sequence[Transcript],
    plan: Plan,
    dtype: Storage,
    batch_tokens: int,
) -> None:
    """Write everything but the activations: the same bytes every time."""
    columns = {spec.name: getattr(plan.rows, spec.name) for spec in fields(RowTable) if spec.name != "names"}
    write_bytes(folder / "rows.safetensors", save(columns | {"stored": plan.stored}))
    entries = [asdict(Entry(t.id, t.group, t.label, t.meta)) for t in transcripts]
    write_bytes(folder / "transcripts.jsonl", *[json.dumps(entry).encode() + b"\n" for entry in entries])
    write_json(
        folder / "card.json",
        {
            "format": FORMAT,
            "model": model.identity,
            "sites": [str(site) for site in plan.sites],
            "rule": plan.rule.text,
            "dtype": dtype,
            "d_model": model.d_model,
            "rows": len(plan.rows),
            "shard_rows": shards.SHARD_ROWS,
            "batch_tokens": batch_tokens,
            "names": plan.rows.names,
        },
    )
