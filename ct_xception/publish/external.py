"""External validation of a finished checkpoint: its own evaluation stands, and other corpora are added beside it.

record = validate(checkpoint, externals, output=Path("evaluation"), keep=False)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ct_xception.checkpoint import EVALUATION, EXTERNAL, EXTERNAL_FORMAT, METRICS, SOURCES, WEIGHTS, evaluated
from ct_xception.checkpoint_files import Side, check_seal, need_side, read_side, seal
from ct_xception.errors import InputError, printable
from ct_xception.evaluation.answers import stock_answers
from ct_xception.evaluation.measure import Given, ask_elsewhere, measure_elsewhere
from ct_xception.evaluation.predictions import Names
from ct_xception.evaluation.shift.validation import Validation, private_names, write_external_answers
from ct_xception.files import sha256_file, write_json
from ct_xception.metrics import ExternalMetrics, read_metrics
from ct_xception.publish.card.card import refresh_card
from ct_xception.publish.clearance import list_files
from ct_xception.publish.recount import Recount
from ct_xception.publish.verify import REMEDY, read_evidence
from ct_xception.serving.checkpoint import Checkpoint
from ct_xception.serving.classifier import Classifier

if TYPE_CHECKING:
    from ct_xception.evaluation.protocols import Part
    from ct_xception.evaluation.shift.external import External


def validate(
    checkpoint: Checkpoint,
    externals: Sequence[External],
    *,
    output: Path,
    keep: bool = False,
    modality: str | None = None,
    stock: bool = True,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, ExternalMetrics]:
    """Ask a checkpoint about external corpora; {name: metrics}, as metrics.json has them under `external`.

    `output` gets external/NAME.parquet and external.json, and the private files of names. With `keep` the checkpoint's
    own evaluation gets them, too, and card and seal are made anew. Raises CheckpointError or InputError where the
    folder has no evaluation of its own to keep them beside, or is not as it was sealed.
    """
    folder = checkpoint.folder
    if keep:
        check_keepable(checkpoint)
    classifier = Classifier.from_pretrained(folder, modality=modality)
    names, side = list(classifier.label_names), read_side(folder) or Side()
    asked = stock_answers(folder) if stock else None
    elsewhere = ask_elsewhere(externals, classifier, asked, batch_size=batch_size, progress=progress)
    given = Given({}, names, side, Names([], anonymous=True), seed=seed, elsewhere=elsewhere)
    record = measure_elsewhere(given, _own_part(folder))
    write_external_answers(output, elsewhere)
    head = {"format": EXTERNAL_FORMAT, "weights_sha256": sha256_file(folder / WEIGHTS)}
    stated = {name: block.to_json() for name, block in record.items()}
    write_json(output / f"{EXTERNAL}.json", head | {"external": stated})
    for name, one in elsewhere.items():
        write_json(private_names(output / SOURCES, name), one.names.private)
    if keep:
        _keep(folder, elsewhere, record)
    return record


def check_keepable(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError or InputError unless a folder has a sealed evaluation that more can be put beside."""
    folder = checkpoint.folder
    if checkpoint.revision is not None:
        raise InputError(f"--keep: {checkpoint.name} is a copy of the Hub's; download it into a folder of your own.")
    if not (folder / evaluated(METRICS)).is_file():
        raise InputError(f"--keep: {printable(folder)} holds no evaluation of its own; leave --keep out.")
    check_seal(folder, list_files(folder), need_side(folder).manifest)
    read_evidence(folder)


def _own_part(folder: Path) -> Part | None:
    """The answers behind the checkpoint's headline; None where it was not evaluated."""
    if not (folder / evaluated(METRICS)).is_file():
        return None
    evidence = read_evidence(folder)
    recount = Recount(folder, evidence.side, evidence.metrics, REMEDY)
    return recount.part(evidence.headline, evidence.answers[evidence.headline])


def _keep(folder: Path, elsewhere: Mapping[str, Validation], record: Mapping[str, ExternalMetrics]) -> None:
    metrics = read_metrics(folder / EVALUATION / METRICS)
    write_external_answers(folder / EVALUATION, elsewhere, clear=False)
    metrics = metrics.model_copy(update={"external": {**metrics.external, **record}})
    write_json(folder / EVALUATION / METRICS, metrics.to_json())
    refresh_card(folder)
    seal(folder)
