"""What a fitted probe may be believed for: measured, with intervals and nulls, and where it all came from."""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from interp.directions import ModelIdentity
from interp.errors import ProbeError, StoreError
from interp.probes.evaluate import Measure
from interp.probes.evidence import Evidence
from interp.probes.glance import glance
from interp.probes.markdown import cell
from interp.sites import Site
from interp.store import Workspace, read_json, write_bytes, write_json

FORMAT = 2
_PACKAGES = ("interp", "torch", "transformers", "transformer_lens", "scikit-learn", "numpy")


@runtime_checkable
class Named(Protocol):
    """A model, or what is known of one."""

    @property
    def name(self) -> str:
        """The name that it was loaded by."""
        ...


def probe_folder(workspace: Workspace, name: str, model: Named) -> Path:
    """Where the probe of that name, fitted on that model, is kept."""
    return workspace.probes / name / model.name.replace("/", "--")


def versions() -> dict[str, str]:
    """The versions of the packages that a fit depends on."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


@dataclass(frozen=True)
class Classes:
    """How many transcripts, and how many groups, stand on each side; and how many on neither."""

    positive: int
    negative: int
    neither: int
    positive_groups: int
    negative_groups: int
    positive_rule: str
    negative_rule: str


@dataclass(frozen=True)
class ProbeCard:
    """The measures of a probe at every site and by every method, and all that is needed to repeat them."""

    name: str
    concept: str
    model: ModelIdentity
    position: str
    """Where the transcripts were read."""
    classes: Classes
    measures: tuple[Measure, ...]
    directions: tuple[str, ...]
    """Keys of the fitted directions, `NAME@SITE`."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of the activation sets."""
    reference: Mapping[str, Any] = field(default_factory=dict)
    """On which tokens scores have mean 0 and standard deviation 1."""
    stories: Mapping[str, Any] = field(default_factory=dict)
    """Pool and first token of the emotion vectors; empty without stories."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    job: str = ""
    """Fingerprint of recipe, data, model and version: a batch that is resumed leaves such a probe alone."""
    measured_on: str = (
        "AUROC of fitted probes is on groups that they were not fitted on, and p is one-sided; directions from stories "
        "saw no transcript at all, and p is two-sided."
    )
    """What the measures were taken on, for people."""
    evidence: Evidence | None = None
    """What else a sceptic asks; None for directions that are not a probe of two classes."""
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=versions)

    def measured(self, name: str) -> tuple[Measure, ...]:
        """The measures of one method, in the order of the sites.

        Raises:
            ProbeError: the card has no such method.
        """
        found = tuple(measure for measure in self.measures if measure.name == name)
        if not found:
            known = ", ".join(dict.fromkeys(measure.name for measure in self.measures))
            raise ProbeError(f"reading {name!r} of card {self.name}", "it was not measured", f"choose one of {known}")
        return found

    def best(self, name: str) -> Measure:
        """The site at which a method separates the classes best.

        Being chosen makes its AUROC optimistic; its p-value already allows for the choice.
        """
        return max(self.measured(name), key=lambda measure: measure.auroc)

    def save(self, folder: Path) -> None:
        """Write `card.json` and, for people, `card.md`."""
        row = asdict(self) | {"format": FORMAT}
        row["measures"] = [asdict(measure) | {"site": str(measure.site)} for measure in self.measures]
        write_json(folder / "card.json", row)
        write_bytes(folder / "card.md", self.to_markdown().encode())

    @classmethod
    def load(cls, folder: Path) -> "ProbeCard":
        """The card that `save` wrote.

        Raises:
            StoreError: there is none, or it is of another format.
        """
        row = read_json(folder / "card.json")
        if not isinstance(row, dict) or row.pop("format", None) != FORMAT:
            raise StoreError(
                f"reading the card of {folder.name}",
                f"not a card of format {FORMAT}",
                "fit the probe again with `interp probe`",
            )
        measures = tuple(Measure(**m | {"site": Site.parse(m["site"])}) for m in row["measures"])
        return cls(
            **row
            | {
                "model": ModelIdentity(**row["model"]),
                "classes": Classes(**row["classes"]),
                "measures": measures,
                "directions": tuple(row["directions"]),
                "evidence": None if row["evidence"] is None else Evidence.from_row(row["evidence"]),
                "notes": tuple(row["notes"]),
            }
        )

    def _scored(self) -> str:
        """How rows become a score, where the recipe says it."""
        if "score" not in self.recipe:
            return ""
        learnt = {"rows": "every row is learnt from", "mean": "the mean of a transcript's rows is learnt from"}
        told = learnt.get(self.recipe["learn"], "the last row of a transcript is learnt from")
        where = self.recipe.get("score_position", self.position)
        return f"; {told}; a transcript's score is the {self.recipe['score']} over its rows at `{cell(where)}`"

    def to_markdown(self) -> str:
        """The card as a page: what it reads, how well, and on what."""
        counts = self.classes
        lines = [
            f"# Probe `{self.name}`: {cell(self.concept)}",
            "",
            *(["## At a glance", "", *glance(self.measures, self.evidence), ""] if self.evidence else []),
            "## What was read",
            "",
            f"Model `{self.model.name}` ({self.model.dtype}, weights {self.model.weights}), "
            f"read at position rule `{cell(self.position)}`{self._scored()}.",
            "",
            f"- Positive: {cell(counts.positive_rule)}: "
            f"{counts.positive} transcripts in {counts.positive_groups} groups.",
            f"- Negative: {cell(counts.negative_rule)}: "
            f"{counts.negative} transcripts in {counts.negative_groups} groups.",
            f"- In neither class, and left out: {counts.neither} transcripts.",
            *_listed("Scores are in standard deviations of", self.reference),
            *_listed("Emotion vectors come from", self.stories),
            *(f"- {note}" for note in self.notes),
            "",
            "## Every direction",
            "",
            f"{self.measured_on} Intervals: 95 %, bootstrap over groups, of scores as they are; fits on few groups "
            "vary more, so judge by p. Chance: the band that nothing in this table leaves in 95 % of shuffles of the "
            "labels; p is adjusted for all of it, and no p can be below "
            f"{min(measure.floor for measure in self.measures):.2g}.",
            "",
            "| direction | site | AUROC | interval | chance | p | rows | groups | shuffles |",
            "|---|---|---|---|---|---|---|---|---|",
            *map(_table_row, self.measures),
            "",
            *(self.evidence.sections() if self.evidence else ()),
            "",
            "## What this does not show",
            "",
            "Not shown here: that the direction causes anything (`interp steer`), or that it means the same on "
            "transcripts of another kind.",
            "",
        ]
        return "\n".join(lines)


def _listed(said: str, facts: Mapping[str, Any]) -> list[str]:
    return [f"- {said}: {', '.join(f'{key} {cell(value)}' for key, value in facts.items())}."] if facts else []


def _table_row(measure: Measure) -> str:
    def span(low: float | None, high: float | None) -> str:
        return "undefined" if low is None or high is None else f"{low:.3f} to {high:.3f}"

    p = f"<= {measure.floor:.2g}" if measure.p_value <= measure.floor else f"{measure.p_value:.2g}"
    cells = (
        f"`{cell(measure.name)}`",
        measure.site,
        f"{measure.auroc:.3f}",
        span(measure.low, measure.high),
        span(measure.null_low, measure.null_high),
        p,
        measure.n,
        measure.groups,
        measure.shuffles,
    )
    return "| " + " | ".join(map(str, cells)) + " |"
