"""Small metrics for tests: the head of a metrics.json, and a metric of made-up numbers."""

from __future__ import annotations

from typing import Any

from ct_xception.checkpoint_files import Metric


def head(**changes: Any) -> dict[str, Any]:
    """The least that a metrics.json states, as JSON, with `changes`."""
    return {
        "format": 2,
        "protocol": "published",
        "split": "test",
        "split_hash": "5f0c",
        "weights_sha256": "00",
        "corpus": {"hash": "c0"},
        "n": 64,
        "n_groups": 32,
        "label_names": ["a", "b"],
        "intervals": {"confidence": 0.95, "resamples": 1000, "seed": 0},
        **changes,
    }


def metric(value: float | None, low: float | None = None, high: float | None = None, n: int = 64) -> Metric:
    """A metric with this interval."""
    return Metric(value=value, n=n, low=low, high=high, method=None)
