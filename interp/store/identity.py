"""Identity is computed from content."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from interp.errors import StoreError
from interp.store.files import plain


def fingerprint(value: Any) -> str:
    """Return 16 hexadecimal digits that name the content of `value`, the same in every process and place.

    Order counts in lists and not in mappings; a list and a tuple are one; 1 and 1.0 are two; a dataclass
    counts with its name, an array with its dtype, shape and bytes, a path as its text.

    Raises:
        StoreError: for NaN, infinity and unknown types: what has no canonical form has no identity.
    """
    canonical = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def sha256(path: Path) -> str:
    """Return the 64 hexadecimal digits of a file's SHA-256."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StoreError(f"hashing {path}", error.strerror or str(error), "Check the path") from error


def _canonical(value: Any) -> Any:
    match value:
        case None | bool() | int() | str():
            return value
        case float() if math.isfinite(value):
            return float(value)
        case list() | tuple():
            return [_canonical(item) for item in value]
        case Mapping() if all(isinstance(key, str) for key in value):
            return {key: _canonical(item) for key, item in value.items()}
        case np.ndarray() if _is_plain_and_finite(value):
            digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
            return {"__array__": [value.dtype.str, list(value.shape), digest]}
        case np.generic() | PurePath():
            return _canonical(plain(value))
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {"__dataclass__": type(value).__name__, "fields": _canonical(plain(value))}
    raise StoreError(
        "fingerprinting a value",
        f"{value!r:.80} ({type(value).__name__}) has no canonical form",
        "Pass finite numbers, text, arrays, and lists, dataclasses or mappings with text keys of these",
    )


def _is_plain_and_finite(array: np.ndarray) -> bool:
    return array.dtype.kind in "biuUS" or (array.dtype.kind == "f" and bool(np.isfinite(array).all()))
