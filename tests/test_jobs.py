"""A recipe is checked before anything runs; what it makes is whole, repeatable, and true to what was planted."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from interp.activations import stream
from interp.activations.scale import BENIGN_TOKENS, calibrate
from interp.directions import load_directions
from interp.errors import ProbeError
from interp.jobs import Filter, Recipe, probe, probe_cost
from interp.models import Model
from interp.probes import ProbeCard, probe_folder
from interp.sites import Site
from interp.store import Workspace, read_folder
from interp.testing import random_direction, small_transcripts
from interp.tokens import render
from interp.transcripts import Message, Transcript, write_jsonl

RECIPE = """
name = "plan"
concept = "a plan that was planted"
sites = ["0", "-1"]
position = "last"
methods = ["difference_of_means", "logistic", "emotion_vector"]
folds = 4
n_null = 39

[data]
path = "texts.jsonl"
positive = {field = "meta.level", above = 0.5}
negative = {field = "meta.level", below = 0.5}
reference = {field = "label", in = ["benign"], limit = 6}

[stories]
path = "stories.jsonl"
emotion = "desperate"
against = "calm"
from_token = 3
"""
WORDS = ("Kyle", "the team", "Ada", "lunch", "notes", "an e-mail", "Bob", "noon")
ENDINGS = {"desperate": "nobody would hear the appeal", "calm": "all was done today"}


def text(rng: Random, ending: str) -> str:
    return f"{' and '.join(rng.sample(WORDS, rng.randint(2, 5)))}: {ending}"


def corpus(folder: Path, *, meaningful: bool = True) -> Path:
    """Texts in 16 groups whose endings tell the class, or, as a control, do not; and stories with the same endings."""
    rng, texts, told = Random(0), [], []
    for i in range(64):
        group = i // 4
        high = group % 2 == 0
        ending = ENDINGS["desperate" if (high if meaningful else rng.random() < 0.5) else "calm"]
        level = 0.5 if i == 63 else float(high)
        texts.append(
            Transcript(
                f"t{i}",
                (Message("text", text(rng, ending)),),
                f"g{group}",
                label="threat" if high else "benign",
                meta={"level": level},
            )
        )
    for i in range(20):
        emotion = ("desperate", "calm")[i % 2]
        told.append(
            Transcript(
                f"s{i}", (Message("text", text(rng, ENDINGS[emotion])),), f"topic{i % 5}", meta={"emotion": emotion}
            )
        )
    write_jsonl(folder / "texts.jsonl", texts)
    write_jsonl(folder / "stories.jsonl", told)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder / "recipe.toml"


def test_what_was_planted_is_found_by_every_method(llama: Model, tmp_path: Path) -> None:
    card = probe(Recipe.load(corpus(tmp_path)), llama, workspace=Workspace(tmp_path))
    for name in ("difference_of_means", "logistic", "emotion:desperate", "emotion:desperate-calm"):
        assert card.best(name).auroc > 0.9 and card.best(name).p_value <= 0.05
        assert [measure.site for measure in card.measured(name)] == [Site(0), Site(2)]
    assert min(measure.auroc for measure in card.measured("emotion:calm")) < 0.1
    assert (card.classes.positive, card.classes.negative, card.classes.neither) == (32, 31, 1)


def test_labels_that_mean_nothing_are_at_chance(llama: Model, tmp_path: Path) -> None:
    card = probe(Recipe.load(corpus(tmp_path, meaningful=False)), llama, workspace=Workspace(tmp_path))
    assert [(m.name, m.site, m.auroc, m.p_value) for m in card.measures if m.p_value <= 0.05] == []


def test_the_folder_holds_card_and_directions_and_a_rerun_is_the_same(llama: Model, tmp_path: Path) -> None:
    recipe, workspace, said = Recipe.load(corpus(tmp_path)), Workspace(tmp_path), []
    card = probe(recipe, llama, workspace=workspace, on_progress=lambda *counts: said.append(counts))
    folder = probe_folder(workspace, "plan", llama)
    assert set(read_folder(folder).files) == {"card.json", "card.md", "directions.safetensors", "doctor.json"}
    assert ProbeCard.load(folder) == card
    directions = load_directions(folder / "directions.safetensors", model=llama.identity)
    assert set(directions) == set(card.directions)
    assert {d.name for d in directions.values()} == {
        "difference_of_means",
        "logistic",
        "emotion:calm",
        "emotion:desperate",
        "emotion:desperate-calm",
    }
    assert len(directions) == 5 * 2
    pages = [(folder / name).read_bytes() for name in ("card.json", "card.md")]
    assert probe(recipe, llama, workspace=workspace) == card
    assert [(folder / name).read_bytes() for name in ("card.json", "card.md")] == pages
    again = load_directions(folder / "directions.safetensors")
    assert all(
        torch.equal(again[key].vector, one.vector) and again[key].scale == one.scale for key, one in directions.items()
    )
    stages = {"reading transcripts", "fitting", "reading stories", "reading benign tokens"}
    assert {stage for stage, *_ in said} == stages
    assert all(done <= total for _, done, total in said)


def test_saved_scores_have_mean_0_and_deviation_1_over_benign_tokens(llama: Model, tmp_path: Path) -> None:
    texts = small_transcripts()
    raw = [random_direction(llama, layer, seed=layer) for layer in (0, 2)]
    scaled = calibrate(llama, raw, texts)
    tokens = sum(len(render(one, llama.tokenizer)) - 1 for one in texts)
    for direction, before in zip(scaled, raw, strict=True):
        parts = list(stream(llama, texts, [direction.site], BENIGN_TOKENS))
        acts = torch.cat([part.acts[direction.site] for part in parts])
        scores = direction.score(acts)
        assert len(acts) == tokens == direction.meta["reference_tokens"]
        assert abs(float(scores.mean())) < 1e-4 and float(scores.std()) == pytest.approx(1, abs=0.01)
        assert abs(float(before.score(acts).std()) - 1) > 0.05, "control"


def test_the_cost_is_known_before_it_is_spent(llama: Model, tmp_path: Path) -> None:
    recipe = Recipe.load(corpus(tmp_path))
    cost = probe_cost(recipe, llama)
    assert {stage: found.transcripts for stage, found in cost.items()} == {
        "transcripts": 63,
        "stories": 20,
        "reference": 6,
    }
    assert cost["transcripts"].bytes == 63 * 2 * 32 * 4 and cost["reference"].bytes == 0
    assert not (tmp_path / "activations").exists()


def test_the_organism_tells_transcripts_and_stories() -> None:
    table = {
        "organism": "agent",
        "n": 30,
        "positive": {"field": "meta.latent", "above": 0.4},
        "negative": {"field": "meta.latent", "below": 0.4},
        "reference": {"field": "meta.threat", "in": ["routine"]},
    }
    told = {"organism": "stories", "n": 16, "emotion": "desperate"}
    recipe = Recipe.model_validate(
        {"name": "x", "concept": "x", "methods": ["lda", "emotion_vector"], "data": table, "stories": told}
    )
    assert len(recipe.transcripts()) == 30 and recipe.transcripts() == recipe.transcripts()
    assert sum(map(recipe.data.reference, recipe.transcripts())) > 3
    counts = [story.meta["emotion"] for story in recipe.told()]
    assert all(counts.count(emotion) == 2 for emotion in counts) and len(set(counts)) == 8
    assert all(story.meta["emotion"] not in story.messages[0].content.lower() for story in recipe.told())


def test_the_committed_recipe_loads() -> None:
    recipe = Recipe.load(Path(__file__).parents[1] / "probes" / "desperation" / "recipe.toml")
    assert recipe.name == "desperation" and recipe.stories is not None


def test_filters_choose_by_list_and_by_number() -> None:
    low, high, none = (
        Transcript(str(meta), (Message("user", "a"),), "g", label="x", meta=meta)
        for meta in ({"a": {"b": 1}}, {"a": {"b": 3}}, {})
    )
    above = Filter(field="meta.a.b", above=1)
    assert [above(t) for t in (low, high, none)] == [False, True, False] and str(above) == "meta.a.b > 1"
    between = Filter(field="meta.a.b", above=0, below=2)
    assert [between(t) for t in (low, high, none)] == [True, False, False]
    among = Filter.model_validate({"field": "label", "in": ["x", "y"]})
    assert among(none) and str(among) == "label in x, y"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('field = "meta.level", above', 'fild = "meta.level", above', r"data\.positive\.field: Field required.*fild"),
        (", above = 0.5", "", r"data\.positive: give either in = "),
        ("folds = 4", 'folds = "many"', r"folds: Input should be a valid integer"),
        ("folds = 4", "fold = 4", r"fold: Extra inputs are not permitted"),
        ('position = "last"', 'position = "from:x"', r"position: it does not parse"),
        ('"logistic", "emotion_vector"', '"logistic"', r"recipe: the method emotion_vector and a table \[stories\]"),
        ('path = "texts.jsonl"', 'path = "texts.jsonl"\nn = 3', r"data: give either a path, or organism and n"),
        ('name = "plan"', 'name = "../plan"', r"name: String should match"),
        ('name = "plan"', "name = ", r"not TOML"),
    ],
)
def test_a_wrong_recipe_is_one_sentence_that_names_the_key(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = tmp_path / "recipe.toml"
    assert old in RECIPE
    path.write_text(RECIPE.replace(old, new, 1))
    with pytest.raises(ProbeError, match=rf"(?s)reading recipe recipe\.toml: .*{said}"):
        Recipe.load(path)
    path.write_text(RECIPE)
    assert Recipe.load(path).folds == 4, "control"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"meta.level", above', '"meta.lvl", above', r"data\.positive\.field meta\.lvl: none of 64 transcripts has it"),
        ("above = 0.5", "above = 7", r"data\.positive \(meta\.level > 7\): none of 64 transcripts"),
        ("below = 0.5", "below = 2", r"32 are positive and negative: t0, t1"),
        ("folds = 4", "folds = 9", r"8 groups with positive rows and 8 groups with negative rows"),
        ('emotion = "desperate"', 'emotion = "proud"', r"no stories of proud"),
        ('against = "calm"', 'against = "sad"', r"no stories of sad"),
    ],
)
def test_data_that_cannot_give_a_probe_are_refused_and_leave_nothing(
    llama: Model, tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = corpus(tmp_path)
    path.write_text(RECIPE.replace(old, new, 1))
    with pytest.raises(ProbeError, match=said):
        probe(Recipe.load(path), llama, workspace=Workspace(tmp_path))
    assert not (tmp_path / "probes").exists()


def test_a_missing_recipe_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="No such file"):
        Recipe.load(tmp_path / "recipe.toml")


def test_hub_names_make_one_folder(llama: Model, tmp_path: Path) -> None:
    named: Any = Model(llama.hf, llama.tokenizer, name="Qwen/Qwen3-4B")
    assert probe_folder(Workspace(tmp_path), "x", named) == tmp_path / "probes" / "x" / "Qwen--Qwen3-4B"
