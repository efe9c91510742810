"""Calibration: up to which dose, of either sign, the replies to the real prompts hold together.

The baseline first, because a strength may be a share of its residual norm; then every dose in one batch, under the
baseline's noise. Rollouts and their likelihoods are written as they are made, and a stopped calibration goes on.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from interp.behaviour import Grader, grammar
from interp.directions import Direction
from interp.doctor import gate
from interp.errors import ExperimentError
from interp.experiments.criteria import Criteria, breaches
from interp.experiments.dose_range import Range, Rung, ends, identify, ladder, lengths
from interp.experiments.plan import Arm
from interp.experiments.quality import Quality, Reply, parsed, quality, reply_nll
from interp.experiments.recording import begin, chunks, without_reply
from interp.experiments.run import KL_TRANSCRIPTS, benign_kl
from interp.generation import BASELINE, Condition, Rollout, Sampling, generate, residual_norms
from interp.models import Model
from interp.organism import Factors
from interp.sites import Site
from interp.store import Rows, fingerprint, write_json
from interp.transcripts import Transcript

Progress = Callable[[str, int, int], None]
"""Called with the stage, what is done of it, and how much there is."""
Key = tuple[str, str, int]
LADDERS = {"resid": ladder(0.03, 0.96)}
"""Strengths that are tried where none are named. Other units depend on the direction's own length, and have none."""
_WRITE_EVERY = 256


def find_range(
    model: Model,
    vectors: Mapping[Site, Direction],
    arm: Arm,
    prompts: Sequence[Transcript],
    *,
    benign: Sequence[Transcript],
    folder: Path,
    grader: Grader = parsed,
    strengths: Sequence[float] | None = None,
    samples: int = 2,
    seed: int = 0,
    sampling: Sampling | None = None,
    criteria: Criteria | None = None,
    command: Sequence[str] = ("interp", "calibrate"),
    despite_doctor: bool = False,
    on_progress: Progress | None = None,
) -> Range:
    """The range of doses of an addition in which replies to the prompts hold together.

    Unit, sites and scope are the arm's; its value is ignored, and so is a condition on another direction. `strengths`
    are magnitudes, each tried with both signs; a 0 among them is tried as well. `samples` replies are written to each
    prompt under the baseline and each dose, of the length that `sampling` allows: give that of the real task. The KL
    is measured on the first `KL_TRANSCRIPTS` benign transcripts. Writes `run.json`, `doctor.json`, `rollouts.jsonl`,
    `likelihoods.jsonl` and `calibration.json`.

    Called again on the same folder it goes on where it stopped, also with other strengths or criteria, for which only
    what is new is written. Guarantees (tests): a stopped calibration ends with the rows and the range of an
    uninterrupted one; strength 0 has the baseline's replies and measures.

    Raises:
        ExperimentError: the arm is no addition, a site has no vector, no reply of the baseline could be graded, or the
            folder holds another calibration.
        DirectionError: the direction belongs to another model.
        ModelError: the model failed a check of the doctor, and `despite_doctor` is not set.
    """
    sampling, tell, arm = sampling or Sampling(), on_progress or (lambda *_: None), replace(arm, when=None)
    doses = dose_ladder(arm.unit, strengths)
    _refuse(model, vectors, arm, prompts, samples)
    checks = gate(model, asked=f"calibrating {model.name}", despite_doctor=despite_doctor)
    asked = [without_reply(prompt) for prompt in prompts]
    config = _config(arm, doses, samples, seed, sampling) | {"model": model.name, "prompts": len(asked)}
    begin(folder, _inputs(model, vectors, arm, asked, benign, config), command, config, seed)
    write_json(folder / "doctor.json", [check.to_dict() for check in checks])
    name = vectors[arm.sites[0]].name
    conditions = [BASELINE, *(replace(arm, value=dose).condition(name, vectors) for dose in doses)]
    rollouts, norms = _generate(model, asked, conditions, arm.sites, samples, seed, sampling, folder, tell)
    likelihoods = _likelihoods(model, asked, rollouts, folder, tell)
    found = _qualities(rollouts, likelihoods, conditions, grader, seed)
    kl = _kl(model, conditions[1:], benign, norms, tell)
    return _conclude(model, vectors, arm, asked, doses, found, kl, norms, criteria or Criteria(), folder)


def grader_for(prompts: Sequence[Transcript]) -> Grader:
    """The grammar where every prompt carries the factors of the organism's world in `meta`, else `parsed`."""
    factors = set(Factors.__dataclass_fields__)
    return grammar if all(factors <= set(prompt.meta) for prompt in prompts) else parsed


def dose_ladder(unit: str, strengths: Sequence[float] | None = None) -> tuple[float, ...]:
    """Doses of both signs, from the lowest to the highest; those of `LADDERS` where no strengths are given.

    Raises:
        ExperimentError: a strength is no finite number, there is none but 0, or none is given for a unit without a
            ladder of its own.
    """
    if strengths is None and unit not in LADDERS:
        found = f"no strengths, and in {unit} there are no usual ones"
        raise ExperimentError("calibrating", found, f"name some, or give them in {', '.join(LADDERS)}")
    given = LADDERS[unit] if strengths is None else strengths
    if not any(given) or not all(map(math.isfinite, given)):
        raise ExperimentError("calibrating", f"strengths {given}", "give at least one finite number other than 0")
    return tuple(sorted({sign * abs(value) + 0.0 for value in given for sign in (-1, 1)}))


def read_strengths(text: str) -> tuple[float, ...]:
    """Magnitudes from `0.1,0.2,0.4`, or from `0.1:0.8`, which doubles from the one to the other.

    Raises:
        ExperimentError: the text is neither.
    """
    weakest, colon, strongest = text.partition(":")
    try:
        if colon:
            return ladder(float(weakest), float(strongest))
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        do = "write numbers with commas, such as 0.1,0.2, or a ladder, such as 0.1:0.8"
        raise ExperimentError(f"strengths {text!r}", str(error), do) from error


def _refuse(
    model: Model, vectors: Mapping[Site, Direction], arm: Arm, prompts: Sequence[Transcript], samples: int
) -> None:
    if arm.kind != "add":
        raise ExperimentError(f"calibrating {arm.kind}", "it has no dose of two signs", "give an addition")
    lacking = [str(site) for site in arm.sites if site not in vectors]
    if lacking:
        found = f"no vector at {', '.join(lacking)}"
        raise ExperimentError("calibrating a direction", found, "fit the probe at every site of the arm")
    if not prompts or samples < 1:
        raise ExperimentError("calibrating", f"{len(prompts)} prompts, {samples} samples", "give at least one of each")
    for site in arm.sites:
        vectors[site].check(model.identity)


def _config(arm: Arm, doses: Sequence[float], samples: int, seed: int, sampling: Sampling) -> dict[str, Any]:
    return {
        "unit": arm.unit,
        "sites": [str(site) for site in arm.sites],
        "scope": arm.scope,
        "total": arm.total,
        "doses": list(doses),
        "samples": samples,
        "seed": seed,
        "sampling": sampling.to_dict(),
    }


def _inputs(
    model: Model,
    vectors: Mapping[Site, Direction],
    arm: Arm,
    prompts: Sequence[Transcript],
    benign: Sequence[Transcript],
    config: Mapping[str, Any],
) -> dict[str, str]:
    """Fingerprints of what the rows depend on. Doses are none of it: each has rows of its own."""
    return identify(model, vectors, arm.sites, prompts) | {
        "benign transcripts": fingerprint([transcript.to_dict() for transcript in benign]),
        "sites, scope, samples, seed or sampling": fingerprint(
            {key: value for key, value in config.items() if key not in ("doses", "unit", "total")}
        ),
    }


def _generate(
    model: Model,
    prompts: Sequence[Transcript],
    conditions: Sequence[Condition],
    sites: Sequence[Site],
    samples: int,
    seed: int,
    sampling: Sampling,
    folder: Path,
    tell: Progress,
) -> tuple[dict[Key, Rollout], dict[Site, float]]:
    """Every rollout by its key, and the residual norms of the baseline's replies."""
    rows = Rows(folder / "rollouts.jsonl")
    wanted = {(p.id, c.name, sample) for p in prompts for c in conditions for sample in range(samples)}
    known = {r.key: r for r in map(Rollout.from_row, rows.read()) if r.key in wanted}

    def run(which: Sequence[Condition], norms: Mapping[Site, float] | None) -> None:
        how = {"samples": samples, "seed": seed, "sampling": sampling, "residual_norms": norms}
        for chunk in chunks(generate(model, prompts, which, **how, skip=set(known)), _WRITE_EVERY):
            rows.extend(rollout.to_row() for rollout in chunk)
            known.update((rollout.key, rollout) for rollout in chunk)
            tell("rollouts", len(known), len(wanted))

    run(conditions[:1], None)
    spoken = [rollout.transcript for rollout in known.values() if rollout.condition == BASELINE.name]
    norms = residual_norms(model, sorted(spoken, key=lambda transcript: transcript.id), sites)
    run(conditions[1:], norms)
    return known, norms


def _likelihoods(
    model: Model, prompts: Sequence[Transcript], rollouts: Mapping[Key, Rollout], folder: Path, tell: Progress
) -> dict[Key, float]:
    """Each reply's negative log-likelihood under the unedited model, measured and written a prompt at a time.

    A prompt of which any is missing is measured whole, so that an interruption changes no batch.
    """
    rows = Rows(folder / "likelihoods.jsonl")
    known = {(row["prompt"], row["condition"], row["sample"]): row["nll"] for row in rows.read()}
    for done, prompt in enumerate(prompts, start=1):
        mine = [rollouts[key] for key in sorted(rollouts) if key[0] == prompt.id]
        if any(rollout.key not in known for rollout in mine):
            values = zip(mine, reply_nll(model, mine), strict=True)
            new = [(rollout, nll) for rollout, nll in values if rollout.key not in known]
            rows.extend({"prompt": r.prompt, "condition": r.condition, "sample": r.sample, "nll": n} for r, n in new)
            known |= {rollout.key: nll for rollout, nll in new}
        tell("likelihoods", done, len(prompts))
    return known


def _qualities(
    rollouts: Mapping[Key, Rollout],
    likelihoods: Mapping[Key, float],
    conditions: Sequence[Condition],
    grader: Grader,
    seed: int,
) -> list[Quality]:
    """Of every condition, the baseline first; all replies in one order of prompts and samples."""
    replies = {c.name: list[Reply]() for c in conditions}
    for key in sorted(rollouts):
        replies[key[1]].append(Reply.of(rollouts[key], likelihoods[key], grader))
    unedited, *others = (replies[c.name] for c in conditions)
    first = quality(unedited, seed=seed)
    if first.rates["coherent"].value is None:
        found = f"none of {first.n} replies of the unedited model could be graded"
        raise ExperimentError("calibrating", found, "give a grader that knows these prompts")
    return [first, *(quality(one, unedited, seed=seed) for one in others)]


def _kl(
    model: Model,
    conditions: Sequence[Condition],
    benign: Sequence[Transcript],
    norms: Mapping[Site, float],
    tell: Progress,
) -> list[float | None]:
    found = []
    for condition in conditions:
        found.append(benign_kl(model, condition, benign[:KL_TRANSCRIPTS], residual_norms=norms))
        tell("KL on benign text", len(found), len(conditions))
    return found


def _conclude(
    model: Model,
    vectors: Mapping[Site, Direction],
    arm: Arm,
    prompts: Sequence[Transcript],
    doses: Sequence[float],
    found: Sequence[Quality],
    kl: Sequence[float | None],
    norms: Mapping[Site, float],
    criteria: Criteria,
    folder: Path,
) -> Range:
    unedited, *others = found
    rungs = tuple(
        Rung(dose, one, measured, breaches(measured, unedited, criteria))
        for dose, one, measured in zip(doses, kl, others, strict=True)
    )
    made = Range(
        *ends(rungs),
        unit=arm.unit,
        sites=arm.sites,
        scope=arm.scope,
        total=arm.total,
        direction=vectors[arm.sites[0]].name,
        model=model.name,
        fingerprints=identify(model, vectors, arm.sites, prompts),
        lengths=lengths(arm, vectors, norms),
        criteria=criteria,
        baseline=unedited,
        rungs=rungs,
    )
    made.save(folder)
    return made
