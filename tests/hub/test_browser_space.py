"""The page that answers in the browser, as a static Space on the local Hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import RepoCard

from ct_xception.cli import main
from ct_xception.publish.hosted.browser_space import ORT_FILES
from ct_xception.publish.hub import push_browser_space
from tests.hub.local_hub import LocalHub

SPACE = "spaces/alice/page"


@pytest.fixture
def ort(tmp_path: Path) -> Path:
    folder = tmp_path / "package/dist"
    folder.mkdir(parents=True)
    (folder.parent / "package.json").write_text('{"version": "9.8.7"}')
    for name in ORT_FILES:
        (folder / name).write_text(name)
    return folder.parent


def test_a_space_is_published_from_a_folder(
    hub: LocalHub, log_in: object, exported_checkpoint: Path, ort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = "alice/ct@0123456789abcdef"
    pushed = push_browser_space(exported_checkpoint, model, "alice/page", ort=ort, tag="v1")
    repository = hub[SPACE]
    assert pushed.changed and repository.sdk == "static" and repository.tags == {"v1": pushed.commit}
    files = set(repository.at("main").files) - {".gitattributes"}
    assert {
        "index.html",
        "page.js",
        "style.css",
        "model_int8_to_middle.onnx",
        "model_int8_exit.onnx",
        "ort/ort.wasm.min.mjs",
        "README.md",
    } <= files
    header = RepoCard(hub.read(SPACE, "README.md").decode()).data.to_dict()
    assert header["sdk"] == "static" and header["app_file"] == "index.html" and header["models"] == ["alice/ct"]
    assert header["custom_headers"]["cross-origin-opener-policy"] == "same-origin"
    record = json.loads(hub.read(SPACE, "checkpoint.json"))
    assert record["name"] == model and record["runtime"]["version"] == "9.8.7"
    assert not push_browser_space(exported_checkpoint, model, "alice/page", ort=ort, tag="v1").changed


def test_what_cannot_be_published_is_refused_before_anything_goes_up(
    hub: LocalHub, published: object, log_in: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, sentence in (
        (["alice/ct@v1", "alice/none", "--browser"], "onnx/model.onnx is missing; write it with `ct-xception export`"),
        (["alice/ct@v1", "alice/none", "--space", "--browser"], "--browser: --space has that name already"),
        (["alice/ct@v1", "alice/none", "--space", "--ort", "package"], "--ort: goes with --browser; give both"),
    ):
        assert main(["push", *arguments]) == 2
        assert sentence in capsys.readouterr().err
    assert ("spaces", "alice/none") not in hub.repositories
