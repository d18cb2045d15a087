"""The page in a real Chromium, as a visitor meets it; screenshots go to the folder `screenshots/`."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ct_xception_app.app import build_demo, launch
from ct_xception_app.layout import EXAMPLES, example_name
from PIL import Image

from ct_xception.serving.predictor import Classifier
from ct_xception.wording import RESEARCH_USE, percent

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = pytest.mark.browser
CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCREENSHOTS = Path(__file__).resolve().parents[2] / "screenshots"
PATIENCE = 60_000  # milliseconds; a loaded machine is slow, not wrong
OpenPage = Callable[..., "playwright.Page"]


@pytest.fixture(scope="module")
def address(tiny_checkpoint: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    demo = build_demo(tiny_checkpoint)
    launch(demo, port=port, wait=False)
    yield f"http://127.0.0.1:{port}/"
    demo.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[playwright.Browser]:
    if not CHROMIUM.is_file():
        pytest.skip(f"there is no Chromium at {CHROMIUM} (set the variable CHROMIUM)")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()


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
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not problems


def upload(page: playwright.Page, path: Path, result: str = ".verdict") -> None:
    page.set_input_files("#file input[type=file]", path)
    page.wait_for_selector(f"#answer {result}")


def pictures(page: playwright.Page) -> list[str]:
    """The addresses of slice and overlay, once both are there."""
    page.wait_for_function("document.querySelectorAll('#viewer img').length === 2")
    return [image.get_attribute("src") or "" for image in page.query_selector_all("#viewer img")]


def test_a_visitor_uploads_a_slice_and_reads_the_classifier_s_answer(
    open_page: OpenPage, tiny_checkpoint: Path, sample_slices: list[Path]
) -> None:
    page = open_page()
    upload(page, sample_slices[2])
    answer = Classifier.from_pretrained(tiny_checkpoint)(sample_slices[2])
    assert page.inner_text(".verdict .first span") == answer.label
    rows = [row.inner_text().split("\n") for row in page.query_selector_all(".verdict tr")]
    assert [row[0].strip() for row in rows] == list(answer.probabilities)
    assert [row[-1].strip() for row in rows] == [percent(value) for value in answer.probabilities.values()]
    original, heated = pictures(page)
    assert original != heated
    assert "cropped to the body" in page.inner_text("#notes")
    page.screenshot(path=SCREENSHOTS / "desktop-light.png")


def test_opacity_and_class_redraw_the_overlay(open_page: OpenPage, sample_slices: list[Path]) -> None:
    page = open_page()
    upload(page, sample_slices[0])
    original, heated = pictures(page)
    page.fill("#opacity input[type=number]", "0.2")
    page.wait_for_function("before => document.querySelectorAll('#viewer img')[1].src !== before", arg=heated)
    faint = pictures(page)[1]
    other = page.query_selector_all(".verdict th")[-1].inner_text()
    page.click("#target input")
    page.click(f"#target [role=option]:has-text('{other}')")
    page.wait_for_function("other => document.querySelector('#legend').innerText.includes(other)", arg=other)
    page.wait_for_function("before => document.querySelectorAll('#viewer img')[1].src !== before", arg=faint)
    assert pictures(page)[0] == original


def test_an_example_answers_at_a_click(open_page: OpenPage) -> None:
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
    upload(page, bad, ".refusal")
    assert "notes.png: neither DICOM nor one of PNG, JPEG, TIFF, BMP" in page.inner_text("#answer")
    assert "Traceback" not in page.inner_text("body") and not page.query_selector(".toast-body.error")
    page.screenshot(path=SCREENSHOTS / "refused.png")
    page.click("#file button[aria-label='Clear'], #file button[aria-label='Remove this file']")
    page.wait_for_selector("#answer .waiting")
    upload(page, sample_slices[1])


def test_a_window_is_chosen_for_a_deep_picture(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    deep = tmp_path / "deep.png"
    Image.linear_gradient("L").convert("I").point(lambda value: value * 250).convert("I;16").save(deep)
    upload(page, deep)
    assert "window 32768/65536 in stored units" in page.inner_text("#viewer")
    page.click("#window input")
    page.click("#window [role=option]:has-text('bone')")
    page.wait_for_function("document.querySelector('#viewer').innerText.includes('400/1800')")


def test_two_visitors_do_not_share_a_slice(open_page: OpenPage, sample_slices: list[Path]) -> None:
    first, second = open_page(), open_page()
    upload(first, sample_slices[0])
    assert second.query_selector(".verdict") is None
    upload(second, sample_slices[1])
    mine, theirs = pictures(first), pictures(second)
    assert not set(mine) & set(theirs)
    first.fill("#opacity input[type=number]", "0.1")
    first.wait_for_function("before => document.querySelectorAll('#viewer img')[1].src !== before", arg=mine[1])
    assert pictures(first)[0] == mine[0] and pictures(second) == theirs


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "light")])
def test_the_page_fits_and_its_notice_stays_in_sight(
    open_page: OpenPage, sample_slices: list[Path], width: int, scheme: str
) -> None:
    page = open_page(width, scheme)
    upload(page, sample_slices[3])
    pictures(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for place in (0, 10_000):
        page.evaluate(f"window.scrollTo(0, {place})")
        box = page.query_selector("#notice p").bounding_box()
        assert page.inner_text("#notice") == RESEARCH_USE
        assert 0 <= box["y"] and box["y"] + box["height"] <= 900 and box["width"] >= width - 20
    page.screenshot(path=SCREENSHOTS / f"{width}-{scheme}.png", full_page=True)
