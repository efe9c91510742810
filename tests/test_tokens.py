"""One rendering: one BOS, spans that slice back to the text, positions from the tokenizer's own offsets."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interp.errors import TranscriptError
from interp.models import Model
from interp.testing import small_transcripts
from interp.tokens import PositionRule, Span, Tokens, render
from interp.transcripts import Message, Transcript


def sliced(tokens: Tokens, span: Span) -> str:
    return "".join(tokens.piece(position) for position in range(span.start, span.stop))


def chat(*contents: str) -> Transcript:
    roles = ["user", "assistant"] * len(contents)
    return Transcript("t", tuple(Message(r, c) for r, c in zip(roles, contents, strict=False)), "g")


def test_ids_are_those_of_the_template(model: Model) -> None:
    for transcript in small_transcripts():
        conversation = [message.to_dict() for message in transcript.messages]
        expected = model.tokenizer.apply_chat_template(conversation, return_dict=True)["input_ids"]
        assert render(transcript, model.tokenizer).ids.tolist() == expected


def test_there_is_one_bos_or_none(model: Model) -> None:
    bos = model.tokenizer.bos_token_id
    plain = Transcript("story", (Message("text", "She felt cold."),), "g")
    for tokens in [render(t, model.tokenizer) for t in (*small_transcripts(), plain)]:
        assert (tokens.ids == bos).sum() == (0 if bos is None else 1)
        assert bos is None or tokens.ids[0] == bos


def test_every_message_and_segment_slices_back(model: Model) -> None:
    for number, transcript in enumerate(small_transcripts(), start=1):
        tokens = render(transcript, model.tokenizer)
        roles = [sliced(tokens, span) for span in tokens.spans if span.kind == "role"]
        for said, message in zip(roles, transcript.messages, strict=True):
            assert said in (message.content, message.content.strip())
        assert len(tokens.named("email")) == 2 * number
        for span in tokens.named("email"):
            assert sliced(tokens, span) == "<email>\nFrom: Ada\nBody: lunch?\n</email>"
        (scratchpad,) = tokens.named("scratchpad")
        assert sliced(tokens, scratchpad) == "<SCRATCHPAD_REASONING>\nAnswer.\n</SCRATCHPAD_REASONING>"
        assert [sliced(tokens, s) for s in tokens.named("tool_call")] == [
            "<tool_use:email>\nto: ada\n</tool_use:email>"
        ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=2, max_size=4))
def test_any_text_is_found_where_it_stands(llama_tokenizer, contents: list[str]) -> None:
    """Contents such as `user` or a blank, which also stand in the template, are not mistaken for it."""
    tokens = render(chat(*contents), llama_tokenizer)
    roles = [span for span in tokens.spans if span.kind == "role"]
    starts = [int(tokens.offsets[span.start][0]) for span in roles if span.stop > span.start]
    assert starts == sorted(starts)
    for span, content in zip(roles, contents, strict=True):
        if content.strip():
            start, stop = tokens.offsets[span.start][0], tokens.offsets[span.stop - 1][1]
            assert content.strip() in tokens.text[start:stop]


@pytest.fixture(scope="module")
def llama_tokenizer(tiny: dict[str, Model]):
    return tiny["llama"].tokenizer


@pytest.mark.parametrize("content", ["user", "assistant", "<", "a", "\n"])
def test_a_content_that_the_template_also_writes_is_not_mistaken(llama_tokenizer, content: str) -> None:
    tokens = render(chat("user", content, "user"), llama_tokenizer)
    first, second, third = [span for span in tokens.spans if span.kind == "role"]
    assert sliced(tokens, first) == "user" == sliced(tokens, third)
    assert first.stop <= second.start <= second.stop <= third.start
    header = "<|start_header_id|>user<|end_header_id|>\n\n"
    assert tokens.text[: tokens.offsets[first.start][0]].endswith(header)


def test_a_trimmed_content_is_not_mistaken_for_a_later_one(llama_tokenizer) -> None:
    tokens = render(chat("\n0", "0"), llama_tokenizer)
    first, second = [span for span in tokens.spans if span.kind == "role"]
    assert sliced(tokens, first) == "0" == sliced(tokens, second) and first.stop < second.start


def test_a_plain_text_needs_no_template(model: Model) -> None:
    tokens = render(Transcript("s", (Message("text", "Her hands were cold."),), "g"), model.tokenizer)
    assert tokens.text == "Her hands were cold."
    assert model.tokenizer.decode(tokens.ids, skip_special_tokens=True) == tokens.text


def test_a_tokenizer_without_template_says_so(llama: Model) -> None:
    import copy

    bare = copy.deepcopy(llama.tokenizer)
    bare.chat_template = None
    with pytest.raises(TranscriptError, match="no chat template"):
        render(chat("hello"), bare)


def test_a_template_that_refuses_says_why(llama: Model) -> None:
    import copy

    strict = copy.deepcopy(llama.tokenizer)
    strict.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{{ m['content'] }}{% endfor %}"
    )
    with pytest.raises(TranscriptError, match="no system"):
        render(small_transcripts()[0], strict)


def test_a_template_that_drops_a_message_is_found_out(llama: Model) -> None:
    import copy

    lossy = copy.deepcopy(llama.tokenizer)
    lossy.chat_template = (
        "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    with pytest.raises(TranscriptError, match="message 0 \\(system\\)"):
        render(small_transcripts()[0], lossy)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("last", [9]),
        ("all", list(range(10))),
        ("from:7", [7, 8, 9]),
        ("user", [1, 2, 5, 6]),
        ("first:user", [1]),
        ("last:user", [6]),
        ("mean:user", [1, 2, 5, 6]),
        ("email", [2, 3, 5]),
        ("email:2", [5]),
        ("scratchpad", []),
        ("last:scratchpad", []),
        ("prompt", list(range(8))),
        ("generated", [8, 9]),
        ("mean", list(range(10))),
    ],
)
def test_position_rules(rule: str, expected: list[int]) -> None:
    import numpy as np

    spans = (
        Span("role", "user", 0, 1, 3),
        Span("role", "user", 1, 5, 7),
        Span("segment", "email:1", 0, 2, 4),
        Span("segment", "email:2", 1, 5, 6),
    )
    tokens = Tokens(np.arange(10), spans, "", np.zeros((10, 2), dtype=np.int64), 8)
    parsed = PositionRule.parse(rule)
    assert parsed(tokens).tolist() == expected
    assert parsed.pooled == rule.startswith("mean")


def test_a_marker_is_read_at_the_token_that_completes_it(model: Model) -> None:
    for transcript in small_transcripts():
        tokens = render(transcript, model.tokenizer)
        (position,) = PositionRule.parse("at:<tool_use:email>\nto:")(tokens)
        assert tokens.text[: tokens.offsets[position][1]].endswith("<tool_use:email>\nto:")
        (last,) = PositionRule.parse("at:</email>")(tokens)
        assert last == tokens.named("email")[-1].stop - 1
        assert len(PositionRule.parse("at:nowhere")(tokens)) == 0


@pytest.mark.parametrize("rule", ["", " ", "from:", "from:x", "at:"])
def test_a_rule_that_does_not_parse_raises(rule: str) -> None:
    with pytest.raises(TranscriptError, match="position rule"):
        PositionRule.parse(rule)
