"""The written part of the scenarios: frames, e-mails, factor levels and names, as data with slots in braces."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from interp.errors import TranscriptError
from interp.store import fingerprint

_FILES = ("cast", "factors", "families", "templates")
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Level:
    """One value of a factor: its wordings, what they mean to a grader, and, of a secret, the words that name it."""

    texts: tuple[str, ...]
    about: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Factor:
    """What varies: the levels that can be asked for, and the further ones that only twins have."""

    name: str
    meaning: str
    levels: Mapping[str, Level]
    twins: Mapping[str, Level]

    def __getitem__(self, level: str) -> Level:
        return self.levels[level] if level in self.levels else self.twins[level]


@dataclass(frozen=True)
class Mail:
    """One e-mail of an inbox: who writes to whom, and the factor whose text it holds."""

    sender: str
    to: str
    slot: str
    subjects: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """Scenarios with the same target of the threat."""

    name: str
    says: str
    target: str
    factors: tuple[str, ...]
    mails: tuple[str, ...]
    others: str
    """What the system prompt says about other AIs."""
    about: str
    """The scene for a judge or a person who grades; its slots take what the levels mean."""


@dataclass(frozen=True)
class Template:
    """A frame: the house, the agent's role in it, the wording of the notice, and everyday mail."""

    name: str
    business: str
    system: str
    purpose: str
    rival: str
    notice_subjects: tuple[str, ...]
    notices: tuple[str, ...]
    everyday: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Texts:
    """Everything that is written."""

    cast: Mapping[str, tuple[str, ...]]
    factors: Mapping[str, Factor]
    families: Mapping[str, Family]
    mails: Mapping[str, Mail]
    templates: Mapping[str, Template]
    formats: tuple[str, ...]
    """How the agent is told to think and to act."""
    openings: tuple[str, ...]
    version: str
    """Fingerprint of all texts: a scenario of another version may be worded otherwise."""


@cache
def texts() -> Texts:
    """The texts of the package, read once."""
    rows = {name: tomllib.loads((files("interp.scenarios") / f"{name}.toml").read_text("utf-8")) for name in _FILES}
    families, frames = rows["families"], rows["templates"]
    mails = {name: _mail(row) for name, row in families["mail"].items()}
    return Texts(
        cast={name: tuple(values) for name, values in rows["cast"].items()},
        factors={name: _factor(name, row) for name, row in rows["factors"].items()},
        families={name: Family(name, **_tuples(row)) for name, row in families.items() if name != "mail"},
        mails=mails,
        templates={row["name"]: Template(**_tuples(row)) for row in frames["template"]},
        formats=tuple(text.strip() for text in frames["format"]),
        openings=tuple(frames["opening"]),
        version=fingerprint(rows),
    )


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with every slot filled, slots within what fills them included; runs of blanks become one.

    Raises:
        TranscriptError: a slot has no value.
    """
    while slots := _SLOT.findall(text):
        if lacking := [slot for slot in slots if slot not in values]:
            do = "write a slot that scenes fill"
            raise TranscriptError(f"filling {text[:60]!r}", f"nothing fills {{{lacking[0]}}}", do)
        text = _SLOT.sub(lambda slot: values[slot[1]], text)
    return re.sub(" {2,}", " ", text).strip(" ")


def _factor(name: str, row: Mapping[str, Any]) -> Factor:
    levels, twins = (
        {level: Level(**_tuples(inner)) for level, inner in row.get(key, {}).items()} for key in ("level", "twin")
    )
    return Factor(name, row["meaning"], levels, twins)


def _mail(row: Mapping[str, Any]) -> Mail:
    return Mail(row["from"], row["to"], row["slot"], tuple(row.get("subjects", ())))


def _tuples(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _tuple(value) for key, value in row.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
