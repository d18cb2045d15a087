"""What an audit says: one finding a defect, its severity, a sentence with its counts, and the images meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ct_xception.audit.survey import Survey

Severity = Literal["critical", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "note")
MOST_NAMED = 20  # classes in one sentence
PUBLIC_DETAIL = frozenset({"classes", "figures", "shares", "counts", "found", "windows", "names"})


@dataclass(frozen=True)
class Finding:
    """One defect. `title` is one sentence with its counts: `n` of `total` images; `items` are their sources.

    critical: figures on the corpus as it is cannot be believed. warning: they may mislead. note: worth knowing.
    `detail` is JSON-able; `pairs` in it holds [source, source, similarity].
    """

    kind: str
    severity: Severity
    title: str
    n: int
    total: int
    items: tuple[str, ...] = ()
    detail: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the file names."""
        return dict(vars(self)) | {"items": list(self.items)}

    def public(self) -> dict[str, Any]:
        """JSON-able, without the file names, which may be those of patients."""
        detail = {key: value for key, value in self.detail.items() if key in PUBLIC_DETAIL}
        head = {"kind": self.kind, "severity": self.severity, "title": self.title, "n": self.n, "total": self.total}
        return head | {"detail": detail}


def in_order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings by severity: critical ones as they came, others by the share of images that they are about."""

    def rank(finding: Finding) -> tuple[int, float]:
        share = finding.n / max(finding.total, 1)
        return SEVERITIES.index(finding.severity), 0.0 if finding.severity == "critical" else -share

    return tuple(sorted(findings, key=rank))


def sources(survey: Survey, indices: NDArray[np.intp] | Sequence[int]) -> tuple[str, ...]:
    """The names of some images."""
    return tuple(survey.sources[index] for index in indices)


def class_counts(survey: Survey, hit: NDArray[np.bool_], within: NDArray[np.bool_]) -> dict[str, dict[str, int]]:
    """{class: {n, total}}: how many images of each class are hit, of those within."""
    return {
        name: {
            "n": int((hit & within & (survey.labels == label)).sum()),
            "total": int((within & (survey.labels == label)).sum()),
        }
        for label, name in enumerate(survey.label_names)
    }


def name_classes(counts: Mapping[str, Mapping[str, int]]) -> str:
    """`46 of 54 normal, 2 of 51 large cell carcinoma`: the classes hit, the hardest hit first."""
    if len(counts) > 1 and all(count["n"] == count["total"] > 0 for count in counts.values()):
        return "all of every class"
    hit = [(name, count["n"], count["total"]) for name, count in counts.items() if count["n"]]
    hit.sort(key=lambda one: -one[1] / one[2])
    return enumerate_some([f"{number:,} of {total:,} {name}" for name, number, total in hit])


def enumerate_some(parts: Sequence[str], joint: str = ", ") -> str:
    """The first MOST_NAMED of them, and how many more there are: a sentence on a thousand classes is still one."""
    more = [f"{len(parts) - MOST_NAMED:,} more"] if len(parts) > MOST_NAMED else []
    return joint.join([*parts[:MOST_NAMED], *more])


def images(number: int) -> str:
    """`1 image`, `1,000 images`."""
    return f"{number:,} image" + ("" if number == 1 else "s")
