"""Series: what a zip may hold, the order of its slices, and one answer from many, against hand-computed pools."""

from __future__ import annotations

import gzip
import io
import math
import stat
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

from ct_xception.errors import InputError, SliceError
from ct_xception.serving import archive as archive_module
from ct_xception.serving import series as module
from ct_xception.serving.archive import Archive
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.pooling import SliceAnswer, Stopped, answer_series, answer_together, pool
from ct_xception.serving.series import SEPARATE, Member, Series, gather
from tests.closeness import ROUNDING
from tests.imaging.builders import ct, disc, encode

AXIAL = [1, 0, 0, 0, 1, 0]


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    return Classifier.from_pretrained(tiny_checkpoint)


def zipped(path: Path, entries: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def dicom(level: int = 120, **tags: object) -> bytes:
    return ct(disc(96, 40, level).astype(np.uint16) * 8, **tags)


def names(series: Series) -> list[str]:
    return [member.name for member in series.members]


def test_slices_of_a_zip_come_by_position_head_first(tmp_path: Path) -> None:
    content = {
        f"IM{index}": dicom(ImagePositionPatient=[0, 0, z], ImageOrientationPatient=AXIAL, InstanceNumber=9 - index)
        for index, z in enumerate([5.0, -12.5, 20.0, 7.5])
    }
    (series,) = gather([zipped(tmp_path / "a.zip", content)])
    assert names(series) == ["IM2", "IM3", "IM0", "IM1"] and series.order == "by position" and series.notes == ()


def test_without_positions_by_instance_number_and_without_those_by_name(tmp_path: Path) -> None:
    numbered = {f"{name}.dcm": dicom(InstanceNumber=number) for name, number in (("a", 3), ("b", 1), ("c", 2))}
    (series,) = gather([zipped(tmp_path / "numbered.zip", numbered)])
    assert names(series) == ["b.dcm", "c.dcm", "a.dcm"] and series.order == "by instance number"
    picture = encode(Image.fromarray(disc()))
    named = {name: picture for name in ("slice10.png", "slice9.png", "Slice1.png")}
    (series,) = gather([zipped(tmp_path / "named.zip", named)])
    assert names(series) == ["Slice1.png", "slice9.png", "slice10.png"] and series.order == "by name"


def test_several_files_are_a_series_and_two_at_one_position_are_pointed_out(tmp_path: Path) -> None:
    for name in ("b.dcm", "a.dcm"):
        (tmp_path / name).write_bytes(dicom(ImagePositionPatient=[0, 0, 1], ImageOrientationPatient=AXIAL))
    (series,) = gather([tmp_path / "b.dcm", tmp_path / "a.dcm"])
    assert len(series) == 2 and series.related and "more than one series" in series.notes[0]


def test_two_series_are_never_one_and_the_larger_comes_first(tmp_path: Path, classifier: Classifier) -> None:
    def placed(uid: str, z: float, level: int) -> bytes:
        tags = {"ImagePositionPatient": [0, 0, z], "ImageOrientationPatient": AXIAL, "PatientName": "DOE^JANE"}
        return dicom(level, SeriesInstanceUID=uid, SliceThickness=1.25, SeriesDescription="DOE left lung", **tags)

    scout = {"study/a0": placed("1.2.9", 50.0, 60), "study/a1": placed("1.2.9", 53.0, 70)}
    chest = {f"study/b{z}": placed("1.2.5", 2.5 * z, 100 + 20 * z) for z in range(3)}
    report = ct(np.zeros((4, 6), np.uint16), Rows=None, Columns=None, SeriesInstanceUID="1.2.6")
    found = gather([zipped(tmp_path / "study.zip", {**scout, "study/report": report, **chest})])
    assert [names(series) for series in found] == [["b2", "b1", "b0", "report"], ["a1", "a0"]]
    assert [series.name for series in found] == ["series 1", "series 2"] and found[0].notes == ()
    assert found[0].facts == "3 slices of 96 \u00d7 96 pixels, 2.5 mm apart, 1.25 mm thick"
    assert found[1].facts == "2 slices of 96 \u00d7 96 pixels, 3 mm apart, 1.25 mm thick"
    answers = answer_series(classifier, found[0])
    assert [answer.name for answer in answers if answer.record is not None] == ["b2", "b1", "b0"]


def test_without_uids_the_folders_of_a_zip_are_series_and_loose_files_one(tmp_path: Path) -> None:
    picture = encode(Image.fromarray(disc()))
    path = zipped(tmp_path / "a.zip", {"x/1.png": picture, "y/1.png": picture, "y/2.png": picture, "y/bad.png": b"x"})
    larger, smaller = gather([path])
    assert names(larger) == ["1.png", "2.png", "bad.png"] and len(smaller) == 1
    assert smaller.facts == "1 slice of 128 \u00d7 128 pixels"
    for name in ("p/1.png", "q/2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(picture)
    loose = [tmp_path / "p/1.png", tmp_path / "q/2.png"]  # a browser's uploads lie in folders of their own
    (series,) = gather(loose)
    assert names(series) == ["1.png", "2.png"] and series.name == SEPARATE and not series.related
    (series,) = gather(loose, related=True)
    assert names(series) == ["1.png", "2.png"] and series.name == "series" and series.related


def test_what_nothing_ties_together_is_separate(tmp_path: Path) -> None:
    given = {"a.dcm": dicom(SeriesInstanceUID="1.2.1", InstanceNumber=2), "c.png": encode(Image.fromarray(disc())),
             "b.dcm": dicom(SeriesInstanceUID="1.2.2", InstanceNumber=1), "bad.png": b"x",
             "two.dcm": ct(np.stack([disc(96, 40)] * 3).astype(np.uint16), SeriesInstanceUID=None)}  # fmt: skip
    for name, content in given.items():
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / name for name in given]
    found = gather(paths)
    assert [(series.name, series.related) for series in found] == [("series 1", True), (SEPARATE, False)]
    assert names(found[1]) == ["a.dcm", "b.dcm", "c.png", "bad.png"] and len(found[0]) == 3
    pair = [tmp_path / name for name in ("1.dcm", "2.dcm")]
    for number, path in enumerate(pair):
        path.write_bytes(dicom(SeriesInstanceUID="1.2.3", InstanceNumber=number))
    more = gather([*paths, *pair])  # the four files are more than either series, and take no number from them
    assert [series.name for series in more] == ["series 1", "series 2", SEPARATE]
    alone = gather([tmp_path / "c.png", tmp_path / "bad.png"])
    assert [(names(series), series.related) for series in alone] == [(["c.png", "bad.png"], False)]
    assert gather([tmp_path / "c.png"])[0].related
    folders = {f"{name}/1.png": given["c.png"] for name in "xy"}
    assert [series.related for series in gather([zipped(tmp_path / "set.zip", folders)])] == [False]


def test_frames_of_one_file_are_slices(tmp_path: Path, classifier: Classifier) -> None:
    frames = np.stack([disc(96, 40, level) for level in (60, 120, 200)]).astype(np.uint16) * 8
    (tmp_path / "many.dcm").write_bytes(ct(frames))
    (series,) = gather([tmp_path / "many.dcm"])
    assert names(series) == [f"many.dcm#{frame}" for frame in range(3)]
    assert series.order == "as stored in the file"
    second = series.members[1].read(classifier)
    assert np.array_equal(second.pixels, classifier.read(tmp_path / "many.dcm", frame=1).pixels)


def test_frames_of_an_enhanced_file_come_by_their_own_positions(tmp_path: Path) -> None:
    def group(**tags: object) -> pydicom.Sequence:
        dataset = pydicom.Dataset()
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        return pydicom.Sequence([dataset])

    frames = np.stack([disc(96, 40, level) for level in (60, 120, 200)]).astype(np.uint16) * 8
    planes = [group(PlanePositionSequence=group(ImagePositionPatient=[0, 0, z]))[0] for z in (5.0, -2.5, 12.5)]
    shared = group(PlaneOrientationSequence=group(ImageOrientationPatient=AXIAL),
                   PixelMeasuresSequence=group(SliceThickness=2.5, PixelSpacing=[1, 1]))  # fmt: skip
    path = tmp_path / "enhanced.dcm"
    path.write_bytes(
        ct(frames, PerFrameFunctionalGroupsSequence=pydicom.Sequence(planes), SharedFunctionalGroupsSequence=shared)
    )
    (series,) = gather([path])
    assert [member.frame for member in series.members] == [2, 0, 1] and series.order == "by position"
    assert "7.5 mm apart, 2.5 mm thick" in series.facts
    planes[1].PlanePositionSequence[0].ImagePositionPatient = [0, 0, 5.0]  # two at one place tell no order
    path.write_bytes(
        ct(frames, PerFrameFunctionalGroupsSequence=pydicom.Sequence(planes), SharedFunctionalGroupsSequence=shared)
    )
    assert [member.frame for member in gather([path])[0].members] == [0, 1, 2]


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz", "1.2.3.4", "scan"])
def test_a_volume_in_a_zip_is_its_axial_slices(tmp_path: Path, classifier: Classifier, name: str) -> None:
    hu = np.full((24, 24, 3), -1000, np.int16)
    hu[6:-6, 5:-5] = np.arange(3) * 50
    plain = nibabel.Nifti1Image(hu, np.diag([-1.0, -1, 5, 1])).to_bytes()
    content = gzip.compress(plain) if name.endswith(("gz", "scan")) else plain
    (series,) = gather([zipped(tmp_path / "a.zip", {f"deep/{name}": content, "notes.txt": b"x"})])
    assert [member.frame for member in series.members] == [2, 1, 0] and "5 mm apart" in series.facts
    pixels = [member.read(classifier).pixels for member in series.members]
    expected = [classifier.read(content, frame=frame).pixels for frame in (2, 1, 0)]
    assert all(np.array_equal(a, b) for a, b in zip(pixels, expected, strict=True))


def test_what_is_no_slice_in_a_zip_is_passed_over_and_counted(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.dcm")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    entries = {"s/1.dcm": dicom(), "s/2": dicom(), "notes.txt": b"x", "DICOMDIR": dicom(), "__MACOSX/._1.dcm": b"x"}
    path = zipped(tmp_path / "a.zip", {**entries, "s/.DS_Store": b"x", "report": b"words", "1.2.840.5": dicom()})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    (series,) = gather([path])
    assert sorted(names(series)) == ["1.2.840.5", "1.dcm", "2"]
    assert series.notes[0] == "6 other files in a.zip passed over"


def test_names_that_climb_are_only_shown(tmp_path: Path, classifier: Classifier) -> None:
    before = sorted(tmp_path.iterdir())
    path = zipped(tmp_path / "a.zip", {"../../climbs.png": encode(Image.fromarray(disc()))})
    (series,) = gather([path])
    assert names(series) == ["climbs.png"]
    assert series.members[0].read(classifier).pixels.shape == (128, 128)
    assert sorted(tmp_path.iterdir()) == [*before, path]


def test_a_long_series_is_thinned_evenly_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = {f"{number:02}.png": encode(Image.fromarray(disc())) for number in range(11)}
    path = zipped(tmp_path / "long.zip", pictures | {"torn.png": b"torn"})
    monkeypatch.setattr(module, "MAX_SLICES", 4)
    (series,) = gather([path])
    assert names(series) == ["00.png", "03.png", "06.png", "09.png", "torn.png"]
    assert series.facts.startswith("11 slices of")
    assert series.notes == ("one slice in 3 is answered, 4 of 11: a series is thinned to 4",)
    monkeypatch.setattr(module, "MAX_SLICES", 11)
    assert len(gather([path])[0]) == 12 and not gather([path])[0].notes
    frames = [Image.fromarray(disc())] * 5
    frames[0].save(tmp_path / "five.tif", save_all=True, append_images=frames[1:])
    monkeypatch.setattr(module, "MAX_SLICES", 2)
    assert [member.frame for member in gather([tmp_path / "five.tif"])[0].members] == [0, 3]
    monkeypatch.setattr(module, "MAX_FRAMES", 4)
    with pytest.raises(InputError, match=r"five.tif has 5 frames, more than 4; give a part of it\."):
        gather([tmp_path / "five.tif"])


def test_frames_are_thinned_before_members_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Member] = []

    def counted(*values: Any, **named: Any) -> Member:
        made.append(Member(*values, **named))
        return made[-1]

    frames = np.zeros((4, 96, 96), np.uint16)
    content = {f"{number}.dcm": ct(frames, InstanceNumber=number) for number in range(5)}
    content["2.dcm"] = dicom(InstanceNumber=2)
    path = zipped(tmp_path / "claims.zip", content)
    monkeypatch.setattr(module, "Member", counted)
    monkeypatch.setattr(module, "MAX_SLICES", 6)
    (series,) = gather([path])
    # Of slices 0 to 16, 8 alone in its file, one in 3: 0, 3 | 6 | - | 9, 12 | 15.
    kept = [(member.entry, member.frame) for member in series.members]
    assert kept == [(0, 0), (0, 3), (1, 2), (3, 0), (3, 3), (4, 2)]
    assert names(series)[2] == "1.dcm#2" and series.facts.startswith("17 slices of 96")
    assert series.notes == ("one slice in 3 is answered, 6 of 17: a series is thinned to 6",)
    assert len(made) == 5 + 6


@pytest.mark.parametrize("odd, rank", [("9\u00b29", 1), ("\u0663", 2), ("9" * 5000, 2)])
def test_a_number_that_is_none_is_ordered_as_text(tmp_path: Path, odd: str, rank: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode(Image.fromarray(disc())))
    given = [f"slice{number}.png" for number in (odd, "10", "9")]
    ordered = ["slice9.png", "slice10.png"]
    ordered.insert(rank, given[0])
    assert names(gather([path] * 3, names=given)[0]) == ordered


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_zip_packed_by_a_rarer_method_is_refused(tmp_path: Path, method: int) -> None:
    path = tmp_path / "odd.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("1", dicom())
    found = f"a zip packed by method {method}, neither stored nor deflated"
    with pytest.raises(SliceError, match=rf"^odd.zip: {found}; zip the series again by deflate, as is usual\.$"):
        gather([path])


def test_damaged_lzma_is_answered_with_a_sentence(tmp_path: Path) -> None:
    """An upload may be exchanged between the look into it and the reading of its entry."""
    path = tmp_path / "odd.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("1.dcm", dicom())
    content = bytearray(path.read_bytes())
    content[39:44] = b"\xff" * 5  # after the header of 35 bytes and LZMA's own of 4: its properties
    path.write_bytes(content)
    with pytest.raises(SliceError, match=r"^1\.dcm: cannot be unpacked \("):
        Archive(path, "odd.zip").read(0, "1.dcm")


def test_bombs_and_broken_zips_are_refused_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = encode(Image.fromarray(disc()))
    path = zipped(tmp_path / "a.zip", {"1.png": picture, "2.png": picture, "3.png": picture})
    with monkeypatch.context() as patch:
        patch.setattr(archive_module, "MAX_ENTRIES", 2)
        with pytest.raises(SliceError, match=r"^a.zip: a zip of 3 entries; give one of at most 2\."):
            gather([path])
    with monkeypatch.context() as patch:
        patch.setattr(module, "MAX_ENTRIES", 3)
        with pytest.raises(InputError, match="4 files, more than 3; give one series at a time"):
            gather([path, path.with_name("alone.png")])
    with monkeypatch.context() as patch:
        patch.setattr(archive_module, "MAX_UNPACKED", 2 * len(picture))
        with pytest.raises(SliceError, match="a zip of 0 MiB"):
            gather([path])
    with monkeypatch.context() as patch:
        patch.setattr(archive_module, "MAX_ENTRY", len(picture) - 1)
        with pytest.raises(SliceError, match="1.png: 0 MiB unpacked; give slices of at most"):
            gather([path])[0].members[0].source()
    (tmp_path / "cut.zip").write_bytes(path.read_bytes()[:100])
    with pytest.raises(SliceError, match=r"cut.zip: a zip that cannot be opened"):
        gather([tmp_path / "cut.zip"])
    with pytest.raises(SliceError, match="a zip without a slice in it"):
        gather([zipped(tmp_path / "words.zip", {"a.txt": b"words"})])
    with pytest.raises(InputError, match="no slice was given"):
        gather([])


def test_a_zip_is_opened_once_to_be_ordered_and_once_to_be_answered(
    tmp_path: Path, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening reads the list of all entries, so that once for each is quadratic."""
    picture = encode(Image.fromarray(disc()))
    path, opened = zipped(tmp_path / "a.zip", {f"{index}.png": picture for index in range(20)}), list[str]()
    directory = Archive._check_directory
    monkeypatch.setattr(Archive, "_check_directory", lambda self: opened.append(self.name) or directory(self))
    (series,) = gather([path])
    assert len(opened) <= 2  # its entries, and then their headers
    opened.clear()
    assert len(answer_series(classifier, series)) == 20 and opened == ["a.zip"]
    path.unlink()
    assert "no longer kept" in str(answer_series(classifier, series)[0].error)


def test_a_list_of_very_many_entries_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = zipped(tmp_path / "many.zip", {f"{index:06}.png": b"" for index in range(40_000)})
    begun = time.process_time()
    with pytest.raises(SliceError, match="a zip of 40000 entries; give one of at most 2000"):
        gather([path])
    assert time.process_time() - begun < 0.5


def test_a_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("1.dcm", dicom())
    content = bytearray(stream.getvalue())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(content)
    with pytest.raises(SliceError, match="a zip with a password"):
        gather([tmp_path / "locked.zip"])


def test_an_entry_that_lies_about_its_bytes_is_answered_with_a_sentence(tmp_path: Path, classifier: Classifier) -> None:
    picture = encode(Image.fromarray(disc()))
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.png", picture)
        archive.writestr("2.png", picture)
    content = bytearray(path.read_bytes())
    content[content.index(picture) + 60] ^= 255
    path.write_bytes(content)
    answers = answer_series(classifier, gather([path])[0])
    assert [answer.record is None for answer in answers] == [False, True]  # what holds no image comes last
    assert "1.png: cannot be unpacked (Bad CRC-32" in (answers[1].error or "")


def test_each_slice_is_answered_as_it_would_be_alone(
    classifier: Classifier, sample_slices: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "zz.png"
    bad.write_bytes(b"no picture")
    shares: list[float] = []
    answers = answer_series(classifier, gather([*sample_slices, bad])[0], progress=shares.append)
    for answer, path in zip(answers, sample_slices, strict=False):
        assert answer.record is not None and answer.probabilities is not None
        assert answer.record["source"] == path.name
        alone = classifier(path).probabilities
        assert answer.probabilities == pytest.approx(alone, abs=ROUNDING)
    assert answers[-1].probabilities is None and "zz.png: neither DICOM" in (answers[-1].error or "")
    assert shares == [0.0]
    with pytest.raises(Stopped):
        answer_series(classifier, gather(sample_slices)[0], cancelled=lambda: True)


def test_pools_by_hand() -> None:
    each = [{"a": 0.9, "b": 0.1}, {"a": 0.4, "b": 0.6}]
    assert pool(each, "mean") == pytest.approx({"a": 0.65, "b": 0.35})
    odds = math.sqrt(0.9 * 0.4) / math.sqrt(0.1 * 0.6)
    assert pool(each, "mean_log") == pytest.approx({"a": odds / (1 + odds), "b": 1 / (1 + odds)})
    certain = pool([{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}])
    assert certain == pytest.approx({"a": 0.5, "b": 0.5}) and list(pool(each)) == ["a", "b"]
    with pytest.raises(InputError, match="aggregation 'loudest' is unknown; choose from mean_log, mean"):
        pool(each, "loudest")


def test_refused_and_unreadable_slices_have_no_vote() -> None:
    def said(a: float, verdict: str | None = None) -> SliceAnswer:
        gate = {} if verdict is None else {"gate": {"verdict": verdict, "reasons": ["a photograph"], "score": 9.0}}
        known = {} if verdict == "refused" else {"label": "a", "probabilities": {"a": a, "b": 1 - a}}
        return SliceAnswer("s", known | gate)

    answers = [said(0.6), SliceAnswer("x", error="broken"), said(0.001, "refused"), said(0.8, "doubtful"), said(0.3)]
    together = answer_together(answers, "mean")
    assert together is not None and together.probabilities["a"] == pytest.approx((0.6 + 0.8 + 0.3) / 3)
    assert (together.answered, together.slices, together.agreeing, together.strongest) == (3, 5, 2, 3)
    assert together.to_dict()["strongest_slice"] == 4
    assert answer_together([said(0.1, "refused")]) is None
