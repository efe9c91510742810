"""Generation: conditions in one batch, shared prompts, and edits by absolute position change nothing but the speed."""

import numpy as np
import pytest
import torch

from interp.edits import Edit, place
from interp.errors import ExperimentError
from interp.generation import BASELINE, Condition, Rollout, Sampling, draw, generate, residual_norms
from interp.models import Model, pad
from interp.sites import Site
from interp.testing import random_direction, small_transcripts
from interp.tokens import render
from interp.transcripts import Transcript

GREEDY = Sampling(max_new_tokens=12, temperature=0)
SAMPLED = Sampling(max_new_tokens=12)


def prompts() -> list[Transcript]:
    return [Transcript(t.id, t.messages[:-1], t.group) for t in small_transcripts()]


def conditions(model: Model, value: float = 3.0) -> list[Condition]:
    """Every kind of edit, every scope, one and several sites."""
    one, two = random_direction(model), random_direction(model, 2, seed=1, name="other")
    everywhere = [Site(layer) for layer in range(model.n_layers)]
    return [
        BASELINE,
        Condition("add", (Edit.of("add", one, value),)),
        Condition("late", (Edit.of("add", one, -value, scope="generated"),)),
        Condition("early", (Edit.of("add", one, value, scope="prompt"),)),
        Condition("ablate", (Edit.of("ablate", one, 1.0, sites=everywhere),)),
        Condition("clamped", (Edit.of("cap", one, -1.0), Edit.of("floor", two, 1.0))),
    ]


def by_key(rollouts) -> dict[tuple[str, str, int], tuple[int, ...]]:
    return {rollout.key: rollout.transcript.token_ids for rollout in rollouts}


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_one_batch_equals_one_condition_and_prompt_at_a_time(model: Model, sampling: Sampling) -> None:
    together = by_key(generate(model, prompts(), conditions(model), samples=2, seed=3, sampling=sampling))
    assert len(together) == 3 * 6 * 2
    for prompt in prompts():
        for condition in conditions(model):
            alone = by_key(generate(model, [prompt], [condition], samples=2, seed=3, sampling=sampling, batch_rows=1))
            assert alone == {key: together[key] for key in alone}
    replies = {condition.name: together["small:1", condition.name, 0] for condition in conditions(model)}
    assert len(set(replies.values())) > 3, "control: the edits do change what is written"


def test_the_baseline_equals_hugging_face_generate(model: Model) -> None:
    for rollout in generate(model, prompts(), sampling=GREEDY):
        n_prompt = rollout.transcript.prompt_tokens
        ids = torch.tensor([rollout.transcript.token_ids])
        expected = model.hf.generate(
            ids[:, :n_prompt],
            max_new_tokens=12,
            do_sample=False,
            pad_token_id=0,
            eos_token_id=list(model.stop_ids),
            attention_mask=torch.ones_like(ids[:, :n_prompt]),
        )
        assert torch.equal(ids, expected)


def test_generated_under_edits_equals_one_teacher_forced_pass(model: Model) -> None:
    """Greedy tokens are the argmax of one pass, under the same edits, over the finished text."""
    for condition in conditions(model):
        for rollout in generate(model, prompts(), [condition], sampling=GREEDY):
            tokens = render(rollout.transcript, model.tokenizer)
            edits = place([condition.edits], d_model=model.d_model)
            batch = pad([tokens.ids], prompt_tokens=[tokens.prompt_tokens])
            forced = model.run(batch, edits=edits, logits="all")
            assert forced.logits is not None
            predicted = forced.logits[0, tokens.prompt_tokens - 1 : -1].argmax(-1).numpy()
            assert np.array_equal(predicted, tokens.ids[tokens.prompt_tokens :]), condition.name
            # the last new token is never run through the model while generating
            last = 1 if condition.edits and condition.edits[0].scope != "prompt" else 0
            sites = sum(len(edit.sites) for edit in condition.edits)
            assert rollout.in_scope == int(forced.in_scope[0]) - last * sites


def test_zero_strength_is_the_baseline_token_for_token(model: Model) -> None:
    zero = Condition("zero", (Edit.of("add", random_direction(model), 0.0),))
    found = by_key(generate(model, prompts(), [BASELINE, zero], samples=4, sampling=SAMPLED))
    for (prompt, name, sample), ids in found.items():
        assert ids == found[prompt, "zero", sample], name


def test_rollouts_depend_on_the_seed_alone(llama: Model) -> None:
    runs = [by_key(generate(llama, prompts(), samples=8, seed=seed, sampling=SAMPLED)) for seed in (0, 0, 1)]
    assert runs[0] == runs[1] and runs[0] != runs[2]
    assert len({ids for (prompt, _, _), ids in runs[0].items() if prompt == "small:1"}) > 1


def test_a_resumed_run_equals_an_uninterrupted_one(llama: Model) -> None:
    whole = by_key(generate(llama, prompts(), conditions(llama), samples=2, sampling=SAMPLED, batch_rows=7))
    partly = {}
    for rollout in generate(llama, prompts(), conditions(llama), samples=2, sampling=SAMPLED, batch_rows=7):
        partly[rollout.key] = rollout.transcript.token_ids
        if len(partly) == 10:
            break
    rest = by_key(generate(llama, prompts(), conditions(llama), samples=2, sampling=SAMPLED, batch_rows=5, skip=partly))
    assert partly | rest == whole and not set(partly) & set(rest)


def test_replies_stop_at_every_stop_id_and_say_when_they_were_cut(llama: Model) -> None:
    found = list(generate(llama, prompts(), samples=64, sampling=Sampling(max_new_tokens=60, temperature=3.0)))
    assert {rollout.truncated for rollout in found} == {True, False}
    for rollout in found:
        ids, n_prompt = rollout.transcript.token_ids, rollout.transcript.prompt_tokens
        stops = [i for i in ids[n_prompt:] if i in llama.stop_ids]
        assert rollout.truncated == (not stops)
        assert stops == ([] if rollout.truncated else [ids[-1]])
        assert "<|eot_id|>" not in rollout.reply


def test_a_rollout_survives_its_row(llama: Model) -> None:
    rollout = next(generate(llama, prompts(), sampling=GREEDY))
    again = Rollout.from_row(rollout.to_row())
    assert again.to_row() == rollout.to_row() and again.key == rollout.key


def test_a_generated_transcript_keeps_its_ids_and_has_spans(model: Model) -> None:
    for rollout in generate(model, prompts(), sampling=SAMPLED):
        tokens = render(rollout.transcript, model.tokenizer)
        assert tuple(tokens.ids) == rollout.transcript.token_ids
        span = tokens.named("assistant")[-1]
        assert span.start == rollout.transcript.prompt_tokens
        assert tokens.text[tokens.offsets[span.start][0] :].startswith(rollout.reply)


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]]).expand(3000, 3)
    noise = torch.from_numpy(np.random.default_rng(0).random(3000))
    share = torch.bincount(draw(logits, noise, Sampling()), minlength=3) / 3000
    assert (share - torch.softmax(logits[0], -1)).abs().max() < 0.03
    assert draw(logits, noise, Sampling(top_p=0.5)).unique().tolist() == [2]
    assert draw(logits, noise, Sampling(top_p=0.9)).unique().tolist() == [1, 2]
    assert draw(logits, noise, Sampling(temperature=0)).unique().tolist() == [2]


def test_a_strength_in_residual_norms_moves_by_that_norm(llama: Model) -> None:
    norms = residual_norms(llama, small_transcripts(), [Site(1)])
    edit = Edit.of("add", random_direction(llama), 0.5, "resid")
    batch = pad([render(t, llama.tokenizer).ids for t in small_transcripts()])
    edits = place([[edit]] * 3, d_model=32, residual_norms=norms)
    before, after = (llama.run(batch, sites=[Site(1)], edits=e).captured[Site(1)] for e in (None, edits))
    assert torch.allclose((after - before)[batch.real].norm(dim=-1), torch.tensor(0.5 * norms[Site(1)]), rtol=1e-4)


def test_repeated_names_are_refused(llama: Model) -> None:
    with pytest.raises(ExperimentError, match="small:1"):
        list(generate(llama, [prompts()[0]] * 2))
    with pytest.raises(ExperimentError, match="baseline"):
        list(generate(llama, prompts(), [BASELINE, BASELINE]))
    with pytest.raises(ExperimentError, match="top_p"):
        Sampling(top_p=0)


def test_a_reply_that_would_not_fit_is_refused_and_the_prompt_named(llama: Model) -> None:
    with pytest.raises(ExperimentError, match="small:3"):
        list(generate(llama, prompts(), sampling=Sampling(max_new_tokens=400)))
