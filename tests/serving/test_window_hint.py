"""Slices in HU that the gate doubts through their own window, and would not through another, say so at every door."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ct_xception.evaluation.shift.next_labels import choose_slices
from ct_xception.evaluation.shift.site_slices import list_files, look_at
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.slice import Slice, rewindow
from ct_xception.imaging.windows import WINDOWS, Window
from ct_xception.serving.checkpoint import InputContract
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.drift import SetWatch
from ct_xception.serving.gate import ACCEPTED, DOUBTFUL, GateVerdict
from tests.imaging.builders import ct

HINT = "through the lung or bone window it would be accepted"


class LungsAlone:
    """A gate of one rule, which knows pictures in the lung window, and the bone window a little less."""

    signs = SimpleNamespace(against=lambda slice_, crop: ())

    def __init__(self) -> None:
        self.asked = 0

    def judge(self, slice_: Slice, crop: Any, features: Any) -> GateVerdict:
        self.asked += 1
        known = {WINDOWS["lung"]: 0.1, WINDOWS["bone"]: 0.2}
        score = known.get(slice_.window)
        return GateVerdict(DOUBTFUL, ("odd",), 0.7) if score is None else GateVerdict(ACCEPTED, score=score)


@pytest.fixture
def classifier(tiny_checkpoint: Path) -> Classifier:
    plain = Classifier.from_pretrained(tiny_checkpoint)
    return Classifier(plain.model, gate=LungsAlone())  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def dicom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slice in HU whose own window is the mediastinal one."""
    values = np.full((64, 64), -1000)
    values[8:56, 8:56] = np.linspace(-900, 300, 48).astype(int)
    file = tmp_path_factory.mktemp("hu") / "slice.dcm"
    file.write_bytes(ct(values + 1024, WindowCenter=40, WindowWidth=400, RescaleIntercept=-1024))
    return file


def test_a_doubted_slice_says_which_window_would_do(classifier: Classifier, dicom: Path) -> None:
    answer = classifier(dicom)
    assert answer.gate is not None and answer.gate.reasons == ("odd", HINT)
    assert [HINT in one.gate.reasons for one in classifier([dicom] * 3) if one.gate] == [True, False, False]
    assert answer.slice.window == Window(40, 400) and answer.slice.values is None
    assert answer.to_dict()["gate"]["reasons"] == ["odd", HINT]


def test_what_is_accepted_or_shown_as_asked_is_not_looked_at_again(
    classifier: Classifier, dicom: Path, sample_slices: list[Path]
) -> None:
    assert classifier.gate is not None
    for source, window in ((dicom, WINDOWS["lung"]), (dicom, WINDOWS["mediastinal"]), (sample_slices[0], None)):
        before = classifier.gate.asked  # type: ignore[attr-defined]
        answer = classifier(source, window=window)
        assert answer.gate is not None and HINT not in answer.gate.reasons
        assert classifier.gate.asked == before + 1  # type: ignore[attr-defined]
    stated = Classifier(classifier.model, InputContract(window=WINDOWS["mediastinal"]), gate=classifier.gate)
    answer = stated(dicom)
    assert answer.gate is not None and answer.gate.reasons == ("odd",)


def test_a_set_is_looked_at_in_part_and_told_as_one(classifier: Classifier, dicom: Path) -> None:
    classifier.watch = SetWatch(None, None)  # type: ignore[arg-type]
    answers = [*classifier([dicom] * 3), *classifier([dicom] * 6)]  # in two batches
    told = [number for number, answer in enumerate(answers, 1) if answer.gate and HINT in answer.gate.reasons]
    assert told == [1, 2, 4, 8]
    assert classifier.watch.through.hint() == (
        "of the 4 doubted slices in HU that were looked at again, the input gate would accept 4 with --window lung and "
        "4 with --window bone; give the window in which the pictures of training were shown"
    )
    half = SetWatch(None, None)  # type: ignore[arg-type]
    for accepted in (("lung", "bone"), ("bone",), (), ()):
        half.through.note(accepted)
    assert half.through.hint() is None
    whole = half.join([half, classifier.watch]).through.hint()
    assert whole is not None and "accept 5 with --window lung and 6 with --window bone; give" in whole


def test_a_site_that_is_looked_at_is_told_as_one_too(classifier: Classifier, dicom: Path) -> None:
    waiting, _ = list_files([dicom])
    site = look_at(classifier, waiting * 5, batch_size=2)
    assert site.window_hint is not None and "of the 3 doubted slices in HU" in site.window_hint  # 1st, 2nd, 4th
    assert site.select(site.passed).window_hint == site.window_hint
    assert look_at(classifier, waiting * 5, window=WINDOWS["mediastinal"]).window_hint is None
    assert site.window_hint in choose_slices(classifier, waiting * 5, 1).notes


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_slice_through_another_window_is_as_the_reader_gives_it(dicom: Path, photometric: str) -> None:
    values = np.tile(np.arange(-1000, 280, 20), (64, 1))
    content = ct(values + 1024, RescaleIntercept=-1024, PhotometricInterpretation=photometric)
    kept = read_slice(content, window=WINDOWS["bone"], keep_values=True)
    for window in WINDOWS.values():
        assert np.array_equal(rewindow(kept, window).pixels, read_slice(content, window=window).pixels)
