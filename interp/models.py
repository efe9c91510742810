"""The seam to TransformerLens and Hugging Face: load a model, run it, read and edit its residual stream.

The Hugging Face model stays plain and fast. A copy of its module tree that shares every weight (the twin) is bridged by
TransformerLens, and one forward hook on each block of the plain model passes the residual stream through the bridge's
own `HookPoint` for that block. Names, registration and semantics are TransformerLens's, the speed is Hugging Face's.
Sites inside attention or the MLP exist on the twin only; then the twin runs.
"""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from interp.directions import ModelIdentity
from interp.edits import Placed, RowEdits, shift
from interp.errors import ModelError, SiteError
from interp.organism import weights_folder
from interp.sites import STREAMS, Site
from interp.store import fingerprint
from interp.tokens import adds_bos

FAST_STREAMS = ("resid_pre", "resid_post")
_SAMPLED = 16
"""How many values of each parameter enter a model's fingerprint."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Token ids of several texts with everything that says where each token is."""

    ids: Int[Tensor, "batch pos"]
    positions: Int[Tensor, "batch pos"]
    """Absolute position of each token in its own text; what stands at padding is of no consequence."""
    real: Bool[Tensor, "batch pos"]
    """False at padding."""
    prompt_tokens: Int[Tensor, " batch"]
    """Tokens from this position on are generated ones; where nothing was generated, the text's length."""
    attention: Int[Tensor, "batch all_pos"] | None
    """Mask over cached and new tokens; None where nothing is padded, which is faster."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return replace(self, **moved)


def pad(
    texts: Sequence[Int[np.ndarray, " _"]],
    *,
    side: Literal["left", "right"] = "right",
    prompt_tokens: Sequence[int] | None = None,
) -> Batch:
    """A batch of texts of any lengths, padded on one side.

    The result for a text does not depend on the side or on the other texts (to rounding).
    """
    lengths = torch.tensor([len(text) for text in texts])
    columns = torch.arange(int(lengths.max()))
    start = (columns.numel() - lengths if side == "left" else torch.zeros_like(lengths))[:, None]
    positions = columns - start
    real = (positions >= 0) & (positions < lengths[:, None])
    ids = torch.zeros(real.shape, dtype=torch.int64)
    ids[real] = torch.from_numpy(np.concatenate(list(texts)))
    prompts = lengths if prompt_tokens is None else torch.tensor(list(prompt_tokens))
    return Batch(ids, positions.clamp(min=0), real, prompts, None if real.all() else real.long())


@dataclass(frozen=True, eq=False)
class Run:
    """What one forward pass gave."""

    captured: dict[Site, Tensor]
    """Copies of the residual stream, after all edits: (batch, pos, d_model), or (row, d_model) where rows were kept."""
    logits: Float[Tensor, "batch pos vocab"] | None
    in_scope: Int[Tensor, " batch"]
    """How often each row's edits were applied, summed over tokens and sites."""
    changed: Int[Tensor, " batch"]
    """How often they changed anything: fewer under a cap or a floor, none at strength 0."""


class _Stop(Exception):  # noqa: N818 - not an error: the layers that were asked for have run
    """Ends a forward pass after the last wanted layer."""


@dataclass
class _Pass:
    """The hooks of one forward pass, and what they gather."""

    batch: Batch
    edits: Placed
    keep: tuple[Tensor, Tensor] | None
    captured: dict[Site, Tensor] = field(default_factory=dict)
    in_scope: Tensor = field(init=False)
    changed: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.in_scope = torch.zeros(len(self.batch.ids), dtype=torch.int64, device=self.batch.ids.device)
        self.changed = self.in_scope.clone()

    def edit(self, acts: Tensor, layers: tuple[RowEdits, ...]) -> Tensor:
        """The activations under the edits of one site, in order."""
        for row in layers:
            where = row.where(self.batch.positions, self.batch.prompt_tokens, self.batch.real)
            acts, changed = shift(acts, row.units.to(acts.device), row.shifts.to(acts.device), where.to(acts.device))
            self.in_scope = self.in_scope + where.sum(1)
            self.changed = self.changed + changed.sum(1).to(where.device)
        return acts

    def hooks(self, sites: Sequence[Site]) -> list[tuple[str, Any]]:
        """TransformerLens hooks: edits first, so that a capture at the same site sees them."""

        def editing(site: Site) -> Any:
            return lambda acts, hook: self.edit(acts, self.edits[site])

        def capturing(site: Site) -> Any:
            def capture(acts: Tensor, hook: object) -> None:
                self.captured[site] = acts.clone() if self.keep is None else acts[self.keep]

            return capture

        return [(site.hook_name, editing(site)) for site in self.edits] + [
            (site.hook_name, capturing(site)) for site in sites
        ]


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
    def bridge(self) -> Any:
        """The TransformerLens bridge over the twin, for everything that this package does not do.

        It shares every weight with the plain model and never touches it. Its tokenizer is the model's own, which adds
        no second BOS.
        """
        from transformer_lens.model_bridge.sources import build_bridge_from_module

        shared = {id(tensor): tensor for tensor in [*self.hf.parameters(), *self.hf.buffers()]}
        twin = copy.deepcopy(self.hf, shared)
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
            self.dtype,
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
        if site.hook_name not in self.bridge.hook_dict:
            there = [s for s in STREAMS if Site(site.layer, s).hook_name in self.bridge.hook_dict]
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
        keep: tuple[Int[Tensor, " row"], Int[Tensor, " row"]] | None = None,
    ) -> Run:
        """One forward pass with captures and edits.

        With `keep`, a pair of (text, column) indices, only those rows of every site are kept. Without logits and
        without a cache the pass ends after the last wanted layer and never computes the unembedding. `cache` is a
        Hugging Face cache, extended in place.

        Guarantees (tests): captured values equal TransformerLens's and Hugging Face's; a text gives the same alone, in
        any batch, padded on either side, and packed; edits under a cache equal one pass over the whole text.

        Raises:
            SiteError: the model lacks a site.
        """
        touched = [*sites, *(edits or {})]
        for site in touched:
            self.check_site(site)
        batch = batch.to(self.device)
        run = _Pass(batch, edits or {}, keep)
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
            if hooks:
                stack.enter_context(self.bridge.hooks(fwd_hooks=hooks))
            for site in set(relayed):
                stack.callback(self._relay(site).remove)
            if stop_after is not None:
                stack.callback(self._blocks[stop_after].register_forward_hook(_raise_stop).remove)
            yield

    @cached_property
    def _blocks(self) -> nn.ModuleList:
        path = self.bridge.adapter.component_mapping["blocks"].name
        return cast(nn.ModuleList, self.hf.get_submodule(path))

    def _relay(self, site: Site) -> Any:
        """Pass the plain block's residual stream through the bridge's own hook point for it."""
        block, points = self._blocks[site.layer], self.bridge.blocks[site.layer]
        if site.stream == "resid_pre":
            return block.register_forward_pre_hook(lambda _, args: (points.hook_in(args[0]), *args[1:]))

        def after(_: nn.Module, __: Any, out: Any) -> Any:
            return (points.hook_out(out[0]), *out[1:]) if isinstance(out, tuple) else points.hook_out(out)

        return block.register_forward_hook(after)


def _raise_stop(*_: object) -> None:
    raise _Stop


def _forward(net: Any, batch: Batch, cache: Any, logits: str) -> Tensor | None:
    """The logits that were asked for; the body alone where none were."""
    inputs = {
        "input_ids": batch.ids,
        "position_ids": batch.positions,
        "attention_mask": batch.attention,
        "past_key_values": cache,
        "use_cache": cache is not None,
    }
    try:
        if logits == "none":
            net.base_model(**inputs)
            return None
        return net(**inputs, logits_to_keep=1 if logits == "last" else 0).logits
    except _Stop:
        return None


def load(
    name: str | Path = "organism",
    *,
    dtype: str | None = None,
    device: str | None = None,
    device_map: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Model:
    """A model by name: `organism` (the embedded one), a local folder, or a hub id.

    `dtype` is `float32`, `bfloat16` or `float16`; left out, it is float32 on a CPU and the checkpoint's own on an
    accelerator. `device` is `cpu`, `cuda` or `mps`, by default the best there is; `device_map="auto"` spreads a model.

    Raises:
        ModelError: there is no such folder or hub id, or it is not a causal language model.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = weights_folder() if str(name) == "organism" else Path(name)
    local = where.is_dir()
    source = str(where) if local else str(name)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    wanted = _dtype(dtype) or (torch.float32 if device == "cpu" else "auto")
    placing = {"device_map": device_map} if device_map else {}
    common = {"revision": revision, "trust_remote_code": trust_remote_code, "local_files_only": local}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **common)
        hf = AutoModelForCausalLM.from_pretrained(source, dtype=wanted, **placing, **common)
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        kind = "the folder holds no causal language model" if local else "no such folder, and the hub gave none"
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"loading model {name}",
            f"{kind} ({reason})",
            "give 'organism', a folder with config.json, or a hub id that you can reach",
        ) from error
    if not device_map:
        hf = cast(nn.Module, hf).to(device)
    return Model(hf, tokenizer, name=where.name if local and str(name) != "organism" else str(name))


def _dtype(name: str | None) -> torch.dtype | None:
    """The torch dtype of that name."""
    if name is None:
        return None
    if name not in ("float32", "bfloat16", "float16"):
        raise ModelError(f"dtype {name!r}", "not a dtype for weights", "choose float32, bfloat16 or float16")
    return getattr(torch, name)


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
