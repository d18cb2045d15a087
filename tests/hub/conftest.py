"""One local Hub and one published checkpoint, shared by the tests of this room; they name their own repositories."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ct_xception.checkpoint_files import seal
from ct_xception.files import sha256_file
from ct_xception.publish.card.card import write_card
from ct_xception.publish.hub import Pushed, push_checkpoint
from tests.evaluation.conftest import LABEL_NAMES
from tests.hub.local_hub import TOKENS, LocalHub
from tests.publish.conftest import Folder

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "alice/ct"


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    with LocalHub(tmp_path_factory.mktemp("hub")) as running:
        yield running


def connect(patch: pytest.MonkeyPatch, hub: LocalHub, account: str | None, home: Path) -> None:
    """Point the client of this process to the local Hub: it read its variables when it was imported."""
    from huggingface_hub import constants, utils

    settings = {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_STORED_TOKENS_PATH": str(home / "stored_tokens"),
    }
    for name, value in settings.items():
        patch.setattr(constants, name, value)
    patch.delenv("HF_TOKEN", raising=False)
    if account:
        patch.setenv("HF_TOKEN", TOKENS[account])
    utils.close_session()


@pytest.fixture
def log_in(hub: LocalHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str | None], None]]:
    """Log this process in at the local Hub, as alice until told otherwise; an empty cache, and no waiting."""
    from huggingface_hub import utils

    monkeypatch.setattr("ct_xception.publish.hub.WAITS", (0.0, 0.0, 0.0))
    connect(monkeypatch, hub, "alice", tmp_path / "home")
    yield lambda account: connect(monkeypatch, hub, account, tmp_path / "home")
    hub.faults.clear()
    utils.close_session()


@pytest.fixture(scope="session")
def checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole, sealed checkpoint folder of a network that answers, with made-up figures; not to be changed."""
    folder = Folder(
        tmp_path_factory.mktemp("whole") / "model", LABEL_NAMES, 24, {"source": "chest-ct", "hash": "c0ffee"}
    )
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny_checkpoint / name, folder.path / name)
    weights = sha256_file(folder.path / "model.safetensors")
    folder.metrics["weights_sha256"] = folder.side["provenance"]["weights_sha256"] = weights
    folder.write()
    for name in folder.metrics["figures"]:
        Image.new("L", (8, 8)).save(folder.path / "evaluation" / name)
    write_card(folder.path)
    seal(folder.path)
    return folder.path


@pytest.fixture(scope="session")
def published(hub: LocalHub, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Pushed:
    """The checkpoint as alice/ct, tagged v1."""
    with pytest.MonkeyPatch.context() as patch:
        connect(patch, hub, "alice", tmp_path_factory.mktemp("publisher"))
        return push_checkpoint(checkpoint, REPOSITORY, tag="v1")


@pytest.fixture
def copy_of(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint to be changed; the weights are the same file."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy", copy_function=_link_weights))


def _link_weights(source: str, target: str) -> str:
    return str(os.link(source, target) or target) if source.endswith(".safetensors") else shutil.copy(source, target)


@pytest.fixture
def run_program(hub: LocalHub, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program as a client of the local Hub; `bare` is a Python that cannot import ct_xception.

    run_program("hf", "download", "alice/ct"); run_program("python", "-c", code, account="bob", home=…, bare=True)
    """

    def run(
        program: str, *arguments: str, account: str | None = "alice", home: Path | None = None, bare: bool = False,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        command, environment = client(hub, program, account, home or tmp_path / "home", bare)
        environment |= options.pop("env", {})
        return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, **options)

    return run


def client(
    hub: LocalHub, program: str, account: str | None, home: Path, bare: bool = False
) -> tuple[list[str], dict[str, str]]:
    """The command and environment of a client: python, or a script of this environment."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    environment = kept | hub.environment(account, home) | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    if program != "python":
        return [str(Path(sys.executable).with_name(program))], environment
    if not bare:
        return [sys.executable], environment
    # Without `site`, no .pth file is read, and an editable installation is one; the packages themselves are found.
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))
    return [sys.executable, "-S"], environment
