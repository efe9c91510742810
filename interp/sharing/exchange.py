"""Push and pull: a probe leaves the workspace for a folder or a hub repository, and comes back checked."""

import re
from dataclasses import dataclass
from pathlib import Path

from interp.errors import ProbeError, StoreError
from interp.models import Model, load
from interp.probes import ProbeCard, probe_folder
from interp.sharing.folder import CARD, CARD_PAGE, DIRECTIONS, DOCTOR, PAGE, RECIPE, Parsed, checked, parsed, write
from interp.sharing.hub import Unreached, fetch, upload
from interp.sharing.page import HUB_ID, page
from interp.store import Workspace
from interp.store.files import is_temporary

_NAME = re.compile(r"\w[\w.-]*")


@dataclass(frozen=True)
class Pushed:
    """Where a probe went."""

    folder: Path
    """The shared folder; for a repository, what was or is to be uploaded."""
    repository: str | None = None
    url: str | None = None
    """Where the repository is; None for a folder, or if the hub was not reached."""
    unreached: str | None = None
    """Why nothing was uploaded."""

    @property
    def arrived(self) -> bool:
        """Whether it is where it was asked to go."""
        return self.repository is None or self.url is not None


@dataclass(frozen=True, eq=False)
class Pulled:
    """What came, and where it is."""

    folder: Path
    card: ProbeCard
    new: bool
    """False if the workspace had the same probe already."""
    checked_against: str | None
    """The model whose identity it was checked against; None where none was at hand, and it is checked when used."""


def find_probe(workspace: Workspace, name: str, model: str | None = None) -> Path:
    """The folder of a probe: `name` itself if it is one, else the one in the workspace, fitted on `model`.

    Raises:
        ProbeError: there is none; or it was fitted on several models, and `model` does not say which.
    """
    asked, given = f"finding probe {name}", Path(name).expanduser()
    if (given / CARD).is_file():
        return given
    there = sorted(path.parent for path in (workspace.probes / name).glob(f"*/{CARD}")) if _NAME.fullmatch(name) else []
    there = [path for path in there if not is_temporary(path)]
    if model is not None:
        there = [path for path in there if path.name == model.replace("/", "--")]
    if not there:
        on = f" fitted on {model}" if model else ""
        raise ProbeError(asked, f"the workspace has no such probe{on}", "fit one with `interp probe RECIPE.toml`")
    if len(there) > 1:
        models = ", ".join(path.name.replace("--", "/") for path in there)
        raise ProbeError(asked, f"it was fitted on {len(there)} models: {models}", "name one with --model")
    return there[0]


def push(
    probe: Path, destination: str | Path, *, workspace: Workspace, force: bool = False, private: bool = False
) -> Pushed:
    """Share a fitted probe: directions, card and the doctor's findings as they are, recipe, hub page and manifest.

    Args:
        probe: the folder that `interp probe` wrote.
        destination: a folder, or a hub repository: `hf://owner/name`, or `owner/name` where no folder `owner` is here.
        workspace: what goes to the hub is first written to `runs/share/OWNER--NAME`, and stays there.
        force: replace another probe at the destination.
        private: make a new repository private.

    Returns:
        Where it went. Where the hub is not reached the folder is there all the same, and `unreached` says why.

    Raises:
        StoreError: it is no whole probe, or the destination holds another one, or something else.
    """
    asked = f"pushing {probe.name} to {destination}"
    if not (probe / CARD).is_file() or not (probe / DIRECTIONS).is_file():
        raise StoreError(asked, "it is no probe: card or directions are missing", "name a folder of probes/NAME/")
    files = {name: (probe / name).read_bytes() for name in (DIRECTIONS, CARD, DOCTOR) if (probe / name).is_file()}
    beside = probe / RECIPE if (probe / RECIPE).is_file() else probe.parent / RECIPE
    if beside.is_file() and (beside.parent == probe or beside.resolve().parent.parent == workspace.probes):
        files[RECIPE] = beside.read_bytes()
    told = parsed(files, asked)
    repository = _repository(destination, "owner")
    outbox = workspace.runs / "share"
    folder = outbox / repository.replace("/", "--") if repository else Path(destination).expanduser()
    files[PAGE] = page(told.card, told.directions, source=repository or folder.name, checks=told.checks)
    write(folder, files, asked=asked, force=force or repository is not None)
    if repository is None:
        return Pushed(folder)
    try:
        url = upload(folder, repository, asked=asked, force=force, private=private)
    except Unreached as error:
        return Pushed(folder, repository, unreached=str(error))
    return Pushed(folder, repository, url)


def pull(
    source: str | Path,
    workspace: Workspace,
    *,
    model: Model | None = None,
    name: str | None = None,
    force: bool = False,
) -> Pulled:
    """Take a shared probe into `probes/NAME/MODEL/`, whole or not at all.

    Every file is known, has the size and hash that the manifest names, and parses; nothing in it is ever executed. The
    probe is checked against `model`, or against the embedded model if it is of that one.

    Args:
        source: a folder, or a hub repository: `hf://owner/name`, or `owner/name` where there is no such folder.
        workspace: where it goes.
        model: the model that it shall be used on.
        name: another name for it here; default: the card's.
        force: replace another probe of that name and model.

    Raises:
        StoreError: the source is not there or not whole, holds anything else, or another probe has its place.
        DirectionError: it was fitted on another model; the message names both.
    """
    asked = f"pulling {source}"
    repository = _repository(source, "owner/name")
    files = dict(checked(fetch(repository, asked) if repository else Path(source).expanduser(), asked))
    told = parsed(files, asked)
    target = _place(workspace, told.card, name, model, asked)
    against = _refuse_mismatch(told, model)
    files[CARD_PAGE] = told.card.to_markdown().encode()
    new = write(target, files, asked=asked, force=force)
    return Pulled(target, told.card, new, against)


def _place(workspace: Workspace, card: ProbeCard, name: str | None, model: Model | None, asked: str) -> Path:
    """The folder that the probe is to have; a name from elsewhere never leads out of the workspace."""
    wanted = card.name if name is None else name
    if not _NAME.fullmatch(wanted):
        raise StoreError(
            asked, f"{wanted!r} is no name of a probe", "give one of letters, digits, '.', '-' with --name"
        )
    if model is None and not (_NAME.fullmatch(card.model.name) or HUB_ID.fullmatch(card.model.name)):
        raise StoreError(asked, f"its model is called {card.model.name!r}", "name the model it is for with --model")
    return probe_folder(workspace, wanted, model or card.model)


def _refuse_mismatch(told: Parsed, model: Model | None) -> str | None:
    """Check every direction against the model given, or the embedded one, and return that model's name."""
    if model is None and told.card.model.name == "organism":
        model = load("organism", dtype=told.card.model.dtype)
    if model is None:
        return None
    for direction in told.directions.values():
        direction.check(model.identity)
    return model.name


def _repository(place: str | Path, is_folder_if: str) -> str | None:
    """The repository that a place names, or None for a folder.

    `owner/name` is a folder where a folder `owner` is here (to write into), or a folder `owner/name` (to read from).

    Raises:
        StoreError: what follows `hf://` is no name of a repository.
    """
    text = str(place)
    if text.startswith("hf://"):
        named = text.removeprefix("hf://").strip("/")
        if not HUB_ID.fullmatch(named):
            raise StoreError(f"reaching {text}", "that is no name of a repository", "give hf://owner/name")
        return named
    here = Path(text).parent if is_folder_if == "owner" else Path(text)
    is_id = not isinstance(place, Path) and HUB_ID.fullmatch(text) is not None
    return text if is_id and not here.is_dir() else None
