"""A trace in a terminal: blocks of eight heights below the text, or the text itself coloured."""

import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float

from interp.traces.record import Block, TokenTrace

_BLOCKS = "▁▂▃▄▅▆▇█"
_LIMIT = 4.0
_JOINERS = "\u200c\u200d"


def visible(text: str, *, keep: str = "\n\t") -> str:
    """The text with its control characters spelt, as in `⟨U+202E⟩`, so that none acts on a page or terminal.

    Line ends, tabs (`keep`) and the joiners of scripts and emoji stay; all other characters of Unicode's
    classes Cc, Cf, Cs, Zl and Zp are spelt: escapes, bidirectional overrides, invisible marks, U+2028.
    """
    if text.isprintable():
        return text
    return "".join(f"⟨U+{ord(c):04X}⟩" if _acts(c) and c not in keep else c for c in text)


def _acts(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS


def text(trace: TokenTrace, direction: str | None = None, *, width: int = 100) -> str:
    """The trace for a terminal: the transcript, and below every character of a token the height of its score.

    Eight blocks run from z <= -4 to z >= 4, a space stands inside the band of random directions. No markup,
    no colour; control characters of the transcript are spelt.
    """
    row = trace.row(direction)
    low, high = trace.band(trace.directions[row])
    inside = (trace.scores[row] >= low) & (trace.scores[row] <= high)
    lines = [
        visible(f"{trace.id} ({trace.label or 'no label'}), {trace.directions[row]}", keep=""),
        f"{trace.units}; {_BLOCKS[0]} z <= -{_LIMIT:g}, {_BLOCKS[-1]} z >= {_LIMIT:g}, "
        f"blank: within 95 % of {trace.n_random} random directions",
    ]
    for block in trace.blocks:
        if any(piece.strip() for piece in trace.pieces[block.start : block.stop]):
            lines += ["", _heading(block, trace.scores[row])]
            lines += _bars(trace.pieces, trace.scores[row], inside, range(block.start, block.stop), width)
    return "\n".join(lines)


SHADES = 4
"""Steps of colour on either side of zero, in a terminal."""


def coloured(trace: TokenTrace, direction: str | None = None, *, limit: float = _LIMIT) -> Iterator[tuple[str, int]]:
    """The trace as pieces of text, each with its shade from -`SHADES` to `SHADES`; 0 inside the random band.

    Headings and line ends have shade 0. Joined, the pieces are the headings and every word of the transcript, its
    control characters spelt; full colour stands for |z| >= `limit`.
    """
    row = trace.row(direction)
    low, high = trace.band(trace.directions[row])
    yield visible(f"{trace.id} ({trace.label or 'no label'}), {trace.directions[row]}\n", keep="\n"), 0
    about = f"colours run to |z| >= {limit:g}, none: within 95 % of {trace.n_random} random directions"
    yield f"{trace.units}; {about}\n", 0
    for block in trace.blocks:
        if not any(piece.strip() for piece in trace.pieces[block.start : block.stop]):
            continue
        yield f"\n{visible(_heading(block, trace.scores[row]), keep='')}\n", 0
        for position in range(block.start, block.stop):
            z = float(trace.scores[row, position])
            outside = z < low[position] or z > high[position]
            share = max(-1.0, min(1.0, z / limit)) if outside else 0.0
            shade = max(1, round(abs(share) * SHADES)) * (1 if share > 0 else -1) if share else 0
            yield visible(trace.pieces[position].replace("\t", " "), keep="\n"), shade
        yield "\n", 0


def _heading(block: Block, scores: Float[np.ndarray, " pos"]) -> str:
    known = scores[block.start : block.stop][~np.isnan(scores[block.start : block.stop])]
    mean = f"mean z {known.mean():+.2f}" if len(known) else "no score"
    return f"[{block.name}] tokens {block.start} to {block.stop - 1}, {mean}"


def _bars(
    pieces: Sequence[str],
    scores: Float[np.ndarray, " pos"],
    inside: Bool[np.ndarray, " pos"],
    positions: range,
    width: int,
) -> list[str]:
    """Pairs of lines: some text, and the blocks below it."""
    lines, column = [["", ""]], 0
    for position in positions:
        bar = " " if inside[position] or np.isnan(scores[position]) else block_of(float(scores[position]))
        piece = visible(pieces[position].replace("\t", " "), keep="\n")
        full = "\n" not in piece and 0 < width - column < len(piece)
        for character in ("\n" if full else "") + piece:
            cells = _cells(character)
            if character == "\n" or column + cells > width:
                lines.append(["", ""])
                column = 0
            if character != "\n":
                lines[-1] = [lines[-1][0] + character, lines[-1][1] + bar * cells]
                column += cells
    return [line.rstrip() for pair in lines if pair[0].strip() for line in pair if line.strip()]


def _cells(character: str) -> int:
    """Columns of a terminal that a character takes."""
    return 0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")


def block_of(z: float) -> str:
    """The block that stands for a score; a higher score never has a lower one."""
    share = (min(max(z, -_LIMIT), _LIMIT) + _LIMIT) / (2 * _LIMIT)
    return _BLOCKS[min(int(share * len(_BLOCKS)), len(_BLOCKS) - 1)]
