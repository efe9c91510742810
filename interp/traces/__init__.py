"""When does a direction fire? One score for every token, against the band of random directions.

Scores are z: signed distances from the mean projection over benign transcripts, in standard deviations of it.
Random directions at the same site are put on the same scale, so their middle 95 % at a token says how far
from zero a direction gets there merely because the token is unusual. Token 0 is an attention sink and has no
score. The figure that this imitates is the token trace of Anthropic 2026, "Emotion Concepts and their
Function in a Large Language Model".
"""

from interp.traces.choose import choose
from interp.traces.record import BAND, FORMAT, PERCENTILES, UNITS, Block, TokenTrace, running_mean
from interp.traces.scores import FEWEST_RANDOM, trace
from interp.traces.terminal import SHADES, block_of, coloured, text, visible

__all__ = [
    "BAND",
    "FEWEST_RANDOM",
    "FORMAT",
    "PERCENTILES",
    "SHADES",
    "UNITS",
    "Block",
    "TokenTrace",
    "block_of",
    "choose",
    "coloured",
    "running_mean",
    "text",
    "trace",
    "visible",
]
