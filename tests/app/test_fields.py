"""Fields for what a network takes beside the image: there for such a checkpoint alone, and taken with every slice."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import pytest
from ct_xception_app.api import Api
from ct_xception_app.app import build_demo
from ct_xception_app.cases import MapChoice, Study

from ct_xception.checkpoint_files import TabularRule
from ct_xception.model.modelling import CTXceptionForImageClassification as Network
from ct_xception.serving.classifier import Classifier

RULE = {
    "version": 1,
    "columns": [
        {"name": "age", "kind": "number", "mean": 60.0, "deviation": 10.0},
        {"name": "sex", "kind": "category", "values": ["F", "M"]},
    ],
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fields") / "model"
    Network.from_backbone("legacy_xception", ["a", "b"], 64, tabular=TabularRule.of(RULE)).save_pretrained(folder)
    return folder


def labels_of(demo: gr.Blocks) -> set[str]:
    return {str(getattr(block, "label", "")) for block in demo.blocks.values()}


def test_the_page_has_a_field_for_each_column_of_such_a_checkpoint(checkpoint: Path, tiny_checkpoint: Path) -> None:
    assert {"age", "sex"} <= labels_of(build_demo(checkpoint))
    assert not {"age", "sex"} & labels_of(build_demo(tiny_checkpoint))


def test_what_is_said_goes_with_every_slice_and_another_word_is_answered_anew(
    checkpoint: Path, sample_slices: list[Path]
) -> None:
    study = Study(Classifier.from_pretrained(checkpoint))
    given = {"window": None, "choice": MapChoice()}
    paths = [str(path) for path in sample_slices[:2]]
    told = study.open_case(paths, row={"age": 63}, **given)
    rows = [one.record["tabular"] for unit in told.units if unit for one in unit.slices if one.record]
    assert rows and all(row == {"age": 63.0, "sex": None} for row in rows)
    assert "answered without sex" in told.view.prediction.notes
    again = study.open_case(paths, row=None, before=told, **given)
    assert again.row is None and "answered without age, sex" in again.view.prediction.notes
    kept = study.open_case(paths, row=None, before=again, **given)
    assert kept.readings is again.readings


def test_a_second_model_that_sees_the_image_alone_is_not_given_the_row(
    checkpoint: Path, tmp_path: Path, sample_slices: list[Path]
) -> None:
    Network.from_backbone("legacy_xception", ["a", "b"], 64).save_pretrained(tmp_path)
    second = Study(Classifier.from_pretrained(tmp_path))
    study = Study(Classifier.from_pretrained(checkpoint), second)
    case = study.open_case([str(sample_slices[0])], row={"age": 63}, window=None, choice=MapChoice())
    assert case.view.prediction.tabular == {"age": 63.0, "sex": None}
    assert case.second is not None and case.second.view.prediction.tabular is None  # type: ignore[union-attr]


def test_the_api_says_which_columns_there_are(checkpoint: Path) -> None:
    columns = Api(Classifier.from_pretrained(checkpoint)).model()["columns"]
    assert columns[0].startswith("age: a number") and columns[1] == "sex: F, M, or other"
