"""The ways to explain an answer, by name: what each does, what its map means, and how much work a budget buys.

Nothing heavy is imported here, so that a command line or a page can offer the choice at once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """`title` is its name in print, `sentence` what it does.

    `signed`: the map also shows what speaks against the class. `complete`: its values sum to the change of the class's
    score from the baseline to the slice, so that the sum can be checked. `coarse`: with a
    cell every 16 of the network's pixels.
    """

    title: str
    sentence: str
    signed: bool = False
    complete: bool = False
    coarse: bool = False


METHODS: dict[str, Method] = {
    "gradcam": Method(
        "Grad-CAM",
        "Weighs the middle flow's feature map by the gradient of the class's score; quick and coarse.",
        coarse=True,
    ),
    "cam": Method(
        "class activation map",
        "Grad-CAM's closed form on the last feature map, without a gradient; on small inputs it may miss the place.",
        coarse=True,
    ),
    "guided_gradcam": Method(
        "Guided Grad-CAM", "Grad-CAM times guided backpropagation: fine detail, partly the picture's own edges.", True
    ),
    "integrated_gradients": Method(
        "integrated gradients", "Adds up gradients while the slice fades in from black; the sum is checked.", True, True
    ),
    "gradient_shap": Method(
        "gradient SHAP", "Averages gradients between the slice and three references; complete on average.", True
    ),
    "deeplift": Method(
        "DeepLIFT", "Compares each unit's activation with that on black, in one pass; the sum is checked.", True, True
    ),
    "occlusion": Method("occlusion", "Blackens a sliding window and records how far the score falls.", True),
    "feature_ablation": Method(
        "superpixel ablation", "Blackens one superpixel after another and records how far the score falls.", True
    ),
    "lime": Method("LIME", "Fits a linear model to the score over random mixtures of superpixels.", True),
    "saliency": Method("SmoothGrad saliency", "Averages the gradient's size over noisy copies of the slice."),
}


@dataclass(frozen=True)
class Budget:
    """How much work a map may cost.

    `steps` of integrated gradients (at first: they double until the sum is right, at most twice); `samples` of gradient
    SHAP and SmoothGrad; `windows` of occlusion along a side; `segments` of SLIC; `mixtures` of LIME.
    """

    steps: int
    samples: int
    windows: int
    segments: int
    mixtures: int


BUDGETS: dict[str, Budget] = {
    "fast": Budget(steps=12, samples=8, windows=7, segments=30, mixtures=60),
    "balanced": Budget(steps=32, samples=24, windows=12, segments=60, mixtures=240),
    "thorough": Budget(steps=96, samples=64, windows=22, segments=120, mixtures=900),
}

COMPARED = ("gradcam", "integrated_gradients", "occlusion")  # one of each kind: features, gradients, perturbation
RANDOMISED_BELOW = 0.3  # rank correlation with randomised weights' maps below which a map counts as the network's own
