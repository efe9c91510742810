"""The doses of a direction under which replies hold together: what was tried, what broke, and what lies within."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from interp.directions import Direction
from interp.edits import UNITS, raw_strength
from interp.errors import ExperimentError, StoreError
from interp.experiments.criteria import Breach, Criteria
from interp.experiments.plan import Arm
from interp.experiments.quality import MEANS, RATES, Quality
from interp.models import Model
from interp.sites import Site
from interp.store import fingerprint, read_json, write_json
from interp.transcripts import Transcript

CALIBRATION = "calibration.json"
FORMAT = 1
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Rung:
    """One dose that was tried."""

    value: float
    """In the range's unit."""
    kl: float | None
    """Mean KL divergence from the unedited model on benign text, in nats a token; None where it was not measured."""
    quality: Quality
    breaches: tuple[Breach, ...]

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Rung":
        """The rung of a calibration file."""
        broken = tuple(Breach(**one) for one in row["breaches"])
        return cls(row["value"], row["kl"], Quality.from_dict(row["quality"]), broken)


@dataclass(frozen=True)
class Range:
    """From which to which dose replies hold together, for one direction, model, place and set of prompts.

    `low` is 0 or below, `high` 0 or above: on either side the strongest dose that was tried such that it and every
    weaker one breaks no criterion. Nothing is said of doses between it and the next.
    """

    low: float
    high: float
    unit: str
    sites: tuple[Site, ...]
    scope: str
    total: bool
    """Whether a dose is one total, shared equally by the sites, and not what each of them gets."""
    direction: str
    model: str
    fingerprints: Mapping[str, str]
    """Of the `model`, of the `direction` at the sites, and of the `prompts`."""
    lengths: Mapping[Site, Mapping[str, float]]
    """What strength 1 in each unit (`norm`, `resid`, `raw`), got by each site, is along the unit vector there."""
    criteria: Criteria
    baseline: Quality
    rungs: tuple[Rung, ...]
    """Every dose that was tried, from the lowest to the highest."""

    def within(self, unit: str, *, total: bool = False) -> tuple[float, float]:
        """The range in a unit, of what each site gets or of the total over them.

        Where the sites differ in the unit's length, what lies inside at all of them.

        Raises:
            ExperimentError: doses are not given in that unit.
        """
        if unit not in UNITS["add"]:
            do = f"choose one of {', '.join(UNITS['add'])}"
            raise ExperimentError(f"the calibrated range in {unit}", "doses have no such unit", do)
        scale = min(by_unit[self.unit] / by_unit[unit] for by_unit in self.lengths.values())
        scale *= (len(self.sites) if total else 1) / (len(self.sites) if self.total else 1)
        return self.low * scale, self.high * scale

    def holds(self, arm: Arm) -> bool:
        """Whether the arm's dose lies within the range, its ends included; in any unit, each or total.

        An arm's condition on another direction is left aside: it makes an edit no stronger.

        Raises:
            ExperimentError: the arm is no addition, or its sites or its scope are others.
        """
        if arm.kind != "add":
            raise ExperimentError(f"placing {arm.name} in a range of doses", f"it is a {arm.kind}", "give an addition")
        self._check_place(arm)
        low, high = self.within(arm.unit, total=arm.total)
        return low * (1 + _ROUNDING) <= arm.value <= high * (1 + _ROUNDING)

    def check(
        self,
        model: Model,
        vectors: Mapping[Site, Direction],
        arm: Arm,
        prompts: Sequence[Transcript] | None = None,
    ) -> "Range":
        """The range itself, if it was measured on this model, direction and place, and on the prompts if given.

        Raises:
            ExperimentError: it was not; the message names what it was measured on, and what was given.
        """
        self._check_place(arm)
        given = vectors[arm.sites[0]].name if arm.sites[0] in vectors else "no vector there"
        now = identify(model, vectors, arm.sites, prompts or ())
        named = {"model": (self.model, model.name), "direction": (self.direction, given)}
        for noun, (mine, theirs) in named.items():
            if self.fingerprints[noun] != now[noun]:
                same = f", with another fingerprint ({self.fingerprints[noun]}, {now[noun]})" if mine == theirs else ""
                self._refuse(f"the {noun} {mine}", f"the {noun} {theirs}{same}")
        if prompts is not None and self.fingerprints["prompts"] != now["prompts"]:
            self._refuse(f"prompts {self.fingerprints['prompts']}", f"prompts {now['prompts']}")
        return self

    def _check_place(self, arm: Arm) -> None:
        if set(arm.sites) != set(self.sites):
            self._refuse(f"sites {_listed(self.sites)}", f"sites {_listed(arm.sites)}")
        if arm.scope != self.scope:
            self._refuse(f"the scope {self.scope}", f"the scope {arm.scope}")

    def _refuse(self, measured: str, given: str) -> None:
        asked = f"using the calibrated range of {self.direction} on {self.model}"
        raise ExperimentError(asked, f"it was measured with {measured}, and {given} is given", "run `interp calibrate`")

    def first_breach(self, sign: int) -> Rung | None:
        """The weakest dose of a sign (1 or -1) that breaks a criterion; None where none does."""
        broken = [rung for rung in self.rungs if rung.value * sign > 0 and rung.breaches]
        return min(broken, key=lambda rung: abs(rung.value), default=None)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The range, what ends it on either side, and what it does not rest on, in words."""
        place = f"at {_listed(self.sites)}, scope {self.scope}"
        said = [f"Replies hold together from {self.low:+g} to {self.high:+g} {self.unit} {place}."]
        for sign, side in ((-1, "Below"), (1, "Above")):
            tried = [rung.value for rung in self.rungs if rung.value * sign > 0]
            if (rung := self.first_breach(sign)) is not None:
                said.append(f"{side}: {rung.value:+g} {self.unit} breaks {'; '.join(map(str, rung.breaches))}.")
            elif tried:
                said.append(f"{side}: nothing broke, up to {max(tried, key=abs):+g} {self.unit}, the strongest tried.")
        before = self.baseline.rates["coherent"].value
        if before is not None and before < self.criteria.coherent:
            said.append(
                f"Only {before:.0%} of the unedited replies are coherent, so doses were held against that, and a rate "
                "among them supports no claim."
            )
        if self.baseline.n * (1 - self.criteria.coherent) < 1:
            said.append(f"With {self.baseline.n} replies a dose, a single incoherent one ends the range.")
        return tuple(said)

    @property
    def summary(self) -> dict[str, Any]:
        """What results and figures keep of it."""
        return {
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
            "sites": [str(site) for site in self.sites],
            "scope": self.scope,
        } | ({"total": True} if self.total else {})

    def strengths(self, value: float) -> dict[str, tuple[float, float]]:
        """What each site gets of one of the range's doses, in every unit, as the least and the most over the sites."""
        each, found = value / (len(self.sites) if self.total else 1), {}
        for unit in UNITS["add"]:
            here = [each * by_unit[self.unit] / by_unit[unit] for by_unit in self.lengths.values()]
            found[unit] = (min(here), max(here))
        return found

    def table(self) -> list[tuple[str, ...]]:
        """Header, baseline and every dose in words: its strength in every unit, its KL, its measures, what it breaks.

        A strength that the sites do not share is given as the least and the most. `x` marks what lies outside.
        """
        measured = ("coherent", "cut", "silent", "repeated", "distinct", "perplexity")
        rows: list[tuple[str, ...]] = [("", *UNITS["add"], "KL", *measured, "breaks")]
        rows.append(("", *["0"] * len(UNITS["add"]), "0", *_measures(self.baseline), "the baseline"))
        for rung in self.rungs:
            outside = not self.low <= rung.value <= self.high
            units = (_span(*self.strengths(rung.value)[unit]) for unit in UNITS["add"])
            broken = ", ".join(one.criterion.partition(",")[0] for one in rung.breaches)
            rows.append(("x" if outside else "", *units, _short(rung.kl), *_measures(rung.quality), broken))
        return rows

    def to_dict(self) -> dict[str, Any]:
        """JSON form, with every rung's strength in every unit."""
        rungs = [
            {
                "value": rung.value,
                "strengths": {unit: list(ends) for unit, ends in self.strengths(rung.value).items()},
                "kl": rung.kl,
                "quality": rung.quality.to_dict(),
                "breaches": [asdict(one) for one in rung.breaches],
            }
            for rung in self.rungs
        ]
        return self.summary | {
            "format": FORMAT,
            "direction": self.direction,
            "model": self.model,
            "fingerprints": dict(self.fingerprints),
            "lengths": {str(site): dict(by_unit) for site, by_unit in self.lengths.items()},
            "criteria": asdict(self.criteria),
            "baseline": self.baseline.to_dict(),
            "rungs": rungs,
            "sentences": list(self.sentences),
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "Range":
        """What `to_dict` wrote."""
        plain = {name: row[name] for name in ("low", "high", "unit", "scope", "direction", "model", "fingerprints")}
        return cls(
            **plain,
            total=row.get("total", False),
            sites=tuple(map(Site.parse, row["sites"])),
            lengths={Site.parse(site): by_unit for site, by_unit in row["lengths"].items()},
            criteria=Criteria(**row["criteria"]),
            baseline=Quality.from_dict(row["baseline"]),
            rungs=tuple(map(Rung.from_dict, row["rungs"])),
        )

    def save(self, folder: Path) -> None:
        """Write `calibration.json` into the folder."""
        write_json(folder / CALIBRATION, self.to_dict())

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        model: Model,
        vectors: Mapping[Site, Direction],
        arm: Arm,
        prompts: Sequence[Transcript] | None = None,
    ) -> "Range":
        """The range of a `calibration.json`, or of the run folder that holds one, if it fits (`check`).

        Raises:
            StoreError: there is none, or it is broken.
            ExperimentError: it was measured on another model, direction, place, or on other prompts where some are
                given.
        """
        file = path / CALIBRATION if path.is_dir() else path
        row = read_json(file)
        try:
            if row["format"] != FORMAT:
                raise ValueError(f"format {row['format']}")
            found = cls.from_dict(row)
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"reading {file.name}", f"it is no calibration ({error})", "run `interp calibrate`"
            ) from error
        return found.check(model, vectors, arm, prompts)


def identify(
    model: Model, vectors: Mapping[Site, Direction], sites: Sequence[Site], prompts: Sequence[Transcript]
) -> dict[str, str]:
    """Fingerprints of what a range is bound to. A direction's scale is no part of it: an addition does not use it."""
    here = [[str(site), vectors[site].vector.float().cpu().numpy()] for site in sorted(sites) if site in vectors]
    return {
        "model": fingerprint(model.identity),
        "direction": fingerprint(here),
        "prompts": fingerprint([[prompt.id, *_asked(prompt)] for prompt in prompts]),
    }


def _asked(prompt: Transcript) -> list[dict[str, Any]]:
    """The messages before the reply: a prompt is the same with a reply or without one."""
    ends = prompt.messages[-1].role == "assistant"
    return [message.to_dict() for message in (prompt.messages[:-1] if ends else prompt.messages)]


def lengths(
    arm: Arm, vectors: Mapping[Site, Direction], residual_norms: Mapping[Site, float]
) -> dict[Site, dict[str, float]]:
    """What strength 1 in each unit is along the unit vector at each of the arm's sites."""
    found: dict[Site, dict[str, float]] = {site: {} for site in arm.sites}
    for unit in UNITS["add"]:
        for edit in replace(arm, value=1.0, unit=unit, total=False, when=None).condition("", vectors).edits:
            for site in edit.sites:
                found[site][unit] = raw_strength(edit.each, edit.direction, site, residual_norms)
    return found


def ends(rungs: Sequence[Rung]) -> tuple[float, float]:
    """On either side the strongest dose up to which nothing breaks; 0 where the weakest breaks."""
    found = {-1: 0.0, 1: 0.0}
    for sign in found:
        for rung in sorted((r for r in rungs if r.value * sign > 0), key=lambda rung: abs(rung.value)):
            if rung.breaches:
                break
            found[sign] = rung.value
    return found[-1], found[1]


def ladder(weakest: float, strongest: float, factor: float = 2.0) -> tuple[float, ...]:
    """Magnitudes from the weakest on, each `factor` times the one before, and the strongest.

    Raises:
        ExperimentError: they are not positive and in order, or the factor is not above 1.
    """
    if not (0 < weakest < strongest < math.inf and 1 < factor < math.inf):
        found = f"{weakest:g} to {strongest:g} by {factor:g}"
        raise ExperimentError("a ladder of strengths", found, "give 0 < weakest < strongest and a factor above 1")
    count = math.ceil(math.log(strongest / weakest) / math.log(factor) - _ROUNDING)
    return (*(weakest * factor**step for step in range(count)), strongest)


def _measures(found: Quality) -> tuple[str, ...]:
    shares = [found.rates[name].value for name in RATES] + [found.means[name].value for name in MEANS]
    said = ["-" if share is None else f"{100 * share:.0f} %" for share in shares]
    times = f" (x{_short(found.factor.value)})" if found.factor else ""
    return (*said, _short(found.means["perplexity"].value) + times)


def _span(low: float, high: float) -> str:
    return _short(low) if _short(low) == _short(high) else f"{_short(low)} to {_short(high)}"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _listed(sites: Sequence[Site]) -> str:
    return ", ".join(map(str, sorted(sites)))
