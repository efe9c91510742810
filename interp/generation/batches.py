"""Which rows run together, and which of them share the encoding of a prompt."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache

from interp.edits import place
from interp.errors import EditError, ExperimentError
from interp.generation.decoding import Reply, Rows, write
from interp.generation.reading import Reading
from interp.generation.rollouts import BASELINE, Condition, Request, Rollout, Sampling
from interp.generation.stops import cut
from interp.generation.window import room
from interp.models import Model, pad
from interp.sites import Site
from interp.store import fingerprint
from interp.tokens import Tokens, render
from interp.transcripts import Transcript


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
    _refuse_late(conditions, sampling)
    rendered = [render(prompt, model.tokenizer, generation_prompt=True) for prompt in prompts]
    _refuse_long(model, prompts, rendered, [sampling.max_new_tokens] * len(prompts))
    plans = [
        (p, Request(prompts[p], condition, sample, rollout_seed(seed, prompts[p].id, sample)))
        for p in sorted(range(len(prompts)), key=lambda p: len(rendered[p]))
        for condition in conditions
        for sample in range(samples)
        if (prompts[p].id, condition.name, sample) not in skip
    ]
    for chunk in (plans[start : start + batch_rows] for start in range(0, len(plans), batch_rows)):
        texts, requests = [rendered[p] for p, _ in chunk], [request for _, request in chunk]
        decoded = _decode(model, texts, requests, sampling, residual_norms)
        for tokens, request, reply in zip(texts, requests, decoded, strict=True):
            yield _rollout(model, tokens, request, reply, sampling)


def answer(
    model: Model,
    requests: Sequence[Request],
    *,
    sampling: Sampling,
    residual_norms: Mapping[Site, float] | None = None,
    beyond_window: bool = False,
) -> list[Rollout]:
    """The replies to any requests, in one batch: prompts, conditions, seeds and limits may all differ.

    Guarantee (test): a request gets the same tokens alone, in any batch, and from `generate` with the same seed.

    Raises:
        EditError: an edit was never applied to a reply that it was meant for.
        ExperimentError: a prompt leaves no room for its reply, and `beyond_window` is not set.
    """
    _refuse_late([request.condition for request in requests], sampling)
    found: dict[Transcript, Tokens] = {}
    for request in requests:
        if request.prompt not in found:
            found[request.prompt] = render(request.prompt, model.tokenizer, generation_prompt=True)
    texts = [found[request.prompt] for request in requests]
    if not beyond_window:
        limits = [_limit(request, sampling) for request in requests]
        _refuse_long(model, [request.prompt for request in requests], texts, limits)
    decoded = _decode(model, texts, requests, sampling, residual_norms)
    return [
        _rollout(model, tokens, request, reply, sampling)
        for tokens, request, reply in zip(texts, requests, decoded, strict=True)
    ]


def _limit(request: Request, sampling: Sampling) -> int:
    return sampling.max_new_tokens if request.limit is None else min(request.limit, sampling.max_new_tokens)


def _refuse_late(conditions: Sequence[Condition], sampling: Sampling) -> None:
    late = [c.name for c in conditions if c.edits and not c.prompt_edits and sampling.max_new_tokens < 2]
    if late:
        raise EditError(
            f"condition {', '.join(late)}",
            "with one new token, its edits are never applied",
            "raise max_new_tokens, or edit the prompt too",
        )


def _refuse_long(model: Model, prompts: Sequence[Transcript], texts: Sequence[Tokens], limits: Sequence[int]) -> None:
    rooms = [room(model, len(tokens)) for tokens in texts]
    long = [p.id for p, limit, left in zip(prompts, limits, rooms, strict=True) if left is not None and limit > left]
    if long:
        raise ExperimentError(
            f"generating {max(limits)} tokens",
            f"{len(long)} of {len(prompts)} prompts leave no room for them in {model.max_tokens} tokens: "
            + ", ".join(long[:5]),
            "shorten the prompts, lower max_new_tokens, or take another model",
        )


def _refuse_repeats(noun: str, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExperimentError(
            "generating rollouts", f"{noun} {', '.join(twice)} more than once", f"give every {noun} a name of its own"
        )


def _rollout(model: Model, tokens: Tokens, request: Request, reply: Reply, sampling: Sampling) -> Rollout:
    prompt, condition = request.prompt, request.condition
    certain = any(edit.certain for edit in condition.edits)
    could_apply = certain and (len(reply.ids) > 1 or condition.prompt_edits)
    if condition.edits and could_apply and not reply.in_scope:
        raise EditError(
            f"condition {condition.name} on prompt {prompt.id}",
            "its edits were never applied",
            "check their scope and their sites",
        )
    spoken = reply.ids[:-1] if reply.stopped and int(reply.ids[-1]) in model.stop_ids else reply.ids
    transcript = prompt.with_reply(
        cut(model.tokenizer.decode(spoken), sampling.stop),
        token_ids=tuple(int(i) for i in (*tokens.ids, *reply.ids)),
        prompt_tokens=len(tokens),
        id=f"{prompt.id}|{condition.name}|{request.sample}",
    )
    return Rollout(
        transcript,
        prompt.id,
        condition.name,
        request.sample,
        request.seed,
        not reply.stopped,
        reply.in_scope,
        reply.changed,
        reply.scores,
    )


@torch.inference_mode()
def _decode(
    model: Model,
    texts: Sequence[Tokens],
    requests: Sequence[Request],
    sampling: Sampling,
    residual_norms: Mapping[Site, float] | None,
) -> list[Reply]:
    """The replies of one batch of rows; `texts` holds each request's prompt."""
    prefixes, row_prefix = _prefixes(texts, requests)
    batch = pad([tokens.ids for tokens, _ in prefixes], side="left")
    scale = {"d_model": model.d_model, "device": model.device, "residual_norms": residual_norms}
    placed = partial(place, **scale, tokenizer=model.tokenizer)
    cache = DynamicCache(config=model.hf.config)
    prompt_edits = placed(
        [() if condition is None else condition.prompt_edits for _, condition in prefixes],
        texts=[tokens for tokens, _ in prefixes],
    )
    encoded = model.run(batch, edits=prompt_edits, cache=cache, logits="last")
    assert encoded.logits is not None
    limits = torch.tensor([_limit(request, sampling) for request in requests], device=model.device)
    longest = int(limits.max())
    state = Rows.start(
        batch.to(model.device),
        cache,
        row_prefix.to(model.device),
        limits,
        placed([request.condition.edits for request in requests], texts=texts, room=longest),
        Reading.start([request.reads for request in requests], model.d_model, longest, model.device),
    )
    state.count(encoded.in_scope[state.prefix], encoded.changed[state.prefix])
    write(model, state, encoded.logits[:, -1][state.prefix], _noise(requests, longest), sampling)
    return state.replies()


def _noise(requests: Sequence[Request], longest: int) -> Float[Tensor, "row new"]:
    """Each request's own noise; a longer draw begins with the shorter one."""
    draws = [np.random.Generator(np.random.Philox(request.seed)).random(longest) for request in requests]
    return torch.from_numpy(np.stack(draws))


def _prefixes(
    texts: Sequence[Tokens], requests: Sequence[Request]
) -> tuple[list[tuple[Tokens, Condition | None]], Int[Tensor, " row"]]:
    """The distinct (prompt, condition) encodings that the rows need, and each row's; condition None is unedited."""
    prefixes: dict[tuple[bytes, Condition | None], tuple[Tokens, Condition | None]] = {}
    keys = []
    for tokens, request in zip(texts, requests, strict=True):
        condition = request.condition if request.condition.prompt_edits else None
        keys.append((tokens.ids.tobytes(), condition))
        prefixes.setdefault(keys[-1], (tokens, condition))
    number = {key: index for index, key in enumerate(prefixes)}
    return list(prefixes.values()), torch.tensor([number[key] for key in keys])
