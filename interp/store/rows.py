"""Rows that are appended and never edited, such as the rollouts of a run."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from interp.errors import StoreError
from interp.store.files import fsync, to_json


@dataclass(frozen=True)
class Rows:
    """JSON objects, one per line of the file at `path`, appended by one writer at a time.

    A row counts as written once `append` has returned. A writer killed before that leaves at most an
    unfinished last line, which `read` leaves out and the next append removes.
    """

    path: Path

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row and flush it to the disk."""
        self.extend([row])

    def extend(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows with one write and one flush.

        Raises:
            StoreError: if any row is not JSON; then none of them is written.
        """
        lines = [to_json(dict(row), f"appending to {self.path}") + "\n" for row in rows]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        with self.path.open("ab+") as file:
            _mend_tail(file)
            file.write("".join(lines).encode())
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            fsync(self.path.parent)

    def read(self) -> list[dict[str, Any]]:
        """Return all rows in order; none if there is no file yet.

        Raises:
            StoreError: if a line other than an unfinished last one is not a JSON object, with its number.
        """
        if not self.path.exists():
            return []
        *lines, tail = self.path.read_bytes().split(b"\n")
        rows = [_object(line) for line in lines]
        if None in rows:
            found = f"line {rows.index(None) + 1} is not a JSON object"
            raise StoreError(f"reading {self.path}", found, "Mend or remove that line; a kill cannot leave it so")
        return [row for row in [*rows, _object(tail)] if row is not None]


def _mend_tail(file: BinaryIO) -> None:
    """Leave an open file empty or ending in a newline: a whole last row is completed, a torn one dropped."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return
    file.seek(-1, os.SEEK_END)
    if file.read(1) == b"\n":
        return
    file.seek(0)
    tail = file.read().rpartition(b"\n")[2]
    if _object(tail) is None:
        file.truncate(size - len(tail))
    else:  # the beginning of an object is never an object, so this row is whole and lacks only its newline
        file.write(b"\n")


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None
