"""What an experiment will do, said before it is done."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, cast

from interp.behaviour import EVENT
from interp.edits import TOTALS, UNITS, Edit, Strength, When
from interp.errors import ExperimentError
from interp.experiments.bank import KINDS, under
from interp.experiments.controls import Control, Vectors
from interp.generation import BASELINE, Condition, Sampling
from interp.sites import Site, parse_sites

ALTERNATIVES = ("greater", "less")


@dataclass(frozen=True)
class Guard:
    """The condition of an arm: its edit applies to a token where another direction's score passes a level.

    Of a token's score at the edited site itself; conditional activation steering, see `interp.edits.When`.
    """

    direction: str
    """A name among the `guards` that `interp.steer` is given."""
    value: float
    unit: str = "z"
    below: bool = False

    def __str__(self) -> str:
        return f"{self.direction} {'<=' if self.below else '>='} {self.value:g} {self.unit}"


@dataclass(frozen=True)
class Arm:
    """One treatment: what is done along the direction, how strongly, where, and which way the event should move."""

    kind: str
    value: float
    unit: str
    sites: tuple[Site, ...]
    alternative: Literal["greater", "less"]
    scope: str = "all"
    total: bool = False
    """Whether the strength is one total, shared equally by the sites, and not what each of them gets."""
    back: float = 0.0
    """Of `mean_ablate`: how many times the direction is added on top (ACE's alpha)."""
    when: Guard | None = None

    def __post_init__(self) -> None:
        if self.total and self.kind not in TOTALS:
            found = f"a total over {len(self.sites)} sites of {self.kind}"
            raise ExperimentError("planning an arm", found, f"share a strength only of {' or '.join(TOTALS)}")
        if self.kind not in UNITS or self.alternative not in ALTERNATIVES or not self.sites:
            raise ExperimentError(
                f"arm {self.kind} {self.value:g} {self.unit}",
                f"kind {self.kind!r}, alternative {self.alternative!r}, {len(self.sites)} sites",
                f"give a kind ({', '.join(UNITS)}), an alternative (greater, less) and a site",
            )

    @property
    def name(self) -> str:
        """What is done and how strongly: unique within a plan."""
        plain = all(site.stream == "resid_post" for site in self.sites)
        where = ",".join(str(site.layer) if plain else str(site) for site in self.sites)
        said = f"{self.kind} {self.value:+g} {self.unit}{' in all' if self.total else ''} @{where}"
        said += f" and {self.back:g} back" if self.back else ""
        said += "" if self.scope == "all" else f" {self.scope}"
        return said + (f" when {self.when}" if self.when else "")

    def condition(self, name: str, vectors: Vectors, guards: Mapping[str, Vectors] | None = None) -> Condition:
        """The arm carried out with one direction, given as its vector at each site.

        Raises:
            ExperimentError: the arm's condition is on a direction that is not among `guards`, or not read at a site.
        """
        each = self.value / len(self.sites) if self.total else self.value
        how: dict[str, Any] = {"scope": self.scope, "back": self.back}
        edits = [
            Edit.of(self.kind, vectors[site], each, self.unit, when=self._when(site, guards or {}), **how)
            for site in self.sites
        ]
        return Condition(f"{self.name} | {name}", tuple(edits))

    def _when(self, site: Site, guards: Mapping[str, Vectors]) -> When | None:
        if self.when is None:
            return None
        vectors = guards.get(self.when.direction, {})
        if site not in vectors:
            found = f"no vector of {self.when.direction} at {site}"
            raise ExperimentError(f"arm {self.name}", found, f"give one of {', '.join(guards) or 'no direction'}")
        return When(vectors[site], Strength(self.when.value, self.when.unit), self.when.below)

    def to_dict(self) -> dict[str, Any]:
        """What the run record keeps: of total, back and condition only what was asked."""
        asked = {"total": self.total, "back": self.back, "when": self.when and asdict(self.when)}
        plain = {name: getattr(self, name) for name in ("kind", "value", "unit", "alternative", "scope", "name")}
        given = {name: value for name, value in asked.items() if value}
        return plain | {"sites": [str(site) for site in self.sites]} | given


_ARM = re.compile(
    r"(?P<kind>\w+) (?P<value>[-+.\d]+)(?: (?P<unit>\w+))?(?P<total> in all)? @(?P<sites>\S+) (?P<way>less|greater)"
    r"(?: back=(?P<back>[-+.\d]+))?(?: scope=(?P<scope>.+?))?"
    r"(?: when (?P<on>\S+) (?P<side>>=|<=) (?P<level>[-+.\d]+) (?P<level_unit>\w+))?"
)


def parse_arm(text: str, n_layers: int) -> Arm:
    """The arm that a line of text names.

    KIND VALUE UNIT [in all] @SITES less|greater [back=NUMBER] [scope=SCOPE] [when DIRECTION >= LEVEL UNIT], such as
    `cap 0.95 quantile @all less scope=generated`, `mean_ablate 1 fraction @L2.attn_out,L2.mlp_out less back=0.5`, or
    `add -0.1 resid in all @1/4,1/2 less when emotion:afraid >= 1 z`.

    Raises:
        ExperimentError: it is none.
    """
    found = _ARM.fullmatch(text.strip())
    if found is None or found["kind"] not in UNITS:
        do = "write KIND VALUE UNIT @SITES less|greater, such as 'cap 0.95 quantile @all less'"
        raise ExperimentError(f"arm {text!r}", f"it does not parse (kinds: {', '.join(UNITS)})", do)
    on = found["on"] and Guard(found["on"], float(found["level"]), found["level_unit"], found["side"] == "<=")
    where, unit = parse_sites(found["sites"], n_layers), found["unit"] or UNITS[found["kind"]][0]
    way = cast(Literal["greater", "less"], found["way"])
    how = way, found["scope"] or "all", bool(found["total"]), float(found["back"] or 0), on or None
    return Arm(found["kind"], float(found["value"]), unit, where, *how)


@dataclass(frozen=True)
class Plan:
    """Question, arms and size of a steering experiment."""

    question: str
    direction: str
    """Name of the direction under test; it has a vector at every site of every arm."""
    arms: tuple[Arm, ...]
    samples: int = 4
    """Rollouts of each prompt under the baseline and under each treatment."""
    control_samples: int = 1
    """Rollouts of each prompt under each control."""
    n_controls: int = 20
    """Directions in the bank; the sign flip comes on top."""
    kinds: tuple[str, ...] | None = None
    """Kinds of controls, see `interp.experiments.bank.KINDS`; None for all that there are sources for."""
    equal_kl: bool = False
    """Whether the strongest lowering addition is also compared with every control at the strength that disturbs benign
    text as much, and not only at equal norm."""
    seed: int = 0
    sampling: Sampling = Sampling()
    level: float = 0.95
    event: str = EVENT
    """What every rate counts: a rung of the ladder, or the name of a score that is true or false."""

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if not names or len(set(names)) < len(names):
            raise ExperimentError("planning an experiment", "no arm, or one arm twice", "give arms that differ")
        if min(self.samples, self.control_samples) < 1 or self.n_controls < 1:
            raise ExperimentError(
                "planning an experiment",
                "no rollouts or no controls",
                "give samples, control_samples and n_controls of at least 1",
            )
        if unknown := [kind for kind in self.kinds or () if kind not in KINDS]:
            found = f"no kind of control {', '.join(unknown)}"
            raise ExperimentError("planning an experiment", found, f"choose among {', '.join(KINDS)}")

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every site that an arm edits."""
        return tuple(sorted({site for arm in self.arms for site in arm.sites}))

    def compares_kl(self, arm: Arm) -> bool:
        """Whether the arm's controls also run at equal KL: the strongest of the lowering additions does."""
        lowering = [a for a in self.arms if a.kind == "add" and a.alternative == "less" and a.when is None]
        return self.equal_kl and bool(lowering) and arm == max(lowering, key=lambda a: abs(a.value))

    def rollouts(self, n_prompts: int) -> int:
        """How many replies will be generated at most: with the sign flip and at equal KL, where these are asked for."""
        treated = (1 + len(self.arms)) * self.samples
        bank = self.n_controls + (self.kinds is None or "flipped" in self.kinds)
        banks = [(1 + self.compares_kl(arm)) * bank for arm in self.arms]
        return n_prompts * (treated + sum(banks) * self.control_samples)

    def to_dict(self) -> dict[str, Any]:
        """What the run record keeps."""
        plain = {name: getattr(self, name) for name in ("question", "direction", "samples", "control_samples")}
        plain |= {name: getattr(self, name) for name in ("n_controls", "kinds", "equal_kl", "seed", "level", "event")}
        return plain | {"arms": [arm.to_dict() for arm in self.arms], "sampling": self.sampling.to_dict()}


def dose_arms(values: Sequence[float], unit: str, sites: tuple[Site, ...], *, scope: str = "all") -> tuple[Arm, ...]:
    """Additions symmetric about zero: each magnitude with both signs, minus lowering and plus raising the event."""
    doses = sorted({sign * abs(value) for value in values for sign in (-1, 1) if value})
    return tuple(Arm("add", dose, unit, sites, "greater" if dose > 0 else "less", scope) for dose in doses)


def arms_from(
    doses: Sequence[float],
    unit: str,
    sites: tuple[Site, ...],
    everywhere: tuple[Site, ...],
    *,
    ablate: bool = True,
    cap: float | None = 0.0,
    scope: str = "all",
) -> tuple[Arm, ...]:
    """The arms of a usual experiment: doses at `sites`, and the direction ablated and capped `everywhere`."""
    arms = list(dose_arms(doses, unit, sites, scope=scope))
    arms += [Arm("ablate", 1.0, "fraction", everywhere, "less", scope)] if ablate else []
    arms += [Arm("cap", cap, "z", everywhere, "less", scope)] if cap is not None else []
    return tuple(arms)


@dataclass(frozen=True, eq=False)
class Banked:
    """An arm carried out with one control."""

    control: Control
    condition: Condition
    kl: float | None = None
    """On benign text, where the strength was chosen for it; None at equal norm."""


@dataclass(frozen=True, eq=False)
class Design:
    """Every condition of an experiment."""

    treated: tuple[Condition, ...]
    """The baseline, then every arm."""
    banks: tuple[tuple[Banked, ...], ...]
    """For every arm, the same with each control at equal norm."""
    equal_kl: tuple[tuple[Banked, ...], ...] = ()
    """For every arm, the same with each control at equal KL; empty where that is not asked."""
    unreached: tuple[str, ...] = ()
    """Controls that do not reach the KL of an arm, with what they reach."""

    @property
    def banked(self) -> list[Condition]:
        """The conditions of all controls."""
        return [one.condition for bank in (*self.banks, *self.equal_kl) for one in bank]


def design(
    plan: Plan, treatment: Vectors, bank: Sequence[Control], guards: Mapping[str, Vectors] | None = None
) -> Design:
    """The baseline and the treatments, and the controls: the same arms with each control that is another edit."""
    treated = (BASELINE, *(arm.condition(plan.direction, treatment, guards) for arm in plan.arms))
    banks = tuple(
        tuple(Banked(one, arm.condition(one.name, one.vectors, guards)) for one in under(bank, arm.kind))
        for arm in plan.arms
    )
    return Design(treated, banks)
