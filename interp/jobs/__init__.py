"""Recipes and what carries them out."""

from interp.jobs.recipe import Data, Filter, Recipe, Reference, Stories
from interp.jobs.run import probe, probe_cost

__all__ = ["Data", "Filter", "Recipe", "Reference", "Stories", "probe", "probe_cost"]
