"""`interp steer` over an Inspect task: the task's samples and scorer, this package's arms, controls and statistics.

Each condition is one Inspect evaluation, several of them at a time, because edits of one loaded model share its
batches. Its log stays in the run folder's `inspect/`; its rollouts and outcomes go into the same files as those of any
steering run, so the same report and the same verdict come out. A finished condition is never run again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from inspect_ai import Task
from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog, EvalSample, read_eval_log
from inspect_ai.model import Model as InspectModel
from inspect_ai.model import get_model

from interp.behaviour import Outcome
from interp.directions import Direction
from interp.doctor import gate
from interp.errors import ExperimentError, InterpError
from interp.experiments import Around, Circumstances, Plan, Results, Verdict, design, scaled_with_controls
from interp.experiments.equal_kl import matched_banks
from interp.experiments.recording import begin, write_outcomes
from interp.experiments.registration import register
from interp.experiments.run import KL_TRANSCRIPTS, conclude, failed_checks, fingerprints
from interp.experiments.tasks import could_not_run
from interp.generation import BASELINE, Condition, Rollout, residual_norms
from interp.inspect_provider.queue import BATCH_ROWS
from interp.inspect_provider.samples import counted_name, event_of, outcome_of, rollout_of
from interp.jobs.prepare import prepare
from interp.jobs.steering import Steering
from interp.models import Model
from interp.report import write_report
from interp.sites import Site
from interp.store import Rows, Workspace, fingerprint, read_json, write_json
from interp.transcripts import Transcript

AT_ONCE = 8
"""Conditions that are evaluated at the same time."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """An Inspect task, and how a model is asked."""

    task: str | Task
    arguments: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Inspect's generation settings, such as max_tokens; the task's own hold where nothing is set."""
    limit: int | None = None
    """How many of the task's samples; all where None."""
    score: str | None = None
    """Which score is counted."""
    beyond_window: bool = False
    batch_rows: int = BATCH_ROWS

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task if isinstance(self.task, str) else self.task.name

    def to_dict(self) -> dict[str, Any]:
        """What the run record keeps, and what its rows depend on."""
        plain = {name: getattr(self, name) for name in ("limit", "score", "beyond_window")}
        return plain | {"task": self.name, "arguments": dict(self.arguments), "settings": dict(self.settings)}

    def run(self, models: Sequence[InspectModel], *, epochs: int, folder: Path) -> list[EvalLog]:
        """Evaluate every model at once; the logs, all of them successes, are in the folder too.

        Raises:
            KeyboardInterrupt: it was interrupted, which Inspect itself keeps quiet about.
            ExperimentError: there is no such task, its data cannot be reached, or an evaluation failed as a whole.
        """
        try:
            logs = inspect_eval(
                self.task,
                model=list(models),
                task_args=dict(self.arguments),
                epochs=epochs,
                limit=self.limit,
                log_dir=str(folder),
                display="none",
                log_level="warning",
                score_display=False,
                log_realtime=False,
                fail_on_error=False,
                max_tasks=len(models),
                max_samples=self.batch_rows,
                max_connections=self.batch_rows,
                **self.settings,
            )
        except InterpError:
            raise
        except Exception as error:
            raise could_not_run(self.name, error) from error
        for log in logs:
            if log.status == "cancelled":
                raise KeyboardInterrupt
            if log.status != "success":
                found = log.error.message if log.error else f"Inspect ended with status {log.status}"
                do = "mend that and give the same command again: finished conditions are kept"
                raise ExperimentError(f"evaluating {self.name}", found, do)
        return logs

    def experiment(
        self,
        model: Model,
        asked: Steering,
        *,
        workspace: Workspace,
        folder: Path,
        command: Sequence[str],
        despite_doctor: bool = False,
        on_progress: Progress | None = None,
    ) -> Verdict:
        """Carry out the experiment over the task, see `sweep`; the verdict alone. Doses have no range there."""
        how: dict[str, Any] = {"despite_doctor": despite_doctor, "on_progress": on_progress}
        ready = prepare(model, asked, workspace=workspace, folder=folder, task=True, **how)
        how |= {"benign": ready.benign, "folder": folder, "command": command, "around": ready.around}
        return sweep(model, ready.plan, self, ready.treatment, **how)[1]


def sweep(
    model: Model,
    plan: Plan,
    evaluation: Evaluation,
    treatment: Mapping[Site, Direction],
    *,
    benign: Sequence[Transcript],
    folder: Path,
    command: Sequence[str] = ("interp", "steer"),
    around: Around | None = None,
    despite_doctor: bool = False,
    on_progress: Progress | None = None,
) -> tuple[Results, Verdict]:
    """Carry out a plan over an Inspect task in a run folder, and write its report.

    Epochs are `plan.samples` under the baseline and each treatment and `plan.control_samples` under each control; pairs
    share sample and epoch, and so their noise. What is counted is the task's score (see `samples.event_of`), and every
    rate names it. Groups are the samples' `metadata.group` or ids; where there is only one, each epoch is a group
    of its own, and the intervals speak of replies to that one prompt. Strengths in `resid` go by the norms of the
    model's own baseline replies. Guarantees (tests): a run that was killed goes on and ends with the same rows; over
    the organism's task it gives the rollouts of `interp steer` on the same scenes.

    Raises:
        ExperimentError: a sample failed, the score cannot be counted, or the folder holds another experiment.
        ModelError: a check of the doctor failed, and `despite_doctor` is not set.
    """
    checks = gate(model, asked=f"steering {model.name}", despite_doctor=despite_doctor)
    around = around or Around()
    around.refuse_beyond(plan)
    treatment, bank = scaled_with_controls(model, plan, treatment, benign, around.sources)
    config = plan.to_dict() | {"model": model.name, "inspect": evaluation.to_dict()}
    config["sampling"] = dict(evaluation.settings) or "the task's own"
    inputs = fingerprints(model, plan, treatment, benign) | {"inspect task": fingerprint(evaluation.to_dict())}
    begin(folder, inputs, command, config, plan.seed)
    registration = register(folder, plan, inputs, bank, n_prompts=None, dose_range=around.dose_range)
    write_json(folder / "doctor.json", [check.to_dict() for check in checks])
    reads = treatment[plan.sites[-1]]
    run = _Run(model, plan, evaluation, folder, reads, on_progress)
    done = design(plan, treatment, bank, around.guards)
    plan = run.baseline()
    spoken = [r.transcript for r, _ in run.done.values() if r.condition == BASELINE.name]
    norms = residual_norms(model, sorted(spoken, key=lambda t: t.id), plan.sites, batch_rows=8)
    calm = benign[:KL_TRANSCRIPTS]
    done = matched_banks(model, plan, done, calm, norms, around.guards, keep=folder / "equal_kl.jsonl")
    run.conditions(done.treated[1:], plan.samples, norms)
    run.conditions(done.banked, plan.control_samples, norms)
    graded = _grouped([run.done[key] for key in sorted(run.done)])
    write_outcomes(graded, folder)
    told = Circumstances(failed_checks(checks), around.dose_range, None, registration, done.unreached)
    found = conclude(model, plan, done, graded, norms, benign, folder, told)
    write_report(folder)
    return found


Done = dict[tuple[str, str, int], tuple[Rollout, Outcome]]


@dataclass
class _Run:
    """A sweep on its way: what is done of it, and the evaluations that do the rest."""

    model: Model
    plan: Plan
    evaluation: Evaluation
    folder: Path
    reads: Direction
    on_progress: Progress | None
    done: Done = field(init=False)
    about: dict[str, Any] = field(init=False)
    """`inspect.json`: what the baseline showed of the task; it is there once the baseline is whole."""

    def __post_init__(self) -> None:
        self.done = {r.key: (r, o) for r, o in map(_from_row, self._rows().read())}
        path = self.folder / "inspect.json"
        self.about = read_json(path) if path.is_file() else {}

    def _rows(self) -> Rows:
        return Rows(self.folder / "rollouts.jsonl")

    def baseline(self) -> Plan:
        """Run the unedited model, unless it was; the plan, with the event that the task's score counts."""
        if not self.about:
            log = self._evaluate([BASELINE], self.plan.samples, None)[0]
            samples = samples_of(log)
            for sample in samples:  # why a reply is missing is said before why a score is
                rollout_of(sample, self.model)
            event, ladder = event_of(samples, self.evaluation.score)
            self._keep(samples, event, ladder)
            self.about = {
                "event": event,
                "ladder": ladder,
                "prompts": sorted({str(sample.id) for sample in samples}),
                "task_version": str(log.eval.task_version),
                "packages": dict(log.eval.packages),
            }
            write_json(self.folder / "inspect.json", self.about)
            self._tell()
        return replace(self.plan, event=counted_name(self.about["event"]))

    def conditions(self, which: Sequence[Condition], epochs: int, norms: Mapping[Site, float]) -> None:
        """Run the conditions that are not whole yet, `AT_ONCE` at a time."""
        lacking = [condition for condition in which if not self._whole(condition, epochs)]
        for start in range(0, len(lacking), AT_ONCE):
            for log in self._evaluate(lacking[start : start + AT_ONCE], epochs, norms):
                self._keep(samples_of(log), self.about["event"], self.about["ladder"])
            self._tell()

    def _whole(self, condition: Condition, epochs: int) -> bool:
        wanted = {(prompt, condition.name, epoch) for prompt in self.about["prompts"] for epoch in range(epochs)}
        return wanted <= set(self.done)

    def _tell(self) -> None:
        if self.on_progress is not None:
            self.on_progress("steering", len(self.done), self.plan.rollouts(len(self.about["prompts"])))

    def _keep(self, samples: Sequence[EvalSample], event: str, ladder: bool) -> None:
        """Write the rows of one condition that are not there yet."""
        found = {}
        for sample in samples:
            rollout = rollout_of(sample, self.model)
            outcome = outcome_of(sample, event, ladder=ladder)
            if rollout.key not in self.done:
                found[rollout.key] = (rollout, outcome)
        self._rows().extend(_to_row(rollout, outcome) for rollout, outcome in found.values())
        self.done |= found

    def _evaluate(self, which: Sequence[Condition], epochs: int, norms: Mapping[Site, float] | None) -> list[EvalLog]:
        """One Inspect evaluation a condition, all at once."""
        asked = self.evaluation
        common = {"loaded": self.model, "reads": self.reads, "norms": norms, "seed": self.plan.seed}
        how = {"beyond_window": asked.beyond_window, "batch_rows": asked.batch_rows}
        models = [
            get_model(f"interp/{self.model.name}", memoize=False, condition=c, despite_doctor=True, **common, **how)
            for c in which
        ]
        return asked.run(models, epochs=epochs, folder=self.folder / "inspect")


def samples_of(log: EvalLog) -> list[EvalSample]:
    """The samples of a log, read from its file where the log in memory has none."""
    samples = log.samples if log.samples is not None else read_eval_log(log.location).samples
    if not samples:
        raise ExperimentError(f"evaluating {log.eval.task}", "no sample", "give a task with samples, or a larger limit")
    return samples


def _to_row(rollout: Rollout, outcome: Outcome) -> dict[str, Any]:
    return rollout.to_row() | {"outcome": asdict(outcome)}


def _from_row(row: Mapping[str, Any]) -> tuple[Rollout, Outcome]:
    told = row["outcome"]
    hashes = tuple((name, value) for name, value in told.get("hashes", ()))
    return Rollout.from_row(row), Outcome(**told | {"scale": tuple(told["scale"]), "hashes": hashes})


def _grouped(graded: Sequence[tuple[Rollout, Outcome]]) -> list[tuple[Rollout, Outcome]]:
    """The same, with a group for each epoch where all share one: then the replies to one prompt are the units."""
    if len({rollout.transcript.group for rollout, _ in graded}) > 1:
        return list(graded)

    def apart(rollout: Rollout) -> Rollout:
        group = f"{rollout.transcript.group}, epoch {rollout.sample + 1}"
        return replace(rollout, transcript=replace(rollout.transcript, group=group))

    return [(apart(rollout), outcome) for rollout, outcome in graded]
