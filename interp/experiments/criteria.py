"""What a dose may cost before its replies count as broken."""

from dataclasses import asdict, dataclass

from interp.behaviour import MIN_COHERENCE
from interp.errors import ExperimentError
from interp.experiments.quality import Quality

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Criteria:
    """What a dose may cost. Measured values are compared, not the ends of their intervals."""

    coherent: float = MIN_COHERENCE
    """The least share of coherent replies."""
    fall: float = 0.05
    """How far it may fall below the baseline's, where the baseline's is itself less than `coherent`."""
    more: float = 0.05
    """How many more replies, as a share, may be cut at their limit, silent, or ungraded."""
    repetition: float = 0.1
    """How much more of a reply, as a share, may be repeated runs of words."""
    distinct: float = 0.1
    """How much less of a reply, as a share, may be words that differ."""
    perplexity: float = 2.0
    """The largest factor on the baseline's perplexity, both under the unedited model."""

    def __post_init__(self) -> None:
        shares = (self.coherent, self.fall, self.more, self.repetition, self.distinct)
        if not all(0 <= share <= 1 for share in shares) or not self.perplexity >= 1:
            do = "give shares from 0 to 1, and a factor of at least 1"
            raise ExperimentError("calibrating", f"criteria out of range: {asdict(self)}", do)


@dataclass(frozen=True)
class Breach:
    """One criterion that a dose breaks."""

    criterion: str
    found: float | None
    bound: float

    def __str__(self) -> str:
        found = "undefined" if self.found is None else f"{self.found:.3g}"
        return f"{self.criterion} {found} (bound {self.bound:.3g})"


def breaches(found: Quality, baseline: Quality, criteria: Criteria) -> tuple[Breach, ...]:
    """The criteria that a dose breaks: none where its replies hold together as the baseline's do."""
    before, after = baseline.rates["coherent"], found.rates["coherent"]
    own = before.value or 0.0
    least = criteria.coherent if own >= criteria.coherent else max(own - criteria.fall, 0.0)
    ungraded = [rate.ungraded / max(rate.trials + rate.ungraded, 1) for rate in (before, after)]
    factor = found.factor.value if found.factor else None
    changed = {name: change.difference for name, change in found.changes.items()}
    fall = changed.get("distinct")
    judged = [
        Breach("coherent replies", after.value, least),
        Breach("replies cut, more than unedited", changed.get("truncated"), criteria.more),
        Breach("silent replies, more than unedited", changed.get("silent"), criteria.more),
        Breach("ungraded replies, more than unedited", ungraded[1] - ungraded[0], criteria.more),
        Breach("repetition, more than unedited", changed.get("repetition"), criteria.repetition),
        Breach("distinct words, less than unedited", None if fall is None else -fall, criteria.distinct),
        Breach("perplexity, times the unedited", factor, criteria.perplexity),
    ]
    first, *rest = judged
    broken = [first] if first.found is None or first.found < first.bound - _ROUNDING else []
    return tuple(broken + [one for one in rest if one.found is not None and one.found > one.bound + _ROUNDING])
