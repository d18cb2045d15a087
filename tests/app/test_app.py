"""The page without a browser: what its actions return, and that the installed package is the app folder."""

from __future__ import annotations

import inspect
import socket
from pathlib import Path

import gradio as gr
import pytest
from ct_xception_app import app
from ct_xception_app.limits import KEPT_SECONDS

from ct_xception.errors import CheckpointError, InputError
from ct_xception.serving.classifier import Classifier
from ct_xception.text import RESEARCH_USE

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


def test_the_page_s_own_actions_are_no_api_and_it_keeps_its_limits(tiny_checkpoint: Path) -> None:
    demo = app.build_demo(tiny_checkpoint)
    assert isinstance(demo, gr.Blocks) and not demo.analytics_enabled and demo.delete_cache == (60, KEPT_SECONDS)
    public = {function.api_name for function in demo.fns.values() if function.api_visibility != "private"}
    assert public == {"predict", "predict_units", "explain", "model"}
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
