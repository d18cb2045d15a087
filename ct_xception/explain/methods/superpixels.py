"""What replaces whole superpixels by air: their ablation one by one, and LIME's linear model of random mixtures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ct_xception.explain.methods.base import Method, register

if TYPE_CHECKING:
    import torch

    from ct_xception.explain.scoring import Question

KERNEL_WIDTH = 0.25  # of LIME's similarity, as in its authors' package for pictures


@register
class FeatureAblation(Method):
    """The fall of the score, shared out over the superpixel."""

    name, title, signed = "feature_ablation", "superpixel ablation", True
    sentence = "Blackens one superpixel after another and records how far the score falls."

    def compute(self, question: Question) -> torch.Tensor:
        """(1, 3, S, S)."""
        import torch
        from captum.attr import FeatureAblation as Ablation

        segments = superpixels(question.pixel_values, question.reference, question.budget.segments)
        question.scorer.expected = question.scorer.asked + int(segments.max()) + 2
        with torch.no_grad():
            values = Ablation(question.scorer).attribute(
                question.pixel_values,
                question.reference,
                question.target,
                feature_mask=segments[None, None],
                perturbations_per_eval=question.without_gradient,
            )
        return values / (3 * _areas(segments))


@register
class LIME(Method):
    """LIME's own choices for pictures: half of the segments kept, cosine similarity, ridge regression (1602.04938)."""

    name, title, signed = "lime", "LIME", True
    sentence = "Fits a linear model to the score over random mixtures of superpixels."

    def compute(self, question: Question) -> torch.Tensor:
        """(h, w), as large as the picture."""
        import torch
        from captum.attr import LimeBase

        from ct_xception.explain.scoring import seeded

        segments = superpixels(question.pixel_values, question.reference, question.budget.segments)
        generator = torch.Generator().manual_seed(question.seed)
        count = int(segments.max()) + 1

        def keep(_: torch.Tensor, **__: Any) -> torch.Tensor:
            return torch.randint(0, 2, (1, count), generator=generator)

        def mix(kept: torch.Tensor, pixels: torch.Tensor, **_: Any) -> torch.Tensor:
            return torch.where(kept[0].to(segments.device)[segments].bool(), pixels, question.reference)

        question.scorer.expected = question.scorer.asked + question.budget.mixtures
        lime = LimeBase(question.scorer, _Ridge(), _similarity, keep, True, mix, None)
        with torch.no_grad(), seeded(question.seed):  # its data loader draws a seed that it does not use
            weights = lime.attribute(
                question.pixel_values,
                target=question.target,
                n_samples=question.budget.mixtures,
                perturbations_per_eval=question.without_gradient,
            )
        return weights.to(segments.device)[0][segments] / _areas(segments)


def _similarity(_: Any, __: Any, kept: torch.Tensor, **___: Any) -> float:
    distance = 1 - (kept.float().mean().item()) ** 0.5  # the cosine distance from "all kept"
    return math.exp(-(distance**2) / KERNEL_WIDTH**2)


class _Ridge:
    """The weighted linear model of LIME, as Captum wants one: fitted to a loader of (inputs, outputs, weights)."""

    def fit(self, train_data: Any, **_: Any) -> None:
        import numpy as np
        import torch
        from sklearn.linear_model import Ridge

        inputs, outputs, weights = (torch.cat(part).numpy() for part in zip(*train_data, strict=True))
        model = Ridge(alpha=1.0).fit(inputs, outputs, weights)
        self.coefficients = torch.from_numpy(np.asarray(model.coef_, dtype=np.float32)).view(1, -1)

    def representation(self) -> torch.Tensor:
        return self.coefficients


def superpixels(pixel_values: torch.Tensor, reference: torch.Tensor, count: int) -> torch.Tensor:
    """SLIC superpixels (S, S) int64 of one picture (1, 3, S, S), about `count`, numbered from 0 without gaps.

    What equals the reference, air, is one segment of its own: replacing it by the reference changes nothing.
    """
    import numpy as np
    import torch
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
    import torch

    return torch.bincount(segments.flatten())[segments].float()
