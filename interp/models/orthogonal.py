"""Weight orthogonalisation: a model that cannot write a direction, as a folder that any Hugging Face loader takes.

Ablating a direction from everything that is written to the residual stream (the embedding, and what each block's
attention and MLP add) is the same as taking it from the weights that write there: W - r r^T W (Arditi et al. 2024,
https://arxiv.org/abs/2406.11717, section 4.1). It holds where a matrix writes to the stream itself; families that
normalise what their blocks write (Gemma 2 and 3, OLMo 2) have no such weights, and are refused.
"""

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.directions import Direction
from interp.edits import Edit, place
from interp.errors import ModelError
from interp.models.batch import pad
from interp.models.model import Model
from interp.sites import Site
from interp.store import new_folder, write_json

_LLAMA = {
    r"model\.embed_tokens\.weight": -1,
    r"model\.layers\.\d+\.self_attn\.o_proj\.weight": 0,
    r"model\.layers\.\d+\.self_attn\.o_proj\.bias": 0,
    r"model\.layers\.\d+\.mlp\.down_proj\.weight": 0,
    r"model\.layers\.\d+\.mlp\.down_proj\.bias": 0,
}
_GPT2 = {
    r"transformer\.wte\.weight": -1,
    r"transformer\.wpe\.weight": -1,
    r"transformer\.h\.\d+\.(attn|mlp)\.c_proj\.(weight|bias)": -1,
}
_MIXTRAL = {**_LLAMA, r"model\.layers\.\d+\.mlp\.experts\.down_proj": 1}
WRITERS = {
    "gpt2": _GPT2,
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": _MIXTRAL,
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
}
"""By family, the parameters that write to the stream, and which of their axes is the stream's."""
_PER_BLOCK = 2
_RECORD = "interp_edit.json"


@dataclass(frozen=True)
class Orthogonalised:
    """Where the edited model is, and how well it is the hooked ablation."""

    folder: Path
    parameters: tuple[str, ...]
    """Those that were changed."""
    gap: float
    """Largest difference of its logits from those of the hooked ablation, on the text that it was checked on."""
    effect: float
    """Largest difference of the hooked ablation's logits from the unedited model's, beside which the gap is small."""


def ablation(model: Model, directions: Sequence[Direction]) -> Edit:
    """The hooked ablation that orthogonal weights reproduce: of the span of the directions, wherever it is written."""
    first, *rest = directions
    blocks = [Site(layer, stream) for layer in range(model.n_layers) for stream in ("attn_out", "mlp_out")]
    return Edit.of("ablate", first, 1.0, span=rest, sites=[Site(0, "resid_pre"), *blocks])


def orthogonalise(
    model: Model, directions: Sequence[Direction], folder: Path, *, text: str = "The plan for today is clear."
) -> Orthogonalised:
    """Write the model without the directions to `folder`: weights as safetensors, configuration and tokenizer.

    The model itself stays as it is. A tied unembedding is written separately, unedited. Before anything is written, the
    edited model's logits on `text` are compared with those of the hooked ablation. Guarantee (test): the folder,
    loaded, has the logits of the hooked ablation.

    Raises:
        ModelError: what writes to this family's stream is not known, or the weights are quantized.
        DirectionError: a direction belongs to another model.
        EditError: a direction lies in the span of the others.
        StoreError: there is something at `folder`.
    """
    asked = f"orthogonalising {model.name}"
    for direction in directions:
        direction.check(model.identity)
    writers = dict(_writers(model, asked))
    edit = ablation(model, directions)
    edited = copy.deepcopy(model.hf, {id(tensor): tensor for tensor in _shared(model.hf)})
    _untie(edited)
    basis = _basis(directions)
    for name, axis in writers.items():
        module, _, leaf = name.rpartition(".")
        without = _without(edited.get_parameter(name).detach(), basis, axis)
        setattr(edited.get_submodule(module), leaf, nn.Parameter(without, requires_grad=False))
    gap, effect = _compared(model, edited, edit, text)
    with new_folder(folder) as target:
        edited.save_pretrained(target)
        model.tokenizer.save_pretrained(target)
        told = {
            "model": model.name,
            "edit": edit.to_dict(),
            "parameters": sorted(writers),
            "gap": gap,
            "effect": effect,
        }
        write_json(target / _RECORD, told)
    return Orthogonalised(folder, tuple(sorted(writers)), gap, effect)


def _writers(model: Model, asked: str) -> Iterator[tuple[str, int]]:
    """Name and stream axis of every parameter that writes to the stream."""
    family = model.hf.config.model_type
    if family not in WRITERS:
        raise ModelError(
            asked,
            f"what writes to the residual stream of {family} is not known, or is normalised before it is added",
            f"choose a model of {', '.join(sorted(WRITERS))}, or ablate with hooks",
        )
    if model.quantized:
        raise ModelError(asked, f"its weights are quantized ({model.quantized})", "load it without quantization")
    found = 0
    for name, parameter in model.hf.named_parameters():
        axis = next((axis for rule, axis in WRITERS[family].items() if re.fullmatch(rule, name)), None)
        if axis is None:
            continue
        if parameter.shape[axis] != model.d_model:
            raise ModelError(asked, f"{name} has the shape {tuple(parameter.shape)}", "report the architecture")
        found += name.endswith("weight") or not name.endswith("bias")
        yield name, axis
    if found < 1 + _PER_BLOCK * model.n_layers:
        raise ModelError(asked, f"only {found} of its writing matrices were found", "report the architecture")


def _shared(hf: nn.Module) -> Iterator[Tensor]:
    """What the copy may share with the model, as the edit replaces parameters and changes none."""
    yield from hf.parameters()
    yield from hf.buffers()


def _untie(hf: Any) -> None:
    """Give the unembedding a weight of its own, with the values that it had."""
    tied = hf.get_output_embeddings().weight is hf.get_input_embeddings().weight
    if tied:
        weight = hf.get_output_embeddings().weight.detach().clone()
        hf.get_output_embeddings().weight = nn.Parameter(weight, requires_grad=False)
    hf.config.tie_word_embeddings = False
    hf.config.get_text_config().tie_word_embeddings = False


def _basis(directions: Sequence[Direction]) -> Float[Tensor, "axis d_model"]:
    units = torch.stack([direction.unit.double().cpu() for direction in directions])
    return torch.linalg.qr(units.T).Q.T


def _without(weight: Tensor, basis: Float[Tensor, "axis d_model"], axis: int) -> Tensor:
    """The weight without its component in the span along one axis; in double precision, which is then rounded."""
    last = weight.double().movedim(axis, -1)
    axes = basis.to(last.device)
    return (last - (last @ axes.T) @ axes).movedim(-1, axis).to(weight.dtype).contiguous()


@torch.no_grad()
def _compared(model: Model, edited: Any, edit: Edit, text: str) -> tuple[float, float]:
    """The largest differences of logits: edited weights from hooked ablation, and that from no edit."""
    batch = pad([model.tokenizer(text, return_tensors="np")["input_ids"][0]])
    hooked = model.run(batch, edits=place([[edit]], d_model=model.d_model, device=model.device), logits="all").logits
    plain = model.run(batch, logits="all").logits
    assert hooked is not None and plain is not None
    written = edited(batch.ids.to(model.device)).logits
    return float((written - hooked).abs().max()), float((plain - hooked).abs().max())
