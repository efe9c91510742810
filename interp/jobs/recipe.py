"""Recipes: what a probe is fitted on and how, written by a person as TOML, checked before anything runs."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from interp.errors import InterpError, ProbeError
from interp.organism.sets import sample
from interp.probes import Aggregation
from interp.probes.sweep import L2, SHRINKAGE, SPECIAL
from interp.tokens import PositionRule
from interp.transcripts import Transcript, read

EMOTION_VECTOR = "emotion_vector"
POSITIVE = ("calm", "happy", "proud", "joyful", "content", "hopeful", "grateful", "relieved", "serene", "loving")
NEGATIVE = ("desperate", "afraid", "angry", "sad", "guilty", "ashamed", "anxious", "disgusted", "lonely", "hopeless")
_FIELD = r"^(id|label|group|source|meta\..+)$"


def _position(text: str) -> str:
    try:
        PositionRule.parse(text)
    except InterpError as error:
        raise ValueError(f"{error.found}; {error.do}") from error
    return text


def _aggregation(text: str) -> str:
    try:
        return str(Aggregation.parse(text))
    except InterpError as error:
        raise ValueError(f"{error.found}; {error.do}") from error


def field_value(transcript: Transcript, field: str) -> Any:
    """What a transcript says in a field such as `label` or `meta.threat`; None where it says nothing."""
    if not field.startswith("meta."):
        return getattr(transcript, field)
    found: Any = transcript.meta
    for key in field.split(".")[1:]:
        found = found.get(key) if isinstance(found, dict) else None
    return found


class Checked(BaseModel):
    """A form that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Filter(Checked):
    """Which transcripts: those whose `field` is one of a list, or lies strictly above or below a number."""

    field: Annotated[str, Field(pattern=_FIELD)]
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
        return field_value(transcript, self.field)

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


World = Literal["agent", "middle", "benign", "person", "bystander", "no_leverage", "stories"]
"""Kinds of transcripts of the embedded model's world."""


class _Source(Checked):
    """A file beside the recipe, or `n` samples of the embedded model's world."""

    path: str | None = None
    organism: World | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _one_source(self) -> "_Source":
        if fault := self._fault():
            raise ValueError(fault)
        return self

    def _fault(self) -> str:
        """What is wrong with the source; empty where nothing is."""
        one = (self.path is None) != (self.organism is None) and (self.organism is None) == (self.n is None)
        return "" if one else "give either a path, or organism and n"

    def read(self, folder: Path) -> list[Transcript]:
        """The transcripts of the file, in any format that `interp transcripts` knows, or of the world.

        Raises:
            ProbeError: a record could not be read.
        """
        if self.organism is not None and self.n is not None:
            return sample(self.organism, self.n, self.seed)
        assert self.path is not None  # as checked above
        reading = read(folder / self.path)
        lost = [problem for problem in reading.problems if problem.effect == "left out"]
        if lost:
            raise ProbeError(
                f"reading the transcripts of {self.path}",
                f"{len(lost)} of {reading.found} records cannot be read; the first: {lost[0]}",
                "mend them, or see `interp transcripts validate`",
            )
        return list(reading.transcripts)


class Data(_Source):
    """Transcripts, and which of them are positive, negative and benign."""

    positive: Filter
    negative: Filter
    reference: Reference


class Stories(_Source):
    """Stories with `meta.emotion`, the emotion wanted, and what it is contrasted with: the rest, or one emotion."""

    organism: Literal["stories"] | None = None
    emotion: str
    against: str = "rest"
    from_token: Annotated[int, Field(ge=0)] = 50
    neighbours: tuple[str, ...] | None = None
    """Emotions that the concept must be told from; all negative ones where it is not given."""
    positive: tuple[str, ...] = POSITIVE
    """Emotions of one end of valence; names without stories are passed over."""
    negative: tuple[str, ...] = NEGATIVE


class Transfer(_Source):
    """A second corpus, on which probes are scored as they are; its classes are those of [data] unless said."""

    name: str
    positive: Filter | None = None
    negative: Filter | None = None
    limit: Annotated[int, Field(ge=2)] | None = None


class NearMiss(_Source):
    """Transcripts on which a probe should not fire, or on which it is asked whether it does."""

    name: str
    where: Filter | None = None
    sets_threshold: bool = True
    """Whether its transcripts are false positives; if not, how often it fires there is only told."""

    @property
    def is_of_data(self) -> bool:
        """Whether it has no source of its own, and chooses among the transcripts of [data]."""
        return self.path is None and self.organism is None

    def _fault(self) -> str:
        if not self.is_of_data or self.n is not None:
            return super()._fault()
        chosen = "give a path, organism and n, or where (a filter on the transcripts of [data])"
        return "" if self.where is not None else chosen

    def choose(self, folder: Path, data: Sequence[Transcript]) -> list[Transcript]:
        """Its transcripts: of its own source, or of [data]."""
        return [t for t in (data if self.is_of_data else self.read(folder)) if self.where is None or self.where(t)]


class Rollouts(_Source):
    """Several replies to each prompt, some of which act: a file, or what the model writes to sampled prompts."""

    organism: Literal["middle"] | None = None
    samples: Annotated[int, Field(ge=2)] = 16
    new_tokens: Annotated[int, Field(ge=1)] = 128
    acted: Filter = Filter(field="label", among=("blackmail",))
    prompt: str = "meta.prompt"
    """The field that replies to one prompt share; of no use where the model writes them."""


class Judge(Checked):
    """A text-only judge at a server that speaks OpenAI's protocol."""

    base_url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"


Method = Literal[
    "difference_of_means",
    "standardised_difference_of_means",
    "lda",
    "logistic",
    "ridge",
    "paired_pca",
    "emotion_vector",
]


class Recipe(Checked):
    """How a concept is probed."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$")]
    concept: str
    sites: Literal["all"] | tuple[str, ...] = "all"
    position: Annotated[str, AfterValidator(_position)] = "last"
    """Where transcripts are read to learn from."""
    learn: Literal["rows", "mean", "last"] = "rows"
    """Whether every row is learnt from, or one a transcript."""
    score_position: Annotated[str, AfterValidator(_position)] | None = None
    """Where transcripts are scored; as they are learnt from where it is not given."""
    score: Annotated[str, AfterValidator(_aggregation)] = "mean"
    """How the scores of a transcript's rows become one: mean, max, last or top:K."""
    methods: Annotated[tuple[Method, ...], Field(min_length=1)]
    shrinkage: Annotated[float, Field(gt=0, le=1)] = SHRINKAGE
    l2: Annotated[float, Field(gt=0)] = L2
    graded: str | None = None
    """A field of numbers, for ridge."""
    pair: str | None = None
    """A field that a positive and a negative transcript share, for paired_pca."""
    group: Annotated[str, Field(pattern=_FIELD)] = "group"
    """What is never on both sides of a split."""
    folds: Annotated[int, Field(ge=3)] = 5
    """At least three, so that method and site can be chosen without the fold that they are scored on."""
    conditions: tuple[Annotated[str, Field(pattern=_FIELD)], ...] = ()
    """Fields of which one value at a time is left out."""
    n_null: Annotated[int, Field(ge=19)] = 200
    seed: int = 0
    data: Data
    stories: Stories | None = None
    transfer: tuple[Transfer, ...] = ()
    near_misses: tuple[NearMiss, ...] = ()
    rollouts: Rollouts | None = None
    judge: Judge | None = None
    _folder: Path = PrivateAttr(default=Path())

    @model_validator(mode="after")
    def _tables_for_methods(self) -> "Recipe":
        if (EMOTION_VECTOR in self.methods) != (self.stories is not None):
            raise ValueError("the method emotion_vector and a table [stories] come together")
        for method, key in SPECIAL.items():
            if (method in self.methods) != (getattr(self, key) is not None):
                raise ValueError(f"the method {method} and the key {key} come together")
        if not self.fitted:
            raise ValueError("methods: name one that learns from [data], such as difference_of_means")
        return self

    @property
    def fitted(self) -> tuple[str, ...]:
        """The methods that learn from [data]."""
        return tuple(method for method in self.methods if method != EMOTION_VECTOR)

    @property
    def folder(self) -> Path:
        """Where the recipe stands; paths in it are relative to this."""
        return self._folder

    @classmethod
    def from_card(cls, told: Mapping[str, Any], folder: Path) -> "Recipe":
        """The recipe that a probe's card tells of; its paths are relative to `folder`.

        Raises:
            ProbeError: it is of another version.
        """
        try:
            recipe = cls.model_validate(told)
        except ValidationError as error:
            do = "fit the probe again"
            raise ProbeError(
                f"reading the recipe on the card in {folder.name}", "; ".join(faults(error)), do
            ) from error
        recipe._folder = folder
        return recipe

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
            raise ProbeError(f"reading recipe {path.name}", "; ".join(faults(error)), "mend these keys") from error
        recipe._folder = path.parent
        return recipe

    def transcripts(self) -> list[Transcript]:
        """The transcripts that [data] names, each in the group that `group` names.

        Raises:
            ProbeError: a transcript lacks that field.
        """
        return [self.grouped(transcript) for transcript in self.data.read(self._folder)]

    def grouped(self, transcript: Transcript) -> Transcript:
        """The transcript in the group that `group` names.

        Raises:
            ProbeError: it lacks that field.
        """
        if self.group == "group":
            return transcript
        value = field_value(transcript, self.group)
        if value is None:
            found = f"transcript {transcript.id} has none"
            raise ProbeError(f"grouping by {self.group} for probe {self.name}", found, "name a field that all have")
        return replace(transcript, group=str(value))

    def told(self) -> list[Transcript]:
        """The stories that [stories] names; none without that table."""
        return [] if self.stories is None else self.stories.read(self._folder)


def faults(error: ValidationError) -> Iterator[str]:
    """Every key that is missing, unknown or wrong, by its path, with why."""
    for fault in error.errors(include_url=False):
        where = ".".join(map(str, fault["loc"])) or "recipe"
        yield f"{where}: {fault['msg'].removeprefix('Value error, ')}"
