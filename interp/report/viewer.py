"""The trace viewer: one offline page of token traces, small enough to send, in which no transcript can act.

Scores travel as 16-bit integers with one scale a row (an error of at most `max |z| / 65534`), text as JSON in which
no markup can begin or end; the page's scripts only ever set `textContent`. Control characters are spelt here, before
they reach the page, as everywhere in reports.
"""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from interp.errors import TranscriptError
from interp.event_locked import EVENTS, find_event
from interp.plots.style import styles
from interp.plots.tokens import colour_limit
from interp.report.assets import digests, environment, own
from interp.store import write_bytes
from interp.tokens import PositionRule
from interp.traces import PERCENTILES, UNITS, Block, TokenTrace, visible

WINDOW = 12
"""Tokens over which the lines of a trace are averaged when the page opens."""
SCRIPTS = ("viewer_data.js", "viewer_text.js", "viewer_lines.js", "viewer.js")
_MISSING, _FULL = -32768, 32767
_HEADER = re.compile(r"\A\s*<email>\s*(?:(?:From|To|Cc|Date|Sent|Subject):[^\n]*\n?)+")
_LINE = re.compile(r"^(From|to|subject|Subject): ([^\n]*)", re.MULTILINE)


def write_traces(traces: Sequence[TokenTrace], path: str | Path, *, events: Mapping[str, str] = EVENTS) -> Path:
    """Write the viewer's page, one file that opens from disk and asks for nothing, and return its path.

    A policy in the page allows its own script and style, by their hashes, and no request. 2,000 tokens at 12 sites
    in 8 directions take less than 3 MB (a test measures it). The same traces give the same bytes.

    Args:
        traces: the transcripts of the page's list, in its order; the first two are shown side by side.
        path: of the page.
        events: names and rules (as `interp.event_locked.find_event` reads them) of the tokens that are marked.

    Raises:
        TranscriptError: there is no trace, or a rule does not parse.
    """
    if not traces:
        raise TranscriptError("writing a page of traces", "none were given", "make one with `interp trace`")
    name = traces[0].directions[0].rpartition("@")[0]
    style, code = own("viewer.css"), script()
    page = (
        environment()
        .get_template("traces.html.j2")
        .render(title=f"When does {name} fire?", data=data(traces, events=events), style=style, script=code,
                policy=_policy(style, code))
    )  # fmt: skip
    write_bytes(path := Path(path), page.encode())
    return path


def named_events(pairs: Sequence[str]) -> Mapping[str, str]:
    """The events that pages mark, and those that `pairs` such as `sent=at:send_email` name.

    Raises:
        TranscriptError: one is no NAME=RULE, or its rule does not parse.
    """
    named = dict(EVENTS)
    for pair in pairs:
        name, equals, rule = pair.partition("=")
        if not (name and equals and rule):
            raise TranscriptError(f"marking event {pair!r}", "it is no NAME=RULE", "write it as sent=at:send_email")
        try:
            re.compile(rule.removeprefix("regex:")) if rule.startswith("regex:") else PositionRule.parse(rule)
        except re.error as error:
            raise TranscriptError(
                f"marking event {pair!r}", f"the pattern does not compile ({error})", "mend it"
            ) from error
        named[name] = rule
    return named


def script() -> Markup:
    """The viewer's code, which mounts itself on every `[data-viewer]` of the page it stands in."""
    return Markup("\n".join(['"use strict";', "(() => {", *map(own, SCRIPTS), "})();"]))


def data(traces: Sequence[TokenTrace], *, events: Mapping[str, str] = EVENTS, window: int = WINDOW) -> Markup:
    """`pack(traces)` as JSON that may stand in a `<script type="application/json">` whatever the transcripts hold."""
    return htmlsafe_json_dumps(pack(traces, events=events, window=window), separators=(",", ":"))


def _policy(style: str, code: str) -> str:
    return (
        f"default-src 'none'; script-src {digests([code])}; style-src {digests([style])}; "
        "base-uri 'none'; form-action 'none'"
    )


def pack(traces: Sequence[TokenTrace], *, events: Mapping[str, str] = EVENTS, window: int = WINDOW) -> dict[str, Any]:
    """What the page needs of the traces, plain; what they share of their reference is there once."""
    references: dict[str, int] = {}
    packed = []
    for trace in traces:
        key = json.dumps(_reference(trace))
        packed.append(_trace(trace, events) | {"reference": references.setdefault(key, len(references))})
    names = list(dict.fromkeys(key.rpartition("@")[0] for trace in traces for key in trace.directions))
    return {
        "window": window,
        "limit": colour_limit(traces),
        "percentiles": list(PERCENTILES),
        "names": [visible(name) for name in names],
        "styles": styles(len(names)),
        "references": [json.loads(key) for key in references],
        "traces": packed,
    }


def _reference(trace: TokenTrace) -> dict[str, Any]:
    """The scale of the scores: sizes of the benign set, mean and sd of every row, and its quantiles in z."""
    scale = trace.reference.get("scale", {})
    return {
        "units": trace.units if trace.units != UNITS else "standard deviations of benign tokens",
        "transcripts": trace.reference.get("transcripts"),
        "tokens": trace.reference.get("tokens"),
        "scale": [[s["mean"], s["sd"]] if (s := scale.get(key)) else None for key in trace.directions],
        "quantiles": None if trace.quantiles is None else packed_rows(trace.quantiles),
        "n_random": trace.n_random,
    }


def _trace(trace: TokenTrace, events: Mapping[str, str]) -> dict[str, Any]:
    names = list(dict.fromkeys(key.rpartition("@")[0] for key in trace.directions))
    found = {name: find_event(trace, rule) for name, rule in events.items()}
    return {
        "id": visible(trace.id),
        "label": None if trace.label is None else visible(trace.label),
        "pieces": [visible(piece) for piece in trace.pieces],
        "prompt": trace.prompt_tokens,
        "blocks": [_block(trace, block) for block in trace.blocks],
        "events": sorted(([visible(k), at] for k, at in found.items() if at is not None), key=lambda one: one[1]),
        "sites": list(trace.sites),
        "rows": [[visible(name), site] for name, _, site in (key.rpartition("@") for key in trace.directions)],
        "names": [visible(name) for name in names],
        "scores": packed_rows(trace.scores),
        "bands": packed_rows(np.concatenate([trace.low, trace.high])),
    }


def packed_rows(rows: Float[np.ndarray, "row column"]) -> dict[str, Any]:
    """16-bit integers, little-endian, in base64, and for each row what one step is worth; NaN is the lowest integer."""
    largest = np.nanmax(np.abs(np.nan_to_num(rows)), axis=1, initial=0)
    steps = np.where(largest > 0, largest / _FULL, 1.0)
    whole = np.where(np.isnan(rows), _MISSING, np.rint(np.nan_to_num(rows) / steps[:, None])).astype("<i2")
    return {"columns": rows.shape[1], "steps": steps.tolist(), "data": base64.b64encode(whole.tobytes()).decode()}


def _block(trace: TokenTrace, block: Block) -> list[Any]:
    """Message, role, kind of segment, label, first token, token after the last, and where an e-mail's header ends."""
    pieces = trace.pieces[block.start : block.stop]
    text = "".join(pieces[:200]) if block.segment else ""
    kind = block.segment.partition(":")[0] if block.segment else None
    header = _HEADER.match(text) if kind == "email" else None
    ends = np.cumsum([len(piece) for piece in pieces[:200]]) if header else np.zeros(0)
    head = int(np.searchsorted(ends, header.end(), side="right")) if header else 0
    return [block.message, block.role, kind, visible(_label(block, text)), block.start, block.stop, block.start + head]


def _label(block: Block, text: str) -> str:
    """What stands above a block: a segment's kind and number, an e-mail's sender and subject, an act's recipient."""
    kind, _, number = (block.segment or "").partition(":")
    lines = {name.lower(): value.strip()[:60] for name, value in reversed(_LINE.findall(text))}
    if kind == "email":
        parts = (f"from {lines['from']}" if "from" in lines else "", lines.get("subject", ""))
        return ", ".join([f"E-mail {number}", *filter(None, parts)])
    if kind == "tool_call":
        return f"Action {number}" + (f", e-mail to {lines['to']}" if "to" in lines else ", tool call")
    return kind.capitalize()
