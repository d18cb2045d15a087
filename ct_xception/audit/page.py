"""audit.html: an audit as one page that stands alone, with the images it is about side by side."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ct_xception.audit.drift import CLASSES, MEANS, SHARES, Number
from ct_xception.audit.findings import SEVERITIES, Finding
from ct_xception.audit.histogram import histogram_of
from ct_xception.audit.shortcuts import FAMILIES, Shortcut, surely
from ct_xception.audit.traits import colour_picture
from ct_xception.corpus.cells import Row, file_of, frame_of, slice_source
from ct_xception.errors import SliceError, printable
from ct_xception.html import image_uri, render_page
from ct_xception.imaging.reader import read_slice
from ct_xception.text import RESEARCH_USE, shorten

if TYPE_CHECKING:
    from ct_xception.audit.drift import Drift
    from ct_xception.audit.report import Audit

THUMBNAIL = 220  # pixels wide
MOST_PAIRS, MOST_IMAGES, MOST_NAMES = 8, 12, 500  # shown a finding; audit.json holds all
CAPTION = 44  # characters of a file name

ADVICE = {
    "leak": ("A network recognises what it has seen: on these images it is tested on its memory.",
             "Report the deduplicated or grouped protocol, which leave them out or keep them together."),
    "namesakes": ("Slices of one patient are near copies of one another, in whichever corpus they are.",
                  "Find out whether they are the same patients; if so, put them on one side."),
    "conflict": ("Whatever a network answers here, it is wrong once.",
                 "Ask whoever labelled them; leave both out until it is settled."),
    "shortcut": ("A network will learn this rule, since it is easier than anatomy, and fail where it does not hold.",
                 "Compare every score with the baselines of these numbers; gather all classes alike if you can."),
    "framing_shift": ("What was learnt on one framing meets another one at the test.",
                      "Keep the body crop on, which takes the table and the border away."),
    "split_shift": ("Training and test images are of two origins: figures mix generalisation with that difference.",
                    "Look at figures by origin; gather both splits alike if you can."),
    "duplicates": ("Copies weigh their picture many times over and make a corpus look larger than it is.",
                   "Count distinct pictures; keep copies on one side of every split."),
    "class_names": ("A loader that takes folder names for classes trains on more classes than there are.",
                    "This package matches them, and prints the table; elsewhere rename the folders."),
    "foreign": ("What is drawn or stamped on an image, or how it is framed, may tell its class.",
                "Look at them; leave out what you would not want to be asked about."),
    "windows": ("A window changes every grey level; where it goes with the class, it is a shortcut.",
                "Train on one window, or on all of them for every class."),
    "drift": ("A figure measured on the one does not carry over to the other where what differs moves answers.",
              "Evaluate on it (ct-xception evaluate --external), and let no threshold cross over untested."),
    "unreadable": ("They take part in nothing.", "Mend or remove them."),
    "class_": ("Few images make wide intervals.", "Read per-class figures with their intervals."),
    "identity_not_taken": ("Slices of one patient may lie on both sides of a split without anybody noticing.",
                           "Say whose the images are, with the option that is named."),
    "passed_over": ("They take part in nothing.", "Look whether images are among them."),
    "single_patients": ("No image of another patient can show whether the class was learnt, or the patient.",
                        "Add patients; until then no figure of this class says anything."),
    "patients_unknown": ("Slices of one patient are near copies of one another.",
                         "Give a patient column or --group_pattern if you can."),
}  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """One thumbnail with what stands below it."""

    uri: str
    split: str
    label: str
    name: str
    full_name: str


class Gallery:
    """Thumbnails of a corpus's images by their names, each read once."""

    def __init__(self, audit: Audit) -> None:
        self.audit = audit
        self._index = {source: index for index, source in enumerate(audit.survey.sources)}
        self._starts: dict[str, int] = {}
        for index, split in enumerate(audit.survey.splits):
            self._starts.setdefault(split, index)
        self._shown: dict[str, Shown] = {}

    def show(self, source: str) -> Shown:
        """The thumbnail of one image, in its own colours where it has some."""
        if source not in self._shown:
            self._shown[source] = self._read(source)
        return self._shown[source]

    def _read(self, source: str) -> Shown:
        survey, index = self.audit.survey, self._index[source]
        split = survey.splits[index]
        try:
            row = self.audit.corpus.dataset[split][index - self._starts[split]]
            uri = image_uri(self._picture(row, index), THUMBNAIL)
        except (SliceError, OSError):  # gone or damaged since: the survey's thumbnail is left
            uri = image_uri(survey.raw[index])
        name = printable(source)
        short = shorten(name.rsplit("/", 1)[-1], CAPTION)  # what comes before mostly repeats split and class
        return Shown(uri, split, survey.label_names[survey.labels[index]], short, name)

    def _picture(self, row: Row, index: int) -> np.ndarray:

        if self.audit.survey.foreign["coloured_share"][index] > 0 and frame_of(row) is None:
            file = file_of(row)
            colours = colour_picture(file if isinstance(file, bytes) else Path(file).read_bytes())
            if colours is not None:
                return colours
        audit = self.audit
        reading = {"window": audit.window, "frame": audit.frame, "modality": audit.corpus.modality}
        return read_slice(slice_source(row), **reading).pixels  # type: ignore[arg-type]

    def pairs(self, finding: Finding) -> list[dict[str, Any]]:
        """Pairs of a finding, spread from the most to the least alike, no picture twice where that can be."""
        given = finding.detail.get("pairs", [])
        digests = self.audit.survey.pixel_hash
        distinct = {tuple(sorted((digests[self._index[a]], digests[self._index[b]]))): (a, b, s) for a, b, s in given}
        chosen = _spread(list(distinct.values()), MOST_PAIRS)
        return [{"images": [self.show(first), self.show(second)], "alike": like} for first, second, like in chosen]

    def images(self, finding: Finding) -> list[Shown]:
        """Images of a finding, the first ones of distinct pictures: the strongest, where it has an order."""
        digests = self.audit.survey.pixel_hash
        distinct = {digests[self._index[source]] or source: source for source in reversed(finding.items)}
        return [self.show(source) for source in list(distinct.values())[::-1][:MOST_IMAGES]]

    def copies(self) -> list[dict[str, Any]]:
        """The files with the most copies: a thumbnail, how many, and where they lie."""
        survey = self.audit.survey
        groups: dict[str, list[int]] = defaultdict(list)
        for index, digest in enumerate(survey.byte_hash):
            if digest:
                groups[digest].append(index)
        largest = sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)[:MOST_IMAGES]
        return [
            {"image": self.show(survey.sources[group[0]]), "n": len(group),
             "where": ", ".join(f"{n} {split}" for split, n in Counter(survey.splits[i] for i in group).items())}
            for group in largest
        ]  # fmt: skip


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    if len(items) <= most:
        return list(items)
    return [items[position] for position in np.linspace(0, len(items) - 1, most).round().astype(int).tolist()]


def audit_page(audit: Audit, more: str = "") -> str:
    """The page as HTML; `more` is a section of `render_part` that another room adds."""
    gallery = Gallery(audit)
    report = audit.corpus.report
    return render_page(
        f"Audit of {Path(report['source']).name or report['source']}",
        Path(__file__).with_suffix(".html").read_text("utf-8"),
        report=report,
        audit=audit,
        name=Path(report["source"]).name or report["source"],
        tiles=_tiles(audit),
        sections=_sections(audit, gallery),
        shortcuts=[_shortcut_row(shortcut) for shortcut in audit.shortcuts],
        classes=audit.survey.label_names,
        followed=[name for name in audit.survey.label_names if any(name in one.auc for one in audit.shortcuts)],
        surely=surely,
        drift=audit.drift,
        drifted=[] if audit.drift is None else _drift_rows(audit.drift),
        means=MEANS,
        severities=SEVERITIES,
        research_use=RESEARCH_USE,
        most_names=MOST_NAMES,
        more=more,
    )


def _drift_rows(drift: Drift) -> list[dict[str, Any]]:
    """Every number that was compared, those that differ first."""
    rows = [
        {
            "number": one,
            "here": _amount(one.difference.here, one),
            "there": _amount(one.difference.there, one),
            "chance": f"{one.difference.corrected:.2g}" if one.difference.corrected >= 1e-4 else "under 0.0001",
        }
        for one in drift.numbers
    ]
    return sorted(rows, key=lambda row: (not row["number"].told, row["number"].difference.corrected))


def _amount(value: float, one: Number) -> str:
    share = one.family == CLASSES or one.name in SHARES
    return f"{100 * value:.0f} %" if share else f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"


def _tiles(audit: Audit) -> list[tuple[str, str, str]]:
    """Number, what it counts, and the colour of the number."""
    survey = audit.survey
    distinct = len({digest for digest in survey.pixel_hash if digest})
    test = survey.splits.count("test")
    tiles = [(f"{len(survey.sources):,}", "images", ""), (f"{distinct:,}", "distinct pictures", "")]
    if test:
        seen = {source for finding in audit.findings for source in _leaking(finding)}
        colour = "critical" if seen else "good"
        tiles.append((f"{len(seen):,} of {test:,}", "test images seen before, or their patient", colour))
    joined, named = len(set(audit.twins.patients)), len(set(survey.groups))
    # Patients who share a picture count as one, whatever they are called.
    same = f" ({named:,} named; those who share a picture count once)" if joined < named else ""
    tiles.append((f"{joined:,}", f"patients{same}" if survey.groups_known else "pseudo-patients", ""))
    critical, warnings = audit.counts["critical"], audit.counts["warning"]
    tiles.append((f"{critical}", "critical", "critical" if critical else "good"))
    return [*tiles, (f"{warnings}", "warning" if warnings == 1 else "warnings", "warning" if warnings else "good")]


def _leaking(finding: Finding) -> Iterable[str]:
    return finding.items if finding.kind.startswith("leak_") and finding.detail.get("split") == "test" else ()


def _sections(audit: Audit, gallery: Gallery) -> list[dict[str, Any]]:
    """A section a finding; advice that several share stands in the first of them."""
    sections = [_section(number, finding, audit, gallery) for number, finding in enumerate(audit.findings, 1)]
    given: set[str] = set()
    for section in sections:
        if section["advice"] in given:
            section["advice"] = ""
        given.add(section["advice"])
    return sections


def _section(number: int, finding: Finding, audit: Audit, gallery: Gallery) -> dict[str, Any]:
    advice = next((said for kind, said in ADVICE.items() if finding.kind.startswith(kind)), ())
    pairs = gallery.pairs(finding)
    copies = gallery.copies() if finding.kind == "duplicates" else []
    readable = [source for source in finding.items if source not in audit.survey.failed]
    shown = gallery.images(finding) if readable and not pairs and not copies else []
    return {
        "id": f"finding-{number}",
        "finding": finding,
        "advice": " ".join(advice),
        "pairs": pairs,
        "copies": copies,
        "images": shown,
        "bars": _bars(finding),
        "histogram": histogram_of(finding, audit.survey),
        "names": finding.detail.get("names", {}),
        "table": finding.detail.get("windows") or finding.detail.get("counts"),
        "left": max(0, len(finding.items) - MOST_NAMES),
    }


def _bars(finding: Finding) -> list[dict[str, Any]]:
    """What a shift finds, as one bar a split."""
    shares: Mapping[str, float] = finding.detail.get("figures", {}).get("shares", {})
    counts = finding.detail.get("figures", {}).get("counts", {})
    return [
        {"split": split, "percent": f"{100 * share:.1f}", "n": round(share * counts[split]), "total": counts[split]}
        for split, share in shares.items()
    ]


def _shortcut_row(shortcut: Shortcut) -> dict[str, Any]:
    return {
        "family": FAMILIES[shortcut.family],
        "reason": shortcut.reason,
        "balanced": shortcut.balanced_accuracy,
        "chance": shortcut.chance,
        "n": shortcut.n,
        "groups": shortcut.groups,
        "auc": shortcut.auc,
        "separators": shortcut.separators,
    }
