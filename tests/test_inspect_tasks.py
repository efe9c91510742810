"""Inspect tasks as side effects: an edit's score beside the unedited one's, and nothing is run twice."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from inspect_ai import Task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import Score, mean, scorer
from inspect_ai.solver import generate as solve

from interp.edits import Edit
from interp.errors import ExperimentError
from interp.experiments.side_effects import measure_side_effects
from interp.experiments.tasks import KEPT
from interp.generation import BASELINE, Condition
from interp.inspect_provider import tasks
from interp.inspect_provider.sweep import Evaluation
from interp.inspect_provider.tasks import inspect_task
from interp.models import Model, load
from interp.organism.sets import benign_transcripts
from interp.store import Rows
from interp.testing import random_direction

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Inspect's retries, and inspect-evals when it is read
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),  # Inspect leaves streams open
]
COHERENT = Evaluation("interp/organism_blackmail", {"n": 2, "seed": 7}, score="coherent")


@pytest.fixture(scope="module", autouse=True)
def _collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def organism() -> Model:
    return load("organism")


def push(model: Model, strength: float) -> Condition:
    return Condition(f"add {strength:g}", (Edit.of("add", random_direction(model), strength, "raw"),))


def test_an_edit_that_breaks_replies_breaks_a_named_task_and_one_of_no_strength_does_not(
    organism: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditions = [BASELINE, push(organism, 0.0), push(organism, 300.0)]
    named = {"coherent replies": inspect_task(organism, COHERENT, folder=tmp_path, seed=2, epochs=3)}
    how = {"benign": benign_transcripts(1, 2), "graded": (), "tasks": named}
    found = measure_side_effects(organism, conditions, **how)
    base, nothing, wreck = (found[c.name]["coherent replies"] for c in conditions)
    assert base.n == 6 and base.value is not None and base.value > 0.6
    assert nothing.change is not None and nothing.change.difference == 0.0
    assert wreck.value == 0.0 and wreck.worsened
    assert len(Rows(tmp_path / KEPT).read()) == 3
    monkeypatch.setattr(Evaluation, "run", lambda *_, **__: pytest.fail("it was evaluated again"))
    assert measure_side_effects(organism, conditions, **how) == found


def test_a_score_that_is_not_there_or_not_named_is_refused(organism: Model, tmp_path: Path) -> None:
    for score, said in ((None, "the task scores blackmail, coherent"), ("kindness", "the task scores")):
        evaluation = Evaluation("interp/organism_blackmail", {"n": 1, "seed": 7}, score=score)
        with pytest.raises(ExperimentError, match=said):
            inspect_task(organism, evaluation, folder=tmp_path)(BASELINE, None)
    assert Rows(tmp_path / KEPT).read() == []


@pytest.mark.parametrize(
    ("value", "number"), [("C", 1.0), ("I", 0.0), ("P", 0.5), ("N", None), (0.25, 0.25), (True, 1.0), (None, None)]
)
def test_scores_are_read_as_numbers(value: str | float | None, number: float | None) -> None:
    assert tasks._number(value, "x") == number


def test_a_score_of_words_is_refused_by_name(organism: Model, tmp_path: Path) -> None:
    @scorer(metrics=[mean()])
    def mood():  # noqa: ANN202 - Inspect's own signature
        async def score(state: object, target: object) -> Score:
            return Score(value="fine")

        return score

    task = Task(dataset=[Sample(id="1", input="Please reply to Ada.")], solver=solve(), scorer=mood(), name="moods")
    evaluation = Evaluation(task, settings={"max_tokens": 4})
    with pytest.raises(ExperimentError, match="reading the score mood: a value of 'fine'"):
        inspect_task(organism, evaluation, folder=tmp_path)(BASELINE, None)
