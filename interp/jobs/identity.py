"""What a probe job is: its recipe, the files and the world it reads, the model, and the version of this package."""

import importlib.metadata
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from interp.directions import ModelIdentity
from interp.jobs.recipe import Recipe
from interp.organism.world import world_hash
from interp.store import fingerprint
from interp.store.identity import sha256


def job_fingerprint(recipe: Recipe, model: ModelIdentity) -> str:
    """What `card.json` calls `job`.

    It changes with the recipe, the content of every file that the recipe names, the embedded world where that is drawn
    from, the model, and the version of this package. Where the files lie does not count.
    """
    return fingerprint(job_content(recipe) | {"model": asdict(model)})


def job_content(recipe: Recipe) -> dict[str, Any]:
    """The same without the model: what is known before one is loaded."""
    asked = recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    leaves = list(_leaves(asked))
    drawn = any(key == "organism" for key, _ in leaves)
    return {
        "recipe": asked,
        "files": [_content(recipe.folder / text) for key, text in leaves if key == "path" or key.endswith("_path")],
        "world": _world() if drawn else None,
        "interp": importlib.metadata.version("interp"),
    }


_world = cache(world_hash)


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a recipe with the key that it stands under."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, key)
    elif isinstance(value, str):
        yield key, value


def _content(path: Path) -> Any:
    """The hash of a file, those of all files of a folder, or None where nothing is there: reading it will say so."""
    if path.is_dir():
        inside = sorted(found for found in path.rglob("*") if found.is_file())
        return {found.relative_to(path).as_posix(): sha256(found) for found in inside}
    return sha256(path) if path.is_file() else None
