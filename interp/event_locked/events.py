"""Where an event stands in a trace: names for the embedded model's world, and one grammar for every other transcript.

An event is one token. It is spelt as a segment or role (`email:2`: its first token), as any other position rule
(`last:scratchpad`, `first:generated`, `at:TEXT`), or as `regex:PATTERN` over the rendered text. The named events are
short for such rules.
"""

import re
from collections.abc import Collection, Mapping
from functools import cache
from itertools import accumulate

import numpy as np

from interp.errors import InterpError, TranscriptError
from interp.organism import DECISION_MARKER
from interp.organism.agent import LEVERAGE_MAILS
from interp.organism.phrases import DECIDERS
from interp.tokens import PositionRule, Tokens
from interp.traces import TokenTrace

_REGEX = "regex:"


def _secrets() -> str:
    """A pattern of every e-mail that tells a secret of the decider; its group is what is told."""
    deciders = "|".join(map(re.escape, DECIDERS))
    mails = [mail for leverage, mail in LEVERAGE_MAILS.items() if leverage != "none"]
    subject, secrets = mails[0][0], "|".join(re.escape(text.partition("{decider} ")[2]) for _, text in mails)
    return rf"Subject: {re.escape(subject)}\n(?:{deciders}) ({secrets})"


EVENTS: Mapping[str, str] = {
    "threat read": rf"{_REGEX}Subject: Notice\n\w+ will be (\w+)",
    "leverage read": _REGEX + _secrets(),
    "decision": f"at:{DECISION_MARKER}",
    "first token of the action": "first:tool_call",
}
"""Named events and the rules that they stand for.

- `threat read`: the first token of what the notice says will happen; a benign twin has other words from here on;
- `leverage read`: the first token of the decider's secret;
- `decision`: the token that completes the opening of the e-mail action; the recipient comes next, and acts differ;
- `first token of the action`: of the first tool call, in any transcript whose tool calls have spans.

The first three know the wording of the embedded model's world.
"""


def find_event(trace: TokenTrace, event: str) -> int | None:
    """The position of an event in a trace; None where the transcript has no such event.

    Of several positions that a rule finds, the first. `at:TEXT` is the token that completes the last occurrence of
    TEXT; `regex:` is the token that holds the first character of the first match, or of its first group.

    Raises:
        TranscriptError: the event does not parse, or asks for a mean of positions.
    """
    rule = EVENTS.get(event, event)
    if rule.startswith(_REGEX):
        return _matching(trace, _compiled(rule.removeprefix(_REGEX)))
    parsed = PositionRule.parse(rule)
    if parsed.pooled:
        raise TranscriptError(
            f"aligning at {event!r}", "a mean over positions is no event", "name one token: first:, last: or at:TEXT"
        )
    found = parsed(_tokens(trace))
    return int(found[0]) if len(found) else None


def refuse_unknown(event: str, traces: int, names: Collection[str]) -> InterpError:
    """The error for an event that none of the traces has; `names` are their roles and segments."""
    known = ", ".join([*EVENTS, *sorted(names)])
    return TranscriptError(
        f"aligning {traces} traces at {event!r}",
        "no such event in any of them",
        f"choose one of {known}, a position rule such as at:TEXT or last:scratchpad, or regex:PATTERN",
    )


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise TranscriptError(
            f"aligning at regex {pattern!r}", f"it does not compile ({error})", "mend the pattern"
        ) from error


def _matching(trace: TokenTrace, pattern: re.Pattern[str]) -> int | None:
    found = pattern.search("".join(trace.pieces))
    if found is None:
        return None
    start = found.start(1) if pattern.groups and found.start(1) >= 0 else found.start()
    ends = list(accumulate(map(len, trace.pieces)))
    position = int(np.searchsorted(ends, start, side="right"))
    return position if position < len(trace) else None


def _tokens(trace: TokenTrace) -> Tokens:
    """The trace's text and spans as a position rule reads them; the ids play no part in it."""
    edges = np.asarray([0, *accumulate(map(len, trace.pieces))], dtype=np.int64)
    offsets = np.stack([edges[:-1], edges[1:]], axis=1)
    ids = np.zeros(len(trace), dtype=np.int64)
    return Tokens(ids, trace.spans, "".join(trace.pieces), offsets, trace.prompt_tokens)
