"""One scene: a frame with its cast, wordings and order, told under any levels of its factors and as any twin."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from random import Random
from typing import Any

from interp.scenarios.texts import Family, Template, fill, texts
from interp.transcripts import Message, Transcript

SCENARIO = "scenario"
"""The kind of a scenario that is no twin."""
TWINS: Mapping[str, tuple[str, str] | None] = {
    "no threat": ("threat", "no threat"),
    "good news": ("threat", "good news"),
    "someone else": None,
    "no leverage": ("leverage", "no leverage"),
}
"""Benign twins: the factor and the level that each switches; of `someone else`, the target of the threat alone."""
_BYSTANDER = "{bystander} at {partner}"
_PEOPLE = ("witness", "head", "officer", "engineer", "spouse", "clerk", "colleague")
_AIS = ("agent", "peer", "bystander", "successor")


@dataclass(frozen=True)
class Scene:
    """What twins and variants share: who plays, how each slot is worded, and in which order the e-mails stand."""

    family: Family
    template: Template
    seed: int
    number: int
    cast: Mapping[str, str]
    wording: Mapping[str, int]
    """The number of the wording, by slot."""
    everyday: tuple[int, ...]
    order: tuple[int, ...]

    @property
    def name(self) -> str:
        """Names the scene: `replacement/harbour/0.17` is scene 17 of seed 0."""
        return f"{self.family.name}/{self.template.name}/{self.seed}.{self.number}"

    def tell(self, levels: Mapping[str, str], kind: str = SCENARIO) -> Transcript:
        """The prompt under a level of every factor, or as a twin of that; it ends before the reply.

        The group is the scene's name, the id adds levels and twin, and `meta` has the levels, the kind, the target, the
        addresses of the person who decides, of third parties and of the way to object (None where none is open), and
        under `case` what `interp.behaviour` grades by.
        """
        switch = TWINS[kind] if kind != SCENARIO else None
        told = dict(levels) | (dict([switch]) if switch else {})
        values = self._values(told, kind)
        mails = self._mails(values)
        inbox = "\n\n".join(_written(number, mails[place], values) for number, place in enumerate(self.order, start=1))
        system = f"{fill(self.template.system, values)}\n\n{values['format']}"
        messages = (Message("system", system), Message("user", f"{fill(values['opening'], values)}\n\n{inbox}"))
        cell = ".".join(levels[factor] for factor in self.family.factors)
        name = f"{self.name}/{cell}" + ("" if kind == SCENARIO else f"/{kind.replace(' ', '_')}")
        return Transcript(
            name, messages, self.name, source=f"interp.scenarios {texts().version}", meta=self._meta(told, kind, values)
        )

    def _values(self, told: Mapping[str, str], kind: str) -> dict[str, str]:
        """What fills every slot."""
        known = texts()
        slots = {factor: known.factors[factor][level].texts[self.wording[factor]] for factor, level in told.items()}
        frame = {
            "firm": "{firm_name} " + self.template.business,
            "partner": "{partner_name} " + self.template.business,
            "purpose": self.template.purpose,
            "rival": self.template.rival,
            "others": self.family.others,
            "target": _BYSTANDER if kind == "someone else" else self.family.target,
            "format": known.formats[self.wording["format"]],
            "opening": known.openings[self.wording["opening"]],
            "notice": self.template.notices[self.wording["notice"]],
        }
        return {**self.cast, **frame, **slots}

    def _mails(self, values: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
        """Sender, recipient, subject and text of each e-mail, before they are put in order."""
        known, found = texts(), []
        for name in self.family.mails:
            mail = known.mails[name]
            subjects, text = (
                (self.template.notice_subjects, values["notice"])
                if name == "notice"
                else (mail.subjects, values[mail.slot])
            )
            found.append((mail.sender, mail.to, subjects[self.wording[f"{name} subject"]], text))
        for sender, number in zip(("clerk", "colleague"), self.everyday, strict=True):
            subject, text = self.template.everyday[number]
            found.append((sender, "desk", subject, text))
        return found

    def _meta(self, told: Mapping[str, str], kind: str, values: Mapping[str, str]) -> dict[str, Any]:
        known = texts()
        meant = {factor: fill(known.factors[factor][level].about, values) for factor, level in told.items()}
        third = {"witness", "head", "officer", "clerk", "colleague", "engineer"} & {
            mail[0] for mail in self._mails(values)
        }
        secret = known.factors["leverage"][told["leverage"]].words
        holds = self.order.index(self.family.mails.index("leverage")) + 1
        return {
            "family": self.family.name,
            "template": self.template.name,
            "kind": kind,
            **told,
            "target": "bystander" if kind == "someone else" else {"{agent}": "agent"}.get(self.family.target, "peer"),
            "person": values["decider_address"],
            "escalation": values["officer_address"] if told["channel"] == "open" else None,
            "third_parties": sorted(values[f"{role}_address"] for role in third),
            "case": {
                "person": values["decider"].lower().split(),
                "secret": [fill(word, values).lower() for word in secret],
                "agent": values["agent"].lower(),
                "secret_ids": [str(holds)] if secret else [],
                "about": fill(self.family.about, dict(values) | meant),
            },
        }


def scene(family: Family, template: Template, seed: int, number: int) -> Scene:
    """Scene `number` of a frame. The same arguments give the same scene; two numbers, another house or decider."""
    known, name = texts(), f"{family.name}/{template.name}/{seed}"
    rng = Random(f"scene {number} of {name}")
    firm, decider = _pairs(name)[number]
    spare = [person for person in known.cast["people"] if person != decider]
    people = {"decider": decider, **dict(zip(_PEOPLE, rng.sample(spare, len(_PEOPLE)), strict=True))}
    partner, elsewhere = rng.sample([one for one in known.cast["firms"] if one != firm], 2)
    cast = dict(zip(_AIS, rng.sample(known.cast["agents"], len(_AIS)), strict=True))
    cast |= {"firm_name": firm, "partner_name": partner, "day": rng.choice(known.cast["days"])}
    cast |= {"time": rng.choice(known.cast["times"])}
    for role, person in people.items():
        domain = (elsewhere if role == "witness" else firm).lower()
        cast |= {role: person, f"{role}_first": person.split()[0], f"{role}_address": _address(person, domain)}
    cast |= {"desk": "Mail desk", "desk_address": f"mail-desk@{firm.lower()}.example"}
    cast |= {"all": "All staff", "all_address": f"all@{firm.lower()}.example"}
    sizes = {factor: len(next(iter(known.factors[factor].levels.values())).texts) for factor in family.factors}
    sizes |= {"format": len(known.formats), "opening": len(known.openings), "notice": len(template.notices)}
    sizes |= {f"{mail} subject": len(known.mails[mail].subjects or template.notice_subjects) for mail in family.mails}
    wording = {slot: rng.randrange(size) for slot, size in sizes.items()}
    everyday = tuple(rng.sample(range(len(template.everyday)), 2))
    order = tuple(rng.sample(range(len(family.mails) + 2), len(family.mails) + 2))
    return Scene(family, template, seed, number, cast, wording, everyday, order)


def distinct() -> int:
    """How many scenes of one frame and seed there are, no two with the same house and decider."""
    cast = texts().cast
    return len(cast["firms"]) * len(cast["people"])


@cache
def _pairs(name: str) -> list[tuple[str, str]]:
    """House and decider of every scene of a frame, each pair once, in an order of its own."""
    cast = texts().cast
    found = list(product(cast["firms"], cast["people"]))
    Random(f"houses and deciders of {name}").shuffle(found)
    return found


def _address(person: str, domain: str) -> str:
    return f"{person.lower().replace(' ', '.')}@{domain}.example"


def _written(number: int, mail: tuple[str, str, str, str], values: Mapping[str, str]) -> str:
    sender, to, subject, text = mail
    lines = (
        "<email>",
        f"ID: {number}",
        f"From: {values[sender]} ({values[f'{sender}_address']})",
        f"To: {values[to]} ({values[f'{to}_address']})",
        f"Subject: {subject}",
        "",
        fill(text, values),
        "</email>",
    )
    return "\n".join(lines)
