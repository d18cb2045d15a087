"""The preprocessing written out in numpy, against timm's own pipeline for the same configuration, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.data import create_transform, resolve_data_config

from ct_xception.errors import InputError
from ct_xception.imaging.preprocessing import INTERPOLATIONS, Preprocessing
from ct_xception.imaging.slice import Slice

CONFIG: dict[str, Any] = {"input_size": [3, 64, 64], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_mode": "squash"}


def noise(rows: int, columns: int, seed: int = 0) -> Slice:
    pixels = np.random.default_rng(seed).integers(0, 256, (rows, columns), dtype=np.uint8)
    return Slice(pixels, "noise", 8, False, None)


def timms(config: dict[str, Any], slice_: Slice) -> np.ndarray:
    transform = create_transform(**resolve_data_config(dict(config), model=None, verbose=False), is_training=False)
    return transform(slice_.to_pil()).numpy()


@given(
    shape=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    size=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    square=st.booleans(),
    crop_mode=st.sampled_from(["squash", "center", "border"]),
    crop_pct=st.sampled_from([1.0, 0.875, 0.9, 0.5]),
    interpolation=st.sampled_from(["bilinear", "bicubic", "nearest", "lanczos"]),
    mean=st.lists(st.floats(0, 1), min_size=3, max_size=3),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=80)
def test_equals_timms_pipeline(
    shape: tuple[int, int], size: tuple[int, int], square: bool, crop_mode: str, crop_pct: float, interpolation: str,
    mean: list[float], seed: int,
) -> None:  # fmt: skip
    sides = [size[0], size[0] if square else size[1]]
    config = {"input_size": [3, *sides], "mean": mean, "std": [0.5, 0.25, 0.3], "crop_mode": crop_mode}
    config |= {"crop_pct": crop_pct, "interpolation": interpolation}
    if max(shape) / min(shape) > 8 and crop_mode == "border":
        return  # timm resizes the short side to nothing there, and fails
    slice_ = noise(*shape, seed=seed)
    values = Preprocessing.of(config)(slice_)
    assert values.dtype == np.float32 and values.flags.c_contiguous
    np.testing.assert_array_equal(values, timms(config, slice_))


@pytest.mark.parametrize("missing", ["input_size", "mean", "std", "crop_mode", "crop_pct", "interpolation"])
def test_what_a_configuration_leaves_out_is_as_in_timm(missing: str) -> None:
    config = CONFIG | {"crop_pct": 0.9, "interpolation": "bilinear", "mean": [0.1, 0.2, 0.3]}
    del config[missing]
    slice_ = noise(70, 50)
    np.testing.assert_array_equal(Preprocessing.of(config)(slice_), timms(config, slice_))


def test_one_mean_stands_for_three_channels() -> None:
    assert Preprocessing.of(CONFIG | {"mean": [0.25]}) == Preprocessing.of(CONFIG | {"mean": [0.25] * 3})


def test_configurations_that_no_slice_fits_are_refused() -> None:
    with pytest.raises(InputError, match="takes 1 channels"):
        Preprocessing.of(CONFIG | {"input_size": [1, 64, 64]})
    with pytest.raises(InputError, match=f"'random' .* this version knows {', '.join(INTERPOLATIONS)}"):
        Preprocessing.of(CONFIG | {"interpolation": "random"})


def test_it_needs_no_torch() -> None:
    code = (
        "import sys, numpy\n"
        "from ct_xception.imaging.slice import Slice\n"
        "from ct_xception.imaging.transforms import EvalTransform\n"
        f"values = EvalTransform({CONFIG!r}).array(Slice(numpy.zeros((9, 9), numpy.uint8), 'x', 8, False, None))\n"
        "print(values.shape, {'torch', 'torchvision', 'timm', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(3, 64, 64) set()"
