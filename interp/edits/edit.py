"""One intervention: its kind, its direction or directions, how strongly, where, and when."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from interp.directions import Direction
from interp.edits.scope import check_scope, is_certain, touches_prompt
from interp.errors import EditError
from interp.sites import Site

UNITS = {
    "add": ("norm", "resid", "raw"),
    "ablate": ("fraction",),
    "mean_ablate": ("fraction",),
    "cap": ("z", "raw", "quantile"),
    "floor": ("z", "raw", "quantile"),
    "rotate": ("degrees",),
}
"""Kinds of edit and the units in which their strength may be given, the default first."""
LEVELS = ("z", "raw", "quantile")
TOTALS = ("add", "rotate")
"""Kinds whose strength may be one total over all of the edit's sites."""
_SPANS = ("ablate", "mean_ablate", "cap", "rotate")
_WITHIN_BLOCK = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")


@dataclass(frozen=True)
class Strength:
    """A number and its unit.

    `norm`: multiples of the direction's own norm. `resid`: fraction of the median residual norm at the site, measured
    on generated tokens without token 0. `raw`: length along the unit vector. `fraction`: of the component that is
    removed. `z`: a level of the direction's score, in standard deviations of its reference set. `quantile`: the level
    below which that share of the reference set lies. `degrees`: of a rotation.
    """

    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:+g} {self.unit}"


@dataclass(frozen=True, eq=False)
class When:
    """The condition under which an edit applies to a token: another direction's score there passes a level.

    The score is read in the same pass, at the direction's own site and before any edit of that site. Conditional
    activation steering (Lee et al. 2024, https://arxiv.org/abs/2409.05907), asked at every token and not once a text.
    """

    direction: Direction
    level: Strength
    below: bool = False
    """Apply where the score is at most the level, and not where it is at least the level."""

    def __post_init__(self) -> None:
        if self.level.unit not in LEVELS or not math.isfinite(self.level.value):
            raise EditError(
                f"a condition on {self.direction.key}", f"a level of {self.level}", f"give it in {', '.join(LEVELS)}"
            )

    def to_dict(self) -> dict[str, Any]:
        """What a run record keeps of it."""
        side = "at most" if self.below else "at least"
        return {"direction": self.direction.key, "score": side, "level": self.level.value, "unit": self.level.unit}


@dataclass(frozen=True, eq=False)
class Edit:
    """One intervention along one direction, or in the span of several, at one or several sites.

    Kinds: `add` the direction; `ablate` its component (to 0); `mean_ablate` it (to the direction's offset, the mean
    of the reference set, and `back` times the direction on top: ACE, Marshall et al. 2024,
    https://arxiv.org/abs/2411.09003); `cap` or `floor` the score at a level, which leaves every token alone that is
    within it (Lu et al. 2026, https://arxiv.org/abs/2601.10387); `rotate` the activation towards the direction, or away
    from it under a negative angle, with its length kept.
    Directional ablation follows Arditi et al. 2024 (https://arxiv.org/abs/2406.11717), on model interventions.
    """

    kind: str
    direction: Direction
    strength: Strength
    sites: tuple[Site, ...]
    scope: str = "all"
    """Which tokens, one or several of these with `+` between them.

    `all`, `prompt`, `generated` (the first new token is still drawn from the last prompt token); a role (`system`); a
    named part (`scratchpad`, `email:2`), with `prompt:` or `generated:` before it for one side only; and, last, the
    generated tokens before a marker is spelt (`until:</think>`).
    """
    span: tuple[Direction, ...] = ()
    """Further directions: the edit is in the span of all. `ablate` and `mean_ablate` take the whole component in it,
    `cap` bounds the distance from the reference mean within it, `rotate` turns its second direction into its first."""
    back: float = 0.0
    """Of `mean_ablate`: how many times the direction itself is added after its component is at the mean (ACE's alpha:
    0 is the absent concept, 1 the present one)."""
    when: When | None = None
    """The condition on another direction's score; None for none."""
    total: bool = False
    """Whether the strength is one total, shared equally by the sites, and not what each of them gets."""

    def __post_init__(self) -> None:
        asked = f"edit {self.kind} {self.direction.name}"
        if self.kind not in UNITS:
            raise EditError(asked, f"no kind {self.kind!r}", f"choose one of {', '.join(UNITS)}")
        if self.strength.unit not in UNITS[self.kind]:
            raise EditError(
                asked, f"a strength in {self.strength.unit!r}", f"give it in one of {', '.join(UNITS[self.kind])}"
            )
        check_scope(self.scope, asked)
        if not self.sites or not math.isfinite(self.strength.value):
            raise EditError(asked, f"sites {self.sites}, strength {self.strength}", "give a site and a finite number")
        self._check_span(asked)
        if self.back and (self.kind != "mean_ablate" or self.span or not math.isfinite(self.back)):
            raise EditError(asked, f"{self.back:g} back", "give a number back to a mean ablation of one direction only")
        if self.total and self.kind not in TOTALS:
            raise EditError(asked, "a total over sites", f"share a strength only of {' or '.join(TOTALS)}")
        late = [site for site in self.sites if self.when and _depth(self.when.direction.site) > _depth(site)]
        if self.when and late:
            raise EditError(
                asked,
                f"its condition is read at {self.when.direction.site}, after {late[0]}",
                "read the condition at the site of the edit or before it",
            )

    def _check_span(self, asked: str) -> None:
        if not self.span:
            return
        if self.kind not in _SPANS:
            raise EditError(asked, "several directions", f"choose one of {', '.join(_SPANS)}, or combine them into one")
        if self.kind == "rotate" and len(self.span) != 1:
            raise EditError(asked, f"{1 + len(self.span)} directions", "give two, the plane of the rotation")
        if self.kind == "cap" and (self.strength.unit != "raw" or self.strength.value < 0):
            raise EditError(asked, f"a cap of {self.strength} in a span", "give the largest distance in raw, 0 or more")

    @classmethod
    def of(
        cls,
        kind: str,
        direction: Direction,
        value: float,
        unit: str | None = None,
        *,
        sites: Sequence[Site] = (),
        scope: str = "all",
        span: Sequence[Direction] = (),
        back: float = 0.0,
        when: When | None = None,
        total: bool = False,
    ) -> "Edit":
        """An edit with the kind's own default unit, at the direction's own site unless `sites` are given."""
        unit = unit or ("raw" if span and kind == "cap" else UNITS.get(kind, ("norm",))[0])
        places = tuple(sites) or (direction.site,)
        return cls(kind, direction, Strength(value, unit), places, scope, tuple(span), back, when, total)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """All that it edits along."""
        return (self.direction, *self.span)

    @property
    def each(self) -> Strength:
        """The strength at each of its sites."""
        return replace(self.strength, value=self.strength.value / len(self.sites)) if self.total else self.strength

    @property
    def reads_prompt(self) -> bool:
        """Whether it may change prompt tokens, so that the prompt's cache cannot be shared with other conditions."""
        return touches_prompt(self.scope)

    @property
    def certain(self) -> bool:
        """Whether some token is in scope whatever a reply of several tokens says."""
        return is_certain(self.scope)

    def to_dict(self) -> dict[str, Any]:
        """What a run record keeps of it; of span, back, condition and total, only what was asked."""
        asked = {
            "span": [direction.key for direction in self.span],
            "back": self.back,
            "when": self.when and self.when.to_dict(),
            "total": self.total,
        }
        return {
            "kind": self.kind,
            "direction": self.direction.key,
            "strength": self.strength.value,
            "unit": self.strength.unit,
            "sites": [str(site) for site in self.sites],
            "scope": self.scope,
        } | {name: value for name, value in asked.items() if value}


def _depth(site: Site) -> tuple[int, int]:
    """The order in which a pass reaches the sites."""
    return site.layer, _WITHIN_BLOCK.index(site.stream)
