"""The pixel methods against hand-computed maps of a linear network, and DeepLIFT's sum on every kind of Xception."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ct_xception.errors import InputError
from ct_xception.explain.budget import BUDGETS, Budget, Cancelled, Completeness
from ct_xception.explain.explain import attribute, compute_map
from ct_xception.explain.methods import METHODS, find_method
from ct_xception.explain.methods.gradcam import class_activation_map
from ct_xception.explain.methods.superpixels import superpixels
from ct_xception.explain.network_copies import private_copy, random_networks
from ct_xception.explain.scoring import Scorer
from ct_xception.imaging.body.crop import Box
from ct_xception.model.modelling import CTXceptionForImageClassification as Network
from tests.closeness import assert_near
from tests.networks import enliven

PIXEL_METHODS = [name for name, method in METHODS.items() if not method.coarse]
SIDE = 64


class LinearNet(nn.Module):
    """Logit k of a picture is the sum of its pixels times `weights[k]`, whatever the channel; a ReLU passes it on."""

    def __init__(self, weights: torch.Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)  # (K, S, S)
        self.relu = nn.ReLU(inplace=True)
        self.label_names = [str(number) for number in range(len(weights))]
        self.config = SimpleNamespace(
            pretrained_cfg={"mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0, "crop_mode": "squash"}
        )

    def features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.relu(pixel_values + 1)  # air, -1, becomes 0

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        return torch.einsum("bcij,kij->bk", features, self.weights)

    def undo_last_stride(self) -> None:
        """It has none."""

    def before_last_stride(self) -> nn.Module:
        return self.relu


def pixel_map(
    model: nn.Module, picture: torch.Tensor, target: int, *, method: str, budget: Budget, **options: Any
) -> tuple[torch.Tensor, Completeness | None]:
    """`compute_map` by a method's name, as a tensor."""
    values, check = compute_map(model, picture, target, method=METHODS[method], budget=budget, **options)
    return torch.from_numpy(values), check


def linear_case() -> tuple[LinearNet, torch.Tensor]:
    """A network for which the upper left quarter speaks for class 0 and the lower right one against it."""
    weights = torch.zeros(2, SIDE, SIDE)
    weights[0, :32, :32], weights[0, 32:, 32:] = 0.5, -0.25
    weights[1] = 0.1
    picture = 0.1 * torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) - 0.98
    picture[:, :32, :32] += 0.5  # quarters of unlike grey, so that no superpixel lies in two
    picture[:, 32:, 32:] += 1.0
    picture[:, 32:, :32] += 0.3
    return LinearNet(weights), picture.expand(3, -1, -1).contiguous()


@pytest.mark.parametrize("method", ["integrated_gradients", "deeplift", "gradient_shap"])
def test_gradient_methods_give_weight_times_change_on_a_linear_network(method: str) -> None:
    net, picture = linear_case()
    values, check = pixel_map(net, picture, 0, method=method, budget=BUDGETS["fast"])
    exact = 3 * (picture[0] + 1) * net.weights[0].detach()
    if method == "gradient_shap":  # on average over references, which here are lighter than air
        assert np.corrcoef(values.flatten(), exact.flatten())[0, 1] > 0.8
        assert check is None
    else:
        assert_near(values, exact)
        assert check is not None and check.converged and abs(check.delta) < 1e-2


@pytest.mark.parametrize("method", PIXEL_METHODS)
def test_every_method_finds_what_speaks_for_and_against_a_class(method: str) -> None:
    net, picture = linear_case()
    values, _ = pixel_map(net, picture, 0, method=method, budget=BUDGETS["balanced"])
    assert values.shape == (SIDE, SIDE) and values.dtype == torch.float32
    speaks_for, speaks_against = values[:32, :32].mean(), values[32:, 32:].mean()
    neutral = values[:28, 36:].mean().abs()
    assert speaks_for > 5 * neutral
    if method == "guided_gradcam":  # guided backpropagation stops negative gradients at the ReLU
        assert speaks_against <= speaks_for / 5
    elif METHODS[method].signed:
        assert speaks_against < -3 * neutral
    else:
        assert speaks_against > 0 and (values >= 0).all()


@pytest.mark.parametrize("method", ["occlusion", "feature_ablation"])
def test_a_perturbation_s_fall_of_score_is_shared_out_over_its_pixels(method: str) -> None:
    net, picture = linear_case()
    values, _ = pixel_map(net, picture, 0, method=method, budget=BUDGETS["thorough"])
    fall = (3 * (picture[0] + 1) * net.weights[0].detach())[:32, :32].sum()
    assert values[:32, :32].sum() == pytest.approx(float(fall), rel=0.2)


@pytest.mark.parametrize("method", ["gradient_shap", "lime", "saliency"])
def test_sampling_repeats_with_its_seed_and_leaves_the_random_states_alone(method: str) -> None:
    net, picture = linear_case()
    before = (torch.random.get_rng_state(), np.random.get_state()[1].copy())
    first, again, other = (
        pixel_map(net, picture, 1, method=method, budget=BUDGETS["fast"], seed=seed)[0] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


@pytest.mark.parametrize("method", PIXEL_METHODS)
def test_progress_runs_to_one_and_a_cancelled_map_stops(method: str) -> None:
    net, picture = linear_case()
    shares: list[float] = []
    pixel_map(net, picture, 0, method=method, budget=BUDGETS["fast"], progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0 and 0 <= shares[0] < 1
    asked: list[int] = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 1

    with pytest.raises(Cancelled):
        pixel_map(net, picture, 0, method=method, budget=BUDGETS["fast"], cancelled=cancelled)
    assert len(asked) == 2


def network(architecture: str) -> Network:
    """A random network as timm makes it, with most of its ReLUs in place."""
    return enliven(Network.from_backbone(architecture, list("abcd"), SIDE, seed=5), batches=1, image_size=SIDE)


@pytest.mark.parametrize("architecture", ["legacy_xception", "xception41", "xception41p"])
def test_deeplift_is_complete_and_leaves_the_network_as_it_was(architecture: str) -> None:
    model = network(architecture)
    pixels = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    before = model(pixels[None]).logits
    in_place = [module.inplace for module in model.modules() if isinstance(module, nn.ReLU)]
    assert any(in_place)
    used: Counter[int] = Counter()
    relus = [module for module in private_copy(model).modules() if isinstance(module, nn.ReLU)]
    assert relus and all(not relu.inplace for relu in relus)
    handles = [
        module.register_forward_hook(lambda module, *_: used.update([id(module)]))
        for module in model.modules()
        if isinstance(module, (nn.ReLU, nn.MaxPool2d))
    ]
    model(pixels[None])
    for handle in handles:
        handle.remove()
    assert set(used.values()) == {1}, "DeepLIFT needs every ReLU and pool to be used once"
    values, check = pixel_map(model, pixels, 2, method="deeplift", budget=BUDGETS["fast"])
    assert check is not None and check.relative < 1e-3
    assert float(values.sum()) == pytest.approx(check.score - check.reference_score, rel=2e-3)
    assert torch.equal(model(pixels[None]).logits, before)
    assert not any(module._forward_hooks or module._backward_hooks for module in model.modules())
    assert [module.inplace for module in model.modules() if isinstance(module, nn.ReLU)] == in_place


def test_copies_share_weights_and_answer_alike() -> None:
    model = network("legacy_xception")
    pixels = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    plain, rewritten = private_copy(model), private_copy(model, without_pools=True)
    assert next(plain.parameters()).data_ptr() == next(model.parameters()).data_ptr()
    assert not any(parameter.requires_grad for parameter in plain.parameters())
    assert not any(isinstance(module, nn.MaxPool2d) for module in rewritten.modules())
    with torch.no_grad():
        wanted = model.classify(model.features(pixels))
        assert torch.equal(plain.classify(plain.features(pixels)), wanted)
        assert_near(rewritten.classify(rewritten.features(pixels)), wanted)


def test_a_randomised_copy_forgets_the_weights_and_not_the_original() -> None:
    model = network("legacy_xception")
    pixels = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    (first, other), (same,) = random_networks(model, SIDE, 2, seed=0), random_networks(model, SIDE, 1, seed=0)
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(first.head.weight, same.head.weight) and not torch.equal(first.head.weight, other.head.weight)
    for name, value in first.state_dict().items():
        if value.ndim > 1:
            assert abs(np.corrcoef(value.flatten(), before[name].flatten())[0, 1]) < 0.5, name
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert float(class_activation_map(first, pixels, 0).std()) > 0


@pytest.mark.parametrize("name", ["grad-cam", "Grad-CAM", "GRADCAM", "grad_cam"])
def test_methods_are_found_by_name_and_title(name: str) -> None:
    assert find_method(name) is METHODS["gradcam"]
    assert find_method("integrated gradients").name == find_method("IG").name == "integrated_gradients"
    assert find_method("SmoothGrad") is METHODS["saliency"]
    with pytest.raises(InputError, match="method 'camgrad' is unknown; choose from gradcam, attention, cam, deeplift"):
        find_method("camgrad")
    with pytest.raises(InputError, match=r"method 'gradcam\+\+' is unknown; .*; did you mean gradcam\?"):
        find_method("gradcam++")  # which is another method
    with pytest.raises(InputError, match=r"did you mean gradient_shap\?"):
        find_method("shap")


def test_every_method_says_what_it_is() -> None:
    assert next(iter(METHODS)) == "gradcam" and len(METHODS) == 11
    for name, method in METHODS.items():
        assert method.name == name and method.title and method.sentence.endswith(".")


def test_batches_shrink_as_the_picture_grows() -> None:
    model = network("legacy_xception")
    small, large = (Scorer(private_copy(model)).batch_sizes(torch.zeros(1, 3, side, side)) for side in (64, 192))
    assert 16 >= small[0] > large[0] >= 1 and large[1] >= large[0]


def test_superpixels_leave_air_together_and_have_no_gaps() -> None:
    picture = torch.full((1, 3, SIDE, SIDE), -1.0)
    picture[:, :, 16:48, 16:48] = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = superpixels(picture, torch.full_like(picture, -1.0), 20)
    air = labels[0, 0]
    assert (labels[:16] == air).all() and not (labels[20:44, 20:44] == air).any()
    assert set(labels.unique().tolist()) == set(range(int(labels.max()) + 1)) and 8 <= labels.max() <= 30


@pytest.mark.parametrize(("delta", "converged"), [(0.02, True), (-0.2, False)])
def test_completeness_is_judged_by_the_change_of_score(delta: float, converged: bool) -> None:
    check = Completeness(score=1.5, reference_score=0.5, delta=delta)
    assert check.converged is converged and check.relative == pytest.approx(abs(delta))


def test_an_attribution_says_how_it_was_made_and_is_signed() -> None:
    net, picture = linear_case()
    answer = attribute(
        net, picture, 0, box=Box(10, 20, 42, 84), shape=(50, 90), method="integrated_gradients", budget="fast"
    )
    assert answer.signed and answer.budget == "fast" and answer.completeness is not None and answer.seconds is not None
    assert answer.seen is not None and answer.seen.shape == (SIDE, SIDE) and np.abs(answer.seen).max() == 1
    inside = answer.map[10:42, 20:84]
    assert inside[:15, :30].min() > 0 and inside[17:, 34:].max() < 0
    assert np.abs(answer.map).sum() == pytest.approx(np.abs(inside).sum())
