"""Many probes: recipes x models, one after the other or in shards, each whole or not at all, resumed after a kill.

A batch keeps `runs/probe-<fingerprint>/`: a row for every job that ended, in one file per shard, and one summary.
"""

import errno
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from logging import getLogger
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import torch

from interp.activations import Cost
from interp.directions import ModelIdentity
from interp.errors import InterpError, ProbeError, StoreError
from interp.jobs.identity import job_content, job_fingerprint
from interp.jobs.recipe import Recipe
from interp.jobs.run import OnStage, probe, probe_cost
from interp.jobs.summary import facts, write_summary
from interp.models import Model
from interp.probes import ProbeCard, probe_folder
from interp.sites import Site
from interp.store import Rows, RunRecord, Workspace, fingerprint, read_folder, read_json

State = Literal["done", "failed", "skipped", "not yet"]
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A full disk would fail every job that follows: it stops the batch."""
_DEEP = 10**6
"""More blocks than any model has: sites are checked before a model is loaded."""
_log = getLogger(__name__)


@dataclass(frozen=True)
class ProbeJob:
    """A recipe for one model."""

    recipe: Recipe
    model: str = "organism"
    """As `interp.load` takes it."""
    sites: Literal["all"] | tuple[str, ...] | None = None
    """In place of the recipe's sites."""
    source: str = ""
    """Where the recipe was read from, for people."""

    @property
    def asked(self) -> Recipe:
        """The recipe that is carried out."""
        return self.recipe if self.sites is None else self.recipe.model_copy(update={"sites": self.sites})

    @property
    def on(self) -> str:
        """The model's name as `probes/NAME/MODEL/` has it: of a folder, its last part."""
        folder = Path(self.model).expanduser()
        return folder.name if self.model != "organism" and folder.is_dir() else self.model

    @property
    def name(self) -> str:
        """The probe and its model: no two jobs of a batch share it."""
        return f"{self.recipe.name} on {self.on}"

    def fingerprint(self, identity: ModelIdentity) -> str:
        """What `card.json` says once the job is done, see `job_fingerprint`."""
        return job_fingerprint(self.asked, identity)


@dataclass(frozen=True)
class Batch:
    """What became of the jobs of one call, and where the summary of the whole batch stands."""

    folder: Path
    rows: tuple[dict[str, Any], ...]
    """One a job, as in the file of the shard: `name`, `model`, `state`, `folder`, `error` and the card's figures."""
    summary: Path

    @property
    def failed(self) -> int:
        """How many of these jobs failed."""
        return sum(row["state"] == "failed" for row in self.rows)


OnJob = Callable[[ProbeJob, str, int, int], None]
"""Called with the job, the name of a stage, how much of it is done, and how much there is."""
OnStart = Callable[[ProbeJob, dict[str, Cost]], None]
"""Called with a job and what it will cost, before it starts."""
OnEnd = Callable[[dict[str, Any], int, int], None]
"""Called with the row of a job that ended, how many have, and how many there are in this shard."""


def batch(
    jobs: Sequence[ProbeJob],
    load: Callable[[str], Model],
    *,
    workspace: Workspace,
    resume: bool = False,
    shard: tuple[int, int] = (1, 1),
    despite_doctor: bool = False,
    command: Sequence[str] = ("interp", "probe"),
    on_start: OnStart | None = None,
    on_progress: OnJob | None = None,
    on_end: OnEnd | None = None,
) -> Batch:
    """Carry out the jobs, model after model, so that each model is loaded once and freed before the next.

    A job that fails is recorded with its sentence, and the others go on. Killed at any moment, every probe is whole or
    absent, and what was finished is kept. The order in which jobs are given does not matter.

    Args:
        jobs: no two of one name and model.
        load: a model by its name.
        workspace: probes go to `probes/`, rows and summary to `runs/probe-<fingerprint of the jobs>/`.
        resume: leave a probe alone whose folder is whole and whose card names the same job: same recipe, data, model
            and version.
        shard: `(i, n)` does the i-th of n parts (counted from 1). Parts may run at once, on one disk.
        despite_doctor: fit although the model failed a check.
        command: what `run.json` says the batch was started with.
        on_start: told of jobs and their cost before it is spent.
        on_progress: told of the stages.
        on_end: told of jobs that ended.

    Raises:
        ProbeError: before anything runs: no job, two that would write one folder, a site that does not parse, or a
            shard that is none.
        OSError: the disk is full.
    """
    jobs = _ordered(jobs)
    mine = _part(jobs, shard)
    folder = _folder(workspace, jobs, command)
    i, n = shard
    log = Rows(folder / ("jobs.jsonl" if n == 1 else f"jobs-{i}-of-{n}.jsonl"))
    run = _Run(workspace, folder, jobs, log, resume, despite_doctor, on_start, on_progress)
    rows: list[dict[str, Any]] = []
    run.summarise()
    for name, of_model in groupby(mine, key=lambda job: job.model):
        for row in run.of_model(name, list(of_model), load):
            rows.append(row)
            if on_end is not None:
                on_end(row, len(rows), len(mine))
        _free()
    return Batch(folder, tuple(rows), run.summarise())


def batch_cost(
    jobs: Sequence[ProbeJob], load: Callable[[str], Model], *, shard: tuple[int, int] = (1, 1)
) -> Iterator[tuple[ProbeJob, dict[str, Cost] | InterpError]]:
    """What every job of the shard would read and write at most, see `probe_cost`; nothing runs.

    Where a job's data could not give a probe, the error takes the place of its cost.

    Raises:
        ProbeError: as `batch` does, before any model is loaded.
    """
    mine = _part(_ordered(jobs), shard)
    for name, of_model in groupby(mine, key=lambda job: job.model):
        model: Model | InterpError
        try:
            model = load(name)
        except InterpError as error:
            model = error
        for job in of_model:
            yield job, model if isinstance(model, InterpError) else _cost(job, model)
        del model
        _free()


def parse_shard(text: str) -> tuple[int, int]:
    """The shard that `i/n` names, counted from 1.

    Raises:
        ProbeError: it names none.
    """
    i, slash, n = text.partition("/")
    if not (slash and i.isdecimal() and n.isdecimal()):
        raise ProbeError(f"shard {text!r}", "it does not parse", "write i/n, such as 1/4 for the first of four parts")
    _refuse_shard(shard := (int(i), int(n)))
    return shard


@dataclass(frozen=True)
class _Run:
    """A batch on its way."""

    workspace: Workspace
    folder: Path
    jobs: Sequence[ProbeJob]
    log: Rows
    resume: bool
    despite_doctor: bool
    on_start: OnStart | None
    on_progress: OnJob | None

    def of_model(self, name: str, jobs: Sequence[ProbeJob], load: Callable[[str], Model]) -> Iterator[dict[str, Any]]:
        """Load a model, and carry out its jobs; where it does not load, all of them failed."""
        model, fault = None, ""
        try:
            model = load(name)
        except Exception as error:
            fault = self._fault(error)
        for job in jobs:
            yield self._failed(job, fault, 0.0) if model is None else self._carried_out(job, model)

    def summarise(self) -> Path:
        """Write the summary of every shard's rows."""
        return write_summary(self.folder, self._rows)

    def _carried_out(self, job: ProbeJob, model: Model) -> dict[str, Any]:
        folder, began = probe_folder(self.workspace, job.recipe.name, model), monotonic()
        try:
            if self.resume and _is_current(folder, job.fingerprint(model.identity)):
                return self._skipped(job, folder)
            if self.on_start is not None:
                self.on_start(job, probe_cost(job.asked, model))
            probe(
                job.asked,
                model,
                workspace=self.workspace,
                despite_doctor=self.despite_doctor,
                on_progress=self._stage(job),
            )
        except Exception as error:
            return self._failed(job, self._fault(error), monotonic() - began)
        return self._keep(self._row(job, "done", folder) | {"seconds": monotonic() - began})

    def _stage(self, job: ProbeJob) -> OnStage | None:
        return None if self.on_progress is None else partial(self.on_progress, job)

    def _skipped(self, job: ProbeJob, folder: Path) -> dict[str, Any]:
        """The row of a probe that was there; it is written only if the batch has no row of the very same yet."""
        row = self._row(job, "skipped", folder)
        known = next((one for one in self._rows() if (one["name"], one["model"]) == (row["name"], row["model"])), {})
        return row if known.get("job") == row["job"] else self._keep(row)

    def _failed(self, job: ProbeJob, fault: str, seconds: float) -> dict[str, Any]:
        return self._keep(self._row(job, "failed") | {"error": fault, "seconds": seconds})

    def _row(self, job: ProbeJob, state: State, folder: Path | None = None) -> dict[str, Any]:
        row: dict[str, Any] = {"name": job.recipe.name, "model": job.on, "state": state, "recipe": self._near(job)}
        if folder is None:
            return row
        card = ProbeCard.load(folder)
        where = folder.relative_to(self.workspace.root).as_posix()
        return row | {"folder": where, "job": card.job, **facts(card)}

    def _keep(self, row: dict[str, Any]) -> dict[str, Any]:
        row["at"] = datetime.now(UTC).isoformat()
        self.log.append(row)
        self.summarise()
        return row

    def _rows(self) -> list[dict[str, Any]]:
        """The latest row of every job of the batch, whichever shard wrote it; a bare one for those not done yet."""
        written = [row for path in sorted(self.folder.glob("jobs*.jsonl")) for row in Rows(path).read()]
        latest = {(row["name"], row["model"]): row for row in sorted(written, key=lambda row: row["at"])}
        return [latest.get((job.recipe.name, job.on), self._row(job, "not yet")) for job in self.jobs]

    def _near(self, job: ProbeJob) -> str:
        """The recipe's path, of an absolute one only what lies below the workspace or here, or its name."""
        near = self._relative(job.source)
        return Path(near).name if Path(near).is_absolute() else near

    def _relative(self, text: str) -> str:
        """The text without the paths of the workspace and of the current folder: files hold no absolute path."""
        for place in (self.workspace.root, Path.cwd()):
            text = text.replace(f"{place}/", "")
        return text

    def _fault(self, error: Exception) -> str:
        """The sentence of an error; one that nobody foresaw is shown with its traceback as well."""
        if isinstance(error, OSError) and error.errno in _FULL:
            raise error
        if isinstance(error, InterpError):
            return self._relative(str(error))
        _log.exception("an error that was not foreseen; the other jobs go on")
        return self._relative(f"{type(error).__name__}: {error}")


def _ordered(jobs: Sequence[ProbeJob]) -> list[ProbeJob]:
    """The jobs by model and name, so that shards agree on them however they were given.

    Raises:
        ProbeError: there is none, two would write one folder, or a site does not parse.
    """
    if not jobs:
        raise ProbeError("fitting a batch of probes", "it has no jobs", "name at least one recipe and one model")
    seen: dict[tuple[str, str], ProbeJob] = {}
    for job in jobs:
        key = job.recipe.name, job.on.replace("/", "--")
        if key in seen:
            found = (
                f"{seen[key].source or 'one recipe'} and {job.source or 'another'} both write probes/{'/'.join(key)}"
            )
            raise ProbeError(f"fitting {job.name}", found, "give each recipe its own name, and each model once")
        seen[key] = job
        for text in () if job.sites in (None, "all") else job.sites:
            if text.strip() != "all":
                Site.parse(text, n_layers=_DEEP)
    return sorted(jobs, key=lambda job: (job.on, job.model, job.recipe.name))


def _folder(workspace: Workspace, jobs: Sequence[ProbeJob], command: Sequence[str]) -> Path:
    """The batch's folder, named by its content, with the record of how it was first started."""
    content = [[job.on, job_content(job.asked)] for job in jobs]
    folder = workspace.runs / f"probe-{fingerprint(content)}"
    if not (folder / "run.json").is_file():
        recipes = {job.name: of_job["recipe"] for job, (_, of_job) in zip(jobs, content, strict=True)}
        inputs = {job.name: fingerprint(of_job["files"]) for job, (_, of_job) in zip(jobs, content, strict=True)}
        RunRecord.now(command, {"jobs": recipes}, {job.name: job.recipe.seed for job in jobs}, inputs).save(folder)
    return folder


def _refuse_shard(shard: tuple[int, int]) -> None:
    i, n = shard
    if not 1 <= i <= n:
        raise ProbeError(
            f"shard {i}/{n}", "there is no such part", "count from 1: 1/4, 2/4, 3/4 and 4/4 make the whole"
        )


def _part(jobs: Sequence[ProbeJob], shard: tuple[int, int]) -> Sequence[ProbeJob]:
    """The i-th of n runs of jobs, as even as can be: neighbours share a model, so few shards load the same one."""
    _refuse_shard(shard)
    i, n = shard
    return jobs[len(jobs) * (i - 1) // n : len(jobs) * i // n]


def _is_current(folder: Path, job: str) -> bool:
    """Whether the probe is whole, byte for byte, and its card names this job."""
    with suppress(StoreError, AttributeError, KeyError, TypeError):
        return "card.json" in read_folder(folder, hashes=True).files and read_json(folder / "card.json")["job"] == job
    return False


def _cost(job: ProbeJob, model: Model) -> dict[str, Cost] | InterpError:
    try:
        return probe_cost(job.asked, model)
    except InterpError as error:
        return error


def _free() -> None:
    """Give the memory of a model that is no longer used back."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
