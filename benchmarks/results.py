"""The committed tables: RESULTS.md, in which every program replaces what stands between its own marks."""

from __future__ import annotations

from pathlib import Path

from ct_xception.files import write_atomically

RESULTS = Path(__file__).with_name("RESULTS.md")


def store(name: str, table: str) -> None:
    """Put a table between the marks of this name, which get a section of their own the first time."""
    text = RESULTS.read_text(encoding="utf-8")
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    if begin not in text:
        text += f"\n## {name.capitalize()}\n\n{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    write_atomically(RESULTS, f"{before}{begin}\n{table}\n{end}{after}")
