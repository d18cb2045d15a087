"""One request and one answer in the words of the Hub's image-classification API, the same wherever it is asked.

A request is a file's bytes, or JSON `{"inputs": BASE64, "parameters": {…}}`; an answer is `[{"label", "score"}, …]`,
the most probable class first, which bears what else must be said of it; the Hub's clients keep what they do not know. https://huggingface.co/docs/inference-providers/tasks/image-classification
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ct_xception.errors import InputError, printable
from ct_xception.imaging.windows import Window, parse_window

if TYPE_CHECKING:
    from ct_xception.serving.classifier import Classifier, Prediction, Source

PARAMETERS = ("top_k", "function_to_apply", "window", "frame")
POSTED = "the posted file"  # what messages call a file that came without a name


class NotAnswered(InputError):
    """A slice that the checkpoint's input gate refuses. `reasons` says why, a clause each."""

    def __init__(self, reasons: tuple[str, ...]) -> None:
        self.reasons = reasons
        super().__init__(f"not answered: {'; '.join(reasons)}.")


@dataclass(frozen=True)
class Asked:
    """What a request asks for beside its file; `top_k` None means every class."""

    top_k: int | None = None
    window: Window | None = None
    frame: int | None = None

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Asked:
        """From the request's parameters, numbers also as text. Raises InputError for unknown and impossible ones."""
        unknown = sorted(set(parameters) - set(PARAMETERS))
        if unknown:
            raise InputError(f"parameter {printable(unknown[0])!r} is unknown; there are {', '.join(PARAMETERS)}.")
        applied = parameters.get("function_to_apply")
        if applied not in (None, "softmax"):
            raise InputError(
                f"function_to_apply: {printable(applied)!r} is not to be had; scores are calibrated probabilities "
                "(softmax)."
            )
        window = parameters.get("window")
        return cls(
            _whole_number(parameters, "top_k", 1),
            None if window is None else parse_window(str(window)),
            _whole_number(parameters, "frame", 0),
        )


def _whole_number(parameters: Mapping[str, Any], name: str, least: int) -> int | None:
    value = parameters.get(name)
    if value is None:
        return None
    text = str(value)
    # isdecimal alone would take digits of other scripts, and int() more than this API means.
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal()) or len(text) > 9 or int(text) < least:
        raise InputError(f"{name}: {printable(value)!r} is no whole number from {least} on; mend it.")
    return int(text)


def read_json_request(body: bytes) -> tuple[bytes, Asked]:
    """The file and the wishes in a JSON body. Raises InputError where it is no such request."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is not JSON, as its content type says ({printable(error)}); mend it.") from error
    if not isinstance(request, Mapping) or "inputs" not in request:
        raise InputError('the JSON has no "inputs"; put the file there, in base64.')
    parameters = request.get("parameters") or {}
    if not isinstance(parameters, Mapping):
        raise InputError('"parameters" is no JSON object; give one, or leave it out.')
    return decode_file(request["inputs"]), Asked.of(parameters)


def decode_file(inputs: Any, name: str = '"inputs"') -> bytes:
    """The bytes of a file in base64, with or without `data:…;base64,` before them. Raises InputError."""
    if not isinstance(inputs, str):
        raise InputError(f"{name} is {type(inputs).__name__}, not text; put the file there, in base64.")
    text = inputs.partition(",")[2] if inputs.startswith("data:") else inputs
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{name} is not base64; encode the file's bytes, not its name or address.") from error


def classify(classifier: Classifier, source: Source, asked: Asked, name: str = POSTED) -> list[dict[str, Any]]:
    """Read and answer one file: [{"label": class, "score": probability in [0, 1]}], the most probable first.

    The first has more where there is more to say: `abstained` true, the gate's `doubtful` reasons, the `notes`.
    Raises SliceError, which calls the file `name`, where it cannot be read right, and NotAnswered where the
    checkpoint's gate refuses it.
    """
    slice_ = classifier.read(source, window=asked.window, frame=asked.frame, name=name)
    prediction = classifier(slice_)
    if prediction.refusal:
        raise NotAnswered(prediction.refusal)
    ranked = list(prediction.probabilities.items())[: asked.top_k]
    answer: list[dict[str, Any]] = [{"label": label, "score": probability} for label, probability in ranked]
    answer[0] |= _remarks(prediction)
    return answer


def _remarks(prediction: Prediction) -> dict[str, Any]:
    gate = prediction.gate
    said = {
        "abstained": prediction.abstained,
        "doubtful": [] if gate is None else list(gate.reasons),
        "notes": list(prediction.notes),
    }
    return {key: value for key, value in said.items() if value}
