"""Attribution against hand-computed maps, against its closed form, and against torch's own interpolation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ct_xception.errors import InputError
from ct_xception.explain.budget import COMPARISON
from ct_xception.explain.explain import attribute, compute_map
from ct_xception.explain.methods import METHODS
from ct_xception.explain.methods.gradcam import class_activation_map
from ct_xception.explain.network_copies import finer_copy
from ct_xception.explain.placement import Region, place_in_slice, seen_region
from ct_xception.imaging.body.crop import Box
from ct_xception.model.modelling import CTXceptionForImageClassification
from tests.closeness import assert_near
from tests.networks import enliven

SQUASH = {"crop_pct": 1.0, "crop_mode": "squash"}


class ConstantNet(nn.Module):
    """Two feature channels, the input's red and green, pooled; class 0 is red - green, class 1 is 2 green."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = nn.Identity()
        self.head = nn.Linear(2, 2)
        self.head.weight = nn.Parameter(torch.tensor([[1.0, -1.0], [0.0, 2.0]]))
        self.head.bias = nn.Parameter(torch.tensor([0.5, -7.0]))
        self.label_names = ["red", "green"]
        self.config = SimpleNamespace(pretrained_cfg=SQUASH)

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.channels(pixel_values[:, :2])

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(features.mean(dim=(2, 3)))

    def undo_last_stride(self) -> None:
        """It has none."""

    def before_last_stride(self) -> nn.Module:
        return self.channels

    class_activation_map = CTXceptionForImageClassification.class_activation_map

    def weighed(self, features: torch.Tensor) -> torch.Tensor:
        return features


RED = torch.tensor([[4.0, 1.0], [0.0, 2.0]])
GREEN = torch.tensor([[1.0, 3.0], [0.0, 0.5]])
PICTURE = torch.stack([RED, GREEN, torch.zeros(2, 2)])


def test_maps_of_a_constant_network_equal_those_computed_by_hand() -> None:
    net = ConstantNet()
    by_hand = torch.tensor([[3.0, 0.0], [0.0, 1.5]])  # ReLU(red - green)
    assert torch.equal(class_activation_map(net, PICTURE[None], 0)[0], by_hand)
    # Grad-CAM weighs by the mean gradient, which is the head's weight over the 4 cells that are averaged.
    assert torch.equal(fine_map(net, PICTURE, 0), by_hand / 4)
    assert torch.equal(fine_map(net, PICTURE, 1), 2 * GREEN / 4)


def fine_map(net: nn.Module, pixels: torch.Tensor, target: int, method: str = "gradcam") -> torch.Tensor:
    """A coarse method's own map (h, w), before it is placed in a slice."""
    return torch.from_numpy(compute_map(net, pixels, target, method=METHODS[method], budget=COMPARISON)[0])


def test_maps_need_no_gradients_of_the_network_and_leave_it_as_it_was() -> None:
    net = ConstantNet().requires_grad_(False).train()
    with torch.inference_mode():
        frozen = fine_map(net, PICTURE, 0)
    assert torch.equal(frozen, fine_map(ConstantNet(), PICTURE, 0))
    assert net.training and not frozen.requires_grad
    assert all(parameter.grad is None for parameter in net.parameters())


def captum_on_the_last_map(net: CTXceptionForImageClassification, pixels: torch.Tensor, target: int) -> torch.Tensor:
    """Captum's own Grad-CAM of the layer that gives the last feature map: (h, w)."""
    last = nn.Identity()
    with torch.no_grad():
        features = net.features(pixels)
    by_captum = LayerGradCam(lambda batch: net.classify(last(batch)), last)
    return by_captum.attribute(features, target, relu_attributions=True)[0, 0].detach()


@pytest.mark.parametrize("architecture", ["legacy_xception", "xception41", "xception41p"])
def test_captum_equals_the_closed_form_on_a_network_with_in_place_relus(architecture: str) -> None:
    net = CTXceptionForImageClassification.from_backbone(architecture, ["a", "b", "c", "d"], 96, seed=5).eval()
    relus = [module for module in net.modules() if isinstance(module, nn.ReLU)]
    assert relus
    for relu in relus:
        relu.inplace = True
    nn.init.normal_(net.head.weight, generator=torch.Generator().manual_seed(1))
    pixels = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    before = net(pixels).logits
    by_captum, closed = captum_on_the_last_map(net, pixels, 2), class_activation_map(net, pixels, 2)[0].detach()
    assert closed.max() > 0
    assert_near(by_captum / by_captum.max(), closed / closed.max(), 1e-4)
    assert torch.equal(net(pixels).logits, before)


@pytest.mark.parametrize("architecture", ["legacy_xception", "xception41"])
@pytest.mark.parametrize("side", [96, 150, 299])
def test_a_fine_map_holds_the_coarse_one_in_every_second_cell(architecture: str, side: int) -> None:
    net = CTXceptionForImageClassification.from_backbone(architecture, ["a", "b"], side, seed=3).eval()
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(2))
    coarse = class_activation_map(net, pixels, 1)[0]
    fine = fine_map(net, pixels[0], 1, "cam")
    assert fine.shape[0] >= 2 * coarse.shape[0] - 1
    even = fine[::2, ::2][: coarse.shape[0], : coarse.shape[1]]
    assert_near(even / even.max(), coarse / coarse.max(), 1e-4)
    assert torch.equal(class_activation_map(net, pixels, 1)[0], coarse)  # the network itself is as it was


@pytest.mark.parametrize("architecture", ["legacy_xception", "xception41", "xception41p"])
def test_the_default_map_is_grad_cam_before_the_last_stride(architecture: str) -> None:
    net = CTXceptionForImageClassification.from_backbone(architecture, ["a", "b"], 96, seed=3)
    enliven(net, batches=1, image_size=96)  # or its logits are next to nothing, and rounding is all that they hold
    pixels = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(2))
    answer, found = net(pixels).logits, fine_map(net, pixels[0], 1)
    kept: list[torch.Tensor] = []
    hook = net.before_last_stride().register_forward_hook(lambda _, __, output: kept.append(output))
    score = net(pixels).logits[0, 1]
    hook.remove()
    (gradient,) = torch.autograd.grad(score, kept[-1])
    by_hand = (kept[-1] * gradient.mean(dim=(2, 3), keepdim=True)).sum(dim=1).relu()[0].detach()  # the paper's words
    assert found.shape == by_hand.shape == fine_map(net, pixels[0], 1, "cam").shape and by_hand.max() > 0
    assert_near(found / found.max(), by_hand / by_hand.max(), 1e-4)
    assert_near(net(pixels).logits, answer)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_cells_between_are_those_of_the_picture_moved_by_half_a_cell() -> None:
    net = CTXceptionForImageClassification.from_backbone("legacy_xception", ["a", "b"], 320, seed=3).eval()
    pixels = torch.randn(1, 3, 336, 336, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        fine = finer_copy(net).features(pixels[..., :320, :320])
        moved = net.features(pixels[..., 16:, 16:])
    # Only cells that no edge of either picture reaches can be the same.
    inner = slice(4, 6)
    assert_near(fine[..., 1::2, 1::2][..., inner, inner], moved[..., inner, inner])


def test_an_attribution_lies_where_the_box_was_and_peaks_at_one() -> None:
    answer = attribute(ConstantNet(), PICTURE, 0, box=Box(2, 1, 6, 5), shape=(8, 7), method="gradcam")
    assert answer.map.shape == (8, 7) and answer.map.dtype == np.float32
    assert answer.label == "red" and answer.strength == 0.75
    # The corner pixel lies beyond its cell's centre, so it has the cell's value: 1, and 1.5 / 3 in the far corner.
    assert answer.map[2, 1] == 1.0 and answer.map[5, 4] == pytest.approx(0.5)
    outside = np.ones((8, 7), dtype=bool)
    outside[2:6, 1:5] = False
    assert not answer.map[outside].any()


def test_a_class_that_nothing_speaks_for_has_an_empty_map() -> None:
    answer = attribute(ConstantNet(), -PICTURE.abs(), 1, box=Box(0, 0, 4, 4), shape=(4, 4))
    assert answer.strength == 0 and not answer.map.any()


def test_unknown_method_and_class_are_named() -> None:
    with pytest.raises(InputError, match="method 'lime2' is unknown; choose from gradcam, attention, cam, deeplift"):
        attribute(ConstantNet(), PICTURE, 0, box=Box(0, 0, 4, 4), shape=(4, 4), method="lime2")
    with pytest.raises(InputError, match="class number 2 does not exist; the checkpoint has 2"):
        attribute(ConstantNet(), PICTURE, 2, box=Box(0, 0, 4, 4), shape=(4, 4))


def test_both_forms_are_scaled_alike() -> None:
    box = Box(0, 0, 9, 9)
    first, *others = (
        attribute(ConstantNet(), PICTURE, 0, box=box, shape=(9, 9), method=name).map for name in ("gradcam", "cam")
    )
    assert all(np.allclose(first, other, atol=1e-6) for other in others)


@given(
    cells=st.tuples(st.integers(2, 6), st.integers(2, 6)),  # torch takes a single column for channels
    box=st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(2, 30), st.integers(2, 30)),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_placing_a_map_equals_torch_interpolation_inside_the_box(
    cells: tuple[int, int], box: tuple[int, int, int, int], seed: int
) -> None:
    top, left, height, width = box
    coarse = np.random.default_rng(seed).random(cells)
    place = Box(top, left, top + height, left + width)
    placed = place_in_slice(coarse, seen_region(SQUASH, place), place, (top + height + 3, left + width + 2))
    wanted = nn.functional.interpolate(
        torch.from_numpy(coarse)[None, None], (height, width), mode="bilinear", antialias=True
    )[0, 0]
    assert np.allclose(placed[top : top + height, left : left + width], wanted.numpy(), atol=1e-6)
    placed[top : top + height, left : left + width] = 0
    assert not placed.any()


@pytest.mark.parametrize(
    ("cfg", "region"),
    [
        (SQUASH, Region(10, 0, 30, 40)),
        ({"crop_pct": 0.5, "crop_mode": "squash"}, Region(15, 10, 25, 30)),
        ({"crop_pct": 1.0, "crop_mode": "center"}, Region(10, 10, 30, 30)),
        ({"crop_pct": 0.9}, Region(11, 11, 29, 29)),
        ({"crop_pct": 1.0, "crop_mode": "border"}, Region(0, 0, 40, 40)),
    ],
)
def test_the_region_that_the_network_saw_follows_timm(cfg: dict[str, object], region: Region) -> None:
    found = seen_region(cfg, Box(10, 0, 30, 40))
    assert (found.top, found.left, found.bottom, found.right) == pytest.approx(
        (region.top, region.left, region.bottom, region.right)
    )


def test_pixels_that_the_network_did_not_see_hold_no_evidence() -> None:
    box = Box(0, 0, 20, 40)
    placed = place_in_slice(np.ones((3, 3)), seen_region({"crop_pct": 1.0, "crop_mode": "center"}, box), box, (20, 40))
    assert placed[:, 10:30].all() and not placed[:, :10].any() and not placed[:, 30:].any()
