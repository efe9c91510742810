"""Transcripts: the record that every stage takes and every rollout becomes; reading and writing it."""

from interp.transcripts.jsonl import read_jsonl, write_jsonl
from interp.transcripts.record import ROLES, Message, Transcript

__all__ = ["ROLES", "Message", "Transcript", "read_jsonl", "write_jsonl"]
