"""The doctor passes models that are wired right, and finds each planted fault."""

import copy

import pytest
import torch

from interp.doctor import examine, lines, sound
from interp.models import Model


def failing(model: Model) -> set[str]:
    return {check.check for check in examine(model) if not check.ok}


def test_a_sound_model_passes(model: Model) -> None:
    checks = examine(model)
    assert sound(checks), "\n".join(lines(checks))
    assert len(checks) == 8


def faulty(llama: Model, tmp_path) -> Model:
    """A copy of the tiny Llama that a test may break."""
    return Model(copy.deepcopy(llama.hf), copy.deepcopy(llama.tokenizer), name="faulty")


def test_a_second_bos_is_found(llama: Model, tmp_path) -> None:
    model = faulty(llama, tmp_path)
    model.tokenizer.chat_template = "{{ bos_token }}" + model.tokenizer.chat_template
    assert failing(model) == {"BOS once"}


def test_a_template_that_rewrites_the_assistant_is_found(llama: Model, tmp_path) -> None:
    model = faulty(llama, tmp_path)
    model.tokenizer.chat_template = model.tokenizer.chat_template.replace(
        "{{ m['content'] | trim }}", "{{ m['content'] | upper }}"
    )
    checks = {check.check: check for check in examine(model)}
    assert not checks["template"].ok and "rewrote" in checks["template"].detail and checks["template"].do


def test_a_missing_template_is_found(llama: Model, tmp_path) -> None:
    model = faulty(llama, tmp_path)
    model.tokenizer.chat_template = None
    assert "template" in failing(model)


def test_a_block_that_reads_the_batch_is_found(llama: Model, tmp_path) -> None:
    """A fault that single texts do not show: each row leaks into the others."""
    model = faulty(llama, tmp_path)
    model._blocks[0].register_forward_hook(lambda _, __, out: out + out.mean(dim=0, keepdim=True))
    assert "padding and packing" in failing(model)


def test_texts_that_leak_into_each_other_when_packed_are_found(llama: Model, tmp_path) -> None:
    """Without position ids nothing tells packed texts apart; padded ones are still told apart by their mask."""
    model = faulty(llama, tmp_path)
    forward = model.bridge and model.hf.base_model.forward  # the twin is made before the fault
    model.hf.base_model.forward = lambda **inputs: forward(**(inputs | {"position_ids": None}))
    assert failing(model) == {"padding and packing"}


def test_a_hook_point_that_is_skipped_is_found(llama: Model, tmp_path) -> None:
    model = faulty(llama, tmp_path)
    model.bridge.blocks[1].hook_out.register_forward_hook(lambda _, __, out: out * 1.01)
    assert "parity" in failing(model)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_found(llama: Model, tmp_path, value: float) -> None:
    model = faulty(llama, tmp_path)
    with torch.no_grad():
        model._blocks[1].mlp.down_proj.weight[0, 0] = value
    assert "site shapes" in failing(model)
