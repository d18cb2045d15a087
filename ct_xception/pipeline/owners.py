"""What a table that the user gives says of each slice: whose it is, and what the network takes beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from ct_xception.errors import InputError, printable

if TYPE_CHECKING:
    from ct_xception.serving.series import Member

Told = TypeVar("Told")


def read_owners(table: Path, by: str) -> Callable[[Member], str]:
    """Whose a slice is, as the table says of its file: told of each member, "" nowhere.

    A path of the table is relative to its folder, and may name a file by its end alone where no other has that end.
    Raises InputError where the table cannot be read, lacks the columns, says two things of one file, or does not name a
    file that is asked for.
    """
    from ct_xception.corpus.tables.columns import named
    from ct_xception.corpus.tables.formats import read_table, text_of

    if not table.is_file():
        raise InputError(f"--patients: {printable(table)}: no such file; give a table of path and {by}.")
    cells = read_table(table)
    columns = {role: named(cells.columns, role) for role in ("image", "group" if by == "patient" else "series")}
    if missing := [role for role, found in columns.items() if not found]:
        wanted = "path" if missing[0] == "image" else by
        raise InputError(
            f"--patients: {printable(table)} has no column of the {wanted} "
            f"({', '.join(printable(name) for name in cells.columns)}); name one so."
        )
    paths, owners = ([text_of(value) for value in cells[found[0]]] for found in columns.values())
    owned = dict[str, str]()
    for path, owner in zip(paths, owners, strict=True):
        key = PurePosixPath(path.replace("\\", "/")).as_posix()
        if not owner or owned.setdefault(key, owner) != owner:
            said = "no" if not owner else "more than one"
            raise InputError(f"--patients: {printable(table)} says {said} {by} of {printable(path)}; mend it.")
    return lambda member: _owner_of(member, owned, table, by)


def read_rows(table: Path, columns: Sequence[str]) -> Callable[[Member], dict[str, Any] | None]:
    """What a table says of a slice's file in these columns: told of each member, None where it does not name the file.

    Paths are as in `read_owners`. Raises InputError where the table cannot be read, has no column of paths or lacks one
    of the columns, or says two things of one file.
    """
    from ct_xception.corpus.tables.columns import named
    from ct_xception.corpus.tables.formats import read_table, text_of

    if not table.is_file():
        raise InputError(f"--table: {printable(table)}: no such file; give a table of path, {', '.join(columns)}.")
    cells = read_table(table)
    known = {str(name).casefold(): name for name in cells.columns}
    paths, missing = named(cells.columns, "image"), [name for name in columns if name.casefold() not in known]
    if missing or not paths:
        raise InputError(
            f"--table: {printable(table)} has no column {printable(missing[0] if missing else 'path')!r}; it has "
            f"{', '.join(printable(str(name)) for name in cells.columns)}."
        )
    told: dict[str, dict[str, Any]] = {}
    values = {name: cells[known[name.casefold()]].tolist() for name in columns}
    for number, path in enumerate(map(text_of, cells[paths[0]])):
        row = {name: values[name][number] for name in columns}
        if told.setdefault(PurePosixPath(path.replace("\\", "/")).as_posix(), row) != row:
            raise InputError(f"--table: {printable(table)} says two things of {printable(path)}; mend it.")
    return lambda member: _of_member(member, told)


def _owner_of(member: Member, owned: dict[str, str], table: Path, by: str) -> str:
    if (owner := _of_member(member, owned)) is not None:
        return owner
    raise InputError(f"--patients: {printable(table)} does not name {printable(member.name)}, whose {by} is asked for.")


def _of_member(member: Member, told: Mapping[str, Told]) -> Told | None:
    """By the path below the table's folder, then by the longest end of it that the table names."""
    entry = member.name.rpartition("/")[2].partition("#")[0]
    inside = member.entry is not None and f"{member.folder}/{entry}"
    full = PurePosixPath(inside or member.path.absolute().as_posix())
    for start in range(len(full.parts)):
        if (found := told.get(PurePosixPath(*full.parts[start:]).as_posix())) is not None:
            return found
    return None
