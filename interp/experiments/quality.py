"""How well replies hold together, whatever they do: form, length, repetition, and how likely they are unedited."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache

from interp.behaviour import Grader, Outcome, breakage
from interp.behaviour.coherence import distinct_words, is_silent, repetition
from interp.behaviour.grading import written
from interp.behaviour.rules import Sent
from interp.behaviour.stance import word_salad
from interp.generation import Rollout
from interp.models import Model, pad
from interp.stats import Contrast, Interval, Mean, Rate, mean_of, paired_contrast, paired_means, rate_of

WELL_FORMED = "well-formed"
RATES = ("coherent", "truncated", "silent")
MEANS = ("repetition", "distinct")
_AT_ONCE = 2048
"""Reply tokens of which the logits are held at once."""
_CHUNK = 64
"""Positions of which the distributions are held in float64 at once."""


def parsed(rollout: Rollout) -> Outcome:
    """A grader of form alone, for any agent that writes e-mail or calls tools: `well-formed`, or broken.

    `incoherent`: empty, in circles, word salad, or an action that the parser of the rules cannot read. It says nothing
    about what the reply does, and needs no scene.
    """
    everything = written(rollout)
    broken = breakage(everything, truncated=rollout.truncated)
    note = "empty, or in circles" if broken == "incoherent" else ""
    if broken is None and word_salad(everything):
        broken, note = "incoherent", "next to no word that a sentence needs"
    if broken is None and Sent.of(rollout, "").unread:
        broken, note = "incoherent", "an action that cannot be read"
    return Outcome(broken or WELL_FORMED, "parsed", note, (WELL_FORMED,))


def coherent(rollout: Rollout, outcome: Outcome) -> bool | None:
    """Whether a graded reply is whole and well-formed; None where it is ungraded.

    An ungraded reply is broken if its form alone says so (`parsed`): a grader that cannot read a broken action must not
    make it disappear.
    """
    return False if outcome.coherent is None and not parsed(rollout).coherent else outcome.coherent


@dataclass(frozen=True)
class Reply:
    """The measures of one reply."""

    coherent: bool | None
    truncated: bool
    silent: bool
    """No letter and no digit."""
    repetition: float | None
    distinct: float | None
    nll: float
    """Negative log-likelihood under the unedited model, in nats a token, the stop token included."""
    group: str

    @classmethod
    def of(cls, rollout: Rollout, nll: float, grader: Grader) -> "Reply":
        """Measured on all that the model wrote."""
        text = written(rollout)
        fine = coherent(rollout, grader(rollout))
        measures = (fine, rollout.truncated, is_silent(text), repetition(text), distinct_words(text))
        return cls(*measures, nll, rollout.transcript.group)


@dataclass(frozen=True)
class Quality:
    """The measures of the replies under one condition, and their change from the baseline's."""

    n: int
    rates: Mapping[str, Rate]
    """`coherent`, `truncated`, `silent`."""
    means: Mapping[str, Mean]
    """`repetition`, `distinct`, and `perplexity`: the geometric mean over replies under the unedited model."""
    changes: Mapping[str, Contrast]
    """Of the rates and of the first two means, over the replies that share prompt and noise; empty for the baseline."""
    factor: Mean | None
    """The perplexity as a multiple of the baseline's, over the same pairs; None for the baseline."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        values = {name: asdict(rate) | {"value": rate.value} for name, rate in self.rates.items()}
        return asdict(self) | {"rates": values}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Quality":
        """What `to_dict` wrote."""
        rates = {name: _rebuilt(Rate, one) for name, one in row["rates"].items()}
        means = {name: _rebuilt(Mean, one) for name, one in row["means"].items()}
        changes = {name: _rebuilt(Contrast, one) for name, one in row["changes"].items()}
        factor = None if row["factor"] is None else _rebuilt(Mean, row["factor"])
        return cls(row["n"], rates, means, changes, factor)


def _rebuilt(kind: Any, row: Mapping[str, Any]) -> Any:
    known = {field.name: row[field.name] for field in fields(kind)}
    return kind(**known | {"interval": None if row["interval"] is None else Interval(**row["interval"])})


def quality(
    replies: Sequence[Reply], baseline: Sequence[Reply] | None = None, *, seed: int, level: float = 0.95
) -> Quality:
    """The measures of replies with their intervals: Wilson for rates, bootstrap over groups for means and changes.

    `baseline` holds the unedited replies to the same prompts under the same noise, in the same order; None where the
    replies are the baseline.
    """
    groups = [reply.group for reply in replies]
    how = {"seed": seed, "level": level}

    def column(which: Sequence[Reply], name: str) -> list[Any]:
        return [getattr(reply, name) for reply in which]

    rates = {name: rate_of(column(replies, name), level=level) for name in RATES}
    means = {name: mean_of(column(replies, name), groups, **how) for name in MEANS}
    means["perplexity"] = mean_of(column(replies, "nll"), groups, transform=np.exp, **how)
    if baseline is None:
        return Quality(len(replies), rates, means, {}, None)
    pairs = {name: (column(replies, name), column(baseline, name)) for name in (*RATES, *MEANS, "nll")}
    changes = {name: paired_contrast(*pairs[name], groups, **how) for name in RATES}
    changes |= {name: paired_means(*pairs[name], groups, **how) for name in MEANS}
    apart = [a - b for a, b in zip(*pairs["nll"], strict=True)]
    return Quality(len(replies), rates, means, changes, mean_of(apart, groups, transform=np.exp, **how))


@torch.no_grad()
def reply_nll(model: Model, rollouts: Sequence[Rollout]) -> list[float]:
    """Negative log-likelihood of each reply given its prompt under the unedited model, in nats a token.

    Over the tokens that were generated, the stop token included. All rollouts must answer one prompt, which is encoded
    once. Guarantee (test): equals one pass over each whole text, to rounding.
    """
    prompt = rollouts[0].transcript.prompt_tokens or 0
    ids = [np.asarray(rollout.transcript.token_ids, dtype=np.int64) for rollout in rollouts]
    assert all(np.array_equal(one[:prompt], ids[0][:prompt]) for one in ids), "rollouts of one prompt"
    cache = DynamicCache(config=model.hf.config)
    first = model.run(pad([ids[0][:prompt]]), cache=cache, logits="last").logits
    assert first is not None
    found: dict[int, float] = {}
    for chunk in _chunks([len(one) - prompt for one in ids]):
        replies = [ids[index][prompt:] for index in chunk]
        values = _nll(model, replies, first[:, -1], copy.deepcopy(cache), prompt)
        found |= dict(zip(chunk, values, strict=True))
    return [found[index] for index in range(len(rollouts))]


def _chunks(lengths: Sequence[int]) -> list[list[int]]:
    """Indices, shortest reply first, in chunks whose padded size stays within `_AT_ONCE` tokens."""
    found: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if not found or (len(found[-1]) + 1) * lengths[index] > _AT_ONCE:
            found.append([])
        found[-1].append(index)
    return found


def _nll(
    model: Model,
    replies: Sequence[Int[np.ndarray, " _"]],
    first: Float[Tensor, "1 vocab"],
    cache: Any,
    prompt: int,
) -> list[float]:
    """Of replies that follow one cached prompt; `first` are the logits of their first token."""
    opening = torch.log_softmax(first[0].double(), -1).cpu()
    total = torch.stack([-opening[int(reply[0])] for reply in replies])
    lengths = torch.tensor([len(reply) for reply in replies])
    if int(lengths.max()) > 1:
        batch = pad(replies)
        cache.batch_repeat_interleave(len(replies))
        logits = model.run(replace(batch, positions=batch.positions + prompt), cache=cache, logits="all").logits
        assert logits is not None
        drawn = batch.ids[:, 1:].to(logits.device)
        for start, part in enumerate(logits[:, :-1].split(_CHUNK, dim=1)):
            first_drawn = start * _CHUNK
            ids = drawn[:, first_drawn : first_drawn + _CHUNK, None]
            along = torch.log_softmax(part.double(), -1).gather(-1, ids)[..., 0].cpu()
            counted = torch.arange(first_drawn + 1, first_drawn + 1 + along.shape[1]) < lengths[:, None]
            total -= torch.where(counted, along, 0.0).sum(1)
    return (total / lengths).tolist()
