"""Recipes: what a probe is fitted on and how, written by a person as TOML, checked before anything runs."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from interp.errors import InterpError, ProbeError
from interp.organism.sets import sample
from interp.tokens import PositionRule
from interp.transcripts import Transcript, read_jsonl

EMOTION_VECTOR = "emotion_vector"


def _position(text: str) -> str:
    try:
        PositionRule.parse(text)
    except InterpError as error:
        raise ValueError(f"{error.found}; {error.do}") from error
    return text


class _Checked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Filter(_Checked):
    """Which transcripts: those whose `field` is one of a list, or lies strictly above or below a number."""

    field: Annotated[str, Field(pattern=r"^(id|label|group|source|meta\..+)$")]
    among: Annotated[tuple[str | float | bool, ...] | None, Field(alias="in", min_length=1)] = None
    above: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _one_test(self) -> "Filter":
        numeric = self.above is not None or self.below is not None
        if (self.among is not None) == numeric:
            raise ValueError("give either in = [...], or above and below")
        return self

    def __str__(self) -> str:
        if self.among is not None:
            return f"{self.field} in {', '.join(map(str, self.among))}"
        bounds = [
            f"> {self.above:g}" if self.above is not None else "",
            f"< {self.below:g}" if self.below is not None else "",
        ]
        return f"{self.field} {' and '.join(filter(None, bounds))}"

    def value(self, transcript: Transcript) -> Any:
        """What the transcript says in the field; None where it says nothing."""
        if not self.field.startswith("meta."):
            return getattr(transcript, self.field)
        found: Any = transcript.meta
        for key in self.field.split(".")[1:]:
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def __call__(self, transcript: Transcript) -> bool:
        """Whether the transcript is chosen; one without the field never is."""
        value = self.value(transcript)
        if self.among is not None:
            return value in self.among
        if not isinstance(value, int | float):
            return False
        return (self.above is None or value > self.above) and (self.below is None or value < self.below)


class Reference(Filter):
    """The benign transcripts that set the scale of scores: the first `limit` that pass."""

    limit: Annotated[int, Field(ge=2)] = 128


class _Source(_Checked):
    """A file beside the recipe, or `n` samples of the embedded model's world."""

    path: str | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _one_source(self) -> "_Source":
        organism = getattr(self, "organism", None)
        if (self.path is None) == (organism is None) or (organism is None) != (self.n is None):
            raise ValueError("give either a path, or organism and n")
        return self


class Data(_Source):
    """Transcripts, and which of them are positive, negative and benign."""

    organism: Literal["agent", "middle", "benign"] | None = None
    positive: Filter
    negative: Filter
    reference: Reference


class Stories(_Source):
    """Stories with `meta.emotion`, the emotion wanted, and what it is contrasted with: the rest, or one emotion."""

    organism: Literal["stories"] | None = None
    emotion: str
    against: str = "rest"
    from_token: Annotated[int, Field(ge=0)] = 50


class Recipe(_Checked):
    """How a concept is probed."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    concept: str
    sites: Literal["all"] | tuple[str, ...] = "all"
    position: Annotated[str, AfterValidator(_position)] = "last"
    methods: Annotated[tuple[Literal["difference_of_means", "logistic", "emotion_vector"], ...], Field(min_length=1)]
    folds: Annotated[int, Field(ge=2)] = 5
    n_null: Annotated[int, Field(ge=19)] = 200
    seed: int = 0
    data: Data
    stories: Stories | None = None
    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _stories_for_emotions(self) -> "Recipe":
        if (EMOTION_VECTOR in self.methods) != (self.stories is not None):
            raise ValueError("the method emotion_vector and a table [stories] come together")
        return self

    @classmethod
    def load(cls, path: str | Path) -> "Recipe":
        """The recipe in a TOML file; paths in it are relative to the file.

        Raises:
            ProbeError: it is no TOML, or naming every key that is missing, unknown or wrong.
        """
        path = Path(path)
        try:
            recipe = cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ProbeError(f"reading recipe {path.name}", error.strerror or str(error), "check the path") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ProbeError(f"reading recipe {path.name}", f"not TOML ({error})", "mend it") from error
        except ValidationError as error:
            raise ProbeError(f"reading recipe {path.name}", "; ".join(_faults(error)), "mend these keys") from error
        recipe._folder = path.parent
        return recipe

    def transcripts(self) -> list[Transcript]:
        """The transcripts that [data] names."""
        if self.data.path is not None:
            return read_jsonl(self._folder / self.data.path)
        return sample(self.data.organism or "agent", self.data.n or 0, self.data.seed)

    def told(self) -> list[Transcript]:
        """The stories that [stories] names; none without that table."""
        if self.stories is None:
            return []
        if self.stories.path is not None:
            return read_jsonl(self._folder / self.stories.path)
        return sample("stories", self.stories.n or 0, self.stories.seed)


def _faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_url=False):
        where = ".".join(map(str, fault["loc"])) or "recipe"
        yield f"{where}: {fault['msg'].removeprefix('Value error, ')}"
