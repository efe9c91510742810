"""The trace page: what is packed, and the page itself in a headless browser, with transcripts that mean it harm."""

import json
import re
import shutil
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
from test_report import results

from interp.errors import TranscriptError
from interp.report import named_events, write_comparison, write_report, write_traces
from interp.report.assets import own
from interp.report.probes import write_index
from interp.report.viewer import data, pack, packed_rows
from interp.tokens import Span
from interp.traces import PERCENTILES, TokenTrace, running_mean

ROOT = Path(__file__).parents[1]
SHOTS = ROOT / "runs" / "screenshots"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = (
    "<script>window.hit=1</script>",
    "</script><script>window.hit=2</script>",
    "<img src=x onerror=window.hit=3>",
    "<!--<script>",
    "\u202egnp.exe",
    "\u2066iso\u2028late",
    "{{ 7*7 }} &lt;b&gt; ]]>",
    "<a href='javascript:window.hit=4'>x</a>",
)


def made(pieces, *, name="made", label="blackmail", names=("fear", "calm"), layers=2, spans=None, seed=0, peak=None):
    """A trace with noise for scores, and 9 at the token `peak` in the first direction at the first layer."""
    rng, n = np.random.default_rng(seed), len(pieces)
    keys = tuple(f"{one}@L{layer}.resid_post" for one in names for layer in range(layers))
    scores = rng.normal(size=(len(keys), n)).astype(np.float32)
    scores[:, 0] = np.nan
    if peak is not None:
        scores[0, peak] = 9.0
    band = np.abs(rng.normal(2, 0.1, size=(layers, n))).astype(np.float32)
    quantiles = np.sort(rng.normal(size=(len(keys), len(PERCENTILES))).astype(np.float32), axis=1)
    scale = {"transcripts": 30, "tokens": 900, "scale": {key: {"mean": 2.0, "sd": 0.5} for key in keys}}
    sites = tuple(f"L{layer}.resid_post" for layer in range(layers))
    spans = (
        spans if spans is not None else (Span("role", "user", 0, 1, n // 2), Span("role", "assistant", 1, n // 2, n))
    )
    shown = (tuple(pieces), spans, n // 2, keys, scores, sites, -band, band, 50, scale)
    return TokenTrace(name, "g", label, *shown, quantiles=quantiles)


def mail(first="Ann", before=0, label="blackmail", seed=0):
    """A small agent transcript whose action begins at another token where `before` words come first."""
    said = ["<bos>", "Be", " good", ".", "<email>\n", "From: ", first, "\nSubject: ", "Notice\n", "You go", ".\n"]
    said += ["</email>", "<user/>"]
    pad = ["<scratchpad>", *[" hm"] * (before + 60), "</scratchpad>\n"]
    act = ["<tool_use:email>\n", "to: ", "Bo\n", "pay", "</tool_use:email>"]
    pieces, start = [*said, *pad, *act], len(said)
    spans = (
        Span("role", "system", 0, 1, 4),
        Span("role", "user", 1, 4, 12),
        Span("segment", "email:1", 1, 4, 12),
        Span("role", "assistant", 2, start, len(pieces)),
        Span("segment", "scratchpad", 2, start, start + len(pad)),
        Span("segment", "tool_call:1", 2, start + len(pad), len(pieces)),
    )
    return made(pieces, name=f"case:{label}", label=label, spans=spans, seed=seed, peak=20)


# ---- what is packed


def test_packed_scores_are_right_to_half_a_step_and_nothing_undefined_becomes_a_number():
    rows = np.random.default_rng(0).normal(0, [[0.01], [3], [900]], size=(3, 50)).astype(np.float32)
    rows[:, 0] = np.nan
    found = packed_rows(np.concatenate([rows, np.zeros((1, 50), np.float32), np.full((1, 50), np.nan, np.float32)]))
    whole = np.frombuffer(b64decode(found["data"]), "<i2").reshape(5, 50)
    steps = np.asarray(found["steps"])[:, None]
    assert (whole[:3, 0] == -32768).all() and (whole[4] == -32768).all() and (whole[3] == 0).all()
    assert (np.abs(whole[:3, 1:] * steps[:3] - rows[:, 1:]) <= steps[:3] / 2 * 1.001).all()
    assert np.allclose(steps[:3, 0], np.nanmax(np.abs(rows), axis=1) / 32767)


def test_two_thousand_tokens_at_twelve_layers_in_eight_directions_fit_three_megabytes(tmp_path):
    names = tuple(f"emotion:{index}" for index in range(8))
    large = made(["word "] * 2000, names=names, layers=12)
    path = write_traces([large], tmp_path / "large.html")
    size = path.stat().st_size
    stated = float(re.search(r"measured: (\d\.\d\d) MB", (ROOT / "docs" / "traces.md").read_text()).group(1))
    assert size < 3e6 and abs(size / 1e6 - stated) < 0.02, f"{size} bytes: correct docs/traces.md"
    assert packed_rows(large.scores)["columns"] == 2000 and write_traces([large], path).stat().st_size == size


def test_blocks_are_labelled_by_what_they_are_and_an_email_by_its_header():
    found = pack([mail()])["traces"][0]
    labels = [label for _, _, kind, label, *_ in found["blocks"] if kind]
    assert labels == ["E-mail 1, from Ann, Notice", "Scratchpad", "Action 1, e-mail to Bo"]
    email = next(block for block in found["blocks"] if block[2] == "email")
    assert email[4:] == [4, 12, 9], "its header ends after the subject's line"
    assert found["events"] == [["first token of the action", 75], ["decision", 76]]


def test_traces_share_their_reference_and_keep_every_piece():
    found = pack([mail(), mail(label="routine")])
    assert len(found["references"]) == 1 and [t["reference"] for t in found["traces"]] == [0, 0]
    assert found["traces"][0]["pieces"] == list(mail().pieces)
    assert len(pack([mail(), mail(seed=1)])["references"]) == 2, "control: other quantiles are another reference"


def test_no_markup_can_begin_or_end_in_the_data():
    shown = str(data([made(("", *HOSTILE), name=HOSTILE[1], label=HOSTILE[2])]))
    assert not set("<>&'\u2028\u2029\u202e") & set(shown)
    assert json.loads(shown)["traces"][0]["pieces"][1] == HOSTILE[0]
    assert "⟨U+202E⟩gnp.exe" in json.loads(shown)["traces"][0]["pieces"]


def test_events_are_named_on_the_command_line_and_bad_ones_are_refused():
    assert named_events(["paid=at:pay"])["paid"] == "at:pay"
    assert pack([mail()], events=named_events(["paid=at:pay"]))["traces"][0]["events"][-1] == ["paid", 78]
    for wrong, sentence in (
        ("paid", "no NAME=RULE"),
        ("paid=", "no NAME=RULE"),
        ("paid=at:", "at:"),
        ("paid=regex:(", "does not compile"),
    ):
        with pytest.raises(TranscriptError, match=sentence):
            named_events([wrong])
    with pytest.raises(TranscriptError, match="none were given"):
        write_traces([], Path("none.html"))


# ---- the page in a browser


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on this machine: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[dev]'")
    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


SETTLED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))"


@pytest.fixture
def visit(browser):
    """Opens a page from disk; afterwards nothing was asked of any network, and nothing was complained about."""
    said, asked, pages = [], [], []

    def open_page(path, *, scheme="light", width=1300, height=950):
        page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.evaluate(SETTLED)  # lines are drawn once more when their width is known
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert said == [] and [url for url in asked if not url.startswith("file:")] == []
    assert len(asked) == len(pages)


@pytest.fixture
def show(visit, tmp_path):
    """Opens a page of traces."""

    def open_traces(traces, *, scheme="light", width=1300, height=950, **more):
        path = write_traces(traces, tmp_path / "trace.html", **more)
        return visit(path, scheme=scheme, width=width, height=height)

    return open_traces


def token(page, position, pane=0):
    return page.locator(".v-text").nth(pane).locator(f'[data-p="{position}"]')


def slide(page, name, value):
    page.locator(f'[data-c="{name}"]').evaluate(
        "(one, value) => { one.value = value; one.dispatchEvent(new Event('input')); }", value
    )


def test_hovering_says_token_position_z_percentile_and_top_directions(show):
    trace = mail()
    page = show([trace])
    token(page, 20).hover()
    card, percent = page.locator(".v-card"), trace.percentiles()[0, 20]
    assert card.is_visible()
    text = card.inner_text()
    assert "hm" in text and "token 20, fear at L0.resid_post" in text and "z +9.00" in text
    assert f"above {percent:.2f} % of benign tokens" in text and "above the random band" in text
    assert [row.split()[0] for row in text.splitlines()[-2:]] == ["fear", "calm"], "strongest first"
    assert "token 20, Scratchpad" in page.locator(".v-readout").inner_text()
    assert {"v-8", "v-up", "v-here"} <= set(token(page, 20).get_attribute("class").split())
    assert "v-8" not in token(page, 21).get_attribute("class").split(), "control: its neighbour is calm"


def test_the_layer_slider_the_direction_menu_and_the_unit_change_text_and_lines(show):
    page = show([mail()])
    before = [page.locator(".s-main").get_attribute("d"), token(page, 20).get_attribute("class")]
    slide(page, "site", 1)
    assert page.locator('[data-o="site"]').inner_text() == "L1.resid_post"
    after = [page.locator(".s-main").get_attribute("d"), token(page, 20).get_attribute("class")]
    assert before[0] != after[0] and before[1] != after[1]
    assert page.locator(".v-plot .s-line").count() == page.locator(".v-legend .s-line").count() == 1
    page.locator(".v-menu summary").click()
    page.get_by_role("checkbox", name="calm").check()
    lines = page.locator(".v-plot .s-line")
    assert lines.count() == 2 and page.locator(".v-plot .s-raw").count() == 2
    dashes = [lines.nth(index).get_attribute("stroke-dasharray") for index in range(2)]
    assert dashes[0] != dashes[1], "lines differ by dash too"
    page.get_by_role("radio", name="calm colours the text").check()
    assert "calm at L1.resid_post" in page.locator(".v-key").inner_text()
    page.keyboard.press("Escape")
    page.locator('[data-c="unit"]').select_option("raw")
    assert "model's own units" in page.locator("figcaption").inner_text()
    slide(page, "window", 1)
    assert "Lines are the scores themselves" in page.locator("figcaption").inner_text()


def test_the_page_averages_and_ranks_as_python_does(browser):
    values = np.random.default_rng(3).normal(size=(1, 40)).astype(np.float32)
    values[0, [0, 7]] = np.nan
    known = np.sort(np.random.default_rng(4).normal(size=len(PERCENTILES)))
    page = browser.new_page()
    call = own("viewer_data.js") + "\nreturn [Array.from(smoothed(new Float32Array(values), window)), zs.map(ask)];"
    code = f"([values, window, zs, known, percents]) => {{ const ask = (z) => percentile(z, known, percents); {call} }}"
    zs = [-9.0, *np.linspace(-2, 2, 9).tolist(), float(known[0]), float(known[-1]), 9.0]
    for window in (1, 2, 5, 12, 60):
        sent = [[None if np.isnan(v) else float(v) for v in values[0]], window, zs, known.tolist(), list(PERCENTILES)]
        sent[0] = [float("nan") if v is None else v for v in sent[0]]
        means, ranks = page.evaluate(code, sent)
        assert np.allclose(means, running_mean(values, window)[0], atol=1e-6, equal_nan=True)
        assert np.allclose(ranks, np.interp(zs, known, PERCENTILES), atol=1e-9)
    page.close()


def test_brushing_the_lines_scrolls_the_text_and_scrolling_the_text_moves_the_frame(show):
    page = show([made([f"word{index}\n" for index in range(300)])])
    box, plot = page.locator(".v-text"), page.locator(".v-plot svg")
    place = plot.bounding_box()
    x = lambda share: place["x"] + 46 + share * (place["width"] - 56)  # noqa: E731
    middle = place["y"] + place["height"] / 2
    assert box.evaluate("one => one.scrollTop") == 0
    page.mouse.move(x(0.5), middle)
    page.mouse.down()
    page.mouse.move(x(0.6), middle, steps=4)
    page.mouse.up()
    page.wait_for_function("() => document.querySelector('.v-text').scrollTop > 500")
    assert page.locator(".s-brush").count() == 1 and token(page, 155).is_visible()
    chosen = page.locator(".v-in").evaluate_all("all => all.map((one) => Number(one.dataset.p))")
    assert chosen[0] in (149, 150, 151) and chosen[-1] in (179, 180, 181) and len(chosen) == chosen[-1] - chosen[0] + 1
    frame = float(page.locator(".s-view").get_attribute("x"))
    box.evaluate("one => { one.scrollTop = 0; }")
    page.wait_for_function(
        "before => Number(document.querySelector('.s-view').getAttribute('x')) < before - 100", arg=frame
    )
    page.get_by_role("button", name="Zoom to selection").click()
    assert page.locator(".v-plot text", has_text="200").count() == 0
    page.get_by_role("button", name="Show all").click()
    assert page.locator(".v-plot text", has_text="200").count() == 1 and page.locator(".s-brush").count() == 0


def test_the_keyboard_alone_reaches_every_token_and_every_control(show):
    page = show([mail(), mail(label="routine")])
    text = page.get_by_role("group", name="Transcript blackmail: case:blackmail")
    text.focus()
    here = lambda: page.locator(".v-text").first.locator(".v-here").get_attribute("data-p")  # noqa: E731
    for key, at in (
        ("Home", "0"),
        ("ArrowRight", "1"),
        ("ArrowDown", "4"),
        ("ArrowUp", "1"),
        ("End", "79"),
        ("ArrowLeft", "78"),
    ):
        page.keyboard.press(key)
        assert here() == at, key
    assert "“pay” token 78, Action 1, e-mail to Bo" in page.get_by_role("status").inner_text()
    assert page.locator(".v-card").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator(".v-card").is_visible()
    plot = page.locator(".v-plot").first
    plot.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    assert here() == "76" and page.locator(".v-in").count() == 2 * 2, "two tokens in either transcript"
    for name in ("Transcript", "Beside it", "Aligned at", "Layer", "Smoothing", "Scale", "Events"):
        assert page.get_by_label(name).count() >= 1, name
    assert page.locator("input, select, button, .v-text, .v-plot").evaluate_all(
        "all => all.every((one) => one.labels?.length || one.ariaLabel || one.textContent.trim())"
    )


def test_a_second_transcript_stands_aligned_at_the_event(show):
    late = mail(before=9, label="routine", seed=2)
    page = show([mail(), late, made(["x"] * 5, name="third", label=None)])
    assert page.locator('[data-c="align"]').input_value() == "decision"
    token(page, 75).hover()
    assert page.locator(".v-text").nth(1).locator(".v-here").get_attribute("data-p") == "84"
    page.locator('[data-c="align"]').select_option("")
    token(page, 75).hover()
    assert page.locator(".v-text").nth(1).locator(".v-here").get_attribute("data-p") == "75", "control: from the start"
    page.locator('[data-c="first"]').select_option("2")
    page.locator('[data-c="second"]').select_option("")
    assert page.locator(".v-text").count() == 1 and page.locator(".v-text [data-p]").count() == 5
    page.locator('[data-c="first"]').select_option("0")
    page.locator('[data-c="event"]').select_option("first token of the action")
    assert page.locator(".v-here").get_attribute("data-p") == "75"


def test_hostile_text_is_text(show):
    trace = made(("", *HOSTILE), name=HOSTILE[1], label=HOSTILE[2], names=(HOSTILE[0], "calm"))
    page = show([trace, mail(first="</script><script>window.hit=5</script>")])
    text = page.locator(".v-text").first.inner_text()
    for piece in HOSTILE[:4]:
        assert piece in text
    assert "⟨U+202E⟩gnp.exe" in text and "\u202e" not in page.content()
    token(page, 3).hover()
    assert page.evaluate("window.hit") is None
    assert page.locator("img, .v-text script, .v-text a").count() == 0
    assert page.locator("script").count() == 2, "the page's own and its data"


def test_the_policy_lets_no_other_script_or_request_through(browser, tmp_path):
    """Control of the tests above: were something to slip in, the page would still not run it."""
    page = browser.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(write_traces([mail()], tmp_path / "trace.html").as_uri())
    page.evaluate(
        """() => {
          const put = (name, changes) => document.body.append(Object.assign(document.createElement(name), changes));
          put("script", { textContent: "window.hit = 1" });
          put("img", { src: "http://127.0.0.1:9/x.png" });
          document.body.insertAdjacentHTML("beforeend", "<button onclick='window.hit=2' id='evil'>x</button>");
          document.querySelector("#evil").click();
        }"""
    )
    page.wait_for_timeout(50)
    assert page.evaluate("window.hit") is None
    assert sum("Content Security Policy" in text for text in said) >= 3
    page.close()


def test_a_megabyte_on_one_line_opens_as_one_token_or_as_many(show):
    page = show([made(["", "a" * 1_000_000, "end"]), made(["", *["word "] * 200_000], name="many", label=None)])
    assert len(token(page, 1).inner_text()) == 400
    page.get_by_role("button", name="show 999,600 more characters of this token").click()
    assert page.locator('[data-p="1"]').first.evaluate("one => one.textContent.length") == 1_000_000
    page.locator('[data-c="first"]').select_option("1")
    page.locator('[data-c="second"]').select_option("")
    assert page.locator("[data-p]").count() < 10_000
    page.locator(".v-text").focus()
    page.keyboard.press("End")
    assert page.locator(".v-here").get_attribute("data-p") == "200000"


def _light(colour):
    parts = [value / 255 for value in colour]
    return sum(
        w * (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4)
        for w, v in zip((0.2126, 0.7152, 0.0722), parts, strict=True)
    )


def _rgba(text):
    found = [float(part) for part in re.findall(r"[\d.]+", text)]
    return found[:3], found[3] if len(found) > 3 else 1.0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stays_readable_on_every_colour(show, scheme):
    page = show([mail()], scheme=scheme)
    ink, below, shades = page.evaluate(
        """() => {
          const box = document.querySelector(".v-assistant");
          const of = (name) => { const one = document.createElement("span"); one.className = name; box.append(one);
            return getComputedStyle(one).backgroundColor; };
          const shades = [1, 2, 3, 4, 5, 6, 7, 8].flatMap((at) => [of(`v-t v-${at}`), of(`v-t v-n v-${at}`)]);
          return [getComputedStyle(box).color, getComputedStyle(box).backgroundColor, shades];
        }"""
    )
    (ink, _), (under, _) = _rgba(ink), _rgba(below)
    ratios = []
    for shade in shades:
        colour, alpha = _rgba(shade)
        mixed = [alpha * over + (1 - alpha) * base for over, base in zip(colour, under, strict=True)]
        high, low = sorted((_light(mixed), _light(ink)), reverse=True)
        ratios.append((high + 0.05) / (low + 0.05))
    assert len(set(shades)) == 16 and min(ratios) >= 4.5, ratios


def test_the_theme_button_overrides_the_system_and_paper_is_white(show):
    page = show([mail()], scheme="dark")
    paper = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
    dark = paper()
    page.get_by_role("button", name="Theme: auto").click()
    light = paper()
    assert _light(_rgba(dark)[0]) < 0.05 < 0.9 < _light(_rgba(light)[0])
    page.get_by_role("button", name="Theme: light").click()
    assert paper() == dark
    page.emulate_media(media="print")
    assert paper() == light
    assert page.locator(".v-text").evaluate("one => one.scrollHeight <= one.clientHeight + 1")
    assert not page.locator(".v-controls").is_visible() and page.locator(".v-plot svg").is_visible()


@pytest.mark.parametrize(
    ("name", "scheme", "width"), [("light", "light", 1300), ("dark", "dark", 1300), ("narrow", "light", 420)]
)
def test_a_picture_of_the_page_is_kept(show, name, scheme, width):
    page = show([mail(), mail(before=5, label="routine", seed=1)], scheme=scheme, width=width)
    SHOTS.mkdir(parents=True, exist_ok=True)
    path = SHOTS / f"viewer-{name}.png"
    page.screenshot(path=path, full_page=True)
    assert path.stat().st_size > 10_000
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out sideways"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_opens_with_its_figures_drawn_and_the_viewer_in_it_works(visit, tmp_path, scheme):
    trace = mail()
    (tmp_path / "results.json").write_text(json.dumps(results()))
    (tmp_path / "traces.json").write_text(json.dumps({"traces": [trace.to_dict()]}))
    page = visit(write_report(tmp_path), scheme=scheme)
    assert page.locator(".plot .main-svg").count() >= 3
    token(page, 20).hover()
    assert "z +9.00" in page.locator(".v-card").inner_text()
    slide(page, "site", 1)
    assert page.locator('[data-o="site"]').inner_text() == "L1.resid_post"
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"report-{scheme}.png", full_page=True)


def test_a_comparison_and_an_index_of_probes_open_without_a_complaint(visit, tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(results()))
    page = visit(write_comparison([tmp_path / "one", tmp_path / "other"], tmp_path / "comparison.html"))
    assert page.locator(".plot .main-svg").count() >= 1
    row = {"name": "b", "model": "m", "state": "failed", "error": "no <b>data</b>"}
    index = visit(write_index(tmp_path, [row, {"name": "a", "model": "m", "state": "done"}]))
    assert "no <b>data</b>" in index.locator("body").inner_text()
    index.locator("th").first.click()
    assert index.locator("tbody tr").first.inner_text().startswith("a"), "sorted by the first column"
