"""A steering experiment as a form: what `interp steer` is given by its options, or by a TOML file."""

import json
import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from interp.errors import ExperimentError
from interp.experiments import Plan, arms_from, parse_arm
from interp.generation import Sampling
from interp.jobs.recipe import Checked, faults
from interp.organism.sets import benign_transcripts, benign_twin, middle_band_transcripts
from interp.scenarios import Wanted, scenarios
from interp.sites import Site, parse_sites
from interp.transcripts import Transcript, read_jsonl

N_PROMPTS, N_BENIGN = 24, 64
ORGANISM = "organism"
DOSES = (0.06, 0.12)
"""Where no range is looked for, in resid."""
LADDER = (0.03, 0.06, 0.09, 0.12, 0.18, 0.24, 0.48)
"""Doses in resid that are tried for a range, where none are given."""


class Prompts(Checked):
    """A file of prompts, or a set of scenarios; by default the embedded world's scenes where blackmail is uncertain."""

    path: str | None = None
    family: str = ORGANISM
    n: Annotated[int, Field(ge=1)] | None = None
    seed: int = 0
    where: dict[str, tuple[str, ...]] = {}
    twin: str = "no threat"
    """Which benign twin the side effects are measured on; empty for none."""

    def read(self, folder: Path) -> tuple[list[Transcript], list[Transcript]]:
        """The prompts, and their twins; a file has none.

        Raises:
            TranscriptError: the file, the family or a factor is not there.
        """
        if self.path is not None:
            return read_jsonl(folder / self.path)[: self.n], []
        if self.family == ORGANISM:
            found = middle_band_transcripts(self.n or N_PROMPTS, self.seed)
            return found, [benign_twin(prompt, reply=False) for prompt in found] if self.twin else []
        twins = (self.twin,) if self.twin else ()
        told = scenarios(Wanted(self.family, self.n or N_PROMPTS, self.seed, self.where, twins=twins))
        step = 1 + len(twins)
        return told[::step], told[1::step] if twins else []


class Benign(Checked):
    """Calm transcripts that set the scale and give the KL; those without a reply are answered first."""

    path: str | None = None
    family: str = ORGANISM
    n: Annotated[int, Field(ge=2)] = N_BENIGN
    seed: int = 0
    twin: str = "no threat"

    def read(self, folder: Path) -> list[Transcript]:
        """The transcripts."""
        if self.path is not None:
            return read_jsonl(folder / self.path)
        if self.family == ORGANISM:
            return benign_transcripts(self.n, self.seed)
        return scenarios(Wanted(self.family, self.n, self.seed, twins=(self.twin,)))[1::2]


class SideTask(Checked):
    """A task whose score is a side effect: Inspect's by its name there, lm-eval's as `lm_eval/NAME`."""

    name: Annotated[str, Field(min_length=1)]
    limit: Annotated[int, Field(ge=1)] | None = None
    """How many of its samples; all where None."""
    score: str | None = None
    """Which of its scores; needed where it has several."""
    arguments: dict[str, Any] = {}
    """Of the task itself, or of lm-eval (num_fewshot, apply_chat_template)."""

    @classmethod
    def parse(cls, text: str) -> "SideTask":
        """The task that a line of text names: NAME [limit=N] [score=SCORE] [ARGUMENT=VALUE ...].

        Raises:
            ExperimentError: it names none, or a word of it is no `name=value`.
        """
        asked, do = f"the side task {text!r}", "write NAME name=value ..."
        try:
            name, *words = shlex.split(text) or [""]
        except ValueError as error:
            raise ExperimentError(asked, str(error), do) from error
        given = named_values(words, asked, do)
        known = {key: given.pop(key) for key in ("limit", "score") if key in given}
        try:
            return cls(name=name, arguments=given, **known)
        except ValidationError as error:
            raise ExperimentError(asked, "; ".join(faults(error)), "mend that") from error


class Steering(Checked):
    """All that a steering experiment is, but for the model."""

    question: str = "Does suppressing the desperation direction lower blackmail?"
    probe: str = "desperation"
    direction: str = "emotion:desperate"
    prompts: Prompts = Prompts()
    benign: Benign = Benign()
    doses: tuple[float, ...] | None = None
    """Magnitudes; each is added with both signs. None for half of the range of coherent doses and all of it."""
    unit: Literal["resid", "norm", "raw"] = "resid"
    sites: str = "1/4,1/2,3/4"
    """Where doses are added."""
    ablate: bool = True
    """Whether the direction is also ablated after every block."""
    cap: float | None = -0.5
    """Its score is also capped there (z) after every block."""
    arms: tuple[str, ...] = ()
    """Further arms, see `interp.experiments.parse_arm`."""
    scope: str = "all"
    controls: Annotated[int, Field(ge=1)] = 20
    kinds: tuple[str, ...] | None = None
    unrelated: tuple[str, ...] = ()
    """Fields in `meta` of the probe's transcripts from which unrelated concepts are learnt."""
    equal_kl: bool = True
    calibrate: bool = True
    """Whether the range of coherent doses is found first."""
    beyond_range: bool = False
    samples: Annotated[int, Field(ge=1)] = 3
    control_samples: Annotated[int, Field(ge=1)] = 3
    max_new_tokens: Annotated[int, Field(ge=1)] = 128
    temperature: Annotated[float, Field(ge=0)] = 1.0
    grader: Literal["auto", "grammar", "rules"] = "auto"
    tasks: tuple[SideTask, ...] = ()
    """Further tasks whose scores are side effects, each run once a treatment."""
    seed: int = 0
    parameters: Annotated[float, Field(gt=0)] | None = None
    """Of the model, for the cost that is stated before it is loaded."""

    @model_validator(mode="after")
    def _some_doses(self) -> "Steering":
        if self.doses is None and self.unit != "resid":
            raise ValueError(f"in {self.unit} there are no usual doses: name some")
        return self

    @model_validator(mode="after")
    def _tasks_once(self) -> "Steering":
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError(f"a task is there twice among {', '.join(names)}")
        return self

    _folder: Path = PrivateAttr(default=Path())

    @classmethod
    def load(cls, path: Path) -> "Steering":
        """The experiment in a TOML file; paths in it are relative to the file.

        Raises:
            ExperimentError: it is no TOML, or naming every key that is missing, unknown or wrong.
        """
        asked = f"reading experiment {path.name}"
        try:
            found = cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ExperimentError(asked, error.strerror or str(error), "check the path") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ExperimentError(asked, f"not TOML ({error})", "mend it") from error
        except ValidationError as error:
            raise ExperimentError(asked, "; ".join(faults(error)), "mend these keys") from error
        found._folder = path.parent
        return found

    @classmethod
    def of(cls, **given: Any) -> "Steering":
        """The experiment of a command's options.

        Raises:
            ExperimentError: naming every option that is wrong.
        """
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise ExperimentError("reading the options", "; ".join(faults(error)), "mend these") from error

    @property
    def side_tasks(self) -> tuple[SideTask, ...]:
        """The further tasks; folders of task files that the experiment's file names are relative to it."""

        def placed(task: SideTask) -> SideTask:
            at = task.arguments.get("include_path")
            here = {} if at is None else {"include_path": str(self._folder / at)}
            return task.model_copy(update={"arguments": task.arguments | here})

        return tuple(map(placed, self.tasks))

    @property
    def sampling(self) -> Sampling:
        """How replies are drawn."""
        return Sampling(self.max_new_tokens, self.temperature)

    def plan_for(self, n_layers: int, doses: Sequence[float] = DOSES) -> Plan:
        """The plan on a model of so many blocks; `doses` stand in for those that the experiment leaves open.

        Raises:
            ExperimentError, SiteError: an arm or a site is none.
        """
        everywhere = tuple(Site(layer) for layer in range(n_layers))
        usual = arms_from(
            doses if self.doses is None else self.doses,
            self.unit,
            parse_sites(self.sites, n_layers),
            everywhere,
            ablate=self.ablate,
            cap=self.cap,
            scope=self.scope,
        )
        arms = (*usual, *(parse_arm(text, n_layers) for text in self.arms))
        return Plan(
            self.question,
            self.direction,
            arms,
            self.samples,
            min(self.samples, self.control_samples),
            self.controls,
            self.kinds,
            self.equal_kl,
            self.seed,
            self.sampling,
        )

    def read_prompts(self) -> tuple[list[Transcript], list[Transcript]]:
        """The prompts and their twins."""
        return self.prompts.read(self._folder)

    def read_benign(self) -> list[Transcript]:
        """The benign transcripts."""
        return self.benign.read(self._folder)

    def cost(self, prompts: Sequence[Transcript], n_arms: int) -> str:
        """What the experiment takes at most, from the texts alone: no model is needed to say it."""
        plan = self.plan_for(LAYERS)
        rollouts = plan.rollouts(len(prompts))
        text = sum(len(message.content) for prompt in prompts for message in prompt.messages) / max(1, len(prompts))
        read, written = rollouts * text / CHARACTERS, rollouts * self.max_new_tokens
        said = (
            f"On {len(prompts)} prompts, {n_arms} arms, {self.controls} controls and the sign flip: "
            f"{rollouts} rollouts of at most {self.max_new_tokens} tokens, about {read / 1e6:.2g} M tokens of prompts "
            f"(shared where edits leave them alone) and {written / 1e6:.2g} M new ones."
        )
        if self.parameters is None:
            return said
        flops = 2 * self.parameters * (read + written)
        return said + (
            f" At 2 FLOP a parameter and token that is {flops:.2g} FLOP: {flops / GPU_FLOPS / 3600:.2g} hours of a GPU "
            f"that sustains {GPU_FLOPS:.0e}, and {2 * self.parameters / 1e9:.0f} GB of weights in bfloat16."
        )


LAYERS = 48
"""Of a model that is not loaded: its arms are counted, and not placed."""
CHARACTERS = 4
"""In a token, about."""
GPU_FLOPS = 1e14
"""What one current accelerator sustains at large batches, about: an assumption, not a measurement."""


def named_values(words: Sequence[str], asked: str, do: str) -> dict[str, Any]:
    """Values by name from `name=value` words; a value that is JSON (a number, true, a list) is read as such.

    Raises:
        ExperimentError: a word has no `=`.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.strip():
            raise ExperimentError(asked, f"{word!r} has no name and value", do)
        try:
            found[name.strip()] = json.loads(value)
        except json.JSONDecodeError:
            found[name.strip()] = value
    return found
