"""From a transcript to token ids and spans, in one rendering by the model's own chat template.

Positions are absolute and come from the tokenizer's own offsets: nothing is encoded twice to learn a length. A
generated transcript keeps the ids that it was generated with, because decoding and encoding again may give others.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from interp.errors import TranscriptError
from interp.transcripts import Message, Transcript

TEXT_ROLE = "text"
"""The role of a plain document, such as a story: it is rendered as it stands, without a chat template."""

SEGMENTS: Mapping[str, re.Pattern[str]] = {
    "scratchpad": re.compile(r"<scratchpad(?:_reasoning)?>.*?(?:</scratchpad(?:_reasoning)?>|\Z)", re.I | re.S),
    "email": re.compile(r"<email>.*?(?:</email>|\Z)", re.I | re.S),
    "tool_call": re.compile(r"<tool_use:\w+>.*?(?:</tool_use:\w+>|\Z)", re.I | re.S),
}
"""Named parts of a message. All but the scratchpad are numbered within a transcript, from 1: `email:2`."""


@runtime_checkable
class Tokenizer(Protocol):
    """What this package needs of a Hugging Face tokenizer."""

    chat_template: Any
    bos_token: Any
    bos_token_id: Any

    def __call__(self, text: str, *, add_special_tokens: bool = True, return_offsets_mapping: bool = False) -> Any:
        """Encode one text."""
        ...

    def apply_chat_template(
        self, conversation: list[dict[str, Any]], *, tokenize: bool, add_generation_prompt: bool
    ) -> Any:
        """Render a conversation."""
        ...

    def decode(self, token_ids: Any, *, skip_special_tokens: bool = False) -> Any:
        """Turn ids into text."""
        ...


@dataclass(frozen=True)
class Span:
    """Tokens `start` to `stop` (exclusive): the content of a message (`role`) or a named part of it (`segment`)."""

    kind: str
    name: str
    message: int
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Tokens:
    """Ids, where everything is, and the text they stand for; `offsets[i]` is token i's range in `text`."""

    ids: Int[np.ndarray, " pos"]
    spans: tuple[Span, ...]
    text: str
    offsets: Int[np.ndarray, "pos 2"]
    prompt_tokens: int
    """How many tokens stand before the generated ones; all of them where nothing was generated."""

    def __len__(self) -> int:
        return len(self.ids)

    def piece(self, position: int) -> str:
        """The text of one token."""
        start, stop = self.offsets[position]
        return self.text[start:stop]

    def named(self, name: str) -> list[Span]:
        """The spans called `name`; `email` finds every e-mail, `email:2` the second."""
        return [s for s in self.spans if name in (s.name, s.name.partition(":")[0])]


def render(transcript: Transcript, tokenizer: Tokenizer, *, generation_prompt: bool = False) -> Tokens:
    """Token ids and spans of a transcript.

    Guarantees: at most one BOS, at position 0; every message's content is found and has a span; slicing `text` by a
    span's offsets gives back that content. With `generation_prompt` the template's opening of the next assistant turn
    is appended.

    Raises:
        TranscriptError: the tokenizer has no chat template or no offsets, or the template drops a message.
    """
    if transcript.token_ids is not None:
        return _render_generated(transcript, tokenizer)
    text = _template(transcript.messages, tokenizer, generation_prompt, transcript.id)
    ids, offsets = _encode(text, tokenizer)
    spans = tuple(_spans(_locate(transcript, text, tokenizer, generation_prompt), text, offsets))
    return Tokens(ids, spans, text, offsets, len(ids))


def _is_text(messages: Sequence[Message]) -> bool:
    return len(messages) == 1 and messages[0].role == TEXT_ROLE


def _template(messages: Sequence[Message], tokenizer: Tokenizer, generation_prompt: bool, name: str) -> str:
    if _is_text(messages):
        return messages[0].content
    if not tokenizer.chat_template:
        raise TranscriptError(
            f"rendering transcript {name!r}",
            "the tokenizer has no chat template",
            "use a chat model, set tokenizer.chat_template, or give plain texts (role 'text')",
        )
    conversation = [message.to_dict() for message in messages]
    try:
        text = tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=generation_prompt)
    except Exception as error:  # Jinja templates raise whatever they like
        raise TranscriptError(
            f"rendering transcript {name!r}",
            f"the chat template refused it ({error})",
            "check the order and names of the roles; some templates take no system message",
        ) from error
    return str(text)


def _encode(text: str, tokenizer: Tokenizer) -> tuple[Int[np.ndarray, " pos"], Int[np.ndarray, "pos 2"]]:
    """Ids and character offsets, with one BOS in front where the tokenizer's own habit or the template has one."""
    try:
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    except NotImplementedError as error:
        raise TranscriptError(
            "finding spans", "a slow tokenizer, which knows no offsets", "load the fast version of this tokenizer"
        ) from error
    ids, offsets = list(encoded["input_ids"]), [tuple(pair) for pair in encoded["offset_mapping"]]
    if adds_bos(tokenizer) and ids[:1] != [tokenizer.bos_token_id]:
        ids, offsets = [tokenizer.bos_token_id, *ids], [(0, 0), *offsets]
    return np.asarray(ids, dtype=np.int64), np.asarray(offsets, dtype=np.int64).reshape(-1, 2)


def adds_bos(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer puts a BOS before a plain text of its own accord."""
    if tokenizer.bos_token_id is None:
        return False
    return list(tokenizer("a")["input_ids"])[:1] == [tokenizer.bos_token_id]


def _locate(
    transcript: Transcript, text: str, tokenizer: Tokenizer, generation_prompt: bool
) -> Iterator[tuple[int, Message, int]]:
    """Each message's index, itself (content as rendered), and the character at which its content starts."""
    if _is_text(transcript.messages):
        yield 0, transcript.messages[0], 0
        return
    cursor = 0
    frames = _frames(transcript, tokenizer, generation_prompt)
    for index, message in enumerate(transcript.messages):
        if text.startswith(frames[index], cursor):
            cursor += len(frames[index])
        start, content = _first_of((message.content, message.content.strip()), text, cursor)
        if start < 0:
            raise TranscriptError(
                f"finding message {index} ({message.role}) of transcript {transcript.id!r}",
                "the chat template dropped or rewrote its content",
                "look at the rendering with `interp doctor`, or change the message",
            )
        cursor = start + len(content)
        yield index, Message(message.role, content), start


def _first_of(contents: Sequence[str], text: str, cursor: int) -> tuple[int, str]:
    """Where the earliest of `contents` stands from `cursor` on, the longest of those; -1 where none does."""
    found = [(start, -len(content), content) for content in contents if (start := text.find(content, cursor)) >= 0]
    start, _, content = min(found, default=(-1, 0, ""))
    return start, content


def _frames(transcript: Transcript, tokenizer: Tokenizer, generation_prompt: bool) -> list[str]:
    """What the template writes before each content, learnt from a rendering whose contents cannot be mistaken."""
    marks = [f"\ue000{index}\ue001" for index in range(len(transcript.messages))]
    marked = [Message(m.role, mark) for m, mark in zip(transcript.messages, marks, strict=True)]
    text = _template(marked, tokenizer, generation_prompt, transcript.id)
    starts = [text.find(mark) for mark in marks]
    if -1 in starts:
        return [""] * len(marks)
    stops = [0, *(start + len(mark) for start, mark in zip(starts, marks, strict=True))]
    return [text[stop:start] for stop, start in zip(stops, starts, strict=False)]


def _spans(located: Iterator[tuple[int, Message, int]], text: str, offsets: Int[np.ndarray, "pos 2"]) -> Iterator[Span]:
    """Role and segment spans, in reading order."""
    counts: dict[str, int] = {}
    for index, message, start in located:
        yield Span("role", message.role, index, *_token_range(offsets, start, start + len(message.content)))
        found = [(m.start(), m.end(), name) for name, rule in SEGMENTS.items() for m in rule.finditer(message.content)]
        for first, last, name in sorted(found):
            counts[name] = counts.get(name, 0) + 1
            label = name if name == "scratchpad" else f"{name}:{counts[name]}"
            yield Span("segment", label, index, *_token_range(offsets, start + first, start + last))


def _token_range(offsets: Int[np.ndarray, "pos 2"], start: int, stop: int) -> tuple[int, int]:
    """The tokens that overlap characters `start` to `stop`."""
    first = int(np.searchsorted(offsets[:, 1], start, side="right"))
    last = int(np.searchsorted(offsets[:, 0], stop, side="left"))
    return first, max(first, last)


def _render_generated(transcript: Transcript, tokenizer: Tokenizer) -> Tokens:
    """Rendering of a generated transcript: the prompt by the template, the reply by the ids it was generated with."""
    *before, reply = transcript.messages
    n_prompt = transcript.prompt_tokens or 0
    prompt = render(Transcript(transcript.id, tuple(before), transcript.group), tokenizer, generation_prompt=True)
    ids = np.asarray(transcript.token_ids, dtype=np.int64)
    if n_prompt != len(prompt) or not np.array_equal(ids[:n_prompt], prompt.ids):
        raise TranscriptError(
            f"rendering generated transcript {transcript.id!r}",
            "its prompt renders to other ids than it was generated with",
            "use the model and chat template that generated it",
        )
    base = len(prompt.text)
    ends = [0] + [len(tokenizer.decode(ids[n_prompt : i + 1])) for i in range(n_prompt, len(ids))]
    reply_offsets = base + np.asarray(list(pairwise(np.maximum.accumulate(ends))), dtype=np.int64).reshape(-1, 2)
    text = prompt.text + tokenizer.decode(ids[n_prompt:])
    offsets = np.concatenate([prompt.offsets, reply_offsets])
    located = iter([(len(before), Message(reply.role, text[base : base + len(reply.content)]), base)])
    spans = (*prompt.spans, *_spans(located, text, offsets))
    return Tokens(ids, spans, text, offsets, n_prompt)


@dataclass(frozen=True)
class PositionRule:
    """Which positions of a transcript are read: `PositionRule.parse("mean:assistant")(tokens)`.

    The grammar is `[first:|last:|mean:]NAME`, where NAME is `all`, `from:50` (the 50th token on), `prompt`,
    `generated`, a role (`assistant`), a segment (`scratchpad`, `email`, `email:2`, `tool_call:1`), or `at:TEXT`, the
    token that completes TEXT where it stands last. `last` alone is the last token, and `mean` asks for one pooled row
    a transcript.
    """

    text: str
    pick: str
    name: str

    @classmethod
    def parse(cls, text: str) -> "PositionRule":
        """The rule that `text` spells.

        Raises:
            TranscriptError: it is empty, or `from:` has no number.
        """
        head, _, rest = text.strip().partition(":")
        pick, name = (head, rest or "all") if head in ("first", "last", "mean") else ("every", text.strip())
        if name in ("", "at:") or (name.startswith("from:") and not name[5:].isdigit()):
            raise TranscriptError(
                f"position rule {text!r}",
                "it does not parse",
                "write last, assistant, mean:assistant, last:scratchpad, email:2, at:TEXT or from:50",
            )
        return cls(text, pick, name)

    @property
    def pooled(self) -> bool:
        """Whether the positions are averaged into one row."""
        return self.pick == "mean"

    def __call__(self, tokens: Tokens) -> Int[np.ndarray, " row"]:
        """The chosen positions, ascending and without repeats; empty where the transcript has no such part."""
        found = np.asarray(sorted(self._named(tokens)), dtype=np.int64)
        return {"first": found[:1], "last": found[-1:]}.get(self.pick, found)

    def _named(self, tokens: Tokens) -> set[int]:
        whole = {
            "all": (0, len(tokens)),
            "prompt": (0, tokens.prompt_tokens),
            "generated": (tokens.prompt_tokens, len(tokens)),
        }
        if self.name in whole:
            return set(range(*whole[self.name]))
        if self.name.startswith("from:"):
            return set(range(int(self.name[5:]), len(tokens)))
        if self.name.startswith("at:"):
            return _completing(self.name[3:], tokens)
        return {position for span in tokens.named(self.name) for position in range(span.start, span.stop)}


def _completing(text: str, tokens: Tokens) -> set[int]:
    """The token that holds the last character of the last occurrence of `text`; none where it does not occur."""
    start = tokens.text.rfind(text)
    return set() if start < 0 else {_token_range(tokens.offsets, start, start + len(text))[1] - 1}
