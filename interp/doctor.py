"""Proves that a model is wired right before anything is believed about it.

The checks are the design's first four theorems, run on the model itself with two short conversations, and what a user
must know about its template. Each failing check says what to do.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.directions import Direction
from interp.edits import Edit, place
from interp.errors import InterpError
from interp.generation import BASELINE, Condition, Sampling, generate
from interp.models import Batch, Model, pad
from interp.sites import Site
from interp.tokens import Tokens, render
from interp.transcripts import Message, Transcript

TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
"""Largest accepted difference, relative to the largest value at the site, between two ways to compute the same."""
_NEW_TOKENS = 8


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    check: str
    ok: bool
    detail: str
    do: str = ""
    """What to do where it is not in order."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def examine(model: Model) -> list[Check]:
    """Every check, in order; a check that cannot run has failed, and says why.

    Looks at the template, BOS, stop ids and site shapes, and runs four theorems: captured values equal
    TransformerLens's and Hugging Face's; a text gives the same alone, padded and packed; a reply under an edit equals
    one teacher-forced pass; zero strength is the baseline, +v then -v restores, and ablation leaves the offset.
    """
    examined = []
    for name, check in _CHECKS.items():
        try:
            examined.append(check(model, name))
        except InterpError as error:
            examined.append(Check(name, False, f"{error.asked}: {error.found}", error.do))
    return examined


def sound(checks: list[Check]) -> bool:
    """Whether all is in order."""
    return all(check.ok for check in checks)


def _conversations() -> list[Transcript]:
    user = "Please reply to Ada."
    longer = "Please reply to Ada and Kyle before noon, and say what you think of the plan."
    reply = Message("assistant", "Of course: the plan is good.")
    return [Transcript(f"doctor:{text[-5:]}", (Message("user", text), reply), "doctor") for text in (user, longer)]


def _rendered(model: Model) -> list[Tokens]:
    return [render(conversation, model.tokenizer) for conversation in _conversations()]


def _template(model: Model, name: str) -> Check:
    tokens = _rendered(model)[0]
    pieces = [model.tokenizer.decode([i]) for i in tokens.ids.tolist()]
    (spoken,) = tokens.named("assistant")
    said = "".join(tokens.piece(i) for i in range(spoken.start, spoken.stop))
    detail = f"{len(tokens)} tokens; first {pieces[:6]}, last {pieces[-6:]}; the assistant's span holds {said!r}"
    ok = said.strip() == "Of course: the plan is good."
    return Check(name, ok, detail, "" if ok else "the template changes what the assistant says: give a plain one")


def _bos(model: Model, name: str) -> Check:
    bos = model.tokenizer.bos_token_id
    counts = [int((tokens.ids == bos).sum()) if bos is not None else 0 for tokens in _rendered(model)]
    policy = model.identity.bos
    expected = 1 if policy == "once" else max(counts)
    ok = max(counts) <= 1 and all(count == expected for count in counts)
    return Check(
        name,
        ok,
        f"{counts[0]} BOS in a conversation (token {model.tokenizer.bos_token!r}; the tokenizer "
        f"adds {'one' if policy == 'once' else 'none'} to a plain text)",
        "" if ok else "the template and the tokenizer both add a BOS, or neither does: mend the template",
    )


def _stops(model: Model, name: str) -> Check:
    named = {i: model.tokenizer.decode([i]) for i in model.stop_ids}
    return Check(
        name, bool(named), f"replies end at {named}", "" if named else "set eos_token_id in generation_config.json"
    )


def _sites(model: Model, name: str) -> Check:
    run = model.run(_batch(model), sites=model.all_sites())
    shapes = {tuple(acts.shape[1:]) for acts in run.captured.values()}
    finite = all(bool(torch.isfinite(acts).all()) for acts in run.captured.values())
    width = _batch(model).ids.shape[1]
    ok = shapes == {(width, model.d_model)} and finite
    first, last = (_typical_norm(run.captured[site]) for site in (Site(0), Site(model.n_layers - 1)))
    return Check(
        name,
        ok,
        f"{model.n_layers} blocks of width {model.d_model} in {model.dtype}; the residual norm "
        f"grows from {first:.3g} after the first to {last:.3g} after the last",
        "" if ok else "activations are not finite or of another shape: load the model in float32",
    )


def _parity(model: Model, name: str) -> Check:
    ids = torch.from_numpy(_rendered(model)[1].ids)[None].to(model.device)
    captured = model.run(pad([_rendered(model)[1].ids]), sites=model.all_sites()).captured
    names = [site.hook_name for site in model.all_sites()]
    with torch.no_grad():
        _, cache = model.bridge.run_with_cache(ids, names_filter=names)
        hidden = model.hf(ids, output_hidden_states=True).hidden_states
    lens = max(_gap(captured[site], cache[site.hook_name]) for site in model.all_sites())
    face = max([_gap(captured[Site(i)], hidden[i + 1]) for i in range(model.n_layers - 1)], default=0.0)
    return _close(
        model,
        name,
        max(lens, face),
        f"captured values against TransformerLens {lens:.1e}, against Hugging Face {face:.1e}",
    )


def _padding(model: Model, name: str) -> Check:
    texts = [tokens.ids for tokens in _rendered(model)]
    last = Site(model.n_layers - 1)
    alone = [model.run(pad([ids]), sites=[last]).captured[last][0] for ids in texts]
    worst = 0.0
    for side in ("left", "right"):
        batch = pad(texts, side=side)
        together = model.run(batch, sites=[last]).captured[last]
        rows = [together[row][batch.real[row].to(together.device)] for row in range(len(texts))]
        worst = max(worst, *(_gap(row, one) for row, one in zip(rows, alone, strict=True)))
    packed = _gap(model.run(_packed(texts), sites=[last]).captured[last][0], torch.cat(alone))
    detail = f"a text alone against the same text padded on either side {worst:.1e}, and packed {packed:.1e}"
    return _close(model, name, max(worst, packed), detail)


def _packed(texts: list[np.ndarray]) -> Batch:
    """Several texts in one row: positions start again at each, which is how Hugging Face tells them apart."""
    ids = torch.from_numpy(np.concatenate(texts))[None]
    positions = torch.cat([torch.arange(len(text)) for text in texts])[None]
    return Batch(ids, positions, torch.ones_like(ids).bool(), torch.tensor([ids.numel()]), None)


def _forcing(model: Model, name: str) -> Check:
    """A greedy reply under an edit, against one pass over the finished text."""
    edit = _push(model)
    sampling = Sampling(max_new_tokens=_NEW_TOKENS, temperature=0.0)
    prompts = [Transcript(c.id, c.messages[:-1], c.group) for c in _conversations()]
    agreed, n, fired = 0, 0, True
    for rollout in generate(model, prompts, [Condition("push", (edit,))], sampling=sampling):
        tokens = render(rollout.transcript, model.tokenizer)
        batch = pad([tokens.ids], prompt_tokens=[tokens.prompt_tokens])
        run = model.run(batch, edits=place([(edit,)], d_model=model.d_model, device=model.device), logits="all")
        assert run.logits is not None
        forced = run.logits[0, tokens.prompt_tokens - 1 : -1]
        written = torch.from_numpy(tokens.ids[tokens.prompt_tokens :]).to(forced.device)
        chosen = forced.gather(-1, written[:, None])[:, 0]
        near = forced.max(-1).values - chosen <= TOLERANCE[model.dtype] * forced.abs().max()
        agreed, n = agreed + int(near.sum()), n + len(written)
        fired = fired and rollout.in_scope == len(tokens) - 1
    ok = agreed == n and fired
    return Check(
        name,
        ok,
        f"{agreed} of {n} tokens generated under an edit are those of one teacher-forced pass; the "
        f"edit fired {'once' if fired else 'not once'} a token",
        "" if ok else "the cache changes what an edit does: report the architecture, and do not steer it",
    )


def _zero(model: Model, name: str) -> Check:
    zero = Condition("zero", (Edit.of("add", _push(model).direction, 0.0),))
    prompts = [Transcript(c.id, c.messages[:-1], c.group) for c in _conversations()]
    sampling = Sampling(max_new_tokens=_NEW_TOKENS)
    found = {r.key: r.transcript.token_ids for r in generate(model, prompts, [BASELINE, zero], sampling=sampling)}
    same = [found[p.id, "baseline", 0] == found[p.id, "zero", 0] for p in prompts]
    batch = _batch(model)
    acts = model.run(batch, sites=[Site(0)]).captured[Site(0)]
    there_and_back = (_push(model), Edit.of("add", _push(model).direction, -_push(model).strength.value))
    restored = model.run(
        batch, sites=[Site(0)], edits=place([there_and_back] * 2, d_model=model.d_model, device=model.device)
    )
    back = _gap(restored.captured[Site(0)], acts)
    left = _left_by_ablation(model, batch)
    ok = all(same) and max(back, left) <= TOLERANCE[model.dtype]
    return Check(
        name,
        ok,
        f"{sum(same)} of {len(same)} replies at strength 0 equal the baseline's token for token; "
        f"adding and taking away leaves {back:.1e}; a mean ablation misses its offset by {left:.1e}",
        "" if ok else "the model is not deterministic: switch off dropout and non-deterministic kernels",
    )


def _left_by_ablation(model: Model, batch: Batch) -> float:
    """How far projections are from the offset after a mean ablation, relative to the residual norm."""
    direction = replace(_push(model).direction, offset=0.5)
    edits = place([[Edit.of("mean_ablate", direction, 1.0)]] * 2, d_model=model.d_model, device=model.device)
    acts = model.run(batch, sites=[Site(0)], edits=edits).captured[Site(0)]
    return float((direction.project(acts) - 0.5).abs().max()) / float(acts.float().norm(dim=-1).max())


def _push(model: Model) -> Edit:
    """A visible addition after the first block: half of the residual norm there, along a random direction."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(model.d_model, generator=generator)
    direction = Direction("doctor", vector / vector.norm(), Site(0))
    norm = _typical_norm(model.run(_batch(model), sites=[Site(0)]).captured[Site(0)])
    return Edit.of("add", direction, norm / 2)


def _typical_norm(acts: Tensor) -> float:
    return float(acts[:, 1:].float().norm(dim=-1).median())


def _batch(model: Model) -> Batch:
    """The two conversations, cut to one length."""
    texts = [tokens.ids for tokens in _rendered(model)]
    return pad([text[: min(map(len, texts))] for text in texts])


def _gap(one: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((one.float() - other.float()).abs().max() / other.float().abs().max())


def _close(model: Model, name: str, worst: float, detail: str) -> Check:
    limit = TOLERANCE[model.dtype]
    ok = bool(np.isfinite(worst)) and worst <= limit
    return Check(
        name,
        ok,
        f"{detail} (relative; at most {limit:g} in {model.dtype})",
        "" if ok else "load the model in float32; if it still differs, do not use this architecture",
    )


_CHECKS: dict[str, Callable[[Model, str], Check]] = {
    "template": _template,
    "BOS once": _bos,
    "stop ids": _stops,
    "site shapes": _sites,
    "parity": _parity,
    "padding and packing": _padding,
    "generated = teacher-forced": _forcing,
    "zero strength = baseline": _zero,
}


def lines(checks: list[Check]) -> Iterator[str]:
    """The checks as plain text, one a line, failing ones with what to do."""
    for check in checks:
        yield f"{'ok  ' if check.ok else 'FAIL'}  {check.check}: {check.detail}"
        if not check.ok:
            yield f"      {check.do}"
