"""The doctor passes models that are wired right, and finds each planted fault."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers.cache_utils import DynamicCache

from interp.doctor import Job, examine, gate, lines, sound
from interp.doctor.check import Check
from interp.errors import ModelError
from interp.models import Model, load
from interp.models.model import _cache_name
from interp.sites import Site
from interp.testing import FAMILIES, tiny_folder, tiny_tokenizer

CHECKS = 17


def failing(model: Model) -> set[str]:
    return {check.check for check in examine(model) if not check.ok}


def looked_at(model: Model, job: Job | None = None) -> dict[str, Check]:
    return {check.check: check for check in examine(model, job)}


def test_a_sound_model_passes(model: Model) -> None:
    checks = examine(model)
    assert sound(checks), "\n".join(lines(checks))
    assert len(checks) == CHECKS


def faulty(model: Model) -> Model:
    """A copy of a tiny model that a test may break."""
    return Model(copy.deepcopy(model.hf), copy.deepcopy(model.tokenizer), name="faulty")


def test_a_second_bos_is_found(llama: Model) -> None:
    model = faulty(llama)
    model.tokenizer.chat_template = "{{ bos_token }}" + model.tokenizer.chat_template
    assert failing(model) == {"BOS once"}


def test_a_bos_that_is_also_the_end_of_a_turn_is_no_second_one(tiny: dict[str, Model]) -> None:
    model = faulty(tiny["olmo2"])
    assert "BOS once" not in failing(model)
    model.tokenizer.chat_template = "{{ bos_token }}" + model.tokenizer.chat_template
    assert "BOS once" in failing(model)


def test_a_template_that_rewrites_the_assistant_is_found(llama: Model) -> None:
    model = faulty(llama)
    model.tokenizer.chat_template = model.tokenizer.chat_template.replace(
        "{{ m.content | trim }}", "{{ m.content | upper }}"
    )
    found = looked_at(model)["template"]
    assert not found.ok and "rewrote" in found.detail and found.do


def test_a_missing_template_is_found(llama: Model) -> None:
    model = faulty(llama)
    model.tokenizer.chat_template = None
    found = looked_at(model)
    assert not found["template"].ok and "no chat template" in found["template"].detail
    assert found["vocabulary"].ok, "what needs no template is looked at all the same"


def test_a_template_that_reads_the_clock_is_found_and_a_fixed_date_mends_it(tmp_path) -> None:
    folder = tiny_folder(tmp_path / "llama", "llama")
    template = folder / "chat_template.jinja"
    text = template.read_text()
    template.write_text(text.replace("date_string or '26 Jul 2024'", "date_string or strftime_now('%d %b %Y')"))
    assert template.read_text() != text
    found = looked_at(load(folder))["template"]
    assert not found.ok and "today's date" in found.detail and "-M date=" in found.do
    assert looked_at(load(folder, date="26 Jul 2024"))["template"].ok


def test_a_template_without_system_message_is_told_and_can_be_merged(tmp_path, tiny: dict[str, Model]) -> None:
    found = looked_at(load(tiny_folder(tmp_path / "gemma2", "gemma2")))["system message"]
    assert found.data == {"system": False} and "merge_system" in found.detail
    assert looked_at(tiny["gemma2"])["system message"].data == {"system": True}


def test_the_thinking_channel_is_described(tmp_path) -> None:
    folder = tiny_folder(tmp_path / "qwen3", "qwen3")
    opened, closed = (looked_at(load(folder, thinking=thinking))["thinking channel"].data for thinking in (None, False))
    assert opened == {"thinks": True, "closed": False, "last": "kept", "earlier": "dropped"}
    assert closed == opened | {"closed": True}


def test_a_tokenizer_that_is_too_large_is_found(tmp_path) -> None:
    model = load(tiny_folder(tmp_path / "small", "llama", vocab_size=390))
    found = looked_at(model)["vocabulary"]
    assert not found.ok and found.data == {"tokenizer": 400, "embedding": 390}


def test_embeddings_without_a_token_are_told(tmp_path) -> None:
    found = looked_at(load(tiny_folder(tmp_path / "padded", "llama", vocab_size=448)))
    assert found["vocabulary"].ok and "48 ids have no token" in found["vocabulary"].detail
    assert all(check.ok for check in found.values())


def test_a_block_that_reads_the_batch_is_found(llama: Model) -> None:
    """A fault that single texts do not show: each row leaks into the others."""
    model = faulty(llama)
    model._blocks[0].register_forward_hook(lambda _, __, out: out + out.mean(dim=0, keepdim=True))
    assert "padding" in failing(model)


def test_texts_that_leak_into_each_other_when_packed_are_told(llama: Model) -> None:
    """Without position ids nothing tells packed texts apart; padded ones are still told apart by their mask."""
    assert looked_at(llama)["packing"].data["packs"]
    model = faulty(llama)
    forward = model.bridge and model.hf.base_model.forward  # the twin is made before the fault
    model.hf.base_model.forward = lambda **inputs: forward(**(inputs | {"position_ids": None}))
    found = looked_at(model)
    assert not found["packing"].data["packs"] and "do not pack" in found["packing"].detail and found["padding"].ok


def test_a_cache_that_forgets_positions_is_found(llama: Model) -> None:
    """Every step then stands at position 0: whole passes are right, steps through the cache are not."""
    model = faulty(llama)
    forward = model.bridge and model.hf.base_model.forward

    def forgetful(**inputs):
        ids = inputs["input_ids"]
        return forward(**(inputs | ({"position_ids": inputs["position_ids"] * 0} if ids.shape[1] == 1 else {})))

    model.hf.base_model.forward = forgetful
    assert "cache = no cache" in failing(model) <= {"cache = no cache", "generated = teacher-forced"}


def test_a_hook_point_that_is_skipped_is_found_in_its_layer(llama: Model) -> None:
    model = faulty(llama)
    model.bridge.blocks[1].hook_out.register_forward_hook(lambda _, __, out: out * 1.01)
    found = looked_at(model)["parity"]
    assert not found.ok and len(found.rows) == 3
    assert [row["face_gap"] > 1e-3 for row in found.data["layers"][:2]] == [False, True]


def with_a_sink(model: Model) -> Model:
    """A copy whose first token has a huge norm, as in every large model: it must not hide what happens elsewhere."""
    sunk = faulty(model)
    with torch.no_grad():
        sunk.hf.get_input_embeddings().weight[model.tokenizer.bos_token_id] *= 3e3
    return sunk


def test_a_capture_one_block_too_early_is_found_behind_a_sink(llama: Model, monkeypatch) -> None:
    model = with_a_sink(llama)
    assert not failing(model) - {"residual norms"}
    relay = Model._relay
    monkeypatch.setattr(Model, "_relay", lambda self, site: relay(self, replace(site, layer=max(0, site.layer - 1))))
    assert "parity" in failing(model)


def test_a_small_error_at_every_other_token_is_found_behind_a_sink(llama: Model) -> None:
    model = with_a_sink(llama)

    def nudge(acts: torch.Tensor, hook: object) -> torch.Tensor:
        return torch.cat([acts[:, :1], acts[:, 1:] * 1.001], dim=1)

    model.bridge.blocks[1].hook_out.add_perma_hook(nudge)
    assert "parity" in failing(model) or "streams" in failing(model)


@pytest.mark.parametrize("layer", [1, 2])
def test_an_edit_that_is_thrown_away_at_a_later_block_is_found(llama: Model, monkeypatch, layer: int) -> None:
    """The plain block's own output goes on: the hook counts, and nothing changes."""
    model = faulty(llama)
    relay = Model._relay

    def deaf(self: Model, site: Site):
        if site.layer != layer:
            return relay(self, site)
        point = self.bridge.blocks[site.layer].hook_out
        return self._blocks[site.layer].register_forward_hook(lambda _, __, out: point(out) is None or out)

    monkeypatch.setattr(Model, "_relay", deaf)
    found = looked_at(model)["cache = no cache"]
    assert not found.ok and f"an edit at L{layer}" in found.detail


def test_a_mask_that_is_ignored_in_cached_steps_is_found(llama: Model) -> None:
    """Whole passes are right, and so are unpadded steps: only padded rows read what is not there."""
    model = faulty(llama)
    forward = model.bridge and model.hf.base_model.forward

    def maskless(**inputs):
        return forward(**(inputs | ({"attention_mask": None} if inputs["input_ids"].shape[1] == 1 else {})))

    model.hf.base_model.forward = maskless
    assert "cache = no cache" in failing(model)


def test_positions_that_change_with_the_longest_text_are_found(tmp_path) -> None:
    """Phi 3's long checkpoints rescale every position of a batch as soon as one text is long."""
    rope = {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 256,
    }
    folder = tiny_folder(tmp_path / "phi3", "phi3", rope_parameters=rope, original_max_position_embeddings=256)
    found = looked_at(load(folder))["long texts"]
    assert not found.ok and "below 256 tokens" in found.do
    far = tiny_folder(
        tmp_path / "far",
        "phi3",
        rope_parameters=rope | {"original_max_position_embeddings": 4096},
        original_max_position_embeddings=4096,
        max_position_embeddings=131072,
    )
    told = looked_at(load(far))["long texts"]
    assert not told.ok and "4096" in told.detail


def test_a_turn_that_closes_with_no_stop_is_found(llama: Model) -> None:
    model = faulty(llama)
    model.tokenizer.chat_template = model.tokenizer.chat_template.replace("<|eot_id|>", "[END]")
    found = looked_at(model)["stop ids"]
    assert not found.ok and "closes a turn with '[END]'" in found.detail


def test_a_template_that_repeats_a_message_is_found(llama: Model) -> None:
    model = faulty(llama)
    head = "TOPIC {{ messages[0]['content'] }}\n"
    model.tokenizer.chat_template = head + model.tokenizer.chat_template
    found = looked_at(model)["template"]
    assert not found.ok and "2 times" in found.detail


def test_a_model_with_a_short_window_is_examined_within_it(tmp_path) -> None:
    checks = looked_at(load(tiny_folder(tmp_path / "short", "gpt2", n_positions=140)))
    assert all(check.ok for check in checks.values()), [check for check in checks.values() if not check.ok]


def test_the_prompt_that_opens_a_reply_is_shown_whole(tiny: dict[str, Model]) -> None:
    shown = {name: looked_at(tiny[name])["template"].data["generation_prompt"] for name in ("phi3", "olmo2", "qwen3")}
    assert shown == {
        "phi3": "<|assistant|>\n",
        "olmo2": "\n<|assistant|>\n",
        "qwen3": "<|im_start|>assistant\n",
    }


def test_a_stream_that_misses_a_contribution_is_found(llama: Model) -> None:
    model = faulty(llama)
    model.bridge.blocks[1].mlp.register_forward_hook(lambda _, __, out: out)
    assert "streams" not in failing(model)
    model.bridge.blocks[1].hook_out.register_forward_hook(lambda _, __, out: out * 1.01)
    assert "streams" in failing(model)


def test_massive_dimensions_are_named(llama: Model) -> None:
    model = faulty(llama)
    assert not looked_at(model)["residual norms"].data["layers"][0]["massive"]
    with torch.no_grad():
        model.hf.get_input_embeddings().weight[:, 5] = 500.0
    layers = looked_at(model)["residual norms"].data["layers"]
    assert set(layers[0]["massive"]) == {5} and layers[0]["massive"][5] > 30


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_activations_that_are_not_finite_are_found(llama: Model, value: float) -> None:
    model = faulty(llama)
    with torch.no_grad():
        model._blocks[1].mlp.down_proj.weight[0, 0] = value
    assert "site shapes" in failing(model)


def test_values_that_do_not_fit_float16_are_told(llama: Model) -> None:
    model = faulty(llama)
    with torch.no_grad():
        model.hf.get_input_embeddings().weight[:, 5] = 1e5
    assert looked_at(model)["residual norms"].data["fits"] == ["float32", "bfloat16"]
    assert "float16" in looked_at(llama)["residual norms"].data["fits"]


def test_a_check_that_breaks_has_failed_and_the_others_go_on(llama: Model, monkeypatch) -> None:
    model = faulty(llama)
    monkeypatch.setattr(type(model.bridge), "run_with_cache", lambda *_, **__: 1 / 0)
    found = looked_at(model)
    assert len(found) == CHECKS and {name for name, check in found.items() if not check.ok} == {"parity"}
    assert "ZeroDivisionError" in found["parity"].detail


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_half_precision_is_examined_in_half_precision(tmp_path, family: str, dtype: str) -> None:
    model = load(tiny_folder(tmp_path / family, family), dtype=dtype)
    checks = looked_at(model)
    assert sound(list(checks.values())), "\n".join(lines(list(checks.values())))
    assert dtype in checks["parity"].detail and checks["parity"].data["layers"][0]["face_gap"] >= 0


def test_the_cost_of_a_job_is_counted_and_refused_where_memory_is_short(llama: Model) -> None:
    found = looked_at(llama, Job(texts=10, tokens=64, rollouts=4, new_tokens=8))["cost"]
    head_dim = llama.hf.config.hidden_size // llama.hf.config.num_attention_heads
    per_token = 2 * 3 * llama.hf.config.num_key_value_heads * head_dim * 4
    assert found.ok and found.data["cache"] == 4 * (64 + 8) * per_token
    assert found.data["disk_all_tokens"] == 10 * 64 * 3 * 32 * 4 and found.data["seconds"] > 0
    huge = looked_at(llama, Job(texts=1, tokens=400, rollouts=10**9, new_tokens=8, batch_rows=10**9))["cost"]
    assert not huge.ok and "lower the rows" in huge.do
    long = looked_at(llama, Job(texts=1, tokens=513))["cost"]
    assert not long.ok and "513 tokens, and the model holds 512" in long.detail


@pytest.mark.parametrize("family", ["llama", "gemma3", "mistral"])
def test_the_cache_is_counted_as_it_is_kept_with_attention_that_slides(tmp_path: Path, family: str) -> None:
    model, length = load(tiny_folder(tmp_path / family, family)), 40
    cache = DynamicCache(config=model.hf.config)
    for _ in range(2):  # a window is cut when the next tokens come
        model.hf(torch.zeros((1, length // 2), dtype=torch.long), use_cache=True, **{_cache_name(model.hf): cache})
    kept = sum(part.numel() * part.element_size() for layer in cache.layers for part in (layer.keys, layer.values))
    found = looked_at(model, Job(texts=1, tokens=length, rollouts=1, new_tokens=0))["cost"].data["cache"]
    assert kept <= found <= 1.1 * kept


def test_the_gate_refuses_a_failing_model_unless_told_otherwise(llama: Model) -> None:
    assert sound(gate(llama, asked="steering llama"))
    model = faulty(llama)
    model.tokenizer.chat_template = "{{ bos_token }}" + model.tokenizer.chat_template
    with pytest.raises(ModelError, match="steering faulty: faulty fails BOS once.*despite-doctor"):
        gate(model, asked="steering faulty")
    recorded = gate(model, asked="steering faulty", despite_doctor=True)
    assert [check.check for check in recorded if not check.ok] == ["BOS once"]


_OTHERS = {
    "Phi": {},
    "GPTNeoX": {"num_key_value_heads": None},
    "Olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "Qwen3Moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "head_dim": 8},
    "GptOss": {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "sliding_window": 16},
    "Falcon": {"intermediate_size": None, "num_key_value_heads": None, "max_position_embeddings": None},
}


@pytest.mark.parametrize("architecture", sorted(_OTHERS))
def test_other_architectures_are_tried_and_not_refused(llama: Model, architecture: str) -> None:
    """Blocks with attention and MLP side by side (Phi, NeoX, Falcon), experts, attention sinks (GPT-OSS)."""
    import transformers

    sizes = FAMILIES["llama"].settings | {"vocab_size": 400, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
    settings = {name: value for name, value in (sizes | _OTHERS[architecture]).items() if value is not None}
    torch.manual_seed(0)
    hf = getattr(transformers, f"{architecture}ForCausalLM")(getattr(transformers, f"{architecture}Config")(**settings))
    checks = examine(Model(hf, llama.tokenizer, name=architecture))
    assert sound(checks), "\n".join(lines(checks))


def test_a_model_with_a_vision_tower_is_examined_by_its_text(tmp_path) -> None:
    """The larger Gemma 3 checkpoints are of this kind."""
    import transformers

    tokenizer = tiny_tokenizer("gemma3")
    text = FAMILIES["gemma3"].settings | {"vocab_size": len(tokenizer)}
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Gemma3Config(
        text_config=text, vision_config=vision | {"image_size": 28, "patch_size": 14}, mm_tokens_per_image=4
    )
    transformers.Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    checks = examine(load(tmp_path))
    assert sound(checks), "\n".join(lines(checks))


def test_a_model_without_attention_fails_and_does_not_crash(llama: Model) -> None:
    import transformers

    config = transformers.MambaConfig(vocab_size=400, hidden_size=32, num_hidden_layers=2)
    checks = examine(Model(transformers.MambaForCausalLM(config), llama.tokenizer, name="mamba"))
    failed = {check.check for check in checks if not check.ok}
    assert len(checks) == CHECKS and "cache = no cache" in failed and "template" not in failed


def test_every_family_of_the_issue_is_there() -> None:
    assert {"gpt2", "llama", "qwen2", "qwen3", "gemma2", "gemma3", "mistral", "phi3", "olmo2", "mixtral"} <= set(
        FAMILIES
    )
