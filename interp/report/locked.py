"""One offline page of event-locked averages: each picture with its test in words and the table behind it."""

from collections.abc import Sequence
from pathlib import Path

from interp.event_locked import EventLocked
from interp.report.page import locked_pictures, make_page
from interp.store import write_bytes


def write_event_locked(averages: Sequence[EventLocked], path: str | Path, *, command: Sequence[str] = ()) -> Path:
    """Write a page of averages, one file that opens from disk, and return its path.

    The same averages give the same bytes.
    """
    plain = [found.to_dict() for found in averages]
    pictures = locked_pictures(plain)
    page = make_page("event_locked.html.j2", "Does it rise before the act?", pictures, locked=plain, command=command)
    write_bytes(Path(path), page.encode())
    return Path(path)
