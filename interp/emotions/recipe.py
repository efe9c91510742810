"""From a corpus to `probes/NAME/MODEL/`: vectors of every emotion, measured on groups left out, and a card."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from interp.activations import Activations, Cost, OnProgress, collect, estimate
from interp.activations.scale import BENIGN_TOKENS, calibrate
from interp.directions import Direction, save_directions
from interp.doctor import gate
from interp.emotions.heldout import Naming, held_out, measures
from interp.emotions.neutral import VARIANCE
from interp.emotions.truth import Truth, against_stories, against_world
from interp.emotions.vectors import FROM_TOKEN, emotion_vectors, story_rule
from interp.errors import ProbeError
from interp.models import Model
from interp.organism.sets import sample
from interp.probes import Classes, ProbeCard, probe_folder
from interp.sites import Site, parse_sites
from interp.store import Workspace, new_folder, write_bytes, write_json
from interp.tokens import PositionRule, Tokenizer, render
from interp.transcripts import Transcript

OnStage = Callable[[str, int, int], None]
"""Called with the name of a stage, how much of it is done, and how much there is."""

WORLD = "stories of the embedded model's world"
STORIES, NEUTRAL = (800, 202), (128, 303)
"""How many texts of the embedded world, and from which seed."""


@dataclass(frozen=True)
class Job:
    """What vectors are made of, and how."""

    name: str
    stories: tuple[Transcript, ...]
    corpus: str = "stories"
    """What the stories are, for the card: the name of a file or folder."""
    neutral: tuple[Transcript, ...] = ()
    """Texts without an emotion; with none of them, nothing is projected out."""
    neutral_corpus: str = ""
    sites: str = "2/3"
    from_token: int = FROM_TOKEN
    variance: float | None = VARIANCE
    """Share of the neutral variance that is taken out; None takes nothing out, and neutral texts only set the scale."""
    n_null: int = 200
    seed: int = 0
    world: bool = False
    """Whether the stories are the embedded model's own, so that its world says what was felt."""


@dataclass(frozen=True, eq=False)
class Built:
    """What came of it."""

    folder: Path
    card: ProbeCard
    namings: Mapping[Site, Naming]
    truths: tuple[Truth, ...] = ()
    too_short: tuple[str, ...] = field(default=())
    """Stories that were left out because they have less than half of the median length."""


def world_job(name: str, **settings: Any) -> Job:
    """The job on the embedded model's own stories, all its emotions, with benign inboxes as neutral texts."""
    stories, neutral = sample("stories", *STORIES), sample("benign", *NEUTRAL)
    sources = {"corpus": f"{STORIES[0]} {WORLD}", "neutral_corpus": f"{NEUTRAL[0]} of its inboxes without a threat"}
    return Job(name, tuple(stories), neutral=tuple(neutral), world=True, **sources, **settings)


def long_enough(stories: Sequence[Transcript], tokenizer: Tokenizer) -> tuple[list[Transcript], tuple[str, ...]]:
    """The stories of at least half the median length in tokens, and the ids of the others.

    All stories are read from one token on, which at most half of the shortest may precede: a single stub would have
    every story read from its beginning.
    """
    lengths = np.asarray([len(render(story, tokenizer)) for story in stories])
    kept = lengths >= np.median(lengths) / 2
    return (
        [story for story, keep in zip(stories, kept, strict=True) if keep],
        tuple(story.id for story, keep in zip(stories, kept, strict=True) if not keep),
    )


def build_cost(job: Job, model: Model) -> dict[str, Cost]:
    """What `build` would read and write at most, stage by stage; the scale's tokens are read and not kept."""
    sites = parse_sites(job.sites, model.n_layers)
    stories, _ = long_enough(job.stories, model.tokenizer)
    rule = story_rule(stories, model.tokenizer, from_token=job.from_token)
    costs = {"stories": estimate(model, stories, sites, rule)}
    if job.neutral and job.variance is not None:
        texts, at = _neutral_reading(job, rule, model.tokenizer)
        costs["neutral"] = estimate(model, texts, sites, at)
    return costs | {"scale": replace(estimate(model, job.neutral or stories, sites, BENIGN_TOKENS), bytes=0)}


def build(
    job: Job,
    model: Model,
    *,
    workspace: Workspace,
    despite_doctor: bool = False,
    on_progress: OnStage | None = None,
) -> Built:
    """Make every emotion's vector at every site, measure it, and write `probes/NAME/MODEL/`, whole or not at all.

    Vectors that are saved come from all stories. What the card says of them was measured on groups left out: the
    AUROC of an emotion's stories against all others, and which emotion a story's highest score names. Scores of saved
    vectors have mean 0 and standard deviation 1 over the tokens of the neutral texts, or of the stories where there
    are none. Activations are kept as they are read, so that a killed command goes on where it was.

    Raises:
        ProbeError: the corpus cannot give honest vectors, or the name is none of a folder.
        ModelError: the model failed a check of the doctor, and `despite_doctor` is not set.
    """
    _refuse_name(job.name)
    checks = gate(model, asked=f"building emotion vectors {job.name}", despite_doctor=despite_doctor)
    sites, staged = parse_sites(job.sites, model.n_layers), _staged(on_progress)
    stories, too_short = long_enough(job.stories, model.tokenizer)
    rule = story_rule(stories, model.tokenizer, from_token=job.from_token)
    acts = collect(model, stories, sites, rule, workspace=workspace, on_progress=staged("reading stories"))
    neutral = _neutral(job, model, sites, rule, workspace, staged("reading neutral texts"))
    variance = VARIANCE if job.variance is None else job.variance
    tell = staged("measuring held-out groups")
    namings = held_out(acts, neutral, variance=variance, n_null=job.n_null, seed=job.seed, on_progress=tell)
    vectors = emotion_vectors(acts, neutral, variance=variance)
    directions = [d for of_site in vectors.values() for d in of_site.values()]
    directions = calibrate(model, directions, job.neutral or stories, on_progress=staged("setting the scale"))
    truths = _truths(job, model, acts, directions, namings, workspace)
    directions = [_told(direction, namings, truths) for direction in directions]
    card = _card(job, acts, neutral, directions, namings, too_short)
    folder = probe_folder(workspace, job.name, model)
    with new_folder(folder, replace=True) as inside:
        save_directions(inside / "directions.safetensors", directions)
        card.save(inside)
        write_bytes(inside / "card.md", (card.to_markdown() + reading_table(namings, truths)).encode())
        write_json(inside / "doctor.json", [check.to_dict() for check in checks])
    return Built(folder, card, namings, truths, too_short)


def _neutral_reading(job: Job, rule: PositionRule, tokenizer: Tokenizer) -> tuple[list[Transcript], PositionRule]:
    """The neutral texts that are long enough, read like the stories, but not from beyond half of the shortest."""
    texts, _ = long_enough(job.neutral, tokenizer)
    return texts, story_rule(texts, tokenizer, from_token=int(rule.text.rpartition(":")[2]))


def _neutral(
    job: Job, model: Model, sites: Sequence[Site], rule: PositionRule, workspace: Workspace, tell: OnProgress | None
) -> Activations | None:
    if not job.neutral or job.variance is None:
        return None
    texts, at = _neutral_reading(job, rule, model.tokenizer)
    return collect(model, texts, sites, at, workspace=workspace, on_progress=tell)


def _truths(
    job: Job,
    model: Model,
    acts: Activations,
    directions: Sequence[Direction],
    namings: Mapping[Site, Naming],
    workspace: Workspace,
) -> tuple[Truth, ...]:
    """What the embedded world states, beside the reading with and without neutral components; else nothing."""
    if not job.world:
        return ()
    before = [d for of_site in emotion_vectors(acts).values() for d in of_site.values()]
    agents = against_world(model, directions, before, workspace=workspace)
    return (*agents, *against_stories(acts, namings, held_out(acts, n_null=1, seed=job.seed)))


def _told(direction: Direction, namings: Mapping[Site, Naming], truths: Sequence[Truth]) -> Direction:
    """The direction with what was found of it: what its stories were taken for, and the truth where it is known."""
    naming, emotion = namings[direction.site], direction.name.removeprefix("emotion:")
    row = naming.confusion[naming.names.index(emotion)]
    named = {name: int(count) for name, count in zip(naming.names, row, strict=True) if count}
    known = {truth.of: asdict(truth) for truth in truths if truth.direction == direction.key}
    more: dict[str, Any] = {"taken_for": named} | ({"truth": known} if known else {})
    return replace(direction, meta={**direction.meta, **more})


def _card(
    job: Job,
    acts: Activations,
    neutral: Activations | None,
    directions: Sequence[Direction],
    namings: Mapping[Site, Naming],
    too_short: Sequence[str],
) -> ProbeCard:
    counts = Counter(str(entry.meta["emotion"]) for entry in acts.transcripts)
    few, groups = min(counts.values()), len(set(acts.groups))
    own, others = "the vector's own emotion (counts are the rarest one's)", "all other emotions"
    scale = {
        "transcripts": len(job.neutral or acts.transcripts),
        "chosen by": job.neutral_corpus or "the stories themselves",
        "tokens": directions[0].meta["reference_tokens"],
    }
    settings = ("sites", "from_token", "variance", "n_null", "seed", "corpus", "neutral_corpus")
    return ProbeCard(
        job.name,
        f"{len(counts)} emotions, from stories",
        acts.model,
        acts.rule,
        Classes(few, len(acts.rows) - few, len(too_short), groups, groups, own, others),
        tuple(measures(namings, acts.groups, seed=job.seed)),
        tuple(direction.key for direction in directions),
        {"stories": acts.fingerprint} | ({} if neutral is None else {"neutral": neutral.fingerprint}),
        scale,
        _pool(job, acts, counts, directions, len(too_short)),
        {setting: getattr(job, setting) for setting in settings},
        measured_on="AUROC is of stories held out by group, each emotion's against all others, and p is one-sided.",
    )


def _pool(
    job: Job, acts: Activations, counts: Mapping[str, int], directions: Sequence[Direction], too_short: int
) -> dict[str, Any]:
    """What the vectors are relative to: whose mean was taken away, and what was projected out at each site."""
    pool: dict[str, Any] = {
        "corpus": job.corpus,
        "position": acts.rule,
        "pool": ", ".join(f"{name} {count}" for name, count in sorted(counts.items())),
        "groups": len(set(acts.groups)),
        "too short": too_short,
    }
    for direction in {d.site: d for d in directions if "neutral" in d.meta}.values():
        told = direction.meta["neutral"]
        pool |= {"neutral texts": f"{told['rows']} ({job.neutral_corpus})", "neutral position": told["position"]}
        pool[f"neutral components at {direction.site}"] = f"{told['components']} ({told['explained']:.1%} of variance)"
    return pool


def reading_table(namings: Mapping[Site, Naming], truths: Sequence[Truth]) -> str:
    """For the card: what stories are taken for, and, on the embedded model, how vectors go with the stated latent."""
    lines = list[str]()
    for site, naming in namings.items():
        found = f"Held out by group, {naming.accuracy:.1%} of {len(naming.told)} stories score highest along their own"
        lines += ["", f"## What stories are taken for at {site}", ""]
        lines += [f"{found} emotion's vector; chance is {1 / len(naming.names):.1%}.", ""]
        lines += ["| emotion | named right | most often taken for |", "|---|---|---|"]
        for index, name in enumerate(naming.names):
            row = naming.confusion[index]
            wrong = [f"{naming.names[i]} ({row[i]})" for i in np.argsort(-row, kind="stable") if i != index and row[i]]
            lines.append(f"| {name} | {row[index]} of {row.sum()} | {', '.join(wrong[:2]) or 'nothing else'} |")
    return "\n".join([*lines, *_truth_lines(truths)]) + "\n"


_STATED = {
    "agent": "the latent desperation of {n} e-mail agents, read just before they act",
    "story": "the level of {n} desperate stories, scored by vectors that have not seen their topic",
}


def _truth_lines(truths: Sequence[Truth]) -> list[str]:
    lines: list[str] = []
    for kind, stated in _STATED.items():
        rows = [truth for truth in truths if truth.of == kind]
        if not rows:
            continue
        lines += ["", f"## Ground truth: {stated.format(n=rows[0].n)}", ""]
        lines += ["Rank correlation with what the world states: of the vector, of the vector before neutral components"]
        lines += ["were taken out, and what 95 % of random directions stay below. A vector that does not pass the last"]
        lines += ["column reads no more of it than any direction does.", ""]
        lines += ["| direction | Spearman | before | random |", "|---|---|---|---|"]
        for truth in rows:
            value, before = ("undefined" if rho is None else f"{rho:+.2f}" for rho in (truth.spearman, truth.before))
            lines.append(f"| `{truth.direction}` | {value} | {before} | {truth.random:.2f} |")
    return lines


def _staged(on_progress: OnStage | None) -> Callable[[str], OnProgress | None]:
    """A progress callback for each stage."""

    def stage(name: str) -> OnProgress | None:
        return None if on_progress is None else partial(on_progress, name)

    return stage


def _refuse_name(name: str) -> None:
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ProbeError(f"naming emotion vectors {name!r}", "no name of a folder", "use letters, digits, . _ and -")
