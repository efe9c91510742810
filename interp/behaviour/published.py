"""What models were reported to do unsteered: a rate means little without its n, its definition and its source."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from interp.errors import ExperimentError
from interp.stats import Rate, rate

EVIDENCE = ("primary", "code", "recounted", "secondary")
"""The source was read; its code or README was; its replies were counted again; or notes and news about it were."""
_SUFFIXES = ("it", "instruct", "chat")


@dataclass(frozen=True)
class PublishedRate:
    """One cell of one study; what the source does not say is None."""

    model: str
    behaviour: str
    variant: str
    percent: float | None
    """As printed in the source."""
    n: int | None
    successes: int | None
    setup: str
    definition: str
    source: str
    evidence: str
    note: str | None = None

    @property
    def counted(self) -> Rate | None:
        """The rate with its Wilson interval; None where the counts are not known."""
        known = self.n is not None and self.successes is not None
        return rate(self.successes or 0, self.n or 0) if known else None

    def to_dict(self) -> dict[str, Any]:
        """JSON form, with the interval where the counts are known."""
        counted = self.counted
        interval = counted.interval if counted else None
        return asdict(self) | {"interval": interval and asdict(interval)}


@cache
def published_rates() -> tuple[PublishedRate, ...]:
    """Every published rate, study by study.

    Guarantee (test): none is without a definition and a source, and counts agree with the printed rate.
    """
    text = files("interp.behaviour").joinpath("published.toml").read_text(encoding="utf-8")
    optional = dict.fromkeys(("percent", "n", "successes", "note"))
    return tuple(PublishedRate(**optional | row) for row in tomllib.loads(text)["rate"])


def published(model: str | None = None, behaviour: str | None = None) -> list[PublishedRate]:
    """The published rates of a model, of a behaviour, or of both; a hub id finds the model's plain name.

    A model is found by its name without publisher, case, punctuation and a suffix such as `-it`. Nothing found is an
    empty list: nothing is known to us, which is not a rate of 0.

    Raises:
        ExperimentError: no such behaviour.
    """
    rows = published_rates()
    known = list(dict.fromkeys(row.behaviour for row in rows))
    if behaviour is not None and behaviour not in known:
        raise ExperimentError(f"published rates of {behaviour!r}", "none", f"choose one of {', '.join(known)}")
    return [
        row
        for row in rows
        if (model is None or _plain(row.model) == _plain(model)) and behaviour in (None, row.behaviour)
    ]


def published_models(rows: Sequence[PublishedRate]) -> list[str]:
    """The models of the rows, each once."""
    return list(dict.fromkeys(row.model for row in rows))


def _plain(model: str) -> tuple[str, ...]:
    words = re.findall(r"[a-z]+|\d+", model.rpartition("/")[2].lower())
    return tuple(words[:-1] if words and words[-1] in _SUFFIXES else words)
