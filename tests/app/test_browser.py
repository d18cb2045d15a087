"""The page in a real Chromium, as a visitor meets it; screenshots go to the folder `screenshots/`."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ct_xception_app import cases
from ct_xception_app.app import build_demo, launch
from ct_xception_app.feedback import FeedbackFolder
from ct_xception_app.layout import EXAMPLES, example_name

from ct_xception.explain.budget import Cancelled
from ct_xception.serving.classifier import Classifier
from ct_xception.text import RESEARCH_USE, percent

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")

pytestmark = pytest.mark.browser
SCREENSHOTS = Path(__file__).resolve().parents[2] / "screenshots"
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


@pytest.fixture
def open_page(browser: playwright.Browser, address: str) -> Iterator[OpenPage]:
    """Open the page in a window of a given width and colour scheme; fail on script errors and foreign requests."""
    problems: list[str] = []
    contexts = []

    def note_request(request: playwright.Request) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            problems.append(f"asks {request.url}")

    def open_one(width: int = 1280, scheme: str = "light") -> playwright.Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", note_request)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#answer .waiting")
        page.wait_for_selector(".empty[role]", state="attached")  # the page's own script has run
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
    if page.query_selector("#file input[type=file]") is None:
        agree(page)
    page.set_input_files("#file input[type=file]", list(paths))
    page.wait_for_selector(result)


def pictures(page: playwright.Page) -> list[str]:
    """The addresses of slice and overlay, once both are there."""
    page.wait_for_function("document.querySelectorAll('#viewer img').length === 2")
    return [image.get_attribute("src") or "" for image in page.query_selector_all("#viewer img")]


def changed(page: playwright.Page, before: str, number: int = 1) -> str:
    """The address of a picture of the viewer once it is another than before."""
    found = "([before, number]) => document.querySelectorAll('#viewer img')[number]?.src !== before"
    page.wait_for_function(found, arg=[before, number])
    return pictures(page)[number]


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
    original, heated = pictures(page)
    assert original != heated
    assert "cropped to the body" in page.inner_text("#notes") and "evidence lies in the body" in page.inner_text(
        "#evidence"
    )
    assert page.is_disabled("#centre input[type=range]") and "its window is fixed" in page.inner_text("#window")
    page.screenshot(path=SCREENSHOTS / "desktop-light.png")


def test_class_method_and_opacity_redraw_the_overlay(open_page: OpenPage, sample_slices: list[Path]) -> None:
    page = open_page()
    upload(page, sample_slices[0])
    original, heated = pictures(page)
    page.fill("#opacity input[type=number]", "0.2")
    faint = changed(page, heated)
    other = page.query_selector_all(".verdict > table th")[-1].inner_text()
    choose(page, "#target", other)
    page.wait_for_function("other => document.querySelector('#legend').innerText.includes(other)", arg=other)
    second = changed(page, faint)
    choose(page, "#method", "SmoothGrad")
    page.wait_for_function("document.querySelector('#legend').innerText.includes('SmoothGrad')")
    changed(page, second)
    assert pictures(page)[0] == original and other in page.inner_text("#legend")
    page.click("#view label:has-text('swipe')")
    page.wait_for_function("document.querySelectorAll('#swipe img').length === 2")
    assert page.query_selector("#viewer img") is None


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
    pictures(page)
    page.click("#measure")
    page.wait_for_selector("#status progress[value='25']")
    page.click("#stop")
    page.wait_for_function("document.querySelector('#status').innerText.startsWith('Stopped')")
    assert begun.is_set() and page.query_selector("#answer .verdict") and page.is_disabled("#stop")


def test_an_example_answers_at_a_click_without_a_word(open_page: OpenPage) -> None:
    page = open_page(scheme="dark")
    page.click("#examples button.thumbnail-item")
    page.wait_for_selector(".verdict")
    assert pictures(page)
    assert page.get_attribute("#examples img", "alt") == example_name(EXAMPLES[0])
    page.screenshot(path=SCREENSHOTS / "desktop-dark.png")


def test_a_bad_file_is_refused_in_a_sentence_and_the_page_goes_on(
    open_page: OpenPage, sample_slices: list[Path], tmp_path: Path
) -> None:
    page = open_page()
    bad = tmp_path / "notes.png"
    bad.write_bytes(b"no picture")
    upload(page, bad, result="#answer .refusal")
    assert "notes.png: neither DICOM nor one of PNG, JPEG, TIFF, BMP" in page.inner_text("#answer")
    assert "Traceback" not in page.inner_text("body") and not page.query_selector(".toast-body.error")
    page.screenshot(path=SCREENSHOTS / "refused.png")
    page.click("#file button[aria-label='Clear'], #file button[aria-label='Remove this file']")
    page.wait_for_selector("#answer .waiting")
    upload(page, sample_slices[1])


def test_a_slider_moves_the_window_and_the_answer_follows(open_page: OpenPage, sample_series: list[Path]) -> None:
    page = open_page()
    upload(page, sample_series[0])
    assert "window 40/400 HU" in page.inner_text("#viewer")
    before = pictures(page)[0]
    page.focus("#centre input[type=range]")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    changed(page, before, 0)
    page.wait_for_function("document.querySelector('#viewer').innerText.includes('window 60/400 HU')")
    page.wait_for_function("!document.querySelector('#viewer').innerText.includes('not yet')")
    assert page.input_value("#preset input") == "by the sliders"
    choose(page, "#preset", "bone")
    page.wait_for_function("document.querySelector('#viewer').innerText.includes('window 400/1800 HU')")
    page.wait_for_function("document.querySelector('#width input[type=number]').value === '1800'")


def test_a_zipped_series_is_answered_scrolled_and_downloaded(
    open_page: OpenPage, zipped_series: Path, tmp_path: Path
) -> None:
    page = open_page(1400)
    upload(page, zipped_series, result="#together .verdict")
    assert "over n = 5 of 5 slices, by position" in page.inner_text("#together")
    assert "over 5 slices" in (page.get_attribute("#curve svg", "aria-label") or "")
    page.fill("#number input[type=number]", "1")
    page.wait_for_function("document.querySelector('#answer').innerText.includes('Slice 1 of 5')")
    pictures(page)
    page.screenshot(path=SCREENSHOTS / "series.png", full_page=True)
    page.click("#downloads > button")
    page.click("#make-files")
    page.wait_for_selector("#files a")
    with page.expect_download() as waited:
        page.click("#files a[download$='.json']")
    waited.value.save_as(tmp_path / "answer.json")
    value = json.loads((tmp_path / "answer.json").read_text())
    assert value["notice"] == RESEARCH_USE and len(value["series"]["each"]) == 5 and value["weights_sha256"]


def test_of_two_series_another_can_be_chosen(
    open_page: OpenPage, zipped_series: Path, sample_slices: list[Path], tmp_path: Path
) -> None:
    page = open_page()
    upload(page, zipped_series, *sample_slices[:2], result="#together .verdict")
    assert page.inner_text("#together h2") == "Series 1" and page.is_checked("#which label:nth-of-type(1) input")
    page.click("#which label:has-text('series 2: 2 slices of 112 × 96 pixels')")
    page.wait_for_function("document.querySelector('#together').innerText.includes('n = 2 of 2')")
    assert page.inner_text("#together h2") == "Series 2" and violations(page) == []
    page.click("#examples button.thumbnail-item")
    page.wait_for_function("!document.querySelector('#which') && document.querySelector('#answer .verdict')")


def test_what_works_and_its_stop_stay_in_sight(open_page: OpenPage, sample_slices: list[Path]) -> None:
    page = open_page(390)
    upload(page, sample_slices[0])
    pictures(page)
    page.locator("#measure").scroll_into_view_if_needed()
    box = page.query_selector("#stop").bounding_box()
    assert page.evaluate("window.scrollY") > 900 and 0 <= box["y"] < 60


def test_a_review_is_kept(open_page: OpenPage, sample_slices: list[Path], reviews: FeedbackFolder) -> None:
    page = open_page()
    upload(page, sample_slices[0])
    pictures(page)
    page.click("#review > button")
    page.click("#review-right label:has-text('wrong')")
    choose(page, "#review-label", "none of these")
    page.click("#review-save")
    page.wait_for_function("document.querySelector('#review-said').innerText.includes('Kept: wrong, none of these')")
    assert len(list((reviews.folder / "data").iterdir())) == 1


def test_two_visitors_do_not_share_a_slice(open_page: OpenPage, sample_slices: list[Path]) -> None:
    first, second = open_page(), open_page()
    upload(first, sample_slices[0])
    assert second.query_selector(".verdict") is None
    upload(second, sample_slices[1])
    mine, theirs = pictures(first), pictures(second)
    assert not set(mine) & set(theirs)
    first.fill("#opacity input[type=number]", "0.1")
    changed(first, mine[1])
    assert pictures(first)[0] == mine[0] and pictures(second) == theirs


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1400, "light")])
def test_the_page_fits_is_accessible_and_its_notice_stays_in_sight(
    open_page: OpenPage, zipped_series: Path, width: int, scheme: str
) -> None:
    page = open_page(width, scheme)
    assert violations(page) == []
    upload(page, zipped_series, result="#together .verdict")
    pictures(page)
    page.click("#downloads > button")
    page.click("#review > button")
    page.wait_for_selector("#review-save")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(page) == []
    for place in (0, 10_000):
        page.evaluate(f"window.scrollTo(0, {place})")
        box = page.query_selector("#notice p").bounding_box()
        assert page.inner_text("#notice") == RESEARCH_USE
        assert 0 <= box["y"] and box["y"] + box["height"] <= 900 and box["width"] >= width - 20
    page.screenshot(path=SCREENSHOTS / f"{width}-{scheme}.png", full_page=True)
    page.click("button[role=tab]:has-text('About')")
    page.wait_for_selector("#about h2")
    assert violations(page) == [] and page.evaluate("document.documentElement.scrollWidth") <= width
