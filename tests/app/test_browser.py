"""The page in a real Chromium, as a visitor meets it; screenshots go to the folder `screenshots/`."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ct_xception_app import cases
from ct_xception_app.app import build_demo, launch
from ct_xception_app.feedback import FeedbackFolder
from ct_xception_app.layout import EXAMPLES, FIRST, example_name

from ct_xception.explain.budget import Cancelled
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.windows import Window
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.decisions import Decision, Decisions
from ct_xception.serving.pooling import Stopped
from ct_xception.text import RESEARCH_USE, percent

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

pytestmark = pytest.mark.browser
SCREENSHOTS = Path(__file__).resolve().parents[2] / "screenshots"
ROOT = "[data-part=root]"  # of the viewer
PATIENCE = 60_000  # milliseconds; a loaded machine is slow, not wrong
OpenPage = Callable[..., "playwright.Page"]


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> FeedbackFolder:
    return FeedbackFolder(tmp_path_factory.mktemp("reviews"))


@pytest.fixture(scope="module")
def address(tiny_checkpoint: Path, reviews: FeedbackFolder) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    demo = build_demo(tiny_checkpoint, reviews=reviews)
    launch(demo, port=port, wait=False)
    yield f"http://127.0.0.1:{port}/"
    demo.close()


@pytest.fixture(scope="module")
def of_two(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page on two models, of which the second answers the contrary of the first."""
    turned = Classifier.from_pretrained(tiny_checkpoint).model
    head = turned.timm_model.get_classifier()
    head.weight.data.neg_()
    head.bias.data.neg_()
    folder = tmp_path_factory.mktemp("turned") / "turned" / "model"
    turned.save_pretrained(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    demo = build_demo(tiny_checkpoint, folder)
    launch(demo, port=port, wait=False)
    yield f"http://127.0.0.1:{port}/"
    demo.close()


@pytest.fixture
def open_page(browser: playwright.Browser, address: str) -> Iterator[OpenPage]:
    """Open the page in a window of a given width and colour scheme.

    Fail on script errors, on what the console calls an error (an answer of 4xx, too), and on foreign requests.
    """
    problems: list[str] = []
    contexts = []

    def open_one(width: int = 1280, scheme: str = "light", address: str = address) -> playwright.Page:
        def note_request(request: playwright.Request) -> None:
            if not request.url.startswith((address, "data:", "blob:")):
                problems.append(f"asks {request.url}")

        def note_message(message: playwright.ConsoleMessage) -> None:
            if message.type == "error":
                problems.append(f"{message.text} ({message.location['url']})")

        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", note_request)
        page.on("console", note_message)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#answer .verdict")  # an example, answered at first sight
        page.wait_for_selector(".empty[role]", state="attached")  # the page's own script has run
        settled(page)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not problems


def agree(page: playwright.Page) -> None:
    """Tick the box that opens the upload, by keyboard."""
    page.focus("#consent input")
    page.keyboard.press("Space")
    page.wait_for_selector("#file input[type=file]", state="attached")


def upload(page: playwright.Page, *paths: Path, result: str = "#answer .verdict") -> None:
    """Give files, and wait for what comes of them: not for the answer that was there before."""
    if page.query_selector("#file input[type=file]") is None:
        agree(page)
    before = state(page).get("case")
    page.set_input_files("#file input[type=file]", list(paths))
    page.wait_for_function(f"before => document.querySelector('{ROOT}').dataset.case !== before", arg=before)
    page.wait_for_selector(result)
    settled(page)


def state(page: playwright.Page) -> dict[str, str]:
    """What the viewer says of itself."""
    return dict(page.evaluate(f"({{...document.querySelector('{ROOT}').dataset}})"))


def shows(page: playwright.Page, **wanted: object) -> None:
    """Wait until the viewer shows this."""
    found = f"wanted => Object.entries(wanted).every(([k, v]) => document.querySelector('{ROOT}').dataset[k] === v)"
    page.wait_for_function(found, arg={key: str(value) for key, value in wanted.items()})


def settled(page: playwright.Page) -> None:
    """Wait until the slice is here and nothing is at work."""
    shows(page, ready="true")
    page.wait_for_function("document.querySelector('#status').innerText.startsWith('Ready')")


def set_range(page: playwright.Page, part: str, value: float) -> None:
    """Move one of the viewer's sliders as a hand does: the value, then the event."""
    move = "(input, value) => { input.value = value; input.dispatchEvent(new Event('input', {bubbles: true})); }"
    page.locator(f"[data-part={part}]").evaluate(move, value)


def grey(page: playwright.Page) -> np.ndarray:
    """The grey levels (H * W) that the viewer draws."""
    return np.array(page.evaluate(f"Array.from(document.querySelector('{ROOT}').viewer.grey())"), np.uint8)


def asked(page: playwright.Page) -> list[str]:
    """A list that grows by what the page asks the server to do from now on."""
    found: list[str] = []
    page.on("request", lambda request: found.append(request.url) if "/queue/join" in request.url else None)
    return found


def choose(page: playwright.Page, control: str, option: str) -> None:
    page.click(f"{control} input")
    page.click(f"{control} [role=option]:has-text('{option}')")


def violations(page: playwright.Page) -> list[str]:
    """What axe-core finds serious or critical on the page as it stands (WCAG 2.1 A and AA, and best practice)."""
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {node['html']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def test_a_visitor_uploads_a_slice_and_reads_the_classifier_s_answer(
    open_page: OpenPage, tiny_checkpoint: Path, sample_slices: list[Path]
) -> None:
    page = open_page()
    assert page.query_selector("#file input[type=file]") is None and "Tick the box" in page.inner_text("#file")
    upload(page, sample_slices[2])
    answer = Classifier.from_pretrained(tiny_checkpoint)(sample_slices[2])
    assert page.inner_text(".verdict .first span") == answer.label
    rows = [row.inner_text().split("\n") for row in page.query_selector_all(".verdict > table tr")]
    assert [row[0].strip() for row in rows] == list(answer.probabilities)
    assert [row[-1].strip() for row in rows] == [percent(value) for value in answer.probabilities.values()]
    shows(page, map=answer.label, window="8-bit picture")
    assert "cropped to the body" in page.inner_text("#notes") and "evidence lies in the body" in page.inner_text(
        "#evidence"
    )
    assert page.is_hidden("[data-part=centre]") and "its window is fixed" in page.inner_text("#viewer")
    page.screenshot(path=SCREENSHOTS / "desktop-light.png")


def test_class_method_and_opacity_redraw_the_overlay(open_page: OpenPage, sample_slices: list[Path]) -> None:
    page = open_page()
    upload(page, sample_slices[0])
    requests = asked(page)
    set_range(page, "opacity", 0.2)
    shows(page, opacity="0.2")
    assert page.inner_text("[data-part=opacity-told]") == "20 %" and requests == []
    page.click("#asking > button")
    other = page.query_selector_all(".verdict > table th")[-1].inner_text()
    choose(page, "#target", other)
    shows(page, map=other)
    choose(page, "#method", "SmoothGrad")
    page.wait_for_function(f"document.querySelector('{ROOT}').dataset.method.includes('SmoothGrad')")
    assert other in page.inner_text("#legend") and state(page)["opacity"] == "0.2" and state(page)["map"] == other
    settled(page)
    page.click("#every-map")
    page.wait_for_function("document.querySelectorAll('#all-maps img').length === 4")


def test_the_evidence_is_measured_and_can_be_stopped(
    open_page: OpenPage, sample_slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    def for_ever(
        explained: object, *, progress: Callable[[float], None], cancelled: Callable[[], bool], **_: str
    ) -> None:
        progress(0.25)
        while not cancelled():
            begun.set()
        raise Cancelled

    monkeypatch.setattr(cases, "evidence", for_ever)
    page = open_page()
    upload(page, sample_slices[0])
    page.click("#measure")
    page.wait_for_selector("#status progress[value='25']")
    page.click("#stop")
    page.wait_for_function("document.querySelector('#status').innerText.startsWith('Stopped')")
    assert begun.is_set() and page.query_selector("#answer .verdict") and page.is_disabled("#stop")


def test_an_example_answers_at_a_click_without_a_word(open_page: OpenPage) -> None:
    page = open_page(scheme="dark")
    assert "Example, drawn by a program: series" in page.inner_text("#answer")
    before = state(page)["case"]
    page.click("#examples button.thumbnail-item")
    page.wait_for_function(f"before => document.querySelector('{ROOT}').dataset.case !== before", arg=before)
    settled(page)
    assert f"Example, drawn by a program: {EXAMPLES[0].name}" in page.inner_text("#answer")
    assert page.get_attribute("#examples img", "alt") == example_name(EXAMPLES[0])
    page.click(f"#history button:has-text('{FIRST.name}')")
    shows(page, case=before)
    page.wait_for_function(
        "document.querySelector('#answer').innerText.includes('Example, drawn by a program: series')"
    )
    page.screenshot(path=SCREENSHOTS / "desktop-dark.png")


def test_a_bad_file_is_refused_in_a_sentence_and_the_page_goes_on(
    open_page: OpenPage, sample_slices: list[Path], tmp_path: Path
) -> None:
    page = open_page()
    bad = tmp_path / "notes.png"
    bad.write_bytes(b"no picture")
    agree(page)
    page.set_input_files("#file input[type=file]", [bad])
    page.wait_for_selector("#answer .refusal")
    assert page.is_hidden("[data-part=stage]")
    assert "notes.png: neither DICOM nor one of PNG, JPEG, TIFF, BMP" in page.inner_text("#answer")
    assert "Traceback" not in page.inner_text("body") and not page.query_selector(".toast-body.error")
    page.screenshot(path=SCREENSHOTS / "refused.png")
    page.click("#file button[aria-label='Clear'], #file button[aria-label='Remove this file']")
    page.wait_for_selector("#answer .waiting")
    upload(page, sample_slices[1])


def test_the_window_is_for_the_eyes_until_the_network_is_told_to_see_it(
    open_page: OpenPage, sample_series: list[Path]
) -> None:
    page = open_page()
    upload(page, sample_series[0])
    shows(page, window="window 40/400 HU")
    before, requests = page.inner_text("#answer"), asked(page)
    page.focus("[data-part=centre]")
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    shows(page, window="window 60/400 HU")
    page.select_option("[data-part=preset]", label="bone 400/1800")
    shows(page, window="window 400/1800 HU")
    assert page.input_value("[data-part=width-number]") == "1800" == page.input_value("[data-part=width]")
    box = page.query_selector("[data-part=slice]").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 60, box["y"] + 130)
    page.mouse.up()
    shows(page, window="window 340/1720 HU")
    assert "For your eyes" in page.inner_text("[data-part=window-note]")
    assert requests == [] and page.inner_text("#answer") == before
    page.check("[data-part=seen]")
    page.wait_for_selector("#answer .doubt")
    settled(page)
    assert "Another window" in page.inner_text("#answer") and "340/1720" in page.inner_text("#answer")
    shows(page, window="window 340/1720 HU")
    page.uncheck("[data-part=seen]")
    page.wait_for_selector("#answer .doubt", state="detached")
    assert page.inner_text("#answer") == before and state(page)["window"] == "window 340/1720 HU"


@pytest.mark.parametrize("window", [(40, 400), (-600, 1500), (7, 1)])
def test_the_viewer_draws_the_reader_s_own_grey_levels(
    open_page: OpenPage, sample_series: list[Path], window: tuple[int, int]
) -> None:
    page = open_page()
    upload(page, sample_series[1])
    for part, value in zip(("centre-number", "width-number"), window, strict=True):
        page.fill(f"[data-part={part}]", str(value))
    shows(page, window=f"window {window[0]}/{window[1]} HU")
    expected = read_slice(sample_series[1], window=Window(*window)).pixels
    assert np.array_equal(grey(page), expected.ravel())


def test_wheel_keys_and_curve_go_through_a_series_and_nothing_jumps_back(
    open_page: OpenPage, zipped_series: Path, tmp_path: Path
) -> None:
    page = open_page(1400)
    upload(page, zipped_series, result="#answer .verdict.series")
    assert "n = 5 of 5 slices, by position" in page.inner_text("#answer")
    assert "over 5 slices" in (page.get_attribute("#curve svg", "aria-label") or "")
    strongest = int(state(page)["index"])
    page.focus("[data-part=stage]")
    page.keyboard.press("Home")
    shows(page, index=0)
    page.wait_for_function("document.querySelector('#detail').innerText.includes('Slice 1 of 5')")
    shows(page, index=0)  # the answer came, and the slice stayed
    page.hover("[data-part=slice]")
    for _ in range(3):
        page.mouse.wheel(0, 120)
    shows(page, index=3)
    page.wait_for_function("document.querySelector('#detail').innerText.includes('Slice 4 of 5')")
    settled(page)
    assert state(page)["index"] == "3" and state(page)["map"] and "Slice 4 of 5" in page.inner_text("#viewer")
    plot = page.locator("#curve svg")
    plot.scroll_into_view_if_needed()
    plot.click(position={"x": plot.bounding_box()["width"] - 12, "y": 40})
    shows(page, index=4)
    assert page.input_value("[data-part=number]") == "5"
    set_range(page, "number", strongest + 1)
    shows(page, index=strongest)
    page.wait_for_function(
        "at => document.querySelector('#detail').innerText.includes(`Slice ${at} of 5`)", arg=strongest + 1
    )
    settled(page)
    page.screenshot(path=SCREENSHOTS / "series.png", full_page=True)
    page.click("#downloads > button")
    page.click("#make-files")
    page.wait_for_selector("#files a")
    with page.expect_download() as waited:
        page.click("#files a[download$='.json']")
    waited.value.save_as(tmp_path / "answer.json")
    value = json.loads((tmp_path / "answer.json").read_text())
    assert value["notice"] == RESEARCH_USE and len(value["series"]["each"]) == 5 and value["weights_sha256"]


def test_zoom_is_linked_and_the_value_under_the_hand_is_in_hu(open_page: OpenPage, sample_series: list[Path]) -> None:
    page = open_page()
    upload(page, sample_series[0])
    values = read_slice(sample_series[0], keep_values=True).values
    assert values is not None
    box = page.query_selector("[data-part=heat]").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    row, column = values.shape[0] // 2, values.shape[1] // 2
    page.wait_for_function("document.querySelector('[data-part=reading]').innerText.includes('HU')")
    said = page.inner_text("[data-part=reading]")
    near = [f"{values[r, c]:.0f} HU" for r in (row - 1, row) for c in (column - 1, column)]
    assert any(one in said for one in near) and "map" in said
    page.click("[data-part=in]")
    shows(page, zoom="1.40")
    page.focus("[data-part=stage]")
    page.keyboard.press("+")
    page.keyboard.press("Shift+ArrowRight")
    place = page.evaluate(f"JSON.parse(JSON.stringify(document.querySelector('{ROOT}').viewer.view))")
    assert place["x"] == pytest.approx(-0.05) and place["y"] == 0
    page.keyboard.press("0")
    shows(page, zoom="1.00")
    page.keyboard.press("m")
    shows(page, opacity="0")


def test_separate_files_are_a_table_in_which_each_can_be_seen(
    open_page: OpenPage, tiny_checkpoint: Path, sample_slices: list[Path], tmp_path: Path
) -> None:
    page = open_page()
    upload(page, *sample_slices[:3], result="#answer .files")
    rows = page.query_selector_all("#answer .listing tbody tr")
    classifier = Classifier.from_pretrained(tiny_checkpoint)
    for row, path in zip(rows, sample_slices[:3], strict=True):
        found = classifier(path)
        assert path.name in row.inner_text() and found.label in row.inner_text()
        assert percent(found.probabilities[found.label]) in row.inner_text()
    page.wait_for_function("document.querySelectorAll('#answer canvas[data-done]').length === 3")
    page.click(f"#answer button:has-text('{sample_slices[2].name}')")
    shows(page, index=2)
    page.wait_for_function("document.querySelector('#detail').innerText.includes('File 3 of 3')")
    assert page.get_attribute("#answer tr.shown", "data-row") == "2" and violations(page) == []
    assert page.inner_text("[data-part=slices]").startswith("File")
    page.set_viewport_size({"width": 390, "height": 900})
    for cell in page.query_selector_all("#answer .listing td"):  # each is read whole, without moving the table
        box = cell.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390 - 16
    assert violations(page) == []
    page.click("#pool")
    page.wait_for_selector("#answer .verdict.series")
    assert "n = 3 of 3 slices" in page.inner_text("#answer")


def test_a_file_that_is_no_slice_has_its_sentence_among_others(
    open_page: OpenPage, sample_slices: list[Path], sample_series: list[Path], zipped_series: Path, tmp_path: Path
) -> None:
    page, words = open_page(), tmp_path / "notes.txt"
    words.write_text("words")
    upload(page, sample_slices[0], sample_series[0], zipped_series, words, result="#answer .verdict.series")
    page.click("#answer button:has-text('separate files')")
    page.wait_for_selector("#answer .files:not(.units) .listing")
    settled(page)
    page.click("#answer .listing button:has-text('notes.txt')")
    told = "document.querySelector('[data-part=caption]').innerText.startsWith('notes.txt: neither DICOM nor one of')"
    page.wait_for_function(told)


def test_an_abstention_is_the_headline(
    open_page: OpenPage, sample_slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever an untrained network answers: a rule that no answer meets."""
    decide = Decisions.decide

    def never_sure(self: Decisions, probabilities: Mapping[str, float]) -> Decision:
        return replace(decide(self, probabilities), abstained=True, abstain_below=1.0)

    monkeypatch.setattr(Decisions, "decide", never_sure)
    page = open_page()
    upload(page, sample_slices[0])
    assert page.inner_text(".verdict .first").startswith("No answer: between ")
    assert page.query_selector(".verdict .first b") is None
    upload(page, *sample_slices[1:3], result="#answer .files")  # which come to the one that is there
    assert page.inner_text("#answer .listing tbody").count("No answer") == 3


def test_stop_ends_a_series_that_is_being_answered(
    open_page: OpenPage, zipped_series: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()

    def for_ever(*_: object, progress: Callable[[float], None], cancelled: Callable[[], bool], **__: object) -> None:
        progress(0.5)
        while not cancelled():
            time.sleep(0.01)
        ended.set()
        raise Stopped

    page = open_page()
    monkeypatch.setattr(cases, "answer_series", for_ever)
    agree(page)
    page.set_input_files("#file input[type=file]", [zipped_series])
    page.wait_for_selector("#status progress[value='50']")
    page.click("#stop")
    page.wait_for_function("document.querySelector('#status').innerText.startsWith('Stopped')")
    assert ended.wait(10) and page.is_disabled("#stop")


def test_of_two_series_another_can_be_chosen(
    open_page: OpenPage, zipped_series: Path, sample_slices: list[Path], tmp_path: Path
) -> None:
    page = open_page()
    upload(page, zipped_series, *sample_slices[:2], result="#answer .verdict.series")
    assert page.inner_text("#answer .units h2") == "2 answers, one for each"
    assert "Series 1" in page.inner_text("#answer .verdict.series h2") and page.query_selector("#which") is None
    assert page.inner_text("#answer tr[aria-current]").startswith("series 1")
    page.click("#answer [data-unit='1']")
    page.wait_for_selector("#answer .files:not(.units) .listing")
    assert page.inner_text("#answer tr[aria-current]").startswith("separate files")
    assert violations(page) == []
    page.click("#examples button.thumbnail-item")
    page.wait_for_function("!document.querySelector('#answer .units') && !document.querySelector('#answer .files')")


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (900, "light")])
def test_two_models_stand_side_by_side_and_their_difference_is_said(
    open_page: OpenPage, of_two: str, zipped_series: Path, sample_slices: list[Path], width: int, scheme: str
) -> None:
    page = open_page(width, scheme, of_two)
    upload(page, zipped_series, *sample_slices[:2], result="#answer .verdict.series")
    page.wait_for_selector("#versus .said.differ")
    assert page.inner_text("#versus .said").startswith("They disagree: ")
    first, second = (side.inner_text() for side in page.query_selector_all("#versus .two > div"))
    assert "turned/model" in second and "turned/model" not in first
    assert [side.count("Evidence for") for side in (first, second)] == [1, 1]
    rows = page.query_selector_all("#versus .listing tbody tr")
    assert len(rows) == 2 and "file by file" in rows[1].inner_text()
    for part in ("#versus .two img", "#versus .listing td"):  # nothing is cut off, or stands beside the page
        boxes = [element.bounding_box() for element in page.query_selector_all(part)]
        assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    assert page.evaluate("document.documentElement.scrollWidth") <= width and violations(page) == []
    page.screenshot(path=SCREENSHOTS / f"two-{width}-{scheme}.png", full_page=True)
    page.click("#answer [data-unit='1']")
    page.wait_for_selector("#answer .files:not(.units) .listing")
    settled(page)
    assert "slice" not in page.inner_text("#versus figcaption") and violations(page) == []
    page.click("button[role=tab]:has-text('About this model')")
    page.wait_for_selector("#about h2")
    assert violations(page) == []


def test_what_works_and_its_stop_stay_in_sight(open_page: OpenPage, sample_slices: list[Path]) -> None:
    page = open_page(390)
    upload(page, sample_slices[0])
    page.locator("#measure").scroll_into_view_if_needed()
    box = page.query_selector("#stop").bounding_box()
    assert page.evaluate("window.scrollY") > 900 and 0 <= box["y"] < 60


def test_a_review_is_kept(open_page: OpenPage, sample_slices: list[Path], reviews: FeedbackFolder) -> None:
    page = open_page()
    upload(page, sample_slices[0])
    page.click("#review > button")
    page.click("#review-right label:has-text('wrong')")
    choose(page, "#review-label", "none of these")
    page.click("#review-save")
    page.wait_for_function("document.querySelector('#review-said').innerText.includes('Kept: wrong, none of these')")
    assert len(list((reviews.folder / "data").iterdir())) == 1


def test_two_visitors_do_not_share_a_slice(open_page: OpenPage, sample_slices: list[Path]) -> None:
    first, second = open_page(), open_page()
    upload(first, sample_slices[0])
    assert "Example, drawn by a program" in second.inner_text("#answer")
    upload(second, sample_slices[1])
    mine, theirs = state(first)["case"], state(second)["case"]
    assert mine != theirs and not np.array_equal(grey(first), grey(second))
    assert first.request.get(f"{first.url}slices/{mine}/0").ok
    assert first.request.get(f"{first.url}slices/{'0' * 32}/0").status == 404


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1400, "light")])
def test_the_page_fits_is_accessible_and_its_notice_stays_in_sight(
    open_page: OpenPage, zipped_series: Path, width: int, scheme: str
) -> None:
    page = open_page(width, scheme)
    assert violations(page) == []
    upload(page, zipped_series, result="#answer .verdict.series")
    page.click("#downloads > button")
    page.click("#review > button")
    page.wait_for_selector("#review-save")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page) == []
    for place in (0, 10_000):
        page.evaluate(f"window.scrollTo(0, {place})")
        box = page.query_selector("#notice p").bounding_box()
        assert page.inner_text("#notice") == RESEARCH_USE
        assert 0 <= box["y"] and box["y"] + box["height"] <= 900
    page.screenshot(path=SCREENSHOTS / f"{width}-{scheme}.png", full_page=True)
    page.click("button[role=tab]:has-text('About')")
    page.wait_for_selector("#about h2")
    assert violations(page) == [] and page.evaluate("document.documentElement.scrollWidth") <= width
