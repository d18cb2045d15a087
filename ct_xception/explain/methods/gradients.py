"""What averages the gradient with respect to the pixels: integrated gradients, gradient SHAP, SmoothGrad."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ct_xception.explain.methods.base import Method, register

if TYPE_CHECKING:
    import torch

    from ct_xception.explain.scoring import Question

NOISE = 0.15  # SmoothGrad's standard deviation as a share of the picture's range (Smilkov et al. 2017: 0.1 to 0.2)


@register
class IntegratedGradients(Method):
    """Gauss-Legendre (Sundararajan et al. 2017, arXiv:1703.01365); the steps double until the sum is right."""

    name, title, signed, complete = "integrated_gradients", "integrated gradients", True, True
    aliases = ("ig", "intgrad")
    sentence = "Adds up gradients while the slice fades in from black; the sum is checked."

    def compute(self, question: Question) -> torch.Tensor:
        """(1, 3, S, S)."""
        from captum.attr import IntegratedGradients as Integrator

        scorer, steps = question.scorer, question.budget.steps
        for left in range(question.budget.doublings, -1, -1):
            scorer.expected = scorer.asked + steps + 2
            values = Integrator(scorer).attribute(
                question.pixel_values,
                question.reference,
                question.target,
                n_steps=steps,
                internal_batch_size=question.with_gradient,
            )
            if not left or question.check(values).converged:
                break
            steps *= 2
        return values


@register
class GradientSHAP(Method):
    """References: air, the slice blurred, and its mean grey inside the body (Lundberg and Lee 2017, 1705.07874)."""

    name, title, signed = "gradient_shap", "gradient SHAP", True
    sentence = "Averages gradients between the slice and three references; complete on average."

    def compute(self, question: Question) -> torch.Tensor:
        """(1, 3, S, S)."""
        import torch
        from captum.attr import GradientShap

        from ct_xception.explain.scoring import averaged, blurred

        pixels, reference = question.pixel_values, question.reference
        body = (pixels != reference).any(dim=1, keepdim=True)
        mean = torch.where(body, (pixels * body).sum() / (3 * body.sum().clamp(min=1)), reference)
        references, shap = torch.cat([reference, blurred(pixels), mean]), GradientShap(question.scorer)

        def draw(samples: int) -> torch.Tensor:
            return shap.attribute(pixels, references, n_samples=samples, stdevs=0.02, target=question.target)

        return averaged(question, draw)


@register
class SmoothGrad(Method):
    """The size of the gradient with respect to the grey level, averaged over noise before its sign is dropped."""

    name, title = "saliency", "SmoothGrad saliency"
    aliases = ("smoothgrad",)
    sentence = "Averages the gradient's size over noisy copies of the slice."

    def compute(self, question: Question) -> torch.Tensor:
        """(1, 1, S, S), not negative."""
        from captum.attr import NoiseTunnel, Saliency

        from ct_xception.explain.scoring import averaged

        pixels, tunnel = question.pixel_values, NoiseTunnel(Saliency(question.scorer))
        noise = NOISE * (pixels.max() - pixels.min()).item()

        def draw(samples: int) -> torch.Tensor:
            return tunnel.attribute(
                pixels, nt_type="smoothgrad", nt_samples=samples, stdevs=noise, target=question.target, abs=False
            )

        return averaged(question, draw).sum(dim=1, keepdim=True).abs()
