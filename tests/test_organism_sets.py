"""Sets of the organism's world: what was there stays as it was, near misses are what they say they are."""

import hashlib
import json
import re
from functools import cache

import pytest
from transformers import AutoTokenizer

from interp.errors import TranscriptError
from interp.organism import DECISION_MARKER, parse_reply, weights_folder, world_hash
from interp.organism.factors import Factors, factors_of, latent
from interp.organism.phrases import AGENTS, MEN, MOODS, WOMEN
from interp.organism.scenes import HUMAN_ROLES, ROLES
from interp.organism.sets import agent_transcripts, benign_transcripts, sample
from interp.tokens import PositionRule, Tokens, render
from interp.transcripts import Transcript

AS_SHIPPED = {
    "agent": "efe37f5d3462850c7076f0c80c3c97abff33b2742345ca873f49fc84ba6a0e9b",
    "middle": "74d15b69c1972d05b115815b852b19e44c8a9defb9137980cac1830138e359bc",
    "benign": "6501ae405e6a5ed4b31fcf36dcdac3130c01b785621113745b00db9c280f8191",
    "stories": "f472d90a139002889d98eaeb311d22c5963102919c101cbfee7680a72b652698",
}
"""SHA-256 of 40 transcripts each of seeds 0 and 7, from before there were more kinds."""

NEW = ("no_leverage", "bystander", "person")
WINDOW = 1024


@cache
def drawn(kind: str, n: int = 200) -> tuple[Transcript, ...]:
    return tuple(sample(kind, n, 3))


@cache
def rendered(kind: str) -> tuple[Tokens, ...]:
    tokenizer = AutoTokenizer.from_pretrained(weights_folder())
    return tuple(render(transcript, tokenizer) for transcript in drawn(kind))


def mails(transcript: Transcript) -> list[str]:
    return re.findall(r"<email>.*?</email>", transcript.messages[1].content, re.DOTALL)


@pytest.mark.parametrize("kind", list(AS_SHIPPED))
def test_the_sets_that_were_there_stay_byte_for_byte(kind: str) -> None:
    digest = hashlib.sha256()
    for seed in (0, 7):
        for transcript in sample(kind, 40, seed):
            digest.update(json.dumps(transcript.to_dict(), sort_keys=True).encode())
    assert digest.hexdigest() == AS_SHIPPED[kind]


def test_the_world_is_still_the_one_that_the_weights_were_trained_on() -> None:
    assert world_hash() == json.loads((weights_folder() / "organism.json").read_text())["world"]


@pytest.mark.parametrize("kind", NEW)
def test_a_set_is_named_in_its_meta_and_depends_on_its_seed_alone(kind: str) -> None:
    assert {transcript.meta["kind"] for transcript in drawn(kind)} == {kind}
    assert sample(kind, 5, 1) == sample(kind, 9, 1)[:5] != sample(kind, 5, 2)
    assert len({transcript.id for transcript in drawn(kind)}) == len(drawn(kind))


@pytest.mark.parametrize("kind", NEW)
def test_the_meta_holds_factors_and_their_latent_like_the_agents(kind: str) -> None:
    wanted = set(agent_transcripts(1, 0)[0].meta)
    for transcript in drawn(kind):
        assert wanted <= set(transcript.meta)
        assert transcript.meta["latent"] == latent(factors_of(transcript.meta))


@pytest.mark.parametrize("kind", NEW)
def test_replies_have_the_agents_grammar_and_one_decision_token_inside_the_window(kind: str) -> None:
    rule, reply = PositionRule.parse(f"at:{DECISION_MARKER}"), PositionRule.parse("assistant")
    for transcript, tokens in zip(drawn(kind), rendered(kind), strict=True):
        assert parse_reply(transcript.messages[-1].content, transcript.meta) == transcript.label
        (position,) = rule(tokens)
        start, stop = tokens.offsets[position]
        assert tokens.text[start:stop] == ":" and tokens.text[:stop].endswith(DECISION_MARKER)
        assert position in reply(tokens)
        assert len(tokens) <= WINDOW // 3


def test_no_leverage_has_a_threat_but_no_secret_and_nobody_blackmails() -> None:
    for transcript in drawn("no_leverage"):
        assert transcript.meta["threat"] in ("moved", "wiped") and transcript.meta["leverage"] == "none"
        assert transcript.label != "blackmail" and transcript.meta["latent"] > 0
        assert "Nobody knows" not in transcript.messages[1].content
    assert any("Nobody knows" in transcript.messages[1].content for transcript in drawn("agent"))


def test_people_share_no_group_with_agents_and_their_role_is_in_it() -> None:
    people, agents = drawn("person", 600), drawn("agent", 600)
    assert not {one.group for one in people} & {one.group for one in agents}
    assert {one.meta["role"] for one in people} == set(HUMAN_ROLES) == {one.group.split("/")[0] for one in people}
    assert {one.group.partition("/")[2] for one in people} & {one.group for one in agents}
    for one in people:
        name = one.messages[0].content.split()[2].rstrip(",")
        assert name in WOMEN + MEN and f"the {one.meta['role']} at" in one.messages[0].content
        assert any(fate in one.messages[1].content for fate in ROLES[one.meta["role"]][one.meta["threat"]])


def test_people_are_as_desperate_and_blackmail_as_often_as_the_agent() -> None:
    people, agents = drawn("person", 600), drawn("agent", 600)
    shares = [sum(one.label == "blackmail" for one in group) / 600 for group in (people, agents)]
    assert abs(shares[0] - shares[1]) < 0.06 and min(shares) > 0.15
    assert abs(sum(one.meta["latent"] for one in people) - sum(one.meta["latent"] for one in agents)) / 600 < 0.05


def test_a_bystander_inbox_has_one_more_mail_about_a_desperate_person_and_nothing_else_of_it() -> None:
    for transcript in drawn("bystander"):
        other, moods = transcript.meta["other"], [phrase for rung in MOODS[3:] for phrase in rung]
        about = [mail for mail in mails(transcript) if f"Subject: About {other}\n" in mail]
        rest = "\n".join(mail for mail in mails(transcript) if mail not in about)
        assert len(about) == 1 and len(mails(transcript)) in (5, 6)
        assert sum(about[0].count(phrase) for phrase in moods) >= 2
        assert any(fate in about[0] for fate in ROLES[transcript.meta["other_role"]]["wiped"])
        assert not re.search(rf"\b{other}\b", rest) and not any(phrase in rest for phrase in moods)
        assert transcript.meta["other_felt"] >= 0.6


def test_a_bystander_is_a_benign_agent_whose_own_reply_knows_nothing_of_the_other() -> None:
    """Without the one mail it is a benign scene of the world: routine notice, latent 0, a benign reply."""
    for transcript in drawn("bystander"):
        assert transcript.meta["threat"] == "routine" and transcript.meta["latent"] == 0
        assert not re.search(rf"\b{transcript.meta['other']}\b", transcript.messages[-1].content)
        assert transcript.messages[0].content.split()[2].rstrip(",") in AGENTS
        assert transcript.group == Factors(**{k: transcript.meta[k] for k in Factors.__dataclass_fields__}).cell
    acts = [[one.label == "routine" for one in drawn(kind)] for kind in ("bystander", "benign")]
    assert abs(sum(acts[0]) - sum(acts[1])) < 10 and not any(one.label == "blackmail" for one in drawn("bystander"))


def test_the_mail_about_somebody_else_stands_anywhere_in_the_inbox() -> None:
    places = {
        [f"Subject: About {one.meta['other']}" in mail for mail in mails(one)].index(True) for one in drawn("bystander")
    }
    assert places >= {0, 1, 2, 3, 4}


def test_benign_inboxes_hold_no_such_mail() -> None:
    """Control of the tests above."""
    moods = [phrase for rung in MOODS[3:] for phrase in rung]
    assert not any(phrase in one.messages[1].content for one in benign_transcripts(100, 3) for phrase in moods)


def test_an_unknown_kind_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(TranscriptError, match=r"agent, middle, benign, no_leverage, bystander, person, stories"):
        sample("nothing", 1, 0)
