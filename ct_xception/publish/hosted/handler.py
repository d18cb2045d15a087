"""The handler by which the Hub's Inference Endpoints answer from a checkpoint as our own predictor does.

`ct-xception push CHECKPOINT USER/REPO --handler` puts this file, as handler.py, beside the checkpoint, with the part of
the package that it needs. The endpoint's toolkit makes one EndpointHandler of the repository's folder and calls it for
each request; what it raises is answered as {"error": …}.

The toolkit itself opens what is posted as image/*, in 8-bit RGB. DICOM and 16-bit pictures therefore go as JSON:
{"inputs": BASE64, "parameters": {"top_k": 2, "window": "lung"}}, to an endpoint whose task is Custom.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ct_xception.errors import InputError
from ct_xception.imaging.reader import isolate_decoding
from ct_xception.serving.classifier import Classifier
from ct_xception.serving.inference_api import Asked, classify, decode_file


class EndpointHandler:
    """A checkpoint folder that answers requests; safe to call from several threads."""

    def __init__(self, path: str | Path = "") -> None:
        isolate_decoding()
        self.classifier = Classifier.from_pretrained(Path(path or "."), device=_device())

    def __call__(self, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Answer {"inputs": a picture, bytes or base64 text, "parameters": {…}}: [{"label", "score"}], likeliest first.

        Raises InputError, one sentence, for a request or a file that cannot be read right, and for a slice that the
        checkpoint's input gate refuses.
        """
        if "inputs" not in data:
            raise InputError('the request has no "inputs"; put the file there, in base64.')
        inputs, asked = data["inputs"], Asked.of(data.get("parameters") or {})
        if isinstance(inputs, (bytearray, memoryview)):
            inputs = bytes(inputs)
        source = inputs if isinstance(inputs, (bytes, Image.Image)) else decode_file(inputs)
        return classify(self.classifier, source, asked)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
