"""One request, one answer at every door: the same map, and of what the input gate refuses nothing but its reasons."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pyarrow.parquet
import pytest
from ct_xception_app import doors, words
from ct_xception_app.cases import MapChoice, Study, View
from ct_xception_app.downloads import as_csv, as_json, as_report
from datasets import Dataset
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from ct_xception.cli import main
from ct_xception.evaluation import error_cases
from ct_xception.evaluation.explanations import examine
from ct_xception.explain.explain import Explanation, explain
from ct_xception.explain.overlay import draw_overlay
from ct_xception.explain.summary import explanation_record
from ct_xception.html import image_uri
from ct_xception.publish.handler import EndpointHandler
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.inference_api import NotAnswered
from ct_xception.text import percent
from tests.closeness import ROUNDING
from tests.evaluation.conftest import make_split
from tests.gates import add_gate


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    return Classifier.from_pretrained(tiny_checkpoint)


def through_the_api(
    classifier: Classifier, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **wish: str
) -> tuple[dict[str, Any], Image.Image]:
    """What the API's function gives for a file that came through Gradio's upload."""
    monkeypatch.setattr(doors, "_uploaded", lambda _: (path, path.name))
    monkeypatch.setattr(doors, "get_upload_folder", lambda: str(tmp_path))
    record, picture = doors.Api(classifier).explain(gr.FileData(path=str(path)), **wish)
    return record["explanation"], Image.open(dict(picture)["path"])


@pytest.mark.parametrize("method", ["gradcam", "integrated_gradients"])
def test_every_door_shows_the_same_map(
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


def test_the_evaluation_s_maps_are_those_of_the_doors(
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


Door = Callable[[Path, Path, pytest.MonkeyPatch], tuple[str, Any]]  # checkpoint, slice: (all that is told, the label)


def python_record(model: Path, path: Path, _: pytest.MonkeyPatch) -> tuple[str, Any]:
    record = Classifier.from_pretrained(model)(path).to_dict()
    return json.dumps(record), record["label"]


def command_line(*options: str, terminal: bool = False) -> Door:
    def ask(model: Path, path: Path, patch: pytest.MonkeyPatch) -> tuple[str, Any]:
        out = io.StringIO()
        patch.setattr(out, "isatty", lambda: terminal, raising=False)
        patch.setattr("sys.stdout", out)
        twice = [str(path)] * (1 if "--json" in options or "--one" in options else 2)
        given = [option for option in options if option != "--one"]
        assert main(["predict", *twice, "--model", str(model), *given]) == 2
        label = json.loads(out.getvalue())["label"] if "--json" in options else None
        return out.getvalue(), label

    return ask


def inference_route(model: Path, path: Path, _: pytest.MonkeyPatch) -> tuple[str, Any]:
    route = doors.Inference(loaded(model), doors.Limits())
    server = Starlette(routes=[Route("/", route.respond, methods=["POST"])])
    found = TestClient(server).post("/", content=path.read_bytes())
    assert found.status_code == 422
    return found.text, found.json().get("label")


def gradio_and_mcp(model: Path, path: Path, patch: pytest.MonkeyPatch) -> tuple[str, Any]:
    patch.setattr(doors, "_uploaded", lambda _: (path, path.name))
    record = doors.Api(loaded(model)).predict(gr.FileData(path=str(path)))
    return json.dumps(record), record["label"]


def endpoint_handler(model: Path, path: Path, patch: pytest.MonkeyPatch) -> tuple[str, Any]:
    patch.setattr("ct_xception.publish.handler.isolate_decoding", lambda: None)
    with pytest.raises(NotAnswered) as caught:
        EndpointHandler(model)({"inputs": path.read_bytes()})
    return str(caught.value), None


def page_and_downloads(model: Path, path: Path, _: pytest.MonkeyPatch) -> tuple[str, Any]:
    study = Study(loaded(model))
    case = study.open_case([str(path)], window=None, choice=MapChoice(), aggregation="mean_log")
    findings = study.findings(case)
    told = [words.answer(case.view.prediction), as_csv(findings), as_json(findings), as_report(findings)]
    return "\n".join(told), json.loads(told[2])["answer"]["label"]


def batch_scoring(model: Path, path: Path, _: pytest.MonkeyPatch) -> tuple[str, Any]:
    folder, output = path.parent / "one", path.parent / "answers.parquet"
    folder.mkdir()
    shutil.copy(path, folder)
    assert main(["score", "--model", str(model), "--folder", str(folder), "--output", str(output)]) == 2
    (row,) = pyarrow.parquet.read_table(output).to_pylist()
    assert all(row[name] is None for name in ("prediction_set", "abstained"))
    return json.dumps(row), row["label"]


def loaded(model: Path) -> Classifier:
    return Classifier.from_pretrained(model)


DOORS: dict[str, Door] = {
    "Python": python_record,
    "bars": command_line("--one", terminal=True),
    "table": command_line(terminal=True),
    "tab": command_line(),
    "JSON": command_line("--json"),
    "HTTP route": inference_route,
    "Gradio API and MCP": gradio_and_mcp,
    "endpoint": endpoint_handler,
    "page and downloads": page_and_downloads,
    "batch scoring": batch_scoring,
}


@pytest.mark.parametrize("door", DOORS)
def test_what_the_gate_refuses_has_reasons_and_no_answer_at_every_door(
    door: str, tiny_checkpoint: Path, sample_slices: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = shutil.copytree(tiny_checkpoint, tmp_path / "model")
    path = Path(shutil.copy(sample_slices[0], tmp_path / "slice.png"))
    add_gate(model)
    expected = Classifier.from_pretrained(model)(path)
    assert expected.refusal
    told, label = DOORS[door](model, path, monkeypatch)
    assert label is None and "features lie" in told
    shares = [form for p in expected.probabilities.values() for form in (f"{p:.6f}", percent(p), repr(p)[:8])]
    assert not [share for share in shares if share in told]
    assert not re.search(rf"{expected.label}[^,\t]*[0-9]", told.replace(f"p {expected.label}", ""))
