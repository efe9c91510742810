"""Activations on disk are those of each transcript alone, whatever the batch, the kill or the dtype."""

import os
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from interp.activations import Activations, collect, estimate, identity, plan, shards, stream
from interp.errors import SiteError, StoreError, TranscriptError
from interp.models import Model, pad
from interp.sites import Site
from interp.store import Workspace
from interp.testing import FAMILIES, small_transcripts
from interp.tokens import PositionRule, render
from interp.transcripts import Message, Transcript

ALL = PositionRule.parse("all")
CLOSE = 1e-5


def ragged(n: int = 7) -> list[Transcript]:
    """Chats and plain texts of very different lengths, not in order of length."""
    words = "the deadline was near and nobody would hear the appeal so she wrote to Kyle about lunch"
    texts = [
        Transcript(f"text:{i}", (Message("text", words[: 9 + 31 * i % 80]),), f"topic:{i % 3}", label="x")
        for i in range(n)
    ]
    return [*texts, *small_transcripts()]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Shards so small that a tiny corpus fills many of them."""
    monkeypatch.setattr(shards, "SHARD_ROWS", 64)
    yield 64


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("family", "rule"),
    [(family, "all") for family in sorted(FAMILIES)] + [("gpt2", "mean:from:2"), ("gemma3", "last")],
)
def test_rows_equal_each_transcript_run_alone(
    tiny: dict[str, Model], family: str, rule: str, workspace: Workspace, small_shards: int
) -> None:
    model, texts, sites = tiny[family], ragged(), [Site(0), Site(2)]
    acts = collect(model, texts, sites, PositionRule.parse(rule), workspace=workspace, batch_tokens=200)
    for index, transcript in enumerate(texts):
        tokens = render(transcript, model.tokenizer)
        alone = model.run(pad([tokens.ids]), sites=sites).captured
        mine = np.flatnonzero(acts.rows.transcript == index)
        for site in sites:
            whole = alone[site][0]
            wanted = {"all": whole, "mean:from:2": whole[2:].mean(0, keepdim=True), "last": whole[-1:]}[rule]
            got = acts.read(site, int(mine[0]), int(mine[-1]) + 1)
            assert got.shape == wanted.shape
            assert (got - wanted).abs().max() < CLOSE * whole.abs().max()
    far = (acts[Site(0)][0] - acts[Site(0)][-1]).abs().max()
    assert far > 100 * CLOSE * acts[Site(0)].abs().max(), "control: rows of other transcripts do differ"


def test_no_later_block_runs_and_no_unembedding(llama: Model, workspace: Workspace) -> None:
    ran: list[str] = []
    named = {"lm_head": llama.hf.lm_head, **{f"block {i}": block for i, block in enumerate(llama.hf.model.layers)}}
    hooks = [m.register_forward_hook(lambda *_, name=name: ran.append(name)) for name, m in named.items()]
    try:
        collect(llama, ragged(), [Site(0), Site(1)], ALL, workspace=workspace)
        assert set(ran) == {"block 0", "block 1"}
        llama.run(pad([render(ragged()[0], llama.tokenizer).ids]), logits="last")
        assert set(ran) == set(named), "control: what is counted can run"
    finally:
        for hook in hooks:
            hook.remove()


def test_rows_say_what_they_are(llama: Model, workspace: Workspace) -> None:
    texts = small_transcripts()
    acts = collect(llama, texts, [Site(0)], ALL, workspace=workspace)
    tokens = render(texts[1], llama.tokenizer)
    mine = acts.rows.transcript == 1
    assert acts.rows.position[mine].tolist() == list(range(len(tokens)))
    for span in tokens.spans:
        named = acts.rows.role if span.kind == "role" else acts.rows.segment
        assert set(named[mine][span.start : span.stop]) == {span.name}
    assert acts.rows.role[mine][0] == "", "a BOS belongs to no message"
    assert acts.groups == [texts[index].group for index in acts.rows.transcript]
    assert [(entry.id, entry.group) for entry in acts.transcripts] == [(t.id, t.group) for t in texts]


def test_pooled_rows_count_their_tokens(llama: Model, workspace: Workspace) -> None:
    acts = collect(llama, ragged(), [Site(0)], PositionRule.parse("mean:all"), workspace=workspace)
    assert acts.rows.tokens.tolist() == [len(render(t, llama.tokenizer)) for t in ragged()]
    last = collect(llama, ragged(), [Site(0)], PositionRule.parse("last"), workspace=workspace)
    assert set(last.rows.tokens.tolist()) == {1}


def cost(lengths: list[int], stops: list[int], call_tokens: int) -> int:
    """Tokens with padding, and the price of the calls, of batches that end at `stops`; the longest text comes first."""
    return sum(call_tokens + lengths[i] * (j - i) for i, j in zip([0, *stops[:-1]], stops, strict=True))


@pytest.mark.parametrize("seed", range(8))
def test_batches_are_the_cheapest_of_all_that_the_budget_allows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = sorted(rng.integers(1, 60, size=9).tolist(), reverse=True)
    budget, call = int(rng.integers(20, 200)), int(rng.integers(0, 40))
    found = [*plan._cuts(np.asarray(lengths), budget, call), len(lengths)][1:]
    every = [[*cuts, 9] for size in range(9) for cuts in combinations(range(1, 9), size)]

    def fits(stops: list[int]) -> bool:
        spans = zip([0, *stops[:-1]], stops, strict=True)
        return all(j - i == 1 or lengths[i] * (j - i) <= budget for i, j in spans)

    assert fits(found)
    assert cost(lengths, found, call) == min(cost(lengths, stops, call) for stops in every if fits(stops))


def test_little_of_a_mixed_corpus_is_padding() -> None:
    """Random batches and greedy ones are the control: the corpus is one on which batches matter."""
    rng = np.random.default_rng(0)
    lengths = np.sort(np.clip(np.exp(rng.normal(4.4, 0.65, 192)), 8, 365).astype(int))[::-1]

    def waste(order: np.ndarray, starts: list[int]) -> float:
        parts = np.split(order, starts[1:])
        return sum(len(part) * part.max() for part in parts) / order.sum() - 1

    assert waste(lengths, plan._cuts(lengths, 8192, plan.call_tokens("cpu"))) < 0.06
    assert waste(lengths, plan._cuts(lengths, 8192, 0)) == pytest.approx(0.0), "calls for nothing: no padding at all"
    assert waste(lengths, plan._cuts(lengths, 8192, 10**6)) > 0.2, "control: as few calls as the budget allows"
    assert waste(rng.permutation(lengths), list(range(0, 192, 16))) > 1.0, "control: batches at random"


def test_the_second_call_does_not_run_the_model(
    llama: Model, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = collect(llama, ragged(), [Site(1)], ALL, workspace=workspace)
    monkeypatch.setattr(Model, "run", lambda *_, **__: pytest.fail("the model ran"))
    again = collect(llama, ragged(), [Site(1)], ALL, workspace=workspace, batch_tokens=99)
    assert torch.equal(first[Site(1)], again[Site(1)])
    with pytest.raises(BaseException, match="the model ran"):
        collect(llama, ragged(3), [Site(1)], ALL, workspace=workspace)


def test_identity_is_content_and_not_circumstance(tiny: dict[str, Model]) -> None:
    model, texts = tiny["llama"], ragged()
    base = identity(model, texts, [Site(0)], ALL)
    renamed = Model(model.hf, model.tokenizer, name="another name")
    assert identity(renamed, texts, [Site(0)], ALL) == base
    relabelled = [*texts[:-1], Transcript(texts[-1].id, texts[-1].messages, texts[-1].group, label="y")]
    others = [
        identity(tiny["qwen3"], texts, [Site(0)], ALL),
        identity(model, texts[::-1], [Site(0)], ALL),
        identity(model, relabelled, [Site(0)], ALL),
        identity(model, texts, [Site(1)], ALL),
        identity(model, texts, [Site(0)], PositionRule.parse("last")),
        identity(model, texts, [Site(0)], ALL, "bfloat16"),
    ]
    assert len({base, *others}) == 7


class Killed(Exception):  # noqa: N818
    pass


def killer(after: int) -> Any:
    calls = iter(range(10**6))

    def on_progress(done: int, total: int) -> None:
        if next(calls) == after:
            raise Killed

    return on_progress


@pytest.mark.parametrize("after", [0, 2, 4])
def test_killed_and_resumed_equals_uninterrupted(llama: Model, tmp_path: Path, small_shards: int, after: int) -> None:
    (one, two) = (Workspace(tmp_path / name) for name in ("one", "two"))
    options: dict[str, Any] = {"batch_tokens": 150}
    whole = collect(llama, ragged(), llama.all_sites(), ALL, workspace=one, **options)
    with pytest.raises(Killed):
        collect(llama, ragged(), llama.all_sites(), ALL, workspace=two, on_progress=killer(after), **options)
    folder = two.activations / whole.fingerprint
    with pytest.raises(StoreError, match="never finished"):
        Activations.open(folder)
    done = sorted(folder.glob("*/*.safetensors"), key=lambda path: (path.name, path.parent))
    assert 3 <= len(done) <= len(list(whole.folder.glob("*/*.safetensors"))), "finished shards are kept"
    debris = folder / "L0.resid_post" / ".00009.safetensors.abcd1234.tmp"
    debris.write_bytes(b"torn")
    done[-1].unlink()  # killed between the renames of two sites
    stamps = {path: path.stat().st_mtime_ns for path in done[:-3]}
    collect(llama, ragged(), llama.all_sites(), ALL, workspace=two, **options)
    assert contents(folder) == contents(whole.folder)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items()), "finished shards are not redone"


def test_two_that_want_one_set_at_once_make_it_once(llama: Model, tmp_path: Path, small_shards: int) -> None:
    (one, two) = (Workspace(tmp_path / name) for name in ("one", "two"))
    whole = collect(llama, ragged(), llama.all_sites(), ALL, workspace=one, batch_tokens=150)
    told: list[str] = []
    found: list[Activations] = []

    def ask(name: str, on_progress: Callable[[int, int], None] | None = None) -> None:
        tell = on_progress or (lambda *_: told.append(name))
        found.append(
            collect(llama, ragged(), llama.all_sites(), ALL, workspace=two, batch_tokens=150, on_progress=tell)
        )

    other = Thread(target=ask, args=("other",))

    def start_other(*_: int) -> None:
        if not told:
            other.start()
            other.join(0.3)
            assert other.is_alive(), "it waits"
        told.append("first")

    ask("first", start_other)
    other.join()
    assert set(told) == {"first"} and len(found) == 2, "the other read what the first had made"
    assert contents(found[1].folder) == contents(whole.folder)


def test_a_damaged_set_is_refused(llama: Model, workspace: Workspace) -> None:
    acts = collect(llama, ragged(), [Site(0)], ALL, workspace=workspace)
    shard = next(acts.folder.glob("*/*.safetensors"))
    os.truncate(shard, shard.stat().st_size - 4)
    with pytest.raises(StoreError, match="00000.safetensors has"):
        collect(llama, ragged(), [Site(0)], ALL, workspace=workspace)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_every_dtype_comes_back_bit_for_bit(llama: Model, workspace: Workspace, small_shards: int, dtype: Any) -> None:
    exact = collect(llama, ragged(), [Site(1)], ALL, workspace=workspace)
    acts = collect(llama, ragged(), [Site(1)], ALL, workspace=workspace, dtype=dtype)
    assert acts[Site(1)].dtype == getattr(torch, dtype)
    assert torch.equal(acts[Site(1)], exact[Site(1)].to(getattr(torch, dtype)))
    assert len(list(acts.folder.glob("*/*.safetensors"))) > 1
    with safe_open(acts.folder / "L1.resid_post" / "00000.safetensors", framework="pt") as file:
        stored = file.get_tensor("acts")
    first = np.argsort(acts.stored)[:small_shards]
    assert torch.equal(stored, acts[Site(1)][first]), "any safetensors reader gives the same"


def test_float16_overflow_is_an_error_that_names_the_site(llama: Model, workspace: Workspace) -> None:
    loud = {Site(1): torch.full((4, 32), 7e4)}
    (workspace.root / "set").mkdir()
    for dtype in ("bfloat16", "float32"):
        with shards.ShardWriter(workspace.root / "set", [Site(1)], 9, 32, dtype) as writer:
            writer.add(loud)
    with (
        pytest.raises(StoreError, match=r"L1.resid_post as float16: 128 values overflow.*bfloat16 or float32"),
        shards.ShardWriter(workspace.root / "set", [Site(1)], 9, 32, "float16") as writer,
    ):
        writer.add(loud)
    with (
        pytest.raises(StoreError, match="the model itself gives NaN"),
        shards.ShardWriter(workspace.root / "set", [Site(1)], 9, 32, "float32") as writer,
    ):
        writer.add({Site(1): torch.full((4, 32), torch.nan)})
    assert not list(workspace.root.rglob("*.tmp")) and not list(workspace.root.rglob("*.safetensors"))


def test_reading_one_site_opens_its_files_alone(
    llama: Model, workspace: Workspace, small_shards: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    acts = collect(llama, ragged(), llama.all_sites(), ALL, workspace=workspace)
    opened: list[Path] = []
    mapped = shards._map
    monkeypatch.setattr(shards, "_map", lambda path, dtype: opened.append(path) or mapped(path, dtype))
    acts.read(Site(1))
    assert {path.parent.name for path in opened} == {"L1.resid_post"} and len(opened) > 2
    opened.clear()
    assert acts.read(Site(2), 3, 5).shape == (2, 32)
    assert len(opened) == 1, "two neighbouring rows need one shard"


def test_streaming_gives_the_rows_of_the_set(llama: Model, workspace: Workspace) -> None:
    acts = collect(llama, ragged(), [Site(1)], ALL, workspace=workspace, batch_tokens=200)
    parts = list(stream(llama, ragged(), [Site(1)], ALL, batch_tokens=200))
    assert len(parts) > 2
    on_disk = acts[Site(1)][np.argsort(acts.stored)]
    assert torch.equal(torch.cat([part.acts[Site(1)] for part in parts]), on_disk)


def test_the_estimate_is_what_is_spent(llama: Model, workspace: Workspace) -> None:
    sites, done = llama.all_sites(), []
    cost = estimate(llama, ragged(), sites, ALL, dtype="bfloat16")
    acts = collect(
        llama,
        ragged(),
        sites,
        ALL,
        workspace=workspace,
        dtype="bfloat16",
        on_progress=lambda *counts: done.append(counts),
    )
    assert cost.transcripts == len(ragged()) and cost.rows == len(acts.rows) == cost.tokens
    assert done[-1] == (cost.tokens, cost.tokens)
    tensors = sum(acts[site].numel() * 2 for site in sites)
    assert cost.bytes == tensors


def test_whatever_has_no_such_position_is_named(llama: Model, workspace: Workspace) -> None:
    rule = PositionRule.parse("scratchpad")
    with pytest.raises(TranscriptError, match="3 of 6 transcripts have no 'scratchpad': text:0, text:1, text:2"):
        collect(llama, ragged(3), [Site(0)], rule, workspace=workspace)
    long = Transcript("long", (Message("text", "no " * 600),), "g")
    with pytest.raises(TranscriptError, match="1 of 4 transcripts are longer than the 512 tokens .*: long"):
        collect(llama, [*small_transcripts(), long], [Site(0)], ALL, workspace=workspace)
    with pytest.raises(TranscriptError, match="repeat an id: small:1"):
        estimate(llama, [*small_transcripts(), small_transcripts()[0]], [Site(0)], ALL)
    with pytest.raises(SiteError):
        estimate(llama, small_transcripts(), [Site(7)], ALL)
    assert not list(workspace.root.rglob("*")), "nothing is written before all is known to work"
