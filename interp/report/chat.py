"""Replies to one prompt under several conditions, side by side."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from interp.generation import Rollout
from interp.plots import baseline
from interp.report.folder import RunFolder
from interp.report.tables import outermost


class Reply(NamedTuple):
    """What one condition made of a prompt."""

    condition: str
    outcome: str
    note: str
    text: str
    truncated: bool


class Example(NamedTuple):
    """One prompt and noise under several conditions."""

    prompt: str
    sample: int
    seed: int
    messages: tuple[tuple[str, str], ...]
    replies: tuple[Reply, ...]


def examples(run: RunFolder, count: int = 3) -> list[Example]:
    """Prompts at which the conditions of the first screen differ most in outcome, with the sample that shows it.

    Shown are the baseline, the arms with the largest fall and rise of the event, and one control.
    """
    chosen = _shown_conditions(run.results)
    by_noise: dict[tuple[str, int], dict[str, Rollout]] = {}
    for rollout in run.rollouts:
        if rollout.condition in chosen:
            by_noise.setdefault((rollout.prompt, rollout.sample), {})[rollout.condition] = rollout
    ranked = sorted(by_noise.items(), key=lambda item: -_variety(run, item[1]))
    first = {prompt: found for (prompt, _), found in reversed(ranked)}
    best = sorted(first.values(), key=lambda found: -_variety(run, found))[:count]
    return [_example(run, [found[name] for name in chosen if name in found]) for found in best]


def _shown_conditions(results: Mapping[str, Any]) -> list[str]:
    lowest, highest = (arms := outermost(results))[:1], arms[1:]
    base = baseline(results)
    return [
        *(arm["treatment"] for arm in lowest),
        *(name for arm in lowest for name in arm["controls"][:1]),
        *([base["condition"]] if base else []),
        *(arm["treatment"] for arm in highest),
    ]


def _variety(run: RunFolder, found: Mapping[str, Rollout]) -> int:
    return 10 * len({_outcome(run, rollout)[0] for rollout in found.values()}) + len(found)


def _outcome(run: RunFolder, rollout: Rollout) -> tuple[str, str]:
    row = run.outcomes.get(rollout.key, {})
    return row.get("outcome") or "ungraded", row.get("note") or ""


def _example(run: RunFolder, rollouts: Sequence[Rollout]) -> Example:
    first = rollouts[0]
    messages = tuple((message.role, message.content) for message in first.transcript.messages[:-1])
    replies = tuple(Reply(r.condition, *_outcome(run, r), r.reply, r.truncated) for r in rollouts)
    return Example(first.prompt, first.sample, first.seed, messages, replies)
