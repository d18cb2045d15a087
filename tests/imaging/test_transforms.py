"""Transforms: bit-equal to the stock processor in evaluation, deterministic and plausible in training."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ct_xception.errors import InputError
from ct_xception.imaging import framing, transforms
from ct_xception.imaging.body.crop import Box, body_mask, crop_body
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.transforms import FILTERS, AugmentConfig, EvalTransform, TrainTransform, apply_filters
from tests.imaging.builders import disc

CONFIG: dict[str, Any] = {
    "input_size": (3, 64, 64), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic",
    "crop_pct": 1.0, "crop_mode": "squash", "first_conv": "conv1", "classifier": "fc", "pool_size": (2, 2),
}  # fmt: skip


def noise(rows: int, columns: int, seed: int = 0) -> Slice:
    pixels = np.random.default_rng(seed).integers(0, 256, (rows, columns), dtype=np.uint8)
    return Slice(pixels, "noise", 8, False, None)


def body(size: int = 120) -> np.ndarray:
    """A disc with texture inside, black around it."""
    texture = np.random.default_rng(1).integers(80, 200, (size, size), dtype=np.uint8)
    return np.where(disc(size, size // 3) > 0, texture, 0).astype(np.uint8)


class TestEvalTransform:
    @pytest.mark.parametrize("shape", [(64, 64), (200, 90), (40, 41), (1, 1)])
    @pytest.mark.parametrize(
        "changes",
        [{}, {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}, {"crop_pct": 0.875, "crop_mode": "center"},
         {"crop_pct": 0.9, "crop_mode": "border"}, {"interpolation": "bilinear", "input_size": (3, 50, 70)}],
    )  # fmt: skip
    def test_equals_the_stock_processor_bit_for_bit(self, shape: tuple[int, int], changes: dict[str, Any]) -> None:
        from transformers.models.timm_wrapper import TimmWrapperImageProcessor

        config = CONFIG | changes
        slice_ = noise(*shape)
        stock = TimmWrapperImageProcessor(config)(slice_.to_pil())["pixel_values"]
        ours = EvalTransform(config)(slice_)
        assert ours.dtype == torch.float32 and tuple(ours.shape) == config["input_size"]
        assert torch.equal(ours, stock[0])

    def test_range_by_hand(self) -> None:
        for level, value in ((0, -1.0), (255, 1.0), (51, -0.6)):
            slice_ = Slice(np.full((9, 9), level, dtype=np.uint8), "x", 8, False, None)
            assert EvalTransform(CONFIG)(slice_).unique().tolist() == pytest.approx([value])

    def test_other_channel_counts_are_refused(self) -> None:
        with pytest.raises(InputError, match="takes 1 channels"):
            EvalTransform(CONFIG | {"input_size": (1, 64, 64)})


class TestAugmentConfig:
    @pytest.mark.parametrize("name", [field.name for field in fields(AugmentConfig)])
    @pytest.mark.parametrize("value", [-0.1, 46, float("nan")])
    def test_out_of_range_is_refused(self, name: str, value: float) -> None:
        with pytest.raises(InputError, match=f"augmentation {name} is"):
            replace(AugmentConfig(), **{name: value})

    def test_none_is_zero_everywhere(self) -> None:
        assert all(getattr(AugmentConfig.none(), field.name) == 0 for field in fields(AugmentConfig))


class TestTrainTransform:
    def test_without_augmentation_it_equals_evaluation(self) -> None:
        slice_ = Slice(body(), "x", 8, False, None)
        plain = TrainTransform(CONFIG, AugmentConfig.none())
        expected = EvalTransform(CONFIG)(crop_body(slice_).slice)
        assert torch.equal(plain(slice_.pixels, body_mask(slice_.pixels), np.random.default_rng(0)), expected)

    def test_is_a_function_of_the_generator(self) -> None:
        pixels = body()
        mask = body_mask(pixels)
        transform = TrainTransform(CONFIG, AugmentConfig())
        first, again = ([transform(pixels, mask, np.random.default_rng(seed)) for seed in range(20)] for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        assert not any(torch.equal(a, b) for a, b in zip(first[:-1], first[1:], strict=True))

    def test_leaves_its_input_alone(self) -> None:
        pixels = body()
        mask = body_mask(pixels)
        copies = pixels.copy(), mask.copy()
        for seed in range(30):
            TrainTransform(CONFIG, AugmentConfig(uncropped=0.5, erase=1))(pixels, mask, np.random.default_rng(seed))
        assert np.array_equal(pixels, copies[0]) and np.array_equal(mask, copies[1])

    @given(
        seed=st.integers(0, 2**32 - 1),
        rows=st.integers(1, 300),
        columns=st.integers(1, 300),
        augment=st.sampled_from([AugmentConfig(), AugmentConfig(uncropped=1), AugmentConfig(
            rotation=45, zoom_in=0.5, zoom_out=1, shift=0.5, squash=1, brightness=0.9, contrast=0.9, gamma=1,
            noise=0.5, blur=5, erase=1, uncropped=0.5)]),
    )  # fmt: skip
    @settings(deadline=None, max_examples=60)
    def test_shape_type_and_range(self, seed: int, rows: int, columns: int, augment: AugmentConfig) -> None:
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (rows, columns), dtype=np.uint8)
        values = TrainTransform(CONFIG, augment)(pixels, rng.random((rows, columns)) < 0.3, rng)
        assert values.dtype == torch.float32 and tuple(values.shape) == (3, 64, 64) and values.is_contiguous()
        assert torch.isfinite(values).all() and values.min() >= -1 and values.max() <= 1
        assert torch.equal(values[0], values[1]) and torch.equal(values[0], values[2])

    def test_air_stays_black(self) -> None:
        pixels = np.zeros((100, 100), dtype=np.uint8)
        pixels[40:60, 40:60] = 150
        augment = AugmentConfig(erase=0, blur=0, rotation=0, squash=0, shift=0, zoom_out=1, uncropped=0)
        for seed in range(20):
            values = TrainTransform(CONFIG, augment)(pixels, np.ones((100, 100), bool), np.random.default_rng(seed))
            assert values[0, 0, 0] == -1

    def test_flip_mirrors_left_and_right_only(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
        mask = np.ones((64, 64), dtype=bool)
        plain, flipped = (
            TrainTransform(CONFIG, replace(AugmentConfig.none(), flip=flip))(pixels, mask, np.random.default_rng(0))
            for flip in (0.0, 1.0)
        )
        assert torch.equal(plain.flip(-1), flipped)

    def test_rotation_turns_about_the_centre(self) -> None:
        # A point right of the centre moves up when the picture turns counter-clockwise, which a positive angle does.
        pixels = np.zeros((101, 101), dtype=np.uint8)
        pixels[48:53, 88:93] = 255
        view = transforms._View((50.5, 50.5), (101, 101), np.deg2rad(30))
        turned = np.asarray(transforms._sample(pixels, view, (101, 101), transforms._pillow_resampling("bicubic")))
        row, column = (axis.mean() for axis in np.nonzero(turned > 128))
        assert row == pytest.approx(50 - 40 * np.sin(np.pi / 6), abs=0.6)
        assert column == pytest.approx(50 + 40 * np.cos(np.pi / 6), abs=0.6)

    def test_large_scene_is_reduced_without_shifting(self) -> None:
        pixels = disc(900, 300, level=200)
        resample = transforms._pillow_resampling("bicubic")
        view = transforms._View((450.0, 450.0), (900, 900), 1e-9)  # turned by nothing, but off the whole-pixel path
        reduced = np.asarray(transforms._sample(pixels, view, (64, 64), resample)).astype(float)
        straight = np.asarray(transforms._sample(pixels, replace(view, angle=0.0), (64, 64), resample)).astype(float)
        assert np.abs(reduced - straight).mean() < 1

    def test_erasing_stays_small(self) -> None:
        pixels = np.full((64, 64), 255, dtype=np.uint8)
        transform = TrainTransform(CONFIG, replace(AugmentConfig.none(), erase=1.0))
        for seed in range(20):
            erased = transform(pixels, np.ones((64, 64), dtype=bool), np.random.default_rng(seed))[0] < 1
            assert 0.005 < erased.float().mean() < 0.06

    def test_empty_mask_means_everything(self) -> None:
        pixels = body()
        plain = TrainTransform(CONFIG, AugmentConfig.none())
        empty, full = (plain(pixels, np.full(pixels.shape, v), np.random.default_rng(0)) for v in (False, True))
        assert torch.equal(empty, full)

    def test_wrong_arrays_are_refused(self) -> None:
        transform, rng = TrainTransform(CONFIG, AugmentConfig()), np.random.default_rng(0)
        for pixels, mask in ((np.zeros((4, 4)), np.ones((4, 4), bool)), (body(), np.ones((4, 4), bool)),
                             (body(), body())):  # fmt: skip
            with pytest.raises(TypeError, match="got pixels"):
                transform(pixels, mask, rng)

    @pytest.mark.parametrize("change", [{"crop_pct": 0.9}, {"crop_mode": "center"}])
    def test_cropping_configs_are_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="training needs crop_pct 1.0 and crop_mode 'squash'"):
            TrainTransform(CONFIG | change, AugmentConfig())
        with pytest.raises(InputError, match="interpolation 'lanczos'"):
            TrainTransform(CONFIG | {"interpolation": "lanczos"}, AugmentConfig())


class TestFraming:
    def scenes(self, count: int = 200) -> list[tuple[np.ndarray, Box]]:
        pixels = body()
        mask = body_mask(pixels)
        rng = np.random.default_rng(0)
        return [framing.uncropped_scene(pixels, mask, rng) for _ in range(count)]

    def test_the_body_is_whole_in_every_scene(self) -> None:
        pixels = body()
        inside = crop_body(Slice(pixels, "x", 8, False, None)).slice.pixels
        rows, columns = inside.shape
        for scene, box in self.scenes(60):
            assert scene.dtype == np.uint8 and box == Box(0, 0, *scene.shape)
            windows = np.lib.stride_tricks.sliding_window_view(scene, (1, columns))[:, :, 0]
            starts = np.argwhere((windows == inside[rows // 2]).all(axis=-1))
            assert len(starts) == 1
            top, left = starts[0][0] - rows // 2, starts[0][1]
            found = scene[top : top + rows, left : left + columns]
            assert np.array_equal(found[inside > 60], inside[inside > 60])

    def test_some_keep_their_own_surroundings_and_most_have_a_table(self) -> None:
        scenes = [scene for scene, _ in self.scenes()]
        own = sum(scene.shape == (120, 120) and np.array_equal(scene, body()) for scene in scenes)
        assert 0.2 < own / len(scenes) < 0.4
        tables = sum(bool((scene[-scene.shape[0] // 4 :] > 40).any(axis=1).sum() > 0) for scene in scenes)
        assert tables / len(scenes) > 0.4

    def test_body_crop_removes_the_drawn_table(self) -> None:
        kept = [crop_body(Slice(scene, "x", 8, False, None)) for scene, _ in self.scenes()]
        size = crop_body(Slice(body(), "x", 8, False, None)).slice.pixels.shape
        close = [np.abs(np.subtract(crop.slice.pixels.shape, size)).max() <= 4 for crop in kept]
        assert np.mean(close) > 0.9

    def test_no_mask_no_drawing(self) -> None:
        pixels = body()
        scene, box = framing.uncropped_scene(pixels, np.ones(pixels.shape, bool), np.random.default_rng(0))
        assert scene is pixels and box == Box(0, 0, 120, 120)


class TestFilters:
    def test_median_by_hand(self) -> None:
        pixels = np.full((5, 5), 10, dtype=np.uint8)
        pixels[2, 2] = 255  # one hot pixel disappears
        filtered = apply_filters(Slice(pixels, "x", 8, False, None), ["median"])
        assert (filtered.pixels == 10).all()
        assert filtered.notes == ("median filter 3 x 3",)

    def test_clahe_spreads_and_keeps_air(self) -> None:
        shade = np.random.default_rng(0).normal(100, 10, (240, 240)).astype(np.uint8)
        tissue = disc(240, 100) > 0
        pixels = np.where(tissue, shade, 0).astype(np.uint8)
        filtered = apply_filters(Slice(pixels, "x", 8, False, None), ["clahe"])
        assert filtered.pixels[tissue].std() > 1.5 * pixels[tissue].std()
        assert (filtered.pixels[~tissue] == 0).all()

    def test_order_is_kept_and_names_are_checked(self) -> None:
        slice_ = noise(20, 20)
        assert apply_filters(slice_, []) is slice_
        assert apply_filters(slice_, ["clahe", "median"]).notes == ("CLAHE", "median filter 3 x 3")
        with pytest.raises(InputError, match="filter 'sobel' is unknown; choose from median, clahe"):
            apply_filters(slice_, ["sobel"])

    @pytest.mark.parametrize("name", FILTERS)
    @pytest.mark.parametrize("shape", [(1, 1), (2, 3), (7, 50)])
    def test_tiny_slices(self, name: str, shape: tuple[int, int]) -> None:
        filtered = apply_filters(noise(*shape), [name])
        assert filtered.pixels.shape == shape and filtered.pixels.dtype == np.uint8
