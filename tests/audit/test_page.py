"""audit.html: whole in one file, escaped, and legible on any screen."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ct_xception.audit.audit import Audit, judge, write_audit
from ct_xception.audit.findings import Finding
from ct_xception.audit.histogram import histogram_of
from ct_xception.audit.page import ADVICE, audit_page
from ct_xception.audit.survey import survey_corpus
from ct_xception.corpus.load import Corpus
from tests.audit.surveys import make_survey, make_twins

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def small_audit(tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """An audit of twelve pictures, two of them one picture in train and test, with a name that is markup."""
    from PIL import Image

    from ct_xception.corpus.load import load_corpus

    folder, rng = tmp_path_factory.mktemp("pages") / "corpus", np.random.default_rng(0)
    for split, label in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")):
        (folder / split / label).mkdir(parents=True)
        for index in range(3):
            pixels = rng.integers(0, 256, (120, 100, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / split / label / f"{index}.png")
    shutil.copy(folder / "train" / "a" / "0.png", folder / "test" / "a" / "<b>bold & co.png")
    corpus: Corpus = load_corpus(folder)
    survey = survey_corpus(corpus.dataset, progress=False)
    return judge(corpus, survey, make_twins(survey, near=[(1, 8, 0.99)]))


class Page(HTMLParser):
    """Everything that a browser would fetch, and the tags that were left open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.images = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.fetched += [str(given[key]) for key in ("src", "href") if key in given]
        self.images += tag == "img"
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_fetches_nothing_and_is_well_formed(small_audit: Audit) -> None:
    text = audit_page(small_audit)
    page = Page(text)
    assert page.open == []
    assert page.images >= 4
    assert all(address.startswith(("data:image/", "#finding")) for address in page.fetched)
    assert "url(" not in text and "@import" not in text and "<script" not in text


def test_names_are_escaped(small_audit: Audit) -> None:
    text = audit_page(small_audit)
    assert "&lt;b&gt;bold &amp; co.png" in text
    assert "<b>bold" not in text


def test_every_finding_has_its_section_and_its_link(small_audit: Audit) -> None:
    text = audit_page(small_audit)
    for number, finding in enumerate(small_audit.findings, 1):
        assert f'id="finding-{number}"' in text and f'href="#finding-{number}"' in text
        title = finding.title.replace("'", "&#39;").replace("&", "&amp;") if "'" not in finding.title else None
        assert title is None or title in text


def test_what_gives_a_class_away_is_drawn_on_one_scale() -> None:
    """Ten dark images of one class, thirty bright ones of the other, and one more that was not read."""
    survey = make_survey(
        ["train"] * 41,
        [0] * 10 + [1] * 31,
        columns={"statistics": {"mean": [10.0] * 10 + [50.0] * 20 + [110.0] * 10 + [0.0]}},
        failed={"train/normal/40.png": "damaged"},
    )
    separator = {
        "attribute": "mean",
        "name": "mean grey level",
        "threshold": 30.0,
        "above": False,
        "hit": 1,
        "alarm": 0,
    }
    told = {"family": "grey_statistics", "strongest": "cancer", "separators": {"cancer": separator}}
    drawn = histogram_of(Finding("shortcut_grey_statistics", "critical", "", 40, 40, (), {"figures": told}), survey)
    assert drawn is not None
    assert (drawn.low, drawn.high, drawn.said) == ("10", "110", "Below 30 lie 100 % of cancer and 0 % of the rest.")
    own, rest = drawn.rows
    assert (own.n, own.heights) == (10, [1.0] + [0.0] * 23)
    assert (rest.n, [round(height, 1) for height in rest.heights if height]) == (30, [1.0, 0.5])


def test_advice_that_findings_share_stands_once(small_audit: Audit) -> None:
    text = audit_page(small_audit)
    assert all(text.count(why) <= 1 for why, _ in ADVICE.values())
    assert sum(finding.kind.startswith("foreign") for finding in small_audit.findings) > 1  # which do share it


def test_a_leak_is_shown_side_by_side(small_audit: Audit) -> None:
    (leak,) = [one for one in small_audit.findings if one.kind == "leak_exact"]
    section = audit_page(small_audit).split(f'id="finding-{small_audit.findings.index(leak) + 1}"')[1]
    pair = section.split('class="pair"')[1].split("</div>")[0]
    assert len(re.findall("<img", pair)) == 2
    assert "· test" in pair and "· train" in pair


def test_the_page_is_written_beside_the_json(small_audit: Audit, tmp_path: Path) -> None:
    write_audit(small_audit, tmp_path / "new" / "audit")
    assert sorted(path.name for path in (tmp_path / "new" / "audit").iterdir()) == ["audit.html", "audit.json"]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_the_page_fits_its_screen_offline(small_audit: Audit, tmp_path: Path, width: int, scheme: str) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    write_audit(small_audit, tmp_path)
    asked, complaints = [], []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.goto((tmp_path / "audit.html").as_uri())
        size = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        broken = page.evaluate("[...document.images].filter(image => !image.naturalWidth).length")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        browser.close()
    assert size[0] <= size[1]
    assert broken == 0 and complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert (sum(map(int, re.findall(r"\d+", ground))) < 150) == (scheme == "dark")
