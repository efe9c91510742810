"""Emotion vectors are what the stories of an emotion have in common, and sum to nothing."""

from pathlib import Path

import pytest
import torch

from interp.activations import collect
from interp.emotions import contrast, emotion_vectors, story_rule
from interp.errors import ProbeError
from interp.models import Model, pad
from interp.sites import Site
from interp.store import Workspace
from interp.testing import small_transcripts
from interp.tokens import PositionRule, render
from interp.transcripts import Message, Transcript

TOLD = {
    "desperate": "Nobody would hear the appeal and the deadline was near",
    "calm": "The team had lunch before noon",
    "angry": "She felt her hands go cold: this, again",
}
MEAN = PositionRule.parse("mean:from:5")


def stories(counts: dict[str, int]) -> list[Transcript]:
    return [
        Transcript(
            f"{emotion}:{i}",
            (Message("text", f"Kyle, {i}. {TOLD[emotion]}{' and then' * i}."),),
            f"topic:{i}",
            meta={"emotion": emotion},
        )
        for emotion, n in counts.items()
        for i in range(n)
    ]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_a_vector_is_the_emotions_mean_minus_the_mean_over_emotions(llama: Model, workspace: Workspace) -> None:
    told, site = stories({"desperate": 4, "calm": 2, "angry": 3}), Site(1)
    vectors = emotion_vectors(collect(llama, told, llama.all_sites(), MEAN, workspace=workspace))
    means: dict[str, list[torch.Tensor]] = {}
    for story in told:
        alone = llama.run(pad([render(story, llama.tokenizer).ids]), sites=[site]).captured[site][0]
        means.setdefault(story.meta["emotion"], []).append(alone[5:].mean(0))
    centres = {name: torch.stack(rows).mean(0) for name, rows in means.items()}
    grand = torch.stack(list(centres.values())).mean(0)
    for name, centre in centres.items():
        assert torch.allclose(vectors[name][site].vector, centre - grand, atol=1e-4)
    assert not torch.allclose(vectors["calm"][site].vector, vectors["angry"][site].vector, atol=1e-2), "control"


def test_the_vectors_of_a_site_sum_to_zero_however_many_stories_each_has(llama: Model, workspace: Workspace) -> None:
    vectors = emotion_vectors(
        collect(llama, stories({"desperate": 5, "calm": 1, "angry": 2}), [Site(0)], MEAN, workspace=workspace)
    )
    total = torch.stack([of_site[Site(0)].vector for of_site in vectors.values()]).sum(0)
    assert total.abs().max() < 1e-4 < vectors["calm"][Site(0)].norm


def test_vectors_say_where_they_come_from(llama: Model, workspace: Workspace) -> None:
    acts = collect(llama, stories({"desperate": 2, "calm": 3}), llama.all_sites(), MEAN, workspace=workspace)
    vectors = emotion_vectors(acts)
    assert list(vectors) == ["calm", "desperate"] and list(vectors["calm"]) == list(llama.all_sites())
    one = vectors["desperate"][Site(2)]
    assert one.key == "emotion:desperate@L2.resid_post" and one.model == llama.identity
    assert one.meta["pool"] == ["calm", "desperate"] and one.meta["stories"] == {"calm": 3, "desperate": 2}
    assert one.meta["position"] == "mean:from:5" and one.meta["data"] == acts.fingerprint
    between = contrast(vectors, "desperate", "calm")[Site(2)]
    assert torch.allclose(between.vector, one.vector - vectors["calm"][Site(2)].vector)
    assert between.name == "emotion:desperate-calm" and between.meta["pool"] == ["calm", "desperate"]
    with pytest.raises(ProbeError, match="no stories of proud"):
        contrast(vectors, "desperate", "proud")


def test_short_stories_are_read_from_a_token_that_all_have(llama: Model) -> None:
    told = stories({"desperate": 3, "calm": 3})
    lengths = [len(render(story, llama.tokenizer)) for story in told]
    assert story_rule(told, llama.tokenizer).text == f"mean:from:{min(lengths) // 2}"
    assert story_rule(told, llama.tokenizer, from_token=3).text == "mean:from:3"
    long = [Transcript("long", (Message("text", "the deadline was near " * 60),), "g")]
    assert story_rule(long, llama.tokenizer).text == "mean:from:50"


def test_what_are_no_stories_is_refused(llama: Model, workspace: Workspace) -> None:
    with pytest.raises(ProbeError, match="3 stories without an emotion: small:1, small:2, small:3"):
        emotion_vectors(collect(llama, small_transcripts(), [Site(0)], MEAN, workspace=workspace))
    with pytest.raises(ProbeError, match="stories of calm alone"):
        emotion_vectors(collect(llama, stories({"calm": 2}), [Site(0)], MEAN, workspace=workspace))
    with pytest.raises(ProbeError, match="rows for 2 stories"):
        every = PositionRule.parse("all")
        emotion_vectors(collect(llama, stories({"calm": 1, "angry": 1}), [Site(0)], every, workspace=workspace))
