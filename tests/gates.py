"""Checkpoints with an input gate that takes any slice for foreign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ct_xception.checkpoint_files import Side, need_side, write_side
from ct_xception.evaluation.gate_fit import Seen, fit_gate, write_gate
from ct_xception.files import sha256_file


def add_gate(folder: Path, **side: Any) -> None:
    """Fit a gate to features that hardly vary, unlike any network's, into a checkpoint folder; `side` goes over it."""
    n = 16
    features = (1 + 1e-3 * np.random.default_rng(0).normal(size=(n, 2048))).astype(np.float32)
    seen = Seen(features, (96,) * n, (112,) * n, (0.6,) * n, (True,) * n, (None,) * n, (None,) * n)
    weights = sha256_file(folder / "model.safetensors")
    write_side(folder, Side.of({"provenance": {"weights_sha256": weights}}))
    write_gate(folder, *fit_gate(seen, seen, weights_sha256=weights))
    write_side(folder, need_side(folder).with_(**side))
