"""Recipes and what carries them out."""

from interp.jobs.batch import Batch, ProbeJob, batch, batch_cost, parse_shard
from interp.jobs.identity import job_fingerprint
from interp.jobs.recipe import Filter, Recipe
from interp.jobs.run import probe, probe_cost

__all__ = [
    "Batch",
    "Filter",
    "ProbeJob",
    "Recipe",
    "batch",
    "batch_cost",
    "job_fingerprint",
    "parse_shard",
    "probe",
    "probe_cost",
]
