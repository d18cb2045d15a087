"""What the network that training started from sees in every image: the features of the frozen-backbone baseline.

Same reader, body crop, eval transform and image size as the run's own. Computed once and kept in the run folder.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ct_xception.corpus.cells import slice_source
from ct_xception.errors import CheckpointError
from ct_xception.evaluation.answers import Item
from ct_xception.files import atomic_path, sha256_file
from ct_xception.imaging.decoded import decoding_version
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.model.weights import find_weights
from ct_xception.serving.classifier import Classifier

if TYPE_CHECKING:
    from datasets import DatasetDict

    from ct_xception.audit.survey import Survey
    from ct_xception.serving.checkpoint import InputContract

NAME = "frozen_features"
CACHE_FORMAT = 1  # raised when features change, so that no older cache is taken for a present one

Features = NDArray[np.float32]


def frozen_features(
    splits: DatasetDict,
    survey: Survey,
    *,
    weights: str | None,
    backbone: str,
    image_size: int,
    contract: InputContract,
    cache: Path,
    frame: int | None = None,
    batch_size: int = 16,
    device: str = "cpu",
    progress: bool = True,
) -> tuple[Features | None, dict[str, str]]:
    """Pooled features (N, C) of the survey's items from the run's starting weights, and {}; or None, {name: why not}.

    `weights` is the run's option (hub, a file, a checkpoint; none for random, None where it is not known). `splits`
    hold the survey's items in any order, `contract` says how the run reads them, `cache` is the folder for the result.
    An item that the survey could not read has zeros.
    """
    if weights in (None, "none"):
        reason = "not known" if weights is None else "random, so its features say nothing"
        return None, {NAME: f"the network that training started from is {reason}"}

    try:
        file = find_weights(str(weights), backbone)
    except CheckpointError as error:
        return None, {NAME: str(error).rstrip(".")}
    assert file is not None  # only "none" names no file
    reading = [sha256_file(file), backbone, image_size, repr(contract), frame]
    told = [CACHE_FORMAT, decoding_version(), *reading, survey.byte_hash]
    key = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    path = cache / f"features-{key[:24]}.npy"
    if not path.is_file():
        classifier = _starting_network(file, backbone, image_size, survey.label_names, contract, device)
        computed = _each_file_once(splits, survey, classifier, frame, batch_size, progress)
        with atomic_path(path) as temporary:
            np.save(temporary, computed, allow_pickle=False)
    return np.load(path, allow_pickle=False), {}


def _starting_network(
    file: Path, backbone: str, image_size: int, label_names: Sequence[str], contract: InputContract, device: str
) -> Classifier:

    model = CTXceptionForImageClassification.from_backbone(backbone, label_names, image_size, weights=str(file))
    model.to(device)  # type: ignore[arg-type]
    return Classifier(model, contract)


def _each_file_once(
    splits: DatasetDict, survey: Survey, classifier: Classifier, frame: int | None, batch_size: int, progress: bool
) -> Features:
    """Features (N, C) in the survey's order; files with the same bytes are looked at once."""
    read = np.flatnonzero(survey.readable)
    hashes = np.asarray(survey.byte_hash)[read]
    _, first, copies = np.unique(hashes, return_index=True, return_inverse=True)
    items = _items(splits, [survey.sources[index] for index in read[first]])
    bar = tqdm(items, "frozen features", len(first), unit="image", dynamic_ncols=True, disable=not progress)
    remaining, rows = iter(bar), []
    while batch := list(itertools.islice(remaining, batch_size)):
        rows.append(_pooled(classifier, batch, frame))
    distinct = np.concatenate(rows)
    features = np.zeros((len(survey), distinct.shape[1]), np.float32)
    features[read] = distinct[copies]
    return features


def _items(splits: DatasetDict, sources: Sequence[str]) -> Iterator[Item]:
    """The rows of the splits that have these sources, in their order."""
    place = {
        source: (split, row)
        for split, part in splits.items()
        for row, source in enumerate(part.select_columns(["source"])[:]["source"])
    }
    for source in sources:
        split, row = place[source]
        yield splits[split][row]


def _pooled(classifier: Classifier, batch: Sequence[Item], frame: int | None) -> Features:
    """Globally averaged last feature maps (B, C) of a batch of items."""
    slices: list[Any] = [classifier.read(slice_source(item), frame=frame, name=str(item["source"])) for item in batch]
    values = torch.stack([classifier.prepare(slice_).pixel_values for slice_ in slices])
    values = values.to(classifier.model.device).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        return classifier.model.features(values).mean(dim=(2, 3)).float().cpu().numpy()
