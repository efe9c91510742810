"""What all pages share: templates that escape, the files beside them, and the hashes by which a page knows its own."""

import base64
import hashlib
import shlex
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from interp.traces import visible


def environment() -> Environment:
    """Templates that escape every text, and spell the control characters in it."""
    found = Environment(
        loader=PackageLoader("interp.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["shell"] = shlex.join
    return found


def _shown(value: Any) -> Any:
    """Spell control characters in every text that a file brought; the page's own markup passes."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def own(name: str) -> Markup:
    """A file of `templates/`, as markup."""
    return Markup(files("interp.report").joinpath("templates", name).read_text(encoding="utf-8"))


def digests(contents: Sequence[str]) -> str:
    """The sources of a content security policy that allow these scripts or styles and no others."""
    found = (base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents)
    return " ".join(f"'sha256-{digest}'" for digest in found)
