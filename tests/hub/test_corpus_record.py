"""A corpus's record on the Hub: names no file and no patient, and with its images trains again."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
from huggingface_hub import DatasetCard
from PIL import Image, PngImagePlugin, TiffImagePlugin

from ct_xception.cli import main
from ct_xception.corpus.load import CorpusOptions, load_corpus
from ct_xception.corpus.split import make_splits
from ct_xception.errors import InputError
from ct_xception.files import write_json
from ct_xception.publish.corpus_record import write_corpus_record
from ct_xception.training.options import config_from_mapping
from tests.hub.local_hub import LocalHub

Run = Callable[..., subprocess.CompletedProcess[str]]

LOAD = """
import json, sys
from ct_xception.corpus.load import load_corpus

corpus = load_corpus(sys.argv[1])
print(json.dumps({
    "labels": corpus.label_names,
    "sizes": {name: len(part) for name, part in corpus.dataset.items()},
    "groups": corpus.report["groups"],
    "images": sorted(len(cell["bytes"]) for part in corpus.dataset.values() for cell in part["image"]),
}))
"""


@pytest.fixture(scope="module")
def run_folder(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's record of the tiny corpus, as train_hf.py leaves it, with an audit."""
    folder = tmp_path_factory.mktemp("run")
    config = config_from_mapping({"corpus": str(tiny_corpus), "weights": "none"})
    corpus = load_corpus(config.corpus, CorpusOptions())
    write_json(folder / "config.json", config.mapping)
    write_json(folder / "corpus.json", corpus.report)
    write_json(folder / "split.json", make_splits(corpus.dataset)[1])
    (folder / "model/evaluation").mkdir(parents=True)
    finding = {"kind": "leak", "severity": "critical", "title": "2 of 8 test images have a twin in train", "n": 2}
    write_json(folder / "model/evaluation/audit.json", {"findings": [finding]})
    return folder


def run_of(source: Path, run: Path, **options: Any) -> Path:
    """A run's record of a corpus without an audit; the options are those of train_hf.py."""
    config = config_from_mapping({"corpus": str(source), "weights": "none", **options})
    corpus = load_corpus(config.corpus, config.corpus_options)
    write_json(run / "config.json", config.mapping)
    write_json(run / "corpus.json", corpus.report)
    write_json(run / "split.json", make_splits(corpus.dataset)[1])
    return run


@pytest.fixture(scope="module")
def record(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("record")
    files = write_corpus_record(run_folder, folder)
    splits = [f"data/{name}.parquet" for name in ("test", "train", "validation")]
    assert sorted(files) == ["README.md", "audit.json", *splits, "splits.json"]
    return folder


class TestWithoutImages:
    def test_who_holds_the_corpus_finds_every_image(self, record: Path, run_folder: Path, tiny_corpus: Path) -> None:
        sources = json.loads((run_folder / "split.json").read_text())["sources"]
        for name, listed in sources.items():
            table = pandas.read_parquet(record / f"data/{name}.parquet")
            assert list(table.columns) == ["label", "group", "sha256"]
            held = [hashlib.sha256((tiny_corpus / source).read_bytes()).hexdigest() for source in listed]
            assert table["sha256"].tolist() == held

    def test_who_does_not_learns_no_name(self, record: Path, run_folder: Path) -> None:
        sources = json.loads((run_folder / "split.json").read_text())["sources"]
        told = b"".join(path.read_bytes() for path in record.rglob("*") if path.suffix in (".json", ".md")).decode()
        told += "".join(pandas.read_parquet(path).to_csv() for path in (record / "data").iterdir())
        names = {Path(source).stem for listed in sources.values() for source in listed}
        assert len(names) > 40 and not [name for name in names if name in told or name.partition("_")[0] in told]
        assert str(run_folder) not in told and "group 00001" in told

    def test_the_card(self, record: Path) -> None:
        text = (record / "README.md").read_text()
        card = DatasetCard(text)
        assert card.data.task_categories == ["image-classification"]
        assert [one["split"] for one in card.data.configs[0]["data_files"]] == ["train", "validation", "test"]
        assert "**No image is in this repository.**" in text
        assert "- critical: 2 of 8 test images have a twin in train" in text

    def test_another_corpus_under_the_same_name(self, run_folder: Path, tmp_path: Path) -> None:
        other = Path(shutil.copytree(run_folder, tmp_path / "run"))
        report = json.loads((other / "corpus.json").read_text())
        write_json(other / "corpus.json", report | {"hash": "0" * 64})
        with pytest.raises(InputError, match="is no longer the corpus that .* was trained on"):
            write_corpus_record(other, tmp_path / "record")

    def test_no_run(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="is no run folder"):
            write_corpus_record(tmp_path, tmp_path / "record")


def saved(kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.linear_gradient("L").resize((96, 96)).save(stream, kind, **options)
    return stream.getvalue()


def png(*, after_idat: bool = False, **texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add(b"tEXt", f"{name}\0{text}".encode(), after_idat)
    return saved("PNG", pnginfo=info)


def compressed(*, international: bool) -> bytes:
    info = PngImagePlugin.PngInfo()
    if international:
        info.add_itxt("PatientName", "DOE^JOHN", "de", zip=True)
    else:
        info.add_text("PatientName", "DOE^JOHN", zip=True)
    return saved("PNG", pnginfo=info)


def private() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add(b"paTi", b"DOE^JOHN")
    return saved("PNG", pnginfo=info)


def tiff(tag: int, value: Any, kind: int) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[tag], tags.tagtype[tag] = value, kind
    return saved("TIFF", tiffinfo=tags)


def second_page() -> bytes:
    first, second = (Image.linear_gradient("L").resize((96, 96)) for _ in range(2))
    second.encoderinfo = {"tiffinfo": {270: "DOE^JOHN"}}  # type: ignore[attr-defined]
    stream = io.BytesIO()
    first.save(stream, "TIFF", save_all=True, append_images=[second])
    return stream.getvalue()


def with_segment(marker: int, data: bytes) -> bytes:
    content = saved("JPEG")
    return content[:2] + bytes([0xFF, marker]) + (len(data) + 2).to_bytes(2, "big") + data + content[2:]


def with_exif(kind: str) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "DOE^JOHN"
    return saved(kind, exif=exif)


class TestTextsBesideThePixels:
    def test_pictures_without_any_go_byte_for_byte(self, tiny_corpus: Path, tmp_path: Path) -> None:
        corpus = Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))
        plain = [png(Software="matplotlib"), saved("TIFF", dpi=(72, 72), compression="tiff_lzw"), saved("JPEG"),
                 saved("PNG", icc_profile=b"colours"), saved("BMP")]  # fmt: skip
        for path, content in zip(sorted((corpus / "train").rglob("*.png")), plain, strict=False):
            path.write_bytes(content)
        files = write_corpus_record(run_of(corpus, tmp_path / "run"), tmp_path / "record", images=True)
        tables = [pandas.read_parquet(str(file)) for name, file in files.items() if name.endswith(".parquet")]
        published = {cell["bytes"] for table in tables for cell in table["image"]}
        assert published == {path.read_bytes() for path in corpus.glob("[tv]*/*/*.png")}
        assert set(plain) < published

    @pytest.mark.parametrize(
        ("content", "named"),
        [
            (png(PatientName="DOE^JOHN"), "PatientName"),
            (png(PatientName="DOE^JOHN", after_idat=True), "PatientName"),
            (compressed(international=False), "PatientName"),
            (compressed(international=True), "PatientName"),
            (private(), "paTi"),
            (with_exif("PNG"), "exif"),
            (tiff(270, "DOE^JOHN", 2), "ImageDescription"),
            (tiff(305, "DOE^JOHN", 2), "Software"),
            (tiff(315, "DOE^JOHN", 2), "Artist"),
            (tiff(700, b"<x:xmpmeta/>", 1), "XMP"),
            (tiff(65000, b"DOE^JOHN", 7), "tag 65000"),
            (second_page(), "ImageDescription"),
            (with_exif("JPEG"), "APP1"),
            (with_segment(0xFE, b"DOE^JOHN"), "COM"),
            (with_segment(0xED, b"Photoshop 3.0\0DOE^JOHN"), "APP13"),
        ],
    )
    def test_a_picture_that_carries_some_is_refused(
        self, tiny_corpus: Path, tmp_path: Path, content: bytes, named: str
    ) -> None:
        corpus = Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))
        min((corpus / "train").rglob("*.png")).write_bytes(content)
        run = run_of(corpus, tmp_path / "run", frame=0)
        with pytest.raises(InputError, match=rf"carries texts \({named}\) that may name a patient; take them out"):
            write_corpus_record(run, tmp_path / "record", images=True)


@pytest.mark.usefixtures("log_in")
class TestOnTheHub:
    def test_with_images_it_trains_again(
        self, hub: LocalHub, run_folder: Path, tiny_corpus: Path, run_program: Run
    ) -> None:
        assert main(["push", str(run_folder), "alice/corpus", "--dataset", "--images"]) == 0
        assert hub["datasets/alice/corpus"].history == ["Publish the corpus's record", "initial commit"]
        done = run_program("python", "-c", LOAD, "alice/corpus")
        assert done.returncode == 0, done.stderr[-2000:]
        found, local = json.loads(done.stdout.splitlines()[-1]), load_corpus(str(tiny_corpus))
        assert found["labels"] == local.label_names
        assert found["sizes"] == {name: len(part) for name, part in local.dataset.items()}
        assert found["groups"] == {"count": local.report["groups"]["count"], "origin": "column group"}
        cells = [cell for part in local.dataset.values() for cell in part["image"]]
        assert found["images"] == sorted(Path(cell["path"]).stat().st_size for cell in cells)

    def test_images_go_with_a_dataset_alone(self, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["push", str(run_folder), "alice/corpus", "--images"]) == 2
        assert "--images: goes with --dataset" in capsys.readouterr().err
        assert main(["push", str(run_folder), "alice/corpus"]) == 2
        assert "model, or --dataset." in capsys.readouterr().err

    def test_dicom_is_never_published(self, hub: LocalHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        from ct_xception.phantom.corpus import generate_phantom

        source = generate_phantom(tmp_path / "dicom", patients=12, slices_per_patient=1, size=64, dicom=True)
        run = run_of(source, tmp_path / "run")
        assert main(["push", str(run), "alice/dicom", "--dataset", "--images"]) == 2
        assert "holds a DICOM file, whose header may name a patient" in capsys.readouterr().err
        assert ("datasets", "alice/dicom") not in hub.repositories
