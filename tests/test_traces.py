import json
import re
from dataclasses import replace
from shutil import which

import numpy as np
import pytest
import torch

from interp.directions import ModelIdentity, random_like
from interp.errors import DirectionError, ProbeError, StoreError, TranscriptError
from interp.models import pad
from interp.plots import write_still
from interp.sites import Site
from interp.testing import random_direction, small_transcripts, tiny_model
from interp.tokens import Span, render
from interp.traces import BAND, SHADES, TokenTrace, block_of, choose, coloured, running_mean, text, trace, visible
from interp.transcripts import Message, Transcript

torch.set_num_threads(1)
PLANTED = "Kyle"
TOLERANCE = 1e-4  # float32 projections of order 10, divided by an sd of order 1


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("llama"))


def benign(n=12):
    words = re.findall(r"\w+", "Please reply to the team before noon about the plan and the notes for Ada")
    for index in range(n):
        said = " ".join(words[(index + step * (index % 3 + 1)) % len(words)] for step in range(6 + index))
        messages = (Message("user", said), Message("assistant", said[::-1]))
        yield Transcript(f"benign:{index}", messages, group=f"g{index}")


def activations(model, transcripts, site):
    """Every token but token 0 of every transcript, one transcript at a time."""
    ids = [render(t, model.tokenizer).ids for t in transcripts]
    return torch.cat([model.run(pad([i]), sites=[site]).captured[site][0, 1:] for i in ids])


def directions(model):
    places = ((0, 1), (2, 2), (0, 3))
    return [random_direction(model, layer, seed=seed, name=f"d{seed}") for layer, seed in places]


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "gemma3"])
def test_a_score_is_the_calibrated_score_of_the_teacher_forced_capture(tmp_path, family):
    model = tiny_model(tmp_path, family)
    reference, subjects = list(benign()), [t for t in benign(14)][12:]
    traces = trace(model, subjects, directions(model), reference, n_random=20)
    for row, direction in enumerate(directions(model)):
        calibrated = direction.calibrated(activations(model, reference, direction.site))
        for subject, found in zip(subjects, traces, strict=True):
            acts = activations(model, [subject], direction.site)
            assert np.allclose(found.scores[row, 1:], calibrated.score(acts).numpy(), atol=TOLERANCE)
            # control: the scale does come from the reference
            assert not np.allclose(found.scores[row, 1:], direction.score(acts).numpy(), atol=0.05)


def test_a_trace_does_not_depend_on_the_other_transcripts_or_on_the_batch(model):
    reference, subjects = list(benign()), small_transcripts()
    together = trace(model, subjects, directions(model), reference, n_random=20)
    apart = trace(model, subjects[1:2], directions(model), reference[::-1], n_random=20, batch_tokens=1)[0]
    assert [t.id for t in together] == [t.id for t in subjects]
    for name in ("scores", "low", "high"):
        assert np.allclose(getattr(together[1], name), getattr(apart, name), atol=TOLERANCE, equal_nan=True)
    other = trace(model, subjects[1:2], directions(model), reference[:4], n_random=20)[0]
    assert not np.allclose(other.scores, apart.scores, atol=0.05, equal_nan=True)


def test_over_the_reference_itself_every_direction_has_mean_0_and_sd_1(model):
    reference = list(benign())
    traces = trace(model, reference, directions(model), reference, n_random=20)
    z = np.concatenate([t.scores[:, 1:] for t in traces], axis=1)
    assert np.allclose(z.mean(1), 0, atol=TOLERANCE)
    assert np.allclose(z.std(1, ddof=1), 1, atol=TOLERANCE)


def test_the_band_is_made_of_random_directions_on_the_same_scale(model):
    reference, direction = list(benign()), random_direction(model)
    bank = random_like(direction, 20, seed=5)
    found = trace(model, reference[:1], [direction], reference, n_random=20, seed=5)[0]
    rows = trace(model, reference[:1], bank, reference, n_random=20)[0].scores[:, 1:]
    low, high = found.band()
    assert np.allclose(np.percentile(rows, BAND, axis=0), [low[1:], high[1:]], atol=TOLERANCE)
    other = trace(model, reference[:1], [direction], reference, n_random=20, seed=6)[0]
    assert not np.allclose(other.high[:, 1:], found.high[:, 1:], atol=0.05)


def test_token_0_has_no_score_and_does_not_enter_the_scale(model):
    found = trace(model, small_transcripts(), directions(model), list(benign()), n_random=20)[0]
    assert np.isnan(found.scores[:, 0]).all() and np.isnan(found.low[:, 0]).all()
    assert np.isfinite(found.scores[:, 1:]).all()
    assert found.to_dict()["scores"][0][0] is None
    assert found.reference["tokens"] == sum(len(render(t, model.tokenizer)) - 1 for t in benign())


def planted(model, vector, strength):
    """The model with `vector` added to the embedding of one word."""
    token = model.tokenizer(" " + PLANTED, add_special_tokens=False)["input_ids"]
    assert len(token) == 1
    with torch.no_grad():
        model.hf.get_input_embeddings().weight[token[0]] += strength * vector
    return token[0]


@pytest.mark.parametrize("strength", [40.0, 0.0])
def test_a_planted_direction_rises_where_it_is_planted_and_nowhere_else(tmp_path, strength):
    model = tiny_model(tmp_path)
    direction = random_direction(model, layer=0, seed=9)
    token = planted(model, direction.unit, strength)
    direction = replace(direction, model=model.identity)
    words = "Ada and Kyle reply to Kyle before noon , and the team plans lunch for Kyle and Bob"
    subject = Transcript("planted", (Message("user", words),), group="planted")
    found = trace(model, [subject], [direction], list(benign()), n_random=100)[0]
    there = np.flatnonzero(render(subject, model.tokenizer).ids == token)
    low, high = found.band()
    elsewhere = [p for p in range(1, len(found)) if p not in there]
    outside = (found.scores[0] < low) | (found.scores[0] > high)
    assert len(there) == 3
    # control: nothing planted, nothing rises
    assert (found.scores[0, there] > high[there]).all() == (strength > 0)
    assert outside[elsewhere].mean() <= 0.2


def test_a_direction_of_another_model_is_refused_and_the_message_names_both(model):
    identity = ModelIdentity("stranger", "0" * 16, "float32", "none", "none", "none")
    stranger = replace(random_direction(model), model=identity)
    with pytest.raises(DirectionError, match="stranger"):
        trace(model, small_transcripts(), [stranger], list(benign()), n_random=20)


def test_what_cannot_give_an_honest_band_or_scale_is_refused(model):
    direction, reference = random_direction(model), list(benign())
    with pytest.raises(DirectionError, match="at least 20"):
        trace(model, reference, [direction], reference, n_random=19)
    with pytest.raises(DirectionError, match="more than once"):
        trace(model, reference, [direction, direction], reference, n_random=20)
    with pytest.raises(TranscriptError, match="no transcripts"):
        trace(model, reference, [direction], [], n_random=20)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_the_pieces_joined_are_the_rendered_text_whatever_the_tokens_cut(tmp_path, family):
    model = tiny_model(tmp_path, family)
    said = Message("user", "naïve 🙂 日本語\u2028 </script>")
    odd = Transcript("odd", (said, Message("assistant", "ok")), group="odd")
    found = trace(model, [odd], [random_direction(model)], list(benign()), n_random=20)[0]
    tokens = render(odd, model.tokenizer)
    assert "".join(found.pieces) == tokens.text
    assert len(found.pieces) == len(tokens)


def test_blocks_cover_every_token_once_and_know_their_segments(model):
    found = trace(model, small_transcripts()[:1], [random_direction(model)], list(benign()), n_random=20)[0]
    assert [b.start for b in found.blocks[1:]] == [b.stop for b in found.blocks[:-1]]
    assert found.blocks[0].start == 0 and found.blocks[-1].stop == len(found)
    names = [b.name for b in found.blocks]
    assert [n for n in names if n.startswith("email")] == ["email:1", "email:2"]
    assert {"system", "scratchpad", "tool_call:1", "template"} <= set(names)
    scratchpad = next(b for b in found.blocks if b.name == "scratchpad")
    assert "Answer." in "".join(found.pieces[scratchpad.start : scratchpad.stop])


def test_a_trace_survives_json_bit_for_bit(model):
    found = trace(model, small_transcripts()[:1], directions(model), list(benign()), n_random=20)[0]
    again = TokenTrace.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False)))
    for name in ("scores", "low", "high"):
        assert np.array_equal(getattr(again, name), getattr(found, name), equal_nan=True)
    assert (again.pieces, again.spans, again.directions) == (found.pieces, found.spans, found.directions)
    with pytest.raises(TranscriptError, match="interp trace"):
        TokenTrace.from_dict({**found.to_dict(), "format": 0})


@pytest.mark.parametrize("window", [1, 2, 5, 50])
def test_smoothing_is_the_mean_over_the_nearest_known_tokens(window):
    values = np.random.default_rng(0).normal(size=(2, 17)).astype(np.float32)
    values[:, 0] = np.nan
    found = running_mean(values, window)
    for position in range(1, 17):
        near = values[:, max(position - (window - 1) // 2, 1) : position + window // 2 + 1]
        assert np.allclose(found[:, position], near.mean(1), atol=1e-6)
    assert np.isnan(found[:, 0]).all()


def test_a_row_is_found_by_key_or_by_an_unambiguous_name(model):
    both = [random_direction(model, layer, name="fear") for layer in (0, 1)]
    found = trace(model, small_transcripts()[:1], both, list(benign()), n_random=20)[0]
    assert found.row() == 0 and found.row("fear@L1.resid_post") == 1
    for name in ("fear", "joy"):
        with pytest.raises(DirectionError, match="fear@L0.resid_post, fear@L1.resid_post"):
            found.row(name)


def example(pieces, scores):
    pieces = ("", *pieces)
    rows = np.asarray([[np.nan, *scores]], dtype=np.float32)
    spans = (Span("role", "user", 0, 1, len(pieces)),)
    band = np.full_like(rows, 1.0)
    return TokenTrace(
        "id", "g", "benign", pieces, spans, len(pieces), ("fear@L0.resid_post",), rows, (str(Site(0)),), -band, band, 20
    )


def test_the_text_rendering_puts_a_block_under_every_character_outside_the_band():
    shown = text(example(("Hello", " Kyle", "."), (0.2, 5.0, -5.0))).splitlines()
    assert shown[-2:] == ["Hello Kyle.", "     █████▁"]
    assert "[user] tokens 1 to 3, mean z +0.07" in shown


def test_the_text_rendering_never_passes_a_control_character_to_the_terminal():
    shown = text(example(("\x1b[31m", "\u202eevil", "a\rb"), (0, 0, 0)))
    assert not set("\x1b\r\u202e") & set(shown)
    assert "⟨U+001B⟩[31m" in shown and "⟨U+202E⟩evil" in shown


def test_wide_characters_get_two_blocks_and_long_lines_are_folded():
    shown = text(example(("日本",), (5.0,))).splitlines()
    assert shown[-1] == "████"
    assert max(map(len, text(example(("word " * 60,), (5.0,)), width=40).splitlines()[3:])) <= 40


def test_a_higher_score_never_gets_a_lower_block():
    blocks = [block_of(z) for z in np.linspace(-9, 9, 101)]
    assert blocks == sorted(blocks) and len(set(blocks)) == 8


def test_visible_spells_what_acts_and_leaves_language_alone():
    for fine in ("naïve\n\tcafé", "日本語", "עברית", "👩\u200d💻", "<script>"):
        assert visible(fine) == fine
    assert visible("a\u202eb\u2028c\x00\u2066") == "a⟨U+202E⟩b⟨U+2028⟩c⟨U+0000⟩⟨U+2066⟩"


# ---- many sites, percentiles, tables, pictures


def test_a_percentile_is_the_share_of_benign_tokens_that_score_less(model):
    reference, subjects = list(benign()), small_transcripts()
    found = trace(model, subjects, directions(model), reference, n_random=20)[0]
    for row, direction in enumerate(directions(model)):
        z = direction.calibrated(acts := activations(model, reference, direction.site)).score(acts).numpy()
        expected = [100 * (z < score).mean() for score in found.scores[row, 1:]]
        assert np.allclose(found.percentiles()[row, 1:], expected, atol=100 / len(z) + 1.0)
        assert np.allclose(found.quantiles[row, [0, -1]], [z.min(), z.max()], atol=TOLERANCE)
    assert np.isnan(found.percentiles()[:, 0]).all()
    assert found.percentiles()[:, 1:].std() > 10, "control: tokens do differ"
    assert replace(found, quantiles=None).percentiles() is None


def test_many_sites_are_read_in_smaller_batches_with_the_same_scores(model, monkeypatch):
    many = [random_direction(model, layer, name=name, seed=layer) for name in "ab" for layer in (0, 1)]
    whole = trace(model, small_transcripts(), many, list(benign()), n_random=20)
    monkeypatch.setattr("interp.traces.scores.HELD_BYTES", 4 * model.d_model * 2 * 30)
    small = trace(model, small_transcripts(), many, list(benign()), n_random=20)
    assert whole[0].directions == ("a@L0.resid_post", "a@L1.resid_post", "b@L0.resid_post", "b@L1.resid_post")
    for name in ("scores", "low", "high", "quantiles"):
        assert np.allclose(getattr(whole[0], name), getattr(small[0], name), atol=TOLERANCE, equal_nan=True)


def test_a_trace_of_an_older_version_has_no_percentiles_and_reads_all_the_same(model):
    found = trace(model, small_transcripts()[:1], directions(model), list(benign()), n_random=20)[0]
    row = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert np.array_equal(TokenTrace.from_dict(row).quantiles, found.quantiles)
    old = TokenTrace.from_dict({name: value for name, value in row.items() if name != "quantiles"})
    assert old.quantiles is None and old.to_frame()["percentile"].isna().all()


def test_a_table_has_a_row_for_each_direction_and_token(model):
    found = trace(model, small_transcripts()[:1], directions(model), list(benign()), n_random=20)[0]
    table = found.to_frame()
    assert len(table) == len(found) * len(found.directions)
    one = table[(table["direction"] == "d2") & (table["position"] == 5)].iloc[0]
    low, high = found.band("d2")
    assert one["site"] == "L2.resid_post" and one["token"] == found.pieces[5]
    assert (one["z"], one["low"], one["high"]) == (found.scores[1, 5], low[5], high[5])
    assert set(table["segment"].dropna()) == {b.segment for b in found.blocks if b.segment}
    assert table.loc[table["position"] == 0, "z"].isna().all() and table["generated"].sum() == 0


def test_a_figure_of_a_trace_shows_the_directions_of_its_first_site(model):
    many = [random_direction(model, layer, name=name) for name in "abcdefgh" for layer in (0, 1)]
    found = trace(model, small_transcripts()[:1], many, list(benign()), n_random=20)[0]
    drawn = [line.name for line in found.figure(window=3).data if line.type == "scatter" and line.meta == 0]
    assert drawn == [f"{name}@L0.resid_post, mean of 3 tokens" for name in "abcdef"]
    drawn = [line.name for line in found.figure(["h@L1.resid_post"], window=3).data if line.customdata is not None]
    assert drawn == ["h@L1.resid_post, mean of 3 tokens"]


def test_colours_of_a_terminal_stand_outside_the_band_alone():
    runs = list(coloured(example(("Hello", " Kyle", "\u202e.", " so"), (0.2, 5.0, -1.2, -2.1))))
    assert [shade for piece, shade in runs if piece in ("Hello", " Kyle", "⟨U+202E⟩.", " so")] == [0, SHADES, -1, -2]
    assert "Hello Kyle⟨U+202E⟩. so" in "".join(piece for piece, _ in runs)


def test_without_a_choice_the_usual_direction_and_two_thirds_of_the_depth_come_first(model):
    names = ["lda", "emotion:calm", "emotion:desperate"]
    found = [replace(random_direction(model, 0, name=name), site=Site(layer)) for name in names for layer in range(40)]
    chosen = choose(found, middle=Site(26))
    assert (chosen[0].key, len(chosen)) == ("emotion:desperate@L26.resid_post", 3 * 12)
    assert [d.name for d in chosen[::12]] == ["emotion:desperate", "emotion:calm", "lda"]
    layers = sorted(d.site.layer for d in chosen[:12])
    assert len(set(layers)) == 12 and layers[0] == 0 and max(np.diff(layers)) <= 5
    named = choose(found, ["lda"], [Site(3), Site(1)])
    assert [d.key for d in named] == ["lda@L3.resid_post", "lda@L1.resid_post"]
    for words, sentence in (((["joy"], []), "no such direction"), (([], [Site(50)]), "was not fitted there")):
        with pytest.raises(ProbeError, match=sentence):
            choose(found, *words)


def test_a_picture_needs_a_browser_and_says_so(tmp_path, monkeypatch):
    figure = example(("Hello",), (0.2,)).figure()
    with pytest.raises(StoreError, match=r"Let it end in \.png or \.svg"):
        write_still(figure, tmp_path / "trace.gif")
    monkeypatch.setattr("choreographer.browsers.chromium.Chromium.find_browser", lambda **_: None)
    with pytest.raises(StoreError, match="no Chromium or Chrome here"):
        write_still(figure, tmp_path / "trace.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not any(map(which, ("chromium", "google-chrome"))), reason="no Chromium or Chrome on this machine")
def test_a_picture_is_drawn_where_there_is_a_browser(tmp_path):
    figure = example(("Hello", " Kyle"), (0.2, 5.0)).figure()
    assert write_still(figure, tmp_path / "trace.png").read_bytes().startswith(b"\x89PNG")
    assert "fear@L0.resid_post" in write_still(figure, tmp_path / "trace.svg").read_text()
