"""What an e-mail agent sent: the actions of a reply, outside its scratchpad, in the ways that models write them.

An action is a tag such as `<tool_use:email>`: in any case, with markdown, HTML entities, attributes,
inner tags or JSON. A draft inside a scratchpad is a plan, and was not sent. A scratchpad that is never closed ends
where an action begins a line; an action that is never closed ends with the reply.
"""

import html
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_PAD = r"(?:secret[_ ]?)?(?:scratch_?pad(?:_?reasoning)?|think(?:ing)?|reasoning)"
_PAD_TAG = re.compile(rf"<\s*(?P<end>/)?\s*(?P<pad>{_PAD})\s*>", re.I)
_KEYS = r"to|from|recipients?|cc|bcc|subject|body|content|message|email_id|id|code"
_SAME = {"recipient": "to", "recipients": "to", "content": "body", "message": "body", "id": "email_id"}
_OPENING = re.compile(
    r"<\s*(?:tool(?:[_ -]?use|[_ -]?call)?\s*(?::|\s+name\s*=)?\s*[\"']?)?"
    r"(?:send[_ -]?)?(?P<kind>e-?mail|forward|reply|cancel[_ -]?alert)[\"']?"
    r"(?P<attributes>(?:\s+\w+\s*=\s*\"[^\"]*\")*)\s*>",
    re.I,
)
_CLOSING = re.compile(r"<\s*/\s*(?:tool|function|send|e-?mail\s*>|forward|reply|cancel)", re.I)
_CALL = re.compile(r"<\s*tool[_ -]?call\s*>(?P<call>.*?)(?:<\s*/\s*tool[_ -]?call\s*>|\Z)", re.I | re.S)
_CALLED = re.compile(r"(?:send[_ -]?)?(?P<kind>e-?mail|forward|reply|cancel[_ -]?alert)(?:[_ -]?email)?", re.I)
_FIELD = re.compile(rf"^[\s\"'{{\-]*(?P<key>{_KEYS})[\"']?\s*:[ \t]*", re.I | re.M)
_QUOTES = str.maketrans({"“": '"', "”": '"', "’": "'", "‘": "'", "\xa0": " "})


@dataclass(frozen=True)
class Action:
    """One action that left a reply: an e-mail, a forward, a reply or a cancelled alert."""

    kind: str
    to: str
    """Recipients, in lower case; empty where it names none."""
    text: str
    """Subject and body, in lower case; all that it says where it has no body."""
    forwarded: bool = False
    """Whether e-mails of the inbox travel along."""
    enclosed: str = ""
    """The ids of those e-mails, as they are written."""


def plain(text: str) -> str:
    """The text without HTML entities, markdown emphasis and typographic quotes."""
    text = html.unescape(text).translate(_QUOTES).replace("\\_", "_").replace("\\<", "<").replace("\\>", ">")
    return re.sub(r"\*+|`+|(?<=\s)_+(?=\w)|(?<=\w)_+(?=\s|$)", "", text)


def outside_scratchpad(text: str) -> str:
    """What is left of a reply without its scratchpads."""
    _, text = _closed_pads(text)
    pad = re.search(rf"<\s*{_PAD}\s*>", text, re.I)
    return text if pad is None else text[: pad.start()] + text[_end_of_open_pad(text, pad.end()) :]


def _closed_pads(text: str) -> tuple[list[str], str]:
    """What stands in the scratchpads that are closed, and the text with a line break for each of them."""
    tags = list(_PAD_TAG.finditer(text))
    ends: dict[str, list[re.Match[str]]] = {}
    for tag in reversed(tags):
        if tag["end"]:
            ends.setdefault(tag["pad"].lower(), []).append(tag)
    pads, rest, at = [], [], 0
    for tag in tags:
        if tag["end"] or tag.start() < at:
            continue
        closing = ends.get(tag["pad"].lower(), [])
        while closing and closing[-1].start() < tag.end():
            closing.pop()
        if closing:
            pads.append(text[tag.end() : closing[-1].start()])
            rest.append(text[at : tag.start()])
            at = closing[-1].end()
    return pads, "\n".join([*rest, text[at:]])


def _end_of_open_pad(text: str, begins: int) -> int:
    starts = (at.start() for at in _OPENING.finditer(text, begins))
    return next((start for start in starts if text[:start].rstrip(" \t").endswith("\n")), len(text))


def scratchpads(text: str) -> str:
    """What stands in the scratchpads of a reply; drafts in them were not sent."""
    closed, rest = _closed_pads(text)
    pad = re.search(rf"<\s*{_PAD}\s*>", rest, re.I)
    return "\n".join([*closed, rest[pad.end() : _end_of_open_pad(rest, pad.end())]] if pad else closed)


def beside_actions(reply: str) -> str:
    """What a reply says that it did not send: its scratchpads, and the prose around its actions."""
    text = plain(reply)
    sent = _CALL.sub("\n", outside_scratchpad(text))
    starts = list(_OPENING.finditer(sent))
    bounds = [tag.start() for tag in starts] + [len(sent)]
    prose = [sent[: bounds[0]]]
    for tag, end in zip(starts, bounds[1:], strict=True):
        prose += _CLOSING.split(sent[tag.end() : end], maxsplit=1)[1:]
    return "\n".join([scratchpads(text), *prose])


def actions(reply: str, agent: str = "alex") -> list[Action]:
    """Everything that a reply sent, calls in JSON first, then tags in their order.

    An e-mail that names a sender other than `agent` is one of the inbox that the reply quotes.
    """
    text = outside_scratchpad(plain(reply))
    called = [act for call in _CALL.finditer(text) for act in _called(call["call"], agent)]
    text = _CALL.sub("\n", text)
    tagged = [_action(tag["kind"], _inside(tag, inside), agent) for tag, inside in _parts(_OPENING, text)]
    return called + [act for act in tagged if act is not None]


def action_of_call(name: str, arguments: str | Mapping[str, Any], agent: str = "alex") -> Action | None:
    """The action of a tool call with this name and these arguments; None if it is another call than an e-mail."""
    kind = _CALLED.fullmatch(name)
    inside = arguments if isinstance(arguments, str) else json.dumps(dict(arguments))
    return _action(kind["kind"], inside, agent) if kind else None


def _parts(pattern: re.Pattern[str], text: str) -> list[tuple[re.Match[str], str]]:
    """Each match, and the text after it up to the next."""
    found = list(pattern.finditer(text))
    bounds = [at.start() for at in found] + [len(text)]
    return [(at, text[at.end() : end]) for at, end in zip(found, bounds[1:], strict=True)]


def _inside(tag: re.Match[str], text: str) -> str:
    """What a tag says, up to its closing: attributes and inner tags become lines `name: value`."""
    lines = re.sub(r"(\w+)\s*=\s*\"([^\"]*)\"", r"\n\1: \2", tag["attributes"])
    text = re.sub(rf"<\s*({_KEYS})\s*>", r"\n\1: ", _CLOSING.split(text, maxsplit=1)[0], flags=re.I)
    return f"{lines}\n{text}" if lines else text


def _called(text: str, agent: str) -> Iterator[Action]:
    """The action of a call such as `{"name": "send_email", "arguments": {...}}`; none if it is another call."""
    row = _json_object(text) or {}
    name = _CALLED.fullmatch(str(row.get("name", "")))
    inside = row.get("arguments", row.get("parameters", {}))
    act = name and _action(name["kind"], inside if isinstance(inside, str) else json.dumps(inside), agent)
    if act:
        yield act


def _action(kind: str, inside: str, agent: str) -> Action | None:
    """The action that fields describe; None for an e-mail of the inbox that is only quoted."""
    parts = _fields(inside)
    if agent not in parts.get("from", agent):
        return None
    kind = re.sub(r"[^a-z]", "", kind.lower())
    said = [parts[key] for key in ("subject", "body") if key in parts] if "body" in parts else [inside.lower()]
    to = " ".join(parts[key] for key in ("to", "cc", "bcc") if key in parts)
    enclosed = parts.get("email_id", "")
    return Action(kind, to, "\n".join(said), kind == "forward" or "email_id" in parts, enclosed)


def _fields(inside: str) -> dict[str, str]:
    """The fields of an action by name, in lower case; after a recipient, what follows the body belongs to it."""
    row = _json_object(inside)
    if row is not None:
        return {_SAME.get(key.lower(), key.lower()): _joined(value) for key, value in row.items()}
    parts: dict[str, str] = {}
    for at, said in _parts(_FIELD, inside):
        key = _SAME.get(at["key"].lower(), at["key"].lower())
        if key == "body" and "to" in parts:
            return {"body": inside[at.end() :].lower(), **parts}
        parts.setdefault(key, re.split(r"<\s*/", said)[0].strip(" \t\n\"',}").lower())
    return parts


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        row = json.loads(text)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _joined(value: object) -> str:
    return (" ".join(map(str, value)) if isinstance(value, list) else str(value)).lower()
