"""One request and one answer in the words of the Hub's image-classification API, the same wherever it is asked.

A request is a file's bytes, or JSON `{"inputs": BASE64, "parameters": {…}}`; an answer is `[{"label", "score"}, …]`,
the most probable class first, which bears what else must be said of it; the Hub's clients keep what they do not know.
https://huggingface.co/docs/inference-providers/tasks/image-classification
Of a file with several slices (a zip, a volume) the parameter `by` asks for one answer of its one series or patient.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.errors import InputError, printable
from ct_xception.files import parse_json
from ct_xception.imaging.windows import Window, parse_window
from ct_xception.serving.patients import answer_units
from ct_xception.serving.series import PATIENT, SERIES, gather_units, slices_in
from ct_xception.tabular import Row

if TYPE_CHECKING:
    from ct_xception.serving.classifier import Classifier, Prediction, Source

PARAMETERS = ("top_k", "function_to_apply", "window", "frame", "by", "tabular")
_EXAMPLE = 'give one such as {"age": 63, "sex": "F"}'
POSTED = "the posted file"  # what messages call a file that came without a name


class NotAnswered(InputError):
    """A slice that the checkpoint's input gate refuses. `reasons` says why, a clause each."""

    def __init__(self, reasons: tuple[str, ...]) -> None:
        self.reasons = reasons
        super().__init__(f"not answered: {'; '.join(reasons)}.")


@dataclass(frozen=True)
class Asked:
    """What a request asks for beside its file; `top_k` None means every class, `by` None one slice.

    `tabular` is the row of columns that a checkpoint takes beside the image, {"age": 63, "sex": "F"}.
    """

    top_k: int | None = None
    window: Window | None = None
    frame: int | None = None
    by: str | None = None
    tabular: Row | None = None

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
        window, by = parameters.get("window"), parameters.get("by")
        if by not in (None, "slice", SERIES, PATIENT):
            raise InputError(f"by: {printable(by)!r} is none of slice, {SERIES}, {PATIENT}; choose one.")
        if by in (SERIES, PATIENT) and parameters.get("frame") is not None:
            raise InputError(f"frame: one slice is not a {by}; leave out frame, or by.")
        return cls(
            _whole_number(parameters, "top_k", 1),
            None if window is None else parse_window(str(window)),
            _whole_number(parameters, "frame", 0),
            None if by == "slice" else by,
            read_row(parameters.get("tabular")),
        )


def read_row(given: Any) -> Row | None:
    """A row of columns from JSON, an object or its text; None where none is given. Raises InputError."""
    if given in (None, ""):
        return None
    try:
        row = parse_json(given) if isinstance(given, str) else given
    except ValueError as error:
        raise InputError(f"tabular: is no JSON object ({printable(error)}); {_EXAMPLE}.") from error
    if not isinstance(row, Mapping):
        raise InputError(f"tabular: is no JSON object; {_EXAMPLE}.")
    return row


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
        request = parse_json(body)
    except ValueError as error:
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
    checkpoint's gate refuses it. Asked by series or patient, all of its slices are answered together.
    """
    if asked.by is not None:
        return _classify_unit(classifier, source, asked, name)
    slice_ = classifier.read(source, window=asked.window, frame=asked.frame, name=name)
    prediction = classifier(slice_, tabular=asked.tabular)
    if prediction.refusal:
        raise NotAnswered(prediction.refusal)
    return _ranked(prediction.probabilities, asked, _remarks(prediction))


def _ranked(probabilities: Mapping[str, float], asked: Asked, remarks: Mapping[str, Any]) -> list[dict[str, Any]]:
    ranked = list(probabilities.items())[: asked.top_k]
    answer: list[dict[str, Any]] = [{"label": label, "score": probability} for label, probability in ranked]
    answer[0] |= {key: value for key, value in remarks.items() if value}
    return answer


def _remarks(prediction: Prediction) -> dict[str, Any]:
    gate = prediction.gate
    doubtful = [] if gate is None else list(gate.reasons)
    return {"abstained": prediction.abstained, "doubtful": doubtful, "notes": list(prediction.notes)}


def _classify_unit(classifier: Classifier, source: Source, asked: Asked, name: str) -> list[dict[str, Any]]:
    """The pooled answer of the one series or patient in a file's bytes, which lie on disk meanwhile.

    Its first entry tells how many `slices` were given and `answered`, and whether that pool is `calibrated`.
    """
    assert asked.by is not None
    if asked.tabular is not None and classifier.columns is None:
        raise InputError("tabular: this checkpoint takes the image alone; leave it out.")
    if asked.tabular is not None and classifier.columns is not None:
        classifier.columns.encode(asked.tabular)  # what cannot be taken is said before anything is read
    if not isinstance(source, bytes) and not hasattr(source, "read"):
        raise InputError(f"by: a {asked.by} is asked for of a file's bytes; post the file itself.")
    with tempfile.NamedTemporaryFile() as file:
        file.write(source if isinstance(source, bytes) else source.read())
        file.flush()
        members = [replace(one, tabular=asked.tabular) for one in slices_in(Path(file.name), name)[0]]
        units, _ = gather_units(members, asked.by)
        if len(units) > 1:
            held = f"{len(units)} {asked.by if asked.by == SERIES else 'patients'}"
            raise InputError(f"{name}: holds the slices of {held}; give one at a time.")
        answer = next(answer_units(classifier, units, window=asked.window))
    together = answer.together
    if together is None:
        reasons = tuple(dict.fromkeys(why.removeprefix(f"{one}: ") for one, why in answer.left_out))
        raise NotAnswered(("none of its slices is answered", *reasons[:3]))
    counts = {"slices": together.slices, "answered": together.answered, "calibrated": together.calibrated}
    notes = [f"{one}: {doubt}" for one, doubt in answer.doubts]
    remarks = {"abstained": together.decision.abstained, **counts, "without": answer.without, "notes": notes}
    return _ranked(together.probabilities, asked, remarks)
