"""What the columns of a table add to a network's logits: a small embedding beside the pooled features."""

from __future__ import annotations

import torch
from torch import nn

from ct_xception.checkpoint_files import TabularRule
from ct_xception.tabular import Tabular

HIDDEN = 32


class TabularPart(nn.Module):
    """Rows (B, D), encoded by `Tabular`, to what they add to the logits (B, K).

    A linear head over the pooled features and this embedding, side by side, is the sum of one over each: the head over
    the features stays as it is, and so do its maps. At first a row adds nothing, so that a network answers as it did.
    While training, a `rate` of the rows is withheld, and a third of it of each column by itself: it learns to answer
    without.
    """

    def __init__(self, rule: TabularRule, classes: int) -> None:
        super().__init__()
        self.columns, self.rate = Tabular(rule), 0.0
        self.hidden = nn.Linear(self.columns.width, HIDDEN)
        self.share = nn.Linear(HIDDEN, classes, bias=False)
        nn.init.zeros_(self.share.weight)

    def absent(self, like: torch.Tensor) -> torch.Tensor:
        """The row (D,) of which every column is missing."""
        return torch.from_numpy(self.columns.absent).to(like)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if self.training and self.rate:
            rows = self._withhold(rows)
        return self.share(torch.tanh(self.hidden(rows)))

    def _withhold(self, rows: torch.Tensor) -> torch.Tensor:
        whole = torch.rand(len(rows), 1, device=rows.device) < self.rate
        single = torch.rand(len(rows), len(self.columns.names), device=rows.device) < self.rate / 3
        column_of = torch.tensor(self.columns.column_of, device=rows.device)  # (D,)
        return torch.where((whole | single)[:, column_of], self.absent(rows), rows)
