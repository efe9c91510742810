"""A model whose residual stream can be read and edited.

The Hugging Face model stays plain and fast. A copy of its module tree that shares every weight (the twin) is bridged by
TransformerLens, and one forward hook on each block of the plain model passes the residual stream through the bridge's
own `HookPoint` for that block. Names, registration and semantics are TransformerLens's, the speed is Hugging Face's.
Sites inside attention or the MLP exist on the twin only; then the twin runs.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from inspect import signature
from typing import Any, Literal, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp.directions import ModelIdentity
from interp.edits import Gate, Placed, RowEdits
from interp.errors import ModelError, SiteError
from interp.models.batch import Batch
from interp.sites import STREAMS, Site
from interp.store import fingerprint
from interp.tokens import adds_bos

FAST_STREAMS = ("resid_pre", "resid_post")
Keep = tuple[Int[Tensor, " row"], Int[Tensor, " row"]] | Callable[[Site, Tensor], Tensor]
"""Which rows of a site are kept, or what is made of its activations."""
_SAMPLED = 16
"""How many values of each parameter enter a model's fingerprint."""


@dataclass(frozen=True, eq=False)
class Run:
    """What one forward pass gave."""

    captured: dict[Site, Tensor]
    """Copies of the residual stream, after all edits: (batch, pos, d_model), or (row, d_model) where rows were kept."""
    logits: Float[Tensor, "batch pos vocab"] | None
    in_scope: Int[Tensor, " batch"]
    """How often each row's edits were applied, summed over tokens and sites."""
    changed: Int[Tensor, " batch"]
    """How often they changed anything: fewer under a cap, a floor or a condition, none at strength 0."""


class _Stop(Exception):  # noqa: N818 - not an error: the layers that were asked for have run
    """Ends a forward pass after the last wanted layer."""


@dataclass(frozen=True, eq=False, repr=False)
class _Hook:
    """What is done at a hook point. TransformerLens asks for its repr; that of a `partial` would print every tensor."""

    act: Callable[[Any, Tensor], Tensor | None]
    on: Any

    def __call__(self, acts: Tensor, hook: object) -> Tensor | None:
        return self.act(self.on, acts)


@dataclass
class _Pass:
    """The hooks of one forward pass, and what they gather."""

    batch: Batch
    edits: Placed
    keep: Keep | None
    captured: dict[Site, Tensor] = field(default_factory=dict)
    in_scope: Tensor = field(init=False)
    changed: Tensor = field(init=False)
    open: dict[Gate, Tensor] = field(default_factory=dict)
    """Where each condition holds, read at its own site."""

    def __post_init__(self) -> None:
        self.in_scope = torch.zeros(len(self.batch.ids), dtype=torch.int64, device=self.batch.ids.device)
        self.changed = self.in_scope.clone()

    def _edit(self, layers: tuple[RowEdits, ...], acts: Tensor) -> Tensor:
        """The activations under the edits of one site, in order."""
        for row in layers:
            where = row.where(self.batch.positions, self.batch.prompt_tokens, self.batch.real)
            fires = where.to(acts.device)
            if row.gate is not None:
                fires = fires & self.open[row.gate].to(acts.device)
            acts, changed = row.move.apply(acts, fires)
            self.in_scope = self.in_scope + where.sum(1)
            self.changed = self.changed + changed.sum(1).to(where.device)
        return acts

    def kept(self, site: Site, acts: Tensor) -> Tensor:
        """What is kept of the activations at a site: never a view of them."""
        if callable(self.keep):
            return self.keep(site, acts)
        return acts.clone() if self.keep is None else acts[tuple(index.to(acts.device) for index in self.keep)]

    @property
    def gates(self) -> list[Gate]:
        """The conditions of all edits."""
        return [row.gate for layers in self.edits.values() for row in layers if row.gate is not None]

    def hooks(self, sites: Sequence[Site]) -> list[tuple[str, Any]]:
        """TransformerLens hooks: conditions are read first, then come edits, and captures see what those left."""
        return [
            *((gate.site.hook_name, _Hook(self._read, gate)) for gate in self.gates),
            *((site.hook_name, _Hook(self._edit, self.edits[site])) for site in self.edits),
            *((site.hook_name, _Hook(self._capture, site)) for site in sites),
        ]

    def _read(self, gate: Gate, acts: Tensor) -> None:
        self.open[gate] = gate.passes(acts)

    def _capture(self, site: Site, acts: Tensor) -> None:
        self.captured[site] = self.kept(site, acts)


class Model:
    """A causal language model whose residual stream can be read and edited at named sites."""

    def __init__(self, hf: nn.Module, tokenizer: Any, *, name: str) -> None:
        self.hf: Any = hf.eval()
        self.tokenizer: Any = tokenizer
        self.name = name
        config = self.hf.config.get_text_config()
        self.n_layers: int = config.num_hidden_layers
        self.d_model: int = config.hidden_size

    def __repr__(self) -> str:
        return f"Model({self.name!r}, {self.n_layers} blocks of {self.d_model}, {self.dtype} on {self.device})"

    @property
    def device(self) -> torch.device:
        """Where token ids go."""
        return self.hf.get_input_embeddings().weight.device

    @property
    def dtype(self) -> str:
        """Of the parameters: `float32`, `bfloat16` or `float16`."""
        return str(next(self.hf.parameters()).dtype).removeprefix("torch.")

    @cached_property
    def quantized(self) -> str | None:
        """`4bit`, `8bit` or another method's name where the weights are quantized, else None."""
        config = getattr(self.hf.config, "quantization_config", None)
        if config is None:
            return None
        bits = [f"{n}bit" for n in (4, 8) if getattr(config, f"load_in_{n}bit", False)]
        return bits[0] if bits else str(getattr(config, "quant_method", "quantized"))

    @cached_property
    def bridge(self) -> Any:
        """The TransformerLens bridge over the twin, for everything that this package does not do.

        It shares every weight with the plain model and never touches it. Its tokenizer is the model's own, which adds
        no second BOS.
        """
        from transformer_lens.model_bridge.sources import build_bridge_from_module

        twin = copy.deepcopy(self.hf, {id(tensor): tensor for tensor in _tensors(self.hf)})
        architecture = type(self.hf).__name__
        try:
            bridge = build_bridge_from_module(twin, architecture, hf_config=self.hf.config, model_name=self.name)
        except Exception as error:  # whatever an adapter raises, the sentence below is what helps
            raise ModelError(
                f"hooking {self.name}",
                f"TransformerLens cannot bridge {architecture} ({error})",
                "choose an architecture from transformer_lens's list of supported models",
            ) from error
        bridge.tokenizer = self.tokenizer
        return bridge

    @cached_property
    def identity(self) -> ModelIdentity:
        """What directions and activations of this model are bound to."""
        template = self.tokenizer.chat_template
        return ModelIdentity(
            self.name,
            _weights_fingerprint(self.hf),
            self.dtype if self.quantized is None else f"{self.dtype} in {self.quantized}",
            fingerprint(_spelling(self.tokenizer)),
            fingerprint(template) if template else "none",
            "once" if adds_bos(self.tokenizer) else "none",
        )

    @cached_property
    def stop_ids(self) -> tuple[int, ...]:
        """Every id that ends a reply: the generation settings', the tokenizer's, and the template's end of turn."""
        configured = self.hf.generation_config.eos_token_id
        stops = set(configured if isinstance(configured, list) else [configured])
        stops |= {self.tokenizer.eos_token_id, _end_of_turn(self.tokenizer)}
        return tuple(sorted(stop for stop in stops if stop is not None))

    @property
    def max_tokens(self) -> int | None:
        """The longest text that the model holds; None where its configuration does not say."""
        return getattr(self.hf.config.get_text_config(), "max_position_embeddings", None)

    @cached_property
    def n_tokens(self) -> int:
        """How many ids the tokenizer knows; a model may have more embeddings, which stand for nothing."""
        return max(self.tokenizer.get_vocab().values()) + 1

    def all_sites(self) -> tuple[Site, ...]:
        """The output of every block."""
        return tuple(Site(layer) for layer in range(self.n_layers))

    def check_site(self, site: Site) -> None:
        """Raise unless the model has the site.

        Raises:
            SiteError: naming the sites that there are.
        """
        if site.layer >= self.n_layers:
            raise SiteError(
                f"site {site}",
                f"{self.name} has blocks 0 to {self.n_layers - 1}",
                "choose one of those; -1 is the last",
            )
        if site.hook_name not in self._points:
            there = [s for s in STREAMS if Site(site.layer, s).hook_name in self._points]
            raise SiteError(f"site {site}", f"{self.name} has no such stream", f"choose one of {', '.join(there)}")

    @torch.no_grad()
    def run(
        self,
        batch: Batch,
        *,
        sites: Sequence[Site] = (),
        edits: Placed | None = None,
        cache: Any = None,
        logits: Literal["none", "last", "all"] = "none",
        keep: Keep | None = None,
    ) -> Run:
        """One forward pass with captures and edits.

        With `keep`, a pair of (text, column) indices, only those rows of every site are kept; or, where it is a
        function of a site and its activations, what that returns, which must be no view. Without logits and without a
        cache the pass ends after the last wanted layer and never computes the unembedding. `cache` is a Hugging Face
        cache, extended in place.

        Guarantees (tests): captured values equal TransformerLens's and Hugging Face's; a text gives the same alone, in
        any batch, padded on either side, and packed; edits under a cache equal one pass over the whole text.

        Raises:
            SiteError: the model lacks a site.
        """
        batch = batch.to(self.device)
        run = _Pass(batch, edits or {}, keep)
        touched = [*sites, *run.edits, *(gate.site for gate in run.gates)]
        for site in touched:
            self.check_site(site)
        fast = all(site.stream in FAST_STREAMS for site in touched)
        stop_after = max((s.layer for s in touched), default=None) if logits == "none" and cache is None else None
        net = self.hf if fast else self.bridge.original_model
        with self._hooked(run.hooks(sites), touched if fast else (), stop_after if fast else None):
            out = _forward(net, batch, cache, logits)
        return Run(run.captured, out, run.in_scope, run.changed)

    @contextmanager
    def _hooked(self, hooks: list[tuple[str, Any]], relayed: Sequence[Site], stop_after: int | None) -> Iterator[None]:
        """Hooks on the bridge, and relays from the plain model's blocks to it; all gone afterwards."""
        with ExitStack() as stack:
            for name, hook in hooks:
                stack.callback(_attach(self._points[name], hook))
            for site in set(relayed):
                stack.callback(self._relay(site).remove)
            if stop_after is not None:
                stack.callback(self._blocks[stop_after].register_forward_hook(_raise_stop).remove)
            yield

    @cached_property
    def _points(self) -> dict[str, Any]:
        """TransformerLens's hook points by name, looked up once: the bridge builds this dictionary at every request."""
        return self.bridge.hook_dict

    @cached_property
    def _blocks(self) -> nn.ModuleList:
        path = self.bridge.adapter.component_mapping["blocks"].name
        return cast(nn.ModuleList, self.hf.get_submodule(path))

    def _relay(self, site: Site) -> Any:
        """Pass the plain block's residual stream through the bridge's own hook point for it."""
        block, points = self._blocks[site.layer], self.bridge.blocks[site.layer]
        if site.stream == "resid_pre":
            return block.register_forward_pre_hook(lambda _, args: (points.hook_in(args[0]), *args[1:]))
        return block.register_forward_hook(partial(_through, points.hook_out))


def _raise_stop(*_: object) -> None:
    raise _Stop


def _through(point: Any, _: nn.Module, __: Any, out: Any) -> Any:
    """A block's output, its residual stream passed through a hook point."""
    return (point(out[0]), *out[1:]) if isinstance(out, tuple) else point(out)


def _attach(point: Any, hook: Any) -> Callable[[], None]:
    """Register a hook with TransformerLens's hook point, as the bridge would; returns what takes it away again."""
    return partial(_detach, point, point.add_hook(hook))


def _detach(point: Any, handle: Any) -> None:
    handle.hook.remove()
    point.fwd_hooks.remove(handle)


def _tensors(hf: nn.Module) -> Iterator[Tensor]:
    """Every tensor that a twin shares: parameters, buffers, and what 8-bit layers keep beside them."""
    yield from hf.parameters()
    yield from hf.buffers()
    layers: Iterator[Any] = hf.modules()
    for module in layers:
        state = getattr(module, "state", None)  # of a bitsandbytes layer, which fills it at its first pass
        if state is not None and hasattr(module, "init_8bit_state"):
            if module.weight.CB is not None:
                module.init_8bit_state()
            yield from (value for value in vars(state).values() if isinstance(value, Tensor))


def _forward(net: Any, batch: Batch, cache: Any, logits: str) -> Tensor | None:
    """The logits that were asked for; the body alone where none were."""
    inputs = {
        "input_ids": batch.ids,
        "position_ids": batch.positions,
        "attention_mask": batch.attention,
        "use_cache": cache is not None,
    }
    if cache is not None:
        inputs[_cache_name(net)] = cache
    try:
        if logits == "none":
            net.base_model(**inputs)
            return None
        return net(**inputs, logits_to_keep=1 if logits == "last" else 0).logits
    except _Stop:
        return None


def _cache_name(net: Any) -> str:
    """What this architecture calls its cache: transformers renames it, release by release."""
    return "cache" if "cache" in signature(net.forward).parameters else "past_key_values"


def _weights_fingerprint(hf: Any) -> str:
    """Fingerprint of the configuration and of some values of every parameter; ignores dtype, path and device."""
    config = hf.config.to_diff_dict()
    for volatile in ("_name_or_path", "dtype", "transformers_version", "architectures", "torch_dtype", "use_cache"):
        config.pop(volatile, None)
    sampled = {
        name: [list(p.shape), p.detach().flatten()[:: max(1, p.numel() // _SAMPLED)].float().cpu().numpy()]
        for name, p in hf.named_parameters()
    }
    return fingerprint({"config": config, "parameters": sampled})


def _spelling(tokenizer: Any) -> Any:
    """Everything that decides how text becomes ids."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return tokenizer.get_vocab() if backend is None else backend.to_str()


def _end_of_turn(tokenizer: Any) -> int | None:
    """The special token that the chat template writes after an assistant's turn, if it writes one."""
    if not tokenizer.chat_template:
        return None
    mark = "\ue000"
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark}]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False))
    after = tokenizer(text.partition(mark)[2].strip(), add_special_tokens=False)["input_ids"]
    return (
        after[0] if after and after[0] in set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder) else None
    )
