"""How a run encodes the columns of `--tabular_columns`: by its training rows, or as the checkpoint it goes on from."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from ct_xception.checkpoint_files import TabularRule
from ct_xception.corpus.tables.columns import tabular_columns
from ct_xception.files import dump_json
from ct_xception.serving.checkpoint import open_checkpoint
from ct_xception.tabular import fit_tabular

if TYPE_CHECKING:
    from ct_xception.training.data.cache import CachedSlices
    from ct_xception.training.options import TrainConfig


def settle_columns(config: TrainConfig, train: CachedSlices) -> TabularRule | None:
    """The encoding of a run; None without columns. Raises `InputError` for one that has nothing to learn from."""
    names = tabular_columns(config.tabular_columns)
    if not names:
        return None
    start = next(iter([config.init, *config.soup] if config.init else config.soup), None)
    before = None if start is None else open_checkpoint(start).config.get("tabular")
    return fit_tabular(names, train.rows, train.groups) if before is None else TabularRule.of(before)


def hash_of_rows(*parts: CachedSlices) -> str:
    """What names the rows that a run learns from and is judged by: a resumed run must share it."""
    told = [[part.sources, [sorted(row.items()) for row in part.rows]] for part in parts]
    return hashlib.sha256(dump_json(told).encode()).hexdigest()[:12]
