"""Which rows run together, and which of them share the encoding of a prompt."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from transformers.cache_utils import DynamicCache

from interp.edits import Edit, Placed, place
from interp.errors import EditError, ExperimentError
from interp.generation.decoding import Reply, Rows, write
from interp.generation.rollouts import BASELINE, Condition, Rollout, Sampling
from interp.models import Model, pad
from interp.sites import Site
from interp.store import fingerprint
from interp.tokens import Tokens, render
from interp.transcripts import Transcript


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
        ExperimentError: two prompts or two conditions share a name, or a reply would not fit.
    """
    sampling = sampling or Sampling()
    _refuse_repeats("prompt", [prompt.id for prompt in prompts])
    _refuse_repeats("condition", [condition.name for condition in conditions])
    late = [c.name for c in conditions if c.edits and not c.prompt_edits and sampling.max_new_tokens < 2]
    if late:
        raise EditError(
            f"condition {', '.join(late)}",
            "with one new token, its edits are never applied",
            "raise max_new_tokens, or edit the prompt too",
        )
    rendered = [render(prompt, model.tokenizer, generation_prompt=True) for prompt in prompts]
    _refuse_long(model, prompts, rendered, sampling)
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


def _refuse_long(model: Model, prompts: Sequence[Transcript], rendered: Sequence[Tokens], sampling: Sampling) -> None:
    room = model.max_tokens
    if room is None:
        return
    long = [p.id for p, tokens in zip(prompts, rendered, strict=True) if len(tokens) + sampling.max_new_tokens > room]
    if long:
        raise ExperimentError(
            f"generating {sampling.max_new_tokens} tokens",
            f"{len(long)} of {len(prompts)} prompts leave no room for them in {room} tokens: {', '.join(long[:5])}",
            "shorten the prompts, lower max_new_tokens, or take another model",
        )


def _refuse_repeats(noun: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExperimentError(
            "generating rollouts", f"{noun} {', '.join(twice)} more than once", f"give every {noun} a name of its own"
        )


def _rollout(
    model: Model, prompt: Transcript, tokens: Tokens, condition: Condition, plan: _Plan, reply: Reply
) -> Rollout:
    could_apply = len(reply.ids) > 1 or condition.prompt_edits
    if condition.edits and could_apply and not reply.in_scope:
        raise EditError(
            f"condition {condition.name} on prompt {prompt.id}",
            "its edits were never applied",
            "check their scope and their sites",
        )
    spoken = reply.ids[:-1] if reply.stopped else reply.ids
    ids = tuple(int(i) for i in (*tokens.ids, *reply.ids))
    transcript = prompt.with_reply(
        model.tokenizer.decode(spoken),
        token_ids=ids,
        prompt_tokens=len(tokens),
        id=f"{prompt.id}|{condition.name}|{plan.sample}",
    )
    return Rollout(
        transcript, prompt.id, condition.name, plan.sample, plan.seed, not reply.stopped, reply.in_scope, reply.changed
    )


@torch.inference_mode()
def _decode(
    model: Model,
    rendered: Sequence[Tokens],
    conditions: Sequence[Condition],
    plans: Sequence[_Plan],
    sampling: Sampling,
    residual_norms: Mapping[Site, float] | None,
) -> list[Reply]:
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
    state = Rows.start(
        batch.to(model.device),
        cache,
        row_prefix.to(model.device),
        sampling.max_new_tokens,
        placed([conditions[plan.condition].edits for plan in plans]),
    )
    state.count(encoded.in_scope[state.prefix], encoded.changed[state.prefix])
    noise = np.stack(
        [np.random.Generator(np.random.Philox(plan.seed)).random(sampling.max_new_tokens) for plan in plans]
    )
    write(model, state, encoded.logits[:, -1][state.prefix], torch.from_numpy(noise), sampling)
    return state.replies()


def _prefixes(
    conditions: Sequence[Condition], plans: Sequence[_Plan]
) -> tuple[list[tuple[int, int | None]], Int[Tensor, " row"]]:
    """The distinct (prompt, condition) encodings that the rows need, and each row's; condition None is unedited."""
    keys = [(plan.prompt, plan.condition if conditions[plan.condition].prompt_edits else None) for plan in plans]
    prefixes = list(dict.fromkeys(keys))
    number = {key: index for index, key in enumerate(prefixes)}
    return prefixes, torch.tensor([number[key] for key in keys])
