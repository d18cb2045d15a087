"""Take the README's picture of the page: an example's answer, its slice in the viewer, and its heat map.

python -m tests.app.picture runs/phantom/model [--example squamous_cell_carcinoma_series] [--output docs/demo.png]
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from ct_xception_app.app import build_demo, launch
from ct_xception_app.layout import EXAMPLES, FIRST
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.app.conftest import CHROMIUM, FLAGS
from tests.app.test_browser import PATIENCE, ROOT, settled, state

WIDTH, PORT = 1400, 7873
BELOW = 8  # pixels under the legend


def main() -> None:
    """Serve the checkpoint, answer one example, and write the picture."""
    parser = argparse.ArgumentParser(prog="python -m tests.app.picture", description="The README's picture.")
    parser.add_argument("checkpoint")
    parser.add_argument("--example", choices=[path.stem for path in EXAMPLES], default="squamous_cell_carcinoma_series")
    parser.add_argument("--output", type=Path, default=Path("docs/demo.png"))
    options = parser.parse_args()
    number = [path.stem for path in EXAMPLES].index(options.example)
    demo = build_demo(options.checkpoint)
    launch(demo, port=PORT, wait=False)
    with sync_playwright() as driver, driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS) as chromium:
        page = chromium.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{PORT}/")
        page.wait_for_selector("#answer .verdict")
        settled(page)
        taken = take(page, number)
    demo.close()
    # Six bits of each colour, white still white: no eye sees it, and the file is a third smaller.
    picture = Image.open(io.BytesIO(taken)).convert("RGB").point(lambda value: value & 0xFC | value >> 6)
    picture.save(options.output, optimize=True)
    print(f"{options.output}: {options.output.stat().st_size >> 10} KiB")


def take(page: Page, number: int) -> bytes:
    """The page, from its top to its legend, once example `number` is answered and drawn."""
    if EXAMPLES[number] != FIRST:  # which is there already
        before = state(page)["case"]
        page.locator("#examples button.thumbnail-item").nth(number).click()
        page.wait_for_function(f"before => document.querySelector('{ROOT}').dataset.case !== before", arg=before)
        settled(page)
    page.wait_for_function(f"document.querySelector('{ROOT}').dataset.map")
    page.mouse.move(0, 0)
    bottom = page.evaluate("document.querySelector('#legend').getBoundingClientRect().bottom + window.scrollY")
    page.set_viewport_size({"width": WIDTH, "height": round(bottom) + BELOW})
    page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
    page.wait_for_timeout(500)  # the pictures are drawn anew where the window has another size
    return page.screenshot()


if __name__ == "__main__":
    main()
