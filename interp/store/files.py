"""One file, whole or as it was before."""

import dataclasses
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from filelock import FileLock

from interp.errors import StoreError


def write_bytes(path: str | Path, *chunks: bytes | bytearray | memoryview) -> None:
    """Write the chunks as one file; missing parents are made.

    Killed at any moment, the path holds what it held before or the whole new content, after a power cut too:
    the bytes go to a temporary sibling, are flushed to the disk, and take the name in one step.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = sibling(path)
    try:
        with temporary.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync(path.parent)


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. Dataclasses, paths and NumPy scalars become plain JSON.

    Raises:
        StoreError: for NaN and infinity (undefined is `None`) and for what JSON cannot hold.
    """
    write_bytes(path, (to_json(value, f"writing {path}", indent=2) + "\n").encode())


def read_json(path: str | Path) -> Any:
    """Return the value of a JSON file.

    Raises:
        StoreError: if the file is missing, unreadable or not JSON.
    """
    asked = f"reading {path}"
    try:
        return json.loads(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise StoreError(asked, "there is no such file", "Check the path, or make it first") from error
    except OSError as error:
        raise StoreError(asked, error.strerror or str(error), "Check the path and its permissions") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(asked, f"it is not JSON ({error})", "Delete it and make it again") from error


def to_json(value: Any, asked: str, indent: int | None = None) -> str:
    """Return the JSON text that `write_json` writes; `asked` begins the error's message."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, default=plain)
        text.encode("utf-8")
    except (TypeError, ValueError, RecursionError) as error:
        raise StoreError(asked, str(error), "Keep to JSON, and write None for what is undefined") from error
    return text


def plain(value: Any) -> Any:
    """Return a dataclass as the mapping of its fields, a NumPy scalar as a number, a path as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {spec.name: getattr(value, spec.name) for spec in dataclasses.fields(value)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def sibling(path: Path) -> Path:
    """Return a temporary name, not taken, beside `path` and so on the same file system."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def is_temporary(path: Path) -> bool:
    """Whether `sibling` made this name."""
    return path.name.startswith(".") and path.name.endswith(".tmp")


@contextmanager
def only_writer(path: str | Path) -> Iterator[None]:
    """Hold the right to make `path`; another process, or thread, that asks for it waits until the block ends.

    The lock is a file `.NAME.lock` beside the path. It ends with its holder, so a kill blocks nobody.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        yield


def fsync(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
