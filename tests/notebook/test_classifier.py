"""Whatever is at hand is answered as its file would be, answers show themselves, guesses are told the right call."""

from __future__ import annotations

import copy
import io
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pydicom
import pytest
from matplotlib import pyplot
from PIL import Image

import ct_xception
from ct_xception import Answers, Classifier, Prediction
from ct_xception.checkpoint import SIDE_FILE
from ct_xception.errors import CheckpointError, InputError, SliceError
from ct_xception.explain import heat_map as heat_maps
from ct_xception.explain.explain import explain
from ct_xception.notebook.answers import ANSWER_HINTS, ANSWERS_HINTS
from ct_xception.serving import classifier as serving
from tests.gates import add_gate

EXAMPLES = Path(__file__).resolve().parents[2] / "app" / "examples"
DICOM, PICTURE, ZIP = (
    EXAMPLES / name for name in ("normal.dcm", "adenocarcinoma.png", "squamous_cell_carcinoma_series.zip")
)


@pytest.fixture
def scans(sample_slices: list[Path], tmp_path: Path) -> Path:
    """A folder of two slices, one file that is none, and a text."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for path in sample_slices[:2]:
        shutil.copy(path, folder)
    (folder / "bad.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("x")
    return folder


def in_memory() -> dict[str, Any]:
    opened = pydicom.dcmread(DICOM)
    hounsfield = opened.pixel_array * float(opened.RescaleSlope) + float(opened.RescaleIntercept)
    return {
        "text": str(DICOM),
        "bytes": DICOM.read_bytes(),
        "file": io.BytesIO(DICOM.read_bytes()),
        "pydicom": opened,
        "row": {"image": {"path": str(DICOM), "bytes": None}, "label": 2},
        "HU": hounsfield,
    }


@pytest.mark.parametrize("kind", in_memory())
def test_every_form_of_a_slice_gets_its_answer(classifier: Classifier, kind: str) -> None:
    wanted = serving.Classifier(classifier.model).predict_many([DICOM], window=ct_xception.Window(-600, 1500))
    found = classifier(in_memory()[kind], window="lung")
    assert found.probabilities == next(iter(wanted)).probabilities  # type: ignore[union-attr]


def test_pictures_and_grey_arrays_are_alike(classifier: Classifier) -> None:
    picture = Image.open(PICTURE)
    answers = [classifier(one).probabilities for one in (PICTURE, picture, np.asarray(picture))]
    assert answers[0] == answers[1] == answers[2]


def test_hounsfield_values_are_not_taken_for_grey(classifier: Classifier) -> None:
    with pytest.raises(SliceError, match="look like HU.*window='lung'"):
        classifier(in_memory()["HU"])


def test_folders_zips_and_columns_give_answers(classifier: Classifier, scans: Path) -> None:
    found = classifier(scans)
    assert [type(one) for one in found] == [SliceError, Prediction, Prediction]
    assert found.notes == (f"{scans}: left out: 1 .txt",) and list(found.refused) == [str(scans / "bad.png")]
    assert repr(found).startswith("Answers(3: ") and "1 refused" in repr(found)
    assert isinstance(found[1:], Answers) and len(found[1:].answered) == 2
    column = pandas.Series(sorted(map(str, scans.glob("slice*"))))
    assert [one.label for one in classifier(column)] == [one.label for one in found.answered]
    with zipfile.ZipFile(ZIP) as archive:
        assert len(classifier(ZIP)) == sum(name.endswith(".dcm") for name in archive.namelist()) > 2
    assert classifier([]) == [] and classifier(iter([])) == []


def test_a_list_raises_what_predict_lists(classifier: Classifier, scans: Path) -> None:
    sources = [PICTURE, scans / "none.png"]
    with pytest.raises(SliceError, match="no such file"):
        classifier(sources)
    assert [type(one) for one in classifier.predict(sources)] == [Prediction, SliceError]
    assert len(classifier.predict(PICTURE)) == 1


def test_answers_become_a_frame(classifier: Classifier, scans: Path) -> None:
    found = classifier.predict(scans)
    frame = found.to_frame()
    figures = [f"p {name}" for name in classifier.labels]
    assert list(frame) == ["source", "label", *figures, "prediction_set", "abstained", "gate", "gate_reasons", "notes",
                           "refused"]  # fmt: skip
    assert frame.label.isna().tolist() == [True, False, False] == frame[figures].isna().all(axis=1).tolist()
    np.testing.assert_allclose(frame[figures].sum(axis=1), [0, 1, 1], rtol=1e-6)
    assert "neither DICOM nor" in frame.refused[0] and frame.refused.isna().tolist() == [False, True, True]
    assert classifier(PICTURE).to_frame().shape == (1, frame.shape[1])
    found.show_results()
    assert len([axes for axes in pyplot.gcf().axes if axes.images]) == 2


def test_what_the_gate_refuses_is_said_and_not_explained(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "model"))
    (folder / SIDE_FILE).unlink(missing_ok=True)
    add_gate(folder)
    strict = Classifier.from_pretrained(folder)
    answer = strict(PICTURE)
    assert repr(answer).startswith(f"Prediction('{PICTURE}': refused: ")
    assert strict.predict(PICTURE).to_frame().label.isna().all()
    with pytest.raises(InputError, match="refused by the input gate.*overrule_gate=True"):
        strict.explain(answer)
    assert Classifier.from_pretrained(folder, overrule_gate=True).explain(PICTURE).map.any()


def test_a_heat_map_is_that_of_explain_and_draws_itself(classifier: Classifier, tmp_path: Path) -> None:
    heat_map = classifier.explain(PICTURE, "normal", "Grad-CAM")
    wanted = explain(classifier, classifier.read(PICTURE), "normal").attribution
    np.testing.assert_array_equal(heat_map.map, wanted.map)
    assert heat_map.method == "gradcam" and heat_map.probability == classifier(PICTURE)["normal"]
    assert heat_map.plot().figure is pyplot.gcf() and pyplot.gcf().axes[1].images
    for suffix, magic in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        assert heat_map.save(tmp_path / f"why{suffix}").read_bytes().startswith(magic)
    assert "data:image/jpeg;base64," in heat_map._repr_html_() and heat_map.to_dict()["target"] == "normal"
    for same in (classifier.explain(classifier(PICTURE), 2), ct_xception.explain(classifier, PICTURE, "normal")):  # type: ignore[operator]
        np.testing.assert_array_equal(same.map, heat_map.map)


def test_names_are_escaped_where_they_are_shown(classifier: Classifier) -> None:
    slice_ = classifier.read(PICTURE, name="<script>alert(1)</script>")
    answer = classifier(slice_)
    for shown in (answer, Answers([answer, SliceError("<script>", "x", "y")]), classifier.explain(answer), slice_):
        page = shown._repr_html_()
        assert "<script" not in page and "&lt;script" in page and 'src="data:image/' in page


def test_reprs_are_short(classifier: Classifier) -> None:
    answer = classifier(PICTURE)
    assert len(repr(classifier)) < 250 and "64 px, 4 classes" in repr(classifier) and "torch on cpu" in repr(classifier)
    assert answer.headline in repr(answer) and len(repr(answer)) < 200


def test_habits_of_transformers(classifier: Classifier) -> None:
    assert classifier.labels == classifier.label_names == list(classifier.id2label.values())
    assert {index: name for name, index in classifier.label2id.items()} == classifier.id2label
    assert classifier.device == "cpu" and classifier.to("cpu") is classifier
    with pytest.raises(InputError, match="device nowhere: cannot be used here"):
        classifier.to("nowhere")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda c: c(PICTURE, window="lungs"), "did you mean lung?"),
        (lambda c: c(DICOM, window=(0, -4)), "width -4.0"),
        (lambda c: c(None), "None is no slice"),
        (lambda c: c.explain(EXAMPLES), "one slice is explained at a time"),
        (lambda c: c.explain(PICTURE, "norml"), "did you mean normal?"),
        (lambda c: c.explain(PICTURE, 4), "class '4' is unknown"),
        (lambda c: c.explain(PICTURE, method="gradcamm"), "did you mean gradcam?"),
        (lambda c: c(PICTURE)["norml"], "did you mean normal?"),
        (lambda c: c.evaluate("phantom", splitt="test"), "did you mean split?"),
        (lambda c: c.evaluate(3), "a int is no corpus"),
        (lambda c: Classifier("runs/phantom/model"), r"Classifier.from_pretrained\('runs/phantom/model'\)"),
        (lambda c: Classifier(), r"Classifier.from_pretrained\('user/repo'\)"),
        (lambda c: c.explain(PICTURE, "adeno"), r"did you mean adenocarcinoma\?"),
        (lambda c: c.to("gpu"), r"device gpu: cannot be used here \(torch has no device of this name; cuda, "),
        (lambda c: ct_xception.audit(3), "a int is no corpus"),  # type: ignore[operator]
        (lambda c: ct_xception.audit("phantom", classmap={}), "did you mean class_map?"),  # type: ignore[operator]
    ],
)
def test_a_wrong_guess_gets_one_sentence(classifier: Classifier, call: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        call(classifier)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("predict_proba", r"c\(source\)"),
        ("train", "ct-xception train"),
        ("show_results", r"c.predict\(sources\).show_results\(\)"),
        ("load", r"Classifier.from_pretrained\(checkpoint\)"),
        ("prdict", r"did you mean predict\?"),
        ("x", "'x'$"),
    ],
)
def test_a_name_that_is_not_there_tells_the_one_that_is(classifier: Classifier, name: str, said: str) -> None:
    assert not hasattr(classifier, name)
    with pytest.raises(AttributeError, match=said):
        getattr(classifier, name)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda c: c(PICTURE).score, "answer.probability"),
        (lambda c: c(PICTURE).zzz, "Prediction has no attribute 'zzz'$"),
        (lambda c: c.predict([PICTURE]).to_csv, r"answers.to_frame\(\).to_csv"),
        (lambda c: c.num_labels, r"len\(c.labels\)"),
    ],
)
def test_answers_tell_the_right_name_too(classifier: Classifier, call: Any, said: str) -> None:
    with pytest.raises(AttributeError, match=said):
        call(classifier)


@pytest.mark.parametrize("name", ["load", "from_checkpoint", "from_hub"])
def test_the_class_tells_the_right_call_too(name: str) -> None:
    assert not hasattr(Classifier, name)
    with pytest.raises(AttributeError, match=r"Classifier has no .*; Classifier.from_pretrained\(checkpoint\)"):
        getattr(Classifier, name)
    with pytest.raises(AttributeError, match=r"did you mean from_pretrained\?"):
        _ = Classifier.from_pretraind


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("revision", r'Classifier.from_pretrained\("user/repo@v1"\)'),
        ("torch_dtype", "computes in float32"),
        ("device_map", 'device="cuda"'),
        ("speed", "choose from runtime, device, threads, gate, overrule_gate, modality"),
    ],
)
def test_loading_tells_the_right_option(option: str, said: str) -> None:
    with pytest.raises(TypeError, match=f"from_pretrained takes no '{option}'; .*{said}"):
        Classifier.from_pretrained("nowhere", **{option: "x"})


def test_a_heat_map_tells_the_right_name(classifier: Classifier) -> None:
    heat_map = classifier.explain(PICTURE)
    for name in heat_maps.HINTS:
        with pytest.raises(AttributeError, match=re.escape(heat_maps.HINTS[name])):
            getattr(heat_map, name)
    for hint in heat_maps.HINTS.values():
        assert getattr(heat_map, hint.removeprefix("heat_map.").removesuffix("()")) is not None
    assert copy.copy(heat_map).label == heat_map.label


def test_explain_tells_the_right_option(classifier: Classifier) -> None:
    with pytest.raises(TypeError, match=r"explain takes no 'label'; c.explain\(source, target=name\)"):
        classifier.explain(PICTURE, label="normal")


def test_every_name_that_is_told_is_there(classifier: Classifier) -> None:
    """What a hint names can be had: `answer.x` of an answer, `answers.x` of several."""
    several = classifier.predict([PICTURE])
    for hint in (*ANSWER_HINTS.values(), *ANSWERS_HINTS.values()):
        name, _, rest = re.sub(r"\(.*", "", hint).partition(".")
        if name in ("answer", "answers"):
            found: Any = {"answer": several[0], "answers": several}[name]
            for part in rest.split("."):
                found = getattr(found, part)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("top_k", r"takes no 'top_k'; the answer holds every class"),
        ("target", r"c.explain\(source, target=name\)"),
        ("widow", "choose from window, frame"),
    ],
)
def test_an_option_that_there_is_not_tells_the_right_call(
    classifier: Classifier, sample_slices: list[Path], option: str, said: str
) -> None:
    for call in (classifier, classifier.predict):
        with pytest.raises(TypeError, match=said):
            call(sample_slices[0], **{option: 1})


def test_the_package_tells_how_a_checkpoint_is_loaded() -> None:
    import ct_xception

    with pytest.raises(AttributeError, match="Classifier.from_pretrained"):
        ct_xception.load()
    with pytest.raises(AttributeError, match="it has Classifier, Prediction"):
        ct_xception.nothing()


def test_a_run_folder_stands_for_its_checkpoint(tiny_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "run" / "model")
    assert Classifier.from_pretrained(tmp_path / "run").name == str(tmp_path / "run" / "model")
    with pytest.raises(
        CheckpointError, match="holds runs, and is no checkpoint; give one of theirs, such as .*run/model"
    ):
        Classifier.from_pretrained(tmp_path)


def test_an_audit_shows_and_saves_itself(small_phantom: Path, tmp_path: Path) -> None:
    found = ct_xception.audit(small_phantom, progress=False)  # type: ignore[operator]
    assert repr(found).startswith("Audit of 24 images: ") and not found.leaks
    frame = found.to_frame()
    assert list(frame.severity) == [one.severity for one in found.findings] and list(frame.of) == [
        one.total for one in found.findings
    ]
    assert all(title.replace("&", "&amp;") in found._repr_html_() for title in frame.title if "<" not in title)
    assert found.save(tmp_path / "audit").read_text().startswith("<!doctype html>")
    loaded = ct_xception.load_corpus(small_phantom)
    assert ct_xception.audit(loaded, progress=False).hash == found.hash  # type: ignore[operator]


def test_figures_are_those_of_the_command(
    classifier: Classifier, tiny_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = classifier.evaluate(tiny_corpus, audit=False, output=tmp_path / "figures")
    assert repr(figures) in capsys.readouterr().out and (figures.folder / "errors.html").is_file()
    frame = figures.to_frame()
    row = frame[(frame.answers == "predictor") & (frame.figure == "accuracy")].iloc[0]
    assert row.n == figures["n"] and row.low <= row.value <= row.high
