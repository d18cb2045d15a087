"""How near two float32 computations of one thing must come, whatever the processor, its threads and the batch.

Sums taken in another order (other instructions, more threads, another batch size or runtime) differ by roundings of the
largest terms that were summed, not of the result: a logit near 0 among logits near 10 is no surer than those. So a
tensor is measured by its own largest magnitude. An Xception's features moved by up to 6e-6 of it between SSE 4.1, AVX2
and AVX-512 and between one thread and two, its logits by 3e-6, its probabilities by 6e-6; a wrong answer moves by 1e-2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

ROUNDING = 5e-5  # of the largest magnitude; of probabilities, whose scale is 1, the tolerance itself


def assert_near(found: Any, wanted: Any, share: float = ROUNDING) -> None:
    """Arrays or CPU tensors of one shape agree to `share` of the largest magnitude in `wanted`."""
    ours, theirs = (np.asarray(getattr(one, "detach", lambda one=one: one)()) for one in (found, wanted))
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=share * float(np.abs(theirs).max(initial=0)))
