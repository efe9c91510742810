"""Finished texts read again under an edit: what it does to the prediction of calm text, and what its own replies score.

Every text is read alone, one condition at a time, so that an edit that changes nothing gives the same numbers to the
last bit. Readings are kept under a hash of all that they depend on: a pass that was stopped goes on where it was.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.directions import Direction
from interp.edits import Edit, Placed, lacks, place
from interp.generation import Condition, Rollout
from interp.models import Batch, Model, pad
from interp.sites import Site
from interp.store import Rows, fingerprint
from interp.tokens import Tokens, render
from interp.transcripts import Transcript

KEPT = "side_effects.jsonl"
"""The file of a run folder in which readings are kept."""
_CHUNK = 64
"""Positions of which the distributions are held in float64 at once."""
Progress = Callable[[int, int], None]
"""Called with what is done and with the total."""


@dataclass(frozen=True)
class TextCost:
    """One benign text under one condition, in nats a token over the tokens that were predicted."""

    condition: str
    text: str
    group: str
    tokens: int
    """Predicted tokens; 0 where the text lacks the part that the condition edits."""
    unedited: float | None
    """The loss of the unedited model on the same tokens."""
    loss: float | None
    """Mean negative log likelihood of the text's own tokens; None without tokens, or where it is not finite."""
    kl: float | None
    """Mean KL divergence of the edited next-token distribution from the unedited one."""


@dataclass(frozen=True)
class ReplyScores:
    """How one reply scores along each direction, read under the edits that it was written with."""

    key: tuple[str, str, int]
    group: str
    scores: Mapping[str, float | None]
    """Mean score over the generated tokens but the last, by the direction's key; None without such a token."""


@dataclass
class _Kept:
    """Readings on disk by the hash of what they depend on; without a folder they are kept nowhere."""

    rows: Rows | None
    found: dict[str, dict[str, Any]]

    @classmethod
    def of(cls, folder: Path | None) -> "_Kept":
        rows = Rows(folder / KEPT) if folder else None
        return cls(rows, {row["key"]: row for row in rows.read()} if rows else {})

    def get(self, key: str, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was kept under a key, or what `read` finds, which is then kept."""
        if key not in self.found:
            self.found[key] = {"key": key} | read()
            if self.rows:
                self.rows.append(self.found[key])
        return self.found[key]


def benign_costs(
    model: Model,
    conditions: Sequence[Condition],
    benign: Sequence[Transcript],
    *,
    residual_norms: Mapping[Site, float] | None = None,
    folder: Path | None = None,
    on_progress: Progress | None = None,
) -> list[TextCost]:
    """Loss and KL divergence of every benign text under every condition, text by text.

    Over the positions after the first at which a token of the text follows; where all edits have the scope `generated`,
    from the assistant's first token on, which counts as generated: the positions of `equal_kl.text_kl`, whose value is
    the KLs' mean weighted with tokens (test). Without edits, and at strength 0, the KL is 0 exactly.
    """
    kept, costs, total = _Kept.of(folder), list[TextCost](), len(benign) * len(conditions)
    for transcript in benign:
        tokens = render(transcript, model.tokenizer)
        unedited = cache(partial(_logits, model, tokens, (), residual_norms))
        for condition in conditions:
            told = _named(model, condition, tokens, residual_norms) | {"asks": "loss"}
            read = partial(_cost, model, condition, tokens, residual_norms, unedited)
            found = kept.get(fingerprint(told), read)
            read_off = {name: found[name] for name in ("tokens", "unedited", "loss", "kl")}
            costs.append(TextCost(condition.name, transcript.id, transcript.group, **read_off))
            if on_progress is not None:
                on_progress(len(costs), total)
    return costs


def reply_scores(
    model: Model,
    conditions: Sequence[Condition],
    rollouts: Sequence[Rollout],
    directions: Sequence[Direction],
    *,
    residual_norms: Mapping[Site, float] | None = None,
    folder: Path | None = None,
    on_progress: Progress | None = None,
) -> list[ReplyScores]:
    """The scores of rollouts, each read once more under its own condition; those of other conditions are left out.

    A score is the direction's own: in z after `activations.scale.calibrate`. Under an edit at or before a direction's
    site the edit's own push is in the score. Guarantee (test): it equals the scores taken while the reply was written.
    """
    kept = _Kept.of(folder)
    by_name = {condition.name: condition for condition in conditions}
    wanted = [rollout for rollout in rollouts if rollout.condition in by_name]
    read_with = fingerprint([[d.key, *_told(d)] for d in directions])
    found = []
    for done, rollout in enumerate(wanted, start=1):
        tokens, condition = render(rollout.transcript, model.tokenizer), by_name[rollout.condition]
        told = _named(model, condition, tokens, residual_norms) | {"asks": "scores", "directions": read_with}
        row = kept.get(fingerprint(told), partial(_scores, model, condition, tokens, directions, residual_norms))
        found.append(ReplyScores(rollout.key, rollout.transcript.group, row["scores"]))
        if on_progress is not None:
            on_progress(done, len(wanted))
    return found


def named(condition: Condition, norms: Mapping[Site, float] | None) -> dict[str, Any]:
    """All that a condition does, for a fingerprint; its name is no part of it."""
    sites = {str(site) for edit in condition.edits for site in edit.sites}
    edits = [
        [edit.to_dict(), *([*_told(d), d.meta.get("quantiles")] for d in _directions(edit))] for edit in condition.edits
    ]
    return {"edits": edits, "norms": {str(site): norm for site, norm in (norms or {}).items() if str(site) in sites}}


def _named(model: Model, condition: Condition, tokens: Tokens, norms: Mapping[Site, float] | None) -> dict[str, Any]:
    """All that a reading depends on."""
    text = {"model": model.identity, "ids": tokens.ids, "prompt": tokens.prompt_tokens}
    return named(condition, norms) | text


def _told(direction: Direction) -> list[Any]:
    return [direction.vector.cpu().numpy(), direction.offset, direction.scale]


def _directions(edit: Edit) -> list[Direction]:
    """Every direction that an edit reads or writes."""
    return [*edit.directions, *([edit.when.direction] if edit.when else [])]


def _cost(
    model: Model,
    condition: Condition,
    tokens: Tokens,
    norms: Mapping[Site, float] | None,
    unedited: Callable[[], Float[Tensor, "pos vocab"]],
) -> dict[str, Any]:
    spoken = min((span.start for span in tokens.named("assistant")), default=len(tokens))
    text, edits = replace(tokens, prompt_tokens=spoken), condition.edits
    first = max(1, spoken) if edits and not condition.prompt_edits else 1
    if first >= len(tokens) - 1 or any(lacks(edit.scope, text) for edit in edits):
        return {"tokens": 0, "unedited": None, "loss": None, "kl": None}
    at = slice(first, len(tokens) - 1)
    before = unedited()[at]
    after = _logits(model, text, edits, norms)[at] if edits else before
    follows = torch.from_numpy(tokens.ids[first + 1 :].copy()).to(before.device)
    sums = torch.zeros(3, dtype=torch.float64)
    for one, other, target in zip(*(part.split(_CHUNK) for part in (before, after, follows)), strict=True):
        p, q = torch.log_softmax(one.double(), -1), torch.log_softmax(other.double(), -1)
        losses = [-logs.gather(-1, target[:, None]).sum() for logs in (p, q)]
        sums += torch.stack([*losses, (p.exp() * (p - q)).sum()]).cpu()
    plain, loss, kl = (_finite(float(value) / len(follows)) for value in sums)
    return {"tokens": len(follows), "unedited": plain, "loss": loss, "kl": kl}


@torch.no_grad()
def _logits(
    model: Model, text: Tokens, edits: Sequence[Edit], norms: Mapping[Site, float] | None
) -> Float[Tensor, "pos vocab"]:
    run = model.run(_batch(text), edits=_placed(model, text, edits, norms), logits="all")
    assert run.logits is not None
    return run.logits[0]


@torch.no_grad()
def _scores(
    model: Model,
    condition: Condition,
    tokens: Tokens,
    directions: Sequence[Direction],
    norms: Mapping[Site, float] | None,
) -> dict[str, Any]:
    start, stop = tokens.prompt_tokens, len(tokens) - 1
    if start == len(tokens):  # the text came without the ids that it was generated with
        start = max((span.start for span in tokens.named("assistant")), default=len(tokens))
        tokens = replace(tokens, prompt_tokens=start)
    if start >= stop:
        return {"scores": {direction.key: None for direction in directions}}
    sites = sorted({direction.site for direction in directions})
    run = model.run(_batch(tokens), sites=sites, edits=_placed(model, tokens, condition.edits, norms))
    spoken = {site: run.captured[site][0, start:stop] for site in sites}
    return {"scores": {d.key: _finite(float(d.score(spoken[d.site]).double().mean())) for d in directions}}


def _batch(tokens: Tokens) -> Batch:
    return pad([tokens.ids], prompt_tokens=[tokens.prompt_tokens])


def _placed(model: Model, text: Tokens, edits: Sequence[Edit], norms: Mapping[Site, float] | None) -> Placed:
    scale = {"d_model": model.d_model, "device": model.device, "residual_norms": norms}
    return place([edits], **scale, texts=[text], tokenizer=model.tokenizer)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
