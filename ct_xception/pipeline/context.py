"""What every stage of the pipeline after the split starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object

from ct_xception.audit.overlap import SplitCorpus
from ct_xception.evaluation.answers import Share

if TYPE_CHECKING:
    from accelerate import Accelerator
    from datasets import DatasetDict

    from ct_xception.audit.overlap import Overlap
    from ct_xception.audit.report import Audit
    from ct_xception.evaluation.shift.external import External
    from ct_xception.training.data.replay import OldCorpus
    from ct_xception.training.data.unlabelled import Unlabelled
    from ct_xception.training.options import TrainConfig


@dataclass(frozen=True, eq=False)
class Context:
    """What every stage after the split starts from; the same on every process, but for the main one's `audit`.

    `patients` {source: name} are the audit's, None without one; `corpus` is the report that may be published; `old` are
    the corpora of --replay, and `overlaps`, the main one's again, say what all of them share, this one first.
    `externals` are the corpora of --external, `unlabelled` those of --unlabelled, None without.
    """

    config: TrainConfig
    run: Path
    accelerator: Accelerator
    command: str
    corpus: dict[str, Any]
    splits: DatasetDict
    split: dict[str, Any]
    audit: Audit | None
    patients: dict[str, str] | None
    old: tuple[OldCorpus, ...] = ()
    overlaps: list[Overlap] | None = None
    externals: tuple[External, ...] = ()
    unlabelled: Unlabelled | None = None

    @property
    def label_names(self) -> list[str]:
        """The class names in index order."""
        return self.splits["train"].features["label"].names

    @property
    def share(self) -> Share:
        """This process's part of what is answered."""
        accelerator = self.accelerator
        return Share(accelerator.process_index, accelerator.num_processes, lambda found: gather_object([found]))

    @property
    def folder(self) -> Path:
        """Where the checkpoint grows; it is put in place when it is whole."""
        return self.run / "model.partial"

    @property
    def learnt(self) -> list[SplitCorpus]:
        """All corpora that the network is shown in training, those without labels too."""
        return [*self.corpora, *(() if self.unlabelled is None else self.unlabelled.corpora)]

    @property
    def corpora(self) -> list[SplitCorpus]:
        """This corpus, and the old ones."""
        survey = None if self.audit is None else self.audit.survey
        return [SplitCorpus(self.splits, self.corpus, self.split, survey), *self.old]
