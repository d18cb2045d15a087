"""The Space that is pushed builds and runs from what is pushed: no file of ours is needed beside it."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import RepoCard

from ct_xception.cli import main
from ct_xception.publish.hub import Pushed
from tests.hub.conftest import REPOSITORY
from tests.hub.local_hub import LocalHub

Run = Callable[..., subprocess.CompletedProcess[str]]
SPACE = "spaces/alice/demo"

VISIT = """
import os
import app, ct_xception, ct_xception_app
from ct_xception import Classifier
from ct_xception_app.layout import EXAMPLES

for package in (ct_xception, ct_xception_app):
    assert package.__file__.startswith(os.getcwd()), package.__file__
model = os.environ["CT_XCEPTION_MODEL"]
app.build_demo(model)
classifier = Classifier.from_pretrained(model)
slices = [path for path in EXAMPLES if path.suffix != ".zip"]
print(len(EXAMPLES), *(round(sum(classifier(path).probabilities.values()), 6) for path in slices))
"""


@pytest.fixture
def space(hub: LocalHub, published: Pushed, log_in: object) -> str:
    if ("spaces", "alice/demo") not in hub.repositories:
        assert main(["push", f"{REPOSITORY}@v1", "alice/demo", "--space", "--tag", "v1"]) == 0
    return SPACE


def check_out(hub: LocalHub, name: str, folder: Path) -> Path:
    for path in hub[name].at("main").files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(hub.read(name, path))
    return folder


def test_what_the_hub_is_told(hub: LocalHub, space: str) -> None:
    repository = hub[space]
    assert repository.sdk == "gradio" and repository.tags == {"v1": repository.at("main").id}
    assert repository.variables["CT_XCEPTION_MODEL"]["value"] == f"{REPOSITORY}@v1"
    assert repository.history == ["Publish the page", "initial commit"]
    header = RepoCard(hub.read(space, "README.md").decode()).data.to_dict()
    assert header["app_file"] == "app.py" and header["models"] == [REPOSITORY]
    assert header["sdk_version"] == importlib.metadata.version("gradio")
    assert header["python_version"] == f"{sys.version_info.major}.{sys.version_info.minor}"


def test_another_model_on_the_same_page(
    hub: LocalHub, space: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", "alice/other", "alice/demo", "--space"]) == 0
    assert hub[space].variables["CT_XCEPTION_MODEL"]["value"] == "alice/other"
    assert b"- alice/other\n" in hub.read(space, "README.md")
    assert main(["push", f"{REPOSITORY}@v1", "alice/demo", "--space"]) == 0


def test_the_requirements_can_be_met(hub: LocalHub, space: str, tmp_path: Path) -> None:
    """Each is a version that pip can find: the one installed here."""
    folder = check_out(hub, space, tmp_path)
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps"]
    done = subprocess.run([*pip, "-r", str(folder / "requirements.txt")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wanted = (folder / "requirements.txt").read_text().split()
    assert done.stdout.count("already satisfied") == len(wanted) > 10
    assert not any(line.startswith("ct-xception") for line in wanted)


def test_it_runs_from_what_was_pushed(hub: LocalHub, space: str, run_program: Run, tmp_path: Path) -> None:
    folder, model = check_out(hub, space, tmp_path), hub[space].variables["CT_XCEPTION_MODEL"]["value"]
    done = run_program("python", "-c", VISIT, bare=True, account=None, cwd=folder, env={"CT_XCEPTION_MODEL": model})
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["5", "1.0", "1.0", "1.0", "1.0"]
