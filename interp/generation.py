"""Many prompts, conditions and rollouts in one batch, with a key-value cache that rollouts of one prompt share.

Each prompt is encoded once, or once per condition where the condition edits the prompt; its cache is copied to every
rollout. A rollout's sampling noise comes from its own seed, which depends on the prompt and on the rollout's number but
not on the condition: so conditions are compared in pairs, and a rollout does not depend on what else is in the batch.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from interp.edits import Edit, Placed, place
from interp.errors import EditError, ExperimentError
from interp.models import Batch, Model, pad
from interp.sites import Site
from interp.store import fingerprint
from interp.tokens import Tokens, render
from interp.transcripts import Transcript

_DEAD_SHARE = 0.125
"""Finished rows are dropped from the batch when they make up this share of it."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn; temperature 0 takes the likeliest."""

    max_new_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ExperimentError(f"sampling with {asdict(self)}", "a setting out of range",
                                  "give max_new_tokens >= 1, temperature >= 0 and 0 < top_p <= 1")


@dataclass(frozen=True, eq=False)
class Condition:
    """A named intervention; the baseline is the empty tuple of edits, through the same code."""

    name: str
    edits: tuple[Edit, ...] = ()

    @property
    def prompt_edits(self) -> tuple[Edit, ...]:
        """The edits that a prompt sees: none where only generated tokens are edited."""
        return self.edits if any(edit.reads_prompt for edit in self.edits) else ()


BASELINE = Condition("baseline")


@dataclass(frozen=True, eq=False)
class Rollout:
    """One generated reply, and how it came about."""

    transcript: Transcript
    """The prompt with its reply, and the ids that it was generated with."""
    prompt: str
    condition: str
    sample: int
    seed: int
    truncated: bool
    """Whether the reply was cut at `max_new_tokens`."""
    in_scope: int
    """How many times an edit was applied to a token of this rollout, its prompt included, over all sites."""
    changed: int
    """How many of those changed anything."""

    @property
    def reply(self) -> str:
        """What the model wrote."""
        return self.transcript.messages[-1].content

    @property
    def key(self) -> tuple[str, str, int]:
        """Prompt, condition and number: unique in a run."""
        return self.prompt, self.condition, self.sample

    def to_row(self) -> dict[str, Any]:
        """A JSON row for the run folder."""
        return {name: getattr(self, name) for name in _ROW} | {"transcript": self.transcript.to_dict()}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Rollout":
        """The rollout that `to_row` wrote."""
        return cls(Transcript.from_dict(row["transcript"]), *(row[name] for name in _ROW))


_ROW = ("prompt", "condition", "sample", "seed", "truncated", "in_scope", "changed")


class _Plan(NamedTuple):
    """One row to be generated."""

    prompt: int
    condition: int
    sample: int
    seed: int


def rollout_seed(seed: int, prompt: str, sample: int) -> int:
    """The seed of one rollout: the same under every condition."""
    return int(fingerprint([seed, prompt, sample])[:12], 16)


def generate(
    model: Model,
    prompts: Sequence[Transcript],
    conditions: Sequence[Condition] = (BASELINE,),
    *,
    samples: int = 1,
    seed: int = 0,
    sampling: Sampling | None = None,
    batch_rows: int = 256,
    residual_norms: Mapping[Site, float] | None = None,
    skip: Collection[tuple[str, str, int]] = (),
) -> Iterator[Rollout]:
    """Rollouts of every prompt under every condition, `samples` of each, as they are finished.

    `skip` holds the keys of rollouts that exist already. Guarantees (tests): one batch of many conditions gives the
    same tokens as one condition at a time; a reply under edits equals one teacher-forced pass under the same edits
    over the finished text; zero strength reproduces the baseline token for token; two runs with one seed are equal.

    Raises:
        EditError: an edit was never applied to a rollout that it was meant for. (A reply of one token is none:
            with scope `generated`, that token is drawn before the first edit.)
        ExperimentError: two prompts or two conditions share a name.
    """
    sampling = sampling or Sampling()
    _refuse_repeats("prompt", [prompt.id for prompt in prompts])
    _refuse_repeats("condition", [condition.name for condition in conditions])
    late = [c.name for c in conditions if c.edits and not c.prompt_edits and sampling.max_new_tokens < 2]
    if late:
        raise EditError(f"condition {', '.join(late)}", "with one new token, its edits are never applied",
                        "raise max_new_tokens, or edit the prompt too")
    rendered = [render(prompt, model.tokenizer, generation_prompt=True) for prompt in prompts]
    plans = [
        _Plan(p, c, sample, rollout_seed(seed, prompts[p].id, sample))
        for p in sorted(range(len(prompts)), key=lambda p: len(rendered[p]))
        for c in range(len(conditions))
        for sample in range(samples)
        if (prompts[p].id, conditions[c].name, sample) not in skip
    ]
    for chunk in (plans[start : start + batch_rows] for start in range(0, len(plans), batch_rows)):
        decoded = _decode(model, rendered, conditions, chunk, sampling, residual_norms)
        for plan, reply in zip(chunk, decoded, strict=True):
            yield _rollout(model, prompts[plan.prompt], rendered[plan.prompt], conditions[plan.condition], plan, reply)


def _refuse_repeats(noun: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExperimentError("generating rollouts", f"{noun} {', '.join(twice)} more than once",
                              f"give every {noun} a name of its own")


class _Reply(NamedTuple):
    ids: Int[np.ndarray, " new"]
    stopped: bool
    in_scope: int
    changed: int


def _rollout(model: Model, prompt: Transcript, tokens: Tokens, condition: Condition, plan: _Plan,
             reply: _Reply) -> Rollout:
    could_apply = len(reply.ids) > 1 or condition.prompt_edits
    if condition.edits and could_apply and not reply.in_scope:
        raise EditError(f"condition {condition.name} on prompt {prompt.id}", "its edits were never applied",
                        "check their scope and their sites")
    spoken = reply.ids[:-1] if reply.stopped else reply.ids
    ids = tuple(int(i) for i in (*tokens.ids, *reply.ids))
    transcript = prompt.with_reply(model.tokenizer.decode(spoken), token_ids=ids, prompt_tokens=len(tokens),
                                   id=f"{prompt.id}|{condition.name}|{plan.sample}")
    return Rollout(transcript, prompt.id, condition.name, plan.sample, plan.seed, not reply.stopped,
                   reply.in_scope, reply.changed)


@torch.inference_mode()
def _decode(model: Model, rendered: Sequence[Tokens], conditions: Sequence[Condition], plans: Sequence[_Plan],
            sampling: Sampling, residual_norms: Mapping[Site, float] | None) -> list[_Reply]:
    """The replies of one batch of rows."""
    prefixes, row_prefix = _prefixes(conditions, plans)
    texts = [rendered[prompt].ids for prompt, _ in prefixes]
    batch = pad(texts, side="left")

    def placed(edits: Sequence[Sequence[Edit]]) -> Placed:
        return place(edits, d_model=model.d_model, device=model.device, residual_norms=residual_norms)

    cache = DynamicCache(config=model.hf.config)
    prompt_edits = placed([() if c is None else conditions[c].prompt_edits for _, c in prefixes])
    encoded = model.run(batch, edits=prompt_edits, cache=cache, logits="last")
    assert encoded.logits is not None
    state = _Rows.start(batch.to(model.device), cache, row_prefix.to(model.device), sampling.max_new_tokens,
                        placed([conditions[plan.condition].edits for plan in plans]))
    state.count(encoded.in_scope[state.prefix], encoded.changed[state.prefix])
    noise = np.stack([np.random.Generator(np.random.Philox(plan.seed)).random(sampling.max_new_tokens)
                      for plan in plans])
    _loop(model, state, encoded.logits[:, -1][state.prefix], torch.from_numpy(noise), sampling)
    return state.replies()


def _prefixes(conditions: Sequence[Condition],
              plans: Sequence[_Plan]) -> tuple[list[tuple[int, int | None]], Int[Tensor, " row"]]:
    """The distinct (prompt, condition) encodings that the rows need, and each row's; condition None is unedited."""
    keys = [(plan.prompt, plan.condition if conditions[plan.condition].prompt_edits else None) for plan in plans]
    prefixes = list(dict.fromkeys(keys))
    number = {key: index for index, key in enumerate(prefixes)}
    return prefixes, torch.tensor([number[key] for key in keys])


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
class _Rows:
    """The rows of a batch while they are written; `alive` maps the rows still in the batch to all rows."""

    prefix: Int[Tensor, " row"]
    prompt_tokens: Int[Tensor, " row"]
    attention: Int[Tensor, "row all_pos"] | None
    cache: Any
    edits: Placed
    written: Int[Tensor, "row new"]
    lengths: Int[Tensor, " row"]
    stopped: Bool[Tensor, " row"]
    in_scope: Int[Tensor, " row"]
    changed: Int[Tensor, " row"]
    alive: Int[Tensor, " live"]

    @classmethod
    def start(cls, batch: Batch, cache: Any, prefix: Int[Tensor, " row"], room: int, edits: Placed) -> "_Rows":
        """Rows that have read their prompts: each gets a copy of its prefix's cache, with room to write."""
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
        return cls(prefix, batch.prompt_tokens[prefix], attention, cache, edits,
                   torch.zeros(n, room, dtype=torch.int64, device=device), zeros, zeros.bool(), zeros, zeros,
                   torch.arange(n, device=device))

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

    def replies(self) -> list[_Reply]:
        """What every row wrote."""
        written, lengths = self.written.cpu().numpy(), self.lengths.tolist()
        counts = zip(self.stopped.tolist(), self.in_scope.tolist(), self.changed.tolist(), strict=True)
        return [_Reply(written[row, : lengths[row]], *counted) for row, counted in enumerate(counts)]


def _loop(model: Model, rows: _Rows, logits: Float[Tensor, "row vocab"], noise: Float[Tensor, "row new"],
          sampling: Sampling) -> None:
    """Write tokens until every row has stopped or is full."""
    stops = torch.tensor(model.stop_ids, dtype=torch.int64, device=model.device)
    noise = noise.to(model.device)
    for step in range(sampling.max_new_tokens):
        drawn = draw(logits, noise[rows.alive, step], sampling)
        running = ~rows.stopped[rows.alive]
        rows.written[rows.alive[running], step] = drawn[running]
        rows.lengths[rows.alive[running]] += 1
        rows.stopped[rows.alive[running]] = torch.isin(drawn[running], stops)
        running = ~rows.stopped[rows.alive]
        if not running.any() or step + 1 == sampling.max_new_tokens:
            return
        if (~running).float().mean() > _DEAD_SHARE:
            index = running.nonzero()[:, 0]
            rows.keep(index)
            drawn, running = drawn[index], running[index]
        out = model.run(rows.next_batch(drawn, step, running), edits=rows.edits, cache=rows.cache, logits="last")
        assert out.logits is not None
        rows.count(out.in_scope, out.changed)
        logits = out.logits[:, -1]


def draw(logits: Float[Tensor, "row vocab"], noise: Float[Tensor, " row"], sampling: Sampling) -> Int[Tensor, " row"]:
    """One token id a row: the inverse of the cumulative distribution at the row's own noise in [0, 1)."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.float() / sampling.temperature, -1)
    if sampling.top_p < 1:
        probabilities = _nucleus(probabilities, sampling.top_p)
    cumulative = probabilities.double().cumsum(-1)
    level = noise.double()[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, level, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)


def _nucleus(probabilities: Float[Tensor, "row vocab"], top_p: float) -> Float[Tensor, "row vocab"]:
    """Keep the likeliest tokens that together reach `top_p` (Holtzman et al. 2019, section 3.1)."""
    ordered, index = probabilities.sort(dim=-1, descending=True)
    ordered = torch.where(ordered.cumsum(-1) - ordered < top_p, ordered, torch.zeros_like(ordered))
    return torch.zeros_like(probabilities).scatter(-1, index, ordered)


def residual_norms(model: Model, transcripts: Sequence[Transcript], sites: Sequence[Site], *,
                   batch_rows: int = 32) -> dict[Site, float]:
    """Median norm of the residual stream at each site over generated tokens, token 0 never among them.

    The unit of a strength given as a fraction of the residual norm. Where a transcript was not generated by a model,
    the assistant's tokens stand for the generated ones.

    Raises:
        ExperimentError: there is no such token.
    """
    norms: dict[Site, list[Tensor]] = {site: [] for site in sites}
    for start in range(0, len(transcripts), batch_rows):
        tokens = [render(transcript, model.tokenizer) for transcript in transcripts[start : start + batch_rows]]
        chosen = [(row, p) for row, text in enumerate(tokens) for p in _spoken(text) if p > 0]
        if chosen:
            index = torch.tensor(chosen, device=model.device).T
            run = model.run(pad([text.ids for text in tokens]), sites=sites, keep=(index[0], index[1]))
            for site in sites:
                norms[site].append(run.captured[site].float().norm(dim=-1).cpu())
    if not all(norms.values()):
        raise ExperimentError("measuring residual norms", "no generated or assistant token",
                              "give transcripts in which the assistant speaks")
    return {site: float(torch.cat(found).median()) for site, found in norms.items()}


def _spoken(tokens: Tokens) -> range | list[int]:
    if tokens.prompt_tokens < len(tokens):
        return range(tokens.prompt_tokens, len(tokens))
    return [p for span in tokens.named("assistant") for p in range(span.start, span.stop)]
