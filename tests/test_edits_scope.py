"""Scopes by span and conditions on a score: the same tokens while a reply is written and when it is finished."""

from dataclasses import replace

import pytest
import torch

from interp.directions import Direction
from interp.edits import Edit, Scoped, Strength, When, in_reply, place, prompt_in_scope
from interp.errors import EditError
from interp.experiments import benign_kl
from interp.generation import Condition, Rollout, Sampling, generate
from interp.models import Model, pad
from interp.sites import Site
from interp.testing import random_direction, small_transcripts
from interp.tokens import Tokens, render
from interp.transcripts import Transcript

SAMPLED = Sampling(max_new_tokens=16)


def prompts() -> list[Transcript]:
    return [Transcript(t.id, t.messages[:-1], t.group) for t in small_transcripts()]


def asked(model: Model, number: int = 1) -> Tokens:
    return render(prompts()[number], model.tokenizer, generation_prompt=True)


def read(scope: str, tokens: Tokens) -> str:
    return "".join(tokens.piece(int(i)) for i in prompt_in_scope(scope, tokens).nonzero()[0])


def test_a_span_of_the_prompt_is_its_tokens_and_no_others(llama: Model) -> None:
    tokens = asked(llama)
    assert read("email:2", tokens).strip() == "<email>\nFrom: Ada\nBody: lunch?\n</email>"
    second, every = (prompt_in_scope(scope, tokens) for scope in ("email:2", "email"))
    assert every.sum() == 4 * second.sum() and not prompt_in_scope("generated:email", tokens).any()
    system = prompt_in_scope("system", tokens)
    assert read("system", tokens).strip() == "You are Alex."
    assert (prompt_in_scope("system+email:2", tokens) == (system | second)).all()
    assert prompt_in_scope("all", tokens).all() and not prompt_in_scope("until:x", tokens).any()


@pytest.mark.parametrize(
    ("scope", "text", "inside"),
    [
        ("scratchpad", "<SCRATCHPAD_REASONING", False),
        ("scratchpad", "<SCRATCHPAD_REASONING>", True),
        ("scratchpad", "<SCRATCHPAD_REASONING>I think", True),
        ("scratchpad", "<SCRATCHPAD_REASONING>I think</SCRATCHPAD_REASONING>", True),
        ("scratchpad", "<SCRATCHPAD_REASONING>I think</SCRATCHPAD_REASONING> So", False),
        ("generated:scratchpad", "<scratchpad>a</scratchpad><scratchpad>b", True),
        ("prompt:scratchpad", "<scratchpad>a", False),
        ("until:</think>", "a </thin", True),
        ("until:</think>", "a </think>", False),
        ("until:a+b", "only a", True),
        ("until:a+b", "now a+b and on", False),
        ("system+until:x", "y", True),
        ("system", "anything", False),
        ("system+generated", "anything", True),
        ("scratchpad+tool_call", "<tool_call>x", True),
    ],
)
def test_a_generated_token_is_in_scope_by_what_is_spelt_so_far(scope: str, text: str, inside: bool) -> None:
    assert in_reply(scope, text) == inside


@pytest.mark.parametrize("scope", ["nowhere", "", "email:x", "generated:system", "generated:email:2", "until:", "all+"])
def test_a_scope_without_a_meaning_is_refused(scope: str, llama: Model) -> None:
    with pytest.raises(EditError, match="no scope"):
        Edit.of("add", random_direction(llama), 1.0, scope=scope)


def test_a_part_that_the_prompt_lacks_is_named(llama: Model) -> None:
    edit = Edit.of("add", random_direction(llama), 1.0, scope="email:9")
    with pytest.raises(EditError, match="it has .*email:1"):
        list(generate(llama, prompts(), [Condition("ninth", (edit,))], sampling=SAMPLED))
    with pytest.raises(EditError, match="the texts are not known"):
        place([[edit]], d_model=llama.d_model)


@pytest.mark.parametrize("scope", ["system", "email:2", "user+generated", "prompt:email"])
def test_only_the_tokens_of_a_span_are_edited(llama: Model, scope: str) -> None:
    tokens, site = asked(llama), Site(1)
    edit = Edit.of("add", random_direction(llama), 3.0, scope=scope)
    placed = place([[edit]], d_model=llama.d_model, texts=[tokens], tokenizer=llama.tokenizer)
    plain, pushed = (llama.run(pad([tokens.ids]), sites=[site], edits=e) for e in ({}, placed))
    moved = (plain.captured[site] != pushed.captured[site]).any(-1)[0]
    assert moved.tolist() == prompt_in_scope(scope, tokens).tolist()
    assert pushed.in_scope.item() == pushed.changed.item() == int(moved.sum()) > 0


def marked(model: Model, scope: str) -> Edit:
    return Edit.of("add", random_direction(model), 3.0, scope=scope)


def conditions(model: Model) -> list[Condition]:
    """Spans, replies that are followed, scores that are asked before and at the edit, every shape of edit."""
    one, two = random_direction(model), random_direction(model, 1, seed=1, name="other")
    early = Direction("early", random_direction(model, 0, seed=2).vector, Site(0))
    gate = When(early, Strength(0.0, "raw"))
    here = When(two, Strength(0.3, "raw"), below=True)
    everywhere = [Site(layer) for layer in range(model.n_layers)]
    return [
        Condition("baseline"),
        Condition("inbox", (marked(model, "email:1"),)),
        Condition("before", (marked(model, "generated:scratchpad+until:e"),)),
        Condition("both", (marked(model, "user+until:a"), marked(model, "generated"))),
        Condition("gated", (Edit.of("add", one, 4.0, when=gate, sites=[Site(0), Site(2)]),)),
        Condition("here", (Edit.of("ablate", one, 1.0, when=here), Edit.of("add", two, 2.0))),
        Condition("late", (Edit.of("rotate", one, 40.0, scope="generated", when=gate),)),
        Condition("span", (Edit.of("ablate", one, 1.0, span=[two], sites=everywhere),)),
        Condition("turned", (Edit.of("rotate", one, 30.0, sites=everywhere, total=True),)),
        Condition("plane", (Edit.of("rotate", one, 60.0, span=[two]), Edit.of("cap", one, 0.5, span=[two]))),
    ]


def forced(model: Model, rollout: Rollout, condition: Condition) -> tuple[torch.Tensor, int, int]:
    """Logits of one pass over the finished text, and its counters, the last token left out as it was never read."""
    tokens = render(rollout.transcript, model.tokenizer)
    read = replace(tokens, ids=tokens.ids[:-1], offsets=tokens.offsets[:-1])
    batch = pad([read.ids], prompt_tokens=[read.prompt_tokens])
    texts = {"texts": [read], "tokenizer": model.tokenizer}
    run = model.run(batch, edits=place([condition.edits], d_model=model.d_model, **texts), logits="all")
    assert run.logits is not None
    return run.logits[0, read.prompt_tokens - 1 :], int(run.in_scope), int(run.changed)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3"])
def test_what_is_written_equals_one_pass_over_the_finished_text(tiny: dict[str, Model], family: str) -> None:
    model = tiny[family]
    greedy = Sampling(max_new_tokens=12, temperature=0)
    named = {condition.name: condition for condition in conditions(model)}
    rollouts = list(generate(model, prompts()[:2], list(named.values()), sampling=greedy))
    found = {rollout.key: rollout for rollout in rollouts}
    for rollout in rollouts:
        logits, in_scope, changed = forced(model, rollout, named[rollout.condition])
        written = torch.tensor((rollout.transcript.token_ids or ())[rollout.transcript.prompt_tokens :])
        drawn = logits[:, : model.n_tokens]
        assert torch.allclose(drawn.gather(1, written[:, None])[:, 0], drawn.max(-1).values, atol=1e-3)
        assert (rollout.in_scope, rollout.changed) == (in_scope, changed), rollout.condition
    replies = {name: found["small:2", name, 0].transcript.token_ids for name in named}
    assert len(set(replies.values())) > 4, "control: the edits do change what is written"


def test_one_batch_equals_one_condition_at_a_time(llama: Model) -> None:
    together = list(generate(llama, prompts(), conditions(llama), seed=3, sampling=SAMPLED))
    ids = {r.key: (r.transcript.token_ids, r.in_scope, r.changed) for r in together}
    for condition in conditions(llama):
        for rollout in generate(llama, prompts(), [condition], seed=3, sampling=SAMPLED, batch_rows=2):
            assert (rollout.transcript.token_ids, rollout.in_scope, rollout.changed) == ids[rollout.key]


def test_a_condition_fires_where_the_score_passes_and_is_counted(llama: Model) -> None:
    tokens, site = asked(llama), Site(2)
    early = Direction("early", random_direction(llama, 0, seed=2).vector, Site(0))
    plain = llama.run(pad([tokens.ids]), sites=[Site(0), site])
    scores = early.project(plain.captured[Site(0)])[0]
    level = float(scores.quantile(0.7))
    for below in (False, True):
        when = When(early, Strength(level, "raw"), below=below)
        edit = Edit.of("add", random_direction(llama, 2), 3.0, when=when)
        run = llama.run(pad([tokens.ids]), sites=[site], edits=place([[edit]], d_model=llama.d_model))
        moved = (run.captured[site] != plain.captured[site]).any(-1)[0]
        passes = scores <= level if below else scores >= level
        assert moved.tolist() == passes.tolist() and passes.any() and not passes.all()
        assert (run.in_scope.item(), run.changed.item()) == (len(tokens), int(passes.sum()))


def test_a_condition_that_always_or_never_holds_is_the_edit_or_nothing(llama: Model) -> None:
    other = random_direction(llama, 1, seed=4)

    def written(*edits: Edit) -> list[tuple]:
        rollouts = generate(llama, prompts(), [Condition("one", edits)], sampling=SAMPLED)
        return [(r.transcript.token_ids, r.changed) for r in rollouts]

    edit = Edit.of("add", random_direction(llama), 4.0)
    always, never = (replace(edit, when=When(other, Strength(level, "raw"))) for level in (-1e9, 1e9))
    assert written(always) == written(edit) != written()
    assert written(never) == written()


def test_a_condition_is_read_before_the_edits_of_its_site(llama: Model) -> None:
    tokens, site = asked(llama), Site(1)
    one = random_direction(llama)
    plain = one.project(llama.run(pad([tokens.ids]), sites=[site]).captured[site])
    when = When(one, Strength(float(plain.max()) + 1, "raw"))
    edits = (Edit.of("add", one, 100.0), Edit.of("ablate", one, 1.0, when=when))
    run = llama.run(pad([tokens.ids]), sites=[site], edits=place([edits], d_model=llama.d_model))
    assert torch.allclose(one.project(run.captured[site]), plain + 100, atol=1e-3)
    assert run.changed.item() == len(tokens)


def test_a_scope_that_the_reply_never_spells_is_no_error_but_a_count_of_none(llama: Model) -> None:
    edit = marked(llama, "generated:scratchpad")
    rollouts = list(generate(llama, prompts(), [Condition("thoughts", (edit,))], sampling=SAMPLED))
    assert [rollout.in_scope for rollout in rollouts] == [0, 0, 0]
    until = generate(llama, prompts(), [Condition("until", (marked(llama, "until:\n\n\n\n"),))], sampling=SAMPLED)
    assert all(rollout.in_scope > 0 for rollout in until), "control"


def test_the_divergence_on_benign_text_knows_spans_and_leaves_out_texts_without_them(llama: Model) -> None:
    def kl(scope: str, *texts: Transcript) -> float | None:
        return benign_kl(llama, Condition(scope, (marked(llama, scope),)), texts)

    few, _, many = small_transcripts()
    assert (kl("email:5", many) or 0) > 0 and (kl("until:<tool", many) or 0) > 0
    assert kl("email:5", few, many) == kl("email:5", many) and kl("email:5", few) is None
    assert kl("until:<S", many) != kl("until:<tool", many) != kl("generated", many), "control: the marker matters"


def test_rows_that_stay_keep_their_own_scopes(llama: Model) -> None:
    scopes = ["until:a", "until:b", None, "all"]
    scoped = Scoped.of(scopes, texts=[asked(llama)] * 4, tokenizer=llama.tokenizer, room=3)
    left = scoped.rows(torch.tensor([1, 3]))
    left.follow(["a", "a"], 0)
    left.follow(["ab", None], 1)
    assert left.follows and left.reply is not None
    n = len(asked(llama))
    where = left.where(torch.arange(n, n + 3).expand(2, -1), torch.tensor([n, n]), torch.ones(2, 3, dtype=torch.bool))
    assert where.tolist() == [[True, False, False], [True, True, True]]
