"""The Space: everything that the demo page needs to run on the Hub, from what is installed here.

The package travels as source beside app.py. The Hub builds a Space from requirements.txt alone, before it has the other
files, so that a wheel among them could not be named there; and a release on an index need not exist.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
from pathlib import Path

from ct_xception.errors import InputError
from ct_xception.publish.clearance import Content

DISTRIBUTION = "ct-xception"
_SOURCES = (".py", ".md", ".css", ".html", ".js")
_REQUIREMENT = re.compile(r"\s*(?P<name>[A-Za-z0-9][\w.-]*)(?P<extras>\[[\w.,-]+\])?")


def space_files(model_id: str) -> dict[str, Content]:
    """The files of a Space that answers from `model_id`: {path in the repository: a file, or bytes}."""
    app, package = package_folder("ct_xception_app"), package_folder("ct_xception")
    # app.py stands at the top, where the Hub looks for it; the page's other modules are the package that it imports.
    files: dict[str, Content] = {"app.py": app / "app.py"}
    files |= {f"ct_xception_app/{path.relative_to(app).as_posix()}": path for path in sorted(app.glob("examples/*"))}
    for name, folder in (("ct_xception_app", app), ("ct_xception", package)):
        files |= {
            f"{name}/{path.relative_to(folder).as_posix()}": path
            for path in sorted(folder.rglob("*"))
            if path.suffix in _SOURCES and "__pycache__" not in path.parts
        }
    for only_at_the_top in ("app.py", "README.md"):
        del files[f"ct_xception_app/{only_at_the_top}"]
    files["requirements.txt"] = _requirements().encode()
    files["README.md"] = _header((app / "README.md").read_text(encoding="utf-8"), model_id).encode()
    return files


def package_folder(package: str) -> Path:
    """Where an installed package lies; it is not imported, since the app brings gradio with it."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise InputError(f"{package} is not installed here; install ct-xception (pip install .) to publish its Space.")
    return Path(found.origin).parent


def _requirements() -> str:
    """Our own requirements at the versions installed here, with which the page was last seen to run."""
    try:
        wanted = importlib.metadata.requires(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"{DISTRIBUTION} is not installed here; install it (pip install .) to publish its Space."
        ) from None
    named = [found for one in wanted if "extra ==" not in one and (found := _REQUIREMENT.match(one))]
    return "".join(f"{one['name']}{one['extras'] or ''}=={_public(one['name'])}\n" for one in named)


def _public(name: str) -> str:
    """An installed version without its local part (2.14.1+cpu), which no index serves."""
    return importlib.metadata.version(name).partition("+")[0]


def _header(text: str, model_id: str) -> str:
    """app/README.md with the versions that run here, and a link to the model."""
    python = ".".join(platform.python_version_tuple()[:2])
    text = re.sub(r"(?m)^sdk_version:.*$", f"sdk_version: {_public('gradio')}", text, count=1)
    text = re.sub(r"(?m)^python_version:.*$", f'python_version: "{python}"', text, count=1)
    return text.replace("app_file: app.py\n", f"app_file: app.py\nmodels:\n- {model_id.partition('@')[0]}\n", 1)
