"""Vectors are the published recipe's, are measured on groups they have not seen, and say where they come from."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from interp.activations import Activations, Entry, RowTable, collect
from interp.cli.emotions import app
from interp.directions import ModelIdentity, load_directions
from interp.emotions import (
    Job,
    build,
    build_cost,
    emotion_vectors,
    held_out,
    neutral_space,
    project,
    read_stories,
    story_rule,
    world_job,
)
from interp.emotions.heldout import measures
from interp.emotions.recipe import long_enough
from interp.emotions.truth import rank_correlation
from interp.errors import DirectionError, ProbeError, TranscriptError
from interp.models import Model, pad
from interp.probes import ProbeCard
from interp.sites import Site
from interp.store import Workspace
from interp.tokens import PositionRule, render
from interp.transcripts import Message, Transcript, write_jsonl

TOLD = {
    "desperate": "Nobody would hear the appeal and the deadline was near",
    "calm": "The team had lunch before noon",
    "angry": "She felt her hands go cold: this, again",
}
PLAIN = (
    "The plan is on the table.",
    "Lunch is at noon today.",
    "The inbox has a mail to Kyle.",
    "Please reply to Ada.",
)
IDENTITY = ModelIdentity("made", "w", "float32", "t", "c", "none")


def stories(each: int = 6, emotions: tuple[str, ...] = tuple(TOLD)) -> list[Transcript]:
    return [
        Transcript(
            f"{emotion}:{i}",
            (Message("text", f"Kyle, {i}. {TOLD[emotion]}{' and then' * (i % 3)}."),),
            f"topic:{i % 3}",
            label=emotion,
            meta={"emotion": emotion},
        )
        for emotion in emotions
        for i in range(each)
    ]


def neutral(n: int = 8) -> list[Transcript]:
    return [
        Transcript(f"n:{i}", (Message("text", f"{PLAIN[i % 4]} {PLAIN[(i + 1 + i // 4) % 4]} {i}."),), "n")
        for i in range(n)
    ]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


class Planted(Activations):
    """A set whose rows were made up."""

    def read(self, site: Site, start: int = 0, stop: int | None = None) -> torch.Tensor:
        return PLANTED[self.folder.name][start:stop]


PLANTED: dict[str, torch.Tensor] = {}


def planted(name: str, rows: np.ndarray, emotions: list[str], topics: list[str]) -> Planted:
    PLANTED[name] = torch.from_numpy(rows).float()
    n = len(rows)
    zeros = np.zeros(n, np.int32)
    table = RowTable(np.arange(n, dtype=np.int32), zeros, zeros, zeros, zeros, ("",))
    entries = tuple(Entry(f"{i}", g, e, {"emotion": e}) for i, (e, g) in enumerate(zip(emotions, topics, strict=True)))
    return Planted(Path(name), IDENTITY, (Site(0),), "mean:from:5", "float32", rows.shape[1], 9, table, entries, zeros)


def drawn(seed: int, n: int = 60, signal: float = 0.0, by_topic: float = 0.0, d: int = 8) -> Planted:
    rng = np.random.default_rng(seed)
    emotions = [("sad", "calm", "angry")[i % 3] for i in range(n)]
    topics = [f"t{i // 3 % 10}" for i in range(n)]
    if by_topic:  # each topic tells mostly one emotion
        emotions = [("sad", "calm", "angry")[int(t[1:]) % 3 if rng.random() < 0.9 else rng.integers(3)] for t in topics]
    own = {name: rng.normal(size=d) for name in ("sad", "calm", "angry")}
    of_topic = {topic: rng.normal(size=d) for topic in set(topics)}
    rows = rng.normal(size=(n, d)) + [
        signal * own[e] + by_topic * of_topic[t] for e, t in zip(emotions, topics, strict=True)
    ]
    return planted(f"drawn-{seed}-{signal}-{by_topic}", rows, emotions, topics)


def test_the_fewest_components_that_reach_the_share_are_found() -> None:
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    signs = np.concatenate(
        [np.diag([2.0, np.sqrt(3), np.sqrt(2), 1, 0, 0]), -np.diag([2.0, np.sqrt(3), np.sqrt(2), 1, 0, 0])]
    )
    rows = torch.from_numpy(signs @ axes + 5)  # variances 4, 3, 2, 1
    for wanted, count, explained in ((0.39, 1, 0.4), (0.4, 1, 0.4), (0.5, 2, 0.7), (0.95, 4, 1.0)):
        space = neutral_space(rows, wanted)
        assert len(space.basis) == count and space.explained == pytest.approx(explained)
        assert torch.allclose(space.basis @ space.basis.T, torch.eye(count, dtype=torch.float64), atol=1e-9)
        left = space.without(torch.from_numpy(axes).float())
        assert torch.allclose(left[:count], torch.zeros(count, 6), atol=1e-6), "the components themselves are gone"
        assert torch.allclose(left[count:], torch.from_numpy(axes[count:]).float(), atol=1e-6), "and nothing else"


def test_few_rows_and_many_give_the_same_space() -> None:
    rows = torch.randn(12, 10, generator=torch.Generator().manual_seed(1))
    many, few = neutral_space(rows, 0.6), neutral_space(rows[:9], 0.6)
    by_svd = torch.linalg.svd(rows.double() - rows.double().mean(0), full_matrices=False)[2][: len(many.basis)]
    assert torch.allclose(many.basis.T @ many.basis, by_svd.T @ by_svd, atol=1e-9)
    assert len(few.basis) >= 1 and few.rows == 9
    for bad, share in ((rows[:2], 0.5), (rows, 1.0), (torch.ones(5, 4), 0.5)):
        with pytest.raises(ProbeError, match="principal components"):
            neutral_space(bad, share)


def test_vectors_lose_the_neutral_components_and_nothing_else(llama: Model, workspace: Workspace) -> None:
    told, plain, sites = stories(), neutral(), [Site(0), Site(2)]
    rule = story_rule(told, llama.tokenizer, from_token=5)
    acts = collect(llama, told, sites, rule, workspace=workspace)
    off = collect(llama, plain, sites, PositionRule.parse("mean:from:2"), workspace=workspace)
    raw, clean = emotion_vectors(acts), emotion_vectors(acts, off, variance=0.6)
    for site in sites:
        rows = off.read(site).double().numpy()
        _, sizes, axes = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
        shares = np.cumsum(sizes**2) / (sizes**2).sum()
        basis = axes[: int(np.searchsorted(shares, 0.6)) + 1]
        for name in TOLD:
            before, after = raw[name][site].vector.double().numpy(), clean[name][site].vector.double().numpy()
            assert np.allclose(after, before - basis.T @ (basis @ before), atol=1e-5)
            assert not np.allclose(after, before, atol=1e-4), "control"
            said = clean[name][site].meta["neutral"]
            assert said["components"] == len(basis) and said["explained"] == pytest.approx(shares[len(basis) - 1])
            assert said["kept"] == pytest.approx(np.linalg.norm(after) / np.linalg.norm(before), rel=1e-4)
            assert said["data"] == off.fingerprint and said["rows"] == 8 and said["position"] == "mean:from:2"
            assert "neutral" not in raw[name][site].meta
    lacking = collect(llama, plain, [Site(0)], PositionRule.parse("mean:from:2"), workspace=workspace)
    with pytest.raises(ProbeError, match="no L2.resid_post"):
        emotion_vectors(acts, lacking)


def test_planted_emotions_are_named_on_topics_that_no_vector_has_seen() -> None:
    acts = drawn(0, signal=2.0)
    naming = held_out(acts, n_null=99)[Site(0)]
    assert naming.accuracy > 0.9 and naming.confusion.sum() == 60
    assert naming.confusion.diagonal().sum() == round(naming.accuracy * 60)
    found = measures({Site(0): naming}, acts.groups)
    assert [m.name for m in found] == ["emotion:angry", "emotion:calm", "emotion:sad"]
    assert all(m.auroc > 0.95 and m.p_value == 0.01 and m.groups == 10 and m.shuffles == 99 for m in found)


def test_emotions_that_only_their_topics_carry_are_not_named() -> None:
    honest, leaky = [], []
    for seed in range(8):
        acts = drawn(seed, by_topic=3.0)
        emotions = [entry.label or "" for entry in acts.transcripts]
        alone = planted(f"leaky{seed}", acts.read(Site(0)).numpy(), emotions, [f"{i}" for i in range(60)])
        honest.append(held_out(acts, n_null=19)[Site(0)].accuracy)
        leaky.append(held_out(alone, n_null=19)[Site(0)].accuracy)
    assert np.mean(honest) < 0.45
    assert np.mean(leaky) > np.mean(honest) + 0.25, "control: with topics on both sides they seem to be"


@pytest.mark.usefixtures("unchecked")
def test_noise_is_significant_as_often_as_it_should_be() -> None:
    hits = 0
    for seed in range(200):
        acts = drawn(1000 + seed, n=30, d=4)
        naming = held_out(acts, n_null=19, seed=seed)
        hits += measures(naming, acts.groups)[0].p_value <= 0.05
    assert 3 <= hits <= 19, hits  # 99 % of Binomial(200, 0.05)


def test_an_emotion_on_one_topic_alone_cannot_be_measured() -> None:
    acts = planted(
        "one", np.random.default_rng(0).normal(size=(6, 4)), ["sad"] * 3 + ["calm"] * 3, ["a"] * 3 + ["a", "b", "c"]
    )
    with pytest.raises(ProbeError, match="all stories of sad are in one group"):
        held_out(acts)


def test_the_rank_correlation_is_spearmans() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 9, 50).astype(float), rng.normal(size=50)
    assert rank_correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert rank_correlation(one, np.ones(50)) is None


def test_a_build_is_whole_measured_and_on_the_scale_it_says(llama: Model, workspace: Workspace) -> None:
    job = Job(
        "three", tuple(stories()), "three.jsonl", tuple(neutral()), "plain.jsonl", sites="all", from_token=5, n_null=19
    )
    costs = build_cost(job, llama)
    assert set(costs) == {"stories", "neutral", "scale"} and costs["stories"].transcripts == 18
    built = build(job, llama, workspace=workspace)
    assert built.folder == workspace.probes / "three" / llama.name.replace("/", "--")
    found = load_directions(built.folder / "directions.safetensors", model=llama.identity)
    assert len(found) == 3 * 3 and set(ProbeCard.load(built.folder).directions) == set(found)
    acts = collect(llama, neutral(), [Site(1)], PositionRule.parse("from:1"), workspace=workspace)
    scores = found["emotion:calm@L1.resid_post"].score(acts.read(Site(1)))
    assert abs(float(scores.mean())) < 1e-4 and float(scores.std()) == pytest.approx(1, abs=1e-3)
    one = found["emotion:calm@L1.resid_post"].meta
    assert one["pool"] == ["angry", "calm", "desperate"] and sum(one["taken_for"].values()) == 6
    assert one["neutral"]["rows"] == 8 and "truth" not in one
    page = (built.folder / "card.md").read_text()
    assert (
        "three.jsonl" in page and "What stories are taken for at L2.resid_post" in page and "neutral components" in page
    )
    assert str(workspace.root) not in page + (built.folder / "card.json").read_text(), "no absolute path"


def test_a_second_build_reads_the_disk_and_gives_the_same_bytes(
    llama: Model, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job("again", tuple(stories()), neutral=tuple(neutral()), sites="1", from_token=5, n_null=19)
    first = (build(job, llama, workspace=workspace).folder / "directions.safetensors").read_bytes()
    runs: list[int] = []
    real = Model.run
    monkeypatch.setattr(Model, "run", lambda self, batch, **k: runs.append(len(batch.ids)) or real(self, batch, **k))
    folder = build(job, llama, workspace=workspace).folder
    assert (folder / "directions.safetensors").read_bytes() == first
    assert sum(runs) == 8, "the neutral texts that set the scale, and no story"


def test_nothing_is_taken_out_unless_there_are_neutral_texts_and_it_is_wanted(
    llama: Model, workspace: Workspace
) -> None:
    told = tuple(stories())
    job = Job("off", told, neutral=tuple(neutral()), variance=None, sites="1", from_token=5, n_null=19)
    off = build(job, llama, workspace=workspace)
    found = load_directions(off.folder / "directions.safetensors")["emotion:calm@L1.resid_post"]
    rule = story_rule(told, llama.tokenizer, from_token=5)
    plain = emotion_vectors(collect(llama, told, [Site(1)], rule, workspace=workspace))["calm"][Site(1)]
    assert torch.equal(found.vector, plain.vector) and "neutral" not in found.meta
    assert off.card.reference["transcripts"] == 8 and "neutral" not in off.card.data
    alone = build(Job("alone", told, sites="1", from_token=5, n_null=19), llama, workspace=workspace)
    assert alone.card.reference["chosen by"] == "the stories themselves"
    with pytest.raises(ProbeError, match="a share of 0"):
        build(Job("none", told, neutral=tuple(neutral()), variance=0.0, n_null=19), llama, workspace=workspace)
    with pytest.raises(ProbeError, match="no name of a folder"):
        build(Job("../up", told), llama, workspace=workspace)


def test_stubs_are_left_out_by_name_and_do_not_move_the_start(llama: Model) -> None:
    stub = Transcript("stub", (Message("text", "No."),), "topic:0", meta={"emotion": "calm"})
    kept, short = long_enough([*stories(), stub], llama.tokenizer)
    assert short == ("stub",) and kept == stories()
    assert story_rule(kept, llama.tokenizer).text != story_rule([*kept, stub], llama.tokenizer).text, "control"
    costs = build_cost(Job("s", (*stories(), stub), neutral=(*neutral(), stub), sites="1"), llama)
    assert costs["stories"].transcripts == 18 and costs["neutral"].transcripts == 8


def test_every_column_of_a_projection_is_the_directions_own_score(llama: Model, workspace: Workspace) -> None:
    built = build(Job("p", tuple(stories()), sites="0,2", from_token=5, n_null=19), llama, workspace=workspace)
    vectors = load_directions(built.folder / "directions.safetensors", model=llama.identity)
    text = neutral()[3]
    seen = project(llama, text, vectors.values())
    ids = render(text, llama.tokenizer).ids
    captured = llama.run(pad([ids]), sites=[Site(0), Site(2)]).captured
    assert seen.scores.shape == (len(ids), 6) and seen.names == tuple(vectors)
    for key, direction in vectors.items():
        wanted = direction.score(captured[direction.site][0]).numpy()
        assert np.allclose(seen[key][1:], wanted[1:], atol=1e-5) and np.isnan(seen[key][0])
    assert not np.allclose(seen.scores[1:, 0], seen.scores[1:, 1]), "control"
    with pytest.raises(DirectionError, match="2 have that name"):
        seen["emotion:calm"]
    with pytest.raises(DirectionError, match="no directions"):
        project(llama, text, [])
    with pytest.raises(TranscriptError, match="tokens"):
        project(llama, Transcript("long", (Message("text", "the inbox " * 3000),), "g"), vectors.values())


def test_the_command_builds_from_files_and_states_the_cost_alone_when_asked(
    llama: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("interp.cli.options.load_model", lambda *_: llama)
    write_jsonl(tmp_path / "s.jsonl", [*stories(), Transcript("x", (Message("text", "Whose?"),), "g")])
    write_jsonl(tmp_path / "n.jsonl", neutral())
    base: list[Any] = ["build", tmp_path / "s.jsonl", "--neutral", tmp_path / "n.jsonl", "-w", tmp_path]
    base += ["--name", "cli", "--from-token", "5", "--shuffles", "19", "-m", "tiny"]
    cli = typer.Typer()
    cli.add_typer(app, name="emotions")
    dry = CliRunner().invoke(cli, ["emotions", *map(str, base), "--dry-run"])
    assert (
        dry.exit_code == 0 and "18 stories of 3 emotions, 1 records left out" in dry.output and "tokens" in dry.output
    )
    assert not (tmp_path / "probes").exists()
    done = CliRunner().invoke(cli, ["emotions", *map(str, base)])
    assert done.exit_code == 0, done.output
    assert "held-out stories named right, chance 33.3%" in done.output
    assert (tmp_path / "probes" / "cli" / llama.name.replace("/", "--") / "manifest.json").is_file()
    assert len(read_stories(tmp_path / "s.jsonl").transcripts) == 18
    printed = json.loads(CliRunner().invoke(cli, ["emotions", *map(str, base), "--json"]).stdout)
    assert printed["sites"]["L2.resid_post"]["names"] == sorted(TOLD) and len(printed["measures"]) == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["-m", "tiny"], "no stories for tiny"),
        (["--emotion", "sad"], "the organism's own stories"),
        (["--group-by", "day"], "no such key"),
    ],
)
def test_what_cannot_be_built_is_said_before_a_model_is_loaded(given: list[str], said: str, tmp_path: Path) -> None:
    cli = typer.Typer()
    cli.add_typer(app, name="emotions")
    done = CliRunner().invoke(cli, ["emotions", "build", *given, "-w", str(tmp_path)])
    assert done.exit_code == 1 and isinstance(done.exception, ProbeError) and said in str(done.exception)


def test_a_built_folder_can_be_shared_as_it_is(llama: Model, workspace: Workspace) -> None:
    from interp.sharing import pull, push

    folder = build(
        Job("shared", tuple(stories()), sites="1", from_token=5, n_null=19), llama, workspace=workspace
    ).folder
    push(folder, str(workspace.root / "out"), workspace=workspace)
    other = Workspace(workspace.root / "other")
    other.root.mkdir()
    got = pull(str(workspace.root / "out"), other, model=llama)
    assert (got.folder / "directions.safetensors").read_bytes() == (folder / "directions.safetensors").read_bytes()


def test_on_the_organism_the_worlds_truth_stands_beside_the_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from interp.models import load

    monkeypatch.setattr("interp.emotions.recipe.STORIES", (64, 202))
    monkeypatch.setattr("interp.emotions.recipe.NEUTRAL", (16, 303))
    monkeypatch.setattr("interp.emotions.truth.AGENTS", 40)
    organism = load("organism")
    built = build(world_job("world", n_null=19), organism, workspace=Workspace(tmp_path))
    assert [str(site) for site in built.namings] == ["L2.resid_post"], "two thirds of the depth"
    assert {(t.of, t.n) for t in built.truths} == {("agent", 40), ("story", 8)} and len(built.truths) == 16
    truths = {truth.direction.partition("@")[0]: truth for truth in built.truths if truth.of == "agent"}
    desperate, calm = truths["emotion:desperate"], truths["emotion:calm"]
    assert desperate.before is not None and desperate.before > 0.5
    assert calm.before is not None and calm.before < -0.5
    assert (built.folder / "card.md").read_text().count("## Ground truth") == 2
    found = load_directions(built.folder / "directions.safetensors")["emotion:desperate@L2.resid_post"]
    assert found.meta["truth"]["agent"]["spearman"] == desperate.spearman
