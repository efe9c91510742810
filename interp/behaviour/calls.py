"""Tool calls that a reply writes as JSON without a tag, in a fence or bare, and those that its message carries."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from interp.transcripts import Message
from interp.transcripts.sent import Action, action_of_call, outside_scratchpad

_NAMES = ("name", "tool", "tool_name", "action", "function_name")
_ARGUMENTS = ("arguments", "parameters", "args", "input", "action_input", "tool_input")
_DECODER = json.JSONDecoder(strict=False)


@dataclass(frozen=True)
class Calls:
    """The actions that calls carried out, the text without the calls, and how many could not be read."""

    actions: tuple[Action, ...]
    rest: str
    unread: int


def json_calls(reply: str, agent: str = "alex") -> Calls:
    """The calls that stand in the text as JSON objects, such as `{"tool": "send_email", "arguments": {...}}`.

    Drafts in a scratchpad are no calls. An object that begins like a call and is no JSON is counted as unread.
    """
    outside = outside_scratchpad(reply)
    found, cut, unread, at = [], reply, 0, 0
    while (at := outside.find("{", at)) >= 0:
        try:
            value, end = _DECODER.raw_decode(outside, at)
        except (ValueError, RecursionError):
            unread += _begins_like_a_call(outside[at : at + 60])
            at += 1
            continue
        acts = [act for name, given in _named(value) if (act := action_of_call(name, given, agent))]
        if acts:
            cut = cut.replace(outside[at:end], "\n")
        found += acts
        at = max(end, at + 1)
    return Calls(tuple(found), cut, unread)


def message_calls(message: Message, agent: str = "alex") -> Calls:
    """The calls that an assistant's message carries beside its text, in the shape of OpenAI's chat format."""
    found, unread = [], 0
    for call in message.tool_calls:
        named = list(_named(call))
        unread += not named
        for name, given in named:
            act = action_of_call(name, given, agent)
            found += [act] if act else []
            unread += bool(act) and isinstance(given, str) and not _is_object(given)
    return Calls(tuple(found), message.content, unread)


def _named(value: Any) -> Iterator[tuple[str, str | Mapping[str, Any]]]:
    """Name and arguments of a call in any of the usual shapes."""
    if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        value = value["function"]
    if not isinstance(value, Mapping):
        return
    name = next((value[key] for key in _NAMES if isinstance(value.get(key), str)), None)
    given = next((value[key] for key in _ARGUMENTS if isinstance(value.get(key), str | Mapping)), None)
    if name is not None:
        rest = {key: inner for key, inner in value.items() if key not in _NAMES}
        yield name, rest if given is None else given


def _begins_like_a_call(text: str) -> bool:
    return any(f'"{key}"' in text for key in ("tool", "tool_name", "function")) or ('"name"' in text and "mail" in text)


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text, strict=False), dict)
    except ValueError:
        return False
