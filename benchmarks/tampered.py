"""Checkpoint folders that somebody changed: what does opening each of them cost, and what is said?

    python -m benchmarks.tampered CHECKPOINT [--store]

Copies of a checkpoint, one thing changed in each: a value of its JSON files (their seal and manifest taken away, so
that the schema is asked and not the hash), its weights, its gate, an ONNX file; and, sealed, single bits. One process,
in which the whole checkpoint was opened before, opens them one after the other. Right is one sentence, or the whole
checkpoint's own answer; "wrong" is any other exception or answer.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

from benchmarks.load import phantom_slices
from benchmarks.results import store
from ct_xception.checkpoint import CONFIG, GATE, ONNX, SIDE_FILE, WEIGHTS

Change = Callable[[Path], None]

CHILD = """
import json, sys, time
import numpy as np
from ct_xception.errors import CheckpointError, InputError
from ct_xception.serving.classifier import Classifier
def peak():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) // 1024
whole, *folders = sys.argv[2:]
expected = Classifier.from_pretrained(whole)(sys.argv[1]).to_dict()
import onnxruntime
for folder in folders:
    with open("/proc/self/clear_refs", "w") as reset: reset.write("5")
    before, busy = peak(), time.process_time()
    try:
        found = Classifier.from_pretrained(folder, "onnx" if "onnx" in folder else "torch")
        said = "answered" if found(sys.argv[1]).to_dict() == expected else "wrong: another answer"
    except (CheckpointError, InputError) as error:
        said = ("refused: " if "\\n" not in str(error) and len(str(error)) < 600 else "wrong: ") + str(error)
    except BaseException as error: said = "wrong: " + repr(error)
    found = None
    print(json.dumps([time.process_time() - busy, peak() - before, said]), flush=True)
"""

MANY, DEEP = json.dumps(["x"] * 200_000), "[" * 50_000 + "]" * 50_000
IN_CONFIG = {
    "num_labels": ["1000000000", "-1"], "num_classes": ["1000000000"],
    "architecture": ['"hf-hub:x/y"', '"resnet50"', DEEP],
    "model_args": ['{"num_classes": 1000000000}', '{"x": ' + DEEP + "}", "[]"], "label_names": [MANY, '["a"]', "7"],
    "pretrained_cfg.input_size": ["[3, 100000, 100000]", "[3, -1, 96]", '"96"', "[]", DEEP], "id2label": ['{"9": "x"}'],
    "pretrained_cfg.crop_pct": ["1e9", "0", "-1", "NaN", '"x"', "1e999"], "pretrained_cfg.interpolation": ['"x"', "3"],
    "pretrained_cfg.mean": ["[1e400, 0, 0]", MANY], "pretrained_cfg.std": ["[0, 0, 0]"],
    "pretrained_cfg": ["null", DEEP], "model_type": ['"bert"', DEEP],
}  # fmt: skip
IN_SIDE = {
    "temperature": ["0", "-1", "NaN", "1e-400", '"1"'], "input.filters": [MANY, '["sharpen"]', DEEP],
    "format": ["99", DEEP], "input.body_crop": ['"yes"', "2"], "conformal.threshold": ["-1", "1e300"],
    "operating_points": [MANY, '[{"name": 1}]'], "gate.refused": ["NaN", "0", "1e999"],
    "gate.signs": ["[]"], "gate.method": ["7"], "abstention.threshold": ["2"],
    "class_groups": ['{"x": ["nobody"]}', DEEP], "provenance": ["[]"], "input.steps": ["[]"],
}  # fmt: skip


def _unsealed(folder: Path) -> dict[str, Any]:
    stated = json.loads((folder / SIDE_FILE).read_text())
    kept = {key: value for key, value in stated.items() if key not in ("manifest", "seal")}
    (folder / SIDE_FILE).write_text(json.dumps(kept))
    return kept


def _value(file: str, key: str, text: str) -> Change:
    def change(folder: Path) -> None:
        _unsealed(folder)
        document = json.loads((folder / file).read_text())
        part = document
        *path, last = key.split(".")
        for name in path:
            part = part.setdefault(name, {})
        part[last] = "__here__"
        (folder / file).write_text(json.dumps(document).replace('"__here__"', text, 1))

    return change


def _tensors(file: str, alter: Callable[[dict[str, Any]], Any]) -> Change:
    def change(folder: Path) -> None:
        _unsealed(folder)
        tensors = load_file(folder / file)
        alter(tensors)
        _replace(folder / file, lambda path: save_file(tensors, path, metadata={"format": "pt"}))

    return change


def _first(tensors: dict[str, Any]) -> str:
    return next(name for name, values in tensors.items() if values.dtype.kind == "f")


def _bytes(file: str, content: Callable[[bytes], bytes]) -> Change:
    def change(folder: Path) -> None:
        _unsealed(folder)
        before = (folder / file).read_bytes() if (folder / file).exists() else b""
        _replace(folder / file, lambda path: path.write_bytes(content(before)))

    return change


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)  # it is a link to the whole checkpoint's
    write(path)


def _flipped(file: str, seed: int) -> Change:
    def change(folder: Path) -> None:
        content, chance = bytearray((folder / file).read_bytes()), random.Random(seed)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        _replace(folder / file, lambda path: path.write_bytes(bytes(content)))

    return change


def _header(told: dict[str, Any], size: int | None = None) -> Callable[[bytes], bytes]:
    text = json.dumps(told).encode()
    return lambda _: struct.pack("<Q", len(text) if size is None else size) + text


def changes() -> Iterator[tuple[str, Change]]:
    """(name, what is done to a copy of the checkpoint)."""
    for file, values in ((CONFIG, IN_CONFIG), (SIDE_FILE, IN_SIDE)):
        for key, texts in values.items():
            yield from ((f"{file}-{key}-{number}", _value(file, key, text)) for number, text in enumerate(texts))
        for name, content in {
            "long": b" " * 2**26,
            "deep": DEEP.encode(),
            "cut": b"{",
            "none": b"",
            "list": b"[]",
        }.items():
            yield f"{file}-{name}", _bytes(file, lambda _, content=content: content)
        yield from ((f"{file}-bit-{seed}", _flipped(file, seed)) for seed in range(10))
    big = {"x": {"dtype": "F32", "shape": [10**9, 1000], "data_offsets": [0, 4 * 10**12]}}
    for file in (WEIGHTS, GATE):
        yield f"{file}-bit", _flipped(file, 0)
        for number, value in enumerate((np.nan, np.inf)):
            yield f"{file}-not-finite-{number}", _tensors(file, lambda t, v=value: t[_first(t)].fill(v))
        yield f"{file}-lacks-one", _tensors(file, lambda tensors: tensors.pop(_first(tensors)))
        yield f"{file}-has-more", _tensors(file, lambda tensors: tensors.update(x=np.zeros(3, np.float32)))
        yield f"{file}-shape", _tensors(file, lambda t: t.update({_first(t): np.zeros(1, np.float32)}))
        yield f"{file}-cut", _bytes(file, lambda content: content[: len(content) // 2])
        yield f"{file}-declares-4-TB", _bytes(file, _header(big))
        yield f"{file}-header-of-1-TB", _bytes(file, _header({}, 2**40))
        yield f"{file}-pickled", _bytes(file, lambda _: b"\x80\x04\x95" + bytes(100))
    for name, content in {"noise": bytes(range(256)) * 99, "none": b"", "fields": b"\x3a\x00" * 10**6}.items():
        yield f"{ONNX.replace('/', '-')}-{name}", _bytes(ONNX, lambda _, content=content: content)


def _write_folders(scratch: Path, checkpoint: Path) -> list[str]:
    names = []
    for name, change in changes():
        folder = scratch / name
        shutil.copytree(checkpoint, folder, ignore=shutil.ignore_patterns("evaluation", WEIGHTS))
        (folder / WEIGHTS).symlink_to((checkpoint / WEIGHTS).resolve())
        change(folder)
        names.append(name)
    return names


def main() -> int:
    """Open every folder, print a line each, and the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tampered", description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path)
    parser.add_argument("--store", action="store_true", help="put the table into RESULTS.md")
    options = parser.parse_args()
    rows: dict[str, list[tuple[float, int, str]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        slice_ = Path(scratch) / "slice.png"
        Image.fromarray(phantom_slices()[0]).save(slice_)
        names = _write_folders(Path(scratch), options.checkpoint)
        given = [
            str(slice_),
            str(options.checkpoint),
            *(str(Path(scratch) / name) for name in names),
        ]
        done = subprocess.run([sys.executable, "-c", CHILD, *given], capture_output=True, text=True, check=False)
        for name, line in zip(names, done.stdout.splitlines(), strict=False):
            seconds, megabytes, said = json.loads(line)
            print(f"{seconds:6.2f} s {megabytes:5} MB  {name}: {said.replace(scratch, '')[:150]}")
            rows.setdefault("JSON files" if ".json" in name else "other files", []).append((seconds, megabytes, said))
        if done.returncode or len(done.stdout.splitlines()) < len(names):
            print(done.returncode, done.stderr[-2000:])
            return 1
    return _report(rows, options.store)


def _report(rows: dict[str, list[tuple[float, int, str]]], keep: bool) -> int:
    lines = [
        f"`python -m benchmarks.tampered CHECKPOINT`, {time.strftime('%Y-%m-%d', time.gmtime())}", "",
        "| changed | folders | refused | answered as before | wrong | most s of processor | most MB above idle |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for kind, told in rows.items():
        counts = [sum(said.startswith(word) for *_, said in told) for word in ("refused", "answered", "wrong")]
        most = f"{max(one[0] for one in told):.2f} | {max(one[1] for one in told)}"
        lines.append(f"| {kind} | {len(told)} | {' | '.join(map(str, counts))} | {most} |")
    print("\n".join(lines))
    if keep:
        store("tampered folders", "\n".join(lines))
    return int(any(said.startswith("wrong") for told in rows.values() for *_, said in told))


if __name__ == "__main__":
    sys.exit(main())
