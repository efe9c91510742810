"""Which tokens an edit applies to: by absolute position, by named spans, and by what a reply has spelt so far.

Spans of a prompt are those of its rendering. A generated token is in a named part by what is spelt up to and including
it, so that a reply that is being written and the finished text have the same tokens in scope.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.errors import EditError
from interp.tokens import Tokens
from interp.tokens.spans import SEGMENTS

SCOPES = ("all", "prompt", "generated")
ROLES = ("system", "user", "assistant", "tool")
_NUMBERED = ("email", "tool_call")


class Part(NamedTuple):
    """One of the parts of a scope: what it is called, and on which sides it counts."""

    name: str
    in_prompt: bool
    in_reply: bool


def parts(scope: str) -> list[Part]:
    """The parts of a scope, of which none is checked."""
    named, until, marker = _split(scope)
    found = []
    for word in named:
        side, colon, name = word.partition(":")
        if not colon or side not in SCOPES[1:]:
            side, name = "all", word
        name = "all" if name in SCOPES else name
        side = word if word in SCOPES else side
        spoken = name == "all" or name in SEGMENTS
        found.append(Part(name, side != "generated", side != "prompt" and spoken))
    return [*found, Part(f"until:{marker}", False, True)] if until else found


def _split(scope: str) -> tuple[list[str], bool, str]:
    """The words before `until:`, whether there is one, and the marker."""
    head, until, marker = scope.partition("until:")
    if until and head and not head.endswith("+"):
        return [scope], False, ""
    words = head.removesuffix("+") if until else head
    return (words.split("+") if words else []), bool(until), marker


def check_scope(scope: str, asked: str) -> None:
    """Raise unless every part of a scope has a meaning.

    Raises:
        EditError: naming the part that has none.
    """
    found = parts(scope)
    bad = [part.name for part in found if not _known(part)]
    if bad or not found:
        names = ", ".join((*SCOPES, *ROLES, *SEGMENTS, "email:N", "tool_call:N", "until:MARKER"))
        raise EditError(asked, f"no scope {(bad or [scope])[0]!r}", f"choose of {names}, with + between them")


def _known(part: Part) -> bool:
    name, colon, number = part.name.partition(":")
    if name == "until":
        return bool(number)
    if colon:
        return name in _NUMBERED and number.isdigit() and part.in_prompt
    return name in SEGMENTS or name == "all" or (name in ROLES and part.in_prompt)


def touches_prompt(scope: str) -> bool:
    """Whether a prompt token may be in scope."""
    return any(part.in_prompt for part in parts(scope))


def follows_reply(scope: str) -> bool:
    """Whether what a reply says decides which of its tokens are in scope."""
    return any(part.in_reply and part.name != "all" for part in parts(scope))


def is_certain(scope: str) -> bool:
    """Whether some token is in scope whatever a reply of several tokens says."""
    return any(part.name == "all" or not part.in_reply for part in parts(scope))


def prompt_in_scope(scope: str, tokens: Tokens) -> Bool[np.ndarray, " prompt_pos"]:
    """Which prompt tokens are in scope.

    Raises:
        EditError: the scope names a part of the prompt that this one does not have.
    """
    missing = lacks(scope, tokens)
    if missing:
        there = ", ".join(dict.fromkeys(span.name for span in tokens.spans)) or "no named part"
        raise EditError(f"an edit of {missing[0]}", f"the prompt has none; it has {there}", "name a part it has")
    inside = np.zeros(tokens.prompt_tokens, dtype=bool)
    for part in parts(scope):
        if part.in_prompt and part.name == "all":
            inside[:] = True
        elif part.in_prompt:
            for start, stop in _spans(part, tokens):
                inside[start:stop] = True
    return inside


def lacks(scope: str, tokens: Tokens) -> list[str]:
    """The parts of a scope that can only be in a prompt, and are not in this one."""
    fixed = [part for part in parts(scope) if part.in_prompt and not part.in_reply and part.name != "all"]
    return [part.name for part in fixed if not _spans(part, tokens)]


def _spans(part: Part, tokens: Tokens) -> list[tuple[int, int]]:
    return [(span.start, span.stop) for span in tokens.named(part.name) if span.start < tokens.prompt_tokens]


def in_reply(scope: str, text: str) -> bool:
    """Whether the token is in scope with which a reply has come to read `text`.

    A named part begins with the token that completes its opening tag and ends with the one that completes its closing
    tag; `until:` ends before the token that completes the marker.
    """
    return any(part.in_reply and _spelt(part.name, text) for part in parts(scope))


def _spelt(name: str, text: str) -> bool:
    if name == "all":
        return True
    if name.startswith("until:"):
        return name.removeprefix("until:") not in text
    return any(match.end() == len(text) for match in SEGMENTS[name].finditer(text))


@dataclass(frozen=True, eq=False)
class Scoped:
    """Which tokens of every row of a batch an edit applies to."""

    in_prompt: Bool[Tensor, " batch"]
    in_generated: Bool[Tensor, " batch"]
    scopes: tuple[str | None, ...] = ()
    """The scope of each row that has tables; those of the other rows are the two flags."""
    prompt: Bool[Tensor, "batch prompt_pos"] | None = None
    reply: Bool[Tensor, "batch reply_pos"] | None = None

    @classmethod
    def of(
        cls,
        scopes: Sequence[str | None],
        *,
        device: torch.device | str = "cpu",
        texts: Sequence[Tokens] | None = None,
        tokenizer: Any = None,
        room: int = 0,
    ) -> "Scoped":
        """The scope of each row, None where there is no edit; `room` is how many tokens may be written after a prompt.

        Raises:
            EditError: a scope names spans, and there is no text to find them in, or it does not have them.
        """
        prompts, replies = (torch.tensor([s in ("all", side) for s in scopes], device=device) for side in SCOPES[1:])
        tabled = tuple(None if scope in (None, *SCOPES) else scope for scope in scopes)
        if not any(tabled):
            return cls(prompts, replies)
        if texts is None or (tokenizer is None and any(scope and follows_reply(scope) for scope in tabled)):
            raise EditError(
                f"an edit of {next(scope for scope in tabled if scope)}",
                "the texts are not known here",
                "give place() the rendered texts and the tokenizer, or a scope of all, prompt or generated",
            )
        empty = np.zeros(0, dtype=bool)
        prompt = [prompt_in_scope(s, text) if s else empty for s, text in zip(tabled, texts, strict=True)]
        reply = [_reply_table(s, text, tokenizer, room) if s else empty for s, text in zip(tabled, texts, strict=True)]
        return cls(prompts, replies, tabled, _table(prompt, device), _table(reply, device))

    def where(
        self, positions: Int[Tensor, "batch pos"], prompt_tokens: Int[Tensor, " batch"], real: Bool[Tensor, "batch pos"]
    ) -> Bool[Tensor, "batch pos"]:
        """The tokens in scope: by absolute position, never by the shape of a tensor; padding is never in scope."""
        generated = positions >= prompt_tokens[:, None]
        plain = real & torch.where(generated, self.in_generated[:, None], self.in_prompt[:, None])
        if self.prompt is None or self.reply is None:
            return plain
        inside = torch.where(
            generated, _at(self.reply, positions - prompt_tokens[:, None]), _at(self.prompt, positions)
        )
        return plain | (real & inside)

    def follow(self, texts: Sequence[str | None], step: int) -> None:
        """Note whether the token that each row wrote at `step` is in scope; None where a row wrote nothing."""
        if self.reply is None:
            return
        for row, (scope, text) in enumerate(zip(self.scopes, texts, strict=True)):
            if scope is not None and text is not None:
                self.reply[row, step] = in_reply(scope, text)

    @property
    def follows(self) -> bool:
        """Whether what is written decides what is in scope."""
        return any(scope is not None and follows_reply(scope) for scope in self.scopes)

    def rows(self, index: Int[Tensor, " row"]) -> "Scoped":
        """The scopes of some rows of the batch."""
        return replace(
            self,
            in_prompt=self.in_prompt[index],
            in_generated=self.in_generated[index],
            scopes=tuple(self.scopes[i] for i in index.tolist()) if self.scopes else (),
            prompt=None if self.prompt is None else self.prompt[index],
            reply=None if self.reply is None else self.reply[index],
        )


def _reply_table(scope: str, tokens: Tokens, tokenizer: Any, room: int) -> Bool[np.ndarray, " reply_pos"]:
    """Which tokens of a finished reply are in scope; `room` more follow, out of scope unless it is certain."""
    ids = tokens.ids[tokens.prompt_tokens :].tolist()
    always = any(part.in_reply and part.name == "all" for part in parts(scope))
    inside = [
        always or (follows_reply(scope) and in_reply(scope, tokenizer.decode(ids[: n + 1]))) for n in range(len(ids))
    ]
    return np.array(inside + [always] * room, dtype=bool)


def _table(rows: Sequence[Bool[np.ndarray, " _"]], device: torch.device | str) -> Bool[Tensor, "batch table_pos"]:
    table = torch.zeros(len(rows), max(1, *map(len, rows)), dtype=torch.bool)
    for row, inside in enumerate(rows):
        table[row, : len(inside)] = torch.from_numpy(inside)
    return table.to(device)


def _at(table: Bool[Tensor, "batch table_pos"], columns: Int[Tensor, "batch pos"]) -> Bool[Tensor, "batch pos"]:
    """The table's entries, False beside it."""
    there = (columns >= 0) & (columns < table.shape[1])
    return there & table.gather(1, columns.clamp(0, table.shape[1] - 1))
