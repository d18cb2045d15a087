"""Fixtures shared by every room's tests. The Hub is never asked: its offline switch is set before any import."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import pytest  # noqa: E402

from tests.accelerators import forget_accelerator  # noqa: E402

Grow = Callable[[Mapping[str, int]], Path]
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def reference_corpus() -> Path:
    """The reference corpus as published (1,000 images), or a skip where it is absent."""
    path = SHARED / "corpora" / "chest-ct-scan-images"
    if not path.is_dir():
        pytest.skip("the reference corpus is not on this machine (../shared/corpora/chest-ct-scan-images)")
    return path


@pytest.fixture(scope="session")
def reference_weights() -> Path:
    """The ImageNet weights of legacy_xception, or a skip where they are absent."""
    path = SHARED / "weights" / "legacy_xception.tf_in1k.safetensors"
    if not path.is_file():
        pytest.skip("the ImageNet weights are not on this machine (../shared/weights)")
    return path


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of a random legacy_xception at 64 px over the four reference classes; not to be changed.

    Its batch norms are fitted to noise, so that features and answers differ from slice to slice.
    """
    from ct_xception.model.modelling import CTXceptionForImageClassification
    from tests.networks import enliven

    names = ["adenocarcinoma", "large cell carcinoma", "normal", "squamous cell carcinoma"]
    model = CTXceptionForImageClassification.from_backbone("legacy_xception", names, 64, seed=7)
    folder = tmp_path_factory.mktemp("tiny") / "model"
    enliven(model, batches=2).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sample_slices(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five small 8-bit PNG slices, each unlike the others: an oval body with two lungs and a bright spot, on black."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("slices")
    rows, columns = np.mgrid[-1:1:96j, -1:1:112j]
    paths = []
    for index in range(5):
        rng = np.random.default_rng(index)
        pixels = np.where((rows / 0.8) ** 2 + (columns / 0.9) ** 2 < 1, rng.integers(120, 200), 0)
        for side in (-0.45, 0.45):
            pixels[(rows / 0.5) ** 2 + ((columns - side) / 0.3) ** 2 < 1] = rng.integers(15, 60)
        row, column = rng.uniform(-0.3, 0.3), rng.choice([-0.45, 0.45])
        pixels[(rows - row) ** 2 + (columns - column) ** 2 < 0.02] = 230
        pixels = pixels + rng.integers(0, 6, pixels.shape) * (pixels > 0)
        paths.append(folder / f"slice_{index}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    return paths


@pytest.fixture(scope="session")
def exported_checkpoint(tiny_checkpoint: Path, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole, sealed checkpoint of the tiny network, evaluated on the tiny corpus and exported for every runtime.

    Not to be changed. Its int8 file is kept whatever it answers: a random network has nothing to agree on.
    """
    from ct_xception.cli import main
    from ct_xception.publish import export
    from tests.sealed import sealed_checkpoint

    folder = sealed_checkpoint(tmp_path_factory.mktemp("exported") / "model", tiny_checkpoint, tiny_corpus)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "LEAST_AGREEMENT", 0.0)
        patch.setattr(export, "MOST_LOST", dict.fromkeys(export.MOST_LOST, 1.0))
        assert main(["export", str(folder), "--onnx", "--int8", "--openvino", "--corpus", str(tiny_corpus)]) == 0
    return folder


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom corpus of 48 images of 96 px with train, valid and test folders of the four reference classes."""
    from ct_xception.phantom.corpus import generate_phantom

    return generate_phantom(tmp_path_factory.mktemp("corpus") / "phantom", patients=24, slices_per_patient=2, size=96)


@pytest.fixture(scope="session")
def small_phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve patients of the four reference classes, two slices each, 64 pixels; nothing planted."""
    from ct_xception.phantom.corpus import generate_phantom

    return generate_phantom(tmp_path_factory.mktemp("small") / "phantom", patients=12, slices_per_patient=2, size=64)


@pytest.fixture(scope="module", autouse=True)
def _decoding_is_shared_again() -> Iterator[None]:
    """A page or endpoint that a module starts reads files in a limited process; the next module's tests do not."""
    yield
    if (reader := sys.modules.get("ct_xception.imaging.reader")) is not None:
        reader.share_decoding()


@pytest.fixture
def grow(tmp_path: Path) -> Grow:
    """A folder of distinct 4 x 4 pictures: {"train/normal": 2} makes train/normal/0.png and 1.png."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)

    def plant(folders: Mapping[str, int], root: Path = tmp_path / "tree") -> Path:
        for name, number in folders.items():
            (root / name).mkdir(parents=True, exist_ok=True)
            for index in range(number):
                pixels = rng.integers(0, 256, (4, 4), dtype=np.uint8)
                Image.fromarray(pixels).save(root / name / f"{index}.png")
        return root

    return plant


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """Whatever a test has told accelerate is forgotten after it."""
    yield
    forget_accelerator()
