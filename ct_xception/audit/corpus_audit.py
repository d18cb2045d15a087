"""An audit for a Python session: `ct_xception.audit("DIR")`, which shows itself and saves its page."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.audit.audit import audit_corpus, audit_summary, write_audit
from ct_xception.audit.repair import RepairedSplit, write_split
from ct_xception.audit.report import Audit
from ct_xception.corpus.load import Corpus, CorpusOptions, load_corpus
from ct_xception.errors import InputError
from ct_xception.imaging.windows import as_window
from ct_xception.text import unknown

if TYPE_CHECKING:
    import pandas

    from ct_xception.imaging.windows import Window

COLOURS: Mapping[str, str] = {"critical": "#b3261e", "warning": "#8a5a00", "note": "#40566f"}


class CorpusAudit(Audit):
    """The findings on a corpus, most severe first; prints as the terminal's summary, and shows itself in a notebook."""

    def __repr__(self) -> str:
        return audit_summary(self)

    def _repr_html_(self) -> str:
        head = escape(audit_summary(self).partition("\n")[0])
        rows = "".join(
            f'<tr><td style="text-align:left;vertical-align:top;color:{COLOURS[finding.severity]}">'
            f'<b>{finding.severity}</b></td><td style="text-align:left;white-space:normal">{escape(finding.title)}</td>'
            "</tr>"
            for finding in self.findings
        )
        return f"<div><b>{head}</b></div><table>{rows}</table><div>.save(folder) writes the page with the images</div>"

    def to_frame(self) -> pandas.DataFrame:
        """A row a finding: severity, kind, title, images, of."""
        import pandas

        rows = [
            {"severity": one.severity, "kind": one.kind, "title": one.title, "images": one.n, "of": one.total}
            for one in self.findings
        ]
        return pandas.DataFrame(rows, columns=["severity", "kind", "title", "images", "of"])

    def save(self, folder: str | Path) -> Path:
        """Write audit.html, a page with the images that opens offline, and audit.json; the path of the page."""
        write_audit(self, folder)
        return Path(folder) / "audit.html"

    def write_split(self, folder: str | Path, *, copy: bool = False, seed: int = 0) -> RepairedSplit:
        """Write the leak-free split into a new folder: split.csv to train on, reasons.csv, and links to the images."""
        return write_split(self, folder, copy=copy, seed=seed)


def audit(
    corpus: str | Path | Corpus,
    *,
    window: Window | str | tuple[float, float] | None = None,
    frame: int | None = None,
    seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> CorpusAudit:
    """Audit a corpus: a folder, a table, a Hub dataset id, `phantom`, or what `load_corpus` gave.

    The `options` are those of `CorpusOptions` (class_map, group_pattern, …). Raises InputError and CorpusError.

    Examples:
        >>> found = audit("phantom:patients=12,size=64", progress=False)
        >>> found.leaks, list(found.counts)
        (False, ['critical', 'warning', 'note'])
    """
    window = as_window(window)
    if not isinstance(corpus, Corpus):
        corpus = _load(corpus, options | {"window": window, "frame": frame, "decode": False})
    elif options:
        raise InputError(f"{', '.join(options)}: this corpus is loaded already; give its options to load_corpus.")
    found = audit_corpus(corpus, window=window, frame=frame, progress=progress, seed=seed)
    return CorpusAudit(**{one.name: getattr(found, one.name) for one in fields(found)})


def _load(source: Any, options: Mapping[str, Any]) -> Corpus:
    if not isinstance(source, (str, os.PathLike)):
        kind = type(source).__name__
        raise InputError(
            f"a {kind} is no corpus; give a folder, a table, a Hub dataset id, phantom, or a loaded corpus."
        )
    known = [one.name for one in fields(CorpusOptions)]
    for name in options:
        if name not in known:
            raise InputError(unknown("option", name, known))
    return load_corpus(source, replace(CorpusOptions(), **options))
