"""From model arguments to a condition: which direction, where, how strongly, and what the replies are scored along."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from interp.directions import Direction, load_directions
from interp.edits import UNITS, Strength, raw_strength
from interp.errors import DirectionError, EditError, StoreError
from interp.experiments import Arm
from interp.generation import BASELINE, Condition
from interp.inspect_provider.loaded import Loaded
from interp.line import DIRECTION, at_site, open_probe
from interp.models import Model
from interp.sites import Site, parse_sites
from interp.store import read_json
from interp.store import workspace as open_workspace

Sites = str | int | Sequence[str | int]


@dataclass(frozen=True)
class Asked:
    """What the model arguments say about the edit, before the model is looked at."""

    direction: str | None = None
    """A file of directions or its folder; with `probe`, the name of one of the probe's directions."""
    name: str | None = None
    """Which direction of a file that holds several."""
    probe: str | None = None
    workspace: str | None = None
    sites: Sites | None = None
    kind: str | None = None
    strength: float | None = None
    unit: str | None = None
    scope: str = "all"
    norms: str | None = None
    """A run folder, or its results.json, whose residual norms are the unit of a strength in `resid`."""
    trace: bool | str | int = True

    @property
    def edits(self) -> bool:
        """Whether anything is edited; a direction alone is only read."""
        return self.kind is not None or self.strength is not None


@dataclass(frozen=True, eq=False)
class Steering:
    """A condition whose strengths need no unit any more, what it says of itself, and what replies are scored along."""

    condition: Condition
    told: tuple[Mapping[str, Any], ...]
    """Each edit for a reader, with its raw strength."""
    reads: Direction | None

    @classmethod
    def of(
        cls, loaded: Loaded, condition: Condition, reads: Direction | None, norms: Mapping[Site, float] | None
    ) -> "Steering":
        """A condition as it was made in Python, with every `resid` strength turned into a raw one."""
        if norms is None and any(edit.strength.unit == "resid" for edit in condition.edits):
            norms = loaded.norms
        settled, told = [], []
        for edit in condition.edits:
            for site in edit.sites:
                raw = raw_strength(edit.each, edit.direction, site, norms) if edit.kind == "add" else None
                strength = edit.each if raw is None else Strength(raw, "raw")
                settled.append(replace(edit, strength=strength, sites=(site,), total=False))
                told.append({**edit.to_dict(), "sites": [str(site)], "raw_strength": raw})
        return cls(Condition(condition.name, tuple(settled)), tuple(told), reads)


def steering(loaded: Loaded, asked: Asked) -> Steering:
    """The condition that model arguments ask for; the baseline where they name no direction.

    Raises:
        StoreError: a file is missing or is none of directions.
        DirectionError: the direction is ambiguous, or belongs to another model.
        EditError: no direction to edit along, or no strength.
    """
    if asked.direction is None and asked.probe is None:
        if asked.edits:
            given = {"kind": asked.kind, "strength": asked.strength}
            raise EditError(
                "model arguments " + " ".join(f"{key}={value}" for key, value in given.items() if value is not None),
                "no direction to edit along",
                "name one: -M probe=desperation, or -M direction=path/to/directions.safetensors",
            )
        return Steering.of(loaded, BASELINE, None, None)
    vectors = _vectors(loaded.model, asked)
    sites = _sites(loaded.model, asked, vectors)
    here = {site: at_site(vectors, site) for site in sites}
    name = next(iter(here.values())).name
    condition = _arm(asked, sites).condition(name, here) if asked.edits else BASELINE
    return Steering.of(loaded, condition, _read(loaded.model, asked, vectors, sites), _norms(asked))


def _vectors(model: Model, asked: Asked) -> dict[Site, Direction]:
    """The direction's vector at each site that it has."""
    if asked.probe is not None:
        where = open_workspace(None if asked.workspace is None else Path(asked.workspace))
        return open_probe(where, asked.probe, model, asked.direction or DIRECTION)
    path = Path(asked.direction or "")
    found = load_directions(path / "directions.safetensors" if path.is_dir() else path, model=model.identity)
    names = sorted({direction.name for direction in found.values()})
    wanted = asked.name or (names[0] if len(names) == 1 else None)
    if wanted not in names:
        raise DirectionError(
            f"direction {asked.name or 'without a name'} of {path.name}",
            f"it holds {', '.join(names)}",
            "name one of them: -M name=NAME",
        )
    return {direction.site: direction for direction in found.values() if direction.name == wanted}


def _sites(model: Model, asked: Asked, vectors: Mapping[Site, Direction]) -> tuple[Site, ...]:
    """Where is edited or read: as asked; else at every site with a vector, of which an addition may have only one."""
    if asked.sites is not None:
        given = [asked.sites] if isinstance(asked.sites, str | int) else asked.sites
        return parse_sites(",".join(map(str, given)), model.n_layers)
    if len(vectors) > 1 and asked.edits and (asked.kind or "add") == "add":
        raise EditError(
            "adding a direction",
            f"it has vectors at {', '.join(map(str, sorted(vectors)))} and no site was named",
            "name where to add it: -M sites=2/3",
        )
    return tuple(sorted(vectors))


def _arm(asked: Asked, sites: tuple[Site, ...]) -> Arm:
    kind = asked.kind or "add"
    whole = 1.0 if kind in ("ablate", "mean_ablate") else None
    strength = whole if asked.strength is None else float(asked.strength)
    if strength is None:
        raise EditError(f"edit {kind}", "no strength", "give one: -M strength=0.1 -M unit=resid")
    return Arm(kind, strength, asked.unit or UNITS.get(kind, ("norm",))[0], sites, "less", asked.scope)


def _read(model: Model, asked: Asked, vectors: Mapping[Site, Direction], sites: tuple[Site, ...]) -> Direction | None:
    """The direction at the site that is traced: the last one that is edited, unless `trace` names another."""
    if asked.trace is False:
        return None
    site = sites[-1] if asked.trace is True else parse_sites(str(asked.trace), model.n_layers)[0]
    return at_site(dict(vectors), site)


def _norms(asked: Asked) -> dict[Site, float] | None:
    """The residual norms of a run, where one is named."""
    if asked.norms is None:
        return None
    path = Path(asked.norms)
    path = path / "results.json" if path.is_dir() else path
    found = read_json(path) if path.is_file() else None
    if not isinstance(found, dict) or "residual_norms" not in found:
        raise StoreError(
            f"residual norms of {path.name}", "it holds none", "name the folder of a finished run of `interp steer`"
        )
    return {Site.parse(site): norm for site, norm in found["residual_norms"].items()}
