"""Fine-tune, evaluate honestly, explain and publish Xception classifiers for CT images.

Public names load on first use, so that `import ct_xception` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

from ct_xception import auto_classes

__version__ = "0.1.0"

_HOMES = {
    "Classifier": "ct_xception.notebook.classifier",
    "Prediction": "ct_xception.notebook.answers",
    "Answers": "ct_xception.notebook.answers",
    "CTXceptionForImageClassification": "ct_xception.model.modelling",
    "Slice": "ct_xception.imaging.slice",
    "Window": "ct_xception.imaging.windows",
    "read_slice": "ct_xception.imaging.reader",
    "load_corpus": "ct_xception.corpus.load",
    "TrainConfig": "ct_xception.training.options",
    "InputError": "ct_xception.errors",
    "SliceError": "ct_xception.errors",
    "CorpusError": "ct_xception.errors",
    "CheckpointError": "ct_xception.errors",
}

_HINTS = {
    **dict.fromkeys(
        ("load_model", "load_checkpoint", "Model", "AutoModel", "AutoClassifier", "Predictor"),
        'a checkpoint is loaded by ct_xception.Classifier.from_pretrained("user/repo")',
    ),
    "evaluate": 'it is ct_xception.Classifier.from_pretrained("user/repo").evaluate(corpus)',
    "load": 'a checkpoint is loaded by ct_xception.Classifier.from_pretrained("user/repo")',
    "from_pretrained": 'it is ct_xception.Classifier.from_pretrained("user/repo")',
    "pipeline": 'it is ct_xception.Classifier.from_pretrained("user/repo"), or stock transformers.pipeline',
    "predict": 'it is ct_xception.Classifier.from_pretrained("user/repo").predict(sources)',
    "train": "networks are trained by `ct-xception train --corpus DIR`",
}
_PACKAGES = ("audit", "explain")  # which can be called: ct_xception.audit("DIR")

__all__ = [*_HOMES, *_PACKAGES, "__version__"]

auto_classes.watch()


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        hint = _HINTS.get(name) or f"it has {', '.join(__all__)}"
        raise AttributeError(f"module 'ct_xception' has no attribute {name!r}; {hint}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
