"""One request, one map: the command line, Python, the page, its API, the evaluation and the page of mistakes agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from ct_xception_app import api
from ct_xception_app.cases import MapChoice, Study, View
from datasets import Dataset
from PIL import Image

from ct_xception.cli import main
from ct_xception.evaluation.explanations import examine
from ct_xception.evaluation.report import error_cases
from ct_xception.explain.explain import Explanation, explain
from ct_xception.explain.overlay import draw_overlay
from ct_xception.explain.summary import explanation_record
from ct_xception.html import image_uri
from ct_xception.serving.classifier import Classifier
from tests.closeness import ROUNDING
from tests.evaluation.conftest import make_split


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    return Classifier.from_pretrained(tiny_checkpoint)


def through_the_api(
    classifier: Classifier, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **wish: str
) -> tuple[dict[str, Any], Image.Image]:
    """What the API's function gives for a file that came through Gradio's upload."""
    monkeypatch.setattr(api, "uploaded", lambda _: (path, path.name))
    monkeypatch.setattr(api, "get_upload_folder", lambda: str(tmp_path))
    record, picture = api.Api(classifier).explain(gr.FileData(path=str(path)), **wish)
    return record["explanation"], Image.open(dict(picture)["path"])


@pytest.mark.parametrize("method", ["gradcam", "integrated_gradients"])
def test_every_way_in_shows_the_same_map(
    classifier: Classifier,
    tiny_checkpoint: Path,
    sample_slices: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
) -> None:
    path = sample_slices[0]
    mine = explain(classifier, classifier.read(path), method=method)
    record, picture = through_the_api(classifier, path, monkeypatch, tmp_path, method=method)
    assert np.array_equal(np.asarray(picture), np.asarray(draw_overlay(mine)))
    assert main(["explain", str(path), "--model", str(tiny_checkpoint), "--json", "--method", method.title()]) == 0
    told = json.loads(capsys.readouterr().out)["explanation"]
    for one in (record, told):
        expected = explanation_record(mine)
        assert one["target"] == expected["target"] and one["budget"] == expected["budget"]
        assert one["strength"] == pytest.approx(expected["strength"], rel=ROUNDING)
        assert json.dumps(one["regions"]) == json.dumps(expected["regions"])
    shown = Study(classifier).map(View(classifier(path), has_ink=False), MapChoice(method=method)).explained
    assert shown is not None and np.array_equal(shown.attribution.map, mine.attribution.map)


def test_the_evaluation_shows_the_same_map(
    classifier: Classifier, sample_slices: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Explanation] = []
    monkeypatch.setattr(
        "ct_xception.evaluation.explanations._evidence", lambda explanation, *_: seen.append(explanation) or {}
    )
    split: Dataset = make_split([sample_slices[0].read_bytes()], [0])
    examine(classifier, split, [0], [])
    slice_ = classifier.read(sample_slices[0])
    mine = explain(classifier, slice_)
    assert np.array_equal(seen[0].attribution.map, mine.attribution.map)
    drawn = list(error_cases._pictures(classifier, slice_, [mine.target]))
    assert drawn[1] == (
        f"evidence for {mine.attribution.label}",
        image_uri(draw_overlay(mine), error_cases.PICTURE_WIDTH),
    )
