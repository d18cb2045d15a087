"""Grad-CAM as an ONNX graph, beside Captum's of the same network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ct_xception.explain.budget import BUDGETS
from ct_xception.explain.explain import compute_map
from ct_xception.explain.methods import METHODS
from ct_xception.formats.onnx import write_onnx
from ct_xception.formats.onnx_gradcam import NoGradient, split_for_gradcam
from ct_xception.model.modelling import CTXceptionForImageClassification as Network
from tests.closeness import assert_near
from tests.networks import enliven, wake_attention

onnx = pytest.importorskip("onnx", reason="onnx is not installed (pip install '.[export]')")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (pip install '.[export]')")
NAMES = ["a", "b", "c"]


@pytest.mark.parametrize(("backbone", "side"), [("legacy_xception", 64), ("legacy_xception", 107), ("xception41", 64)])
def test_it_is_captum_s(backbone: str, side: int, tmp_path: Path) -> None:
    """Whether the last stride meets an even map or an odd one, whose gradients end at other edges."""
    model = enliven(Network.from_backbone(backbone, NAMES, side, seed=3), batches=1, image_size=side).eval()
    write_onnx(model, tmp_path / "model.onnx", {})
    parts = split_for_gradcam(onnx.load(str(tmp_path / "model.onnx")))
    first, second = (onnxruntime.InferenceSession(part.SerializeToString()) for part in parts)
    pixels = torch.rand(3, side, side, generator=torch.Generator().manual_seed(5)) * 2 - 1
    read = list[torch.Tensor]()
    hook = model.before_last_stride().register_forward_hook(lambda *passed: read.append(passed[2].detach()))
    told = model.outputs(pixels[None])
    hook.remove()
    (middle,) = first.run(None, {"pixel_values": pixels[None].numpy()})
    assert_near(middle, read[0].numpy())
    # From torch's own middle on: last digits of what comes before decide which side of 0 a few activations are on.
    middle = read[0].numpy()
    strengths = []
    for target in range(len(NAMES)):
        seed = np.eye(len(NAMES), dtype=np.float32)[[target]]
        logits, features, cells = second.run(None, {"middle": middle, "seed": seed})
        assert_near(logits, told[0].detach().numpy())
        assert_near(features, told[1].detach().numpy())
        wanted, _ = compute_map(model, pixels, target, method=METHODS["gradcam"], budget=BUDGETS["fast"])
        assert_near(cells[0, 0], wanted)
        strengths.append(wanted.max())
    assert max(strengths) > 0  # maps of nothing would prove nothing


def test_a_network_whose_gradient_is_not_written_is_said(tmp_path: Path) -> None:
    model = wake_attention(Network.from_backbone("legacy_xception", NAMES, 64, seed=3, attention="se"))
    write_onnx(enliven(model, batches=1).eval(), tmp_path / "model.onnx", {})
    with pytest.raises(NoGradient, match="no gradient of .* is written"):
        split_for_gradcam(onnx.load(str(tmp_path / "model.onnx")))
