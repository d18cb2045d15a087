"""Downloads: each names model, revision, window, thresholds and research use, and nothing of a refused slice leaks."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from ct_xception_app.downloads import Findings, Origin, as_csv, as_json, as_report
from ct_xception_app.one_page import draw_page, save_pdf
from PIL import Image

from ct_xception.checkpoint_files import ConformalRule
from ct_xception.files import sha256_file
from ct_xception.serving.classifier import Classifier, Prediction
from ct_xception.serving.decisions import Decisions, OperatingPoint
from ct_xception.serving.gate import GateVerdict
from ct_xception.serving.pooling import SliceAnswer, answer_series, answer_together
from ct_xception.serving.series import gather
from ct_xception.text import RESEARCH_USE, percent


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    plain = Classifier.from_pretrained(tiny_checkpoint)
    point = OperatingPoint("cancer", ("adenocarcinoma", "large cell carcinoma"), 0.25, "sensitivity 0.95", "group")
    conformal = ConformalRule(method="lac", coverage=0.9, threshold=0.7)
    return Classifier(
        plain.model,
        plain.contract,
        checkpoint=plain.checkpoint,
        decisions=Decisions(conformal=conformal, operating_points=(point,), temperature=1.25),
    )


@pytest.fixture
def findings(classifier: Classifier, sample_slices: list[Path]) -> Findings:
    prediction = classifier(classifier.read(sample_slices[0], name="<b>=slice.png"))
    return Findings(
        Origin.of(classifier),
        prediction,
        sentences=("40 % of the evidence lies in the body.",),
        explanation={"target": prediction.label, "method": "gradcam"},
        picture=Image.new("RGB", (80, 40)),
    )


def refused(prediction: Prediction) -> Prediction:
    return replace(prediction, gate=GateVerdict("refused", ("in <colour>",), 9.0))


def test_a_folder_goes_by_the_end_of_its_path_and_its_weights_hash(
    classifier: Classifier, tiny_checkpoint: Path
) -> None:
    origin = Origin.of(classifier)
    assert origin.name == origin.model == "/".join(tiny_checkpoint.parts[-2:]) and origin.revision is None
    assert origin.weights_sha256 == sha256_file(tiny_checkpoint / "model.safetensors")
    hub = replace(origin, model="user/repo", revision="abc123")
    assert hub.name == "user/repo@abc123"
    assert Origin.of(Classifier(classifier.model)).model == "in memory"


def test_json_is_the_answer_with_its_origin(findings: Findings) -> None:
    value = json.loads(as_json(findings))
    assert value["answer"] == json.loads(json.dumps(findings.prediction.to_dict()))
    assert value["notice"] == RESEARCH_USE and value["weights_sha256"] == findings.origin.weights_sha256
    assert value["window"] == "8-bit picture" and value["explanation"]["method"] == "gradcam"
    assert value["answer"]["operating"]["cancer"]["threshold"] == 0.25 and "series" not in value


def test_csv_rows_say_everything_themselves_and_run_no_formula(findings: Findings) -> None:
    (row,) = csv.DictReader(io.StringIO(as_csv(findings)))
    assert row["source"] == "<b>=slice.png" and row["label"] == findings.prediction.label
    for name, value in findings.prediction.probabilities.items():
        assert float(row[name]) == pytest.approx(value, abs=1e-6)
    assert row["model"] == findings.origin.model and row["notice"] == RESEARCH_USE
    assert "cancer: " in row["operating_points"] and "threshold 0.2500" in row["operating_points"]
    hostile = replace(findings, answers=[SliceAnswer("=HYPERLINK(1)", error="-1"), SliceAnswer("b", error="c")])
    first, _ = csv.DictReader(io.StringIO(as_csv(hostile)))
    assert first["source"] == "'=HYPERLINK(1)" and first["error"] == "'-1"


def test_the_report_says_all_of_it_and_escapes_names(findings: Findings) -> None:
    page = as_report(findings)
    for text in (
        RESEARCH_USE,
        "&lt;b&gt;=slice.png",
        percent(findings.prediction.probabilities[findings.prediction.label]).replace("<", "&lt;"),
        "Prediction set at 90 % coverage",
        "cancer: ",
        "threshold 0.2500",
        "temperature 1.25",
        "40 % of the evidence lies in the body.",
        "8-bit picture",
        "cropped to the body",
        findings.origin.model,
        str(findings.origin.weights_sha256),
        "data:image/",
    ):
        assert text in page, text
    assert "<b>=slice" not in page and "http" not in page.replace("http-equiv", "")


def test_a_refused_slice_has_reasons_and_no_percentage(findings: Findings) -> None:
    case = replace(findings, prediction=refused(findings.prediction), sentences=())
    page = as_report(case)
    assert "Not answered" in page and "in &lt;colour&gt;" in page
    assert not any(percent(value) in page for value in findings.prediction.probabilities.values())
    assert "threshold" not in page and "Prediction set" not in page
    (row,) = csv.DictReader(io.StringIO(as_csv(case)))
    assert row["gate"] == "refused" and row["label"] == "" and row["operating_points"] == ""
    assert all(row[name] == "" for name in case.origin.label_names)
    assert json.loads(as_json(case))["answer"]["gate"]["verdict"] == "refused"


def test_a_series_is_told_slice_by_slice(classifier: Classifier, sample_slices: list[Path], findings: Findings) -> None:
    (series,) = gather(sample_slices[:3])
    answers = answer_series(classifier, series)
    together = answer_together(answers)
    assert together is not None
    case = replace(findings, answers=answers, together=together, order=series.order, series="series 2")
    value = json.loads(as_json(case))["series"]
    assert value["aggregation"] == "mean_log" and len(value["each"]) == 3 and value["order"] == "by name"
    assert value["name"] == "series 2"
    assert value["probabilities"] == pytest.approx(together.probabilities)
    rows = list(csv.DictReader(io.StringIO(as_csv(case))))
    assert [row["source"] for row in rows] == [*(path.name for path in sample_slices[:3]), "series 2"]
    assert rows[-1]["slice"] == "all" and {row["of"] for row in rows} == {"series 2"}
    page = as_report(case)
    assert f"Series 2: {together.label}" in page
    assert "Mean of log-probabilities: n = 3 of" in page
    assert all(path.name in page for path in sample_slices[:3])


def page_text(findings: Findings) -> list[str]:
    figure = draw_page(findings)
    return [text.get_text() for text in (*figure.texts, *(text for axes in figure.axes for text in axes.texts))]


def test_the_pdf_is_one_page_and_says_what_the_others_say(findings: Findings, tmp_path: Path) -> None:
    save_pdf(findings, tmp_path / "answer.pdf")
    assert (tmp_path / "answer.pdf").read_bytes().count(b"/Type /Page ") == 1
    said = "\n".join(page_text(findings))
    values = findings.prediction.probabilities
    for text in (RESEARCH_USE, "<b>=slice.png", str(findings.origin.weights_sha256), "temperature 1.25", *values):
        assert text in said, text
    assert all(percent(value) in said for value in values.values())


def test_a_long_pdf_stays_one_page_and_a_refused_slice_has_no_figure(findings: Findings) -> None:
    many = replace(findings, answers=[SliceAnswer(f"{n}.png", error="no picture " * 30) for n in range(99)])
    figure = draw_page(many)
    lowest = min(text.get_position()[1] for text in figure.texts[:-3])
    assert lowest > 0.06 and any("lines more in the other files" in text.get_text() for text in figure.texts)
    said = page_text(replace(findings, prediction=refused(findings.prediction), sentences=()))
    assert any("Not answered" in one for one in said) and any("In <colour>" in one for one in said)
    assert not any(percent(value) in one for value in findings.prediction.probabilities.values() for one in said)
