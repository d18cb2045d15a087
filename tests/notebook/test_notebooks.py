"""The notebooks run from first cell to last, in the small version, and hold nothing of the machine they ran on."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

BOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


def test_there_are_two() -> None:
    assert [path.stem for path in BOOKS] == ["can_your_corpus_be_believed", "from_slices_to_a_space"]


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (pip install '.[test]')")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (pip install '.[test]')")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed (pip install '.[test]')")
    for name, value in {"CT_XCEPTION_SMALL": "1", "TQDM_DISABLE": "1", "TMPDIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    book = nbformat.read(path, as_version=4)
    here = {"metadata": {"path": str(tmp_path)}}
    ran = nbclient.NotebookClient(book, timeout=1200, kernel_name="python3", resources=here).execute()
    cells = [cell for cell in ran.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    shown = "".join(str(output.get("data", "")) for cell in cells for output in cell.outputs)
    assert ("leak_exact" in shown) if path.stem.startswith("can") else ("image/png" in shown and "index.html" in shown)


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_it_says_how_to_install_and_nothing_of_a_machine(path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed (pip install '.[test]')")
    book = nbformat.read(path, as_version=4)
    first = next(cell.source for cell in book.cells if cell.cell_type == "code")
    assert "%pip install" in first and "uv pip install" in first
    assert not re.search(rf"{re.escape(os.sep)}(home|root|work|tmp)\b", path.read_text(encoding="utf-8"))
