"""The page without a browser: what its actions return, and that the installed package is the app folder."""

from __future__ import annotations

import inspect
import socket
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from ct_xception_app import actions, app, words
from ct_xception_app.layout import EXAMPLES
from ct_xception_app.limits import KEPT_SECONDS, SHOWN_SIDE
from PIL import Image

from ct_xception.errors import CheckpointError, InputError
from ct_xception.imaging.slices import Window, read_slice
from ct_xception.serving.decisions import Decisions
from ct_xception.serving.predictor import Classifier
from ct_xception.wording import RESEARCH_USE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    return Classifier.from_pretrained(tiny_checkpoint)


def test_the_installed_app_is_the_space_folder() -> None:
    assert Path(inspect.getfile(app)).resolve() == ROOT / "app" / "app.py"


def test_every_package_is_listed_for_the_wheel() -> None:
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in ROOT.glob("ct_xception/**/__init__.py")}
    assert set(listed) == {folder.as_posix().replace("/", ".") for folder in folders} | {"ct_xception_app"}


def test_the_examples_are_small_slices_that_the_reader_takes() -> None:
    assert len(EXAMPLES) >= 4
    for path in EXAMPLES:
        assert path.stat().st_size < 400_000
        assert min(read_slice(path).pixels.shape) >= 256


def test_an_answer_is_the_classifier_s_own(classifier: Classifier, sample_slices: list[Path]) -> None:
    verdict, slice_, heat, target, legend, notes, kept = actions.answer_file(
        classifier, str(sample_slices[0]), "", 0, 0.6
    )
    answer = classifier(sample_slices[0])
    assert kept.prediction.probabilities == answer.probabilities
    assert f"<span>{answer.label}</span>" in verdict and verdict.count("<tr>") == 4
    assert slice_["label"] == "Slice, 8-bit picture, no HU" and slice_["value"].size == heat.size == (112, 96)
    assert target["value"] == answer.label and answer.label in legend
    assert "cropped to the body" in notes


def test_the_window_chosen_is_the_window_shown(classifier: Classifier, tmp_path: Path) -> None:
    Image.fromarray(np.arange(10_000, dtype=np.uint16).reshape(100, 100)).save(tmp_path / "deep.png")
    _, slice_, *_, kept = actions.answer_file(classifier, str(tmp_path / "deep.png"), "bone", 0, 0.6)
    assert slice_["label"] == "Slice, window 400/1800 in stored units"
    assert kept.prediction.slice.window == Window(400, 1800)


def test_a_bad_file_is_refused_in_the_reader_s_words_and_escaped(classifier: Classifier, tmp_path: Path) -> None:
    bad = tmp_path / "<b>x.png"
    bad.write_bytes(b"no picture")
    message, slice_, heat, *_, kept = actions.answer_file(classifier, str(bad), "", 0, 0.6)
    assert "&lt;b&gt;x.png: neither DICOM nor one of PNG" in message and 'role="alert"' in message
    assert str(tmp_path) not in message
    assert slice_["value"] is None and heat is None and kept is None


def test_another_class_and_opacity_redraw_the_same_slice(classifier: Classifier, sample_slices: list[Path]) -> None:
    *_, kept = actions.answer_file(classifier, str(sample_slices[0]), "", 0, 0.6)
    other = list(kept.prediction.probabilities)[-1]
    heat, legend, changed = actions.explain_other(classifier, kept, other, 0.6)
    assert changed.attribution.label == other and other in legend and changed.prediction is kept.prediction
    assert np.asarray(heat).tobytes() != np.asarray(actions.redraw(kept, 0.6)).tobytes()
    plain = actions.redraw(kept, 0.0)
    assert np.array_equal(np.asarray(plain), np.asarray(kept.prediction.slice.to_pil()))


def test_without_a_slice_the_page_waits(classifier: Classifier) -> None:
    assert "Drop a CT slice" in actions.answer_file(classifier, None, "", 0, 0.6)[0]
    assert actions.explain_other(classifier, None, "normal", 0.6)[0] is None
    assert actions.redraw(None, 0.5) is None


def test_a_large_picture_is_shown_small_and_answered_whole(classifier: Classifier, tmp_path: Path) -> None:
    Image.fromarray(np.full((900, 2000), 90, np.uint8)).save(tmp_path / "film.png")
    _, slice_, heat, *_, kept = actions.answer_file(classifier, str(tmp_path / "film.png"), "", 0, 0.6)
    assert max(slice_["value"].size) == max(heat.size) == SHOWN_SIDE
    assert kept.prediction.slice.pixels.shape == (900, 2000)


def test_the_page_s_own_actions_are_no_api_and_it_keeps_its_limits(tiny_checkpoint: Path) -> None:
    demo = app.build_demo(tiny_checkpoint)
    assert isinstance(demo, gr.Blocks) and not demo.analytics_enabled and demo.delete_cache == (60, KEPT_SECONDS)
    public = {function.api_name for function in demo.fns.values() if function.api_visibility != "private"}
    assert public == {"predict", "explain", "model"}
    words = [block.value for block in demo.blocks.values() if isinstance(block, gr.HTML)]
    assert any(RESEARCH_USE in str(value) for value in words)


def test_what_is_no_checkpoint_is_refused_before_a_page_is_built(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="config.json is missing"):
        app.build_demo(tmp_path)


def test_a_port_that_is_taken_is_named(tiny_checkpoint: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of 127.0.0.1 is taken or forbidden; choose another"):
            app.launch(app.build_demo(tiny_checkpoint), port=port, wait=False)


def test_a_space_without_its_variable_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CT_XCEPTION_MODEL", raising=False)
    with pytest.raises(SystemExit, match="Set the variable CT_XCEPTION_MODEL to a checkpoint"):
        app.main()


def test_the_rules_stand_under_the_answer_and_only_where_there_are_any(
    classifier: Classifier, sample_slices: list[Path]
) -> None:
    assert "rules" not in words.verdict(classifier(sample_slices[0]))
    conformal = {"method": "lac", "coverage": 0.9, "threshold": 1.0}
    ruled = Classifier(classifier.model, decisions=Decisions(conformal=conformal, temperature=1.25))
    verdict = words.verdict(ruled(sample_slices[0]))
    assert "<li>Prediction set at 90 % coverage: " in verdict and all(name in verdict for name in ruled.label_names)
    assert "<li>Probabilities calibrated on validation (temperature 1.25)</li>" in verdict
