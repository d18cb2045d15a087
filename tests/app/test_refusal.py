"""What the input gate refuses leaves every door with its reasons, and with neither label nor figure."""

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
from ct_xception_app import api, words
from ct_xception_app.cases import MapChoice, Study
from ct_xception_app.downloads import as_csv, as_json, as_report
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from ct_xception.cli import main
from ct_xception.publish.hosted.handler import EndpointHandler
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.inference_api import Asked, NotAnswered, classify
from ct_xception.text import percent
from tests.gates import add_gate

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


def compared(*options: str) -> Door:
    def ask(model: Path, path: Path, patch: pytest.MonkeyPatch) -> tuple[str, Any]:
        out = io.StringIO()
        patch.setattr("sys.stdout", out)
        assert main(["compare", str(model), str(model), "--on", str(path), *options]) == 2
        if not options:
            return out.getvalue(), None
        (record,) = json.loads(out.getvalue())
        assert [one["answer"] for one in record["models"]] == [None, None]
        return out.getvalue(), record["agree"]

    return ask


def inference_route(model: Path, path: Path, _: pytest.MonkeyPatch) -> tuple[str, Any]:
    route = api.Inference(loaded(model), api.Limits())
    server = Starlette(routes=[Route("/", route.respond, methods=["POST"])])
    found = TestClient(server).post("/", content=path.read_bytes())
    assert found.status_code == 422
    return found.text, found.json().get("label")


def gradio_and_mcp(model: Path, path: Path, patch: pytest.MonkeyPatch) -> tuple[str, Any]:
    patch.setattr(api, "uploaded", lambda _: (path, path.name))
    record = api.Api(loaded(model)).predict(gr.FileData(path=str(path)))
    return json.dumps(record), record["label"]


def endpoint_handler(model: Path, path: Path, patch: pytest.MonkeyPatch) -> tuple[str, Any]:
    patch.setattr("ct_xception.publish.hosted.handler.isolate_decoding", lambda: None)
    with pytest.raises(NotAnswered) as caught:
        EndpointHandler(model)({"inputs": path.read_bytes()})
    return str(caught.value), None


def page_and_downloads(model: Path, path: Path, _: pytest.MonkeyPatch) -> tuple[str, Any]:
    study = Study(loaded(model))
    case = study.open_case([str(path)], window=None, choice=MapChoice())
    findings = study.findings(case)
    said = words.answer(case.view.prediction) + words.rules(case.view.prediction) + words.in_short(case.answers[0])
    told = [said, as_csv(findings), as_json(findings), as_report(findings)]
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
    "by patient": command_line("--by", "patient", "--one", terminal=True),
    "two models": compared(),
    "two models in JSON": compared("--json"),
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


def blank(path: Path) -> Path:
    """The slice without some of its rows, in a format that cannot tell."""
    pixels = np.array(Image.open(path))
    pixels[40:60] = 0
    Image.fromarray(pixels).save(path.with_suffix(".tif"))
    return path.with_suffix(".tif")


def test_missing_pixels_are_told_in_bold_on_the_page_and_in_the_answers_to_programs(
    tiny_checkpoint: Path, sample_slices: list[Path], tmp_path: Path
) -> None:
    path = blank(Path(shutil.copy(sample_slices[0], tmp_path)))
    said = "40 to 59 of 96 hold one value: blank, or missing"
    classifier = loaded(tiny_checkpoint)
    page = words.notes(classifier(path))
    assert f'role="alert"><strong>Rows {said}.</strong>' in page and page.count(said) == 1
    for by in (None, "series"):
        answer = classify(classifier, path.read_bytes(), Asked(by=by))
        assert any(note.endswith(f"rows {said}") for note in answer[0]["notes"])
