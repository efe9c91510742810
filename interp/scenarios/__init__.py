"""Blackmail scenarios for chat models, their benign twins and prompt variants: written as data, told by a seed.

`scenarios(Wanted("replacement", n=48, twins=("no threat",)))` gives prompts; `Wanted("organism:middle")` gives those of
the embedded model's own world, and everything that takes the one takes the other.
"""

from interp.scenarios.scenes import SCENARIO, TWINS, Scene, scene
from interp.scenarios.sets import GROUPS, Wanted, listing, parse_twins, parse_where, refuse_duplicates, scenarios
from interp.scenarios.texts import fill, texts

__all__ = [
    "GROUPS",
    "SCENARIO",
    "TWINS",
    "Scene",
    "Wanted",
    "fill",
    "listing",
    "parse_twins",
    "parse_where",
    "refuse_duplicates",
    "scenarios",
    "scene",
    "texts",
]
