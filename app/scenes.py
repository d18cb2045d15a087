"""What the viewer in the browser draws from: slices as 16-bit values, sent once, and the scene that says what they are.

The browser windows, turns, zooms and overlays by itself. It asks for slices by a token that only its own visitor was
given; each is decoded when it is asked for, and nothing of it is kept here.
"""

from __future__ import annotations

import base64
import gzip
import secrets
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import anyio.to_thread
import gradio as gr
import numpy as np
from ct_xception_app.limits import KEPT_SECONDS, MAX_QUEUE, SHOWN_SIDE
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ct_xception.errors import InputError, SliceError
from ct_xception.explain.explain import Explanation
from ct_xception.explain.overlay import opposing_palette, palette, readable
from ct_xception.explain.placement import seen_region
from ct_xception.files import dump_json, parse_json
from ct_xception.imaging.reader import read_slice
from ct_xception.imaging.slice import Slice
from ct_xception.imaging.windows import Window
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.series import Series

SLICES = "/slices/{token}/{index:int}"
KEPT_CASES = 4 * MAX_QUEUE  # of all visitors; the oldest goes first
GONE = f"These slices are no longer kept ({KEPT_SECONDS // 60} minutes); give the files again."
_LEVELS = 2**16 - 2  # codes of values: 0 stands for no value
_HEAD = struct.Struct("<L")

# The stores of the pages that are served, for the routes that `launch` adds to them.
_STORES: WeakKeyDictionary[gr.Blocks, SliceStore] = WeakKeyDictionary()


@dataclass(frozen=True)
class _Kept:
    series: Series
    until: float


class SliceStore:
    """Which series each token stands for, for as long as uploads are kept. Safe to use from several threads."""

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self._kept: dict[str, _Kept] = {}
        self._lock = threading.Lock()

    def put(self, series: Series, *, for_ever: bool = False) -> str:
        """A token for a series, which nobody can guess; `for_ever` is for the page's own examples."""
        token, now = secrets.token_hex(16), time.monotonic()
        with self._lock:
            self._kept = {key: one for key, one in self._kept.items() if one.until > now}
            while len(self._kept) >= KEPT_CASES:
                del self._kept[next(iter(self._kept))]
            self._kept[token] = _Kept(series, float("inf") if for_ever else now + KEPT_SECONDS)
        return token

    def slice_bytes(self, token: str, index: int) -> bytes:
        """Slice `index` of a series as the viewer takes it, gzipped. Raises InputError, KeyError for what is gone."""
        with self._lock:
            kept = self._kept[token]
        if kept.until <= time.monotonic() or not 0 <= index < len(kept.series):
            raise KeyError(token)
        member, contract = kept.series.members[index], self.classifier.contract
        if not member.path.is_file():
            raise KeyError(token)
        how: dict[str, Any] = {"window": contract.window, "modality": contract.modality}
        how |= {"frame": member.frame, "name": member.name}
        source = member.source()
        try:
            slice_ = read_slice(source, keep_values=True, **how)
        except SliceError:  # its values may be more than a decoder may hold; its picture is not
            slice_ = read_slice(source, **how)
        return gzip.compress(pack(slice_), compresslevel=1)

    async def respond(self, request: Request) -> Response:
        """The route's answer: the slice's bytes, or a sentence."""
        token, index = request.path_params["token"], request.path_params["index"]
        try:
            content = await anyio.to_thread.run_sync(self.slice_bytes, token, index)
        except KeyError:
            return JSONResponse({"error": GONE}, 404)
        except InputError as error:
            return JSONResponse({"error": str(error)}, 422)
        headers = {"Content-Encoding": "gzip", "Cache-Control": f"private, max-age={KEPT_SECONDS}"}
        return Response(content, media_type="application/octet-stream", headers=headers)


def add_slices(demo: gr.Blocks, store: SliceStore) -> None:
    """Tie a store to its page."""
    _STORES[demo] = store


def slice_routes(demo: gr.Blocks) -> list[Route]:
    """The route of a page that `add_slices` was called on."""
    return [Route(SLICES, _STORES[demo].respond, methods=["GET"])]


def pack(slice_: Slice) -> bytes:
    """A slice as the viewer takes it: the length of a JSON header, the header, then a code for each pixel.

    16-bit codes are little-endian: 0 where there is no value, else the value is `offset + scale * (code - 1)`. A slice
    without values is sent as its 8 grey levels. At most SHOWN_SIDE pixels a side.
    """
    values = slice_.pixels if slice_.values is None else slice_.values
    small = _shrunk(values)
    spacing = slice_.spacing_mm[0] * (values.shape[0] / small.shape[0]) if slice_.spacing_mm else None
    window = slice_.window
    header: dict[str, Any] = {
        "height": small.shape[0],
        "width": small.shape[1],
        "full": list(values.shape),
        "spacing": spacing,
        "plane": slice_.plane,
        "hu": slice_.is_hu,
        "inverted": slice_.inverted,
        "window": None if window is None else [window.centre, window.width],
        "depth": slice_.bit_depth,
        "bits": 8,
    }
    codes = small
    if slice_.values is not None:
        codes, offset, scale = _encode(small)
        header |= {"bits": 16, "offset": offset, "scale": scale}
    told = dump_json(header).encode()
    told += b" " * (-(len(told) + _HEAD.size) % 2)  # the codes begin at an even place
    return _HEAD.pack(len(told)) + told + codes.tobytes()


def _encode(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Codes (H, W) uint16 of values (H, W) float32, their offset and scale; whole numbers stay what they are."""
    known = np.isfinite(values)
    some = values[known].astype(np.float64)
    low, high = (float(some.min()), float(some.max())) if some.size else (0.0, 0.0)
    whole = high - low <= _LEVELS and bool((some == np.round(some)).all())
    scale = 1.0 if whole else (high - low) / _LEVELS or 1.0
    codes = np.zeros(values.shape, dtype="<u2")
    codes[known] = np.rint((some - low) / scale).astype(np.uint16) + 1
    return codes, low, scale


def _shrunk(values: np.ndarray) -> np.ndarray:
    """At most SHOWN_SIDE pixels a side, each the mean of those that it stands for."""
    height, width = values.shape
    share = SHOWN_SIDE / max(height, width)
    if share >= 1:
        return values
    size = max(1, round(width * share)), max(1, round(height * share))
    return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX))


def pack_map(explanation: Explanation) -> dict[str, Any]:
    """A map for the viewer: `levels`, 255 at the strongest and negative where it speaks against, and what was seen.

    `levels` are little-endian int16, gzipped, in base64; `seen` is the rectangle of the slice that the network saw, as
    shares of the slice's height and width: top, left, bottom, right.
    """
    heat = _shrunk(np.clip(readable(explanation.attribution), -1, 1).astype(np.float32))
    levels = np.rint(heat * 255).astype("<i2")
    height, width = explanation.slice.pixels.shape
    region = seen_region(explanation.model.config.pretrained_cfg, explanation.box)
    seen = [region.top / height, region.left / width, region.bottom / height, region.right / width]
    return {
        "label": explanation.attribution.label,
        "method": explanation.attribution.method,
        "signed": explanation.attribution.signed,
        "height": levels.shape[0],
        "width": levels.shape[1],
        "seen": [min(max(share, 0.0), 1.0) for share in seen],
        "levels": base64.b64encode(gzip.compress(levels.tobytes(), compresslevel=6)).decode(),
    }


def palettes() -> str:
    """The colours of what speaks for a class and against it, as JSON."""
    return dump_json({"for": palette().tolist(), "against": opposing_palette().tolist()})


@dataclass(frozen=True)
class Wish:
    """What the viewer asks for: slice `index` of the case of this `token`, the network looking through `window`.

    `unit` asks for another of its series or patients instead.
    """

    token: str
    index: int
    window: Window | None
    unit: int | None = None


def read_past(text: object) -> int | None:
    """Which of the session's earlier cases is asked for again, from 0; None where something else is."""
    try:
        return int(parse_json(str(text))["past"])
    except (ValueError, TypeError, KeyError):
        return None


def read_wish(text: object) -> Wish | None:
    """What the browser sent; None for what is no wish. Raises InputError for a window that is none."""
    try:
        told: Mapping[str, Any] = parse_json(str(text))
        if "unit" in told:
            return Wish(str(told["case"]), 0, None, int(told["unit"]))
        window = told["window"]
        asked = None if window is None else (float(window[0]), float(window[1]))
        token, index = str(told["case"]), int(told["index"])
    except (ValueError, TypeError, KeyError, IndexError):
        return None
    return Wish(token, index, None if asked is None else Window(*asked))
