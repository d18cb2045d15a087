"""The page that answers in the browser, in a real Chromium beside Python on the same slices."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import io
import json
import os
import shutil
import ssl
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import safetensors.numpy
from PIL import Image, PngImagePlugin
from pydicom.uid import ImplicitVRLittleEndian

from ct_xception.cli import main
from ct_xception.errors import InputError
from ct_xception.files import write_json
from ct_xception.formats.onnx import describe, write_onnx
from ct_xception.imaging.body.crop import crop_body, otsu_threshold
from ct_xception.imaging.preprocessing import INTERPOLATIONS, Preprocessing
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window, apply_window
from ct_xception.phantom.corpus import phantom_slice
from ct_xception.phantom.dicom import write_dicom
from ct_xception.publish.hosted.browser_space import (
    HUB_STORAGE,
    ORT_CDN,
    ORT_FILES,
    ORT_VERSION,
    _pooling,
    browser_space_files,
    site_files,
    write_site,
)
from ct_xception.serving.classifier import Classifier, Prediction
from ct_xception.serving.decisions import Pooling
from ct_xception.serving.gate import has_lungs
from ct_xception.serving.pooling import AGGREGATIONS
from ct_xception.serving.text import describe_abstention, describe_decision
from ct_xception.statistics.pooling import pool_slices
from ct_xception.text import RESEARCH_USE, percent
from tests.app.conftest import CHROMIUM, FLAGS
from tests.closeness import assert_near
from tests.sealed import copy_checkpoint

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

pytestmark = pytest.mark.browser
SCREENSHOTS = Path(__file__).resolve().parents[2] / "screenshots"
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
BINARY = (".onnx", ".wasm", ".safetensors", ".png")
PATIENCE = 90_000  # milliseconds; a loaded machine is slow, not wrong
NAMES = ("adenocarcinoma", "large cell carcinoma", "normal", "squamous cell carcinoma")
NORMAL = {"input_size": (3, 64, 64), "mean": (0.5, 0.45, 0.4), "std": (0.5, 0.25, 0.2)}
CANCERS = [name for name in NAMES if name != "normal"]
POINTS = [
    {"name": "cancer", "positive": CANCERS, "threshold": 0.8, "chosen_for": "sensitivity", "kind": "group"},
    {"name": "normal", "positive": ["normal"], "threshold": 0.2, "chosen_for": "specificity", "kind": "class"},
]
RULES = {
    "temperature": 1.25,
    "conformal": {"method": "aps", "coverage": 0.9, "threshold": 0.75, "n": 20, "n_groups": 10},
    "class_groups": {"cancer": CANCERS},
    "operating_points": POINTS,
    "abstention": {"threshold": 0.3},
    "pooling": {
        "version": 1,
        "unit": "patient",
        "method": "noisy_or",
        "temperature": 1.5,
        "n_groups": 40,
        "losses": {"noisy_or": 0.4},
        "conformal": {"method": "aps", "coverage": 0.9, "threshold": 0.6, "n": 40, "n_groups": 40},
        "abstention": {"threshold": 0.3},
    },
}
Show = Callable[..., None]


# What is served


@pytest.fixture(scope="session")
def ort(request: pytest.FixtureRequest) -> Path:
    """onnxruntime-web's files: the folder that CT_XCEPTION_ORT names, or fetched once into pytest's cache."""
    if given := os.environ.get("CT_XCEPTION_ORT"):
        return Path(given)
    folder = Path(request.config.cache.mkdir(f"onnxruntime-web-{ORT_VERSION}"))
    if not all((folder / name).is_file() for name in ORT_FILES):
        fetch_ort(folder)
    return folder


def fetch_ort(folder: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm, which fetches onnxruntime-web, is not installed (or name a folder: CT_XCEPTION_ORT)")
    command = [npm, "pack", "--silent", f"onnxruntime-web@{ORT_VERSION}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    archives = list(folder.glob("*.tgz"))
    if done.returncode or not archives:
        pytest.skip(f"npm could not fetch onnxruntime-web {ORT_VERSION}: {done.stderr.strip()[-200:]}")
    with tarfile.open(archives[0]) as archive:
        for name in ORT_FILES:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None
            (folder / name).write_bytes(member.read())
    archives[0].unlink()


@pytest.fixture(scope="session")
def exported(exported_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with its float32 export alone, rules to decide by, and an input gate."""
    folder = copy_checkpoint(exported_checkpoint, tmp_path_factory.mktemp("page") / "model")
    (folder / "onnx/model_int8.onnx").unlink()
    gate = fit_gate(Classifier.from_pretrained(folder), folder)
    write_json(folder / "ct_xception.json", {"format": 1, **RULES, "gate": gate})
    return folder


def fit_gate(classifier: Classifier, folder: Path) -> dict[str, Any]:
    """Write gate.safetensors for a few slices' features, and return its rule."""
    answers = classifier([draw(seed) for seed in range(100, 106)])
    features = np.stack([answer.outputs.features for answer in answers if answer.outputs is not None])
    length = float(np.linalg.norm(features, axis=1).mean())
    own = np.concatenate([features / length, features / np.linalg.norm(features, axis=1, keepdims=True)], axis=1)
    centred = own - own.mean(axis=0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    arrays = {"mean": own.mean(axis=0), "components": directions[:3], "variances": sizes[:3] ** 2 / 5}
    exact = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    safetensors.numpy.save_file(exact, folder / "gate.safetensors")
    signs = {"modalities": ["CT"], "body": 0.3, "lungs": 0.5, "sides": [96, 160], "aspects": [0.8, 1.25], "windows": []}
    noise = float((centred - centred @ directions[:3].T @ directions[:3]).var())
    limits = {"usual": 1.0, "doubtful": 2.0, "refused": 20.0}
    return {"method": "mahalanobis", "noise": noise, "length": length, **limits, "signs": signs}


def draw(seed: int, size: int = 128) -> Image.Image:
    """A phantom slice as an 8-bit picture: every other one through the lung window, every third wider than high."""
    hu = phantom_slice(np.random.default_rng(seed), NAMES[seed % 4], size=size).hu
    pixels = apply_window(hu, Window(-600, 1500) if seed % 2 else Window(40, 400))
    return Image.fromarray(pixels[size // 8 :] if seed % 3 == 0 else pixels)


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder to this machine, and notes what it was asked: (method, path, bytes sent to it)."""

    daemon_threads = True

    def __init__(
        self, folder: Path, headers: dict[str, str], *, storage: str = "", certificate: Path | None = None
    ) -> None:
        """`storage` is where it redirects to for binary files, as the Hub does; with a certificate it speaks HTTPS."""
        self.folder, self.headers, self.asked = folder, headers, list[tuple[str, str, int]]()
        self.storage = storage
        super().__init__(("127.0.0.1", 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.address = f"http://127.0.0.1:{self.server_address[1]}/"
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(http.server.SimpleHTTPRequestHandler):
    server: Server

    def __init__(self, request: Any, client: Any, server: Server) -> None:
        super().__init__(request, client, server, directory=str(server.folder))

    def do_GET(self) -> None:
        if self.server.storage and self.path.endswith(BINARY):
            self.send_response(302)
            self.send_header("Location", self.server.storage + self.path)
            self.end_headers()
        else:
            super().do_GET()

    def end_headers(self) -> None:
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        super().end_headers()

    def parse_request(self) -> bool:
        parsed = super().parse_request()
        if parsed:
            self.server.asked.append((self.command, self.path, int(self.headers.get("Content-Length") or 0)))
        return parsed

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="session")
def server(exported: Path, ort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    site = tmp_path_factory.mktemp("served") / "site"
    assert main(["export", str(exported), "--browser", str(site), "--ort", str(ort)]) == 0
    with Server(site, ISOLATED) as running:  # as the header of a Space asks for, so that threads may be used
        yield running
        running.shutdown()


# The browser


@pytest.fixture(scope="module")
def page(browser: playwright.Browser, server: Server) -> Iterator[playwright.Page]:
    """The page, ready, once for all tests; what it does wrong by itself fails them."""
    problems: list[str] = []

    def note(request: playwright.Request) -> None:
        if not request.url.startswith((server.address, "data:", f"blob:{server.address}")):
            problems.append(f"asks {request.url}")

    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(PATIENCE)
    page.on("request", note)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(server.address)
    page.wait_for_selector(
        "#status:has-text('Ready. This is an example')"
    )  # no function: the page's policy forbids eval
    assert "adenocarcinoma.png" in page.inner_text("#slice-words") and page.query_selector("#answer > div")
    yield page
    assert not problems


@pytest.fixture
def show(page: playwright.Page) -> Callable[..., None]:
    """Show the page in a window of a given size and colour scheme."""

    def change(width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)

    return change


# In the page: answer files given as [name, base64], with what Python's answer is compared with
ANSWER = """async (files) => {
  const { classifier } = await import("./page.js");
  const found = [];
  for (const [name, data] of files) {
    const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
    try {
      const a = await (await classifier).answer(new File([bytes], name));
      const box = [a.crop.box.top, a.crop.box.left, a.crop.box.bottom, a.crop.box.right];
      const { ranking, sentences, notes, gate } = a;
      found.push({ ranking, sentences, notes, gate, box, coloured: a.slice.coloured });
    } catch (error) {
      found.push({ refusal: error.message });
    }
  }
  return found;
}"""


def as_file(image: Image.Image, name: str, **options: Any) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    image.save(buffer, Image.registered_extensions()[Path(name).suffix], **options)
    return name, buffer.getvalue()


def answer_all(page: playwright.Page, files: list[tuple[str, bytes]]) -> list[dict[str, Any]]:
    return page.evaluate(ANSWER, [[name, base64.b64encode(data).decode()] for name, data in files])


def fifty_slices() -> list[tuple[str, bytes]]:
    """PNG and JPEG, grey, RGB, RGBA and palettes, four sizes, with and without air around the body."""
    files = []
    for seed in range(50):
        image = draw(seed, (96, 128, 200, 256)[seed % 4])
        if seed % 5 == 1:  # cropped close, as a screenshot may be
            image = image.crop((image.width // 6, image.height // 5, image.width * 5 // 6, image.height * 4 // 5))
        image = image.convert(("L", "RGB", "RGBA", "P", "LA")[seed % 5])
        if seed % 7 == 3:
            files.append(as_file(image.convert("L" if seed % 2 else "RGB"), f"slice {seed}.jpg", quality=92))
        else:
            files.append(as_file(image, f"slice {seed}.png"))
    return files


def test_fifty_slices_get_python_s_answer(page: playwright.Page, exported: Path, server: Server) -> None:
    files = fifty_slices()
    before = len(server.asked)
    theirs = answer_all(page, files)
    assert len(server.asked) == before
    classifier = Classifier.from_pretrained(exported)
    ours = [classifier(read_slice(data, name=name)) for name, data in files]
    assert len({answer.label for answer in ours}) > 1  # a network that says one thing would prove nothing
    for mine, their in zip(ours, theirs, strict=True):
        check_same(mine, their, exact=mine.source.endswith(".png"))


def check_same(mine: Prediction, their: dict[str, Any], *, exact: bool) -> None:
    found = dict(their["ranking"])
    apart = max(abs(found[name] - value) for name, value in mine.probabilities.items())
    assert their["ranking"][0][0] == mine.label and apart < (1e-4 if exact else 0.02), mine.source
    assert their["notes"] == list(mine.notes) and mine.gate is not None and mine.outputs is not None
    if exact:
        assert their["sentences"] == describe_decision(mine.decision)
        assert (their["gate"]["verdict"], their["gate"]["reasons"]) == (mine.gate.verdict, list(mine.gate.reasons))
        assert their["gate"]["score"] == pytest.approx(mine.gate.score, rel=1e-3)


def test_the_int8_network_answers_as_it_does_in_python(
    browser: playwright.Browser, exported_checkpoint: Path, ort: Path, tmp_path: Path
) -> None:
    write_site(exported_checkpoint, tmp_path / "site", ort=ort)
    networks = sorted(path.name for path in (tmp_path / "site").glob("*.onnx"))
    assert networks == ["model_int8_exit.onnx", "model_int8_to_middle.onnx"]
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE)
    files = fifty_slices()[:10]
    with Server(tmp_path / "site", {}) as running:
        page.goto(running.address)
        theirs = answer_all(page, files)
        running.shutdown()
    whole, small = (Classifier.from_pretrained(exported_checkpoint, name) for name in ("onnx", "onnx-int8"))
    apart, moved = [], []
    for (name, data), their in zip(files, theirs, strict=True):
        slice_, found = read_slice(data, name=name), dict(their["ranking"])
        mine, exact = small(slice_), whole(slice_).probabilities
        assert their["ranking"][0][0] == mine.label and their["gate"] is None
        apart += [abs(found[label] - value) for label, value in mine.probabilities.items()]
        moved += [abs(exact[label] - value) for label, value in mine.probabilities.items()]
    # A browser rounds otherwise than a CPU with int8 instructions, and this network, of random weights, answers to the
    # slightest change: int8 moves its probabilities by a third. A trained one's are in benchmarks/RESULTS.md.
    assert max(moved) > 0.1 and max(apart) < max(moved) / 2 and np.mean(apart) < np.mean(moved) / 2


# The steps of the pixel path, number for number

PREPARE = """async ([pixels, height, width, wanted]) => {
  const { prepare } = await import("./preprocessing.js");
  const bytes = Uint8Array.from(atob(pixels), (one) => one.charCodeAt(0));
  const { values, crop } = prepare({ pixels: bytes, height, width }, wanted);
  const { top, left, bottom, right } = crop.box;
  return [[...new Uint32Array(values.buffer)], [top, left, bottom, right], crop.found];
}"""


def prepare_there(page: playwright.Page, pixels: np.ndarray, wanted: dict[str, Any]) -> list[Any]:
    data = base64.b64encode(pixels.tobytes()).decode()
    return page.evaluate(PREPARE, [data, *pixels.shape, wanted])


@pytest.mark.parametrize("crop_mode", ["squash", "center", "border"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_resizing_is_that_of_python_bit_for_bit(page: playwright.Page, interpolation: str, crop_mode: str) -> None:
    cfg = {**NORMAL, "interpolation": interpolation, "crop_mode": crop_mode, "crop_pct": 0.9}
    wanted = {**cfg, "size": 64, "body_crop": False, "filters": []}
    rng = np.random.default_rng(3)
    for shape in ((40, 57), (64, 64), (91, 130), (301, 71)):
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        values, box, _ = prepare_there(page, pixels, wanted)
        mine = Preprocessing.of(cfg)(Slice(pixels, "noise", 8, False, None))
        assert np.array_equal(np.array(values, np.uint32).view(np.float32).reshape(mine.shape), mine)
        assert box == [0, 0, *shape]


@pytest.mark.parametrize("filters", [[], ["median"]])
def test_the_body_crop_is_that_of_python(page: playwright.Page, filters: list[str]) -> None:
    from ct_xception.imaging.transforms import apply_filters

    cfg = {**NORMAL, "interpolation": "bicubic", "crop_mode": "squash", "crop_pct": 1.0}
    rng = np.random.default_rng(5)
    blobs = (np.asarray(Image.fromarray(rng.integers(0, 256, (9, 12), dtype=np.uint8)).resize((130, 96))) > 128) * 200
    pictures = [np.asarray(draw(seed)) for seed in range(4)]
    pictures += [blobs.astype(np.uint8), np.zeros((40, 50), np.uint8), np.full((33, 20), 7, np.uint8)]
    pictures += [rng.integers(0, 256, (70, 80), dtype=np.uint8), np.full((20, 30), 255, np.uint8)]
    for pixels in pictures:
        values, box, found = prepare_there(page, pixels, {**cfg, "size": 64, "body_crop": True, "filters": filters})
        crop = crop_body(apply_filters(Slice(pixels, "picture", 8, False, None), filters))
        mine = Preprocessing.of(cfg)(crop.slice)
        assert (box, found) == ([crop.box.top, crop.box.left, crop.box.bottom, crop.box.right], crop.found)
        assert np.array_equal(np.array(values, np.uint32).view(np.float32).reshape(mine.shape), mine)


def test_otsu_and_lungs_are_those_of_python(page: playwright.Page) -> None:
    script = """async (pictures) => {
      const { cropBody } = await import("./preprocessing.js");
      const { otsuThreshold } = await import("./outline.js");
      const { hasLungs } = await import("./gate.js");
      return pictures.map(([data, height, width]) => {
        const pixels = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
        return [otsuThreshold(pixels), hasLungs(cropBody({ pixels, height, width }))];
      });
    }"""
    pictures = [np.asarray(draw(seed, size)) for seed in range(4) for size in (64, 128, 220, 400)]
    pictures += [np.full((50, 50), 9, np.uint8), np.eye(64, dtype=np.uint8) * 255, np.asarray(draw(1))[:40] // 3]
    radius = np.hypot(*np.mgrid[-1.25:1.25:200j, -1.5:1.5:240j])
    pictures += [np.select([radius < 0.88, radius < 1], [80, 250], 0).astype(np.uint8)]  # a brain in its skull
    given = [[base64.b64encode(one.tobytes()).decode(), *one.shape] for one in pictures]
    mine = [[otsu_threshold(one), has_lungs(crop_body(Slice(one, "a", 8, False, None)))] for one in pictures]
    assert page.evaluate(script, given) == mine
    assert len({lungs for _, lungs in mine}) == 2


MAP = """async ([name, data, label, opacity]) => {
  const { classifier } = await import("./page.js");
  const { overlayPicture, placeInSlice, scaledMap } = await import("./drawing.js");
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  const { record } = await classifier;
  const answer = await (await classifier).answer(new File([bytes], name));
  const map = scaledMap(await (await classifier).map(answer, record.label_names.indexOf(label)));
  const { slice, crop } = answer;
  const heat = placeInSlice(map, slice, crop.box, record.preprocessing);
  return [[...heat], [...overlayPicture(slice, heat, record.palette, opacity).data], map.strength];
}"""


def test_the_map_is_that_of_the_other_doors(page: playwright.Page, exported: Path) -> None:
    """Grad-CAM of every class, by default Python's `explain`: the map, its strength, and its picture."""
    from ct_xception.explain.explain import explain
    from ct_xception.explain.overlay import overlay

    classifier = Classifier.from_pretrained(exported)
    for seed in (2, 3):  # as high as wide, and wider
        name, data = as_file(draw(seed), "slice.png")
        slice_ = read_slice(data, name=name)
        for label in NAMES:
            mine = explain(classifier, slice_, label).attribution
            heat, picture, strength = page.evaluate(MAP, [name, base64.b64encode(data).decode(), label, 0.6])
            assert mine.method == "gradcam" and strength == pytest.approx(mine.strength, rel=1e-3)
            assert_near(np.reshape(heat, mine.map.shape), mine.map, 1e-3)
            drawn = np.reshape(picture, (*mine.map.shape, 4))[..., :3]
            assert np.abs(drawn - np.asarray(overlay(slice_, mine.map)).astype(int)).max() <= 2
    assert "Grad-CAM, of the same layer" in page.inner_text("#which-map")


def test_a_network_without_a_written_gradient_draws_its_last_layer_s_map_and_says_so(
    browser: playwright.Browser, ort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ct_xception.explain.explain import explain
    from ct_xception.model.modelling import CTXceptionForImageClassification as Network
    from tests.networks import enliven, wake_attention

    model = wake_attention(Network.from_backbone("legacy_xception", list(NAMES), 64, seed=3, attention="se"))
    enliven(model, batches=1).save_pretrained(tmp_path / "model")
    classifier = Classifier.from_pretrained(tmp_path / "model")
    (tmp_path / "model/onnx").mkdir()
    assert classifier.checkpoint is not None
    write_onnx(classifier.model, tmp_path / "model/onnx/model.onnx", describe(classifier.checkpoint))
    write_site(tmp_path / "model", tmp_path / "site", ort=ort)
    assert [path.name for path in (tmp_path / "site").glob("*.onnx")] == ["model.onnx"]
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE)
    name, data = as_file(draw(2), "slice.png")
    slice_ = read_slice(data, name=name)
    with Server(tmp_path / "site", {}) as running:
        page.goto(running.address)
        heat, _, _ = page.evaluate(MAP, [name, base64.b64encode(data).decode(), NAMES[1], 0.6])
        page.wait_for_selector("#heat-words:has-text('(class activation map)')")
        assert "class activation map of the network's last layer, coarse" in page.inner_text("#which-map")
        running.shutdown()
    # The exported file gives the map of the last feature map as it is; Python's own is twice as fine.
    monkeypatch.setattr("ct_xception.explain.network_copies.finer_copy", lambda model: model)
    mine = explain(classifier, slice_, NAMES[1], "cam").attribution
    assert_near(np.reshape(heat, mine.map.shape), mine.map, 1e-3)


# Files


def truncated(file: tuple[str, bytes]) -> tuple[str, bytes]:
    return file[0], file[1][: len(file[1]) // 2]


def test_what_the_page_cannot_read_right_is_refused_in_a_sentence(page: playwright.Page) -> None:
    deep = Image.fromarray(np.asarray(draw(1)).astype(np.uint16) * 200)
    elsewhere = "; open it on the demo page (ct-xception demo), which reads more kinds of files."
    cases = {
        "a 16-bit picture, of which a browser would keep 8 bits" + elsewhere: as_file(deep, "deep.png"),
        "a TIFF file, which this page does not read" + elsewhere: as_file(draw(1), "scan.tiff"),
        "a CMYK picture; export it again as grey PNG.": as_file(draw(1).convert("CMYK"), "ink.jpg"),
        "a PNG that is cut off or damaged; export or download it again.": truncated(as_file(draw(1), "half.png")),
        "a JPEG that is cut off or damaged; export it again as PNG.": truncated(as_file(draw(1), "half.jpg")),
        "an empty file; copy or download it again.": ("empty.png", b""),
        "neither DICOM, PNG nor JPEG, or damaged at its start; convert or download it again.": (
            "notes.png",
            b"no picture",
        ),
    }
    found = answer_all(page, list(cases.values()))
    assert [one.get("refusal") for one in found] == [f"{file[0]}: {why}" for why, file in cases.items()]


def as_dicom(seed: int, **changes: Any) -> bytes:
    """A phantom slice as CT in DICOM, with tags changed; None takes one away."""
    hu = phantom_slice(np.random.default_rng(seed), NAMES[seed % 4], size=(128, 200)[seed % 2]).hu
    buffer = io.BytesIO()
    told = {"patient_id": "P", "study": "a", "series": "b", "instance_number": 1}
    write_dicom(buffer, np.rint(hu).astype(np.int16), window=Window(-600, 1500), spacing_mm=0.8, **told)
    dataset = pydicom.dcmread(io.BytesIO(buffer.getvalue()))
    syntax = changes.pop("syntax", None)
    for name, value in changes.items():
        if value is None:
            delattr(dataset, name)
        elif name == "PixelPaddingValue":
            dataset.add_new(name, "US", value)  # whose representation pydicom does not tell
        else:
            setattr(dataset, name, value)
    written = io.BytesIO()
    if syntax == ImplicitVRLittleEndian:
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(written, implicit_vr=True, little_endian=True)
    else:
        dataset.save_as(written)
        if syntax is not None:  # declared alone: what it would be is refused before it is looked at
            return written.getvalue().replace(b"1.2.840.10008.1.2.1\0", syntax.encode().ljust(20, b"\0"))
    return written.getvalue()


def padded(seed: int) -> bytes:
    """A round field of view, what lies outside declared as padding; and a private sequence of undefined length."""
    dataset = pydicom.dcmread(io.BytesIO(as_dicom(seed)))
    pixels = dataset.pixel_array.copy()
    rows, columns = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    far = (rows - pixels.shape[0] / 2) ** 2 + (columns - pixels.shape[1] / 2) ** 2 > (pixels.shape[0] / 2) ** 2
    pixels[far] = 0
    dataset.PixelData = pixels.tobytes()
    dataset.add_new("PixelPaddingValue", "US", 0)
    item = pydicom.Dataset()
    item.add_new(0x00191001, "LO", "words")
    dataset.add_new(0x00190010, "LO", "OURS")
    dataset.add_new(0x00191002, "SQ", pydicom.Sequence([item]))
    dataset[0x00191002].is_undefined_length = True
    written = io.BytesIO()
    dataset.save_as(written)
    return written.getvalue()


def test_dicom_gets_python_s_answer(page: playwright.Page, exported: Path) -> None:
    files = [(f"slice {seed}.dcm", as_dicom(seed)) for seed in range(6)]
    files += [
        ("implicit.dcm", as_dicom(1, syntax=ImplicitVRLittleEndian)),
        ("turned grey.dcm", as_dicom(2, PhotometricInterpretation="MONOCHROME1")),
        ("prone.dcm", as_dicom(3, PatientPosition="HFP", LossyImageCompression="01")),
        ("windows.dcm", as_dicom(0, WindowCenter=["40", "-600"], WindowWidth=["400", "1500"])),
        ("sigmoid.dcm", as_dicom(0, WindowCenter="40", WindowWidth="350.5", VOILUTFunction="SIGMOID")),
        ("no window.dcm", as_dicom(1, WindowCenter=None, WindowWidth=None)),
        ("useless window.dcm", as_dicom(1, WindowWidth="0")),
        ("dark window.dcm", as_dicom(1, WindowCenter="9000", WindowWidth="100")),
        ("half slope.dcm", as_dicom(2, RescaleSlope="0.5", RescaleIntercept="-1010.25")),
        ("padded.dcm", padded(3)),
        ("tissue padding.dcm", as_dicom(1, PixelPaddingValue=1024)),
    ]
    classifier = Classifier.from_pretrained(exported)
    for (name, data), their in zip(files, answer_all(page, files), strict=True):
        assert "refusal" not in their, their
        mine = classifier(read_slice(data, name=name))
        check_same(mine, their, exact=True)
        box = classifier.prepare(mine.slice).crop.box
        assert their["box"] == [box.top, box.left, box.bottom, box.right], name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"Modality": "MR"}, "DICOM of modality MR, where this page reads CT"),
        ({"NumberOfFrames": 3}, "an enhanced DICOM file, or one of several frames, which this page does not read"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer (scout view), not a slice"),
        ({"PixelSpacing": ["0.8", "1.6"]}, "a DICOM slice whose pixels are not square"),
        ({"RescaleSlope": None}, "CT without rescale slope and intercept, so not in HU"),
        ({"RescaleType": "US"}, "CT rescaled to US, and not to HU"),
        ({"HighBit": 15}, "DICOM with HighBit 15 for 12 bits stored, something else beside them"),
        ({"RescaleSlope": "0"}, "a rescale slope of 0"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "a DICOM slice that is not stored upright and axial"),
        ({"syntax": "1.2.840.10008.1.2.4.90"}, "a DICOM file whose pixels are stored in a compressed transfer syntax"),
        ({"syntax": "1.2.840.10008.1.2.2"}, "a DICOM file whose pixels are stored in a big-endian transfer syntax"),
    ],
)
def test_dicom_that_would_be_read_otherwise_is_refused(
    page: playwright.Page, changes: dict[str, Any], said: str
) -> None:
    (found,) = answer_all(page, [("x.dcm", as_dicom(1, **changes))])
    assert found.get("refusal", "").startswith(f"x.dcm: {said}; ")


def test_dicom_that_is_cut_is_refused(page: playwright.Page) -> None:
    whole = as_dicom(1)
    for length in (140, 300, 600, len(whole) - 100):
        (found,) = answer_all(page, [("x.dcm", whole[:length])])
        assert found.get("refusal", "").startswith("x.dcm: "), length


def test_pixels_are_read_as_stored(page: playwright.Page, exported: Path) -> None:
    """Gamma and colour tags change nothing, an orientation tag turns, and what is transparent lies on black."""
    rng = np.random.default_rng(0)
    grey = draw(4)
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", (100000).to_bytes(4, "big"))
    exif = Image.Exif()
    exif[0x0112] = 6
    ink = np.stack([np.asarray(grey)] * 3, axis=-1)
    ink[10:40, 20:60] = (250, 30, 30)
    alpha = np.dstack([ink, rng.integers(0, 256, ink.shape[:2], dtype=np.uint8)])
    files = [
        as_file(grey, "gamma.png", pnginfo=info),
        as_file(grey, "turned.jpg", exif=exif, quality=95),
        as_file(Image.fromarray(ink), "ink.png"),
        as_file(Image.fromarray(alpha), "clear.png"),
        as_file(grey.point(lambda level: 255 * (level > 90)).convert("1"), "bits.png"),
    ]
    classifier = Classifier.from_pretrained(exported)
    for (name, data), their in zip(files, answer_all(page, files), strict=True):
        mine = classifier(read_slice(data, name=name))
        check_same(mine, their, exact=name in ("gamma.png", "ink.png", "bits.png"))
        assert name == "clear.png" or their["coloured"] == pytest.approx(mine.slice.coloured, abs=1e-6)


# What a visitor meets


def upload(page: playwright.Page, path: Path, result: str = ".verdict") -> None:
    page.evaluate("document.querySelector('#answer').replaceChildren()")  # so that no earlier answer is taken for it
    page.set_input_files("#file", path)
    page.wait_for_selector(f"#answer {result}")


@pytest.fixture
def slice_file(tmp_path: Path) -> Path:
    path = tmp_path / "slice.png"
    draw(1, 200).resize((150, 150)).save(path)
    return path


def canvas(page: playwright.Page, name: str) -> str:
    return page.evaluate("name => document.getElementById(name).toDataURL()", name)


def test_a_visitor_reads_the_answer_and_its_map(
    page: playwright.Page, show: Show, exported: Path, slice_file: Path
) -> None:
    show(height=1230)
    upload(page, slice_file)
    answer = Classifier.from_pretrained(exported)(slice_file)
    assert page.inner_text(".verdict .first span") == (describe_abstention(answer) or answer.label)
    rows = [row.inner_text().split() for row in page.query_selector_all(".verdict > table tr")]
    assert [" ".join(row[-2:]) for row in rows] == [percent(value) for value in answer.probabilities.values()]
    assert page.inner_text("#notes").splitlines() == list(answer.notes)
    assert "prediction set at 90 % coverage" in page.inner_text(".rules")
    page.wait_for_selector("#heat-words:has-text('(Grad-CAM)')")
    heat = canvas(page, "heat")
    assert heat != canvas(page, "slice")
    page.screenshot(path=SCREENSHOTS / "browser-light.png")
    page.focus("#opacity")
    page.keyboard.press("ArrowLeft")
    assert canvas(page, "heat") != heat
    last = list(answer.probabilities)[-1]
    page.select_option("#target", last)
    page.wait_for_selector(f"#heat-words:has-text('Evidence for {last} (Grad-CAM)')")
    assert last in (page.get_attribute("#heat", "aria-label") or "")
    assert canvas(page, "heat") != heat


def series_files(folder: Path) -> list[Path]:
    """Four slices of one scan in DICOM, whose names are in no order, and which the network tells apart."""
    paths = []
    for place, seed in enumerate((3, 0, 2, 1)):
        paths.append(folder / f"{seed}.dcm")
        told = {"SeriesInstanceUID": "1.2.3", "ImagePositionPatient": [0, 0, 5 * place]}
        paths[-1].write_bytes(as_dicom(seed, ImageOrientationPatient=[1, 0, 0, 0, 1, 0], **told))
    return paths


def test_slices_of_one_scan_have_one_answer_and_are_gone_through(
    page: playwright.Page, exported: Path, tmp_path: Path
) -> None:
    paths = series_files(tmp_path)
    classifier = Classifier.from_pretrained(exported)
    answers = [classifier(path).probabilities for path in paths]
    each, pooling = [[one[name] for name in classifier.label_names] for one in answers], classifier.decisions.pooling
    together = pool_slices(each, "noisy_or", 1.5)
    assert pooling.decisions is not None
    decision = pooling.decisions.decide(dict(zip(classifier.label_names, together.tolist(), strict=True)))
    zipped = tmp_path / "scan.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("README.txt", "nothing")
        for path in paths:
            archive.write(path, f"scan/{path.name}")
    for given in (paths, zipped):
        page.set_input_files("#file", given)
        page.wait_for_selector("#pooled .verdict")
        page.wait_for_selector("#answer .verdict")
        best = int(together.argmax())
        said = page.inner_text("#pooled .first").split("\n")
        assert said == [classifier.label_names[best], percent(together[best])]
        how, *rules = page.inner_text("#pooled .rules").split("\n")
        rule = "Noisy-or, chosen and calibrated on 40 validation patients (temperature 1.50)"
        assert how == f"{rule}. From 4 of 4 slices of one scan." and rules == list(describe_decision(decision))
        telling = max(range(4), key=lambda place: answers[::-1][place][classifier.label_names[best]])
        assert page.input_value("#place") == str(1 + telling)  # the highest slice is the first
        page.focus("#place")
        page.keyboard.press("Home")
        page.wait_for_selector("#slice-words:has-text('1.dcm')")
        assert page.inner_text("#where").startswith("1 of 4: 1.dcm, ")
        page.evaluate("document.getElementById('pooled').replaceChildren()")


@pytest.mark.parametrize(("method", "temperature"), [(one, t) for one in AGGREGATIONS for t in (1.0, 0.4, 2.5)])
def test_slices_are_pooled_as_in_python(page: playwright.Page, method: str, temperature: float) -> None:
    """By every rule that a checkpoint may have, slices that are sure or impossible among them."""
    draws = np.random.default_rng(3).dirichlet([0.4] * 4, 6)
    draws[0], draws[1] = [1, 0, 0, 0], [1e-14, 1 - 1e-14, 0, 0]
    for each in (draws, draws[2:], draws[5:]):
        ranked = [sorted(zip(NAMES, row.tolist(), strict=True), key=lambda pair: -pair[1]) for row in each]
        code = "async ([each, rule]) => (await import('./series.js')).pool(each, rule)"
        found = dict(page.evaluate(code, [ranked, {"method": method, "temperature": temperature}]))
        expected = pool_slices(each, method, temperature)
        assert [found[name] for name in NAMES] == pytest.approx(expected.tolist(), rel=1e-9, abs=1e-12)


def test_the_page_has_the_mean_of_logits_for_a_rule_that_is_learnt() -> None:
    told = _pooling(Pooling("attention", 0.5, "patient", 40, calibrated=True))
    assert (told["method"], told["temperature"]) == ("mean_log", 1.0)
    assert "learnt attention over the slices, is not computed here" in told["how"]


def test_a_zip_that_would_not_fit_is_refused_before_it_is_unpacked(page: playwright.Page, tmp_path: Path) -> None:
    zipped = tmp_path / "large.zip"
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", b"a")
        archive.writestr("b.png", b"b")
    first, *entries = zipped.read_bytes().split(b"PK\x01\x02")
    size = (300 * 2**20).to_bytes(4, "little")  # of each, as the directory says
    zipped.write_bytes(b"PK\x01\x02".join([first, *(one[:20] + size + one[24:] for one in entries)]))
    page.set_input_files("#file", zipped)
    page.wait_for_selector("#answer .refusal:has-text('large.zip: slices of more than 512 MiB, unpacked')")


def test_files_of_no_scan_have_each_their_own_answer(page: playwright.Page, slice_file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    page.set_input_files("#file", [bad, slice_file, *series_files(tmp_path)[:2]])
    page.wait_for_selector("#pooled:has-text('each has its own answer, and none together')")
    page.wait_for_selector("#slice-words:has-text('slice.png')")
    assert not page.query_selector("#pooled .verdict") and page.query_selector("#answer .verdict")
    page.focus("#place")
    page.keyboard.press("Home")
    page.wait_for_selector("#answer .refusal:has-text('bad.png: neither DICOM')")
    assert page.inner_text("#where") == "1 of 4: bad.png, refused"
    upload(page, slice_file)
    assert not page.is_visible("#series")


def test_examples_refusals_and_the_gate(page: playwright.Page, show: Show, slice_file: Path, tmp_path: Path) -> None:
    show(height=1230, scheme="dark")
    page.click("#examples button:has-text('normal')")
    page.wait_for_selector("#slice-words:has-text('normal.dcm')")
    assert "window -600/1500 HU" in page.inner_text("#slice-words")
    upload(page, slice_file)
    page.wait_for_selector("#slice-words:has-text('slice.png')")
    page.screenshot(path=SCREENSHOTS / "browser-dark.png")
    show()
    photo = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (120, 120, 3), dtype=np.uint8)).save(photo)
    upload(page, photo, ".refusal")
    assert "does not look like a slice" in page.inner_text("#answer strong")
    assert "of its pixels are coloured, where all should be grey" in page.inner_text("#answer")
    assert not page.query_selector(".verdict") and not page.is_visible("#heat") and page.is_visible("#slice")
    page.screenshot(path=SCREENSHOTS / "browser-gate.png")
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((90, 90), 30000, np.uint16)).save(deep)
    upload(page, deep, ".refusal:has-text('16-bit')")
    assert not page.is_visible("#pictures")
    page.screenshot(path=SCREENSHOTS / "browser-refused.png")


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (320, "dark"), (900, "dark")])
def test_the_page_fits_a_phone(page: playwright.Page, show: Show, slice_file: Path, width: int, scheme: str) -> None:
    show(width, 800, scheme)
    upload(page, slice_file)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for place in (0, 10_000):
        page.evaluate(f"window.scrollTo(0, {place})")
        box = page.query_selector("#notice p").bounding_box()
        assert page.inner_text("#notice") == RESEARCH_USE and 0 <= box["y"] and box["y"] + box["height"] <= 800
    # ... and yet it lies over no control: what the keyboard reaches comes to stand below it.
    for control in ("#target", "#opacity", "#examples button"):
        page.focus(control)
        assert page.query_selector(control).bounding_box()["y"] >= box["y"] + box["height"]
    widths = [bar.bounding_box()["width"] for bar in page.query_selector_all(".verdict td.bar")]
    assert len(widths) == len(NAMES) and min(widths) > 100  # the bars can be read
    show(width, 2450, scheme)
    page.screenshot(path=SCREENSHOTS / f"browser-{width}.png")


def test_the_keyboard_reaches_everything_and_it_has_a_name(page: playwright.Page, slice_file: Path) -> None:
    upload(page, slice_file)
    page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"file", "target", "opacity", "BUTTON", "SUMMARY"} <= set(reached)
    for selector in ("#slice", "#heat"):
        assert page.get_attribute(selector, "aria-label")
    assert page.get_attribute("#answer", "aria-live") == "polite"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: playwright.Page, show: Show, slice_file: Path, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    show(scheme=scheme)
    upload(page, slice_file)
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
    if scheme == "light":
        page.screenshot(path=SCREENSHOTS / "browser-about.png", full_page=True)


def test_a_dropped_file_is_answered(page: playwright.Page, slice_file: Path) -> None:
    script = """(data) => {
      const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([bytes], "dropped.png"));
      document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(script, base64.b64encode(slice_file.read_bytes()).decode())
    page.wait_for_selector("#slice-words:has-text('dropped.png')")


# Where the page may go


def test_nothing_but_its_own_files_is_asked_for(page: playwright.Page, server: Server, slice_file: Path) -> None:
    before = len(server.asked)
    upload(page, slice_file)
    assert len(server.asked) == before > 10  # the answer asked for nothing
    assert {(method, size) for method, _, size in server.asked} == {("GET", 0)}
    assert all((server.folder / path.lstrip("/")).exists() for _, path, _ in server.asked)
    blocked = "url => fetch(url, { mode: 'no-cors' }).then(() => 'went', (error) => error.name)"
    assert page.evaluate(blocked, server.address.replace("127.0.0.1", "localhost")) == "TypeError"
    assert page.evaluate("crossOriginIsolated")


@pytest.fixture
def elsewhere(exported: Path, tmp_path: Path) -> Iterator[Server]:
    """The page without onnxruntime-web beside it, on a server that knows no special headers."""
    write_site(exported, tmp_path / "site")
    with Server(tmp_path / "site", {}) as running:
        yield running
        running.shutdown()


@pytest.mark.parametrize("damaged", [False, True])
def test_the_runtime_from_elsewhere_is_checked(
    browser: playwright.Browser, elsewhere: Server, ort: Path, slice_file: Path, damaged: bool
) -> None:
    page = browser.new_context().new_page()
    page.set_default_timeout(PATIENCE)
    dist = ort / "dist" if (ort / "dist").is_dir() else ort
    asked = []

    def give(route: playwright.Route) -> None:
        name = route.request.url.removeprefix(ORT_CDN)
        asked.append(name)
        body = (dist / name).read_bytes() + (b"//" if damaged and name.endswith("min.mjs") else b"")
        route.fulfill(body=body, headers={"Access-Control-Allow-Origin": "*"})

    page.route(f"{ORT_CDN}**", give)
    page.goto(elsewhere.address)
    if damaged:
        page.wait_for_selector(".refusal:has-text('ort.wasm.min.mjs could not be fetched')")
    else:
        upload(page, slice_file)
        assert asked == list(ORT_FILES)
    assert ORT_CDN.split("/")[2] in page.inner_text("#promise")


@pytest.fixture
def space(exported_checkpoint: Path, ort: Path, tmp_path: Path) -> Path:
    """The files of a static Space, in a folder."""
    for name, content in browser_space_files(exported_checkpoint, "alice/ct@v1", ort=ort).items():
        (tmp_path / "space" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "space" / name).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    return tmp_path / "space"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that nobody signed, with its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes a certificate, is not installed")
    file = tmp_path_factory.mktemp("certificate") / "both.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=storage", "-days", "2"]
    subprocess.run([*made, "-keyout", str(file), "-out", str(file.with_name("public.pem"))], check=True, timeout=60)
    file.write_bytes(file.read_bytes() + file.with_name("public.pem").read_bytes())
    return file


@contextlib.contextmanager
def redirected(
    browser: playwright.Browser, folder: Path, host: str, certificate: Path
) -> Iterator[tuple[playwright.Page, Server]]:
    """The page of a folder whose binary files are redirected to a host, and the server that stands for that host."""
    with (
        Server(folder, {"Access-Control-Allow-Origin": "*"}, certificate=certificate) as store,
        Server(folder, ISOLATED, storage=f"https://{host}") as space,
    ):
        rule = f"--host-resolver-rules=MAP {host} 127.0.0.1:{store.server_address[1]}"
        chromium = browser.browser_type.launch(executable_path=str(CHROMIUM), args=[*FLAGS, rule])
        page = chromium.new_context(ignore_https_errors=True).new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(space.address)
        yield page, store
        chromium.close()
        for server in (space, store):
            server.shutdown()


@pytest.mark.parametrize("host", ["us.aws.cdn.hf.co", "cas-bridge.xethub.hf.co"])
def test_a_space_answers_where_the_hub_redirects(
    browser: playwright.Browser, space: Path, slice_file: Path, certificate: Path, host: str
) -> None:
    with redirected(browser, space, host, certificate) as (page, store):
        upload(page, slice_file)
        assert page.evaluate("[...document.images].every((image) => image.naturalWidth > 0)")
        assert page.evaluate("crossOriginIsolated")
    # The slice in DICOM is fetched when it is chosen: until then its small picture stands for it.
    examples = {f"/examples/{path.name}" for path in space.glob("examples/*") if path.suffix != ".dcm"}
    wanted = {"/model_int8_to_middle.onnx", "/model_int8_exit.onnx", "/ort/ort-wasm-simd-threaded.wasm", *examples}
    assert examples and {path for _, path, _ in store.asked} == wanted


def test_no_other_host_is_followed_to(
    browser: playwright.Browser, exported_checkpoint: Path, space: Path, ort: Path, certificate: Path, tmp_path: Path
) -> None:
    """Neither to another by a Space, nor to the Hub's by a page that is on nobody's Hub."""
    write_site(exported_checkpoint, tmp_path / "site", ort=ort)
    for folder, host in ((space, "cdn.hf.co.example.org"), (tmp_path / "site", "us.aws.cdn.hf.co")):
        with redirected(browser, folder, host, certificate) as (page, store):
            page.wait_for_selector(".refusal:has-text('could not be fetched')")
            assert not store.asked


# What is written


def test_a_page_that_cannot_come_leaves_the_one_before(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    write_site(exported, site)
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    rename = Path.rename

    def fail_on_the_new(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_on_the_new)
    with pytest.raises(InputError, match="the page cannot be put there .*Permission denied.*; name another folder"):
        write_site(exported, site)
    assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == before


def test_a_damaged_int8_file_is_no_absent_one(exported_checkpoint: Path, tmp_path: Path) -> None:
    folder = copy_checkpoint(exported_checkpoint, tmp_path / "model")
    (folder / "onnx/model_int8.onnx").unlink()
    (folder / "onnx/model_int8.onnx").write_bytes(b"\x08")
    with pytest.raises(InputError, match="onnx/model_int8.onnx differs from the SHA-256"):
        write_site(folder, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_the_files_and_the_record(exported: Path, ort: Path) -> None:
    files = site_files(exported, ort=ort)
    record = json.loads(files["checkpoint.json"])
    assert record["label_names"] == list(NAMES) and record["model"]["unmapped"] == ""
    parts = record["model"]["parts"]
    assert [part["file"] for part in parts] == ["model_to_middle.onnx", "model_exit.onnx"]
    assert all(hashlib.sha256(files[part["file"]]).hexdigest() == part["sha256"] for part in parts)
    assert record["name"] == f"{exported.parent.name}/model" and str(exported) not in json.dumps(record)
    policy = files["index.html"].decode().partition('Content-Security-Policy" content="')[2].partition('"')[0]
    assert "default-src &#39;none&#39;" in policy and "http" not in policy and "unsafe-inline" not in policy
    page = browser_space_files(exported, "alice/ct@v1", ort=ort)["index.html"].decode()
    assert f"connect-src &#39;self&#39; {' '.join(HUB_STORAGE)};" in page and "wherever the Hub stores them" in page
    assert {f"ort/{name}" for name in ORT_FILES} <= files.keys()


def test_what_cannot_be_written_is_refused(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.txt").write_text("words")
    with pytest.raises(InputError, match="holds something else than such a page"):
        write_site(exported, tmp_path / "other")
    with pytest.raises(InputError, match=r"--ort: .* lacks ort.wasm.min.mjs; name the unpacked npm package"):
        write_site(exported, tmp_path / "site", ort=tmp_path / "other")
    folder = copy_checkpoint(exported, tmp_path / "model")
    write_json(folder / "ct_xception.json", {"format": 1, "input": {"filters": ["clahe"]}})
    with pytest.raises(InputError, match="other preprocessing than the checkpoint has now|filter clahe"):
        write_site(folder, tmp_path / "site")
    shutil.rmtree(folder / "onnx")
    with pytest.raises(InputError, match="onnx/model.onnx is missing; write it with `ct-xception export`"):
        write_site(folder, tmp_path / "site")
    assert not (tmp_path / "site").exists()
