"""The record of a corpus as a dataset: which image is in which split, what the audit found, and a card that says so.

    files = write_corpus_record("runs/mine", folder)

An image is named by the SHA-256 of its file: who holds the corpus can make the same splits again, and who does not
learns nothing from it, since file names and patient identifiers stay here. The images themselves go along only if
asked, as they are, and neither as DICOM nor with texts beside their pixels.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
import pyarrow
import yaml
from datasets import concatenate_datasets
from PIL import Image, TiffTags
from pyarrow import parquet

from ct_xception.checkpoint import AUDIT, CORPUS, MODEL, OPTIONS, SPLIT, evaluated
from ct_xception.corpus.load import load_corpus
from ct_xception.corpus.split import PSEUDO_PATIENTS, settle_groups
from ct_xception.corpus.summary import is_generated
from ct_xception.errors import InputError, printable
from ct_xception.files import read_json, write_atomically, write_json
from ct_xception.publish.card.markdown import fill_template, packaged_template
from ct_xception.publish.card.sections import corpus_name
from ct_xception.publish.clearance import Content, check_no_dicom
from ct_xception.text import RESEARCH_USE
from ct_xception.training.options import config_from_mapping

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

ROWS = 256  # images held in memory at a time
# What a file may hold beside its pixels: the tags of a TIFF and the segments of a JPEG by which those are stored and
# shown. Whatever else there is may be text.
_TIFF_TAGS = frozenset(
    {
        *range(254, 260), 262, 263, 266, 273, 274, *range(277, 285), *range(290, 294), 296, 297, *range(317, 326),
        *range(338, 342), 347, *range(512, 522), *range(529, 533), 34675,
    }
)  # fmt: skip
_JPEG_SEGMENTS = (b"JFIF\0", b"Adobe", b"ICC_PROFILE\0")
_ASCII = 2  # a TIFF tag's type
_RECORD = (OPTIONS, CORPUS, SPLIT)


def is_run(folder: Path) -> bool:
    """Whether a folder is a training run, which knows its corpus."""
    return all((folder / name).is_file() for name in _RECORD)


def write_corpus_record(run: str | Path, folder: Path, *, images: bool = False) -> dict[str, Content]:
    """Write the dataset's files into `folder`, from the record of a run and the corpus that it names; list them.

    data/SPLIT.parquet with the columns sha256, label and group (numbered), and image if `images`; splits.json,
    audit.json where there is one, and README.md. Raises InputError where `run` is no run folder, its corpus is not what
    it was, or `images` are DICOM or carry texts.
    """
    run = Path(run)
    if not is_run(run):
        raise InputError(f"{printable(run)}: is no run folder ({', '.join(_RECORD)}); give the one of train_hf.py.")
    corpus, split = read_json(run / CORPUS), read_json(run / SPLIT)
    splits = _splits(_load(run, corpus), split)
    groups: dict[str, str] = {}
    (folder / "data").mkdir(parents=True)
    for name, dataset in splits.items():
        _write_split(folder / "data" / f"{name}.parquet", dataset, groups, images)
    write_json(folder / "splits.json", _public_split(corpus, split))
    audit = next((read_json(path) for path in (run / MODEL / evaluated(AUDIT),) if path.is_file()), None)
    if audit is not None:
        write_json(folder / AUDIT, audit)
    write_atomically(folder / "README.md", corpus_card(corpus, split, audit, images=images))
    return {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}


def _load(run: Path, corpus: Mapping[str, Any]) -> DatasetDict:
    """The corpus of a run, read again as the run read it, found to be the same, with the groups that the run used."""
    config = config_from_mapping(read_json(run / OPTIONS))
    loaded = load_corpus(config.corpus, config.corpus_options.without_external(config.external))
    if loaded.report["hash"] != corpus["hash"]:
        raise InputError(
            f"{printable(config.corpus)}: is no longer the corpus that {printable(run)} was trained on; give that one."
        )
    if corpus["groups"]["origin"] == PSEUDO_PATIENTS and (run / AUDIT).is_file():
        return settle_groups(loaded.dataset, read_json(run / AUDIT)["patients"])
    return loaded.dataset


def _splits(corpus: DatasetDict, split: Mapping[str, Any]) -> dict[str, Dataset]:
    """The corpus in the run's splits, which may be others than its own."""
    whole = concatenate_datasets(list(corpus.values()))
    place = {source: row for row, source in enumerate(whole["source"])}
    return {name: whole.select([place[source] for source in rows]) for name, rows in split["sources"].items() if rows}


def _write_split(path: Path, dataset: Dataset, groups: dict[str, str], images: bool) -> None:
    """One split as Parquet, some images at a time, with the types that `datasets` reads back."""
    kinds = {"label": dataset.features["label"], "group": datasets.Value("string"), "sha256": datasets.Value("string")}
    features = datasets.Features({"image": datasets.Image(), **kinds} if images else kinds)
    with parquet.ParquetWriter(path, features.arrow_schema) as writer:
        for start in range(0, len(dataset), ROWS):
            rows = dataset[start : start + ROWS]
            contents = [_content(cell) for cell in rows["image"]]
            columns: dict[str, Any] = {
                "label": rows["label"],
                "group": [groups.setdefault(one, f"group {len(groups) + 1:05d}") for one in rows["group"]],
                "sha256": [hashlib.sha256(content).hexdigest() for content in contents],
            }
            if images:
                columns["image"] = [_image(content, columns["sha256"][i]) for i, content in enumerate(contents)]
            table = pyarrow.table({name: columns[name] for name in features}, schema=features.arrow_schema)
            writer.write_table(table)


def _content(cell: Mapping[str, Any]) -> bytes:
    return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()


def _image(content: bytes, digest: str) -> dict[str, Any]:
    """A cell of an Image column under a name that tells nothing; a file that carries texts is refused."""
    check_no_dicom({f"image {digest[:12]}…": content})
    try:
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG", "TIFF", "BMP", "WEBP"]) as picture:
            kind, said = str(picture.format).lower(), _texts(picture)
    except Exception as error:  # Pillow raises a dozen classes on damaged files
        raise InputError(
            f"image {digest[:12]}…: is no whole PNG, JPEG, TIFF, BMP or WebP; publish the record without --images."
        ) from error
    if said:
        raise InputError(
            f"image {digest[:12]}…: carries texts ({printable(', '.join(said))}) that may name a patient; take them "
            "out, or leave --images away."
        )
    return {"bytes": content, "path": f"{digest}.{kind}"}


def _texts(picture: Any) -> list[str]:
    """Where a picture says, or may say, something beside its pixels; what a PNG names as its program does not count."""
    found: set[str] = set()
    if picture.format == "PNG":
        found |= picture.text.keys() - {"Software"}  # decodes all of it: a text may follow the pixels
        found |= {chunk[0].decode("ascii", "replace") for chunk in picture.private_chunks}
    elif picture.format == "TIFF":
        for page in range(picture.n_frames):
            picture.seek(page)
            types = picture.tag_v2.tagtype
            found |= {_tag_name(tag) for tag, kind in types.items() if tag not in _TIFF_TAGS or kind == _ASCII}
    elif picture.format in ("JPEG", "MPO"):
        found |= {name for name, data in picture.applist if not data.startswith(_JPEG_SEGMENTS)}
    if picture.format in ("PNG", "WEBP"):  # the others' are among their tags and segments
        found |= picture.info.keys() & {"exif", "xmp"}
    return sorted(found)


def _tag_name(tag: int) -> str:

    name = TiffTags.lookup(tag).name
    return f"tag {tag}" if name == "unknown" else name


def _public_split(corpus: Mapping[str, Any], split: Mapping[str, Any]) -> dict[str, Any]:
    """split.json without the names of files."""
    kept = {name: value for name, value in split.items() if name not in ("sources", "folds")}
    return {"format": 1, "corpus_hash": corpus["hash"], "label_names": corpus["label_names"], "split": kept}


# The card


def corpus_card(
    corpus: Mapping[str, Any], split: Mapping[str, Any], audit: Mapping[str, Any] | None, *, images: bool
) -> str:
    """The dataset's README.md: header for the Hub, counts, how to find an image again, and what the audit found."""
    sizes = {one: len(sources) for one, sources in split["sources"].items() if sources}
    name, phantom = corpus_name(corpus), is_generated(corpus)
    header = {
        "pretty_name": f"{name}: splits and audit" if not images else name,
        "license": "apache-2.0" if phantom else "other",
        "task_categories": ["image-classification"],
        "tags": ["ct", "medical-imaging", "ct-xception", "research-only"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": one, "path": f"data/{one}.parquet"} for one in sizes],
            }
        ],
    }
    values = {
        "header": yaml.safe_dump(header, sort_keys=False, allow_unicode=True),
        "name": name,
        "research_use": RESEARCH_USE,
        "is_phantom": phantom,
        "images": images,
        "label_names": corpus["label_names"],
        "protocol": split["protocol"],
        "sizes": sizes,
        "groups": split.get("groups", {}),
        "audit": audit,
        "corpus": corpus,
        "split": split,
    }
    return fill_template(packaged_template("corpus_card.md.jinja"), values)
