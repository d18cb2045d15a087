"""The page's actions without a browser: what each is told, and what it gives to show."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from ct_xception_app import layout
from ct_xception_app.actions import Page
from ct_xception_app.cases import MapChoice, Study
from ct_xception_app.downloads import as_csv, as_json, as_report
from ct_xception_app.feedback import FeedbackFolder
from ct_xception_app.layout import EXAMPLES, FIRST
from ct_xception_app.uploads import read_owners
from ct_xception_app.words import TERMS
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from ct_xception.checkpoint_files import ConformalRule
from ct_xception.errors import InputError
from ct_xception.explain.budget import BUDGETS, Budget, Cancelled
from ct_xception.explain.faithfulness import EFFORTS, Effort
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.windows import WINDOWS, Window
from ct_xception.phantom.dicom import write_dicom
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.decisions import Decisions, OperatingPoint, Pooling
from ct_xception.serving.gate import GateVerdict
from ct_xception.serving.patients import answer_units, find_units
from ct_xception.serving.series import Member, gather
from ct_xception.text import RESEARCH_USE, percent
from tests.closeness import ROUNDING


def plain(text: str) -> str:
    """What is read of a piece of HTML whose explanations are folded."""
    return re.sub(r"<[^>]+>", "", re.sub(r"</summary><span>.*?</span>", "", text))


REQUEST: Any = SimpleNamespace(session_hash="one")
Shown = dict[Any, Any]


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    return Classifier.from_pretrained(tiny_checkpoint)


def build_page(classifier: Classifier, reviews: FeedbackFolder | None = None) -> Page:
    with gr.Blocks(analytics_enabled=False) as demo:
        inputs, outputs = layout.build_inputs(), layout.build_outputs(classifier.label_names)
        reviewing = layout.build_review(classifier.label_names) if reviews is not None else None
        page = Page(Study(classifier), inputs, outputs, reviewing, reviews)
        page.connect(demo)
    return page


@pytest.fixture(scope="module")
def page(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return build_page(classifier, FeedbackFolder(tmp_path_factory.mktemp("reviews")))


def told(page: Page, *paths: Path, **changed: Any) -> Shown:
    """What the browser sends: every control as it stands at first, but for what is changed by its name."""
    parts = {**vars(page.inputs), **vars(page.outputs)}
    data = {part: getattr(part, "value", None) for part in parts.values()}
    data[page.inputs.source] = tuple(str(path) for path in paths) or None
    data[page.outputs.kept] = None
    return data | {parts[name]: value for name, value in changed.items()}


def run(steps: Iterator[Shown]) -> Shown:
    """What a generator's steps leave on the page."""
    shown: Shown = {}
    for step in steps:
        shown |= step
    return shown


def scene_of(page: Page, shown: Shown) -> dict[str, Any]:
    """What the viewer is told."""
    return json.loads(shown[page.outputs.viewer])


def wished(page: Page, shown: Shown, index: int, window: list[float] | None = None) -> dict[str, Any]:
    """What the viewer sends: the case that was shown, and where its hand rests."""
    case = shown[page.outputs.kept]
    return {"kept": case, "wish": json.dumps({"case": case.token, "index": index, "window": window})}


def answer(page: Page, *paths: Path, **changed: Any) -> Shown:
    return run(page.answer(REQUEST, told(page, *paths, **changed)))


def test_the_examples_are_small_slices_that_the_reader_takes() -> None:
    assert {path.suffix for path in EXAMPLES} == {".png", ".dcm", ".zip"}
    for path in EXAMPLES:
        assert path.stat().st_size < 400_000
        members = gather([path])[0].members
        assert len(members) == (8 if path.suffix == ".zip" else 1)
        assert all(min(read_slice(one.source(), name=one.name).pixels.shape) >= 192 for one in members)


def test_an_answer_is_the_classifier_s_own(page: Page, classifier: Classifier, sample_slices: list[Path]) -> None:
    shown, out = answer(page, sample_slices[0]), page.outputs
    expected = classifier(sample_slices[0])
    case = shown[out.kept]
    assert case.view.prediction.probabilities == expected.probabilities
    assert f"<span>{expected.label}</span>" in shown[out.answer] and shown[out.answer].count("<tr>") == 4
    scene = scene_of(page, shown)
    assert (scene["count"], scene["index"], scene["window"]) == (1, 0, None)
    assert scene["map"]["label"] == expected.label and (scene["map"]["height"], scene["map"]["width"]) == (96, 112)
    assert all(percent(value).replace("<", "&lt;") in shown[out.answer] for value in expected.probabilities.values())
    assert shown[out.target] == "" and expected.label in shown[out.legend]
    assert "cropped to the body" in shown[out.notes] and "Burnt-in" not in shown[out.notes]
    assert shown[out.series] == gr.update(visible=False) and shown[out.status].count("Ready.") == 1


def test_the_map_is_of_the_class_that_the_series_has_through_another_window(
    page: Page, sample_series: list[Path]
) -> None:
    """Not of the class that it had before; a class that was chosen by hand stays."""
    out, series = page.outputs, answer(page, *sample_series)
    case = series[out.kept]
    other = next(name for name in case.together.probabilities if name != case.together.label)
    before = {**series, out.kept: case.pooled(replace(case.together, label=other))}
    seen = run(page.follow(REQUEST, told(page, *sample_series, **wished(page, before, case.index, [40, 350]))))[
        out.kept
    ]
    assert seen.view.explained.attribution.label == seen.together.label
    asked = told(page, *sample_series, target=other, **wished(page, before, case.index, [40, 350]))
    assert run(page.follow(REQUEST, asked))[out.kept].view.explained.attribution.label == other


def test_the_network_keeps_its_window_until_it_is_told_another(
    page: Page, classifier: Classifier, sample_series: list[Path]
) -> None:
    out = page.outputs
    first = answer(page, sample_series[0])
    assert first[out.kept].view.prediction.slice.window == Window(40, 400) and "Another window" not in first[out.answer]
    bone = run(page.follow(REQUEST, told(page, sample_series[0], **wished(page, first, 0, [400, 1800]))))
    case = bone[out.kept]
    assert case.view.prediction.slice.window == case.window == Window(400, 1800)
    assert case.view.prediction.probabilities == classifier(sample_series[0], window=Window(400, 1800)).probabilities
    assert "Another window." in bone[out.answer] and "says nothing of this answer" in bone[out.answer]
    assert scene_of(page, bone)["window"] == [400, 1800] and scene_of(page, bone)["case"] == case.token
    assert page.study.findings(case).warning == case.window_warning != ""
    back = run(page.follow(REQUEST, told(page, sample_series[0], **wished(page, bone, 0))))
    assert back[out.kept].view.prediction.probabilities == first[out.kept].view.prediction.probabilities
    assert "Another window" not in back[out.answer]
    wrong = run(page.follow(REQUEST, told(page, sample_series[0], **wished(page, first, 0, [0, 0]))))
    assert "window width 0.0 is not between 1e-6 and 1e9" in wrong[out.status]


def test_what_the_viewer_asks_of_another_case_is_passed_over(page: Page, sample_series: list[Path]) -> None:
    shown = answer(page, sample_series[0])
    for wish in ("", "{}", "[1]", json.dumps({"case": "another", "index": 0, "window": [400, 1800]})):
        asked = told(page, sample_series[0], kept=shown[page.outputs.kept], wish=wish)
        assert list(page.follow(REQUEST, asked)) == []


def test_no_answer_writes_what_a_hand_holds(page: Page, sample_series: list[Path]) -> None:
    """Neither a slice nor a map nor another window moves a control: only other files reset the class."""
    out = page.outputs
    held = {out.aggregation, out.method, out.budget, out.wish, page.inputs.consent, page.inputs.file}
    shown = answer(page, *sample_series)
    assert not held & set(shown)
    case = shown[out.kept]
    after = [
        run(page.follow(REQUEST, told(page, *sample_series, **wished(page, shown, 3)))),
        run(page.follow(REQUEST, told(page, *sample_series, **wished(page, shown, 0, [400, 1800])))),
        run(page.explain(REQUEST, told(page, *sample_series, kept=case, method="saliency"))),
    ]
    for one in after:
        moved = (held | {out.target}) & set(one)
        assert not moved or (moved == {out.method} and "value" not in one[out.method])


def test_an_example_is_answered_at_first_sight_and_once_for_all(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    out = page.outputs
    first = run(page.greet(REQUEST, told(page)))
    assert "Example, drawn by a program: series" in first[out.answer] and first[out.kept].paths == (str(FIRST),)
    monkeypatch.setattr(page.study, "open_case", None)  # it would be called for another answer
    again = run(page.greet(REQUEST, told(page)))
    assert again[out.kept] is first[out.kept]
    assert run(page.greet(REQUEST, told(page, FIRST))) == {}  # a visitor's own choice is not written over


def test_a_bad_file_is_refused_in_the_reader_s_words_and_escaped(page: Page, tmp_path: Path) -> None:
    bad = tmp_path / "<b>x.png"
    bad.write_bytes(b"no picture")
    shown, out = answer(page, bad), page.outputs
    assert "&lt;b&gt;x.png: neither DICOM nor one of PNG" in shown[out.answer] and 'role="alert"' in shown[out.answer]
    assert str(tmp_path) not in shown[out.answer]
    assert shown[out.viewer] == "" and shown[out.kept] is None
    assert shown[out.stop] == gr.update(interactive=False)


def test_another_class_and_method_redraw_the_same_slice(page: Page, sample_slices: list[Path]) -> None:
    out = page.outputs
    case = answer(page, sample_slices[0])[out.kept]
    other = list(case.view.prediction.probabilities)[-1]
    asked = told(page, sample_slices[0], kept=case, target=other, method="saliency")
    shown = run(page.explain(REQUEST, asked))
    explained = shown[out.kept].view.explained.attribution
    assert (explained.label, explained.method, explained.budget) == (other, "saliency", "fast")
    assert other in shown[out.legend] and "SmoothGrad" in shown[out.legend]
    assert shown[out.kept].view.prediction is case.view.prediction
    assert "noisy copies" in shown[out.method]["info"]
    assert scene_of(page, shown)["map"]["label"] == other and scene_of(page, shown)["case"] == case.token
    assert scene_of(page, shown)["choice"] != scene_of(page, {out.viewer: page._scene(case)})["choice"]


def test_maps_of_all_classes_stand_side_by_side(page: Page, sample_slices: list[Path]) -> None:
    out = page.outputs
    case = answer(page, sample_slices[0])[out.kept]
    shown = run(page.explain_all(REQUEST, told(page, sample_slices[0], kept=case)))[out.all_maps]
    names = list(case.view.prediction.probabilities)
    assert shown.count("<img") == len(names) and "own strongest place" in shown
    places = [shown.index(f'alt="Evidence for {name}"') for name in names]
    assert places == sorted(places)


def test_the_map_is_put_in_words_and_measured_on_request(
    page: Page, sample_slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EFFORTS, "fast", Effort(steps=2, orders=1, patches=8, noises=2, networks=1))
    monkeypatch.setitem(BUDGETS, "fast", Budget(steps=2, samples=2, windows=2, segments=4, mixtures=4))
    out = page.outputs
    first = answer(page, sample_slices[0])
    assert "of the evidence lies in the body" in first[out.map_words] and "Not yet tested" in first[out.map_words]
    steps = list(page.measure(REQUEST, told(page, sample_slices[0], kept=first[out.kept])))
    assert any("<progress" in step.get(out.status, "") for step in steps)
    shown = run(iter(steps))
    assert "Blackening the strongest pixels first" in shown[out.map_words]
    found = shown[out.kept].view.found
    assert found["budget"] == "fast" and all(sentence in shown[out.map_words] for sentence in found["warnings"])


def test_stop_ends_the_work_itself(page: Page, sample_slices: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A map that would never end ends when another thread presses Stop, and the page keeps its answer."""
    out = page.outputs
    case = answer(page, sample_slices[0])[out.kept]
    begun, ended = threading.Event(), threading.Event()

    def for_ever(view: Any, choice: Any, progress: Any, cancelled: Any) -> Any:
        begun.set()
        while not cancelled():
            time.sleep(0.01)
        ended.set()
        raise Cancelled

    monkeypatch.setattr(page.study, "map", for_ever)
    threading.Thread(target=lambda: begun.wait() and page.stop(REQUEST)).start()
    shown = run(page.explain(REQUEST, told(page, sample_slices[0], kept=case, method="lime")))
    assert ended.is_set() and "Stopped" in shown[out.status] and out.kept not in shown
    assert page.jobs.running() == 0


def test_a_new_job_of_a_visitor_stops_the_one_before_and_no_one_else_s(page: Page) -> None:
    mine, theirs = page.jobs.start("one"), page.jobs.start("two")
    newer = page.jobs.start("one")
    assert mine.cancelled() and not theirs.cancelled() and not newer.cancelled()
    page.jobs.stop("one")
    page.jobs.stop("two")
    assert newer.cancelled() and theirs.cancelled()


def test_without_a_slice_the_page_waits(page: Page) -> None:
    out = page.outputs
    assert "Choose an example" in answer(page)[out.answer]
    assert out.viewer not in run(page.explain(REQUEST, told(page, target="normal")))
    assert "no map" in run(page.measure(REQUEST, told(page)))[out.status]
    assert "no answer" in run(page.make_files(REQUEST, told(page)))[out.status]


def test_letters_beside_the_body_are_warned_of(page: Page, sample_slices: list[Path], tmp_path: Path) -> None:
    picture = Image.open(sample_slices[0]).resize((448, 384))
    ImageDraw.Draw(picture).text((6, 6), "DOE JANE 1950", fill=255)
    picture.save(tmp_path / "named.png")
    assert "Burnt-in text?" in answer(page, tmp_path / "named.png")[page.outputs.notes]


# Series


def test_a_zipped_series_is_answered_in_its_order(
    page: Page, classifier: Classifier, zipped_series: Path, sample_series: list[Path]
) -> None:
    shown, out = answer(page, zipped_series), page.outputs
    case = shown[out.kept]
    ordered = sample_series[::-1]  # the highest position first
    assert [item.name for item in case.answers] == [path.name for path in ordered]
    for item, path in zip(case.answers, ordered, strict=True):
        assert item.probabilities == pytest.approx(classifier(path).probabilities, abs=ROUNDING)
    logs = np.log([[item.probabilities[name] for name in classifier.label_names] for item in case.answers]).mean(axis=0)
    expected = np.exp(logs) / np.exp(logs).sum()
    together = dict(zip(classifier.label_names, expected, strict=True))
    assert case.together.probabilities == pytest.approx(together, abs=1e-9)
    assert "n = 5 of 5 slices, by position" in plain(shown[out.answer])
    assert "not calibrated for several slices together" in plain(shown[out.answer])
    assert f'Carried by <button type="button" data-go="{case.together.carriers[0]}">' in shown[out.answer]
    assert shown[out.which]["visible"] is False and shown[out.series] == gr.update(visible=True)
    assert scene_of(page, shown)["index"] == case.together.strongest == case.index
    assert f"Slice {case.index + 1} of 5" in shown[out.detail]
    assert scene_of(page, shown)["answers"][0].startswith(str(case.answers[0].record["label"]))
    assert "one other file in series.zip passed over" in shown[out.notes]
    assert shown[out.curve].count("<polyline") == 4 and "Probability of each class over 5 slices" in shown[out.curve]


def test_where_the_hand_rests_is_looked_at_and_the_series_is_kept(page: Page, sample_series: list[Path]) -> None:
    out = page.outputs
    case = answer(page, *sample_series)[out.kept]
    shown = run(page.follow(REQUEST, told(page, *sample_series, **wished(page, {out.kept: case}, 4))))
    assert shown[out.kept].index == 4 and shown[out.kept].answers is case.answers and out.answer not in shown
    assert shown[out.kept].view.prediction.source == case.answers[4].name and "Slice 5 of 5" in shown[out.detail]
    assert shown[out.kept].view.explained.attribution.label == case.together.label
    again = run(page.follow(REQUEST, told(page, *sample_series, **wished(page, shown, 4, [-600, 1500]))))
    assert again[out.kept].index == 4 and again[out.kept].series is case.series
    assert again[out.kept].together.probabilities != case.together.probabilities


def test_of_two_series_the_larger_is_answered_and_the_other_can_be_chosen(
    page: Page, sample_series: list[Path], sample_slices: list[Path]
) -> None:
    out, paths = page.outputs, (*sample_slices[:2], *sample_series)
    shown = answer(page, *paths)
    case, told_of = shown[out.kept], plain(shown[out.answer])
    assert [item.name for item in case.answers] == [path.name for path in sample_series[::-1]]
    assert "2 answers, one for each" in told_of and shown[out.which]["visible"] is False
    assert "series 15 slices of 112 × 96 pixels, 1 mm apart, 1 mm thick" in told_of
    assert "separate files2 filesFile by file" in told_of
    other = run(page.follow(REQUEST, told(page, *paths, kept=case, wish=chosen_unit(case, 1))))
    assert [item.name for item in other[out.kept].answers] == [path.name for path in sample_slices[:2]]
    assert (
        other[out.kept].units[0] is case.units[0] and "2 separate files, each answered by itself" in other[out.answer]
    )
    assert list(page.follow(REQUEST, told(page, *paths, kept=case, wish=chosen_unit(case, 2)))) == []
    alone = answer(page, *sample_series)
    assert alone[out.which]["visible"] is False and "<h2>Series: 5 slices" in alone[out.answer]


def chosen_unit(case: Any, number: int) -> str:
    """What the viewer sends where another series or patient is chosen."""
    return json.dumps({"case": case.token, "unit": number, "asked": 1})


@pytest.fixture(scope="module")
def patients(sample_series: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip of two patients: one with series of 2 and 1 slices, one with a series of 2."""
    path = tmp_path_factory.mktemp("patients") / "patients.zip"
    hu = np.asarray(Image.fromarray(read_slice(sample_series[0]).pixels)).astype(np.int16) * 4 - 900
    with zipfile.ZipFile(path, "w") as archive:
        for number, (patient, series) in enumerate([("A", "1"), ("A", "1"), ("A", "2"), ("B", "3"), ("B", "3")]):
            file = path.with_name(f"{number}.dcm")
            own = {"patient_id": patient, "study": patient, "series": series, "instance_number": number}
            write_dicom(file, hu + 40 * number, window=WINDOWS["mediastinal"], spacing_mm=0.8, **own)
            archive.write(file, f"{series}/{file.name}")
    return path


@pytest.fixture(scope="module")
def by_patient(classifier: Classifier) -> Page:
    """A page whose checkpoint pools by a rule of 40 patients, and abstains wherever it can."""
    ruled = Decisions(conformal=ConformalRule(method="lac", coverage=0.9, threshold=1.0), abstain_below=0.999)
    pooling = Pooling("mean", 1.5, "patient", 40, calibrated=True, decisions=ruled)
    return build_page(Classifier(classifier.model, decisions=Decisions(pooling=pooling)))


def test_each_patient_has_its_own_answer_by_the_rule_of_the_checkpoint(by_patient: Page, patients: Path) -> None:
    page, out = by_patient, by_patient.outputs
    shown = answer(page, patients)
    case, told_of = shown[out.kept], plain(shown[out.answer])
    assert case.by == "patient" and [len(one) for one in case.found] == [3, 2]
    units = list(answer_units(page.study.classifier, find_units([patients], by="patient")[0]))
    for unit, expected in zip(case.units, units, strict=True):
        assert unit.together.probabilities == pytest.approx(expected.together.probabilities, abs=ROUNDING)
        assert unit.together.carriers == expected.together.carriers
    assert "2 answers, one for each" in told_of and "Patient 1: 3 slices" in told_of
    assert "No answer: between" in told_of and "chosen and calibrated on 40 validation patients" in told_of
    assert "series by series" in told_of and "cannot be ruled out: " in told_of and "Carried by slice" in told_of
    assert "Prediction set at 90 % coverage" in told_of
    choice = shown[out.which]
    assert choice["visible"] and choice["choices"] == [("series (3)", "series"), ("patient (2)", "patient")]
    other = run(page.follow(REQUEST, told(page, patients, kept=case, wish=chosen_unit(case, 1))))
    assert other[out.kept].chosen == 1 and other[out.kept].units == case.units
    assert scene_of(page, other)["case"] != scene_of(page, shown)["case"] and scene_of(page, other)["count"] == 2
    again = run(page.choose_reading(REQUEST, told(page, patients, kept=case, which="series")))
    assert again[out.kept].by == "series" and [len(one) for one in again[out.kept].found] == [2, 2, 1]


def test_the_files_tell_every_patient(by_patient: Page, patients: Path) -> None:
    case = answer(by_patient, patients)[by_patient.outputs.kept]
    found = by_patient.study.findings(case)
    rows = list(csv.DictReader(io.StringIO(as_csv(found))))
    assert [(row["of"], row["slice"]) for row in rows if row["slice"] == "all"] == [
        ("patient 1", "all"),
        ("patient 2", "all"),
    ]
    assert len(rows) == 5 + 2 and rows[3]["abstained"] == "yes" and rows[3]["prediction_set"]
    units = json.loads(as_json(found))["units"]
    assert [len(unit["each"]) for unit in units] == [3, 2] and all(unit["carried_by"] for unit in units)
    report = as_report(found)
    assert "calibrated on 40 validation patients" in report and "All that was given" in report


def test_a_table_says_whose_the_files_are(
    page: Page, sample_slices: list[Path], tmp_path: Path, classifier: Classifier
) -> None:
    out, table = page.outputs, tmp_path / "who.csv"
    table.write_text(
        "path,patient\n" + "\n".join(f"{one.name},{name}" for one, name in zip(sample_slices, "AABBB", strict=True))
    )
    shown = answer(page, *sample_slices[:4], table)
    readings = shown[out.kept].readings
    assert [len(one) for one in readings["patient"]] == [2, 2] and shown[out.which]["visible"]
    by_patient = run(page.choose_reading(REQUEST, told(page, kept=shown[out.kept], which="patient")))
    assert [len(unit.slices) for unit in by_patient[out.kept].units] == [2, 2]
    table.write_text(f"path,patient\n{sample_slices[0].name},A\n")
    refused = answer(page, *sample_slices[:2], table)[out.answer]
    assert "the table who.csv does not name slice_1.png" in refused and str(tmp_path) not in refused


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "the table who.csv has no row"),
        ("a;b\n1;2\n", "the table who.csv has a, b, where columns of path and patient are wanted"),
        ("Path\tPatient_ID\nx.png\t\n", "the table who.csv says no patient of x.png"),
        ("path,patient\nx.png,A\nx.png,B\n", "the table who.csv says more than one patient of x.png"),
    ],
)
def test_a_table_that_cannot_say_whose_they_are_is_refused(content: str, said: str, tmp_path: Path) -> None:
    table = tmp_path / "who.csv"
    table.write_text(content)
    with pytest.raises(InputError, match=said):
        read_owners(table)


def test_a_table_names_a_file_by_the_end_of_its_path(tmp_path: Path) -> None:
    table = tmp_path / "who.csv"
    table.write_text("\ufeffFile;Subject\nscans\\\\a.dcm;A\nb/a.dcm;B\n".replace("\\\\", "\\"), encoding="utf-8")
    owner = read_owners(table)
    named = [Member("a.dcm#3", tmp_path / "x.zip", 0, folder=folder) for folder in ("deep/scans", "b")]
    assert [owner(one) for one in named] == ["A", "B"]


def test_what_was_reached_before_a_stop_is_kept(
    by_patient: Page, patients: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The patient that is looked at is answered first; of the others the table says that they were not reached."""
    stop = iter([False, True])
    case = by_patient.study.open_case(
        [str(patients)], window=None, choice=MapChoice(), cancelled=lambda: next(stop, True)
    )
    assert case.units[0] is not None and case.units[1] is None and case.view.explained is None
    assert "Not reached yet" in by_patient._show_case(case, told(by_patient), new=True)[by_patient.outputs.answer]
    whole = by_patient.study.open_case([str(patients)], window=None, choice=MapChoice(), chosen=1, before=case)
    assert whole.units[0] is case.units[0] and whole.units[1] is not None


def test_a_session_s_cases_can_be_seen_again_without_another_answer(
    page: Page, sample_slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = page.outputs
    first = answer(page, sample_slices[0], past=())
    second = answer(page, sample_slices[1], past=first[out.past])
    assert first[out.history] == "" and len(second[out.past]) == 2
    assert second[out.history].index("slice_1.png") < second[out.history].index("slice_0.png")
    monkeypatch.setattr(page.study, "open_case", None)
    again = run(page.follow(REQUEST, told(page, past=second[out.past], wish='{"past": 0}')))
    assert again[out.answer] == first[out.answer] and scene_of(page, again)["case"] == first[out.kept].token
    assert [case.token for case in again[out.past]] == [second[out.kept].token, first[out.kept].token]
    assert run(page.follow(REQUEST, told(page, past=second[out.past], wish='{"past": 2}'))) == {}


def test_the_address_may_name_an_example(page: Page) -> None:
    asked: Any = SimpleNamespace(session_hash="one", query_params={"example": "adenocarcinoma"})
    shown = run(page.greet(asked, told(page)))
    assert Path(shown[page.outputs.kept].paths[0]).name == "adenocarcinoma.png"


def test_separate_files_are_a_table_and_pooled_on_request_alone(
    page: Page, classifier: Classifier, sample_slices: list[Path], tmp_path: Path
) -> None:
    out = page.outputs
    bad = tmp_path / "<i>bad.png"
    bad.write_bytes(b"no picture")
    shown = answer(page, bad, *sample_slices[:2])
    case, table = shown[out.kept], shown[out.answer]
    assert case.together is None and shown[out.curve] == "" and shown[out.pool] == gr.update(visible=True)
    for index, path in enumerate(sample_slices[:2]):
        found = classifier(path)
        assert f'<button type="button" data-go="{index}">{path.name}</button>' in table
        assert f"<td>{found.label}" in table and percent(found.probabilities[found.label]) in table
    assert "&lt;i&gt;bad.png" in table and "<em>Not answered:</em> neither DICOM" in table and "<i>bad" not in table
    files = page.study.findings(case)
    rows = list(csv.DictReader(io.StringIO(as_csv(files))))
    assert [row["label"] != "" for row in rows] == [True, True, False] and "neither DICOM" in rows[2]["error"]
    assert "File by file" in as_report(files) and len(json.loads(as_json(files))["files"]) == 3
    pooled = run(page.pool_files(REQUEST, told(page, bad, *sample_slices[:2], kept=case)))
    assert "n = 2 of 3 slices" in plain(pooled[out.answer]) and pooled[out.pool] == gr.update(visible=False)


def test_another_aggregation_pools_again_without_the_network(page: Page, sample_series: list[Path]) -> None:
    out = page.outputs
    case = answer(page, *sample_series)[out.kept]
    shown = page.pool_again(REQUEST, told(page, *sample_series, kept=case, aggregation="mean"))
    assert "Mean of probabilities; not calibrated" in plain(shown[out.answer])
    assert shown[out.kept].together.aggregation == "mean" and shown[out.kept].answers is case.answers


def test_a_slice_of_a_series_that_cannot_be_read_is_named_and_has_no_vote(
    page: Page, sample_series: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    shown, out = answer(page, bad, *sample_series[:2]), page.outputs
    assert "n = 2 of 3 slices" in plain(shown[out.answer]) and "bad.png: neither DICOM" in shown[out.answer]
    none = answer(page, bad, bad)
    assert "none of the 2 slices could be read. bad.png: neither" in none[out.answer]


# The gate, the rules


def gated(page: Page, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the page's classifier answer as if its input gate had judged every slice so."""
    inner = page.study.classifier

    class Gated:
        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        def __call__(self, source: Any, **options: Any) -> Any:
            found = inner(source, **options)
            for one in found if isinstance(found, list) else [found]:
                object.__setattr__(one, "gate", GateVerdict(verdict, ("a colour <photograph>",), 9.0))
            return found

    monkeypatch.setattr(page.study, "classifier", Gated())


def test_what_the_gate_refuses_is_shown_with_reasons_and_no_percentage(
    page: Page, sample_slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    gated(page, "refused", monkeypatch)
    shown, out = answer(page, sample_slices[0]), page.outputs
    assert "Not answered" in shown[out.answer] and "a colour &lt;photograph&gt;" in shown[out.answer]
    assert "%" not in shown[out.answer] + shown[out.map_words] + shown[out.legend]
    assert shown[out.kept].view.explained is None and shown[out.target] == ""
    assert scene_of(page, shown)["map"] is None and scene_of(page, shown)["count"] == 1
    again = run(page.explain(REQUEST, told(page, sample_slices[0], kept=shown[out.kept])))
    assert out.viewer not in again


def test_what_the_gate_doubts_is_answered_with_a_warning(
    page: Page, sample_slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    gated(page, "doubtful", monkeypatch)
    shown = answer(page, sample_slices[0])[page.outputs.answer]
    assert "Doubtful input." in shown and "a colour &lt;photograph&gt;" in shown and "%" in shown


def test_the_rules_stand_under_the_answer_and_only_where_there_are_any(
    page: Page, classifier: Classifier, sample_slices: list[Path]
) -> None:
    out = page.outputs
    assert answer(page, sample_slices[0])[out.detail] == ""
    point = OperatingPoint("normal", ("normal",), 0.4, "sensitivity 0.9")
    conformal = ConformalRule(method="lac", coverage=0.9, threshold=1.0)
    decisions = Decisions(conformal=conformal, operating_points=(point,), temperature=1.25)
    ruled = build_page(Classifier(classifier.model, decisions=decisions))
    verdict = answer(ruled, sample_slices[0])[ruled.outputs.detail]
    said = plain(verdict)
    assert "Prediction set at 90 % coverage: " in said
    assert "Probabilities calibrated on validation (temperature 1.25)" in said
    assert "Operating points of single classes" in said and "40.0 %" in said
    for term in ("prediction set", "calibrated", "temperature", "operating points"):
        assert TERMS[term] in verdict


# Downloads and reviews


def test_the_files_carry_the_model_the_window_and_the_notice(page: Page, zipped_series: Path) -> None:
    out = page.outputs
    case = answer(page, zipped_series)[out.kept]
    shown = run(page.make_files(REQUEST, told(page, zipped_series, kept=case)))
    files = {Path(path).suffix: Path(path) for path in shown[out.files]["value"]}
    assert {path.stem for path in files.values()} == {f"series-slice-{case.index + 1}-ct-xception"}
    assert files[".pdf"].read_bytes().count(b"/Type /Page ") == 1
    assert set(files) == {".png", ".json", ".csv", ".html", ".pdf"} and shown[out.files]["visible"]
    assert all(path.is_relative_to(out.files.GRADIO_CACHE) for path in files.values())
    for suffix in (".json", ".csv", ".html"):
        text = files[suffix].read_text()
        assert RESEARCH_USE in text and page.study.origin.model in text and page.study.origin.weights_sha256 in text
    with Image.open(files[".png"]) as figure:
        said = figure.text["Description"]
    assert RESEARCH_USE in said and page.study.origin.weights_sha256 in said
    assert files[".html"].read_text().count("IM") >= 5


def test_operating_points_stand_in_the_figures_tag_and_not_under_it(
    classifier: Classifier, sample_slices: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{name}: sensitivity of at least 0.95" for name in classifier.label_names]
    points = tuple(OperatingPoint(name, (name.partition(":")[0],), 0.4, "") for name in names)
    study = Study(Classifier(classifier.model, decisions=Decisions(operating_points=points)))
    drawn, tags = list[Figure](), list[str]()

    def keep(figure: Figure, *_: Any, metadata: dict[str, str], **__: Any) -> None:
        drawn.append(figure)
        tags.append(metadata["Comment"])

    monkeypatch.setattr(Figure, "savefig", keep)
    study.figure(study.look(gather(sample_slices[:1])[0], 0, None, MapChoice()), tmp_path / "figure.png")
    foot = next(text for text in drawn[0].texts if RESEARCH_USE in text.get_text())
    box = foot.get_window_extent()
    assert len(foot.get_text().splitlines()) <= 3 and all(name in tags[0] for name in names)
    assert box.x0 > 0 and box.x1 < drawn[0].bbox.x1


def test_a_review_is_kept_once_it_makes_sense(page: Page, sample_slices: list[Path]) -> None:
    assert page.reviews is not None and page.reviewing is not None
    kept, part = answer(page, sample_slices[0])[page.outputs.kept], page.reviewing
    label = kept.view.prediction.label

    def say(right: str | None, what: str | None, case: Any = kept) -> str:
        return page.keep_review({page.outputs.kept: case, part.right: right, part.label: what, part.pixels: True})

    folder = page.reviews.folder / "data"
    assert "no answer to review" in say("right", label, None)
    assert "Say whether" in say(None, label) and "do not go together" in say("wrong", label)
    assert not list(folder.iterdir())
    assert "Kept: right" in say("right", label)
    assert len(list(folder.iterdir())) == 1


def test_downloads_of_an_old_answer_are_taken_away(page: Page, sample_slices: list[Path]) -> None:
    assert answer(page, sample_slices[1])[page.outputs.files] == gr.update(value=None, visible=False)


def test_uploads_need_the_visitor_s_word(sample_slices: list[Path]) -> None:
    from ct_xception_app.actions import _open_upload, _take_upload

    paths = [str(sample_slices[0])]
    no_choice = gr.update(choices=[], value=None, visible=False)  # of a series in other files
    assert _take_upload(paths, True) == (tuple(paths), no_choice) and _take_upload(paths, False) == (None, no_choice)
    assert _open_upload(True)["interactive"] is True and _open_upload(False)["interactive"] is False


# Two models


@pytest.fixture(scope="module")
def two_models(classifier: Classifier) -> Page:
    """The page on one network that answers, and on another whose head is turned round."""
    import copy

    turned = copy.deepcopy(classifier.model)
    head = next(module for module in reversed(list(turned.modules())) if hasattr(module, "out_features"))
    head.weight.data.neg_()
    with gr.Blocks(analytics_enabled=False) as demo:
        inputs, outputs = layout.build_inputs(), layout.build_outputs(classifier.label_names)
        page = Page(Study(classifier, Study(Classifier(turned))), inputs, outputs, None, None)
        page.connect(demo)
    return page


def test_two_models_answer_one_case_side_by_side(two_models: Page, sample_series: list[Path]) -> None:
    page, out = two_models, two_models.outputs
    first, second = page.study.classifier, page.study.second.classifier
    shown = answer(page, sample_series[0])
    case, both = shown[out.kept], shown[out.versus]
    assert case.second.view.prediction.probabilities == second(sample_series[0]).probabilities
    labels = first(sample_series[0]).label, second(sample_series[0]).label
    assert ("They agree" if labels[0] == labels[1] else "They disagree") in both
    assert both.count("<img") == 2 and both.count("Probability of each class") == 2
    assert json.loads(as_json(page.study.findings(case)))["two_models"]["sentence"] in html.unescape(plain(both))
    series = answer(page, *sample_series)
    together = series[out.kept].second.units[0].together
    assert [percent(value).replace("<", "&lt;") in series[out.versus] for value in together.probabilities.values()]
    moved = run(page.follow(REQUEST, told(page, *sample_series, **wished(page, series, 4))))
    assert moved[out.kept].second.view.prediction.source == moved[out.kept].view.prediction.source
    assert moved[out.kept].second.units == series[out.kept].second.units and "slice 5" in moved[out.versus]


def test_with_one_model_nothing_stands_beside_it(page: Page, sample_slices: list[Path]) -> None:
    assert answer(page, sample_slices[0])[page.outputs.versus] == ""
