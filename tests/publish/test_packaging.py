"""The card's template travels: from the checkout into the source distribution, and from either into the wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
INSIDE = "ct_xception/publish/card/model_card.md"


def build(tree: Path, what: str, into: Path) -> Path:
    """Build with the backend that pyproject.toml names, without fetching anything."""
    into.mkdir(exist_ok=True)
    code = f"from setuptools import build_meta; print(build_meta.build_{what}({str(into)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return into / done.stdout.strip().splitlines()[-1]


def test_the_template_is_in_sdist_and_wheel(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77", reason="the build backend must know PEP 639 licences")
    ignore = shutil.ignore_patterns(".*", "runs", "build", "dist", "tests", "benchmarks", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, tmp_path / "checkout", symlinks=True, ignore=ignore)
    for name in ("README.md", "LICENSE"):
        (tmp_path / "checkout" / name).touch()
    template = (ROOT / "model_card.md").read_bytes()
    sdist = build(tmp_path / "checkout", "sdist", tmp_path / "dist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert (unpacked / INSIDE).read_bytes() == template
    wheel = build(unpacked, "wheel", tmp_path / "dist")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(INSIDE) == template
        assert "model_card.md" not in archive.namelist()
        # So does the page that answers in the browser, whole.
        page = {f"ct_xception_app/browser/{path.name}" for path in (ROOT / "app/browser").iterdir()}
        assert len(page) > 5 and page <= set(archive.namelist())
