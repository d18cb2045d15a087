"""A hundred and twenty classes with two images a split: the run ends, within bounds, and its pages can be read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
CLASSES = 120
MOST_MEMORY = 3 * 2**30
# Nothing is learnt: what is tested is what becomes of so many classes.
OPTIONS = "--weights none --image_size 64 --epochs 1 --batch_size 16 --workers 0 --threads 1".split()
OPTIONS += ["--explained", "0", "--no-audit"]


def draw_corpus(folder: Path) -> Path:
    """Discs of noise, 48 pixels; every image a patient of its own."""
    random = np.random.default_rng(3)
    rows, columns = np.mgrid[:48, :48]
    disc = (rows - 24) ** 2 + (columns - 24) ** 2 < 400
    for split, number, image in product(("train", "valid", "test"), range(CLASSES), range(2)):
        named = folder / split / f"finding {chr(97 + number // 26)}{chr(97 + number % 26)}"
        named.mkdir(parents=True, exist_ok=True)
        pixels = disc * (60 + random.integers(0, 120, disc.shape))
        Image.fromarray(pixels.astype(np.uint8)).save(named / f"{split}{number:03d}{image}.png")
    return folder


# Between the suite and the command: the most memory of a process begins at what the one held that started it.
LAUNCHER = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=sys.stderr)
_, status, used = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), used.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def run_measured(*words: str, log: Path) -> tuple[int, int]:
    """The exit code of a command, and the most memory in bytes that it or a child of it held."""
    with log.open("w") as file:
        done = subprocess.run(
            [sys.executable, "-c", LAUNCHER, *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            check=True,
        )
    code, memory = map(int, done.stdout.split())
    return code, memory


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_corpus(tmp_path_factory.mktemp("many") / "corpus")


@pytest.fixture(scope="module")
def model(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("many") / "run"
    words = [sys.executable, "train_hf.py", "--corpus", str(corpus), "--output_dir", str(run), *OPTIONS]
    code, memory = run_measured(*words, log=run.with_suffix(".log"))
    assert code == 0, run.with_suffix(".log").read_text()[-3000:]
    assert memory < MOST_MEMORY
    return run / "model"


def test_the_card_can_be_read_and_the_figures_are_whole(model: Path) -> None:
    metrics = json.loads((model / "evaluation" / "metrics.json").read_text())
    assert metrics["n"] == 2 * CLASSES and len(metrics["label_names"]) == CLASSES
    card = (model / "README.md").read_text()
    assert len(card) < 60_000 and max(map(len, card.splitlines())) < 6_000
    assert (model / "evaluation" / "metrics.json").stat().st_size < 2_000_000
    # Of the classes with mistakes there are one or two fewer where the network happens to answer them alone.
    assert "first 100 of 120 classes;" in card and re.search(r"first 100 of 1[12]\d classes with mistakes", card)
