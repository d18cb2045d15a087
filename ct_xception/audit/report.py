"""What an audit comes to: the findings on a corpus, most severe first, with what they were found by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ct_xception.audit.findings import SEVERITIES, Finding, in_order
from ct_xception.audit.foreign import WindowTable
from ct_xception.audit.leaks import LEAKS
from ct_xception.audit.shortcuts import Shortcut

if TYPE_CHECKING:
    from ct_xception.audit.drift import Drift
    from ct_xception.audit.survey import Survey
    from ct_xception.audit.twins.twins import Twins
    from ct_xception.corpus.load import Corpus
    from ct_xception.imaging.windows import Window

FORMAT = 1


@dataclass(frozen=True, eq=False)
class Audit:
    """What was found, most severe first, with what it was found by.

    `hash` is the corpus's, `seconds` the time that it took. `window` and `frame` are those that files were read with.
    `drift` is what another corpus differs in, where it was held against one.
    """

    findings: tuple[Finding, ...]
    survey: Survey
    twins: Twins
    hash: str
    seconds: float
    shortcuts: list[Shortcut]
    windows: WindowTable
    corpus: Corpus = field(repr=False)
    window: Window | None = None
    frame: int | None = None
    drift: Drift | None = None

    @property
    def counts(self) -> dict[str, int]:
        """Findings by severity."""
        found = Counter(finding.severity for finding in self.findings)
        return {severity: found[severity] for severity in SEVERITIES}

    @property
    def leaks(self) -> bool:
        """Whether anything of the test set was, or probably was, seen before it."""
        return any(finding.kind in LEAKS and finding.detail.get("split") == "test" for finding in self.findings)

    @cached_property
    def patients(self) -> dict[str, str]:
        """{source: patient}, the corpus's own groups or pseudo-patients, twins together."""
        return dict(zip(self.survey.sources, self.twins.patients, strict=True))

    def with_findings(self, more: Iterable[Finding]) -> Audit:
        """The same audit with findings that it could not have made alone."""
        return replace(self, findings=in_order([*self.findings, *more]))

    def warning(self) -> str:
        """What a reader of figures on this corpus must know, in sentences; empty where nothing is critical or leaks."""
        said = [finding.title for finding in self.findings if _must_be_said(finding)]
        if not said:
            return ""
        return " ".join(["Figures on this corpus's own splits are not to be trusted as they are.", *said])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with every finding's images by name: for the run folder."""
        return self._head() | {
            "findings": [finding.to_dict() for finding in self.findings],
            "patients": self.patients,
            "unreadable": self.survey.failed,
        }

    def public(self) -> dict[str, Any]:
        """JSON-able, without any file name: for the checkpoint and its card."""
        return self._head() | {"findings": [finding.public() for finding in self.findings]}

    def _head(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "corpus_hash": self.hash,
            "images": len(self.survey.sources),
            "counts": self.counts,
            "leaks": self.leaks,
            "warning": self.warning(),
            "seconds": round(self.seconds, 1),
            "patients_count": len(set(self.twins.patients)),
            "patients_known": self.survey.groups_known,
            "shortcuts": [shortcut.to_json() for shortcut in self.shortcuts],
            "windows": dict(vars(self.windows)),
            **({} if self.drift is None else {"drift": self.drift.to_dict()}),
        }


def _must_be_said(finding: Finding) -> bool:
    return finding.severity == "critical" or (finding.kind in LEAKS and finding.detail.get("split") == "test")
