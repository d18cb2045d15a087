"""Checkpoint folders that somebody changed: each is refused with one sentence, quickly, or answers as it did before."""

from __future__ import annotations

import copy
import json
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from ct_xception.checkpoint import CONFIG, DRIFT, GATE, OWN_TYPE, POOLING, SIDE_FILE, WEIGHTS
from ct_xception.checkpoint_files import Side, need_side, read_side, seal, write_side
from ct_xception.errors import CheckpointError
from ct_xception.serving.checkpoint import open_checkpoint
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.drift import TRAITS
from ct_xception.statistics.attention import ARRAYS
from ct_xception.statistics.pooling import ATTENTION
from tests.gates import add_gate

NAMES = ["adenocarcinoma", "large cell carcinoma", "normal", "squamous cell carcinoma"]
RULES: dict[str, Any] = {
    "input": {"body_crop": True, "filters": ["median"], "window": {"centre": -600, "width": 1500}},
    "temperature": 1.5,
    "conformal": {"method": "lac", "coverage": 0.9, "threshold": 0.7, "n": 72},
    "operating_points": [
        {"name": "normal: as asked", "positive": ["normal"], "threshold": 0.25, "chosen_for": "as asked", "n": 72}
    ],
    "class_groups": {"cancer": [name for name in NAMES if name != "normal"]},
    "abstention": {"threshold": 0.5},
    "output_temperature": 1.2,
    "drift": {"version": 1, "units_each": 1.5, "n_patients": {"traits": 30, "features": 20}},
}
# What a version tells of those before it, of its search and of what it learnt from without labels.
CORPUS: dict[str, Any] = {
    "source": "phantom", "kind": "phantom", "hash": "0" * 64, "counts": {"train": {"normal": 9}},
    "groups": {"origin": "column patient"}, "notes": ["none"],
    "tabular": {"columns": ["age"], "missing": {"age": {"train": 1}}, "images": {"train": 9}},
}  # fmt: skip
SPLIT: dict[str, Any] = {"name": "0ff1ce", "protocol": "made", "seed": 0, "fractions": [0.7, 0.15, 0.15]}
REPLAY: dict[str, Any] = {"corpora": [{"corpus": CORPUS, "split": SPLIT}], "images": 3, "share": 0.1}
TOLD: dict[str, Any] = {
    "corpus": CORPUS, "split": SPLIT, "replay": REPLAY, "version": 2, "went_on_from": {"name": "a", "revision": None},
    "lineage": [{"name": "a", "version": 1, "corpus": CORPUS, "split": SPLIT, "replay": REPLAY}],
    "site": {"kind": "adapted", "name": "clinic"},
    "search": {
        "space": {"lr": "0.1 to 1"}, "objectives": ["loss"], "sampler": "tpe", "pruner": "none", "epochs": 3,
        "trials": {"COMPLETE": 3}, "winner": 1, "verdict": ["it is better"],
    },
    "unlabelled": {"corpora": [CORPUS], "images": 9, "ratio": 7.0, "weight": 1.0, "kept": 0.5, "threshold": 0.95},
    "soup": {
        "metric": "loss", "n": 9,
        "ingredients": [{"name": one, "weights_sha256": "0" * 64, "figure": 0.5, "kept": True} for one in "ab"],
    },
}  # fmt: skip
COLUMNS: dict[str, Any] = {
    "version": 1,
    "columns": [
        {"name": "age", "kind": "number", "mean": 60.0, "deviation": 10.0},
        {"name": "sex", "kind": "category", "values": ["F", "M"]},
    ],
}
# What stands in the place of a value: JSON texts, since no Python value gives some of them.
WRONG = (
    "null", "true", "-1", "0", "1e-300", "1000000000", "1" + "0" * 400, "1e999", "NaN", "-Infinity", '"x"', '""',
    '"\\u0000\\ud800"', "[]", "{}", "[[]]", '{"a": 1, "a": 2}', "[" * 10_000 + "]" * 10_000, "[" * 300 + "]" * 300,
    json.dumps(["x"] * 100_000), json.dumps("x" * 100_000), json.dumps({str(index): index for index in range(20_000)}),
)  # fmt: skip
MARK = "__here__"


@pytest.fixture(scope="module")
def whole(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed checkpoint with every kind of rule; not to be changed."""
    folder = tmp_path_factory.mktemp("whole") / "model"
    shutil.copytree(tiny_checkpoint, folder)
    add_gate(folder, **RULES)
    side = need_side(folder)
    told = side.provenance.to_json() | TOLD
    pooling = {"version": 1, "unit": "patient", "method": ATTENTION, "temperature": 1.0, "losses": {ATTENTION: 0.5}}
    write_side(folder, side.with_(provenance=told, pooling=pooling))
    _write_arrays(folder)
    seal(folder)
    return folder


def _write_arrays(folder: Path) -> None:
    """What drift and pooling by attention keep beside the side file."""
    rng = np.random.default_rng(0)
    drift = {"traits": rng.normal(size=(len(TRAITS), 30)), "features": rng.normal(size=(3, 20))}
    save_arrays({name: array.astype(np.float32) for name, array in drift.items()}, folder / DRIFT)
    shapes = dict(zip(ARRAYS, [(4, 2048), (4,), (4, 2048), (4,), (4,)], strict=True))
    pooling = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    save_arrays(pooling, folder / POOLING)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil; the weights are linked until they are replaced."""
    copied = tmp_path / "model"
    shutil.copytree(whole, copied, ignore=shutil.ignore_patterns(WEIGHTS))
    (copied / WEIGHTS).symlink_to(whole / WEIGHTS)
    return copied


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a JSON document, the document's own first."""
    yield path
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def replaced(document: Any, path: tuple[Any, ...], text: str | None) -> str:
    """The document's text with JSON `text` at a path; None takes the key or item away."""
    if not path:
        return text or ""
    changed = copy.deepcopy(document)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    if text is None:
        del parent[path[-1]]
        return json.dumps(changed)
    parent[path[-1]] = MARK
    return json.dumps(changed).replace(json.dumps(MARK), text, 1)


def opens(folder: Path) -> bool:
    """Whether a folder still opens; anything but a CheckpointError of one sentence fails the test."""
    begun = time.process_time()
    try:
        open_checkpoint(folder)
        return True
    except CheckpointError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return False
    finally:
        assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("file", "more"),
    [
        (CONFIG, {}),
        (CONFIG, {"model_type": OWN_TYPE, "head": "attention", "attention": "se", "tabular": COLUMNS}),
        (SIDE_FILE, {}),
    ],
    ids=["stock config", "own config", "side file"],
)
def test_every_value_of_every_wrong_kind(file: str, more: dict[str, str], folder: Path) -> None:
    """Without manifest and seal, which would refuse each of them at once: the schema alone is asked."""
    write_side(folder, need_side(folder).with_(manifest={}))
    document, chance = json.loads((folder / file).read_text()) | more, random.Random(0)
    (folder / file).write_text(json.dumps(document))
    assert opens(folder)
    tried = refused = 0
    for path in places(document):
        for text in (None, *(WRONG if len(path) < 2 else chance.sample(WRONG, 3))):
            (folder / file).write_text(replaced(document, path, text), encoding="utf-8", errors="surrogatepass")
            tried, refused = tried + 1, refused + (not opens(folder))
    assert tried > 200 and refused > tried / 2


@pytest.mark.parametrize("key", ["num_labels", "num_classes"])
def test_a_thousand_million_classes_are_never_made(key: str, folder: Path) -> None:
    write_side(folder, need_side(folder).with_(manifest={}))
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {key: 10**9}))
    with pytest.raises(CheckpointError, match=f"{key} does not agree with the rest"):
        Classifier.from_pretrained(folder)


def test_keys_that_nobody_knows_act_on_nothing(folder: Path, sample_slices: list[Path]) -> None:
    """transformers itself would act on each of these."""
    write_side(folder, need_side(folder).with_(manifest={}))
    before = Classifier.from_pretrained(folder)(sample_slices[0]).probabilities
    config = json.loads((folder / CONFIG).read_text())
    more: dict[str, Any] = {
        "quantization_config": {"quant_method": "x"},
        "dtype": "float64",
        "auto_map": {"a": "b--c.d"},
    }
    more |= {"num_hidden_layers": [], "return_dict": "no", "do_pooling": 7, "architectures": [3]}
    (folder / CONFIG).write_text(json.dumps(config | more))
    assert Classifier.from_pretrained(folder)(sample_slices[0]).probabilities == before


def test_a_side_file_of_a_later_version_keeps_what_is_unknown(folder: Path) -> None:
    side = Side.of(need_side(folder).to_json() | {"oracle": {"answer": 42}})
    write_side(folder, side.with_(temperature=2.0))
    found = read_side(folder)
    assert found is not None and found.to_json()["oracle"] == {"answer": 42} and found.temperature == 2.0


def test_single_flipped_bits_of_the_rules_are_refused(folder: Path) -> None:
    whole, chance = (folder / SIDE_FILE).read_bytes(), random.Random(0)
    before = json.loads(whole)
    for _ in range(300):
        flipped = bytearray(whole)
        flipped[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
        (folder / SIDE_FILE).write_bytes(flipped)
        if opens(folder):  # a space that became another one
            assert json.loads(flipped) == before


def test_a_folder_sealed_by_an_older_version_says_so(folder: Path) -> None:
    side = json.loads((folder / SIDE_FILE).read_text())
    del side["seal"]
    (folder / SIDE_FILE).write_text(json.dumps(side | {"format": 1}))
    assert open_checkpoint(folder).notes == (
        "an older version sealed it: a changed rule in ct_xception.json would not be noticed",
    )


@pytest.mark.parametrize("file", [DRIFT, POOLING])
def test_arrays_beside_the_rules_are_sealed_and_read_with_care(file: str, folder: Path) -> None:
    arrays = (folder / file).read_bytes()
    (folder / file).write_bytes(arrays[:-1] + bytes([arrays[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=f"{file} differs from the SHA-256"):
        open_checkpoint(folder)
    write_side(folder, need_side(folder).with_(manifest={}))
    tensors = {name: array.numpy() for name, array in load_file(folder / file).items()}
    first = next(iter(tensors))
    wrong: list[dict[str, Any]] = [{first: np.full_like(tensors[first], value)} for value in (np.nan, np.inf)]
    for change in (*wrong, {first: np.zeros(1, np.float32)}, {first: np.zeros((0, 0), np.float32)}):
        save_arrays(tensors | change, folder / file)
        assert not opens(folder)
    (folder / file).unlink()
    assert not opens(folder)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff" * 8 + b"{}", (2**40).to_bytes(8, "little") + b"{}", b"\0" * 64]
)
@pytest.mark.parametrize("file", [WEIGHTS, GATE])
def test_a_header_that_is_none(file: str, content: bytes, folder: Path) -> None:
    write_side(folder, need_side(folder).with_(manifest={}))
    (folder / file).unlink()
    (folder / file).write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be loaded|missing or damaged|more than is read"):
        Classifier.from_pretrained(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, folder: Path) -> None:
    write_side(folder, need_side(folder).with_(manifest={}, gate=None))
    tensors = load_file(folder / WEIGHTS)
    tensors["block5.rep.1.pointwise.weight"][3, 1] = value
    (folder / WEIGHTS).unlink()
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"values that are not finite \(in .*block5.rep.1.pointwise.weight\)"):
        Classifier.from_pretrained(folder)


def test_a_network_that_gives_no_number_gives_no_answer(folder: Path, sample_slices: list[Path]) -> None:
    """Weights that are finite may still overflow."""
    classifier = Classifier.from_pretrained(folder, gate=False)
    with torch.no_grad():
        classifier.model.head.bias.fill_(np.finfo(np.float32).max)
        classifier.model.head.weight.fill_(np.finfo(np.float32).max)
    with pytest.raises(CheckpointError, match="values that are not finite"):
        classifier(sample_slices[0])
