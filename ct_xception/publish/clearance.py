"""What may leave this machine: nothing that runs when it is loaded, and nothing that tells who a patient was.

    check_checkpoint(files, phantom=False)

A checkpoint holds a few kinds of file, and each is opened to see that it is what its name says. Whatever else lies in
the folder is refused by name, not left out in silence: a folder on the Hub is for ever.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ct_xception.checkpoint import CONFIG, EXAMPLES, GATE, METRICS, evaluated
from ct_xception.errors import CheckpointError, InputError, printable
from ct_xception.formats.onnx import onnx_texts
from ct_xception.serving.gate import ARRAYS

Content = Path | bytes

_CODE = {".py", ".pyc", ".pyo", ".pyd", ".so", ".dll", ".exe", ".sh", ".bat", ".js", ".ipynb", ".jar", ".ps1"}
_PICKLED = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".keras", ".msgpack"}
_PICTURES = {".dcm", ".dicom", ".ima", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".nii"}
_PICKLE_BEGINS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")  # the last: torch.save's archive
_CODE_BEGINS = (b"#!", b"\x7fELF", b"MZ")
# Keys of config.json by which transformers would fetch and run code of a repository.
_CODE_KEYS = ("auto_map", "custom_pipelines")

_TOKEN = re.compile(
    rb"\bhf_[A-Za-z0-9]{20,}|\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_\w{30,}|\bAKIA[0-9A-Z]{16}\b"
    rb"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_DICOM = re.compile(rb"DICM\x02\x00")  # the preamble's end, and the first tag's group
_PATIENT = re.compile(
    r"""(?:Patient'?s?[ _]?(?:Name|ID|Birth[ _]?Date|Address)|\(?0010,\s?00[1-4]0\)?|Accession[ _]?Number
    |Referring[ _]?Physician[ _]?Name|Institution[ _]?Name)['"]?\s*[:=|]+\s*['"\[]?\s*\w
    |\b[A-Za-z'-]{2,}\^[A-Za-z'-]{2,}              # a DICOM person name: DOE^JOHN
    |\b[12]\.\d+\.\d{2,}(?:\.\d+){4,}              # a DICOM unique identifier
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PICTURE_NAME = re.compile(r"""[^\s"'`(\[|<>=,:;]+\.(?:dcm|dicom|ima|png|jpe?g|tiff?|bmp|webp|nii)\b""", re.IGNORECASE)
_LOCAL_PATH = re.compile(r"""(?<![\w.:/-])(?:/(?:home|Users|root|mnt|media|tmp)/|[A-Za-z]:\\\\?(?=\w))[^\s"']+""")
_NUMBERED = re.compile(r"[a-z][a-z -]*\d+")  # what stands for a name: item 000123


def list_files(folder: Path) -> dict[str, Path]:
    """The files of a folder, {path in the repository: file}; what the Hub's own tools leave in a copy is no part."""
    found = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {
        name: file
        for name, file in found.items()
        if not name.startswith((".cache/huggingface/", ".git/")) and name != ".gitattributes"
    }


def check_checkpoint(
    files: Mapping[str, Content],
    *,
    phantom: bool,
    quotable: Collection[str] = (),
    code: Mapping[str, str] | None = None,
) -> None:
    """Raise CheckpointError, one sentence, at the first file that a published checkpoint must not hold.

    Refused: pickles, code, file kinds that no checkpoint has, DICOM, values of patient tags, and, unless the corpus is
    the phantom, pictures other than the evaluator's figures, names of images and of patients. `quotable` are file names
    that texts may hold, as the card does in its examples. `code` {name: SHA-256} is code that was asked for: a file of
    that name with these very bytes may go.
    """
    allowed = {part for name in files for part in (name, name.rpartition("/")[2])} | set(quotable)
    for name, content in files.items():
        if name in (code or {}) and hashlib.sha256(_bytes(content)).hexdigest() == (code or {})[name]:
            continue
        _check_kind(name, content)
        if name == GATE:
            _check_gate(name, content)
        for where, text in _texts(name, content):
            _check_text(where, text, allowed if not phantom else None)
        if name.endswith(".parquet") and not phantom:
            _check_names_of_items(name, content)
    if not phantom:
        _check_pictures(files)


def check_secrets(files: Mapping[str, Content], tokens: Sequence[str] = ()) -> None:
    """Raise InputError where a file holds what looks like an access token or private key, or one of `tokens`."""
    known = [re.escape(token.encode()) for token in tokens if token]
    for name, content in files.items():
        found = _search(content, re.compile(b"|".join([_TOKEN.pattern, *known])))
        if found:
            shown = found[:6].decode("ascii", "replace")
            raise InputError(
                f"{printable(name)}: holds an access token or key ({shown}…); revoke it, take it out, and push again."
            )


def check_no_dicom(files: Mapping[str, Content]) -> None:
    """Raise InputError where a file is DICOM, or has one inside: its header may name a patient."""
    for name, content in files.items():
        if _search(content, _DICOM):
            raise _refusal(name, "holds a DICOM file, whose header may name a patient", "take it out")


def _refusal(name: str, found: str, remedy: str) -> CheckpointError:
    return CheckpointError(f"{printable(name)}: {found}; {remedy}, and push again.")


# Kinds of file


def _check_kind(name: str, content: Content) -> None:
    suffix, begin = Path(name).suffix.lower(), _head(content, 8)
    if suffix in _PICKLED or begin.startswith(_PICKLE_BEGINS):
        raise _refusal(name, "is a pickle or an archive of one, which runs code when it is loaded", "take it out")
    if suffix in _CODE or begin.startswith(_CODE_BEGINS):
        raise _refusal(name, "is code, and nothing in a checkpoint may have to be trusted", "take it out")
    if suffix in _PICTURES:
        raise _refusal(name, "is a picture or DICOM file, which may show or name a patient", "take it out")
    if suffix not in _KINDS:
        raise _refusal(name, "is of no kind that a checkpoint holds", "take it out")
    check_no_dicom({name: content})
    try:
        _KINDS[suffix](content)
    except (ValueError, OSError) as error:
        raise _refusal(name, f"is not what its name says ({printable(error)})", "make it again") from error
    if name == CONFIG and (keys := sorted(_CODE_KEYS & json.loads(_bytes(content)).keys())):
        raise _refusal(name, f"names code to be fetched and run ({', '.join(keys)})", "take that out")


def _is_safetensors(content: Content) -> None:
    from safetensors import SafetensorError, deserialize, safe_open

    try:
        if isinstance(content, bytes):
            deserialize(content)
        else:
            with safe_open(content, "numpy") as opened:
                opened.keys()
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _check_gate(name: str, content: Content) -> None:
    """The input gate is made of the few arrays that it needs, and none of them has a row for an image of training."""
    found = sorted(_safetensors_fields(content).keys() - {"__metadata__"})
    if found != sorted(ARRAYS):
        wanted = ", ".join(ARRAYS)
        raise _refusal(name, f"holds {', '.join(found)}, not the input gate's {wanted}", "fit the gate again")


def _is_png(content: Content) -> None:
    """A PNG that says nothing in its margins but which program drew it."""
    picture = _open_png(content)
    said = sorted(set(picture.text) - {"Software"}) + (["Exif"] if "exif" in picture.info else [])
    if said:
        raise ValueError(f"the picture carries texts: {', '.join(said)}")


def _open_png(content: Content) -> Any:
    import io

    from PIL import Image

    picture = Image.open(io.BytesIO(_bytes(content)), formats=["PNG"])
    picture.load()
    return picture


def _starts_with(*begins: bytes) -> Callable[[Content], None]:
    def check(content: Content) -> None:
        if not _head(content, 8).startswith(begins):
            raise ValueError(f"it does not begin as one, but with {_head(content, 8)!r}")

    return check


_KINDS: dict[str, Callable[[Content], Any]] = {
    ".json": lambda content: json.loads(_bytes(content)),
    ".md": lambda content: _bytes(content).decode("utf-8"),
    ".safetensors": _is_safetensors,
    ".parquet": _starts_with(b"PAR1"),
    ".png": _is_png,
    ".onnx": lambda content: sum(map(len, onnx_texts(_bytes(content)))),  # which reads all of it
    ".xml": _starts_with(b"<?xml"),  # OpenVINO's graph
    ".bin": lambda content: None,  # OpenVINO's weights
}


# What they say


def _texts(name: str, content: Content) -> Iterator[tuple[str, str]]:
    """The text in a file, with where it stands; escapes are undone, so that none hides a word."""
    suffix = Path(name).suffix.lower()
    if suffix == ".json":
        yield name, json.dumps(json.loads(_bytes(content)), ensure_ascii=False, indent=1)
    elif suffix in (".md", ".xml"):
        yield name, _bytes(content).decode("utf-8", "replace")
    elif suffix == ".safetensors":
        yield f"{name} (its header)", _safetensors_header(content)
    elif suffix == ".onnx":
        yield f"{name} (its names and metadata)", "\n".join(onnx_texts(_bytes(content)))
    elif suffix == ".parquet":
        for column, values in _string_columns(content).items():
            yield f"{name} (column {column})", "\n".join(values)


def _check_text(where: str, text: str, allowed: Collection[str] | None) -> None:
    if found := _PATIENT.search(text):
        shown = " ".join(found.group().split())[:40]
        raise _refusal(where, f"tells who a patient is ({shown}…)", "take it out")
    if allowed is None:
        return
    if found := _LOCAL_PATH.search(text):
        raise _refusal(where, f"holds a path of this machine ({found.group()[:60]})", "take it out")
    for found in _PICTURE_NAME.finditer(text):
        if found.group() not in allowed and found.group().removesuffix(".") not in allowed:
            raise _refusal(
                where, f"names the image {found.group()!r}, and such names may hold patients' names", "evaluate again"
            )


def _check_names_of_items(name: str, content: Content) -> None:
    columns = _string_columns(content)
    for column in ("source", "group"):
        plain = next((value for value in columns.get(column, ()) if not _NUMBERED.fullmatch(value)), None)
        if plain is not None:
            raise _refusal(
                name, f"its column {column} holds a name of the corpus ({plain[:40]!r}), not a number", "evaluate again"
            )


def _check_pictures(files: Mapping[str, Content]) -> None:
    """Pictures are the evaluator's figures alone; its examples show the corpus."""
    metrics_file = evaluated(METRICS)
    metrics = json.loads(_bytes(files[metrics_file])) if metrics_file in files else {}
    figures = {evaluated(figure) for figure in metrics.get("figures", []) if figure != EXAMPLES}
    for name in files:
        if name.endswith(".png") and name not in figures:
            raise _refusal(name, "is a picture that the evaluation did not draw, or one of the corpus", "take it out")


# Reading


def _bytes(content: Content) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()


def _head(content: Content, count: int) -> bytes:
    if isinstance(content, bytes):
        return content[:count]
    with content.open("rb") as stream:
        return stream.read(count)


def _search(content: Content, pattern: re.Pattern[bytes]) -> bytes | None:
    """The first hit in a file of any size, or None."""
    if isinstance(content, bytes):
        found = pattern.search(content)
        return found.group() if found else None
    if content.stat().st_size == 0:  # which cannot be mapped
        return None
    with content.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        found = pattern.search(mapped)
        return found.group() if found else None


def _safetensors_header(content: Content) -> str:
    return json.dumps(_safetensors_fields(content).get("__metadata__", {}), ensure_ascii=False)


def _safetensors_fields(content: Content) -> dict[str, Any]:
    """What a safetensors file says of its tensors, by name, and its `__metadata__`."""
    size = int.from_bytes(_head(content, 8), "little")
    return dict(json.loads(_head(content, 8 + size)[8:]))


def _string_columns(content: Content) -> dict[str, list[str]]:
    """The distinct texts of a Parquet file, by column; a column of bytes could hold pictures, and is refused."""
    import io

    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(io.BytesIO(_bytes(content)))
    columns = {}
    for field in table.schema:
        kind = field.type.value_type if pyarrow.types.is_dictionary(field.type) else field.type
        if pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
            columns[field.name] = [str(value) for value in table[field.name].unique().to_pylist() if value is not None]
        elif not (pyarrow.types.is_primitive(kind) or pyarrow.types.is_null(kind)):
            raise CheckpointError(
                f"the column {field.name} of a Parquet file is {kind}; only numbers and texts may go."
            )
    return columns
