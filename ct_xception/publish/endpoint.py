"""What an Inference Endpoint needs beside a checkpoint: the handler, the rooms of the package that it asks, and pins.

Nothing of it is in a checkpoint unless it is asked for: a stock folder holds no code. What is asked for is known byte
for byte, so that a file of the same name with other contents is refused like any other code.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Mapping
from pathlib import Path

from ct_xception.publish.clearance import Content

HANDLER, REQUIREMENTS = "handler.py", "requirements.txt"
# The serve river, without what only explains; everything else stays at home.
ROOMS = ("imaging", "model", "serving", "statistics")
MODULES = ("__init__.py", "checkpoint.py", "checkpoint_files.py", "errors.py", "files.py", "hub_download.py", "text.py")
# What the rooms import. torch comes with the endpoint's image, built for its accelerator.
NEEDED = (
    "timm", "transformers", "pydantic", "safetensors", "numpy", "scipy", "pillow", "scikit-image", "pydicom",
    "python-gdcm",
)  # fmt: skip
_REQUIREMENT = re.compile(r"\s*(?P<name>[A-Za-z0-9][\w.-]*)")


def handler_files() -> dict[str, Content]:
    """The files of the handler: {path in the repository: a file, or bytes}."""
    package = Path(__file__).resolve().parents[1]
    sources = [package / name for name in MODULES]
    sources += [path for room in ROOMS for path in sorted((package / room).rglob("*.py"))]
    files: dict[str, Content] = {f"ct_xception/{path.relative_to(package).as_posix()}": path for path in sources}
    files[HANDLER] = Path(__file__).with_name("handler.py")
    files[REQUIREMENTS] = _requirements().encode()
    return files


def handler_hashes() -> dict[str, str]:
    """{path: SHA-256} of the handler's files, by which clearance knows them."""
    return {name: _sha256(content) for name, content in handler_files().items()}


def is_handler_file(name: str) -> bool:
    """Whether a path in a repository is one that a handler, of this version or another, may take."""
    return name in (HANDLER, REQUIREMENTS) or (name.startswith("ct_xception/") and name.endswith(".py"))


def without_handler(files: Mapping[str, Content]) -> dict[str, Content]:
    """A checkpoint's own files."""
    return {name: content for name, content in files.items() if not is_handler_file(name)}


def _sha256(content: Content) -> str:
    return hashlib.sha256(content if isinstance(content, bytes) else content.read_bytes()).hexdigest()


def _requirements() -> str:
    """Our own requirements, at the ranges that this version states, of what the handler imports."""
    stated = importlib.metadata.requires("ct-xception") or []
    wanted = [(found["name"].lower(), one) for one in stated if (found := _REQUIREMENT.match(one))]
    named = {name: one for name, one in wanted if "extra ==" not in one}
    return "".join(f"{named[name]}\n" for name in NEEDED if name in named)
