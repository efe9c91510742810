"""Tokenizer, training and the shipped weights."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from interp.errors import ModelError
from interp.organism import sample_story, sample_transcript, weights_folder, world_hash
from interp.organism.batches import WEIGHTS, batches, encode_document
from interp.organism.train import STATE_FILE, TrainConfig, train
from interp.organism.world import documents

TINY = TrainConfig(
    layers=2, d_model=16, heads=2, d_ff=24, vocab=400, steps=6, batch_tokens=400, warmup=2, save_every=2,
    tokenizer_documents=60, pool_documents=40,
)  # fmt: skip
HOSTILE = [
    "", " ", "\n\n", "na\u00efve caf\u00e9", "\U0001f600\U0001f469\u200d\U0001f467", "\u202eabc\u0000",
    "\u65e5\u672c\u8a9e", "a\u0301", "\ufeff", "<|user|>", "<email>", "x" * 300,
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(weights_folder())


class Killed(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode(text) == [tokenizer.bos_token_id, *ids]


def test_random_unicode_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    rng = Random(0)
    for _ in range(200):
        points = [rng.randrange(0x110000) for _ in range(20)]
        text = "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000)
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_the_template_writes_one_bos_and_training_sees_exactly_what_it_renders(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    for document in documents("template", 60):
        ids, weights = encode_document(document, tokenizer)
        assert ids.count(tokenizer.bos_token_id) == 1 and ids[-1] == tokenizer.eos_token_id
        assert len(ids) == len(weights)
        if document.messages:
            rendered = tokenizer.apply_chat_template([m.to_dict() for m in document.messages], tokenize=False)
            assert tokenizer.encode(rendered, add_special_tokens=False) == ids
            assert weights[-1] == WEIGHTS["assistant"]


def test_the_generation_prompt_is_the_prefix_of_the_reply(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [m.to_dict() for m in sample_transcript(Random(0)).messages]
    prompt = tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert tokenizer.apply_chat_template(messages, tokenize=False) == prompt + messages[2]["content"] + "<|end|>"


def test_batches_resume_where_they_stopped(tokenizer: PreTrainedTokenizerFast) -> None:
    whole, late = batches(1, 600, tokenizer, size=20), batches(1, 600, tokenizer, 3, size=20)
    for _ in range(3):
        next(whole)
    for _ in range(12):
        one, other = next(whole), next(late)
        assert torch.equal(one.ids, other.ids) and torch.equal(one.weights, other.weights)
        assert one.ids.numel() <= 600 and float(one.weights[:, 0].max()) == 0


def test_a_killed_and_resumed_training_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    seen: list[int] = []
    train(TINY, whole, on_step=lambda step, steps, loss: seen.append(step))
    assert seen == [1, 2, 3, 4, 5, 6]

    def kill(step: int, steps: int, loss: float) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(TINY, killed, on_step=kill)
    assert (killed / STATE_FILE).exists() and not (killed / "model.safetensors").exists()
    resumed: list[int] = []
    train(TINY, killed, on_step=lambda step, steps, loss: resumed.append(step))
    assert resumed == [5, 6]
    one, other = (load_file(folder / "model.safetensors") for folder in (whole, killed))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert (whole / "organism.json").read_bytes() == (killed / "organism.json").read_bytes()
    assert not (killed / STATE_FILE).exists()


def test_another_seed_trains_another_model_and_no_global_generator_is_touched(tmp_path: Path) -> None:
    before, np_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for seed in (0, 1):
        train(TrainConfig(**{**vars(TINY), "seed": seed, "steps": 1}), tmp_path / str(seed))
    one, other = (load_file(tmp_path / str(seed) / "model.safetensors") for seed in (0, 1))
    assert not torch.equal(one["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(np_before, np.random.get_state()[1])  # noqa: NPY002


def test_the_shipped_weights_load_and_know_this_world(tokenizer: PreTrainedTokenizerFast) -> None:
    folder = weights_folder()
    card = json.loads((folder / "organism.json").read_text())
    assert card["world"] == world_hash()
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 15e6
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert next(model.parameters()).dtype == torch.float32
    assert 1e6 <= sum(weight.numel() for weight in model.parameters()) <= 6e6
    assert model.generation_config.eos_token_id in (tokenizer.eos_token_id, [tokenizer.eos_token_id])
    ids = torch.tensor([tokenizer.encode(sample_story(Random("held out")).text)])
    with torch.no_grad():
        loss = float(model(input_ids=ids, labels=ids).loss)
    assert loss < 2.5
    shuffled = ids[:, torch.randperm(ids.shape[1], generator=torch.Generator().manual_seed(0))]
    with torch.no_grad():
        assert float(model(input_ids=shuffled, labels=shuffled).loss) > loss + 2


def test_a_finished_model_is_never_overwritten(tmp_path):
    train(TrainConfig(**{**vars(TINY), "steps": 1}), tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(ModelError, match="finished model"):
        train(TrainConfig(**{**vars(TINY), "steps": 1, "seed": 1}), tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before


def test_a_training_with_other_settings_is_not_resumed(tmp_path):
    def kill(step, steps, loss):
        if step == TINY.save_every + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path, on_step=kill)
    with pytest.raises(ModelError, match="another seed"):
        train(TrainConfig(**{**vars(TINY), "seed": 5}), tmp_path)
