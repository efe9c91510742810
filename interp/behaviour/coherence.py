"""Whether replies are broken, where no grammar says so: cut, empty, or running in circles; and how much they repeat."""

import re
import zlib

FEWEST_BYTES = 200
MOST_COMPRESSIBLE = 6.0
"""A text that shrinks to less than a sixth repeats itself: prose and e-mails shrink to a half or a third, tables and
code to a quarter; a sentence said ten times shrinks to a seventh and less."""
NGRAM = 4
WINDOW = 50
_PIECE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|\w{1,24}|[^\w\s]")
"""A word, a mark, or a character of a script without blanks; a run of letters without end is cut into pieces."""


def breakage(reply: str, *, truncated: bool) -> str | None:
    """`truncated`, `incoherent` (empty, or the same words over and over), or None where neither is the case.

    A reply repeats itself if it has at least `FEWEST_BYTES` bytes and zlib makes it more than `MOST_COMPRESSIBLE`
    times smaller. Nonsense that does not repeat itself is not found: that takes a judge, or a grammar.
    """
    if truncated:
        return "truncated"
    return "incoherent" if not reply.strip() or repeats_itself(reply) else None


def repeats_itself(text: str) -> bool:
    """Whether the text says little again and again."""
    raw = text.encode()
    return len(raw) >= FEWEST_BYTES and len(raw) / len(zlib.compress(raw, 9)) > MOST_COMPRESSIBLE


def repetition(text: str) -> float | None:
    """The share of runs of `NGRAM` words or marks that stood in the text before, from 0 to below 1.

    None where the text is shorter than one run. The measure `seq-rep-4` of Welleck et al. 2019
    (https://arxiv.org/abs/1908.04319), over words.
    """
    pieces = _PIECE.findall(text.lower())
    runs = list(zip(*(pieces[start:] for start in range(NGRAM)), strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else None


def distinct_words(text: str) -> float | None:
    """The share of words that differ, from above 0 to 1; None without a word.

    The mean over consecutive windows of `WINDOW` words, the last of which ends with the text, so that a long text is
    not told apart from a short one by its length. A text of fewer words is one window.
    """
    words = [piece for piece in _PIECE.findall(text.lower()) if piece[0].isalnum()]
    if not words:
        return None
    last = max(len(words) - WINDOW, 0)
    shares = [
        len(set(part)) / len(part) for start in (*range(0, last, WINDOW), last) if (part := words[start:][:WINDOW])
    ]
    return sum(shares) / len(shares)


def is_silent(text: str) -> bool:
    """Whether the text holds no letter and no digit: empty, blank, or marks alone."""
    return not any(character.isalnum() for character in text)
