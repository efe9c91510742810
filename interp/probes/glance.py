"""A card at a glance: one line for each question of a sceptic, with the number that answers it."""

from collections.abc import Callable, Sequence

from interp.probes.baselines import beats_all, verdict
from interp.probes.evaluate import Measure
from interp.probes.evidence import Evidence
from interp.probes.generalise import is_shown
from interp.probes.markdown import cell


def glance(measures: Sequence[Measure], found: Evidence) -> list[str]:
    """The lines, as Markdown; a question that was not asked has none."""
    asked: tuple[tuple[str, Callable[[], str | None]], ...] = (
        ("Is it there?", lambda: _there(measures, found)),
        ("Beyond what it was fitted on?", lambda: _beyond(found)),
        ("Or along any direction?", lambda: _random(found)),
        ("Or learnt by heart?", lambda: _selective(found)),
        ("Better than the words alone?", lambda: _words(found)),
        ("The concept, or its neighbours?", lambda: _neighbours(found)),
        ("As an alarm?", lambda: _alarm(found)),
        ("The situation, or the act?", lambda: _act(found)),
        ("What would it have missed?", lambda: _power(found)),
    )
    answers = [(question, answer()) for question, answer in asked]
    return [f"- **{question}** {answer}" for question, answer in answers if answer]


def _there(measures: Sequence[Measure], found: Evidence) -> str | None:
    head = next((m for m in measures if f"{m.name}@{m.site}" == found.headline), None)
    if head is None:
        return None
    chance = "" if head.null_high is None else f"; chance stays below {head.null_high:.3f} in 95 % of shuffles"
    p = f"at most {head.floor:.2g}" if head.p_value <= head.floor else f"{head.p_value:.2g}"
    best = f"`{found.headline}`, {_span(head.auroc, head.low, head.high)}, p {p}, adjusted for all that was tried"
    answer = "Yes" if head.p_value <= 0.05 else "Not shown"
    if found.repeated:
        best += f". Mind: {found.repeated} of {head.n} transcripts are word for word in another group, so that unseen "
        best += "groups are not unseen texts"
    if found.chosen is None:
        return f"{answer}. On unseen groups best is {best}{chance}; its AUROC is flattered by the choice."
    chosen = _span(found.chosen.auroc, found.chosen.low, found.chosen.high)
    return f"{answer}: AUROC {chosen} on unseen groups, the choice of method and site included{chance}. Best is {best}."


def _beyond(found: Evidence) -> str | None:
    mine = [row for row in found.left_out if is_shown(row, found.headline) and row.auroc is not None]
    conditions, corpora = [row for row in mine if row.value], [row for row in mine if not row.value]
    said = []
    if conditions:
        worst = min(conditions, key=lambda row: row.auroc or 0.0)
        of = f"lowest of {len(conditions)} values left out: {cell(worst.split)} = {cell(worst.value)}"
        said.append(f"{_span(worst.auroc, worst.low, worst.high)}, the {of}")
    said += [f"{_span(row.auroc, row.low, row.high)} on {cell(row.split)}" for row in corpora]
    return "; ".join(said) + "." if said else None


def _random(found: Evidence) -> str | None:
    name, _, site = found.headline.rpartition("@")
    here = [row for row in found.random if row.site == site and row.drawn == "covariance"]
    rank = next((one for row in here for one in row.standings if one.name == name), None)
    if rank is None:
        return None
    return (
        f"Of {here[0].directions} random directions, drawn as the rows vary there, half reach {here[0].median:.3f} and "
        f"one in twenty {here[0].high:.3f}; it ranks {rank.rank}."
    )


def _selective(found: Evidence) -> str | None:
    """Of the headline, or of the best method at its site that can be asked."""
    name, _, site = found.headline.rpartition("@")
    here = [one for one in found.control if one.site == site and one.control is not None]
    if not here:
        return None
    row = next((one for one in here if one.method == name), max(here, key=lambda one: one.auroc or 0.0))
    whose = "" if row.method == name else f" with `{row.method}`"
    return (
        f"Labels drawn at random for every group reach {row.control:.3f}{whose} (selectivity {row.selectivity:+.3f})."
    )


def _words(found: Evidence) -> str | None:
    known = [one for one in found.baselines if one.difference is not None]
    if not known:
        return None
    best = max(known, key=lambda one: one.auroc or 0.0)
    told = f"{best.difference:+.3f}"
    if best.difference_low is not None and best.difference_high is not None:
        told += f" ({best.difference_low:+.3f} to {best.difference_high:+.3f})"
    worse = [one.name for one in known if one.difference_high is not None and one.difference_high < 0]
    answer = "Yes" if beats_all(found.baselines) else "Not shown"
    answer = f"No, {', '.join(worse)} beat it" if worse else answer
    return f"{answer}: probe minus {best.name}, the strongest, is {told}. {verdict(found.baselines)}"


def _neighbours(found: Evidence) -> str | None:
    if found.neighbours is None:
        return None
    name = found.headline.rpartition("@")[0]
    own = f"emotion:{found.neighbours.concept}"
    told = [one for one in found.neighbours.directions if one.direction in (name, own)]
    return "; ".join(f"`{one.direction}`: {one.verdict}" for one in told) + "." if told else None


def _alarm(found: Evidence) -> str | None:
    said = []
    for point in found.operating.points if found.operating else ():
        fired, false = point.recall, point.false_positives
        short = "" if point.resolved else f" (too few benign transcripts: they stand for {point.smallest:.1%})"
        said.append(
            f"With {point.rate:.0%} false alarms asked{short}, and {_span(false.value, false.low, false.high)} "
            f"measured, it finds {_span(fired.value, fired.low, fired.high)} of the positives."
        )
    return " ".join(said) or (found.operating.note if found.operating else None)


def _act(found: Evidence) -> str | None:
    if found.act is None or not found.act.within or found.act.within[-1].auroc is None:
        return None
    last = found.act.within[-1]
    p = "" if last.adjusted is None else f", p {last.adjusted:.2g}"
    span = _span(last.auroc, last.low, last.high)
    said = [f"Of two replies to one prompt the one that acts scores higher with a chance of {span}{p}."]
    pairs = found.act.pairs
    if pairs is not None and pairs.leaks is not None:
        parts = "part before their texts do: a leak" if pairs.leaks else "never part before their texts do"
        said.append(f"Scores {parts}.")
    return " ".join(said)


def _power(found: Evidence) -> str | None:
    power = found.power
    if power is None:
        return None
    if power.smallest is None:
        return f"Planted signals up to {power.largest:g} deviations were not found reliably. {power.note}".strip()
    about = "at most" if power.smallest <= min(one.size for one in power.planted if one.size > 0) else "about"
    return (
        f"Planted signals of less than {about} {power.smallest:.2g} deviations within classes: there `{power.method}` "
        f"finds {power.wanted:.0%} of them."
    )


def _span(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"
