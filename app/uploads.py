"""How a file may come: as an upload, or in the request itself; never as an address that this server would fetch from.

Gradio would: it reads any web address that a request puts in the place of a file, of whatever size, and its MCP tools
take nothing but addresses and base64, with sentences of its own.
"""

from __future__ import annotations

import csv
import mimetypes
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import gradio as gr
from gradio import processing_utils
from gradio.utils import get_upload_folder
from pydantic import ValidationError

from ct_xception.errors import InputError, printable
from ct_xception.serving.inference_api import decode_file
from ct_xception.serving.series import Member

_FILES = "/gradio_api/file="
NO_UPLOAD = "the file is no upload; send it with gradio_client.handle_file(PATH)."
# The columns of a table that says whose the files beside it are.
PATHS = ("path", "file", "filename", "file_name", "image", "slice")
PATIENTS = ("patient", "patient_id", "patientid", "subject", "group")
MAX_TABLE = 16 * 2**20  # bytes
NO_ADDRESS = "the file is an address, from which nothing is fetched here; send the file itself."


def take_no_addresses(demo: gr.Blocks) -> None:
    """Have a running page refuse addresses in the place of files, and its MCP tools say what they take."""
    processing_utils.async_ssrf_protected_download = _refuse_address
    if demo.mcp_server_obj is not None:
        vars(demo.mcp_server_obj)["convert_strings_to_filedata"] = take_tool_files


async def _refuse_address(*_: Any, **__: Any) -> str:
    raise gr.Error(NO_ADDRESS, print_exception=False)


def uploaded(file: Any) -> tuple[Path, str]:
    """Path and name of a file that came through Gradio's own upload. Raises InputError for any other path.

    Gradio checks what says that it is a file, and nothing else: a bare {"path": …} could name any file here.
    """
    try:
        found = gr.FileData.model_validate(file, context={"validate_meta": True})
    except (ValidationError, ValueError, TypeError) as error:
        raise InputError(NO_UPLOAD) from error
    path = _kept(found.path)
    if path is None:
        raise InputError(NO_UPLOAD)
    return path, Path(found.orig_name or path.name).name


def _kept(path: str) -> Path | None:
    """Where uploads are kept, resolved; None for any other place."""
    try:
        found = Path(path).resolve()
    except (OSError, ValueError):
        return None
    return found if found.is_relative_to(Path(get_upload_folder()).resolve()) else None


def take_tool_files(arguments: dict[str, Any], places: Sequence[Sequence[str | int]]) -> dict[str, Any]:
    """A tool's arguments with its files as Gradio hands them on; `places` are the paths of those.

    A file is `data:TYPE;base64,…`, or the address of something uploaded here. Raises InputError for anything else.
    """
    named, given = {place[0] for place in places}, dict[str, Any]()
    for key, value in arguments.items():
        many = key in named and isinstance(value, list)
        own = [_tool_file(key, one) for one in value] if many else _tool_file(key, value) if key in named else value
        given[key] = own
    return given


def _tool_file(key: str, value: Any) -> Any:
    text = value if isinstance(value, str) else ""
    path = _of_data(text) if text.startswith("data:") else _of_upload(text)
    if path is None:
        found = printable(text[:80]) or "empty"
        raise InputError(f"{key}: {found!r} is no file; send its bytes as data:image/png;base64,… (or another type).")
    return {"path": str(path), "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}


def _of_data(text: str) -> Path:
    """The bytes of a data URL (RFC 2397), stored as an upload is."""
    head, comma, _ = text.partition(",")
    if not comma or not head.endswith(";base64"):
        raise InputError("the file is not in base64; send it as data:image/png;base64,… (or another type).")
    suffix = mimetypes.guess_extension(head.removeprefix("data:").partition(";")[0]) or ""
    content = decode_file(text, "the file")
    return Path(processing_utils.save_bytes_to_cache(content, f"file{suffix or '.bin'}", get_upload_folder()))


def _of_upload(address: str) -> Path | None:
    try:
        path = urlsplit(address).path
    except ValueError:
        return None
    return _kept(unquote(path.partition(_FILES)[2])) if _FILES in path else None


def read_owners(table: Path) -> Callable[[Member], str]:
    """Whose each slice is, as a table of path and patient says, by the longest end of its path that the table names.

    Raises InputError where the table lacks the columns, says two things of one file, or does not name one asked for.
    """
    called = f"the table {printable(table.name)}"
    rows = _rows(table, called)
    columns = [name for known in (PATHS, PATIENTS) for name in [*(rows[0] if rows else ())] if name in known]
    if len(columns) != 2:
        found = printable(", ".join(rows[0])) if rows else "no row"
        raise InputError(f"{called} has {found}, where columns of path and patient are wanted; name two so.")
    owned = dict[str, str]()
    for row in rows:
        path, patient = (str(row[name] or "").strip() for name in columns)
        if not patient or owned.setdefault(PurePosixPath(path.replace("\\", "/")).as_posix(), patient) != patient:
            said = "more than one" if patient else "no"
            raise InputError(f"{called} says {said} patient of {printable(path)}; mend it.")
    return lambda member: _owner_of(member, owned, called)


def _rows(table: Path, called: str) -> list[dict[str, str]]:
    """The rows of a CSV, told apart by commas, semicolons or tabs, under their column names in small letters."""
    if table.stat().st_size > MAX_TABLE:
        raise InputError(f"{called} has more than {MAX_TABLE >> 20} MiB; give one of path and patient.")
    lines = table.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    mark = max(",;\t", key=lines[0].count) if lines else ","
    try:
        read = csv.DictReader(lines, delimiter=mark)
        return [{str(name).strip().lower(): value for name, value in row.items()} for row in read]
    except csv.Error as error:
        raise InputError(f"{called} cannot be read ({error}); write it again as CSV.") from error


def _owner_of(member: Member, owned: dict[str, str], called: str) -> str:
    parts = PurePosixPath(member.folder, member.name.partition("#")[0]).parts
    for start in range(len(parts)):
        if (owner := owned.get(PurePosixPath(*parts[start:]).as_posix())) is not None:
            return owner
    raise InputError(f"{called} does not name {printable(member.name)}, whose patient is asked for; add it.")
