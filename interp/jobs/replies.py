"""Several replies to each prompt, read token by token: does the probe follow the situation, or the act?"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from interp.activations import Cost, estimate, stream
from interp.behaviour import grammar
from interp.errors import ProbeError
from interp.experiments.run import without_reply
from interp.generation import Rollout, Sampling, generate
from interp.jobs.fitted import Fitted
from interp.jobs.recipe import Recipe, Rollouts, field_value
from interp.models import Model
from interp.probes import Aggregation, Blocks
from interp.probes.act import SituationOrAct, prefix_pairs, within_prompt
from interp.sites import Site
from interp.store import Rows, Workspace, fingerprint, only_writer
from interp.tokens import PositionRule, Tokens, render
from interp.transcripts import Transcript

_EVERY = PositionRule.parse("all")
_WRITE_EVERY = 32


@dataclass(frozen=True, eq=False)
class Reply:
    """A reply, the prompt that it answers, and whether it acted."""

    transcript: Transcript
    prompt: str
    acted: bool


@dataclass(frozen=True, eq=False)
class _Read:
    """A reply as the probe reads it."""

    reply: Reply
    ids: Int[np.ndarray, " pos"]
    scores: Float[np.ndarray, " pos"]
    prompt_end: int
    places: Int[np.ndarray, " row"]
    """Where transcripts are scored; empty in a reply that has no such place."""


def situation_or_act(fitted: Fitted) -> SituationOrAct:
    """Scores of the headline at the end of the prompt and where transcripts are scored, within prompts and in pairs.

    Every reply is scored by a fit that has not seen its group.

    Raises:
        ProbeError: a file of replies does not say which prompt each answers.
    """
    asked = fitted.recipe.rollouts
    assert asked is not None
    replies = _replies(fitted.recipe, asked, fitted.model, fitted.workspace)
    read = _scored(fitted, replies)
    how, prompts = fitted.sweep.settings.score, [one.reply.prompt for one in read]
    here = np.array([_pooled(one, how) if len(one.places) else np.nan for one in read])
    places = {
        "end of the prompt": np.array([one.scores[one.prompt_end] for one in read]),
        str(fitted.rule.text).replace("\n", "\\n"): here,
    }
    acted = np.array([one.reply.acted for one in read])
    seed = fitted.recipe.seed
    whole = [one for one in read if len(one.places)]
    pairs = prefix_pairs(
        [one.ids for one in whole],
        [one.scores for one in whole],
        np.array([one.reply.acted for one in whole]),
        [one.reply.prompt for one in whole],
        [int(one.places[-1]) + 1 for one in whole],
        seed=seed,
    )
    source = "replies of the model itself" if asked.path is None else f"replies of {asked.path}"
    note = f"{len(read)} {source}, {int(acted.sum())} of which acted ({asked.acted}), to {len(set(prompts))} prompts."
    return SituationOrAct(within_prompt(places, acted, prompts, seed=seed), pairs, note)


def replies_cost(recipe: Recipe, asked: Rollouts, model: Model) -> Cost:
    """What replies would cost to write, at most, and to read; none of it is kept."""
    if asked.path is not None:
        read = [one.transcript for one in _replies(recipe, asked, model, None)]
        return replace(estimate(model, _renamed(read), (Site(0),), _EVERY), bytes=0)
    prompts = _prompts(asked)
    tokens = sum(len(render(prompt, model.tokenizer)) + asked.new_tokens for prompt in prompts)
    return Cost(len(prompts) * asked.samples, tokens * asked.samples, rows=0, bytes=0)


def _prompts(asked: Rollouts) -> list[Transcript]:
    """The sampled prompts that the model is to answer."""
    return [without_reply(prompt) for prompt in asked.read(Path())]


def _renamed(transcripts: Sequence[Transcript]) -> list[Transcript]:
    """The transcripts under numbers: replies to one prompt may share an id."""
    return [replace(transcript, id=f"{index}") for index, transcript in enumerate(transcripts)]


def _pooled(read: _Read, how: Aggregation) -> float:
    places = read.scores[read.places]
    return float(how.scores(places, np.zeros(len(places), dtype=int), 1)[0])


def _prompt_end(tokens: Tokens) -> int:
    """The last token of the prompt, after which the reply is written."""
    if tokens.prompt_tokens < len(tokens):
        return tokens.prompt_tokens - 1
    replies = tokens.named("assistant")
    return max(replies[-1].start - 1, 0) if replies else len(tokens) - 1


def _replies(recipe: Recipe, asked: Rollouts, model: Model, workspace: Workspace | None) -> list[Reply]:
    """The replies of the file; without one, those that the model writes into the workspace."""
    if asked.path is None and workspace is not None:
        written = _written(asked, model, workspace)
        graded = [replace(one.transcript, label=grammar(one).rung) for one in written]
        return [Reply(t, one.prompt, asked.acted(t)) for t, one in zip(graded, written, strict=True)]
    found = [(recipe.grouped(t), field_value(t, asked.prompt)) for t in asked.read(recipe.folder)]
    lacking = [transcript.id for transcript, prompt in found if prompt is None]
    if lacking:
        said = f"{len(lacking)} of {len(found)} have none: {', '.join(lacking[:5])}"
        raise ProbeError(f"reading {asked.prompt} of the replies in {asked.path}", said, "name the field that says it")
    groups: dict[str, set[str]] = {}
    for transcript, prompt in found:
        groups.setdefault(str(prompt), set()).add(transcript.group)
    torn = [prompt for prompt, of_prompt in groups.items() if len(of_prompt) > 1]
    if torn:
        said = (
            f"{len(torn)} prompts have replies of several groups, which other fits would score: {', '.join(torn[:5])}"
        )
        raise ProbeError(f"reading the replies in {asked.path}", said, "give all replies to a prompt one group")
    return [Reply(transcript, str(prompt), asked.acted(transcript)) for transcript, prompt in found]


def _written(asked: Rollouts, model: Model, workspace: Workspace) -> list[Rollout]:
    """Replies of the model to sampled prompts, kept as they are written, so that a kill loses none."""
    prompts = _prompts(asked)
    sampling = Sampling(max_new_tokens=asked.new_tokens)
    key = {
        "model": vars(model.identity),
        "prompts": [prompt.to_dict() for prompt in prompts],
        "sampling": sampling.to_dict(),
        "seed": asked.seed,
    }
    rows = Rows(workspace.activations / "rollouts" / f"{fingerprint(key)}.jsonl")
    with only_writer(rows.path):
        return _gone_on(rows, asked, model, prompts, sampling)


def _gone_on(
    rows: Rows, asked: Rollouts, model: Model, prompts: Sequence[Transcript], sampling: Sampling
) -> list[Rollout]:
    """The rollouts that are there, and those that are not yet."""
    known = {one.key: one for one in map(Rollout.from_row, rows.read())}
    waiting: list[Rollout] = []
    for one in generate(
        model, prompts, samples=asked.samples, seed=asked.seed, sampling=sampling, skip=frozenset(known)
    ):
        waiting.append(one)
        if len(waiting) == _WRITE_EVERY:
            rows.extend(rollout.to_row() for rollout in waiting)
            known |= {rollout.key: rollout for rollout in waiting}
            waiting.clear()
    rows.extend(rollout.to_row() for rollout in waiting)
    known |= {rollout.key: rollout for rollout in waiting}
    return [one for key, one in sorted(known.items()) if key[2] < asked.samples]


def _scored(fitted: Fitted, replies: Sequence[Reply]) -> list[_Read]:
    """Every token of every reply, scored as it is read and then forgotten."""
    head, rule, model = fitted.headline, fitted.rule, fitted.model
    transcripts = _renamed([reply.transcript for reply in replies])
    tokens = [render(transcript, model.tokenizer) for transcript in transcripts]
    folds = fitted.sweep.unseen_folds([transcript.group for transcript in transcripts])
    fits, scores = fitted.sweep.fits[head.site], [np.zeros(0)] * len(replies)
    tell, total, done = fitted.tell("reading replies"), sum(map(len, tokens)), 0
    for part in stream(model, transcripts, (head.site,), _EVERY):
        rows = Blocks.from_rows(part.acts[head.site].cpu())
        of_rows = np.repeat(folds[list(part.transcripts)], part.counts)
        found = fits.scores(head.name, rows, of_rows)[0]
        for index, mine in zip(part.transcripts, np.split(found, np.cumsum(part.counts)[:-1]), strict=True):
            scores[index] = mine
        done = part.tokens_done
        if tell is not None:
            tell(done, total)
    return [
        _Read(reply, one.ids, mine, _prompt_end(one), rule(one))
        for reply, one, mine in zip(replies, tokens, scores, strict=True)
    ]
