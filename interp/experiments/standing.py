"""Where the real direction stands among its controls: within each kind, and over all of them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from interp.errors import ExperimentError
from interp.stats import Contrast, ControlRank, control_rank, holm

Alternative = Literal["greater", "less"]


@dataclass(frozen=True)
class ControlEffect:
    """What came of one control."""

    name: str
    kind: str
    change: float | None
    """Of the event, against the baseline; None where it is undefined."""
    contrast: Contrast | None = None
    """The real direction minus this control, over the rollouts that share prompt and noise."""


@dataclass(frozen=True)
class KindStanding:
    """The real direction among the controls of one kind."""

    kind: str
    n: int
    rank: ControlRank | None
    """With its percentile; None where a change is undefined. Its p is no less than 1 / (n + 1)."""
    nearest: str | None
    """The control that came nearest to the real change, or furthest beyond it."""
    difference: float | None
    """The real change minus that control's, over shared rollouts."""
    p_value: float | None
    """That the real direction moves the event further than every control of the kind: the largest of the paired
    p-values, 1 where a difference has the wrong sign (an intersection-union test, Berger 1982)."""
    p_holm: float | None
    """The same, corrected over kinds."""
    beyond: bool
    """Whether the paired interval of every control lies on the wanted side of 0: it takes rollouts of one group as
    one, which the p-value does not."""

    def separated(self, level: float) -> bool:
        """Whether the real direction moves the event beyond doubt further than every control of this kind."""
        return self.beyond and self.p_holm is not None and self.p_holm <= 1 - level + 1e-12


@dataclass(frozen=True)
class Standing:
    """The real direction among all controls, and among those of each kind."""

    overall: ControlRank | None
    kinds: tuple[KindStanding, ...]

    def outside(self, level: float) -> bool:
        """Whether no control of any kind moved the event as far, and there are enough of them to say so."""
        return self.overall is not None and self.overall.rank == 1 and self.overall.p_value <= 1 - level + 1e-12

    def separated(self, level: float) -> tuple[str, ...]:
        """The kinds that the real direction beats in paired tests, corrected over kinds."""
        return tuple(one.kind for one in self.kinds if one.separated(level))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "overall": _ranked(self.overall),
            "kinds": [asdict(one) | {"rank": _ranked(one.rank)} for one in self.kinds],
        }


def standing(real: float | None, effects: Sequence[ControlEffect], *, alternative: Alternative) -> Standing:
    """Rank and percentile of the real change within each kind and overall, and paired tests of real minus control.

    Ties count against the real direction. An undefined change makes its kind's rank and the overall one undefined.

    Guarantees (tests): an effect outside all kinds has rank 1 in each and is separated from each; one that any push
    gives is outside none; over null draws, any kind is called separated in no more than 1 - level of them.

    Raises:
        ExperimentError: there is no control.
    """
    if not effects:
        raise ExperimentError("ranking a direction among its controls", "no control", "make a bank with make_bank")
    kinds = list(dict.fromkeys(effect.kind for effect in effects))
    found = [_of_kind(real, [e for e in effects if e.kind == kind], alternative) for kind in kinds]
    corrected = holm([one["p_value"] for one in found])
    pairs = zip(found, corrected, strict=True)
    return Standing(_rank(real, effects, alternative), tuple(KindStanding(**one, p_holm=p) for one, p in pairs))


def _of_kind(real: float | None, effects: Sequence[ControlEffect], alternative: Alternative) -> dict[str, Any]:
    sign = 1 if alternative == "greater" else -1
    known = [(effect, effect.contrast) for effect in effects if effect.contrast and effect.contrast.p_value is not None]
    whole = len(known) == len(effects)
    ahead = {effect.name: sign * (contrast.difference or 0.0) for effect, contrast in known}
    nearest = min(ahead, key=lambda name: ahead[name], default=None)
    p_values = [contrast.p_value if ahead[effect.name] > 0 else 1.0 for effect, contrast in known]
    return {
        "kind": effects[0].kind,
        "n": len(effects),
        "rank": _rank(real, effects, alternative),
        "nearest": nearest,
        "difference": None if nearest is None else sign * ahead[nearest],
        "p_value": max(p for p in p_values if p is not None) if whole else None,
        "beyond": whole and all(_on_side(contrast, sign) for _, contrast in known),
    }


def _on_side(contrast: Contrast, sign: int) -> bool:
    interval = contrast.interval
    return interval is not None and (interval.low > 0 if sign > 0 else interval.high < 0)


def _rank(real: float | None, effects: Sequence[ControlEffect], alternative: Alternative) -> ControlRank | None:
    changes = [effect.change for effect in effects if effect.change is not None]
    if real is None or len(changes) < len(effects):
        return None
    return control_rank(real, changes, alternative=alternative)


def _ranked(rank: ControlRank | None) -> dict[str, Any] | None:
    return None if rank is None else asdict(rank) | {"floor": rank.floor}
