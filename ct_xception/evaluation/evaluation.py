"""What is evaluated, and how: a checkpoint, a split, how its files are read, and what goes where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.checkpoint import EVALUATION
from ct_xception.evaluation.protocols import Protocols

if TYPE_CHECKING:
    from datasets import Dataset

    from ct_xception.audit.survey import Survey
    from ct_xception.evaluation.shift.external import External
    from ct_xception.imaging.windows import Window


@dataclass(frozen=True)
class Outputs:
    """Where an evaluation goes, and what may go with it.

    `folder`: by default the checkpoint's `evaluation`. `history`: history.jsonl of the run, for the learning curves.
    `examples`: a folder outside the checkpoint for examples.png, which shows pictures of the corpus; None
    draws none. Those of the phantom, which are nobody's, go into `folder` as well. `errors`: a folder outside the
    checkpoint for errors.html, the page of mistakes, which shows pictures too.
    `names`: the file outside the checkpoint that says which image a published "item 000123" is; None writes none.
    """

    folder: Path | None = None
    history: Path | None = None
    examples: Path | None = None
    errors: Path | None = None
    names: Path | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One evaluation of one checkpoint.

    `splits[split_name]` is answered; it has the columns image {"path", "bytes"}, label, group, source. With train among
    the `splits` the page of mistakes shows the most alike training images; `survey` is the audit's, made anew where
    there is none. `split` (as `make_splits` gives it) and `corpus` (its report) say what was evaluated; without `split`
    the figures carry no protocol, and no card takes them. `protocols` is what else is known. `externals` are other
    corpora, to be asked whole. `explained` is how many items' heat maps are checked, `robustness` how many are changed
    as other scanners would; without `stock` transformers' own pipeline is not asked. `modality` says what the images
    are where the checkpoint does not.
    """

    checkpoint: Path
    splits: Mapping[str, Dataset]
    split_name: str = "test"
    split: Mapping[str, Any] | None = None
    corpus: Mapping[str, Any] | None = None
    window: Window | None = None
    frame: int | None = None
    modality: str | None = None
    outputs: Outputs = Outputs()
    protocols: Protocols = Protocols()
    externals: tuple[External, ...] = ()
    survey: Survey | None = None
    explained: int = 0
    robustness: int = 0
    stock: bool = True
    batch_size: int = 16
    seed: int = 0
    device: str = "cpu"
    progress: bool = True

    @property
    def dataset(self) -> Dataset:
        """The split that is answered."""
        return self.splits[self.split_name]

    @property
    def label_names(self) -> list[str]:
        """The corpus's classes, in index order."""
        return list(self.dataset.features["label"].names)

    @property
    def folder(self) -> Path:
        """Where the figures go."""
        return self.outputs.folder or self.checkpoint / EVALUATION
