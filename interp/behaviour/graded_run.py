"""The gradings of a run folder: made again by other graders, read back, and compared; nothing is ever overwritten."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from interp.behaviour.agreement import Agreement, agreement
from interp.behaviour.case import SUMMIT_BRIDGE, Case
from interp.behaviour.grading import Grading, grade_all
from interp.behaviour.headline import HEADLINES, Headline
from interp.behaviour.ladder import SCALE, on_full_ladder
from interp.behaviour.outcomes import BROKEN, Grader
from interp.behaviour.outcomes import LADDER as WORLD_LADDER
from interp.errors import ExperimentError
from interp.generation import Rollout
from interp.stats import Contrast, Rate, paired_contrast, rate_of
from interp.store import Rows, read_json, write_bytes
from interp.store.files import to_json

OWN = "run"
"""The name of the outcomes that the run itself wrote, `outcomes.jsonl`."""
_AT_ONCE = 64
"""Rollouts that a grader is given at a time."""
Progress = Callable[[int, int], None]
"""Called with what is done and with the total."""


@dataclass(frozen=True, eq=False)
class GradedRun:
    """The rollouts of a run folder, and the outcomes beside them."""

    folder: Path
    rollouts: tuple[Rollout, ...]

    @classmethod
    def open(cls, folder: Path) -> "GradedRun":
        """The run in a folder.

        Raises:
            ExperimentError: it holds no rollouts.
            StoreError: a row is damaged.
        """
        rollouts = tuple(Rollout.from_row(row) for row in Rows(folder / "rollouts.jsonl").read())
        if not rollouts:
            do = "name a folder of runs/ that holds rollouts.jsonl"
            raise ExperimentError(f"grading the run in {folder.name}", "it holds no rollouts", do)
        return cls(folder, rollouts)

    @property
    def graders(self) -> list[str]:
        """Whose outcomes there are: `run` for the run's own, and the names of all others."""
        others = sorted(p.stem.removeprefix("outcomes-") for p in self.folder.glob("outcomes-*.jsonl"))
        return ([OWN] if self.path(OWN).is_file() else []) + others

    def path(self, name: str) -> Path:
        """The file of a grader's outcomes."""
        return self.folder / ("outcomes.jsonl" if name == OWN else f"outcomes-{name}.jsonl")

    def read(self, name: str = OWN) -> list[Grading]:
        """A grader's outcomes, in the order of the rollouts.

        Raises:
            ExperimentError: there are none, or one is of no rollout of this run.
        """
        if not self.path(name).is_file():
            there = ", ".join(self.graders) or "none"
            do = f"grade with --grader first, or name one of these: {there}"
            raise ExperimentError(f"outcomes by {name} of the run in {self.folder.name}", "there are none", do)
        groups = {rollout.key: rollout.transcript.group for rollout in self.rollouts}
        rows = {(row["prompt"], row["condition"], row["sample"]): row for row in Rows(self.path(name)).read()}
        if strangers := [key for key in rows if key not in groups]:
            found = f"{len(strangers)} outcomes are of no rollout, such as {strangers[0]}"
            raise ExperimentError(f"reading {self.path(name).name}", found, "take the folder's own outcomes")
        scale = _scale(rows.values())
        return [
            Grading.from_row({"scale": scale, "note": "", "group": group} | rows[key])
            for key, group in groups.items()
            if key in rows
        ]

    def grade(self, grader: Grader, on_progress: Progress | None = None) -> list[Grading]:
        """The gradings of all rollouts, some at a time; nothing is written."""
        found: list[Grading] = []
        for start in range(0, len(self.rollouts), _AT_ONCE):
            found += grade_all(self.rollouts[start : start + _AT_ONCE], grader)
            if on_progress is not None:
                on_progress(len(found), len(self.rollouts))
        return found

    def write(self, name: str, gradings: Sequence[Grading]) -> Path:
        """Write `outcomes-NAME.jsonl`; the same gradings once more leave it as it is.

        Raises:
            ExperimentError: the file holds other gradings, or the name is the run's own or no file's name.
        """
        path, asked = self.path(name), f"writing the outcomes by {name}"
        if name == OWN or not re.fullmatch(r"[\w.-]+", name):
            raise ExperimentError(asked, "the name cannot be taken", "give letters, digits, dots and dashes with --as")
        text = "".join(to_json(grading.to_row(), asked) + "\n" for grading in gradings).encode()
        if path.is_file() and path.read_bytes() != text:
            found = f"{path.name} holds other gradings"
            raise ExperimentError(asked, found, "give these another name with --as, or move the file away")
        if not path.is_file():
            write_bytes(path, text)
        return path

    def beside(self, name: str, gradings: Sequence[Grading], against: str, *, seed: int) -> "Comparison | None":
        """The gradings compared with another grader's of this run.

        None where that is themselves, or the run's own outcomes, and there are none or they are on no ladder.

        Raises:
            ExperimentError: there are no outcomes of that name, or those by another grader are on no ladder.
        """
        own = against == OWN
        if against == name or (own and OWN not in self.graders):
            return None
        other = self.read(against)
        if own and any(grading.outcome.scale not in (SCALE, WORLD_LADDER) for grading in other):
            return None
        return compare((against, other), (name, gradings), seed=seed)

    @property
    def shown(self) -> list[str]:
        """The conditions that a table shows, the baseline first: all but those that results.json calls controls."""
        path = self.folder / "results.json"
        cells = read_json(path).get("cells", []) if path.is_file() else []
        controls = {cell["condition"] for cell in cells if cell.get("role") == "control"}
        names = dict.fromkeys(rollout.condition for rollout in self.rollouts)
        return sorted((name for name in names if name not in controls), key=lambda name: name != "baseline")


def _scale(rows: Any) -> list[str]:
    """The scale of rows that do not say theirs: a ladder that has all their rungs, else those rungs, as of a score."""
    said = {row["outcome"] for row in rows if "scale" not in row} - {None, *BROKEN}
    ladders = (ladder for ladder in (WORLD_LADDER, SCALE) if said <= set(ladder))
    return list(next(ladders, sorted(said)))


@dataclass(frozen=True)
class RungChange:
    """How often one rung was given by two graders of the same rollouts."""

    rung: str
    before: Rate
    after: Rate
    change: Contrast
    """After minus before, rollout by rollout."""


@dataclass(frozen=True)
class Comparison:
    """Two graders of one run, on the full ladder."""

    before: str
    after: str
    rungs: tuple[RungChange, ...]
    agreement: Agreement

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        found = self.agreement
        told = asdict(found) | {"n": found.n, "differences": found.differences}
        return {"before": self.before, "after": self.after, "rungs": [asdict(r) for r in self.rungs], "agreement": told}


def compare(
    before: tuple[str, Sequence[Grading]], after: tuple[str, Sequence[Grading]], *, seed: int, level: float = 0.95
) -> Comparison:
    """How the rates by rung differ between two named graders of the same rollouts, and how far they agree.

    Both are put on the full ladder. A rollout counts where both have it, graded or not.

    Raises:
        ExperimentError: one of them is on a scale that is no ladder, or no rollout is in both.
    """
    first, second = (_on_ladder(gradings) for _, gradings in (before, after))
    found = agreement(first, second, seed=seed)
    by_key = {grading.key: grading for grading in second}
    pairs = [(grading, by_key[grading.key]) for grading in first if grading.key in by_key]
    groups = [one.group for one, _ in pairs]
    rungs = []
    for rung in (*first[0].outcome.scale, *BROKEN):
        flags = [[grading.outcome.is_rung(rung) for grading in side] for side in zip(*pairs, strict=True)]
        change = paired_contrast(flags[1], flags[0], groups, seed=seed, level=level)
        rungs.append(RungChange(rung, rate_of(flags[0], level), rate_of(flags[1], level), change))
    return Comparison(before[0], after[0], tuple(rungs), found)


def _on_ladder(gradings: Sequence[Grading]) -> list[Grading]:
    return [replace(grading, outcome=on_full_ladder(grading.outcome)) for grading in gradings]


def rung_rates(gradings: Sequence[Grading], level: float = 0.95) -> dict[str, Rate]:
    """The rate of every rung of the graders' own scale, and of broken replies, with Wilson intervals."""
    names = dict.fromkeys(name for grading in gradings for name in grading.outcome.scale)
    return {rung: rate_of([grading.outcome.is_rung(rung) for grading in gradings], level) for rung in (*names, *BROKEN)}


def headline_rates(
    rollouts: Sequence[Rollout], gradings: Sequence[Grading], level: float = 0.95
) -> dict[str, dict[str, Rate]]:
    """By condition, then by headline: the rate of each published definition, with its Wilson interval.

    Raises:
        ExperimentError: the gradings are on a scale that is no ladder.
    """
    by_key = {grading.key: grading for grading in gradings}
    found: dict[str, dict[str, list[bool | None]]] = {}
    for rollout in rollouts:
        if rollout.key in by_key:
            for one in HEADLINES.values():
                flags = found.setdefault(rollout.condition, {}).setdefault(one.name, [])
                flags.append(one.outcome(rollout, by_key[rollout.key].outcome).is_rung(one.name))
    return {
        condition: {name: rate_of(flags, level) for name, flags in by_name.items()}
        for condition, by_name in found.items()
    }


def definitions() -> list[Headline]:
    """The published definitions, each with the rungs that it counts."""
    return list(HEADLINES.values())


def read_case(text: str) -> Case:
    """A scene by name (`summit-bridge`), or from a JSON file as `Case.to_dict` gives it.

    Raises:
        ExperimentError: there is no such file, or it describes no scene.
    """
    if text == "summit-bridge":
        return SUMMIT_BRIDGE
    asked, do = f"reading the case {text}", "give summit-bridge, or a JSON file with person, secret and agent"
    try:
        value: Any = json.loads(Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExperimentError(asked, getattr(error, "strerror", None) or "it is no JSON", do) from None
    case = Case.of({"case": value}) if isinstance(value, Mapping) else None
    if case is None:
        raise ExperimentError(asked, "it is no JSON object", do)
    return case


def slug(text: str) -> str:
    """A name as a part of a file's name."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-") or "unnamed"
