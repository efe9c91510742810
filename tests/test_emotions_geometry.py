"""A number of the geometry that noise also gives is shown as one that noise also gives."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from interp.activations import Activations
from interp.cli.emotions import app
from interp.directions import load_directions
from interp.emotions import Job, build
from interp.emotions.geometry import Geometry, geometry, vectors_of
from interp.emotions.lens import own_ranks, promoted, word_ids, word_logits
from interp.emotions.metrics import Vectors, components, cosine_matrix, metrics, noise, picture
from interp.emotions.norms import Norms, read_norms
from interp.emotions.vectors import emotions_of, space_at
from interp.errors import ProbeError, StoreError
from interp.models import Model
from interp.plots.geometry import component_figure, cosine_figure, metric_figure
from interp.probes import ProbeCard
from interp.report.emotions import write_geometry
from interp.sites import Site
from interp.stats.trees import tree_order
from interp.store import Workspace
from interp.transcripts import Message, Transcript

K, D = 12, 40
VALENCE = np.asarray([1, 1.5, 2, 2.5, 3, 3.5, 6.5, 7, 7.5, 8, 8.5, 9.0])
NORMS = Norms(VALENCE, np.asarray([3, 7, 2, 6, 4, 5, 7, 3, 6, 2, 5, 4.0]), "made.csv")
TOLD = {
    "desperate": "Nobody would hear the appeal and the deadline was near",
    "calm": "The team had lunch before noon",
    "angry": "She felt her hands go cold: this, again",
    "sad": "Please reply, the inbox reads all day",
}


def centred(rows: np.ndarray) -> np.ndarray:
    return rows - rows.mean(0)


def pure_noise(seed: int) -> Vectors:
    rng = np.random.default_rng(seed)
    whole, one, other = (centred(rng.normal(size=(K, D))) for _ in range(3))
    return Vectors(whole, (one, other))


def real_thing(seed: int) -> Vectors:
    """Vectors with an axis of valence, an axis of arousal, and halves that agree."""
    rng = np.random.default_rng(seed)
    axes = rng.normal(size=(2, D))
    rows = np.outer(VALENCE - 5, axes[0]) * 1.0 + np.outer(NORMS.arousal - 4.5, axes[1]) * 0.8
    halves = [centred(rows + rng.normal(size=rows.shape)) for _ in range(2)]
    return Vectors((halves[0] + halves[1]) / 2, (halves[0], halves[1]))


def verdicts(real: Vectors, seed: int) -> dict[str, bool | None]:
    permuted = [pure_noise(1000 * seed + i) for i in range(1, 61)]
    return {m.name: m.beyond_noise for m in metrics(real, noise(real.all, 60, seed), permuted, NORMS)}


def test_pure_noise_passes_the_popular_gates_and_is_shown_to_be_noise() -> None:
    planted, permuted = pure_noise(0), [pure_noise(seed) for seed in range(1, 101)]
    found = {m.name: m for m in metrics(planted, noise(planted.all, 100, 0), permuted, NORMS)}
    assert found["mean cosine"].value == pytest.approx(-1 / (K - 1), abs=0.01)
    assert found["opposed valence"].value is not None and found["opposed valence"].value < -0.9
    assert found["opposed valence"].random is not None and found["opposed valence"].random.high < -0.9
    assert [name for name, metric in found.items() if metric.beyond_noise] == []


@pytest.mark.usefixtures("unchecked")
def test_noise_is_taken_for_more_hardly_ever() -> None:
    rows = [verdicts(pure_noise(90_000 + seed), seed) for seed in range(1, 31)]
    beyond = [value for row in rows for value in row.values()]
    assert None not in beyond and np.mean([bool(value) for value in beyond]) <= 0.08


def test_what_is_there_lies_beyond_noise() -> None:
    found = verdicts(real_thing(0), 1)
    for name in ("split half", "first component", "PC1 and valence", "PC2 and arousal", "alike in valence"):
        assert found[name], name
    assert not found["opposed valence"], "opposed whatever the vectors are"


def test_without_norms_no_number_needs_them_and_without_halves_one_is_undefined() -> None:
    alone = Vectors(pure_noise(0).all, None)
    found = {m.name: m for m in metrics(alone, noise(alone.all, 5, 0), [alone], None)}
    assert not {"opposed valence", "PC1 and valence"} & set(found)
    assert found["split half"].value is None and found["split half"].beyond_noise is None


def test_random_vectors_are_centred_as_long_as_the_real_ones_and_follow_the_seed() -> None:
    real = real_thing(3).all
    one, other = noise(real, 2, 7), noise(real, 2, 7)
    assert np.array_equal(one[1].all, other[1].all) and not np.array_equal(one[0].all, one[1].all)
    assert np.allclose(one[0].all.sum(0), 0, atol=1e-9)
    ratio = np.linalg.norm(one[0].all, axis=1) / np.linalg.norm(real, axis=1)
    assert 0.5 < np.median(ratio) < 1.5


def test_pictures_are_cosines_components_and_an_order_of_all() -> None:
    vectors = real_thing(1).all
    drawn = picture(vectors, NORMS)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.allclose(drawn.cosines, units @ units.T) and sorted(drawn.order) == list(range(K))
    values = np.linalg.eigvalsh(vectors.T @ vectors)[::-1]
    assert drawn.shares == pytest.approx((values[0] / values.sum(), values[1] / values.sum()))
    assert np.corrcoef(drawn.places[:, 0], VALENCE)[0, 1] > 0.9
    assert np.corrcoef(picture(-vectors, NORMS).places[:, 0], VALENCE)[0, 1] > 0.9, "however the axis comes out"
    assert np.allclose(components(vectors)[0][:, 0] ** 2, drawn.places[:, 0] ** 2)


def test_a_tree_puts_like_things_together() -> None:
    blocks = np.asarray([0, 1, 2, 0, 1, 2, 0, 1, 2])
    found = tree_order(np.where(blocks[:, None] == blocks[None, :], 0.1, 1.0) - 0.1 * np.eye(9))
    assert [int(blocks[i]) for i in found.leaves] in [sorted(blocks, key=list(p).index) for p in _permutations()]
    assert found.cophenetic == pytest.approx(1)
    loose = tree_order(1 - cosine_matrix(pure_noise(0).all))
    assert loose.cophenetic is not None and loose.cophenetic < 0.9
    assert tree_order(np.asarray([[0.0, 1.0], [1.0, 0.0]])).cophenetic is None


def _permutations() -> list[tuple[int, ...]]:
    return [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]


def test_the_lens_is_the_norm_and_the_unembedding_and_nothing_else(model: Model) -> None:
    vectors = torch.randn(3, model.d_model, generator=torch.Generator().manual_seed(0))
    found = promoted(model, vectors)
    assert found.shape == (3, model.n_tokens) and torch.allclose(found.mean(1), torch.zeros(3), atol=1e-4)
    assert torch.allclose(promoted(model, 7 * vectors), found, atol=1e-3), "length does not count"
    assert torch.allclose(promoted(model, -vectors), -found, atol=1e-3), "no bias of the norm is left in it"
    assert not torch.allclose(found[0], found[1], atol=1e-2), "control"


def test_on_a_llama_the_lens_is_this_product(llama: Model) -> None:
    vectors = torch.randn(2, llama.d_model, generator=torch.Generator().manual_seed(1))
    unit = vectors / vectors.pow(2).mean(1, keepdim=True).sqrt()
    gain, unembed = llama.hf.model.norm.weight.detach(), llama.hf.lm_head.weight.detach()
    wanted = ((unit * gain) @ unembed.T)[:, : llama.n_tokens]
    assert torch.allclose(promoted(llama, vectors), wanted - wanted.mean(1, keepdim=True), atol=1e-3)


def test_words_of_several_tokens_count_as_their_mean(llama: Model) -> None:
    ids = word_ids(llama, ["the", "desperate"])
    assert len(ids[1]) > len(ids[0]) >= 1
    logits = torch.arange(2 * llama.n_tokens, dtype=torch.float32).reshape(2, -1)
    found = word_logits(logits, ids)
    assert found[0, 1] == pytest.approx(float(np.mean(ids[1]))) and found.shape == (2, 2)
    assert own_ranks(torch.tensor([[3.0, 1.0], [2.0, 2.0]])) == [1, 2], "a tie counts against it"


def test_norms_are_read_by_name_and_what_is_not_rated_is_known(tmp_path: Path) -> None:
    path = tmp_path / "norms.csv"
    path.write_text("n,Arousal,WORD,Valence\n1,7,Desperate,2\n2,2,calm,7\n3,7,angry,\n4,5,At_Ease,8\n5,3,sad,2\n")
    found = read_norms(path, ["angry", "at ease", "calm", "desperate", "proud", "sad"])
    assert found.rated.tolist() == [False, True, True, True, False, True]
    assert found.valence[3] == 2 and found.arousal[3] == 7 and found.source == "norms.csv"
    with pytest.raises(ProbeError, match="2 of 3 emotions are rated"):
        read_norms(path, ["calm", "sad", "proud"])
    path.write_text("word,valence\ncalm,7\n")
    with pytest.raises(ProbeError, match="no column arousal"):
        read_norms(path, ["calm"])
    path.write_text("word,valence,arousal\ncalm,high,2\n")
    with pytest.raises(ProbeError, match="calm: could not convert"):
        read_norms(path, ["calm"])
    with pytest.raises(ProbeError, match="reading norms"):
        read_norms(tmp_path / "none.csv", ["calm"])


def stories(each: int = 8) -> tuple[Transcript, ...]:
    return tuple(
        Transcript(
            f"{emotion}:{i}", (Message("text", f"Kyle, {i}. {text}{' and then' * (i % 3)}."),), f"topic:{i % 4}",
            label=emotion, meta={"emotion": emotion},
        )
        for emotion, text in TOLD.items()
        for i in range(each)
    )  # fmt: skip


@pytest.fixture
def built(llama: Model, tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    build(Job("four", stories(), sites="1", from_token=5, n_null=19), llama, workspace=workspace)
    return workspace


def measured(llama: Model, workspace: Workspace, norms: Path | None = None) -> Geometry:
    rated = None if norms is None else partial(read_norms, norms)
    return geometry("four", llama, Site(1), rated, workspace=workspace, n_random=19, n_permuted=19)


def test_the_geometry_of_built_vectors_is_that_of_their_file(llama: Model, built: Workspace) -> None:
    found = measured(llama, built)
    assert found.names == ("angry", "calm", "desperate", "sad") and len(found.lens) == 4
    by_name = {metric.name: metric for metric in found.metrics}
    assert by_name["split half"].beyond_noise, "these stories do differ"
    assert not by_name["mean cosine"].beyond_noise
    assert {one.emotion for one in found.lens} == set(found.names) and all(len(one.top) == 8 for one in found.lens)
    again = measured(llama, built)
    assert json.dumps(again.to_dict()) == json.dumps(found.to_dict())


def test_the_recipe_behind_permuted_emotions_is_the_recipe_of_the_file(llama: Model, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    plain = tuple(
        Transcript(f"n{i}", (Message("text", f"The plan {i} is on the table{' today' * i}."),), "n") for i in range(8)
    )
    job = Job("n", stories(), neutral=plain, sites="1", from_token=5, n_null=19)
    folder = build(job, llama, workspace=workspace).folder
    data = ProbeCard.load(folder).data
    acts, neutral = (Activations.open(workspace.activations / data[key]) for key in ("stories", "neutral"))
    space = space_at(Site(1), acts, neutral)
    assert space is not None
    names = sorted(TOLD)
    again = vectors_of(acts.read(Site(1)).float(), emotions_of(acts), names, space.without)
    saved = load_directions(folder / "directions.safetensors")
    for name, vector in zip(names, again, strict=True):
        assert np.allclose(vector, saved[f"emotion:{name}@L1.resid_post"].vector.numpy(), atol=1e-5)
    raw = vectors_of(acts.read(Site(1)).float(), emotions_of(acts), names, lambda found: found)
    assert not np.allclose(raw, again, atol=1e-3), "control"


def test_without_the_activations_or_the_vectors_it_says_what_to_do(llama: Model, built: Workspace) -> None:
    with pytest.raises(ProbeError, match="0 emotion vectors there"):
        geometry("four", llama, Site(2), workspace=built)
    with pytest.raises(StoreError, match="no such file"):
        geometry("five", llama, Site(1), workspace=built)
    built.activations.rename(built.root / "gone")
    with pytest.raises(StoreError, match="activations of its stories are gone"):
        measured(llama, built)


def test_the_page_is_one_offline_file_that_shows_noise_beside_every_figure(
    llama: Model, built: Workspace, tmp_path: Path
) -> None:
    norms = tmp_path / "n.csv"
    norms.write_text("word,valence,arousal\n" + "\n".join(f"{n},{i},{5 - i}" for i, n in enumerate(sorted(TOLD))))
    found = measured(llama, built, norms)
    page = write_geometry(found, tmp_path / "g.html")
    text = page.read_text()
    assert "default-src &#39;none&#39;" in text and "permuted emotions" in text and "Noise gives these too" in text
    assert "mean cosine" in text.partition("Noise gives these too")[2][:200]
    assert not [mark for mark in ('src="http', "src='http", "<link") if mark in text]
    again = write_geometry(found, tmp_path / "h.html")
    assert again.read_bytes() == page.read_bytes()


def test_names_are_shown_and_not_obeyed(llama: Model, built: Workspace, tmp_path: Path) -> None:
    evil = "<img src=x>"
    found = measured(llama, built)
    lens = tuple(replace(one, emotion=evil, top=(evil,)) for one in found.lens)
    bad = replace(found, names=(evil, *found.names[1:]), lens=lens)
    assert evil not in write_geometry(bad, tmp_path / "evil.html").read_text()


def test_figures_show_the_noise_and_the_verdicts(llama: Model, built: Workspace) -> None:
    found = measured(llama, built)
    cosines = cosine_figure(found.names, found.real, found.permuted)
    assert len([d for d in cosines.data if d.type == "heatmap"]) == 2
    assert -cosines.layout.coloraxis.cmin == cosines.layout.coloraxis.cmax == 1
    places = component_figure(found.names, found.real, found.permuted, None)
    assert list(places.data[0].text) == list(found.names)
    drawn = metric_figure(found.metrics)
    hollow = next(d for d in drawn.data if d.name == "what noise gives too")
    full = next(d for d in drawn.data if d.name == "beyond noise")
    assert hollow.marker.symbol == "diamond-open" and len(hollow.x) + len(full.x) == len(found.metrics)
    for figure in (cosines, places, drawn):
        assert figure.layout.template.layout.font.size >= 12 and len(figure.to_json()) < 20_000


def test_the_command_prints_every_number_with_its_noise(
    llama: Model, built: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interp.cli.options.load_model", lambda *_: llama)
    cli = typer.Typer()
    cli.add_typer(app, name="emotions")
    base = ["emotions", "geometry", "four", "--site", "1", "-w", str(built.root)]
    base += ["--n-random", "19", "--n-permuted", "19"]
    shown = CliRunner().invoke(cli, base)
    assert shown.exit_code == 0, shown.output
    assert "noise gives it too" in shown.output and (built.runs / "emotions" / "four.html").is_file()
    row = next(line for line in shown.output.splitlines() if line.startswith("split half"))
    assert "noise gives it too" not in row
    printed = json.loads(CliRunner().invoke(cli, [*base, "--json"]).stdout)
    assert printed["emotions"] == ["angry", "calm", "desperate", "sad"]
