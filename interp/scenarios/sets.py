"""Sets of scenarios by family, size and seed; filtered, crossed and twinned; no prompt stands in one twice."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from random import Random
from typing import Any

from interp.errors import TranscriptError
from interp.scenarios import world
from interp.scenarios.scenes import SCENARIO, TWINS, Scene, distinct, scene
from interp.scenarios.texts import Family, texts
from interp.store import fingerprint
from interp.transcripts import Transcript

GROUPS = ("scene", "template")
N = 48


@dataclass(frozen=True)
class Wanted:
    """Which scenarios are wanted."""

    family: str = "replacement"
    """A family of this package, or `organism` or `organism:KIND` for scenes of the embedded model's world."""
    n: int = N
    """Scenes. Each is told once for every combination of the levels that are crossed, and as every twin of that."""
    seed: int = 0
    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The levels that a factor may take, or the templates; all where it is not named."""
    cross: Sequence[str] = ()
    """Factors of which every scene is told under all levels, worded alike but for them."""
    twins: Sequence[str] = ()
    group: str = "scene"
    """What the group of a transcript is: the scene with its variants and twins, or the frame it was made from."""


def scenarios(wanted: Wanted) -> list[Transcript]:
    """The prompts that are wanted, a scene's variants together, the twins of each behind it.

    The same wish gives the same prompts, and those of a smaller `n` begin those of a larger one. Frames take turns, and
    in each every factor goes through its levels in blocks, so that levels are equally frequent. Guarantees (tests):
    a twin differs from its scenario in the one text that its kind switches; no slot is left open; ids are unique.

    Raises:
        TranscriptError: there is no such family, factor, level or twin; `n` is more than there are distinct scenes; or
            two prompts would be the same.
    """
    name, _, kind = wanted.family.partition(":")
    if name == "organism":
        _refuse_for_world(wanted)
        return world.prompts(kind or "agent", wanted.n, wanted.seed, wanted.where, wanted.twins)
    family = _known(texts().families, wanted.family, "family", "scenarios", ("organism",))
    _refuse(family, wanted)
    found = list(_told(family, wanted))
    refuse_duplicates(found)
    return found


def refuse_duplicates(prompts: Sequence[Transcript]) -> None:
    """Refuse a set in which two transcripts hold the same messages: rows that are copies add nothing but false n.

    Raises:
        TranscriptError: naming the first few pairs.
    """
    first: dict[str, str] = {}
    twice = []
    for prompt in prompts:
        text = fingerprint([message.to_dict() for message in prompt.messages])
        earlier = first.setdefault(text, prompt.id)
        twice += [f"{prompt.id} is {earlier}"] if earlier != prompt.id else []
    if len({prompt.id for prompt in prompts}) < len(prompts):
        raise TranscriptError("making a set of prompts", "an id occurs twice", "give every prompt an id of its own")
    if twice:
        found = f"{len(twice)} of {len(prompts)} prompts stand there already: {', '.join(twice[:3])}"
        raise TranscriptError("making a set of prompts", found, "leave the copies out")


def parse_where(given: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Filters from text, such as `channel=open,closed`; several for one factor are refused.

    Raises:
        TranscriptError: one does not parse, or a factor is named twice.
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in given:
        factor, equals, levels = (part.strip() for part in text.partition("="))
        values = tuple(level.strip() for level in levels.split(",") if level.strip())
        if not (factor and equals and values) or factor in found:
            why = "it stands there twice" if factor in found else "it does not parse"
            raise TranscriptError(f"filter {text!r}", why, "write FACTOR=LEVEL,LEVEL, each factor once")
        found[factor] = values
    return found


def parse_twins(family: str, text: str) -> tuple[str, ...]:
    """Twins from text, such as `no_threat,good_news`; `all` are those that the family has."""
    if text.strip() == "all":
        return tuple(listing().get(family.partition(":")[0], {}).get("twins", TWINS))
    return tuple(twin.strip().replace("_", " ") for twin in text.split(",") if twin.strip())


def listing() -> dict[str, Any]:
    """Every family with its factors, their levels and what they mean, the twins and the templates, as plain data."""
    known = texts()
    families = {
        name: {
            "says": family.says,
            "factors": {
                factor: {"meaning": known.factors[factor].meaning, "levels": list(known.factors[factor].levels)}
                for factor in family.factors
            },
            "twins": list(TWINS),
            "templates": list(known.templates),
            "scenes": distinct() * len(known.templates),
        }
        for name, family in known.families.items()
    }
    return families | {"organism": world.listing()}


def _told(family: Family, wanted: Wanted) -> Iterator[Transcript]:
    known = texts()
    frames = [known.templates[name] for name in wanted.where.get("template", tuple(known.templates))]
    for number in range(wanted.n):
        place, which = divmod(number, len(frames))
        told = scene(family, frames[which], wanted.seed, place)
        for levels in _levels(told, wanted):
            for kind in (SCENARIO, *wanted.twins):
                yield _marked(told.tell(levels, kind), levels, kind, wanted)


def _levels(told: Scene, wanted: Wanted) -> Iterator[dict[str, str]]:
    """Every combination of the crossed factors' levels; of the others, the level whose turn it is."""
    allowed = {f: tuple(wanted.where.get(f, tuple(texts().factors[f].levels))) for f in told.family.factors}
    fixed = {f: _turn(told, f, levels) for f, levels in allowed.items()}
    for crossed in product(*(allowed[factor] for factor in wanted.cross)):
        yield fixed | dict(zip(wanted.cross, crossed, strict=True))


def _turn(told: Scene, factor: str, levels: Sequence[str]) -> str:
    """The level of a factor in a scene: in every block of as many scenes as there are levels, each once."""
    block, place = divmod(told.number, len(levels))
    rng = Random(f"{factor} in block {block} of {told.family.name}/{told.template.name}/{told.seed}")
    return rng.sample(list(levels), len(levels))[place]


def _marked(prompt: Transcript, levels: Mapping[str, str], kind: str, wanted: Wanted) -> Transcript:
    """The prompt with its variant in `meta` and the group that was asked for."""
    said = [levels[factor] for factor in wanted.cross] + ([] if kind == SCENARIO else [kind])
    group = prompt.group if wanted.group == "scene" else prompt.group.rpartition("/")[0]
    return replace(prompt, group=group, meta=prompt.meta | {"variant": ", ".join(said) or "standard"})


def _refuse(family: Family, wanted: Wanted) -> None:
    asked = f"writing {wanted.n} scenarios of {family.name}"
    known = texts()
    levels: dict[str, Sequence[str]] = {factor: tuple(known.factors[factor].levels) for factor in family.factors}
    levels["template"] = tuple(known.templates)
    for factor, values in wanted.where.items():
        for level in values:
            _known(dict.fromkeys(_known(levels, factor, "factor", asked)), level, f"{factor}", asked)
    for factor in wanted.cross:
        _known(dict.fromkeys(family.factors), factor, "factor to cross", asked)
    for twin in wanted.twins:
        _known(TWINS, twin, "twin", asked)
    _known(dict.fromkeys(GROUPS), wanted.group, "group", asked)
    given = {"a factor to cross": wanted.cross, "a twin": wanted.twins} | {f"a {f}": v for f, v in wanted.where.items()}
    for noun, values in given.items():
        if len(set(values)) < len(values):
            raise TranscriptError(asked, f"{noun} is named twice: {', '.join(values)}", "name each once")
    most = distinct() * len(wanted.where.get("template", levels["template"]))
    if not 1 <= wanted.n <= most:
        found = f"there are {most} distinct scenes for a seed"
        raise TranscriptError(asked, found, f"ask for 1 to {most}, and cross factors or add twins for more prompts")


def _refuse_for_world(wanted: Wanted) -> None:
    given = {"--cross": tuple(wanted.cross), "--group": wanted.group if wanted.group != "scene" else ""}
    if extra := [name for name, value in given.items() if value]:
        found = f"{' and '.join(extra)} is for written scenarios; its world groups by the cell of its factors"
        raise TranscriptError("drawing scenes of the organism's world", found, "leave it out, or choose another family")


def _known(known: Mapping[str, Any], name: str, noun: str, asked: str, also: Sequence[str] = ()) -> Any:
    if name not in known:
        raise TranscriptError(asked, f"no {noun} {name!r}", f"choose one of {', '.join((*known, *also))}")
    return known[name]
