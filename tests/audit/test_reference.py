"""The audit of the reference corpus: every row of its table of defects that pixels can show."""

from __future__ import annotations

from pathlib import Path

import pytest

from ct_xception.audit.audit import Audit, audit_corpus
from ct_xception.audit.findings import Finding
from ct_xception.corpus.load import CorpusOptions, load_corpus

pytestmark = [pytest.mark.real_corpus, pytest.mark.timeout(600)]

# Test image and training image of one slice in two crops, as measured before this project (adenocarcinoma, correlation
# of the body crops at least 0.985).
KNOWN_TWINS = ("test/adenocarcinoma/000119 (5).png", "000119 (4).png")


@pytest.fixture(scope="module")
def found(reference_corpus: Path) -> dict[str, Finding]:
    corpus = load_corpus(reference_corpus, CorpusOptions(decode=False))
    result: Audit = audit_corpus(corpus, progress=False)
    assert result.leaks
    return {f"{one.kind} {one.detail.get('split', '')}".strip(): one for one in result.findings}


def test_test_files_that_are_training_files(found: dict[str, Finding]) -> None:
    assert (
        found["leak_exact test"].title
        == "46 of 315 test images (46 of 54 normal) are in the training set, byte for byte."
    )
    assert found["leak_exact test"].severity == "critical"
    assert found["leak_exact validation"].detail["classes"]["normal"] == {"n": 10, "total": 13}


def test_one_slice_in_two_crops(found: dict[str, Finding]) -> None:
    leak = found["leak_near test"]
    assert leak.severity == "critical"
    cancers = [pair for pair in leak.detail["pairs"] if "/normal/" not in pair[0]]
    assert len({pair[0] for pair in cancers}) >= 10
    assert any(pair[0] == KNOWN_TWINS[0] and pair[1].endswith(KNOWN_TWINS[1]) for pair in cancers)


def test_one_picture_under_two_labels(found: dict[str, Finding]) -> None:
    assert {Path(source).name for source in found["conflict"].items} == {"l4.png", "sq2.png"}


def test_byte_duplicates(found: dict[str, Finding]) -> None:
    copies = found["duplicates"]
    assert (copies.n, copies.total) == (153, 1000)
    assert copies.detail["figures"] == {"groups": 59, "distinct": 847}
    assert copies.detail["classes"]["normal"]["n"] == 149


def test_seven_names_for_four_classes(found: dict[str, Finding]) -> None:
    assert found["class_names"].title.startswith("7 class names stand for 4 classes")


def test_probable_patients_of_the_training_set(found: dict[str, Finding]) -> None:
    seen = {source for kind in ("leak_exact", "leak_near", "leak_patient") for source in found[f"{kind} test"].items}
    assert sum("/normal/" not in source for source in seen) >= 161


def test_the_framing_shift(found: dict[str, Finding]) -> None:
    figures = found["framing_shift"].detail["figures"]
    assert figures["separator"]["attribute"] == "margin_below"
    assert set(figures["classes"]) == {"adenocarcinoma", "large cell carcinoma", "squamous cell carcinoma"}
    assert figures["shares"]["test"] == pytest.approx(0.985, abs=0.01)
    assert figures["shares"]["train"] == pytest.approx(0.011, abs=0.01)


def test_the_brightness_shortcut(found: dict[str, Finding]) -> None:
    finding = found["shortcut_grey_statistics"]
    figures = finding.detail["figures"]
    assert finding.severity == "critical"
    assert figures["strongest"] == "normal"
    assert figures["by_split"]["test"]["attribute"] == "sd"
    assert figures["by_split"]["test"]["auc"]["value"] == 1.0


def test_ink_boxes_and_the_watermark(found: dict[str, Finding]) -> None:
    ink = found["foreign_ink"].detail["classes"]["normal"]
    assert ink["n"] / ink["total"] == pytest.approx(0.14, abs=0.01)
    boxes = {Path(source).name for source in found["foreign_boxes"].items}
    assert {"003828_02_01_174.png", "004007_01_01_519.png", "004162_01_01_150.png"} <= boxes
    stamped = {Path(source).name for source in found["foreign_overlay"].items}
    assert {"6.png", "17 (2).png", "n8.jpg"} <= stamped
    marked = [source for source in found["foreign_overlay"].items if "/normal/" not in source]
    assert [Path(source).name for source in marked] == ["l5.png"]  # R, L and the scanner's scales
    assert found["foreign_strokes"].detail["classes"]["normal"]["n"] >= 40


def test_the_pelvis_is_like_no_chest(found: dict[str, Finding]) -> None:
    assert any(source.endswith("004007_01_01_519.png") for source in found["foreign_unlike"].items)


def test_formats_and_sizes(found: dict[str, Finding]) -> None:
    counts = found["foreign_mixed_formats"].detail["found"]
    by_channels = {
        name: sum(n for kind, n in counts.items() if kind.split()[0] == name) for name in ("RGBA", "RGB", "grey")
    }
    assert by_channels == {"RGBA": 923, "RGB": 74, "grey": 3}
    assert found["foreign_misnamed"].detail["found"] == {"JPEG named .png": 4}
    assert "168 to 1,200 px wide" in found["foreign_sizes"].title


def test_the_normals_other_windows(found: dict[str, Finding]) -> None:
    assert found["windows"].severity == "warning"
