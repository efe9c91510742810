"""Activations on disk: collected once, in bounded memory, resumable; read one site at a time.

A set lives in `activations/<fingerprint>/`: `card.json`, `transcripts.jsonl` and `rows.safetensors` say what
every row is, and each site has a folder of safetensors shards. The manifest comes last. A set without one is
unfinished, and collecting it again goes on behind its last finished shard.
"""

from interp.activations.collect import OnProgress, Part, collect, identity, stream
from interp.activations.plan import Cost, RowTable, estimate
from interp.activations.sets import Activations, Entry
from interp.activations.shards import SHARD_ROWS, Storage

__all__ = [
    "SHARD_ROWS",
    "Activations",
    "Cost",
    "Entry",
    "OnProgress",
    "Part",
    "RowTable",
    "Storage",
    "collect",
    "estimate",
    "identity",
    "stream",
]
