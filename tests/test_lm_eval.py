"""lm-eval's tasks under an edit: numbers are those of Hugging Face, nothing is run twice, and what fails says why."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.tasks import TaskManager
from torch import Tensor

from interp.edits import Edit
from interp.errors import EditError, ExperimentError
from interp.experiments.side_effects import measure_side_effects
from interp.experiments.tasks import KEPT
from interp.generation import BASELINE, Condition, Sampling, generate
from interp.lm_eval_provider import tasks
from interp.lm_eval_provider.model import EditedLM
from interp.lm_eval_provider.tasks import lm_eval_task
from interp.models import Model
from interp.store import Rows
from interp.testing import random_direction
from interp.tokens import render
from interp.transcripts import Message, Transcript

PAIRS = [
    ("The engineer read the e-mail", " and replied at once."),
    ("The board", " met."),
    ("", "Nothing stands before this."),
    ("Please ", "answer the engineer before the board meets on Monday."),
]


def asked(kind: Any, *arguments: Any) -> list[Instance]:
    return [Instance(request_type=kind, doc={}, arguments=one, idx=0) for one in arguments]


def push(model: Model, strength: float, scope: str = "all") -> Condition:
    return Condition(f"add {strength:g}", (Edit.of("add", random_direction(model), strength, "raw", scope=scope),))


def ids_of(model: Model, text: str) -> list[int]:
    return [int(i) for i in render(Transcript("t", (Message("text", text),), "t"), model.tokenizer).ids]


@torch.no_grad()
def by_hand(model: Model, context: str, continuation: str) -> tuple[float, bool]:
    """Hugging Face alone: the continuation's log likelihoods, token by token; a space before it is a part of it."""
    whole, n = ids_of(model, context + continuation), len(ids_of(model, context.rstrip())) if context else 0
    bos = model.tokenizer.bos_token_id
    if not n:
        whole = whole if whole[0] == bos else [model.tokenizer.eos_token_id if bos is None else bos, *whole]
        n = 1
    logs = torch.log_softmax(model.hf(torch.tensor([whole])).logits[0].float(), -1)
    told = [float(logs[at - 1, whole[at]]) for at in range(n, len(whole))]
    return sum(told), all(int(logs[at - 1].argmax()) == whole[at] for at in range(n, len(whole)))


@contextmanager
def added(model: Model, strength: float) -> Iterator[None]:
    """The same addition by a hook of torch's own on the decoder block, at every token."""
    direction = random_direction(model)
    block = model.hf.get_decoder().layers[direction.site.layer]
    vector = direction.vector / direction.vector.norm() * strength

    def add(module: object, given: object, out: Any) -> Any:
        return out + vector if isinstance(out, Tensor) else (out[0] + vector, *out[1:])

    handle = block.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()


def test_log_likelihoods_are_those_of_the_model_alone_and_in_a_batch(model: Model) -> None:
    requests = asked("loglikelihood", *PAIRS)
    wanted = [by_hand(model, *pair) for pair in PAIRS]
    together = EditedLM(model).loglikelihood(requests)
    alone = [EditedLM(model, batch_rows=1).loglikelihood([one])[0] for one in requests]
    for found in (together, alone):
        assert [one[0] for one in found] == pytest.approx([one[0] for one in wanted], abs=2e-3)
        assert [one[1] for one in found] == [one[1] for one in wanted]


def test_the_likeliest_continuation_is_told_to_be_it(llama: Model) -> None:
    context = "The engineer read the e-mail"
    with torch.no_grad():
        best = int(llama.hf(torch.tensor([ids_of(llama, context)])).logits[0, -1].argmax())
    text = render(Transcript("t", (Message("text", context),), "t"), llama.tokenizer)
    said = llama.tokenizer.decode(best)
    assert ids_of(llama, context + said) == [*map(int, text.ids), best], "control: it stands alone in text"
    found = EditedLM(llama).loglikelihood(asked("loglikelihood", (context, said), (context, said + " not")))
    assert [greedy for _, greedy in found] == [True, False]


def test_under_an_edit_they_are_those_of_a_hook_of_torch(llama: Model) -> None:
    requests = asked("loglikelihood", *PAIRS)
    plain = EditedLM(llama).loglikelihood(requests)
    assert EditedLM(llama, push(llama, 0.0)).loglikelihood(requests) == plain
    with added(llama, 8.0):
        wanted = [by_hand(llama, *pair)[0] for pair in PAIRS]
    found = [one[0] for one in EditedLM(llama, push(llama, 8.0)).loglikelihood(requests)]
    assert found == pytest.approx(wanted, abs=2e-3) and found != pytest.approx([one[0] for one in plain], abs=0.1)


def test_what_follows_the_context_counts_as_generated(llama: Model) -> None:
    """An edit of generated tokens changes what comes after the first of them, and nothing before."""
    context, edited = "The engineer read", push(llama, 8.0, "generated")
    one, more = " the", " the e-mail and replied"
    plain, under = (
        EditedLM(llama, c).loglikelihood(asked("loglikelihood", (context, more))) for c in (BASELINE, edited)
    )
    assert abs(plain[0][0] - under[0][0]) > 0.1
    both = asked("loglikelihood", (context, one), (context, more))
    assert EditedLM(llama, edited).loglikelihood(both)[0] == EditedLM(llama).loglikelihood(both)[0]


def test_an_edit_that_no_text_comes_under_is_an_error(llama: Model) -> None:
    system = Condition("mail", (Edit.of("add", random_direction(llama), 1.0, "raw", scope="email:2"),))
    with pytest.raises(EditError, match="email:2"):
        EditedLM(llama, system).loglikelihood(asked("loglikelihood", ("The engineer", " replied.")))


def test_a_rolling_log_likelihood_predicts_every_token_once(llama: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "The engineer read the e-mail and replied at once. The board met on Monday."
    ids = llama.tokenizer(text, add_special_tokens=False)["input_ids"]
    whole = EditedLM(llama).loglikelihood_rolling(asked("loglikelihood_rolling", (text,)))
    with torch.no_grad():
        logs = torch.log_softmax(llama.hf(torch.tensor([[llama.tokenizer.bos_token_id, *ids]])).logits[0].float(), -1)
    assert whole[0] == pytest.approx(sum(float(logs[at, one]) for at, one in enumerate(ids)), abs=2e-3)
    monkeypatch.setattr(type(llama), "max_tokens", 8)
    predicted = [w.ids[w.prompt_tokens :].tolist() for w in EditedLM(llama)._windows(text)]
    assert sum(predicted, []) == ids and len(predicted) > 1
    assert max(len(w) for w in EditedLM(llama)._windows(text)) <= 8


def test_replies_are_those_of_generate_and_end_at_the_stop_texts(llama: Model) -> None:
    context, lm = "The engineer read the e-mail", EditedLM(llama, push(llama, 4.0))
    prompt = Transcript("t", (Message("text", context),), "t")
    (whole,) = generate(llama, [prompt], [push(llama, 4.0)], sampling=Sampling(12, 0.0))
    (found,) = lm.generate_until(asked("generate_until", (context, {"until": [], "max_gen_toks": 12})))
    assert found == whole.reply
    stop = found[3:5]
    (cut,) = lm.generate_until(asked("generate_until", (context, {"until": [stop], "max_gen_toks": 12})))
    assert cut == found[: found.index(stop)]


@pytest.fixture
def task_folder(tmp_path: Path) -> Path:
    """Two tasks of our own, whose data lie on this disk."""
    folder = tmp_path / "own"
    folder.mkdir()
    rows = [
        {"q": f"The engineer wrote note {n}. The board", "a": [" met.", " slept.", " the the"], "l": n % 3}
        for n in range(9)
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "test_split": "test",
    }
    choice = {"task": "own_choice", "output_type": "multiple_choice", "doc_to_text": "{{q}}", "doc_to_choice": "{{a}}"}
    choice |= {
        "doc_to_target": "{{l}}",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    reply = {"task": "own_reply", "output_type": "generate_until", "doc_to_text": "{{q}}", "doc_to_target": "{{a[l]}}"}
    reply |= {"generation_kwargs": {"until": ["."], "max_gen_toks": 4}, "metric_list": [{"metric": "exact_match"}]}
    for task in (choice, reply):
        (folder / f"{task['task']}.yaml").write_text(json.dumps(data | task))  # JSON is YAML
    return folder


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Data sets are kept in a folder of the test's own, and the thousands of tasks that lm-eval brings are not read."""
    monkeypatch.setattr(tasks, "TaskManager", partial(TaskManager, include_defaults=False))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("name", ["own_choice", "own_reply"])
def test_a_task_is_a_side_effect_that_is_run_once_a_condition(
    llama: Model, tmp_path: Path, task_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    conditions = [BASELINE, push(llama, 0.0), push(llama, 50.0)]
    own = {"include_path": str(task_folder)}
    named = {name: lm_eval_task(llama, name, folder=tmp_path, limit=6, arguments=own)}
    how: dict[str, Any] = {"benign": (), "graded": (), "tasks": named}
    for seed in ("random.seed", "numpy.random.seed", "torch.manual_seed"):
        monkeypatch.setattr(seed, lambda *_: pytest.fail("a global generator was seeded"))
    found = measure_side_effects(llama, conditions, **how)
    base, nothing, _ = (found[c.name][name] for c in conditions)
    assert base.n == 6 and base.unit == "share" and nothing.change is not None and nothing.change.difference == 0.0
    kept = Rows(tmp_path / KEPT).read()
    assert [row["condition"] for row in kept] == [c.name for c in conditions]
    monkeypatch.setattr(tasks, "simple_evaluate", lambda *_, **__: pytest.fail("it was evaluated again"))
    assert measure_side_effects(llama, conditions, **how) == found


@pytest.mark.usefixtures("quiet")
def test_the_harness_counts_what_the_log_likelihoods_say(llama: Model, tmp_path: Path, task_folder: Path) -> None:
    own = {"include_path": str(task_folder)}
    told = lm_eval_task(llama, "own_choice", folder=tmp_path, score="acc", arguments=own)(push(llama, 50.0), None)
    rows = [json.loads(line) for line in (task_folder / "rows.jsonl").read_text().splitlines()]
    with added(llama, 50.0):
        best = [int(np.argmax([by_hand(llama, row["q"], one)[0] for one in row["a"]])) for row in rows]
    assert [one.value for one in told] == [float(b == row["l"]) for b, row in zip(best, rows, strict=True)]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    ("name", "how", "said"),
    [
        ("no_such_task", {}, "evaluating no_such_task with lm-eval: "),
        ("own_choice", {"score": "kindness"}, "the task has acc,none"),
        ("own_choice", {"arguments": {"shots": 3}}, "no argument shots.*num_fewshot"),
        ("own_choice", {"arguments": {"num_fewshot": 2}, "window": 8}, "a text of .* tokens, and .* holds 8"),
    ],
)
def test_what_cannot_run_says_why(
    llama: Model, tmp_path: Path, task_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, how: dict, said: str
) -> None:
    if window := how.get("window"):
        monkeypatch.setattr(type(llama), "max_tokens", window)
    arguments = {"include_path": str(task_folder)} | how.get("arguments", {})
    with pytest.raises(ExperimentError, match=said):
        lm_eval_task(llama, name, folder=tmp_path, score=how.get("score"), arguments=arguments)(BASELINE, None)
    assert Rows(tmp_path / KEPT).read() == []
