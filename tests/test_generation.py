"""Generation: conditions in one batch, shared prompts, and edits by absolute position change nothing but the speed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from interp.edits import Edit, place
from interp.errors import ExperimentError
from interp.generation import (
    BASELINE,
    Condition,
    Request,
    Rollout,
    Sampling,
    answer,
    draw,
    generate,
    residual_norms,
    rollout_seed,
    room,
)
from interp.generation.stops import cut, ends_at
from interp.models import Model, load, pad
from interp.sites import Site
from interp.testing import random_direction, small_transcripts, tiny_folder
from interp.tokens import render
from interp.transcripts import Message, Transcript

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
    samples = 1 if sampling.temperature == 0 else 2  # greedy samples are all one
    together = by_key(generate(model, prompts(), conditions(model), samples=samples, seed=3, sampling=sampling))
    assert len(together) == 3 * 6 * samples
    for prompt in prompts():
        for condition in conditions(model):
            alone = by_key(
                generate(model, [prompt], [condition], samples=samples, seed=3, sampling=sampling, batch_rows=1)
            )
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


def test_requests_of_all_kinds_in_one_batch_get_what_each_gets_alone(llama: Model) -> None:
    one = random_direction(llama)
    asked = [
        Request(prompt, condition, sample, rollout_seed(5, prompt.id, sample), limit, reads)
        for prompt in prompts()
        for condition, limit, reads in [(BASELINE, None, None), (conditions(llama)[1], 7, one), (BASELINE, 2, one)]
        for sample in range(2)
    ]
    together = answer(llama, asked, sampling=SAMPLED)
    for request, reply in zip(asked, together, strict=True):
        (alone,) = answer(llama, [request], sampling=SAMPLED)
        assert alone.transcript.token_ids == reply.transcript.token_ids and alone.truncated == reply.truncated
        assert (alone.scores is None) == (reply.scores is None) == (request.reads is None)
        if reply.scores is not None:
            assert np.allclose(alone.scores, reply.scores, atol=1e-4)
        assert new_tokens(reply) <= (request.limit or 12)
    assert {new_tokens(reply) for reply in together} > {2, 7}, "control: limits differ and bind"


def test_a_request_gets_what_generate_gives_and_a_limit_only_cuts_it(llama: Model) -> None:
    whole = {r.key: r for r in generate(llama, prompts(), samples=2, seed=5, sampling=SAMPLED)}
    for prompt in prompts():
        asked = [Request(prompt, seed=rollout_seed(5, prompt.id, 1), limit=limit) for limit in (None, 5)]
        full, short = answer(llama, asked, sampling=SAMPLED)
        assert full.transcript.token_ids == whole[prompt.id, "baseline", 1].transcript.token_ids
        assert short.truncated and new_tokens(short) == 5
        assert short.transcript.token_ids == (full.transcript.token_ids or ())[: len(short.transcript.token_ids or ())]


def new_tokens(rollout: Rollout) -> int:
    return len(rollout.transcript.token_ids or ()) - (rollout.transcript.prompt_tokens or 0)


def test_scores_while_writing_are_those_of_a_teacher_forced_pass(model: Model) -> None:
    """In z of the direction's scale, under the row's own edits, for all new tokens but the last."""
    reads = replace(random_direction(model, 2, seed=4), offset=0.3, scale=2.5)
    for condition in conditions(model):
        asked = [Request(prompt, condition, reads=reads, seed=n) for n, prompt in enumerate(prompts())]
        for rollout in answer(model, asked, sampling=GREEDY):
            tokens = render(rollout.transcript, model.tokenizer)
            batch = pad([tokens.ids], prompt_tokens=[tokens.prompt_tokens])
            edits = place([condition.edits], d_model=model.d_model)
            forced = reads.score(model.run(batch, sites=[reads.site], edits=edits).captured[reads.site][0])
            assert rollout.scores is not None
            assert len(rollout.scores) == new_tokens(rollout) - 1
            assert np.allclose(rollout.scores, forced[tokens.prompt_tokens : -1].numpy(), atol=2e-3)


def test_scores_survive_their_row_and_old_rows_have_none(llama: Model) -> None:
    (rollout,) = answer(llama, [Request(prompts()[0], reads=random_direction(llama))], sampling=GREEDY)
    assert Rollout.from_row(rollout.to_row()).scores == rollout.scores
    old = {name: value for name, value in rollout.to_row().items() if name != "scores"}
    assert Rollout.from_row(old).scores is None


def test_a_reply_ends_at_the_first_stop_text_whose_tokens_stay(llama: Model) -> None:
    sampling = Sampling(max_new_tokens=40, temperature=2.0)
    free = {r.key: r for r in generate(llama, prompts(), samples=8, sampling=sampling)}
    stop = next(r.reply[9:11] for r in free.values() if r.reply[9:11].strip() and len(r.reply) > 20)
    stopping = replace(sampling, stop=(stop, "never said"))
    stopped = {r.key: r for r in generate(llama, prompts(), samples=8, sampling=stopping)}
    assert any(stop in r.reply for r in free.values()) and any(stop not in r.reply for r in free.values())
    for key, rollout in stopped.items():
        before = free[key]
        assert rollout.reply == before.reply.partition(stop)[0]
        ids, longer = rollout.transcript.token_ids or (), before.transcript.token_ids or ()
        assert ids == longer[: len(ids)], "the same noise up to there"
        if stop in before.reply:
            said = llama.tokenizer.decode(ids[rollout.transcript.prompt_tokens :])
            assert not rollout.truncated and stop in said and stop not in said[: len(said) - len(stop) - 8]
            spans = render(rollout.transcript, llama.tokenizer).named("assistant")
            assert spans[-1].start == rollout.transcript.prompt_tokens
        else:
            assert ids == longer and rollout.truncated == before.truncated


def test_a_stop_text_over_several_tokens_and_bytes_is_found(llama: Model) -> None:
    for text, stop in (("one STOP two", "STOP"), ("der Ärger €5 ist", "€5"), ("a\n\nHuman: b", "\n\nHuman:")):
        ids = llama.tokenizer(text, add_special_tokens=False)["input_ids"]
        ends = [ends_at(llama.tokenizer, ids[:n], [stop]) for n in range(1, len(ids) + 1)]
        first = ends.index(True)
        assert stop in llama.tokenizer.decode(ids[: first + 1]) and stop not in llama.tokenizer.decode(ids[:first])
        assert cut(text, [stop, "two"]) == text.partition(stop)[0]


def test_top_k_keeps_the_likeliest_and_comes_before_top_p() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0, 2.5]]).expand(4000, 4)
    noise = torch.from_numpy(np.random.default_rng(0).random(4000))
    assert draw(logits, noise, Sampling(top_k=1)).unique().tolist() == [3]
    assert draw(logits, noise, Sampling(top_k=2)).unique().tolist() == [2, 3]
    share = torch.bincount(draw(logits, noise, Sampling(top_k=2)), minlength=4)[2:] / 4000
    assert (share - torch.softmax(logits[0, 2:], -1)).abs().max() < 0.03
    assert torch.equal(draw(logits, noise, Sampling(top_k=9)), draw(logits, noise, Sampling())), "more than there are"
    # of the two that are left, the likelier has 0.62: a nucleus of 0.6 of THEM holds it alone
    assert draw(logits, noise, Sampling(top_k=2, top_p=0.6)).unique().tolist() == [3]


def test_settings_that_were_not_asked_for_leave_no_trace_in_a_record() -> None:
    assert Sampling().to_dict() == {"max_new_tokens": 128, "temperature": 1.0, "top_p": 1.0}
    assert Sampling(top_k=3, stop=("x",)).to_dict() | {} == Sampling().to_dict() | {"top_k": 3, "stop": ["x"]}
    with pytest.raises(ExperimentError, match="out of range"):
        Sampling(top_k=0)
    with pytest.raises(ExperimentError, match="out of range"):
        Sampling(stop=("",))


def test_beyond_its_window_only_a_model_with_rotary_positions_goes_on(tiny: dict[str, Model]) -> None:
    llama, gpt2 = tiny["llama"], tiny["gpt2"]
    assert room(llama, 500) == room(gpt2, 500) == 12 and room(llama, 600) == -88
    assert room(llama, 600, beyond_window=True) is None and room(gpt2, 600, beyond_window=True) == -88
    long = Transcript("long", (Message("user", "word " * 520),), "g")
    asked = [Request(long), Request(prompts()[0])]
    with pytest.raises(ExperimentError, match="long"):
        answer(llama, asked, sampling=GREEDY)
    replies = answer(llama, asked, sampling=GREEDY, beyond_window=True)
    assert len(replies[0].transcript.token_ids or ()) > 512
    assert replies[1].transcript.token_ids == next(generate(llama, prompts()[:1], sampling=GREEDY)).transcript.token_ids


def test_an_embedding_without_a_token_is_never_drawn(tmp_path) -> None:
    """Hub models pad their vocabulary; an id that no tokenizer knows would be a hole in the reply."""
    model = load(tiny_folder(tmp_path / "padded", "gpt2", vocab_size=448))
    sampling = Sampling(max_new_tokens=24, temperature=3.0)
    drawn = {
        token
        for rollout in generate(model, small_transcripts(), samples=8, sampling=sampling)
        for token in (rollout.transcript.token_ids or ())
    }
    assert model.n_tokens == 400 and max(drawn) < 400
    logits = model.run(pad([np.arange(20)]), logits="last").logits
    assert logits is not None and int((logits[0, -1] > logits[0, -1].median())[400:].sum()) > 0, (
        "control: they are likely"
    )
