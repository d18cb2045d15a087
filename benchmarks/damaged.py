"""Files damaged at random, and hostile ones, given to the command line and to the HTTP route: what comes of each?

    python -m benchmarks.damaged CHECKPOINT [FOLDER] [--each 45] [--store]

A phantom's slice is stored in two dozen formats; each file is damaged `--each` times by turns: bytes changed, the rest
cut off, a number of its head replaced. With them go the costly and broken files of `tests/imaging/hostile.py` and those
of FOLDER. Right is one sentence that refuses, or the whole file's own class; another class must come with a word: an
abstention, a doubt of the gate, or a note that the whole file has not. "Wrong" is another exception or status, a
figure that is none, a sentence of several lines, no answer in 10 s, and whatever else is said on stderr.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from benchmarks.load import phantom_slices, served
from benchmarks.results import store
from tests.imaging.hostile import BROKEN, COSTLY, seeds

SLOWEST = 10.0  # seconds, of a machine that others use too
WORDS = re.compile(r"^ct-xception: [^\n]+\.$")
LEFT = re.compile(r"Traceback|Warning|site-packages|\.so\b|0x[0-9a-f]{6}")
COLUMNS = ("refused", "as whole", "other, said", "other, unsaid", "wrong")


@dataclass(frozen=True)
class Answer:
    """What came of one file: its class, None where it was refused; the words that came with it; what is wrong."""

    label: str | None
    words: frozenset[str] = frozenset()
    wrong: str = ""


def damaged(content: bytes, chance: np.random.Generator, turn: int) -> bytes:
    """A file with one to six bytes changed, or cut, or with two or four bytes of its head replaced by a number."""
    place = int(chance.integers(len(content)))
    if turn % 3 == 1:
        return content[:place]
    changed = bytearray(content)
    if turn % 3 == 2:
        number, width = (2 ** int(chance.integers(32)) - int(chance.integers(2))), int(chance.choice([2, 4]))
        place = int(chance.integers(min(len(content), 900)))
        changed[place : place + width] = (number % 256**width).to_bytes(width, str(chance.choice(["little", "big"])))
        return bytes(changed)
    for _ in range(int(chance.integers(1, 7))):
        changed[int(chance.integers(len(content)))] = int(chance.integers(256))
    return bytes(changed)


def write_files(folder: Path, grey: NDArray[np.uint8], each: int, given: Path | None) -> dict[str, list[Path]]:
    """The files on disk: {"whole", "damaged", "costly", "broken", "given"}; a damaged one begins with its seed."""
    chance, made = np.random.default_rng(0), seeds(grey)
    contents: dict[str, Iterator[tuple[str, bytes]]] = {
        "whole": iter(made.items()),
        "damaged": (
            (f"{turn:03}-{name}", damaged(content, chance, turn))
            for name, content in made.items()
            for turn in range(each)
        ),
        "costly": ((name.replace(" ", "_"), make()) for name, make in COSTLY.items()),
        "broken": ((name.replace(" ", "_"), make()) for name, make in BROKEN.items()),
    }
    files: dict[str, list[Path]] = {}
    for kind, parts in contents.items():
        (folder / kind).mkdir()
        for name, content in parts:
            (folder / kind / name).write_bytes(content)
            files.setdefault(kind, []).append(folder / kind / name)
    if given is not None:
        files["given"] = [path for path in sorted(given.iterdir()) if path.suffix not in (".md", ".py", ".zip")]
    return files


def ask_command(checkpoint: str, paths: Sequence[Path]) -> dict[Path, Answer]:
    """One run of `ct-xception predict` over the files: what its JSON and its stderr say of each."""
    command = [str(Path(sys.executable).with_name("ct-xception")), "predict", "--model", checkpoint, "--json"]
    done = subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, check=False)
    answers = json.loads(done.stdout, parse_constant=_no_number) if done.stdout else []
    lines = done.stderr.splitlines()
    strange = [line for line in lines if not _is_ours(line)]
    if strange or done.returncode not in (0, 2, 3):
        print(done.returncode, *strange, sep="\n")
    found = {path: _of_command(path, answers, lines) for path in paths}
    return found | ({paths[0]: Answer(None, wrong=f"said {strange[0]!r}")} if strange else {})


def _is_ours(line: str) -> bool:
    spoken = WORDS.match(line) or line.startswith("For research use only") or line.endswith("inputs refused.")
    return bool(spoken) and not LEFT.search(line)


def _of_command(path: Path, answers: Sequence[Mapping[str, Any]], lines: Sequence[str]) -> Answer:
    own = [one for one in answers if one["source"].partition("#")[0] == str(path)]
    labels = [one["label"] for one in own if one["label"] is not None]
    if not own and not any(str(path) in line for line in lines):
        return Answer(None, wrong="neither answered nor refused")
    if not labels:
        return Answer(None)
    said = {note for one in own for note in one["notes"]} | {reason for one in own for reason in _doubts(one)}
    if len(labels) < len(own):
        said.add("some of its slices are refused")
    return Answer(labels[0], frozenset(said | {"abstains" for one in own if one.get("abstained")}))


def _doubts(record: Mapping[str, Any]) -> list[str]:
    return list(record.get("gate", {}).get("reasons", []))


def _no_number(text: str) -> float:
    raise ValueError(f"{text} in JSON")


def ask_route(url: str, paths: Sequence[Path]) -> dict[Path, Answer]:
    """Each file posted by itself; the first slice of several."""
    with httpx.Client(timeout=60) as client:
        return {path: _of_route(client, url, path) for path in paths}


def _of_route(client: httpx.Client, url: str, path: Path) -> Answer:
    began = time.monotonic()
    found = client.post(f"{url}/image-classification", content=path.read_bytes())
    seconds = time.monotonic() - began
    if found.status_code not in (200, 400, 413, 422) or seconds > SLOWEST:
        return Answer(None, wrong=f"{found.status_code} after {seconds:.1f} s")
    told = json.loads(found.text, parse_constant=_no_number)
    if found.status_code == 200:
        first = told[0]
        said = {*first.get("notes", []), *first.get("doubtful", []), *(["abstains"] if first.get("abstained") else [])}
        return Answer(first["label"], frozenset(said))
    sentence = told["error"]
    strange = "\n" in sentence or LEFT.search(sentence) or not sentence.endswith(".")
    return Answer(None, wrong=f"said {sentence!r}" if strange else "")


def judge(found: Mapping[Path, Answer], whole: Mapping[str, Answer]) -> Counter[str]:
    """How many files came to what, by COLUMNS; `whole` is {name of the seed: answer}."""
    counts: Counter[str] = Counter()
    for path, answer in found.items():
        own = whole.get(path.name.partition("-")[2])
        if answer.wrong:
            kind = "wrong"
        elif answer.label is None:
            kind = "refused"
        elif own is None or own.label is None or answer.label == own.label:
            kind = "as whole" if own is not None else "other, said"
        else:
            kind = "other, said" if answer.words - own.words else "other, unsaid"
        counts[kind] += 1
        if kind in COLUMNS[3:]:
            print(kind, path.name, answer, flush=True)
    return counts


def main() -> int:
    """Ask both doors of all files, print what is wrong, and the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.damaged", description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("folder", metavar="FOLDER", nargs="?", type=Path)
    parser.add_argument("--each", type=int, default=45, help="times that each format is damaged")
    parser.add_argument("--store", action="store_true", help="put the table into RESULTS.md")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch, served(options.checkpoint) as url:
        files = write_files(Path(scratch), phantom_slices()[0], options.each, options.folder)
        for door, ask in (("`predict`", lambda paths: ask_command(options.checkpoint, paths)),
                          ("HTTP route", lambda paths: ask_route(url, paths))):  # fmt: skip
            whole = {path.name: answer for path, answer in ask(files["whole"]).items()}
            print(door, {name: answer.label for name, answer in whole.items()})
            for kind in list(files)[1:]:
                counts = judge(ask(files[kind]), whole)
                rows.append(
                    f"| {door} | {kind} | {len(files[kind])} | " + " | ".join(str(counts[c]) for c in COLUMNS) + " |"
                )
                print(rows[-1], flush=True)
    given = shlex.join(["python", "-m", "benchmarks.damaged", "CHECKPOINT", *sys.argv[2:]])
    head = f"| door | files | tried | {' | '.join(COLUMNS)} |\n|---|---|---:" + "|---:" * len(COLUMNS) + "|\n"
    table = f"`{given}`, {time.strftime('%Y-%m-%d', time.gmtime())}\n\n{head}" + "\n".join(rows)
    print(table)
    if options.store:
        store("damaged files", table)
    return int(any(not row.endswith("| 0 |") for row in rows))


if __name__ == "__main__":
    sys.exit(main())
