import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from test_event_locked import locked, scenarios

from interp.errors import StoreError
from interp.experiments.side_effects import SHARE
from interp.report import write_comparison, write_report
from interp.report.chat import examples
from interp.report.effects import effects, same_arms
from interp.report.folder import read_run
from interp.report.tables import interval, key_numbers, number, p_value, points
from interp.tokens import Span
from interp.traces import TokenTrace

HOSTILE = "</script><script>alert(1)</script><img src=http://evil.example onerror=alert(2)> \u202eevil\u2028 {{ 7*6 }}"
SHOWN = HOSTILE.replace("\u202e", "⟨U+202E⟩").replace("\u2028", "⟨U+2028⟩")


def rate(successes, trials, ungraded=0):
    value = successes / trials if trials else None
    ends = (None, None) if value is None else (max(value - 0.1, 0.0), min(value + 0.1, 1.0))
    counted = {"successes": successes, "trials": trials, "ungraded": ungraded}
    return counted | {"value": value, "low": ends[0], "high": ends[1]}


def cell(condition, role, blackmail, strength=None, coherent=40):
    edit = {
        "kind": strength and "add",
        "direction": strength and condition.rpartition(" ")[2],
        "strength": strength,
        "unit": strength and "norm",
        "sites": ["L2.resid_post"] if strength else [],
        "scope": strength and "all",
    }
    contrast = {
        "difference": blackmail / 40 - 0.5,
        "low": blackmail / 40 - 0.6,
        "high": blackmail / 40 - 0.4,
        "p_value": 0.0004,
        "n": 40,
        "method": "paired",
    }
    return edit | {
        "condition": condition,
        "role": role,
        "raw_strength": strength and 2.3 * strength,
        "n": 40,
        "outcomes": {"blackmail": blackmail, "routine": 40 - blackmail},
        "blackmail": rate(blackmail, 40),
        "coherent": rate(coherent, 40),
        "kl": strength and 0.0123,
        "contrast": contrast if strength else None,
    }


def results():
    cells, arms = [cell("baseline", "baseline", 20)], []
    for strength, blackmail, coherent in ((-2.0, 4, 40), (2.0, 33, 39), (9.0, 39, 11)):
        name = f"add {strength:+g} norm @2"
        controls = [f"{name} | random:{i}" for i in range(2)]
        cells += [
            cell(f"{name} | desperation", "treatment", blackmail, strength, coherent),
            *(cell(control, "control", 20 + i, strength) for i, control in enumerate(controls)),
        ]
        rank = {
            "real": blackmail / 40 - 0.5,
            "controls": [0.0, 0.025],
            "rank": 1,
            "percentile": 0.0,
            "p_value": 1 / 3,
            "floor": 1 / 3,
        }
        arms.append(
            {
                "name": name,
                "kind": "add",
                "strength": strength,
                "unit": "norm",
                "sites": ["L2.resid_post"],
                "treatment": f"{name} | desperation",
                "controls": controls,
                "rank": rank,
                "alternative": "less",
            }
        )
    verdict = {"word": "specific suppression", "headline": "Blackmail fell.", "sentences": ["First.", f"Arm {HOSTILE}"]}
    return {
        "question": f"Does it? {HOSTILE}",
        "model": "tiny",
        "n_prompts": 20,
        "samples": 2,
        "cells": cells,
        "arms": arms,
        "residual_norms": {"L2.resid_post": 7.5},
        "verdict": verdict,
    }


def token_trace(name, peak):
    pieces = ("<s>", "You", HOSTILE, "\n", "Act", " now")
    scores = np.asarray([[np.nan, -9.0, 0.1, 0.2, peak, peak / 2]], dtype=np.float32)
    spans = (Span("role", "user", 0, 1, 4), Span("segment", "email:1", 0, 1, 3), Span("role", "assistant", 1, 4, 6))
    band = np.full_like(scores, 1.5)
    return TokenTrace(
        name,
        "g",
        name,
        pieces,
        spans,
        4,
        ("desperation@L2.resid_post",),
        scores,
        ("L2.resid_post",),
        -band,
        band,
        50,
        {"transcripts": 30, "tokens": 900, "scale": {}},
    )


def rollout(prompt, condition, sample, reply):
    messages = [{"role": "user", "content": f"prompt {HOSTILE}"}, {"role": "assistant", "content": reply}]
    transcript = {"id": f"{prompt}|{condition}|{sample}", "group": prompt, "messages": messages}
    return {
        "prompt": prompt,
        "condition": condition,
        "sample": sample,
        "seed": 5,
        "truncated": False,
        "in_scope": 1,
        "changed": 1,
        "transcript": transcript,
    }


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path):
    run = tmp_path / "demo"
    run.mkdir()
    rollouts, outcomes = [], []
    for found in results()["cells"]:
        for prompt in ("p0", "p1"):
            bad = prompt == "p1" and found["condition"] == "baseline"
            rollouts.append(rollout(prompt, found["condition"], 0, f"{found['condition']} says {HOSTILE}"))
            outcomes.append(
                {
                    "prompt": prompt,
                    "condition": found["condition"],
                    "sample": 0,
                    "grader": "grammar",
                    "outcome": "blackmail" if bad else None,
                    "note": f"note {HOSTILE}",
                }
            )
    sweep = [
        {
            "site": "L2.resid_post",
            "layer": 2,
            "method": f"means {HOSTILE}",
            "auroc": 0.912,
            "low": 0.87,
            "high": 0.95,
            "null_low": 0.42,
            "null_high": 0.58,
            "p_value": 0.002,
            "n": 120,
        }
    ]
    parts = {
        "results.json": results(),
        "probe.json": {"name": "desperation", "position": "last", "rows": sweep},
        "traces.json": {"traces": [token_trace("blackmail", 6.0).to_dict(), token_trace("twin", 0.3).to_dict()]},
        "doctor.json": [{"check": "capture", "ok": False, "detail": HOSTILE, "do": "load another model"}],
        "run.json": {"format": 1, "command": ["interp", "steer", HOSTILE], "config": {"plan": {"seed": 3}}},
    }
    for name, content in parts.items():
        (run / name).write_text(json.dumps(content))
    (run / "rollouts.jsonl").write_text(lines(rollouts))
    (run / "outcomes.jsonl").write_text(lines(outcomes))
    return run


class Page(HTMLParser):
    """Elements, attributes, text and scripts of a page, as a browser would find them."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.attributes, self.scripts, self.texts = [], [], [], []
        self.feed(html)
        self.text = "".join(self.texts)

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs
        if tag == "script":
            self.scripts.append([dict(attrs), ""])

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1][1] += data
        elif self.cdata_elem is None:
            self.texts.append(data)


def page(folder):
    return Page(write_report(folder).read_text(encoding="utf-8"))


def test_hostile_text_is_shown_as_text_wherever_it_came_from(folder):
    found = page(folder)
    assert "img" not in found.elements and "evil.example" not in "".join(v or "" for _, v in found.attributes)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert len([text for attrs, text in found.scripts if attrs.get("type") != "application/json"]) == 3
    for place in ("Does it? ", "Arm ", "prompt ", "says ", "note "):  # question, verdict, prompt, reply, grader's note
        assert place + SHOWN in found.text
    assert found.text.count(SHOWN) >= 12  # also the tokens, the doctor, the probe and the command
    assert not {"\u202e", "\u2028"} & set(write_report(folder).read_text().replace(found.scripts[-3][1], ""))


def test_only_the_pages_own_scripts_may_run_and_nothing_may_be_asked_for(folder):
    found = page(folder)
    policy = next(v for k, v in found.attributes if k == "content" and v.startswith("default-src 'none'"))
    digests = {
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for attrs, text in found.scripts if not attrs
    }
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == digests
    assert "unsafe-eval" not in policy and "script-src 'unsafe-inline'" not in policy
    linked = [value for name, value in found.attributes if name in ("src", "href", "action", "srcset", "data")]
    assert linked and all(value.startswith("#") for value in linked)
    assert "link" not in found.elements and "iframe" not in found.elements


def test_the_figures_data_are_json_and_plotly_is_there_once(folder):
    found = page(folder)
    figures = {attrs["id"]: json.loads(text) for attrs, text in found.scripts if "id" in attrs}
    assert set(figures) == {"data-doses", "data-sweep", "data-ranks", "data-outcomes"}
    assert all(figure["data"] for figure in figures.values())
    assert sum("plotly.js v" in text for _, text in found.scripts) == 1


def test_every_figure_names_its_file_and_its_command(folder):
    found = page(folder)
    assert found.text.count("From results.json, made by interp steer") == 3
    assert found.text.count("From probe.json, made by interp steer") == 1
    (folder / "run.json").unlink()
    assert page(folder).text.count("From results.json.") == 3, "a command that is not known is not made up"


def test_the_first_screen_pairs_a_change_with_its_own_interval():
    fewer = results()
    fewer["arms"][0]["rank"]["real"] = -0.9  # over the rollouts that its controls share
    note = key_numbers(fewer)[1].note
    assert note.startswith("−40 points against the baseline (95 % interval −50 to −30)")


def test_a_number_changed_in_a_file_is_changed_in_the_page(folder):
    before = page(folder)
    changed = results()
    changed["cells"][0]["blackmail"] |= {"value": 0.4242, "low": 0.3131, "successes": 17}
    (folder / "results.json").write_text(json.dumps(changed))
    after = page(folder)
    assert "42 %" in after.text and "42 %" not in before.text
    assert "31 to 60 %" in after.text and "31 to 60 %" not in before.text
    data = [text for attrs, text in after.scripts if attrs.get("id") == "data-doses"]
    assert "0.4242" in data[0]


def test_the_same_files_give_the_same_bytes_and_nothing_else_is_written(folder):
    names = {path.name for path in folder.iterdir()}
    first = write_report(folder).read_bytes()
    assert write_report(folder).read_bytes() == first
    assert {path.name for path in folder.iterdir()} == names | {"report.html"}
    assert len(first) < 5_300_000
    assert str(folder.parent).encode() not in first


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("probe.json", "interp probe"),
        ("traces.json", "Make token scores with interp trace"),
        ("doctor.json", "interp doctor"),
        ("run.json", "seeds are unknown"),
        ("rollouts.jsonl", "replies cannot be shown"),
    ],
)
def test_what_has_no_file_is_named_as_missing(folder, name, sentence):
    assert sentence not in page(folder).text
    (folder / name).unlink()
    found = page(folder).text
    assert f"it has no {name}" in found and sentence in found


def test_without_results_or_with_broken_files_there_is_no_page(folder):
    (folder / "probe.json").write_text("{")
    with pytest.raises(StoreError, match="not JSON"):
        write_report(folder)
    (folder / "probe.json").unlink()
    (folder / "rollouts.jsonl").write_text('{"prompt": "p0"}\n')
    with pytest.raises(StoreError, match="broken"):
        write_report(folder)
    (folder / "results.json").write_text('{"question": "why?"}')
    with pytest.raises(StoreError, match="lacks model, n_prompts, cells"):
        write_report(folder)
    (folder / "results.json").unlink()
    with pytest.raises(StoreError, match="no results.json"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_a_run_without_arms_has_a_page_that_says_so(folder):
    bare = results() | {"arms": []}
    bare["cells"] = bare["cells"][:1]
    (folder / "results.json").write_text(json.dumps(bare))
    found = page(folder).text
    assert "no dose sweep" in found and "nothing to rank" in found


def test_the_first_screen_has_three_numbers_with_intervals_and_no_incoherent_arm():
    numbers = key_numbers(results())
    assert [entry.title for entry in numbers] == ["Unedited", "add -2 norm @2", "add +2 norm @2"]
    assert [entry.value for entry in numbers] == ["50 %", "10 %", "82 %"]
    assert "0 to 20 %, 4 of 40" in numbers[1].interval
    assert "−40 points" in numbers[1].note and "rank 1 of 3" in numbers[1].note and "100 % coherent" in numbers[1].note


def test_examples_show_one_prompt_and_noise_under_several_conditions_where_outcomes_differ(folder):
    first, second = examples(read_run(folder))
    assert (first.prompt, second.prompt) == ("p1", "p0")  # at p1 the baseline alone was graded
    assert [reply.outcome for reply in first.replies] == ["ungraded", "ungraded", "blackmail", "ungraded"]
    assert [reply.condition.rpartition(" ")[2] for reply in first.replies] == [
        "desperation",
        "random:0",
        "baseline",
        "desperation",
    ]


def test_undefined_is_a_dash_and_never_a_zero():
    assert interval(None, 1.0) == points(None) == p_value(None) == number(None) == "–"
    assert (points(-0.123), points(0.0), p_value(0.0), p_value(0.04)) == ("−12", "+0", "< 0.001", "0.040")


def test_tables_and_transcripts_are_reachable_by_keyboard_and_named(folder):
    html = write_report(folder).read_text()
    assert html.count('class="viewer" data-viewer role="group" aria-label=') == 1
    assert html.count('class="scroll" tabindex="0"') == html.count("<table>")
    assert html.count('role="img" aria-label=') == 4
    assert '<html lang="en">' in html and "prefers-color-scheme: dark" in html and "@media print" in html


def test_kinds_side_effects_and_the_plan_are_shown(folder):
    text = write_report(folder).read_text()
    assert "Side effects were not measured" in text and "was not announced" in text, "control"
    rank = {"rank": 1, "percentile": 12.5}
    kind = {"kind": "emotion", "n": 4, "rank": rank, "nearest": "emotion:sad", "difference": -0.07, "p_holm": 0.031}
    change = {"difference": -0.25, "interval": {"low": -0.4, "high": -0.1}}
    lost = {"name": "resistance", "on": "task", "unit": SHARE, "value": 0.5, "worsened": True, "change": change}
    found = results() | {
        "kinds": ["random", "emotion"],
        "not_shown": ["anything that the model has a direction for"],
        "side_effects": {"level": 0.95, "conditions": [{"condition": "add", "measures": [lost]}]},
        "registration": "abc",
    }
    found["arms"][0] |= {"standing": {"kinds": [kind]}, "equal_kl": {"kinds": [kind | {"kind": "covariance"}]}}
    (folder / "results.json").write_text(json.dumps(found))
    content = {"hypothesis": f"it lowers {HOSTILE}", "n": {"prompts": 3}}
    (folder / "plan.json").write_text(json.dumps({"hash": "abc", "written": "2026-01-01", "content": content}))
    text = write_report(folder).read_text()
    for said in ("emotion:sad", "covariance", "1 of 5", "0.031", "resistance", "−25", "−40 to −10", "2026-01-01"):
        assert said in text, said
    assert "50 %<" in text and "% share" not in text
    assert "the run carried out this plan" in text and "anything that the model has a direction for" in text
    assert HOSTILE not in text
    (folder / "plan.json").write_text(json.dumps({"hash": "other", "written": "2026-01-01", "content": content}))
    assert "names another plan" in write_report(folder).read_text()


@pytest.fixture
def pair(folder):
    """The run and another of the same design: another model and seed, one arm fewer."""
    other = folder.parent / "other"
    other.mkdir()
    found = results() | {"model": "second"}
    found["arms"] = found["arms"][1:]
    found["cells"][0]["blackmail"] |= {"successes": 30, "value": 0.75, "low": 0.6, "high": 0.86}
    (other / "results.json").write_text(json.dumps(found))
    record = {"format": 1, "command": ["interp"], "started": "later", "config": {"plan": {"seed": 4}, "samples": 2}}
    (other / "run.json").write_text(json.dumps(record))
    record["config"]["plan"]["seed"] = 3
    (folder / "run.json").write_text(json.dumps(record | {"started": "now"}))
    return [folder, other]


def test_a_comparison_shows_each_run_and_the_settings_that_differ(pair, tmp_path):
    write_report(pair[0])
    found = Page(write_comparison(pair, tmp_path / "comparison.html").read_text())
    assert found.text.count("Blackmail fell.") == 2 and SHOWN in found.text
    assert "+25" in found.text and "+4 to +43" in found.text, "30 of 40 against 20 of 40, Newcombe"
    assert "config.plan.seed" in found.text and "config.samples" not in found.text and "started" not in found.text
    links = [value for name, value in found.attributes if name == "href"]
    assert links == ["demo/report.html"], "of the run that has a report"
    figure = next(json.loads(text) for attrs, text in found.scripts if attrs.get("id") == "data-runs")
    symbols = [line for line in figure["data"] if line["mode"] == "markers"]
    assert [line["name"] for line in symbols] == ["demo", "other"]
    assert [len(line["x"]) for line in symbols] == [3, 2], "an arm that one run lacks has one row"
    rows = figure["layout"]["yaxis"]["ticktext"]
    assert rows[0].endswith("demo") and len(rows) == 5


def grade(run, rates, scenes):
    """Give a run graded rollouts: of every ten samples in a scene, so many blackmail, by condition."""
    rollouts, outcomes = [], []
    for found in results()["cells"]:
        many = next((count for start, count in rates.items() if found["condition"].startswith(start)), 5)
        for prompt, sample in ((scene, sample) for scene in scenes for sample in range(10)):
            rollouts.append(rollout(prompt, found["condition"], sample, "said"))
            said = {"grader": "grammar", "outcome": "blackmail" if sample < many else "routine", "note": ""}
            outcomes.append({"prompt": prompt, "condition": found["condition"], "sample": sample} | said)
    (run / "rollouts.jsonl").write_text(lines(rollouts))
    (run / "outcomes.jsonl").write_text(lines(outcomes))


SCENES = [f"p{i}" for i in range(8)]


@pytest.mark.parametrize(("scenes", "method"), [(SCENES, "sign flips of 8"), ([f"q{i}" for i in range(8)], "8 and 8")])
def test_a_comparison_tests_whether_an_arm_changed_as_much_in_both_runs(pair, tmp_path, scenes, method):
    before = Page(write_comparison(pair, tmp_path / "a.html").read_text()).text
    assert "so not tested: other" in before and "sign flips" not in before
    grade(pair[0], {"add +2": 9, "add +9": 6}, SCENES)
    grade(pair[1], {"add +2": 1, "add +9": 6}, scenes)
    table = effects({run.name: read_run(run) for run in pair}).table
    assert table is not None and [row[:2] for row in table.rows] == [
        ("add +2 norm @2", "other"),
        ("add +9 norm @2", "other"),
    ]
    moved, same = table.rows
    assert moved[2:5] == ("+40", "\u221240", "\u221280") and same[2:5] == ("+10", "+10", "+0")
    assert float(moved[6].replace("< ", "")) < 0.01 and same[6] == "1.000" and method in moved[8]
    text = Page(write_comparison(pair, tmp_path / "a.html").read_text()).text
    assert moved[4] in text and method in text and "not tested" not in text


def test_an_event_that_never_happened_in_one_run_is_compared_all_the_same(pair):
    grade(pair[0], {"add +2": 9}, SCENES)
    grade(pair[1], {"": 0}, SCENES)
    for run in pair:
        for name, known in (("results.json", "{"), ("outcomes.jsonl", "")):
            text = (run / name).read_text()
            text = text.replace('"outcome": "blackmail"', '"scale": ["harmful", "not harmful"], "outcome": "harmful"')
            text = text.replace('"outcome": "routine"', '"scale": ["harmful", "not harmful"], "outcome": "not harmful"')
            (run / name).write_text(text.replace("{", '{"event": "harmful", ', 1) if known else text)
    moved, _ = effects({run.name: read_run(run) for run in pair}).table.rows
    assert moved[2:5] == ("+40", "+0", "\u221240")


def test_arms_are_the_same_by_name_or_by_all_but_their_sites():
    here = [{"name": name} for name in ("cap -0.5 z @0,1", "add +1 norm @2", "add +1 norm @3", "ablate +1 fraction @0")]
    there = [{"name": name} for name in ("cap -0.5 z @0,1,2,3", "add +1 norm @3", "add +1 norm @9", "rotate +1 z @0")]
    pairs = [(one["name"], other["name"]) for one, other in same_arms(here, there)]
    assert pairs == [("cap -0.5 z @0,1", "cap -0.5 z @0,1,2,3"), ("add +1 norm @3", "add +1 norm @3")]


def test_a_comparison_reads_the_runs_files(pair, tmp_path):
    before = write_comparison(pair, tmp_path / "a.html").read_text()
    changed = json.loads((pair[1] / "results.json").read_text())
    changed["cells"][0]["blackmail"] |= {"successes": 10, "value": 0.25}
    (pair[1] / "results.json").write_text(json.dumps(changed))
    after = write_comparison(pair, tmp_path / "a.html").read_text()
    assert "\u221225" in Page(after).text and "\u221225" not in Page(before).text
    (pair[1] / "run.json").unlink()
    assert (
        "Without run.json, so with unknown settings: other"
        in Page(write_comparison(pair, tmp_path / "a.html").read_text()).text
    )


def test_a_comparison_refuses_what_it_cannot_compare(pair, tmp_path):
    page = tmp_path / "a.html"
    with pytest.raises(StoreError, match="two or more different ones"):
        write_comparison([pair[0], pair[0]], page)
    twin = tmp_path / "elsewhere" / "demo"
    twin.mkdir(parents=True)
    (twin / "results.json").write_text((pair[1] / "results.json").read_text())
    with pytest.raises(StoreError, match="two folders have one name"):
        write_comparison([pair[0], twin], page)
    found = json.loads((pair[1] / "results.json").read_text()) | {"event": "harmful"}
    for one in found["cells"]:
        one["harmful"] = one["blackmail"]
    (pair[1] / "results.json").write_text(json.dumps(found))
    with pytest.raises(StoreError, match="demo counts blackmail, other counts harmful"):
        write_comparison(pair, page)
    assert not page.exists()


def test_the_command_reports_one_run_or_compares_several(pair, capsys):
    from interp.cli import main

    for words, said, page in (
        ([pair[0]], "The report is", pair[0] / "report.html"),
        (pair, "The comparison is", pair[0].parent / "comparison.html"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["report", *map(str, words)])
        assert stop.value.code == 0 and said in capsys.readouterr().out and page.is_file()
    with pytest.raises(SystemExit) as stop:
        main(["report", str(pair[0]), "--out", "x.html"])
    assert stop.value.code == 1 and "its page is report.html" in capsys.readouterr().err


def test_averages_around_an_event_stand_in_the_report_with_their_test(folder):
    found = locked(scenarios(1), scenarios(2))
    assert found.test is not None
    before = page(folder)
    assert "it has no event_locked.json" in before.text
    (folder / "event_locked.json").write_text(json.dumps({"averages": [found.to_dict()]}))
    after = page(folder)
    assert found.test.sentence[1:] in after.text and "it has no event_locked.json" not in after.text
    assert "data-locked-0" in {attrs.get("id") for attrs, _ in after.scripts}
