"""The handler for Inference Endpoints, called as their toolkit calls it; and what may go with a checkpoint for it."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ct_xception.errors import CheckpointError, InputError, SliceError
from ct_xception.publish.clearance import check_checkpoint
from ct_xception.publish.hosted.endpoint import HANDLER, REQUIREMENTS, handler_files, handler_hashes, without_handler
from ct_xception.publish.hosted.handler import EndpointHandler
from ct_xception.publish.release import release_checkpoint
from ct_xception.serving.classifier import Classifier
from tests.closeness import ROUNDING

ROOT = Path(__file__).resolve().parents[3]
DICOM = ROOT / "app" / "examples" / "normal.dcm"

# What the toolkit does: the repository's folder goes first on the path, handler.py is loaded by its place, and what a
# request brings is given to EndpointHandler(folder).
TOOLKIT = """
import importlib.util, json, sys
folder, picture = sys.argv[1:]
sys.path.insert(0, folder)
spec = importlib.util.spec_from_file_location("handler", folder + "/handler.py")
module = importlib.util.module_from_spec(spec)
sys.modules["handler"] = module
spec.loader.exec_module(module)
answer = module.EndpointHandler(folder)({"inputs": open(picture, "rb").read(), "parameters": {"top_k": 2}})
import ct_xception
assert ct_xception.__file__.startswith(folder), ct_xception.__file__
assert not {name.split(".")[1] for name in sys.modules if name.startswith("ct_xception.")} & {"publish", "training"}
print(json.dumps(answer))
"""


# Every shipped module is imported; none of ours from anywhere else, an editable install included.
CLEAN = """
import importlib, sys
from pathlib import Path
folder = Path(sys.argv[1])
sys.meta_path = [one for one in sys.meta_path if "editable" not in str(one).lower()]
sys.path = [str(folder), *(one for one in sys.path if not (Path(one or ".") / "ct_xception").is_dir())]
for path in sorted(folder.glob("ct_xception/**/*.py")):
    name = ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")
    assert importlib.import_module(name).__file__.startswith(str(folder)), name
print("all came")
"""


@pytest.fixture(scope="module")
def handler(tiny_checkpoint: Path) -> EndpointHandler:
    return EndpointHandler(str(tiny_checkpoint))


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    return Classifier.from_pretrained(tiny_checkpoint)


def scores(answer: list[dict[str, Any]]) -> dict[str, float]:
    return {item["label"]: item["score"] for item in answer}


@pytest.mark.parametrize("form", ["bytes", "picture", "base64", "data url"])
def test_every_form_of_input_gets_the_predictor_s_answer(
    handler: EndpointHandler, classifier: Classifier, sample_slices: list[Path], form: str
) -> None:
    content = sample_slices[0].read_bytes()
    text = base64.b64encode(content).decode()
    inputs = {
        "bytes": content,
        "picture": Image.open(sample_slices[0]).convert("RGB"),
        "base64": text,
        "data url": f"data:image/png;base64,{text}",
    }[form]
    answer = handler({"inputs": inputs})
    assert [item["label"] for item in answer] == list(classifier(sample_slices[0]).probabilities)
    assert scores(answer) == pytest.approx(classifier(sample_slices[0]).probabilities, abs=ROUNDING)
    assert json.loads(json.dumps(answer)) == answer


def test_dicom_and_its_window(handler: EndpointHandler, classifier: Classifier) -> None:
    from ct_xception.imaging.windows import Window

    inputs = base64.b64encode(DICOM.read_bytes()).decode()
    answer = handler({"inputs": inputs, "parameters": {"window": "40/400", "top_k": 3}})
    expected = classifier(DICOM, window=Window(40, 400)).probabilities
    assert len(answer) == 3 and all(
        item["score"] == pytest.approx(expected[item["label"]], abs=ROUNDING) for item in answer
    )


@pytest.mark.parametrize(
    ("request_", "kind", "words"),
    [
        ({}, InputError, 'the request has no "inputs"'),
        ({"inputs": 7}, InputError, '"inputs" is int, not text'),
        ({"inputs": "not base64!"}, InputError, '"inputs" is not base64'),
        ({"inputs": b"no picture"}, SliceError, "the posted file: neither DICOM nor one of PNG"),
        ({"inputs": b"x", "parameters": {"topk": 1}}, InputError, "parameter 'topk' is unknown"),
    ],
)
def test_a_bad_request_is_one_sentence(
    handler: EndpointHandler, request_: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        handler(request_)


class TestPublishing:
    def test_a_stock_folder_holds_none_of_it(self, sealed: Path) -> None:
        files = release_checkpoint(sealed, "someone/ct")
        assert without_handler(files) == files

    def test_what_was_asked_for_goes_and_is_sealed(self, sealed: Path) -> None:
        stock, files = release_checkpoint(sealed, "someone/ct"), release_checkpoint(sealed, "someone/ct", handler=True)
        assert without_handler(files).keys() == stock.keys()
        side = json.loads(files["ct_xception.json"])  # type: ignore[arg-type]
        assert set(side["manifest"]) == set(files) - {"ct_xception.json"}
        source = files[HANDLER]
        assert isinstance(source, Path) and side["manifest"][HANDLER] == hashlib.sha256(source.read_bytes()).hexdigest()

    def test_the_card_tells_of_it(self, sealed: Path) -> None:
        stock, card = (
            bytes(release_checkpoint(sealed, "someone/ct", handler=asked)["README.md"]).decode()  # type: ignore[arg-type]
            for asked in (False, True)
        )
        assert "no code in this repository has to be trusted." in stock and "| Security | no code in this" in stock
        assert HANDLER not in stock
        assert "checkpoint: the code in this repository (`handler.py`, `ct_xception/`) is for Inference" in card
        assert "| Security | code for Inference Endpoints (`handler.py`, `ct_xception/`)" in card
        assert "no code" not in card

    def test_a_copy_with_a_handler_goes_again_with_it_and_not_without(self, sealed: Path) -> None:
        for name, content in release_checkpoint(sealed, "someone/ct", handler=True).items():
            (sealed / name).parent.mkdir(parents=True, exist_ok=True)
            (sealed / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        assert HANDLER in release_checkpoint(sealed, "another/net", handler=True)
        with pytest.raises(CheckpointError, match="ct_xception/__init__.py: is code|handler.py: is code"):
            release_checkpoint(sealed, "another/net")

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            (HANDLER, b"import os\n"),
            ("ct_xception/serving/classifier.py", b"import os\n"),
            ("pipeline.py", b""),
            (REQUIREMENTS, b"torch\nevil\n"),
        ],
    )
    def test_other_bytes_under_its_names_are_refused(self, name: str, content: bytes) -> None:
        with pytest.raises(CheckpointError, match=f"{name}: is (code|of no kind)"):
            check_checkpoint({name: content}, phantom=True, code=handler_hashes())

    def test_it_runs_from_what_was_pushed(
        self, tiny_checkpoint: Path, sample_slices: list[Path], classifier: Classifier, tmp_path: Path
    ) -> None:
        folder = tmp_path / "repository"
        checkpoint = {path.name: path for path in tiny_checkpoint.iterdir()}
        for name, content in {**checkpoint, **handler_files()}.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        words = [sys.executable, "-c", TOOLKIT, str(folder), str(sample_slices[0])]
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        expected = classifier(sample_slices[0]).probabilities
        found = scores(json.loads(done.stdout.splitlines()[-1]))
        assert len(found) == 2 and all(found[name] == pytest.approx(expected[name], abs=ROUNDING) for name in found)

    def test_what_it_imports_goes_and_nothing_else(self) -> None:
        files = set(handler_files())
        assert {
            "ct_xception/__init__.py",
            "ct_xception/checkpoint.py",
            "ct_xception/imaging/decoders/dicom.py",
        } <= files
        rooms = {name.split("/")[1] for name in files if name.count("/") > 1}
        assert rooms == {"imaging", "model", "serving", "statistics"}
        assert "ct_xception/model/modelling.py" in files  # which is imported inside a function
        assert "ct_xception/serving/series.py" in files  # the answer by series or patient that a request may ask for

    def test_its_requirements_are_those_of_what_it_imports(self) -> None:
        stated = handler_files()[REQUIREMENTS].decode().splitlines()  # type: ignore[union-attr]
        names = {line.partition(">")[0].lower() for line in stated}
        wanted = {"timm", "transformers", "safetensors", "numpy", "pillow", "scikit-image", "pydicom", "python-gdcm"}
        assert wanted <= names and all(">=" in line for line in stated)
        assert not names & {"torch", "torchvision", "gradio[mcp]", "gradio", "captum", "datasets", "pandas"}

    def test_it_answers_where_nothing_else_of_ours_is(self, sample_slices: list[Path], tmp_path: Path) -> None:
        """A clean process that can import the shipped files alone: a module that was forgotten would be missed."""
        for name, content in handler_files().items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
        done = subprocess.run(
            [sys.executable, "-c", CLEAN, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.strip() == "all came"


def test_the_command_takes_it(
    monkeypatch: pytest.MonkeyPatch,
    sealed: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from ct_xception.cli import main

    asked: dict[str, Any] = {}

    def push(folder: Path, repo_id: str, **options: Any) -> Any:
        asked.update(options)
        raise InputError("that is enough")

    monkeypatch.setattr("ct_xception.publish.hub.push_checkpoint", push)
    for words, wanted in (([], False), (["--handler"], True)):
        assert main(["push", str(sealed), "someone/ct", *words]) == 2 and asked["handler"] is wanted
