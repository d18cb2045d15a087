"""Captum's methods on the pixels that the network saw, each with its sampling, batching and checks in hand.

Every method asks the same `Scorer`, which counts what was asked (progress), stops when told to (cancel), and says how
many pictures fit in memory at a time. All explain the class's logit. The reference, where a method wants one, is air:
what the body crop leaves outside the body.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from ct_xception.explain.catalogue import METHODS, Budget
from ct_xception.explain.gradcam import fine_map
from ct_xception.explain.network_copies import private_copy
from ct_xception.explain.placement import spread_over_input

if TYPE_CHECKING:
    from ct_xception.model.modelling import CTXceptionForImageClassification as Network

MEMORY = 320 * 2**20  # bytes that one batch's activations may take; the libraries themselves take some 900 MiB
MAX_BATCH = 16
TOLERANCE = 0.05  # of the change of score: a larger error of a complete method's sum is reported
NOISE = 0.15  # SmoothGrad's standard deviation as a share of the picture's range (Smilkov et al. 2017: 0.1 to 0.2)
KERNEL_WIDTH = 0.25  # of LIME's similarity, as in its authors' package for pictures

Progress = Callable[[float], None]
_RANDOM = threading.Lock()  # three of Captum's methods draw from the process's random state


class Cancelled(Exception):
    """The caller asked to stop before the map was done."""


@dataclass(frozen=True)
class Completeness:
    """Whether a map's values sum to the change of the class's score (logit) from the reference to the slice.

    `delta` is the sum's error, in logits; `relative` is its size as a share of that change. `converged` says whether it
    is within 5 %.
    """

    score: float
    reference_score: float
    delta: float

    @property
    def relative(self) -> float:
        """|delta| over |change|, 0 or more."""
        return abs(self.delta) / max(abs(self.score - self.reference_score), 1e-6)

    @property
    def converged(self) -> bool:
        """Whether the sum is right within TOLERANCE."""
        return self.relative <= TOLERANCE


class Scorer(nn.Module):
    """The network from pixel_values (B, 3, S, S) to logits (B, K), as Captum calls it.

    `expected` is how many pictures the method will ask about; `progress` is told the share done, and `cancelled` asked,
    before each batch. Raises Cancelled.
    """

    def __init__(
        self,
        model: Network,
        *,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
        for_deeplift: bool = False,
    ) -> None:
        super().__init__()
        self.model = private_copy(model, for_deeplift=for_deeplift)
        self.progress, self.cancelled = progress, cancelled
        self.expected, self.asked = 0, 0

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if self.cancelled is not None and self.cancelled():
            raise Cancelled
        if self.progress is not None and self.expected:
            self.progress(min(self.asked / self.expected, 1.0))
        self.asked += len(pixel_values)
        return self.model.classify(self.model.features(pixel_values))

    def batch_sizes(self, pixel_values: torch.Tensor) -> tuple[int, int]:
        """How many pictures fit at a time with, and without, a backward pass; found by one forward pass of one."""
        sizes: list[int] = []

        def note(module: nn.Module, given: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                sizes.append(output.element_size() * output.numel())

        leaves = [module for module in self.model.modules() if not list(module.children())]
        handles = [module.register_forward_hook(note) for module in leaves]
        try:
            with torch.no_grad():
                self(pixel_values[:1])
        finally:
            for handle in handles:
                handle.remove()
        kept, largest = sum(sizes) or 1, max(sizes, default=1)
        return (min(max(MEMORY // kept, 1), MAX_BATCH), min(max(MEMORY // (6 * largest), 1), MAX_BATCH))


@dataclass(frozen=True, eq=False)
class Question:
    """What a method is asked: one picture (1, 3, S, S), its class, the reference (1, 3, S, S), and how much work."""

    scorer: Scorer
    pixel_values: torch.Tensor
    target: int
    reference: torch.Tensor
    budget: Budget
    seed: int
    with_gradient: int
    without_gradient: int

    @property
    def side(self) -> int:
        """S."""
        return self.pixel_values.shape[-1]


def pixel_attribution(
    model: Network,
    pixel_values: torch.Tensor,
    target: int,
    *,
    method: str,
    budget: Budget,
    seed: int = 0,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[torch.Tensor, Completeness | None]:
    """One method's map (S, S) float32 of one picture (3, S, S), summed over its channels, in the method's own unit.

    With it comes the check of the sum, where the method promises one. Raises Cancelled.
    """
    with torch.inference_mode(False), _no_captum_warnings():
        parameter = next(model.parameters())
        pixels = pixel_values.detach().clone()[None].to(parameter.device, parameter.dtype)
        scorer = Scorer(model, progress=progress, cancelled=cancelled, for_deeplift=method == "deeplift")
        reference = air(model.config.pretrained_cfg, pixels)
        question = Question(scorer, pixels, target, reference, budget, seed, *scorer.batch_sizes(pixels))
        values, delta = _COMPUTE[method](question)
        check = _check(question, delta) if METHODS[method].complete and delta is not None else None
    if progress is not None:
        progress(1.0)
    return values.detach()[0].sum(dim=0).float().cpu(), check


def air(pretrained_cfg: Any, like: torch.Tensor) -> torch.Tensor:
    """Black, as the network is shown it: a tensor of the shape of `like` (B, 3, S, S)."""
    mean, std = (torch.as_tensor(pretrained_cfg.get(key) or (0.5,) * 3).to(like) for key in ("mean", "std"))
    return (-mean / std).view(1, -1, 1, 1).expand_as(like).contiguous()


def blurred(pixel_values: torch.Tensor, share: float = 0.1) -> torch.Tensor:
    """The pictures (B, 3, S, S) after a Gaussian blur whose standard deviation is `share` of their side."""
    from torchvision.transforms.functional import gaussian_blur

    sigma = share * pixel_values.shape[-1]
    reach = min(int(3 * sigma), pixel_values.shape[-1] // 2 - 1)
    return gaussian_blur(pixel_values, [2 * reach + 1] * 2, [sigma, sigma])


Computed = tuple[torch.Tensor, float | None]


def _guided_gradcam(question: Question) -> Computed:
    """Guided backpropagation times Grad-CAM; Captum's own product would spread the latter over tiles (placement.py)."""
    from captum.attr import GuidedBackprop

    scorer, pixels, target = question.scorer, question.pixel_values, question.target
    scorer.expected = 2
    guided = GuidedBackprop(scorer).attribute(pixels, target)
    cells = fine_map(scorer.model, pixels[0], target).numpy()
    spread = spread_over_input(cells, question.side, getattr(scorer.model.config, "architecture", ""))
    return guided * torch.from_numpy(spread).to(guided), None


def _integrated_gradients(question: Question) -> Computed:
    """Gauss-Legendre; the steps double, at most twice, until the sum is right."""
    from captum.attr import IntegratedGradients

    integrate, steps = IntegratedGradients(question.scorer), question.budget.steps
    question.scorer.expected = question.scorer.asked + steps + 2
    for attempt in range(3):
        values, delta = integrate.attribute(
            question.pixel_values,
            question.reference,
            question.target,
            n_steps=steps,
            internal_batch_size=question.with_gradient,
            return_convergence_delta=True,
        )
        if attempt == 2 or _check(question, delta.item()).converged:
            break
        steps *= 2
        question.scorer.expected = question.scorer.asked + steps + 2
    return values, delta.item()


def _gradient_shap(question: Question) -> Computed:
    """References: air, the slice blurred, and its mean grey inside the body."""
    from captum.attr import GradientShap

    pixels, reference = question.pixel_values, question.reference
    body = (pixels != reference).any(dim=1, keepdim=True)
    mean = torch.where(body, (pixels * body).sum() / (3 * body.sum().clamp(min=1)), reference)
    references = torch.cat([reference, blurred(pixels), mean])
    shap = GradientShap(question.scorer)
    return _averaged(
        question,
        lambda samples: shap.attribute(pixels, references, n_samples=samples, stdevs=0.02, target=question.target),
    )


def _saliency(question: Question) -> Computed:
    """The size of the gradient with respect to the grey level, averaged over noise before its sign is dropped."""
    from captum.attr import NoiseTunnel, Saliency

    pixels, tunnel = question.pixel_values, NoiseTunnel(Saliency(question.scorer))
    noise = NOISE * (pixels.max() - pixels.min()).item()
    values, _ = _averaged(
        question,
        lambda samples: tunnel.attribute(
            pixels, nt_type="smoothgrad", nt_samples=samples, stdevs=noise, target=question.target, abs=False
        ),
    )
    return values.sum(dim=1, keepdim=True).abs(), None


def _averaged(question: Question, draw: Callable[[int], torch.Tensor]) -> Computed:
    """The mean of the budget's samples, drawn a batch at a time: Captum would take them all at once."""
    left, total = question.budget.samples, torch.zeros_like(question.pixel_values)
    question.scorer.expected = question.scorer.asked + left
    with _seeded(question.seed):
        while left:
            samples = min(left, question.with_gradient)
            total += samples * draw(samples).detach()
            left -= samples
    return total / question.budget.samples, None


def _deeplift(question: Question) -> Computed:
    from captum.attr import DeepLift

    class FrugalDeepLift(DeepLift):
        """Captum clones what enters and leaves each ReLU, as it might be overwritten; in our copy nothing is."""

        def _forward_pre_hook(self, module: nn.Module, inputs: Any) -> None:
            module.input = inputs[0].detach()

        def _forward_hook(self, module: nn.Module, inputs: Any, outputs: Any) -> None:
            module.output = outputs.detach()

    question.scorer.expected = 4
    values, delta = FrugalDeepLift(question.scorer).attribute(
        question.pixel_values, question.reference, question.target, return_convergence_delta=True
    )
    return values, delta.item()


def _occlusion(question: Question) -> Computed:
    from captum.attr import Occlusion

    stride = max(1, round(question.side / (question.budget.windows + 1)))
    window = min(2 * stride, question.side)
    places = -(-(question.side - window) // stride) + 1
    question.scorer.expected = question.scorer.asked + places**2 + 1
    with torch.no_grad():
        values = Occlusion(question.scorer).attribute(
            question.pixel_values,
            (3, window, window),
            (3, stride, stride),
            question.reference,
            question.target,
            perturbations_per_eval=question.without_gradient,
        )
    return values / (3 * window**2), None  # the fall of the score, shared out over the window


def _feature_ablation(question: Question) -> Computed:
    from captum.attr import FeatureAblation

    segments = superpixels(question.pixel_values, question.reference, question.budget.segments)
    question.scorer.expected = question.scorer.asked + int(segments.max()) + 2
    with torch.no_grad():
        values = FeatureAblation(question.scorer).attribute(
            question.pixel_values,
            question.reference,
            question.target,
            feature_mask=segments[None, None],
            perturbations_per_eval=question.without_gradient,
        )
    return values / (3 * _areas(segments)), None


def _lime(question: Question) -> Computed:
    """LIME's own choices for pictures: half of the segments kept, cosine similarity, ridge regression."""
    from captum.attr import LimeBase

    segments = superpixels(question.pixel_values, question.reference, question.budget.segments)
    generator = torch.Generator().manual_seed(question.seed)
    count = int(segments.max()) + 1

    def keep(_: torch.Tensor, **__: Any) -> torch.Tensor:
        return torch.randint(0, 2, (1, count), generator=generator)

    def mix(kept: torch.Tensor, pixels: torch.Tensor, **_: Any) -> torch.Tensor:
        return torch.where(kept[0].to(segments.device)[segments].bool(), pixels, question.reference)

    def similarity(_: Any, __: Any, kept: torch.Tensor, **___: Any) -> float:
        distance = 1 - (kept.float().mean().item()) ** 0.5  # the cosine distance from "all kept"
        return float(np.exp(-(distance**2) / KERNEL_WIDTH**2))

    question.scorer.expected = question.scorer.asked + question.budget.mixtures
    lime = LimeBase(question.scorer, _Ridge(), similarity, keep, True, mix, None)
    with torch.no_grad(), _seeded(question.seed):  # its data loader draws a seed that it does not use
        weights = lime.attribute(
            question.pixel_values,
            target=question.target,
            n_samples=question.budget.mixtures,
            perturbations_per_eval=question.without_gradient,
        )
    spread = weights.to(segments.device)[0][segments] / _areas(segments)
    return spread[None, None].expand_as(question.pixel_values) / 3, None


class _Ridge:
    """The weighted linear model of LIME, as Captum wants one: fitted to a loader of (inputs, outputs, weights)."""

    def __init__(self) -> None:
        self.coefficients = torch.zeros(1, 0)

    def fit(self, train_data: Any, **_: Any) -> None:
        from sklearn.linear_model import Ridge

        inputs, outputs, weights = (torch.cat(part).numpy() for part in zip(*train_data, strict=True))
        model = Ridge(alpha=1.0).fit(inputs, outputs, weights)
        self.coefficients = torch.from_numpy(np.asarray(model.coef_, dtype=np.float32)).view(1, -1)

    def representation(self) -> torch.Tensor:
        return self.coefficients


_COMPUTE: dict[str, Callable[[Question], Computed]] = {
    "guided_gradcam": _guided_gradcam,
    "integrated_gradients": _integrated_gradients,
    "gradient_shap": _gradient_shap,
    "deeplift": _deeplift,
    "occlusion": _occlusion,
    "feature_ablation": _feature_ablation,
    "lime": _lime,
    "saliency": _saliency,
}


def superpixels(pixel_values: torch.Tensor, reference: torch.Tensor, count: int) -> torch.Tensor:
    """SLIC superpixels (S, S) int64 of one picture (1, 3, S, S), about `count`, numbered from 0 without gaps.

    What equals the reference, air, is one segment of its own: replacing it by the reference changes nothing.
    """
    from skimage.segmentation import slic

    grey = pixel_values[0].float().mean(dim=0).cpu().numpy()
    seen = (pixel_values != reference).any(dim=1)[0].cpu().numpy()
    scaled = (grey - grey.min()) / max(float(np.ptp(grey)), 1e-6)
    if seen.sum() < count:
        seen = np.ones_like(seen)
    labels = slic(scaled, count, compactness=0.1, sigma=1, channel_axis=None, mask=seen)
    return torch.from_numpy(np.unique(labels, return_inverse=True)[1].reshape(labels.shape)).to(pixel_values.device)


def _areas(segments: torch.Tensor) -> torch.Tensor:
    """The number of pixels of each pixel's segment, (S, S)."""
    return torch.bincount(segments.flatten())[segments].float()


def _check(question: Question, delta: float) -> Completeness:
    with torch.no_grad():
        scores = [
            question.scorer(pixels)[0, question.target].item() for pixels in (question.pixel_values, question.reference)
        ]
    return Completeness(scores[0], scores[1], delta)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Captum draws from torch's and numpy's global states: seed them, one map at a time, and put them back."""
    with _RANDOM, torch.random.fork_rng(devices=[]):
        before = np.random.get_state()
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            np.random.set_state(before)


@contextlib.contextmanager
def _no_captum_warnings() -> Iterator[None]:
    """Captum announces that it sets hooks, and that the input now requires a gradient; both are meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*Setting (forward, )?backward hooks")
        warnings.filterwarnings("ignore", message=".*did not already require gradients")
        yield
