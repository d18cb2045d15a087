"""The error page: it chooses the right cases, says the figures of the evaluation, stands alone, and fits a screen."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from ct_xception.audit.survey import Survey, survey_corpus
from ct_xception.errors import InputError
from ct_xception.evaluation.answers import PREDICTOR, Answers, Items
from ct_xception.evaluation.evaluation import Evaluation, Outputs
from ct_xception.evaluation.labels_at_odds import BY_NETWORKS, Held
from ct_xception.evaluation.protocols import OutOfFold, Part, Protocols
from ct_xception.evaluation.report import error_page
from ct_xception.evaluation.report.error_cases import Chosen, least_certain_hits, surest_mistakes
from ct_xception.evaluation.report.error_page import write_error_page
from ct_xception.evaluation.report.item_traits import know_items
from ct_xception.metrics import SubgroupMetrics
from ct_xception.serving.classifier import Classifier
from ct_xception.statistics.metrics import classification_metrics
from tests.evaluation.conftest import LABEL_NAMES

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
HOSTILE = "test/<script>alert(1)</script>.png"
# Eight answers to labels 0 1 2 3 0 1 2 3: wrong at 1 (sure), 4 and 7; 5 was refused; 6 is the least certain hit.
PROBABILITIES = np.array(
    [
        [0.97, 0.01, 0.01, 0.01],
        [0.95, 0.03, 0.01, 0.01],
        [0.1, 0.1, 0.7, 0.1],
        [0.1, 0.1, 0.1, 0.7],
        [0.2, 0.6, 0.1, 0.1],
        [np.nan] * 4,
        [0.2, 0.2, 0.4, 0.2],
        [0.1, 0.1, 0.5, 0.3],
    ]
)
Write = Callable[..., str]


@pytest.fixture(scope="module")
def splits(picture_split: Dataset) -> DatasetDict:
    """The test split, one of its files with a hostile name; and a train split that holds a copy of its first file."""
    rows = [dict(row) for row in picture_split]
    train = [rows[0] | {"source": "train/copy.png", "label": 1}, rows[6] | {"source": "train/other.png"}]
    rows[4] |= {"source": HOSTILE}
    features = picture_split.features
    return DatasetDict(train=Dataset.from_list(train, features), test=Dataset.from_list(rows, features))


@pytest.fixture(scope="module")
def survey(splits: DatasetDict) -> Survey:
    return survey_corpus(splits, processes=1, progress=False)


@pytest.fixture(scope="module")
def answers() -> Answers:
    return Answers(PROBABILITIES, {"test/case05.png": "test/case05.png: an empty file"})


@pytest.fixture(scope="module")
def write(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_checkpoint: Path,
    splits: DatasetDict,
    survey: Survey,
    answers: Answers,
) -> Write:
    def call(given: Answers = answers, subgroups: dict[str, SubgroupMetrics] | None = None, **options: Any) -> str:
        split = {"protocol": "published", "name": "5f0c"}
        stated = {"survey": survey, "split": split, "progress": False} | options
        outputs = Outputs(errors=tmp_path_factory.mktemp("run"))
        evaluation = Evaluation(tiny_checkpoint, splits, outputs=outputs, **stated)
        classifier, known = Classifier.from_pretrained(tiny_checkpoint), know_items(evaluation)
        path = write_error_page(evaluation, classifier, given, known, subgroups)
        assert path.name == "errors.html"
        return path.read_text(encoding="utf-8")

    return call


@pytest.fixture(scope="module")
def page(write: Write) -> str:
    return write()


@pytest.fixture
def no_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Single cases are left out: reading a checkpoint and explaining answers takes seconds."""
    monkeypatch.setattr(error_page, "draw_cases", lambda *_, **__: iter(()))


def words(page: str) -> str:
    """What a reader sees, in one line."""
    bare = re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(bare).split())


def test_mistakes_come_surest_first_and_hits_least_certain_first() -> None:
    kept = np.array([0, 1, 2, 3, 4, 6, 7])
    scores, labels = PROBABILITIES[kept], np.array([0, 1, 2, 3, 0, 2, 3])
    files = ["a", "b", "c", "d", "e", "f", "g"]
    assert surest_mistakes(scores, labels, files) == [Chosen(1), Chosen(4), Chosen(6)]
    assert least_certain_hits(scores, labels, files, 2) == [Chosen(5), Chosen(2)]


def test_copies_of_one_file_are_shown_once_and_counted() -> None:
    scores, labels = np.tile([0.8, 0.2], (4, 1)), np.ones(4, int)
    assert surest_mistakes(scores, labels, ["a", "b", "a", "a"]) == [Chosen(0, 2), Chosen(1)]
    assert surest_mistakes(scores, labels, ["", "", "", ""], 3) == [Chosen(0), Chosen(1), Chosen(2)]  # not known


def test_figures_are_those_of_the_evaluation(page: str, splits: DatasetDict, answers: Answers) -> None:
    items = Items.of(splits["test"]).select(answers.answered)
    wanted = classification_metrics(PROBABILITIES[answers.answered], items.labels, LABEL_NAMES, items.groups)
    figure = wanted.accuracy
    said = words(page)
    assert f"{100 * figure.value:.1f} % accuracy 95 % interval {100 * figure.low:.1f} to" in said
    assert (
        "n = 7 each of a group of its own" in said
        if wanted.n_groups == 7
        else f"n = 7 of {wanted.n_groups} groups" in said
    )
    assert "3 answered wrong 1 of them at 90 % or more" in said
    assert "1 refused" in said and "test/case05.png an empty file" in said


def test_groups_are_patients_where_the_corpus_knows_them(write: Write, no_cases: None) -> None:
    said = words(write(corpus={"groups": {"origin": "column patient"}}))
    assert " patients " in said and " groups " not in said


def test_cases_are_shown_with_slice_evidence_and_the_most_alike_training_image(page: str) -> None:
    cases = re.findall(r'<article class="card case">(.*?)</article>', page, re.DOTALL)
    assert len(cases) == 7
    assert [case.count("data:image/") for case in cases] == [4, 4, 4, 3, 3, 3, 3]  # slice, one or two maps, neighbour
    first, hit, last = (words(case) for case in (cases[0], cases[3], cases[6]))
    assert first.startswith("wrong adenocarcinoma 95.0 % true class large cell carcinoma")
    assert re.search(r"(evidence|nothing speaks) for large cell carcinoma", first)
    assert hit.startswith("right normal 40.0 %")
    assert "Most alike in training: large cell carcinoma , r = 1.00 train/copy.png" in last  # of test/case00.png
    assert "test/case00.png" in last


@pytest.mark.usefixtures("no_cases")
def test_mistakes_that_echo_the_training_image_are_counted(write: Write) -> None:
    scores = np.eye(4)[[1, 1, 2, 3, 0, 1, 2, 3]]  # the first bears the label of its copy in train, and no other errs
    assert "name the class of the most alike training image: 1 of 1. The network may have" in words(
        write(Answers(scores))
    )


def test_the_page_stands_alone_and_no_name_becomes_markup(page: str) -> None:
    assert "<script" not in page and html.escape(HOSTILE) in page
    assert all(link.startswith("data:") for link in re.findall(r'(?:src|href)="([^"]*)', page))
    assert "http" not in page and "url(" not in page and "@import" not in page


@pytest.mark.usefixtures("no_cases")
def test_twins_and_cross_validation_have_their_tables(write: Write, survey: Survey) -> None:
    items = Items(survey.labels, survey.groups, survey.sources)
    answers = Answers(np.eye(4)[(survey.labels + (survey.labels == 3)) % 4])
    folds = OutOfFold(Part(items, {PREDICTOR: answers}, fold=np.ones(10, int)), {})
    twins = np.array([True] + [False] * 7)
    said = words(write(protocols=Protocols(has_twin=twins, out_of_fold=folds)))
    assert "By twin in training or validation" in said
    assert "The same by cross-validation" in said and "n = 10" in said
    assert "By source split" in said
    assert "squamous cell carcinoma as adenocarcinoma 2" in said


@pytest.mark.usefixtures("no_cases")
def test_labels_at_odds_are_listed_with_their_pictures(write: Write, survey: Survey) -> None:
    """Answers that name another class than the label of one item in ten, out of fold."""
    items = Items(survey.labels, survey.groups, survey.sources)
    foretold = survey.labels.copy()
    wrong = survey.sources.index("test/case03.png")
    foretold[wrong] = (foretold[wrong] + 1) % 4
    page = write(protocols=Protocols(held=Held(items, 0.1 + 0.6 * np.eye(4)[foretold], BY_NETWORKS)))
    told = words(page)
    assert f"1 of 10 labels do not fit what {BY_NETWORKS} answered" in told
    section = page.partition('id="labels"')[2].partition("<h2")[0]
    assert "test/case03.png" in section and section.count("data:image/") == 1
    assert "Not looked for: nothing answered the images" in words(write())


@pytest.mark.usefixtures("no_cases")
def test_without_mistakes_and_without_train_the_page_says_so(
    tmp_path: Path, tiny_checkpoint: Path, picture_split: Dataset
) -> None:
    right = Answers(np.eye(4)[picture_split["label"]])
    outputs = Outputs(errors=tmp_path)
    evaluation = Evaluation(tiny_checkpoint, {"test": picture_split}, outputs=outputs, progress=False)
    path = write_error_page(evaluation, Classifier.from_pretrained(tiny_checkpoint), right, know_items(evaluation))
    said = words(path.read_text(encoding="utf-8"))
    assert "No image of 8 was answered wrong." in said and "a split whose origin is not stated" in said
    assert "Most alike in training" not in said


@pytest.mark.usefixtures("no_cases")
def test_the_worst_subgroup_is_that_of_the_metrics(write: Write) -> None:
    block = SubgroupMetrics(traits=("sex",), compared=0)
    assert "No subgroup was looked at: none has 10 slices of 3 groups" in words(write(subgroups={"published": block}))
    assert "looked at" not in words(write(subgroups={"grouped": block}))  # which did not run


def test_a_page_of_refusals_alone_is_written(write: Write, splits: DatasetDict) -> None:
    refused = {source: "an empty file" for source in splits["test"]["source"]}
    said = words(write(Answers(np.full((8, 4), np.nan), refused)))
    assert "8 refused" in said and "none accuracy" in said


def test_answers_of_another_split_are_refused(write: Write) -> None:
    with pytest.raises(InputError, match=r"needs the answers \(8, 4\) to this very split, got \(3, 4\)"):
        write(Answers(PROBABILITIES[:3]))


@pytest.mark.usefixtures("no_cases")
def test_the_survey_may_know_more_than_the_splits(write: Write, survey: Survey) -> None:
    turned = replace(survey, metadata={"sex": [""] * 6 + ["F", "M"] * 2})
    said = words(write(survey=turned))
    assert "By sex" in said and "not stated" in said


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_fits_a_screen_and_asks_nobody_for_anything(page: str, tmp_path: Path, width: int) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.is_file():
        pytest.skip(f"there is no Chromium at {CHROMIUM} (set the variable CHROMIUM)")
    (tmp_path / "errors.html").write_text(page, encoding="utf-8")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(viewport={"width": width, "height": 900})
        asked: list[str] = []
        view.on("request", lambda request: asked.append(request.url))
        view.on("pageerror", lambda error: asked.append(str(error)))
        view.goto((tmp_path / "errors.html").as_uri())
        assert view.evaluate("document.documentElement.scrollWidth") <= width
        broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth).length"
        assert view.evaluate(broken) == 0
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
