"""A folder of files, whole or absent: the manifest is written last, and without it there is no artifact."""

import contextlib
import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from interp.errors import StoreError
from interp.store.files import fsync, is_temporary, read_json, sibling, write_json
from interp.store.identity import sha256

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class FileStamp:
    """Size in bytes and SHA-256 of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files of an artifact, by their paths relative to it."""

    files: dict[str, FileStamp]
    format: int = FORMAT


@contextlib.contextmanager
def new_folder(path: str | Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder that becomes `path` when the block ends, and vanishes if it raises.

    Killed at any moment, the path holds the whole artifact or none. With `replace`, the old one and the new
    one trade places in a single step on Linux; elsewhere there is an instant without either.

    Raises:
        StoreError: if `path` exists and `replace` is not set; nothing is overwritten by accident.
    """
    path = Path(path)
    _refuse_taken(path, replace)
    temporary = sibling(path)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        seal(temporary)
        _refuse_taken(path, replace)
        _put_in_place(temporary, path)
        fsync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def seal(folder: str | Path) -> Manifest:
    """Flush every file of the folder to the disk, then write its manifest, and return it.

    For what `new_folder` cannot do: a folder filled over several runs, file by file with `write_bytes`.
    """
    folder = Path(folder)
    inside = sorted(path for path in folder.rglob("*") if path != folder / MANIFEST and not is_temporary(path))
    for path in inside:
        fsync(path)
    files = {path.relative_to(folder).as_posix(): _stamp(path) for path in inside if path.is_file()}
    manifest = Manifest(files)
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_folder(path: str | Path, *, hashes: bool = False) -> Manifest:
    """Return the manifest of an artifact, every file of which is there in full size.

    `hashes` checks the bytes as well. Files that the manifest does not name are left alone.

    Raises:
        StoreError: if the artifact was never finished, or naming every file that is missing or differs.
    """
    path = Path(path)
    asked, again = f"reading {path}", "Delete the folder and make it again"
    if not path.is_dir():
        raise StoreError(asked, "there is no such folder", "Check the path, or make it first")
    if not (path / MANIFEST).is_file():
        raise StoreError(asked, "it has no manifest, so it was never finished", again)
    row = read_json(path / MANIFEST)
    if not isinstance(row, dict) or row.get("format") != FORMAT:
        raise StoreError(asked, f"its manifest is not of format {FORMAT}", again)
    files = {name: FileStamp(**stamp) for name, stamp in row["files"].items()}
    faults = [_fault(path / name, name, stamp, hashes) for name, stamp in files.items()]
    if found := [fault for fault in faults if fault]:
        raise StoreError(asked, "; ".join(found), again)
    return Manifest(files)


def _stamp(path: Path) -> FileStamp:
    return FileStamp(path.stat().st_size, sha256(path))


def _fault(path: Path, name: str, stamp: FileStamp, hashes: bool) -> str | None:
    if not path.is_file():
        return f"{name} is missing"
    if (size := path.stat().st_size) != stamp.bytes:
        return f"{name} has {size} of {stamp.bytes} bytes"
    return f"{name} has changed since it was written" if hashes and _stamp(path) != stamp else None


def _refuse_taken(path: Path, replace: bool) -> None:
    if path.exists() and not replace:
        raise StoreError(f"making {path}", "it exists already", "Choose another name, or replace it on purpose")


def _put_in_place(new: Path, path: Path) -> None:
    """Give `new` the name `path`. What was there before keeps the name `new`, or is gone."""
    if not path.exists():
        new.rename(path)
    elif not _traded(new, path):
        retired = path.rename(sibling(path))
        new.rename(path)
        shutil.rmtree(retired, ignore_errors=True)


def _traded(one: Path, other: Path) -> bool:
    """Let two folders trade names in one step; false, and nothing done, where the system cannot."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    at_cwd, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE, see renameat2(2)
    return renameat2(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0
