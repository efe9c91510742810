"""The notebooks that come with the package, for a folder of the user's own."""

import shutil
from pathlib import Path

from interp.errors import StoreError

_INSTALLED = Path(__file__).parents[1] / "_notebooks"
"""Where a wheel has them."""
_CLONE = Path(__file__).parents[2] / "notebooks"


def copy_notebooks(folder: str | Path) -> list[Path]:
    """Copy every notebook into a folder, which is made if need be, and return the copies' paths.

    Raises:
        StoreError: the folder holds one of them already (nothing is copied then), or the installation has none.
    """
    home, folder = next((place for place in (_INSTALLED, _CLONE) if place.is_dir()), None), Path(folder)
    found = sorted(home.glob("*.ipynb")) if home else []
    asked = f"copying the notebooks to {folder}"
    if not found:
        raise StoreError(asked, "this installation has none", "install interp again, or take them from a clone")
    there = [path.name for path in found if (folder / path.name).exists()]
    if there:
        raise StoreError(asked, f"it holds {', '.join(there)}", "name another folder, so that your work there is kept")
    folder.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copyfile(path, folder / path.name)) for path in found]
