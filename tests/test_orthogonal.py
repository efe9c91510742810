"""Weights without a direction: a folder whose logits are those of the hooked ablation."""

import json
from dataclasses import replace

import pytest
import torch

from interp.edits import Edit, place
from interp.errors import DirectionError, EditError, ModelError, StoreError
from interp.models import Model, load, pad
from interp.models.orthogonal import WRITERS, ablation, orthogonalise
from interp.sites import Site
from interp.testing import FAMILIES, random_direction, small_transcripts, tiny_folder
from interp.tokens import render


def logits(model: Model, edit: Edit | None = None) -> torch.Tensor:
    batch = pad([render(transcript, model.tokenizer).ids for transcript in small_transcripts()])
    edits = place([[edit]] * 3 if edit else [[]] * 3, d_model=model.d_model)
    found = model.run(batch, edits=edits, logits="all").logits
    assert found is not None
    return found[batch.real]


@pytest.mark.parametrize("family", sorted(WRITERS))
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_the_written_model_has_the_logits_of_the_hooked_ablation(tmp_path, family: str, tied: bool) -> None:
    model = load(tiny_folder(tmp_path / "plain", family, tie_word_embeddings=tied))
    directions = [random_direction(model), random_direction(model, seed=1, name="other")]
    assert (model.hf.get_output_embeddings().weight is model.hf.get_input_embeddings().weight) == tied
    before = {name: p.clone() for name, p in model.hf.named_parameters()}
    plain = logits(model)
    for n in (1, 2):
        hooked = logits(model, ablation(model, directions[:n]))
        done = orthogonalise(model, directions[:n], tmp_path / f"edited{n}")
        written = logits(load(tmp_path / f"edited{n}"))
        assert (written - hooked).abs().max() < 1e-3 < 0.1 < (written - plain).abs().max()
        assert done.gap < 1e-3 < 0.05 < done.effect
    told = json.loads((tmp_path / "edited1" / "config.json").read_text())
    assert not told["tie_word_embeddings"], "any loader keeps the unembedding as it was"
    assert not torch.equal(written, logits(load(tmp_path / "edited1"))), "control: the second direction matters"
    assert all(torch.equal(p, before[name]) for name, p in model.hf.named_parameters()), "the model stays as it was"
    assert torch.equal(logits(model), plain)


def test_nothing_is_written_to_the_direction_at_any_site(tmp_path) -> None:
    model = load(tiny_folder(tmp_path / "plain", "qwen2"))
    direction = random_direction(model)
    orthogonalise(model, [direction], tmp_path / "edited")
    batch = pad([render(small_transcripts()[0], model.tokenizer).ids])
    sites = [Site(0, "resid_pre"), *model.all_sites()]

    def largest(one: Model) -> float:
        return max(float(direction.project(acts).abs().max()) for acts in one.run(batch, sites=sites).captured.values())

    assert largest(load(tmp_path / "edited")) < 1e-4 < 0.1 < largest(model)


def test_the_folder_says_what_was_done_and_holds_safetensors_and_the_tokenizer(tmp_path) -> None:
    model = load(tiny_folder(tmp_path / "plain", "llama"))
    done = orthogonalise(model, [random_direction(model)], tmp_path / "edited")
    told = json.loads((tmp_path / "edited" / "interp_edit.json").read_text())
    assert told["edit"]["kind"] == "ablate" and told["parameters"] == list(done.parameters)
    assert len(done.parameters) == 1 + 2 * model.n_layers
    names = {path.name for path in (tmp_path / "edited").iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "generation_config.json"} <= names
    edited = load(tmp_path / "edited")
    assert edited.stop_ids == model.stop_ids and edited.tokenizer.chat_template == model.tokenizer.chat_template
    assert edited.identity.weights != model.identity.weights
    with pytest.raises(StoreError):
        orthogonalise(model, [random_direction(model)], tmp_path / "edited")


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(WRITERS)))
def test_a_family_whose_writers_are_not_known_is_refused(tiny: dict[str, Model], tmp_path, family: str) -> None:
    with pytest.raises(ModelError, match="not known, or is normalised"):
        orthogonalise(tiny[family], [random_direction(tiny[family])], tmp_path / "edited")
    assert not (tmp_path / "edited").exists()


def test_half_precision_stays_half(tmp_path) -> None:
    tiny_folder(tmp_path / "plain", "llama")
    model = load(tmp_path / "plain", dtype="bfloat16")
    done = orthogonalise(model, [random_direction(model)], tmp_path / "edited")
    edited = load(tmp_path / "edited", dtype="bfloat16")
    assert edited.dtype == "bfloat16"
    hooked, plain = logits(model, ablation(model, [random_direction(model)])), logits(model)
    wrong = (logits(edited) - hooked).float().square().mean().sqrt()
    assert wrong < (plain - hooked).float().square().mean().sqrt() / 4 and done.effect > 0


def test_directions_of_another_model_or_of_one_line_are_refused(tmp_path, llama: Model, tiny: dict[str, Model]) -> None:
    one = random_direction(llama)
    with pytest.raises(DirectionError):
        orthogonalise(tiny["gpt2"], [one], tmp_path / "edited")
    with pytest.raises(EditError, match="span of the others"):
        orthogonalise(llama, [one, replace(one, name="same", vector=-2 * one.vector)], tmp_path / "edited")
    assert not (tmp_path / "edited").exists()
