"""All that a card says of a probe beyond its AUROC, and where an item is missing, why."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from interp.probes import act as acts
from interp.probes import baselines as surfaces
from interp.probes import control_task, generalise, random_directions
from interp.probes import neighbours as near
from interp.probes import operating as points
from interp.probes import power as powers
from interp.probes.chosen import Chosen


@dataclass(frozen=True)
class Evidence:
    """One field for each question of a sceptic; None where it was not measured, with the reason in `missing`."""

    headline: str = ""
    """The fitted method and site that the items below are about, `METHOD@SITE`: the one of greatest AUROC."""
    chosen: Chosen | None = None
    left_out: tuple[generalise.LeftOut, ...] = ()
    random: tuple[random_directions.RandomDirections, ...] = ()
    control: tuple[control_task.ControlTask, ...] = ()
    baselines: tuple[surfaces.Baseline, ...] = ()
    repeated: int = 0
    """Transcripts of which the text that was read stands word for word in another group."""
    neighbours: near.Neighbours | None = None
    operating: points.Operating | None = None
    saved_thresholds: Mapping[str, float] = field(default_factory=dict)
    """Thresholds in the units in which the saved direction scores, by false-positive rate."""
    act: acts.SituationOrAct | None = None
    power: powers.Power | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Evidence":
        """What `dataclasses.asdict` wrote, also after a round trip through JSON."""
        found = {key: value for key, value in row.items() if key in _PLAIN}
        for key, read in _READERS.items():
            value = row.get(key)
            if isinstance(value, list | tuple):
                found[key] = tuple(read(one) for one in value)
            elif value is not None:
                found[key] = read(value)
        return cls(**found)

    def to_row(self) -> dict[str, Any]:
        """The plain JSON form."""
        return asdict(self)

    def sections(self) -> list[str]:
        """The sections of `card.md`, in the order in which a sceptic asks."""
        told = generalise.lines(self.left_out, self.chosen, self.headline)
        for found, lines in (
            (self.random, random_directions.lines),
            (self.control, control_task.lines),
            (self.baselines, surfaces.lines),
            (self.neighbours, near.lines),
            (self.operating, points.lines),
            (self.act, acts.lines),
            (self.power, powers.lines),
        ):
            told += ["", *lines(found)] if found else []  # pyright: ignore[reportArgumentType]
            if found is self.operating and self.saved_thresholds:
                told += ["", _saved(self.headline, self.saved_thresholds)]
        if self.missing:
            told += ["", "## Not measured", "", *(f"- {item}: {reason}." for item, reason in self.missing.items())]
        return told


_PLAIN = ("headline", "repeated", "saved_thresholds", "missing")
_READERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "chosen": lambda row: Chosen(**row),
    "left_out": lambda row: generalise.LeftOut(**row),
    "random": random_directions.RandomDirections.from_row,
    "control": control_task.ControlTask.from_row,
    "baselines": surfaces.Baseline.from_row,
    "neighbours": near.Neighbours.from_row,
    "operating": points.Operating.from_row,
    "act": acts.SituationOrAct.from_row,
    "power": powers.Power.from_row,
}


def _saved(headline: str, thresholds: Mapping[str, float]) -> str:
    told = ", ".join(f"{value:+.2f} for {rate}" for rate, value in thresholds.items())
    return f"Set in the same way on the scores of the saved direction `{headline}`, in its own units: {told}."
