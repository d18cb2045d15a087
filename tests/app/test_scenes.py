"""What the viewer is sent: the reader's own values, for as long as uploads are kept, to those who hold the token."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ct_xception_app import scenes
from ct_xception_app.limits import KEPT_SECONDS, SHOWN_SIDE
from ct_xception_app.scenes import SLICES, SliceStore, Wish, pack, pack_map, read_past, read_wish
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from ct_xception.errors import InputError
from ct_xception.explain.explain import explain
from ct_xception.explain.overlay import readable
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.windows import Window
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.series import gather


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint: Path) -> Classifier:
    return Classifier.from_pretrained(tiny_checkpoint)


@pytest.fixture
def store(classifier: Classifier) -> SliceStore:
    return SliceStore(classifier)


def unpack(content: bytes) -> tuple[dict[str, Any], np.ndarray]:
    """Header and codes, as the viewer reads them."""
    (length,) = struct.unpack("<L", content[:4])
    header = json.loads(content[4 : 4 + length])
    codes = np.frombuffer(content, {16: "<u2", 8: "u1"}[header["bits"]], offset=4 + length)
    return header, codes.reshape(header["height"], header["width"])


def test_codes_are_the_values_in_hu(sample_series: list[Path]) -> None:
    slice_ = read_slice(sample_series[0], keep_values=True)
    header, codes = unpack(pack(slice_))
    assert slice_.values is not None and (header["scale"], header["hu"], header["window"]) == (1.0, True, [40, 400])
    assert np.array_equal(header["offset"] + codes.astype(float) - 1, slice_.values)
    assert header["spacing"] == 0.8 and header["plane"] == slice_.plane


def test_what_has_no_value_is_0_and_fractions_keep_65534_levels(sample_series: list[Path]) -> None:
    slice_ = read_slice(sample_series[0], keep_values=True)
    assert slice_.values is not None
    slice_.values[:] = np.linspace(-0.25, 0.5, slice_.values.size).reshape(slice_.values.shape)
    slice_.values[0, 0] = np.nan
    header, codes = unpack(pack(slice_))
    assert codes[0, 0] == 0 and codes[-1, -1] == 65535
    told = header["offset"] + header["scale"] * (codes.astype(float) - 1)
    assert np.nanmax(np.abs(told - slice_.values)[codes > 0]) <= header["scale"]


def test_an_8_bit_picture_is_its_grey_levels_and_a_large_one_is_shrunk(
    sample_slices: list[Path], tmp_path: Path
) -> None:
    header, codes = unpack(pack(read_slice(sample_slices[0], keep_values=True)))
    assert header["bits"] == 8 and np.array_equal(codes, read_slice(sample_slices[0]).pixels)
    Image.fromarray(np.full((900, 3 * SHOWN_SIDE), 90, np.uint8)).save(tmp_path / "film.png")
    header, codes = unpack(pack(read_slice(tmp_path / "film.png", keep_values=True)))
    assert (header["height"], header["width"], header["full"]) == (300, SHOWN_SIDE, [900, 3 * SHOWN_SIDE])
    assert (codes == 90).all()


def test_a_token_gives_its_slices_until_they_are_gone(
    store: SliceStore, sample_series: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = [Path(shutil.copy(path, tmp_path)) for path in sample_series]
    (series,) = gather(mine)
    token, other = store.put(series), store.put(series, for_ever=True)
    client = TestClient(Starlette(routes=[Route(SLICES, store.respond)]))
    header, _ = unpack(client.get(f"/slices/{token}/0").content)
    assert header["hu"] and token != other
    for wrong in (f"{'0' * 32}/0", f"{token}/5", f"{token}/99999"):
        assert client.get(f"/slices/{wrong}").json()["error"].startswith("These slices are no longer kept")
    mine[0].write_bytes(b"no picture")
    bad = client.get(f"/slices/{token}/4")
    assert bad.status_code == 422 and "neither DICOM" in bad.json()["error"]
    now = scenes.time.monotonic()
    monkeypatch.setattr(scenes.time, "monotonic", lambda: now + KEPT_SECONDS + 1)
    assert client.get(f"/slices/{token}/1").status_code == 404 and client.get(f"/slices/{other}/1").status_code == 200
    mine[1].unlink()
    assert client.get(f"/slices/{other}/3").status_code == 404


def test_the_store_is_bounded(store: SliceStore, sample_slices: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "KEPT_CASES", 2)
    (series,) = gather(sample_slices[:1])
    first, *rest = [store.put(series) for _ in range(3)]
    with pytest.raises(KeyError):
        store.slice_bytes(first, 0)
    assert all(store.slice_bytes(token, 0) for token in rest)


def test_a_map_is_sent_as_it_is_drawn(classifier: Classifier, sample_slices: list[Path]) -> None:
    found = explain(classifier, classifier.read(sample_slices[0]), method="integrated_gradients")
    told = pack_map(found)
    levels = np.frombuffer(gzip.decompress(base64.b64decode(told["levels"])), "<i2")
    expected = np.rint(readable(found.attribution) * 255)
    assert np.array_equal(levels.reshape(told["height"], told["width"]), expected)
    top, left, bottom, right = told["seen"]
    assert 0 <= top < bottom <= 1 and 0 <= left < right <= 1 and (top, left, bottom, right) != (0, 0, 1, 1)


def test_a_wish_is_read_or_passed_over() -> None:
    assert read_wish('{"case": "a", "index": 3, "window": [40, 400]}') == Wish("a", 3, Window(40, 400))
    assert read_wish('{"case": "a", "index": 3, "window": null}') == Wish("a", 3, None)
    deep, endless = "[" * 100_000, '{"case": "a", "unit": Infinity}'
    for text in (deep, endless, "7", '{"past": 1e999}'):
        assert read_wish(text) is None and read_past(text) is None
    for text in ("", None, "[]", "{}", '{"case": "a", "index": 3, "window": [1]}', '{"case": 1, "index": "x"}'):
        assert read_wish(text) is None
    with pytest.raises(InputError, match="window width"):
        read_wish('{"case": "a", "index": 3, "window": [40, -1]}')
