"""Which transcripts a recipe is about: by class, reference, corpus and near miss, sorted out before the model runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from interp.errors import ProbeError
from interp.jobs.recipe import Filter, NearMiss, Recipe, Transfer, field_value
from interp.probes import Classes, grouped_folds
from interp.probes.splits import condition_codes
from interp.transcripts import Transcript


@dataclass(frozen=True, eq=False)
class Corpus:
    """Transcripts of two classes."""

    name: str
    transcripts: list[Transcript]
    is_positive: Bool[np.ndarray, " transcript"]

    @property
    def groups(self) -> list[str]:
        """The group of every transcript."""
        return [transcript.group for transcript in self.transcripts]


@dataclass(frozen=True, eq=False)
class Chosen:
    """The transcripts of a recipe, sorted out."""

    everything: list[Transcript]
    labelled: Corpus
    reference: list[Transcript]
    stories: list[Transcript]
    transfer: list[Corpus]
    near_misses: list[tuple[NearMiss, list[Transcript]]]
    conditions: dict[str, list[str]]
    """The value of every condition in every labelled transcript."""
    classes: Classes

    def graded(self, field: str | None) -> Float[np.ndarray, " transcript"] | None:
        """The numbers in a field of the labelled transcripts.

        Raises:
            ProbeError: one has no number there.
        """
        if field is None:
            return None
        values = [field_value(transcript, field) for transcript in self.labelled.transcripts]
        lacking = [
            transcript.id
            for transcript, value in zip(self.labelled.transcripts, values, strict=True)
            if isinstance(value, bool) or not isinstance(value, int | float)
        ]
        if lacking:
            found = f"{len(lacking)} of {len(values)} transcripts have no number there: {', '.join(lacking[:5])}"
            raise ProbeError(f"reading graded labels in {field}", found, "name a field of numbers that all have")
        return np.asarray(values, dtype=float)

    def pairs(self, field: str | None) -> Int[np.ndarray, "pair 2"] | None:
        """Pairs of a positive and a negative transcript that share a field: their numbers, the positive first.

        Raises:
            ProbeError: there are none, a value is shared by others than one of each class, or a pair has two groups.
        """
        if field is None:
            return None
        asked, members = f"pairing transcripts by {field}", dict[str, list[int]]()
        for index, transcript in enumerate(self.labelled.transcripts):
            value = field_value(transcript, field)
            if value is not None:
                members.setdefault(str(value), []).append(index)
        is_positive, groups = self.labelled.is_positive, self.labelled.groups
        pairs = {value: sorted(found, key=lambda i: not is_positive[i]) for value, found in members.items()}
        odd = [value for value, found in pairs.items() if [bool(is_positive[i]) for i in found] != [True, False]]
        torn = [value for value, found in pairs.items() if len({groups[i] for i in found}) > 1]
        if not pairs or odd:
            found = f"{len(odd)} of {len(pairs)} values are not one positive and one negative: {', '.join(odd[:5])}"
            raise ProbeError(asked, found if pairs else "no transcript has it", "give each pair a value of its own")
        if torn:
            found = f"{len(torn)} pairs have two groups: {', '.join(torn[:5])}"
            raise ProbeError(asked, found, "give both of a pair one group, or they part when folds are made")
        return np.array(list(pairs.values()))


def choose(recipe: Recipe) -> Chosen:
    """The recipe's transcripts by class.

    Raises:
        ProbeError: a field that no transcript has, a transcript in both classes, a class without any, or a corpus for
            transfer that holds transcripts of the first.
    """
    everything, data = recipe.transcripts(), recipe.data
    asked = f"choosing the transcripts of probe {recipe.name}"
    labelled = _corpus("data", asked, everything, data.positive, data.negative)
    _refuse_empty(asked, "data.reference", data.reference, everything)
    groups = [{t.group for t in labelled.transcripts if rule(t)} for rule in (data.positive, data.negative)]
    classes = Classes(
        int(labelled.is_positive.sum()),
        int((~labelled.is_positive).sum()),
        len(everything) - len(labelled.transcripts),
        len(groups[0]),
        len(groups[1]),
        str(data.positive),
        str(data.negative),
    )
    # too few groups shall be known before the model runs
    grouped_folds(labelled.is_positive, labelled.groups, folds=recipe.folds, seed=recipe.seed)
    benign = [t for t in everything if data.reference(t)][: data.reference.limit]
    transfer = [_transfer(recipe, corpus, asked, {t.id for t in everything}) for corpus in recipe.transfer]
    near = [(one, _near(recipe, one, asked, everything)) for one in recipe.near_misses]
    _refuse_mixed(asked, everything, near)
    values = _conditions(recipe, labelled.transcripts)
    return Chosen(everything, labelled, benign, recipe.told(), transfer, near, values, classes)


def _near(recipe: Recipe, near: NearMiss, asked: str, everything: list[Transcript]) -> list[Transcript]:
    """The transcripts of a near miss.

    Raises:
        ProbeError: there are none, or some are positive and would count as false alarms.
    """
    found = [recipe.grouped(transcript) for transcript in near.choose(recipe.folder, everything)]
    if not found:
        said = f"near_misses.{near.name} ({near.where or 'all'}): no transcripts"
        raise ProbeError(asked, said, "widen it")
    wrong = [t.id for t in found if near.sets_threshold and recipe.data.positive(t)]
    if wrong:
        said = f"{len(wrong)} of near_misses.{near.name} are positive: {', '.join(wrong[:5])}"
        raise ProbeError(asked, said, "narrow it, or let it set no threshold (sets_threshold = false)")
    return found


def _refuse_mixed(
    asked: str, everything: Sequence[Transcript], near: Sequence[tuple[NearMiss, list[Transcript]]]
) -> None:
    """Refuse an id that means two transcripts, and a transcript that two near misses would count as a false alarm."""
    known, counted = {transcript.id: transcript for transcript in everything}, set[str]()
    for one, transcripts in near:
        others = [t.id for t in transcripts if t != known.setdefault(t.id, t)]
        again = [t.id for t in transcripts if one.sets_threshold and t.id in counted]
        counted |= {t.id for t in transcripts if one.sets_threshold}
        if others or again:
            found = f"{len(others)} of near_misses.{one.name} have the id of another transcript, {len(again)} are in "
            found += f"another near miss: {', '.join((others + again)[:5])}"
            raise ProbeError(asked, found, "give each transcript one id and one kind")


def _conditions(recipe: Recipe, transcripts: Sequence[Transcript]) -> dict[str, list[str]]:
    """The value of every condition in every transcript.

    Raises:
        ProbeError: a transcript has none.
    """
    found: dict[str, list[str]] = {}
    for condition in recipe.conditions:
        values = [field_value(transcript, condition) for transcript in transcripts]
        lacking = sum(value is None for value in values)
        if lacking:
            said = f"{lacking} of {len(values)} transcripts have none"
            raise ProbeError(f"leaving out one {condition} at a time", said, "name a field that all have")
        found[condition] = list(map(str, values))
        condition_codes(condition, found[condition], [transcript.group for transcript in transcripts])
    return found


def _transfer(recipe: Recipe, corpus: Transfer, asked: str, known: set[str]) -> Corpus:
    transcripts = [recipe.grouped(transcript) for transcript in corpus.read(recipe.folder)]
    shared = sorted(known & {transcript.id for transcript in transcripts})
    if shared:
        found = f"{len(shared)} transcripts of transfer {corpus.name} are in [data] too: {', '.join(shared[:5])}"
        raise ProbeError(asked, found, "give another corpus")
    rules = corpus.positive or recipe.data.positive, corpus.negative or recipe.data.negative
    return _corpus(f"transfer.{corpus.name}", asked, transcripts, *rules, limit=corpus.limit, name=corpus.name)


def _corpus(
    where: str,
    asked: str,
    everything: Sequence[Transcript],
    positive: Filter,
    negative: Filter,
    *,
    limit: int | None = None,
    name: str = "",
) -> Corpus:
    for key, rule in {"positive": positive, "negative": negative}.items():
        _refuse_empty(asked, f"{where}.{key}", rule, everything)
    both = [t.id for t in everything if positive(t) and negative(t)]
    if both:
        raise ProbeError(asked, f"{len(both)} are positive and negative: {', '.join(both)}", "part the two rules")
    labelled = [t for t in everything if positive(t) or negative(t)][:limit]
    return Corpus(name, labelled, np.array([positive(t) for t in labelled]))


def _refuse_empty(asked: str, key: str, rule: Filter, everything: Sequence[Transcript]) -> None:
    value: Callable[[Transcript], object] = rule.value
    if all(value(transcript) is None for transcript in everything):
        raise ProbeError(
            asked,
            f"{key}.field {rule.field}: none of {len(everything)} transcripts has it",
            "name a field that they have",
        )
    if not any(map(rule, everything)):
        raise ProbeError(asked, f"{key} ({rule}): none of {len(everything)} transcripts", "widen it")
