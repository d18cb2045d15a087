"""What an Inference Endpoint needs beside a checkpoint: the handler, the modules that it imports, and their packages.

Both are read from the imports themselves, those inside functions too, so that nothing has to be remembered here.
Nothing of it is in a checkpoint unless it is asked for: a stock folder holds no code. What is asked for is known byte
for byte, so that a file of the same name with other contents is refused like any other code.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from ct_xception.publish.clearance import Content

HANDLER, REQUIREMENTS = "handler.py", "requirements.txt"
PACKAGE = Path(__file__).resolve().parents[2]
_STAYS_HOME = ("ct_xception.explain",)  # what a handler is never asked for, though a classifier can do it
_IN_THE_IMAGE = {"torch", "torchvision"}  # of the endpoint, built for its accelerator
_BEHIND = {"pydicom": "python-gdcm"}  # a decoder that is found at run time, not imported
_REQUIREMENT = re.compile(r"\s*(?P<name>[A-Za-z0-9][\w.-]*)")


def handler_files() -> dict[str, Content]:
    """The files of the handler: {path in the repository: a file, or bytes}."""
    own, foreign = _imported(PACKAGE / "publish" / "hosted" / "handler.py")
    files: dict[str, Content] = {f"ct_xception/{path.relative_to(PACKAGE).as_posix()}": path for path in own}
    files[HANDLER] = PACKAGE / "publish" / "hosted" / "handler.py"
    files[REQUIREMENTS] = _requirements(foreign).encode()
    return files


@cache
def _imported(start: Path) -> tuple[tuple[Path, ...], frozenset[str]]:
    """The modules of this package that a file imports, directly or not, and the other top-level names."""
    seen: set[Path] = set()
    foreign: set[str] = set()
    waiting = [start]
    while waiting:
        path = waiting.pop()
        for name in _names(ast.parse(path.read_text(encoding="utf-8"))):
            if name.split(".")[0] != "ct_xception":
                foreign.add(name.split(".")[0])
            elif not name.startswith(_STAYS_HOME):
                waiting += set(_files(name)) - seen
                seen |= set(_files(name))
    return tuple(sorted(seen)), frozenset(foreign)


def _files(name: str) -> Iterator[Path]:
    """The module of a dotted name, where it is one, and the packages that it lies in."""
    parts = name.split(".")[1:]
    folders = [PACKAGE.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
    files = [folder / "__init__.py" for folder in folders] + [folders[-1].with_suffix(".py")]
    yield from (file for file in files if file.is_file())


def _names(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported when the code runs, as a dotted name; of `from a import b`, `a.b` too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        yield from _names(node)


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


def _requirements(imported: frozenset[str]) -> str:
    """Our own requirements, at the ranges that this version states, of what the handler imports."""
    found = importlib.metadata.packages_distributions()
    wanted = {dist.lower() for name in imported - _IN_THE_IMAGE for dist in found.get(name, ())}
    wanted |= {_BEHIND[name] for name in wanted & _BEHIND.keys()}
    stated = importlib.metadata.requires("ct-xception") or []
    named = [(match["name"].lower(), one) for one in stated if (match := _REQUIREMENT.match(one))]
    return "".join(f"{one}\n" for name, one in named if name in wanted and "extra ==" not in one)
