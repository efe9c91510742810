"""Where things live."""

import os
from dataclasses import dataclass
from pathlib import Path

from interp.errors import StoreError


@dataclass(frozen=True)
class Workspace:
    """The folder in which artifacts live; none of its sub-folders needs to exist."""

    root: Path

    @property
    def probes(self) -> Path:
        """Recipes and fitted directions: committed, small, reviewed."""
        return self.root / "probes"

    @property
    def activations(self) -> Path:
        """A cache: safe to delete, costs only time."""
        return self.root / "activations"

    @property
    def runs(self) -> Path:
        """What experiments left: records, rollouts, reports."""
        return self.root / "runs"


def workspace(path: str | Path | None = None) -> Workspace:
    """Return the workspace at `path`, else at the environment's `INTERP_HOME`, else at the current folder.

    Raises:
        StoreError: if that is no folder; a mistyped root must not quietly become a new one.
    """
    root = Path(path or os.environ.get("INTERP_HOME") or ".").expanduser().resolve()
    if not root.is_dir():
        raise StoreError(f"opening workspace {root}", "there is no such folder", "Create it or name another")
    return Workspace(root)
