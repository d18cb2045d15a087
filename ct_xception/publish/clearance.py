"""What may leave this machine: nothing that runs when it is loaded, and nothing that tells who a patient was.

    check_checkpoint(files, phantom=False)

A checkpoint holds a few kinds of file, and each is opened to see that it is what its name says. Whatever else lies in
the folder is refused by name, not left out in silence: a folder on the Hub is for ever.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import mmap
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ct_xception.checkpoint import DRIFT, EXAMPLES, GATE, METRICS, POOLING, evaluated
from ct_xception.errors import CheckpointError, InputError, printable
from ct_xception.files import parse_json
from ct_xception.formats.onnx import onnx_texts
from ct_xception.serving.gate import ARRAYS
from ct_xception.statistics import attention

Content = Path | bytes

_CODE = {".py", ".pyc", ".pyo", ".pyd", ".so", ".dll", ".exe", ".sh", ".bat", ".js", ".ipynb", ".jar", ".ps1"}
_PICKLED = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".keras", ".msgpack"}
_PICTURES = {".dcm", ".dicom", ".ima", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".nii"}
_PICKLE_BEGINS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")  # the last: torch.save's archive
_CODE_BEGINS = (b"#!", b"\x7fELF", b"MZ")
# Keys of config.json by which transformers would fetch and run code of a repository.
_CODE_KEYS = ("auto_map", "custom_pipelines")

# The shapes by which clouds and forges make their tokens known.
_TOKEN = re.compile(
    rb"\bhf_[A-Za-z0-9]{20,}|\bgh[pousr]_[A-Za-z0-9]{36}|\bgithub_pat_\w{30,}|\bglpat-[\w-]{20}"
    rb"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\baws_secret_access_key\W{1,5}[A-Za-z0-9/+]{40}"
    rb"|\bAIza[\w-]{35}|\bya29\.[\w-]{20,}|\bAccountKey=[A-Za-z0-9+/]{60,}|[?&]sig=[A-Za-z0-9%+/]{40,}"
    rb"|\b[\w~.-]{3}\dQ~[\w~.-]{31,34}|\bxox[abeoprs]-[\w-]{10,}|\bxapp-\d-[\w-]{10,}|hooks\.slack\.com/services/T\w+"
    rb"|\bsk-[A-Za-z0-9_-]{32,}|\b[rs]k_live_\w{20,}|\bnpm_[A-Za-z0-9]{36}|\bpypi-AgEI[\w-]{50,}|\bdop_v1_[a-f0-9]{64}"
    rb"|\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----"
    rb"|\bSG\.[\w-]{22}\.[\w-]{43}|\bwandb_v1_\w{40,}|\bWANDB_API_KEY\W{1,5}[a-f0-9]{40}|\bkey-[a-f0-9]{32}\b"
    rb"|\b(?:https?|postgres\w*|mysql|redis|mongodb|s?ftp|ssh)[\w+]{0,10}://[\w.%-]{1,64}:[^\s/@:'\"<>]{3,64}@[\w.-]{3}"
)
# A pickle after, or within, another file's bytes: by its frame, by its first opcodes, or in torch's archive.
_PICKLE = re.compile(
    rb"\x80[\x04\x05]\x95.{4}\0{4}|\x80[\x02\x03](?:[\]})(]q\0|c[a-z_][\w.]*\n)"
    rb"|\bc?(?:os|posix|nt|subprocess|builtins|__builtin__)\n\w+\n\(|PK\x03\x04.{26}[\w./ -]{0,200}\.pkl",
    re.DOTALL,
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
# Prose that reads like a person's record: a title or a name in a record's order, an age, a birth date, a number.
_PERSON = re.compile(
    r"""\b(?:Mr|Mrs|Ms|Miss|Herr|Frau|Mme)\b\.?\s+[A-Z]\w+
    |\b[Pp]atient(?:in)?,?\s+(?:named\s+|called\s+|is\s+)?[A-Z][a-z]+,?\s+[A-Z][a-z]+
    |\b[A-Z][a-z]+,\s*[A-Z][a-z]+\s*[,;(]\s*(?:\d|[MF]\b|male|female|born)
    |(?i:\b\d{1,3}[- ]?(?:years?|yrs?|y)[-/ ]?(?:olds?|o)\b)
    |(?i:\b(?:dob|d\.o\.b\.|date\ of\ birth|born(?:\ on)?|geboren)\b\W{0,3}(?:am\ )?\d)
    |(?i:\b(?:mrn|medical\ record(?:\ n\w*)?|hospital\ n\w+|nhs(?:\ n\w+)?|ssn|social\ security(?:\ n\w+)?)\b
        [\s.:=#|"']{0,5}(?:is\s+)?[A-Z]{0,3}\d{2})
    |\b\d{3}-\d{2}-\d{4}\b
    |(?<![/\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b
    """,
    re.VERBOSE,
)
_PICTURE_NAME = re.compile(r"""[^\s"'`(\[|<>=,:;]+\.(?:dcm|dicom|ima|png|jpe?g|tiff?|bmp|webp|nii)\b""", re.IGNORECASE)
_LOCAL_PATH = re.compile(r"""(?<![\w.:/-])(?:/(?:home|Users|root|mnt|media|tmp)/|[A-Za-z]:\\\\?(?=\w))[^\s"']+""")
_NUMBERED = re.compile(r"[a-z][a-z -]*\d+")  # what stands for a name: item 000123
_WORD = re.compile(r"[a-z_]+(?:, [a-z_]+)?|old \d{1,3}")  # a protocol (old 1: of a replayed corpus), a path, a verdict
# What the columns of a Parquet file may hold, by their names: the evaluation writes no others.
_NAMES, _LABELS = {"source", "group", "series", "patient"}, {"label", "predicted", "predicted_before"}
_WORDS, _FLAGS, _COUNTS = {"path", "protocol", "baseline", "gate"}, {"has_twin"}, {"fold", "severity"}
_NUMBERS = ("p ", "reference p ", "attention")
_ARRAYS = {
    GATE: ("input gate", ARRAYS),
    DRIFT: ("drift", ("features", "traits")),
    POOLING: ("learnt attention", attention.ARRAYS),
}
# What a PNG needs to be seen; any other chunk may carry anything.
_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"sBIT", b"bKGD"}
_SAID = {b"tEXt", b"zTXt", b"iTXt"}  # the program's name may stand in one


def list_files(folder: Path) -> dict[str, Path]:
    """The files of a folder, {path in the repository: file}; what the Hub's own tools leave in a copy is no part."""
    found = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}
    return {
        name: file
        for name, file in found.items()
        if not name.startswith((".cache/huggingface/", ".git/")) and name != ".gitattributes"
    }


def check_links(folder: Path) -> None:
    """Raise CheckpointError where something in a folder is a link out of it, or to nowhere: its target is not ours."""
    root = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not (path.is_file() and path.resolve().is_relative_to(root)):
            name = path.relative_to(folder).as_posix()
            raise _refusal(name, "is a link to another place", "copy what it names into the folder (cp -rL)")


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
        if name in _ARRAYS:
            _check_arrays(name, content)
        for where, text in _texts(name, content):
            _check_text(where, text, allowed if not phantom else None)
        if name.endswith(".parquet"):
            _check_columns(name, content, _label_names(files), phantom)
    if not phantom:
        _check_pictures(files)


def check_secrets(files: Mapping[str, Content], tokens: Sequence[str] = ()) -> None:
    """Raise InputError where a file holds what looks like an access token or private key, or one of `tokens`."""
    known = [re.escape(token.encode()) for token in tokens if token]
    pattern = re.compile(b"|".join([_TOKEN.pattern, *known]))
    for name, content in files.items():
        found = _search(content, pattern)
        if not found and name.endswith((".json", ".parquet")):  # where escapes or compression may hide it
            with contextlib.suppress(ValueError):  # what is no JSON, or no Parquet, was searched as it is
                hit = pattern.search("\n".join(text for _, text in _texts(name, content)).encode())
                found = hit.group() if hit else None
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
    if _search(content, _PICKLE):
        raise _refusal(name, "has a pickle among its bytes, which runs code when it is loaded", "make it again")
    if suffix == ".json" and (keys := sorted(set(_CODE_KEYS) & set(_keys(json.loads(_bytes(content)))))):
        raise _refusal(name, f"names code to be fetched and run ({', '.join(keys)})", "take that out")


def _keys(value: Any) -> Iterator[str]:
    """Every key of a JSON value, however deep."""
    if isinstance(value, Mapping):
        yield from value
    for one in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _keys(one)


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


def _check_arrays(name: str, content: Content) -> None:
    """Input gate and drift are made of the few arrays that they need, and none has a row for an image of training."""
    found, own = sorted(_safetensors_fields(content).keys() - {"__metadata__"}), _ARRAYS[name]
    if found != sorted(own[1]):
        wanted = ", ".join(own[1])
        raise _refusal(name, f"holds {', '.join(found)}, not the {own[0]}'s {wanted}", "fit the gate again")


def _is_png(content: Content) -> None:
    """A PNG that ends where it says, and says nothing in its margins but which program drew it."""
    picture, data = _open_png(content), _bytes(content)
    said = sorted(set(picture.text) - {"Software"}) + (["Exif"] if "exif" in picture.info else [])
    if said:
        raise ValueError(f"the picture carries texts: {', '.join(said)}")
    if not re.fullmatch(r"(?:Matplotlib[\w ,.:/+-]*)?", picture.text.get("Software", "")):
        raise ValueError("the picture carries texts: Software, which is not Matplotlib")
    chunks = list(_png_chunks(data))
    if unknown := next((kind for kind, _ in chunks if kind not in _CHUNKS | _SAID), None):
        raise ValueError(f"the picture carries a chunk {printable(unknown.decode('ascii', 'replace'))!r}")
    if sum(kind in _SAID for kind, _ in chunks) > 1:
        raise ValueError("the picture carries several texts")
    pixels = b"".join(part for kind, part in chunks if kind == b"IDAT")
    inflated = zlib.decompressobj()
    inflated.decompress(pixels)
    if inflated.unused_data:
        raise ValueError(f"{len(inflated.unused_data):,} bytes follow the picture's last pixel")


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a PNG, kind and data. Raises ValueError where it has no end, or goes on after it."""
    place, kind = 8, b""
    while kind != b"IEND":
        size, kind = int.from_bytes(data[place : place + 4]), data[place + 4 : place + 8]
        if len(kind) < 4:
            raise ValueError("the picture has no end")
        yield kind, data[place + 8 : place + 8 + size]
        place += 12 + size
    if place < len(data):
        raise ValueError(f"{len(data) - place:,} bytes follow the picture's end")


def _open_png(content: Content) -> Any:
    from PIL import Image

    picture = Image.open(io.BytesIO(_bytes(content)), formats=["PNG"])
    picture.load()
    return picture


def _starts_with(*begins: bytes) -> Callable[[Content], None]:
    def check(content: Content) -> None:
        if not _head(content, 8).startswith(begins):
            raise ValueError(f"it does not begin as one, but with {_head(content, 8)!r}")

    return check


def _is_parquet(content: Content) -> None:
    """Begun and ended as one: whatever follows the end would not be read by anybody, and so not be seen."""
    if not (_bytes(content).startswith(b"PAR1") and _bytes(content).endswith(b"PAR1")):
        raise ValueError("it does not begin and end as one")


_KINDS: dict[str, Callable[[Content], Any]] = {
    ".json": lambda content: parse_json(_bytes(content)),  # of a key that is given twice, one would be hidden
    ".md": lambda content: _bytes(content).decode("utf-8"),
    ".safetensors": _is_safetensors,
    ".parquet": _is_parquet,
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
        yield name, json.dumps(parse_json(_bytes(content)), ensure_ascii=False, indent=1)
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
    if found := _PATIENT.search(text) or _PERSON.search(text):
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


def _check_columns(name: str, content: Content, labels: Collection[str], phantom: bool) -> None:
    """Refuse what an evaluation does not write: a column of another name or kind, and names where numbers stand."""
    import pyarrow

    texts = _string_columns(content)
    for field in _parquet(content).schema_arrow:
        kind = field.type
        known = field.name in texts and field.name in _NAMES | _LABELS | _WORDS | {"refused"}
        known |= pyarrow.types.is_boolean(kind) and field.name in _FLAGS
        known |= pyarrow.types.is_integer(kind) and field.name in _COUNTS
        known |= pyarrow.types.is_floating(kind) and field.name.startswith(_NUMBERS)
        if not known and not pyarrow.types.is_null(kind):
            raise _refusal(name, f"its column {printable(field.name)} is none that an evaluation writes", "take it out")
    allowed: dict[str, Callable[[str], Any]] = {column: _WORD.fullmatch for column in _WORDS}
    allowed |= {column: labels.__contains__ for column in _LABELS if labels}
    allowed |= {column: _NUMBERED.fullmatch for column in _NAMES if not phantom}
    for column, test in allowed.items():
        other = next((value for value in texts.get(column, ()) if not test(value)), None)
        if other is not None:
            what = "a name of the corpus" if column in _NAMES else "another word than is expected there"
            raise _refusal(name, f"its column {column} holds {what} ({printable(other)[:40]!r})", "evaluate again")


def _label_names(files: Mapping[str, Content]) -> Collection[str]:
    """The classes that the checkpoint states, and the groups of them that were asked; empty where it states none."""
    found = json.loads(_bytes(files["config.json"])).get("label_names") if "config.json" in files else None
    asked = json.loads(_bytes(files[evaluated(METRICS)])) if found and evaluated(METRICS) in files else {}
    return {*(found or ()), *(name for block in asked.get("external", {}).values() for name in block["alternatives"])}


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
    """The names of its tensors, and its metadata."""
    fields = _safetensors_fields(content)
    return json.dumps([sorted(fields), fields.get("__metadata__", {})], ensure_ascii=False, indent=1)


def _safetensors_fields(content: Content) -> dict[str, Any]:
    """What a safetensors file says of its tensors, by name, and its `__metadata__`."""
    size = int.from_bytes(_head(content, 8), "little")
    return dict(parse_json(_head(content, 8 + size)[8:]))


def _parquet(content: Content) -> Any:
    from pyarrow import parquet

    return parquet.ParquetFile(io.BytesIO(content) if isinstance(content, bytes) else content)


def _string_columns(content: Content) -> dict[str, list[str]]:
    """The distinct texts of a Parquet file, by column, with the names of the columns and the file's own metadata."""
    import pyarrow

    file = _parquet(content)
    abouts = [file.schema_arrow.metadata, file.metadata.metadata, *(field.metadata for field in file.schema_arrow)]
    texts = [text.decode("utf-8", "replace") for about in abouts for pair in (about or {}).items() for text in pair]
    said = [*file.schema_arrow.names, file.metadata.created_by or "", *texts]
    kinds = {field.name: getattr(field.type, "value_type", field.type) for field in file.schema_arrow}
    is_text = (pyarrow.types.is_string, pyarrow.types.is_large_string)
    names = [name for name, kind in kinds.items() if any(test(kind) for test in is_text)]
    table = file.read(columns=names)
    columns = {name: [str(value) for value in table[name].unique().to_pylist() if value is not None] for name in names}
    return {"(names and metadata)": said} | columns
