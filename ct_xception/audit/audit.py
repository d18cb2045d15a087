"""The audit of a corpus: everything that would make its figures lie, found before training and told by severity.

    audit = audit_corpus(load_corpus("corpora/chest-ct"))
    print(audit_summary(audit))
    write_audit(audit, "audit")        # audit.json, and audit.html with thumbnails

It puts together what `survey` and `twins` measured, `leaks` (test images that were seen before), `shortcuts` (labels
that follow from what is no anatomy), `foreign` (images that do not belong), class names and balance.
"""

from __future__ import annotations

import itertools
import textwrap
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ct_xception.audit import cache as audit_cache
from ct_xception.audit.findings import (
    MOST_NAMED,
    Finding,
    Severity,
    class_counts,
    enumerate_some,
    images,
    in_order,
    name_classes,
    sources,
)
from ct_xception.audit.foreign import Oddity, WindowTable, find_foreign, shown_windows, window_table
from ct_xception.audit.leaks import find_conflicts, find_copies, find_leaks
from ct_xception.audit.page import audit_page
from ct_xception.audit.report import Audit
from ct_xception.audit.shortcuts import (
    FAMILIES,
    YES_NO,
    Separator,
    Shift,
    Shortcut,
    find_shifts,
    find_shortcuts,
    surely,
)
from ct_xception.audit.survey import survey_corpus
from ct_xception.audit.twins.twins import find_twins
from ct_xception.checkpoint import AUDIT
from ct_xception.checkpoint_files import Metric
from ct_xception.corpus.summary import left_out
from ct_xception.files import write_atomically, write_json
from ct_xception.imaging.modality import CT

if TYPE_CHECKING:
    from ct_xception.audit.survey import Survey
    from ct_xception.audit.twins.twins import Twins
    from ct_xception.corpus.load import Corpus
    from ct_xception.imaging.windows import Window

__all__ = ["Audit", "Finding", "audit_corpus", "audit_summary", "keep_audit", "write_audit"]

SHORTCUT, GIVEAWAY = 0.8, 0.9  # lower ends of an AUC's interval: worth a warning; the label is as good as given away
FIRST_UNREAD = 3  # files that are named on the terminal; the page has them all
MOST = 0.5  # of the images: no body found, or tissue that the window hides
SINGULAR = {"are": "is", "have": "has", "hold": "holds", "look": "looks", "show": "shows"}
FEW, RATIO = 10, 10.0  # images of a class in a split; the largest class over the smallest
EVEN = 1.2  # the largest class over the smallest, below which they are of a size
UNCROPPED = (
    "The body crop leaves these as they are: table, clothes and border, and how a picture was cut, stay and may "
    "tell their class or their origin."
)
FOREIGN_SEVERITY: Mapping[str, Severity] = {
    "not_grey": "warning", "ink": "warning", "boxes": "warning", "strokes": "warning", "overlay": "warning",
    "unlike": "warning", "misnamed": "note", "mixed_formats": "note", "sizes": "note", "frame": "note",
    "doubts": "warning",
    "no_body": "note",
}  # fmt: skip


def audit_corpus(
    corpus: Corpus,
    *,
    window: Window | None = None,
    frame: int | None = None,
    progress: bool = True,
    seed: int = 0,
    cache: Path | None = None,
) -> Audit:
    """Audit a loaded corpus; `window` and `frame` are those that training would read its files with.

    Under `cache`, a folder, survey and twins are taken from where `keep_audit` left them for this very corpus.
    """
    start = time.perf_counter()
    survey, twins = look_over(corpus, window=window, frame=frame, progress=progress, cache=cache)
    return judge(corpus, survey, twins, seed=seed, start=start, window=window, frame=frame)


def look_over(
    corpus: Corpus,
    *,
    window: Window | None = None,
    frame: int | None = None,
    progress: bool = True,
    cache: Path | None = None,
    keep: bool = False,
) -> tuple[Survey, Twins]:
    """The slow half of an audit, taken from `cache` where it lies there; `keep` leaves it there."""
    known = corpus.report["groups"]["origin"] is not None
    folder = None if cache is None else cache / audit_cache.cache_name(corpus, window, frame)
    found = None if folder is None else audit_cache.load(folder)
    if found is None:
        reading: dict[str, Any] = {"window": window, "frame": frame, "modality": corpus.modality}
        survey = survey_corpus(corpus.dataset, groups_known=known, progress=progress, **reading)
        found = survey, find_twins(survey, progress=progress)
        if folder is not None and keep:
            audit_cache.store(folder, *found)
    return found


def judge(
    corpus: Corpus,
    survey: Survey,
    twins: Twins,
    *,
    seed: int = 0,
    start: float | None = None,
    window: Window | None = None,
    frame: int | None = None,
) -> Audit:
    """The findings on a corpus that was surveyed; `start` is when that began, by `time.perf_counter`."""
    start = time.perf_counter() if start is None else start
    shortcuts = find_shortcuts(survey, twins.patients, seed=seed)
    windows = window_table(survey)
    findings = [
        *_unreadable(survey),
        *find_leaks(survey, twins),
        *find_conflicts(survey, twins),
        *(finding for shortcut in shortcuts for finding in _shortcut(shortcut)),
        *(_shift(shift) for shift in find_shifts(survey, twins.patients, seed=seed)),
        *find_copies(survey, twins),
        *_class_names(corpus.report),
        *_not_taken(corpus.report),
        *(_foreign(survey, oddity) for oddity in find_foreign(survey, seed)),
        *_windows(survey, windows),
        *_hidden(survey),
        *_balance(survey),
        *_patients(survey, twins),
    ]
    seconds = time.perf_counter() - start
    digest = str(corpus.report["hash"])
    return Audit(in_order(findings), survey, twins, digest, seconds, shortcuts, windows, corpus, window, frame)


def _unreadable(survey: Survey) -> list[Finding]:
    if not survey.failed:
        return []
    total = len(survey.sources)
    title = f"{len(survey.failed):,} of {total:,} images cannot be read."
    detail = {"reasons": survey.failed}
    return [Finding("unreadable", "critical", title, len(survey.failed), total, tuple(survey.failed), detail)]


def _shortcut(shortcut: Shortcut) -> list[Finding]:
    """A finding where a class, or all of them, follow from one family of numbers; none where nothing does."""
    if shortcut.reason:
        return []
    auc = shortcut.auc[shortcut.strongest]
    if surely(auc) < SHORTCUT:
        return []
    severity: Severity = "critical" if surely(auc) >= GIVEAWAY else "warning"
    title = (
        f"Images of {shortcut.strongest} can be told from the rest by {FAMILIES[shortcut.family]} alone: "
        f"AUC {_interval(auc)}, n = {shortcut.n:,}, patients kept apart; {_strongest_attribute(shortcut)}. Balanced "
        f"accuracy over all {round(1 / shortcut.chance)} classes {_interval(shortcut.balanced_accuracy)}, by chance "
        f"{shortcut.chance:.3f}."
    )
    kind = f"shortcut_{shortcut.family}"
    return [Finding(kind, severity, title, shortcut.n, shortcut.n, (), {"figures": shortcut.to_json()})]


def _strongest_attribute(shortcut: Shortcut) -> str:
    """The attribute that gives the class away over all, and the one that does in the test split alone."""
    whole = shortcut.separators[shortcut.strongest]
    said = f"the {whole.name} alone has AUC {whole.auc.value:.3f}"
    tested = shortcut.by_split.get("test")
    if tested is not None and len(shortcut.by_split) > 1:
        attribute = "it" if tested.attribute == whole.attribute else f"the {tested.name}"
        said += f", and within the test split (n = {tested.auc.n:,}) {attribute} has {tested.auc.value:.3f}"
    return said


def _interval(metric: Metric) -> str:
    ends = "in every resample" if metric.low is None else f"{metric.low:.3f} to {metric.high:.3f}"
    return f"{metric.value:.3f} ({ends})"


def _shift(shift: Shift) -> Finding:
    separator = shift.separator
    shares = ", ".join(
        f"{100 * share:.1f} % of {shift.counts[split]:,} {split}" for split, share in shift.shares.items()
    )
    what = "by their framing" if shift.family == "border" else f"by {FAMILIES[shift.family]}"
    title = (
        f"Test images of {_listed(list(shift.classes))} can be told from training images {what}: the {separator.name} "
        f"is {_side(separator)} in {shares} images (AUC {_interval(separator.auc)}, n = {shift.n:,})."
    )
    kind = "framing_shift" if shift.family == "border" else f"split_shift_{shift.family}"
    severity: Severity = "warning" if shift.family in ("border", "grey_statistics") else "note"
    return Finding(kind, severity, title, shift.counts["test"], shift.n, (), {"figures": shift.to_json()})


def _side(separator: Separator) -> str:
    if separator.attribute in YES_NO:
        return "there" if separator.above else "absent"
    return f"{'above' if separator.above else 'below'} {separator.threshold:.3g}"


def _listed(names: list[str]) -> str:
    if not 1 < len(names) <= MOST_NAMED:
        return enumerate_some(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _class_names(report: Mapping[str, Any]) -> list[Finding]:
    """Classes that go by several names, of which a loader that matches none makes classes of their own."""
    table = report["class_table"]
    names = {label: sorted({row["found"] for row in table if row["class"] == label}) for label in report["label_names"]}
    found = {name for many in names.values() for name in many}
    if all(len(many) == 1 for many in names.values()):
        return []
    renamed = sum(row["images"] for row in table if len(names[row["class"]]) > 1)
    title = (
        f"{len(found)} class names stand for {len(names)} classes, since the splits name them differently; a loader "
        "that takes folder names for classes makes a class of each."
    )
    return [Finding("class_names", "warning", title, renamed, report["images"], (), {"names": names})]


def _not_taken(report: Mapping[str, Any]) -> list[Finding]:
    """What looks like patients or splits and was not taken, and what lies in the corpus and was not read."""
    total, said = report["images"], report["untaken"]
    findings = [Finding("identity_not_taken", "warning", f"{one[:1].upper()}{one[1:]}.", total, total) for one in said]
    passed = sum(report["passed_over"].values())
    if passed:
        title = f"{passed:,} other files lie in the corpus and are left out: {left_out(report)}."
        findings.append(Finding("passed_over", "note", title, passed, passed + total))
    return findings


def _foreign(survey: Survey, oddity: Oddity) -> Finding:
    n, total = len(oddity.items), len(survey.sources)
    counts = oddity.detail["classes"]
    severity = FOREIGN_SEVERITY[oddity.kind]
    verb, rest = oddity.said.split(" ", 1)
    title = f"{n:,} of {total:,} images {SINGULAR[verb] if n == 1 else verb} {rest}: {name_classes(counts)}."
    if oddity.kind == "no_body" and n > MOST * total:
        severity, title = "warning", f"{title} {UNCROPPED}"
    return Finding(f"foreign_{oddity.kind}", severity, title, n, total, sources(survey, oddity.items), oddity.detail)


def _windows(survey: Survey, table: WindowTable) -> list[Finding]:
    kinds = sorted({kind for counts in table.counts.values() for kind in counts})
    if len(kinds) < 2:
        return []
    how = "seem to have been shown" if table.guessed else "are shown"
    told = [
        f"{name}: {', '.join(f'{number:,} {kind}' for kind, number in counts.items())}"
        for name, counts in table.counts.items() if counts
    ]  # fmt: skip
    by_class = enumerate_some(told, "; ")
    title = f"The images {how} in {len(kinds)} windows ({by_class})."
    severity: Severity = "warning" if table.gap >= 0.5 else "note"
    return [
        Finding("windows", severity, title, len(survey.sources), len(survey.sources), (), {"windows": table.counts})
    ]


def _hidden(survey: Survey) -> list[Finding]:
    """Windows that hide fat and muscle, or the lungs, in most of the images; only of CT is that known."""
    if survey.modality != CT:
        return []
    shown = shown_windows(survey)
    soft, lung = (
        np.array([getattr(window, name) for window in shown], dtype=bool) & survey.readable
        for name in ("hides_soft_tissue", "hides_lung")
    )
    total = int(survey.readable.sum())
    found = []
    if soft.sum() > MOST * total:
        rest = "fat black or muscle white: the body crop often cannot see the skin, and leaves them whole"
        found.append(_hides("soft_tissue", "critical", rest, survey, soft))
    if lung.sum() > MOST * total:
        rest = "the lungs black: what is fainter than soft tissue in them (ground glass, emphysema) does not show"
        found.append(_hides("lung", "warning", rest, survey, lung))
    return found


def _hides(kind: str, severity: Severity, rest: str, survey: Survey, hit: NDArray[np.bool_]) -> Finding:
    counts = class_counts(survey, hit, survey.readable)
    n, total = int(hit.sum()), len(survey.sources)
    title = f"{n:,} of {total:,} images seem to be shown in a window that makes {rest}: {name_classes(counts)}."
    items = sources(survey, np.flatnonzero(hit))
    return Finding(f"hidden_{kind}", severity, title, n, total, items, {"classes": counts})


def _balance(survey: Survey) -> list[Finding]:
    """Classes that a split lacks or has few of, and large differences between classes."""
    splits = np.array(survey.splits, dtype=object)
    counts = {
        split: {name: row["n"] for name, row in class_counts(survey, splits == split, survey.labels >= 0).items()}
        for split in dict.fromkeys(survey.splits)
    }
    absent = [f"{name} in {split}" for split, row in counts.items() for name, number in row.items() if not number]
    few = [
        f"{name} {number} in {split}" for split, row in counts.items() for name, number in row.items()
        if 0 < number < FEW
    ]  # fmt: skip
    total = len(survey.sources)
    findings = []
    if absent:
        title = f"There are no images of {_listed(absent)}."
        findings.append(Finding("class_absent", "warning", title, len(absent), total, (), {"counts": counts}))
    if few:
        title = f"Some classes have fewer than {FEW} images in a split, too few for a figure: {enumerate_some(few)}."
        findings.append(Finding("class_few", "note", title, len(few), total, (), {"counts": counts}))
    sizes = np.bincount(survey.labels, minlength=len(survey.label_names))
    ratio = float(sizes.max() / max(sizes.min(), 1))
    said = "; ".join(
        f"{split}: {enumerate_some([f'{number:,} {name}' for name, number in row.items()])}"
        for split, row in counts.items()
    )
    if ratio < EVEN:
        return findings
    severity: Severity = "warning" if ratio >= RATIO else "note"
    title = f"The largest class has {ratio:.1f} times the images of the smallest ({said})."
    return [*findings, Finding("class_balance", severity, title, int(sizes.min()), total, (), {"counts": counts})]


def _patients(survey: Survey, twins: Twins) -> list[Finding]:
    if survey.groups_known:
        return _single_patients(survey)
    number, total = len(set(twins.patients)), len(survey.sources)
    largest = Counter(twins.patients).most_common(1)[0][1] if twins.patients else 0
    title = (
        f"Nothing says whose images these are; look-alikes make {number:,} pseudo-patients of {total:,} images "
        f"(the largest of {largest:,}), which splits and intervals should respect."
    )
    detail = {"figures": {"pseudo-patients": number, "largest": largest}}
    return [Finding("patients_unknown", "note", title, number, total, (), detail)]


def _single_patients(survey: Survey) -> list[Finding]:
    """Classes of which all images are one patient's: who knows the patient seems to know the class."""
    labels, groups = survey.labels, np.array(survey.groups)
    shown = {name: groups[labels == label] for label, name in enumerate(survey.label_names) if (labels == label).any()}
    single = {name: len(whose) for name, whose in shown.items() if len(set(whose)) == 1 < len(whose)}
    if not single:
        return []
    said = enumerate_some([f"{number:,} of {name}" for name, number in single.items()])
    title = f"The images of a class are of one patient alone ({said}): what tells the patient passes for the class."
    severity: Severity = "critical" if len(single) == len(shown) else "warning"
    number = sum(single.values())
    return [Finding("single_patients", severity, title, number, len(labels), (), {"found": single})]


def audit_summary(audit: Audit, width: int = 100) -> str:
    """The findings as lines for the terminal, at most `width` characters each."""
    counts = audit.counts
    said = ", ".join(f"{number} {_plural(severity, number)}" for severity, number in counts.items())
    lines = [f"Audit of {images(len(audit.survey.sources))}: {said} ({audit.seconds:.0f} s)"]
    for finding in audit.findings:
        mark = finding.severity.upper() if finding.severity == "critical" else finding.severity
        lines += _wrapped(finding.title, width, f"  {mark:<9} ")
        if finding.kind == "unreadable":
            lines += itertools.chain.from_iterable(_wrapped(said, width) for said in _why_unread(finding))
    if not counts["critical"]:
        lines.append("  Nothing critical.")
    return "\n".join(lines)


def _why_unread(finding: Finding) -> list[str]:
    """A sentence on each of the first files that cannot be read, and how many more there are."""
    named = [f"{name}: {why.removeprefix(f'{name}: ').rstrip('.')}." for name, why in finding.detail["reasons"].items()]
    return [*named[:FIRST_UNREAD], *([f"and {len(named) - FIRST_UNREAD:,} more"] if len(named) > FIRST_UNREAD else [])]


def _wrapped(said: str, width: int, first: str = " " * 12) -> list[str]:
    return textwrap.wrap(said, width, initial_indent=first, subsequent_indent=" " * 12, break_long_words=False)


def _plural(severity: str, number: int) -> str:
    return severity if severity == "critical" or number == 1 else f"{severity}s"


def keep_audit(audit: Audit, cache: Path) -> None:
    """Leave survey and twins under `cache`, a folder, for the next audit of this corpus; once is enough."""
    folder = cache / audit_cache.cache_name(audit.corpus, audit.window, audit.frame)
    if audit_cache.load(folder) is None:
        audit_cache.store(folder, audit.survey, audit.twins)


def write_audit(audit: Audit, folder: str | Path, more: str = "") -> None:
    """Write audit.json and audit.html into a folder, made where it is not there; `more` as in `audit_page`."""
    folder = Path(folder)
    write_json(folder / AUDIT, audit.to_dict())
    write_atomically(folder / "audit.html", audit_page(audit, more))
