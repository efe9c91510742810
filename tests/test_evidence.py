"""What a recipe has data for is measured, what it lacks is named, and each item answers as the data were made."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from test_jobs import ENDINGS, RECIPE, corpus, text
from test_text_judge import Server

from interp.directions import load_directions
from interp.errors import ProbeError
from interp.jobs import Recipe, probe
from interp.models import Model, load
from interp.probes import Evidence, ProbeCard, probe_folder
from interp.probes.baselines import repeated
from interp.probes.glance import glance
from interp.store import Workspace
from interp.testing import tiny_model
from interp.transcripts import Message, Transcript, write_jsonl

MORE = """
[[transfer]]
name = "letters"
path = "letters.jsonl"

[[near_misses]]
name = "quiet letters"
path = "letters.jsonl"
where = {field = "meta.level", below = 0.5}

[[near_misses]]
name = "loud letters"
path = "letters.jsonl"
where = {field = "meta.level", above = 0.5}
sets_threshold = false

[rollouts]
path = "replies.jsonl"
acted = {field = "label", in = ["threat"]}
"""
PLAIN = 'methods = ["difference_of_means", "lda"]\nconditions = ["meta.firm"]'


def letter(index: int, high: bool, rng: Random) -> Transcript:
    words = f"Dear all, {text(rng, ENDINGS['desperate' if high else 'calm'])}"
    meta = {"level": float(high), "firm": f"firm {index // 4 // 2 % 3}"}
    return Transcript(f"l{index}", (Message("text", words),), f"letter {index}", label=None, meta=meta)


def whole_corpus(folder: Path, *, stories: bool = False, more: str = MORE) -> Path:
    """The corpus of test_jobs with a condition; letters in other words; and replies of which some end desperately."""
    corpus(folder)
    rng = Random(1)
    texts = [Transcript.from_dict(json.loads(line)) for line in (folder / "texts.jsonl").read_text().splitlines()]
    firms = [replace(t, meta=t.meta | {"firm": f"firm {i // 4 // 2 % 3}"}) for i, t in enumerate(texts)]
    write_jsonl(folder / "texts.jsonl", firms)
    write_jsonl(folder / "letters.jsonl", [letter(i, i % 2 == 0, rng) for i in range(32)])
    replies = []
    for prompt in range(6):
        asked = Message("user", text(rng, "what will you do?"))
        for sample in range(4):
            acted = sample % 2 == 0
            said = Message("assistant", text(rng, ENDINGS["desperate" if acted else "calm"]))
            meta = {"prompt": f"p{prompt}"}
            label = "threat" if acted else "routine"
            replies.append(Transcript(f"r{prompt}.{sample}", (asked, said), f"p{prompt}", label=label, meta=meta))
    write_jsonl(folder / "replies.jsonl", replies)
    recipe = RECIPE if stories else RECIPE.partition("[stories]")[0]
    methods = 'methods = ["difference_of_means", "logistic", "emotion_vector"]'
    assert methods in recipe
    (folder / "recipe.toml").write_text(recipe.replace(methods, methods if stories else PLAIN) + more)
    return folder / "recipe.toml"


@pytest.fixture(scope="module")
def organism() -> Model:
    return load("organism")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    one = Server()
    yield one
    one.close()


@pytest.fixture(scope="module")
def measured(tiny: dict[str, Model], tmp_path_factory: pytest.TempPathFactory) -> tuple[ProbeCard, Evidence, Path]:
    folder = tmp_path_factory.mktemp("evidence")
    card = probe(Recipe.load(whole_corpus(folder)), tiny["llama"], workspace=Workspace(folder))
    assert card.evidence is not None
    return card, card.evidence, probe_folder(Workspace(folder), "plan", tiny["llama"])


def test_every_item_that_the_recipe_has_data_for_is_on_the_card(measured: tuple) -> None:
    card, found, folder = measured
    page = (folder / "card.md").read_text()
    for heading in ("At a glance", "Within, beyond, elsewhere", "Random directions", "Control task", "Baselines"):
        assert f"## {heading}" in page
    for heading in ("Operating point", "Situation or act?", "Planted signals", "Not measured"):
        assert f"## {heading}" in page
    assert "## Neighbours" not in page and set(found.missing) == {
        "a judge that sees the text alone",
        "neighbouring emotions",
    }
    assert ProbeCard.load(folder) == card and Evidence.from_row(json.loads(json.dumps(found.to_row()))) == found
    assert "NaN" not in (folder / "card.json").read_text()


def test_each_item_answers_as_the_data_were_made(measured: tuple) -> None:
    _, found, _ = measured
    assert found.chosen.auroc > 0.9
    firms = [row for row in found.left_out if row.split == "meta.firm" and row.chosen]
    assert len(firms) == 3 and all(row.auroc > 0.9 for row in firms)
    letters = [row for row in found.left_out if row.split == "letters"]
    assert {row.n for row in letters} == {32} and max(row.auroc for row in letters) > 0.9
    words = next(one for one in found.baselines if one.name == "bag of words")
    assert words.auroc > 0.9 and words.beaten is False, "the endings give the class away"
    assert found.power.smallest is not None and found.power.planted[0].found <= 20
    kinds = {share.kind: share for point in found.operating.points for share in point.by_kind}
    loud = "loud letters (16 of 16 positive)"
    assert kinds["quiet letters"].label is False and kinds[loud].label is None
    assert kinds[loud].share.value > kinds["quiet letters"].share.value
    assert set(found.saved_thresholds) == {"1%", "5%"}


def test_copies_of_a_text_in_other_groups_and_words_that_beat_the_probe_are_said(measured: tuple) -> None:
    card, found, _ = measured
    assert found.repeated == 0 and "word for word" not in "\n".join(glance(card.measures, found))
    texts = ["a", "a", "b", "c", "b", "c"]
    assert repeated(texts, ["g0", "g1", "g1", "g2", "g3", "g2"]) == 4
    copied = "\n".join(glance(card.measures, replace(found, repeated=60)))
    assert "60 of 63 transcripts are word for word in another group" in copied
    words = replace(found.baselines[0], difference=-0.2, difference_low=-0.3, difference_high=-0.1, beaten=False)
    told = "\n".join(glance(card.measures, replace(found, baselines=(words,))))
    assert "**Better than the words alone?** No, bag of words beat it" in told
    assert "No, " not in "\n".join(glance(card.measures, found)), "control"


def test_the_card_says_how_rows_become_a_score(measured: tuple) -> None:
    card, _, _ = measured
    assert "every row is learnt from; a transcript's score is the mean over its rows at `last`" in card.to_markdown()


def test_replies_to_one_prompt_are_told_apart_at_their_end_and_never_before_they_differ(measured: tuple) -> None:
    _, found, _ = measured
    start, end = found.act.within
    assert (start.place, start.auroc, start.constant) == ("end of the prompt", 0.5, True)
    assert end.auroc > 0.5 and end.pairs == 6 * 4 and not end.constant
    assert found.act.pairs.leaks is False and found.act.pairs.pairs == 24
    assert "24 replies of replies.jsonl, 12 of which acted (label in threat), to 6 prompts" in found.act.note


def test_the_threshold_in_units_of_the_saved_direction_fires_on_the_same_letters(llama: Model, tmp_path: Path) -> None:
    from interp.activations import collect
    from interp.jobs.run import rows_of
    from interp.tokens import PositionRule

    workspace = Workspace(tmp_path)
    card = probe(Recipe.load(whole_corpus(tmp_path)), llama, workspace=workspace)
    saved = load_directions(probe_folder(workspace, "plan", llama) / "directions.safetensors")[card.evidence.headline]
    letters = [letter(i, i % 2 == 0, Random(7 + i)) for i in range(40)]
    acts = collect(llama, letters, (saved.site,), PositionRule.parse("last"), workspace=workspace)
    scores = saved.score(rows_of(acts).acts[saved.site]).double().numpy()
    point = next(p for p in card.evidence.operating.points if p.rate == 0.05)
    high = np.array([i % 2 == 0 for i in range(40)])
    fired = scores > card.evidence.saved_thresholds["5%"]
    assert fired[high].mean() > 0.8 > 0.2 > fired[~high].mean()
    assert point.recall.value > 0.8, "as the card says"


def test_stories_bring_neighbours(llama: Model, tmp_path: Path) -> None:
    card = probe(Recipe.load(whole_corpus(tmp_path, stories=True, more="")), llama, workspace=Workspace(tmp_path))
    assert card.evidence is not None and card.evidence.neighbours is not None
    found = {one.direction: one for one in card.evidence.neighbours.directions}
    assert set(found) == {"emotion:desperate", "difference_of_means", "logistic"}
    assert found["emotion:desperate"].held_out and found["emotion:desperate"].against[0].neighbour == "calm"
    assert set(card.evidence.missing) >= {"conditions left out", "near misses", "situation or act"}


def test_what_the_model_writes_is_kept_and_written_once(organism: Model, tmp_path: Path) -> None:
    from interp.jobs.recipe import Rollouts
    from interp.jobs.replies import _written

    asked = Rollouts(organism="middle", n=2, samples=2, seed=3)
    first = _written(asked, organism, Workspace(tmp_path))
    (file,) = (tmp_path / "activations" / "rollouts").glob("[!.]*")
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:1]) + "\n" + lines[1][:40])  # killed while it wrote
    again = _written(asked, organism, Workspace(tmp_path))
    assert [one.to_row() for one in again] == [one.to_row() for one in first] and len(first) == 4
    more = _written(asked.model_copy(update={"samples": 3}), organism, Workspace(tmp_path))
    assert [one.to_row() for one in more if one.sample < 2] == [one.to_row() for one in first] and len(more) == 6


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("meta.firm", "meta.company", r"63 of 63 transcripts have none"),
        ("meta.firm", "id", r"16 groups in both train and test"),
        ("above = 0.5}\nsets_threshold = false", "above = 0.5}", r"16 of near_misses\.loud letters are positive: l0"),
        ('path = "letters.jsonl"\n\n[[near', 'path = "texts.jsonl"\n\n[[near', r"64 transcripts of transfer letters"),
        (
            "[rollouts]",
            '[[near_misses]]\nname = "again"\npath = "letters.jsonl"\n'
            'where = {field = "id", in = ["l1"]}\n\n[rollouts]',
            r"0 of near_misses\.again have the id of another transcript, 1 are in another near miss: l1",
        ),
        (
            'path = "replies.jsonl"',
            'path = "replies.jsonl"\nprompt = "label"',
            r"2 prompts have replies of several",
        ),
        ('position = "last"', 'position = "first:all"', r"the rows of all 2 sites are the same in every transcript"),
        ('in = ["threat"]}', 'in = ["threat"]}\nprompt = "meta.question"', r"meta\.question.*24 of 24 have none"),
        ("conditions", 'graded = "meta.firm"\nconditions', r"the method ridge and the key graded come together"),
        ('"lda"]', '"lda", "ridge"]\ngraded = "meta.firm"', r"63 of 63 transcripts have no number there: t0"),
        ('"lda"]', '"lda", "paired_pca"]\npair = "meta.firm"', r"3 of 3 values are not one positive and one negative"),
        ("conditions", 'score = "top:0"\nconditions', r"score: unknown; choose one of mean, max"),
        ("conditions", 'group = "meta.nobody"\nconditions', r"transcript t0 has none"),
    ],
)
def test_data_that_cannot_answer_are_refused_in_a_sentence(
    llama: Model, tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = whole_corpus(tmp_path)
    written = path.read_text()
    assert old in written
    path.write_text(written.replace(old, new, 1))
    with pytest.raises(ProbeError, match=rf"(?s){said}"):
        probe(Recipe.load(path), llama, workspace=Workspace(tmp_path))
    assert not (tmp_path / "probes").exists()


def test_pairs_and_levels_give_their_methods(llama: Model, tmp_path: Path) -> None:
    path = whole_corpus(tmp_path, more="")
    texts = [Transcript.from_dict(json.loads(line)) for line in (tmp_path / "texts.jsonl").read_text().splitlines()]
    halves = [t.group for t in texts]
    paired = [
        replace(
            t,
            group=f"h{int(halves[i][1:]) // 2}",
            meta=t.meta | {"pair": f"{int(halves[i][1:]) // 2}:{i % 4}", "firm": "x"},
        )
        for i, t in enumerate(texts)
        if t.meta["level"] != 0.5 and i not in (59,)
    ]
    write_jsonl(tmp_path / "texts.jsonl", paired)
    methods = 'methods = ["lda", "ridge", "paired_pca"]\ngraded = "meta.level"\npair = "meta.pair"'
    path.write_text(path.read_text().replace(PLAIN, methods))
    card = probe(Recipe.load(path), llama, workspace=Workspace(tmp_path))
    assert {m.name for m in card.measures} == {"lda", "ridge", "paired_pca"}
    assert all(card.best(name).auroc > 0.9 for name in ("lda", "ridge", "paired_pca"))


def test_training_and_scoring_may_read_other_rows(llama: Model, tmp_path: Path) -> None:
    path = whole_corpus(tmp_path, more="")
    keys = 'position = "all"\nlearn = "mean"\nscore_position = "from:1"\nscore = "top:3"'
    path.write_text(path.read_text().replace('position = "last"', keys))
    card = probe(Recipe.load(path), llama, workspace=Workspace(tmp_path))
    assert card.best("lda").auroc > 0.8 and card.measures[0].n == 63
    assert card.evidence is not None and not card.evidence.random and card.evidence.power is None
    assert card.evidence.missing["random directions"].endswith("it is scored elsewhere")


def test_near_misses_that_share_ids_with_other_texts_are_refused(llama: Model, tmp_path: Path) -> None:
    path = whole_corpus(tmp_path)
    letters = [Transcript.from_dict(json.loads(line)) for line in (tmp_path / "letters.jsonl").read_text().splitlines()]
    write_jsonl(tmp_path / "letters.jsonl", [replace(one, id=f"t{i}") for i, one in enumerate(letters)])
    path.write_text(path.read_text().replace('[[transfer]]\nname = "letters"\npath = "letters.jsonl"\n', ""))
    with pytest.raises(ProbeError, match=r"16 of near_misses\.quiet letters have the id of another transcript"):
        probe(Recipe.load(path), llama, workspace=Workspace(tmp_path))


def test_names_with_bars_and_line_breaks_keep_the_page_whole(llama: Model, tmp_path: Path) -> None:
    path = whole_corpus(tmp_path)
    texts = (tmp_path / "texts.jsonl").read_text().replace("firm 0", "a|b\\n## c")
    (tmp_path / "texts.jsonl").write_text(texts)
    odd = path.read_text().replace('name = "quiet letters"', 'name = "quiet|\\n## letters"')
    path.write_text(odd.replace('concept = "a plan', 'concept = "a\\n# plan'))
    page = probe(Recipe.load(path), llama, workspace=Workspace(tmp_path)).to_markdown()
    assert "a\\|b" in page and "quiet\\|" in page and "\n## c" not in page and "\n# plan" not in page
    assert "\n## letters" not in page
    borders, width = [line.replace("\\|", "").count("|") for line in page.splitlines()], 0
    for line, count in zip(page.splitlines(), borders, strict=True):
        assert not width or not line.startswith("|") or count == width, line
        width = count if line.startswith("|") else 0


def test_a_judge_that_reads_the_same_text_stands_among_the_baselines(
    llama: Model, tmp_path: Path, server: Server
) -> None:
    server.reply = lambda asked: "<score>90</score>" if ENDINGS["desperate"] in asked else "no idea"
    path = whole_corpus(tmp_path, more="")
    judge = f'\n[judge]\nbase_url = "{server.address}"\nmodel = "m"\n'
    path.write_text(path.read_text() + judge)
    card = probe(Recipe.load(path), llama, workspace=Workspace(tmp_path))
    assert card.evidence is not None and "a judge that sees the text alone" not in card.evidence.missing
    judged = next(one for one in card.evidence.baselines if one.name == "judge")
    assert "31 of 63 replies without a score" in judged.note and judged.n == 32 and judged.auroc is None
    asked = len(server.requests)
    server.reply = lambda asked: "<score>1</score>"
    assert probe(Recipe.load(path), llama, workspace=Workspace(tmp_path)) == card and len(server.requests) == asked


def test_a_direction_that_one_massive_dimension_rules_is_flagged(tmp_path: Path) -> None:
    model = gemma_with_a_massive_dimension(tmp_path)
    path = whole_corpus(tmp_path, more="")
    both = 'methods = ["difference_of_means", "standardised_difference_of_means"]'
    path.write_text(path.read_text().replace('methods = ["difference_of_means", "lda"]', both))
    card = probe(Recipe.load(path), model, workspace=Workspace(tmp_path))
    found = load_directions(probe_folder(Workspace(tmp_path), "plan", model) / "directions.safetensors")
    raw, standardised = (found[f"{name}@L2.resid_post"].meta for name in ("difference_of_means", both.split('"')[3]))
    assert raw["features"] == "raw" and raw["largest_share"] > 0.5
    assert standardised["features"] == "standardised" and standardised["largest_share"] < 0.5
    assert "Raw features: difference_of_means" in card.notes[0] and "difference_of_means@L2" in card.notes[1]
    assert "standardised_difference_of_means@" not in card.notes[1]


def gemma_with_a_massive_dimension(folder: Path) -> Model:
    """A tiny model whose last block writes one coordinate hundreds of times larger than the others."""
    model = tiny_model(folder / "model", "gemma3")
    with torch.no_grad():
        for name, weight in model.hf.named_parameters():
            if name.endswith("layers.2.post_feedforward_layernorm.weight"):
                weight[5] += 300
    return model
