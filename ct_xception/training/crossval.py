"""Grouped cross-validation: k networks by one recipe, each asked about the patients that it never saw.

Every fold is a run of its own in `folds/K/` (K from 1): killed, it goes on from its last epoch; done, it is never
trained again. One process trains the folds one after another, all processes of a launch sharing each; `--only_fold K`
trains one and stops, so that machines can take a fold each in one shared folder, or have their folders put together.

    folds/folds.json           how the folds were drawn; once all are done, what network answered for each
    folds/K/fold.json          written last: this fold is done
    folds/K/predictions.parquet, folds/K/model/, folds/K/history.jsonl
    folds/predictions.parquet  one answer an image, by the network that saw no image of its group
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow
import pyarrow.parquet
from accelerate.utils import broadcast_object_list
from numpy.typing import NDArray

from ct_xception.checkpoint import FOLD, FOLD_PLAN, FOLDS, MODEL, PREDICTIONS, WEIGHTS
from ct_xception.checkpoint_files import Side, read_side
from ct_xception.corpus.split import grouped_folds
from ct_xception.errors import CheckpointError
from ct_xception.files import atomic_path, read_record, sha256_file, write_json
from ct_xception.training.loop import Trained, Training
from ct_xception.training.model_folder import write_model_folder

if TYPE_CHECKING:
    from accelerate import Accelerator
    from datasets import Dataset, DatasetDict

    from ct_xception.training.data.cache import CachedSlices
    from ct_xception.training.options import TrainConfig


# Called on every process with a fold's model folder and its splits; gives the answers to the fold's test part:
# probabilities (N, K), NaN where the file was refused, {source: why}, and attention scores (N,) where they are learnt.
Finish = Callable[[Path, "DatasetDict"], tuple[NDArray[np.float64], Mapping[str, str], NDArray[np.float64] | None]]


@dataclass(frozen=True, eq=False)
class Plan:
    """The folds of a run: where they live, their splits (fold 1 first), and what folds.json says of them."""

    folder: Path
    splits: list[DatasetDict]
    description: dict[str, Any]

    def folder_of(self, number: int) -> Path:
        """The folder of fold `number`, from 1."""
        return self.folder / str(number)

    def is_done(self, number: int) -> bool:
        """Whether fold `number` has its answers."""
        return (self.folder_of(number) / FOLD).is_file()


def plan_folds(config: TrainConfig, run: Path, splits: DatasetDict, groups_origin: str | None) -> Plan:
    """Draw the folds of a run. Raises `CheckpointError` where the folds that are there were drawn otherwise."""
    folds, description = grouped_folds(splits, config.folds, seed=config.seed, validation=config.valid_fraction)
    described = [{name: fold[name] for name in ("name", "counts", "groups")} for fold in description["folds"]]
    plan = Plan(run / FOLDS, folds, description | {"groups_origin": groups_origin, "folds": described})
    file = plan.folder / FOLD_PLAN
    try:
        found = read_record(file) if file.is_file() else description
    except ValueError as error:
        raise CheckpointError(f"--folds: {file} cannot be read ({error}); remove {plan.folder}.") from error
    if found.get("name") != description["name"]:
        raise CheckpointError(
            f"--folds: {plan.folder} holds {found.get('k')} folds that were drawn otherwise (seed "
            f"{found.get('seed')}); give the options they were drawn with, or remove that folder."
        )
    return plan


def cross_validate(
    config: TrainConfig,
    accelerator: Accelerator,
    plan: Plan,
    slices: Callable[[], CachedSlices],
    unlabelled: Callable[[DatasetDict], CachedSlices | None] = lambda _: None,
    *,
    corpus: dict[str, Any],
    command: str,
    finish: Finish,
) -> bool:
    """Train and ask the folds that are wanted and not done; whether all are, and folds/predictions.parquet is there.

    `slices` prepares the whole corpus, if any fold is still to be trained, `unlabelled` what a fold may learn from
    without labels. `corpus` and `command` are for the record.
    """
    numbers = range(1, len(plan.splits) + 1)
    done = broadcast_object_list([[plan.is_done(number) for number in numbers]])[0]
    wanted = [number for number in numbers if config.only_fold in (None, number) and not done[number - 1]]
    if accelerator.is_main_process and not (plan.folder / FOLD_PLAN).is_file():
        write_json(plan.folder / FOLD_PLAN, plan.description)
    accelerator.wait_for_everyone()
    pool = slices() if wanted else None
    with _without_trackers(accelerator):
        for number in wanted:
            assert pool is not None
            fold = plan.splits[number - 1]
            sizes = ", ".join(f"{len(part)} {split}" for split, part in fold.items())
            accelerator.print(f"fold {number} of {len(plan.splits)}: {sizes}")
            trained = _train_fold(config, accelerator, plan, number, pool, unlabelled(fold))
            _ask_fold(config, accelerator, plan, number, trained, corpus, command, finish)
    complete = broadcast_object_list([all(plan.is_done(number) for number in numbers)])[0]
    if complete and accelerator.is_main_process:
        _collect(plan)
    accelerator.wait_for_everyone()
    return complete


@contextlib.contextmanager
def _without_trackers(accelerator: Accelerator) -> Iterator[None]:
    """A tracker holds the main run's curves; the folds' epochs, counted from 1 again, would be drawn over them."""
    trackers, accelerator.trackers = accelerator.trackers, []
    try:
        yield
    finally:
        accelerator.trackers = trackers


def _train_fold(
    config: TrainConfig,
    accelerator: Accelerator,
    plan: Plan,
    number: int,
    pool: CachedSlices,
    unlabelled: CachedSlices | None,
) -> Trained:
    fold = plan.splits[number - 1]
    accelerator.free_memory()  # the network before this one
    training = Training(
        config_of_fold(config),
        accelerator,
        plan.folder_of(number),
        label_names=fold["train"].features["label"].names,
        split=plan.description["folds"][number - 1]["name"],
        train=pool.select(fold["train"]["source"]),
        validation=pool.select(fold["validation"]["source"]),
        unlabelled=unlabelled,
    )
    trained = training.fit()
    accelerator.free_memory()
    return trained


def config_of_fold(config: TrainConfig) -> TrainConfig:
    """The run's own recipe; a fold goes on wherever it was left."""
    return dataclasses.replace(config, resume="auto", output_dir=config.output_dir or "runs")


def _ask_fold(
    config: TrainConfig,
    accelerator: Accelerator,
    plan: Plan,
    number: int,
    trained: Trained,
    corpus: dict[str, Any],
    command: str,
    finish: Finish,
) -> None:
    """Make the fold's checkpoint, let it answer its held-out images, and write both down; its training state goes."""
    folder, fold = plan.folder_of(number), plan.splits[number - 1]
    model, described = folder / MODEL, plan.description["folds"][number - 1]
    if accelerator.is_main_process:
        shutil.rmtree(model, ignore_errors=True)
        names = fold["train"].features["label"].names
        split = described | {"protocol": "grouped", "seed": config.seed}
        write_model_folder(model, config, names, trained, corpus=corpus, split=split, command=command)
    accelerator.wait_for_everyone()
    probabilities, refused, attention = finish(model, fold)
    if accelerator.is_main_process:
        _write_answers(folder / PREDICTIONS, fold["test"], number, probabilities, refused, attention)
        record = {
            "fold": number,
            "split_hash": described["name"],
            "weights_sha256": sha256_file(model / WEIGHTS),
            "n": len(fold["test"]),
            "counts": described["counts"],
            "pooling": (read_side(model) or Side()).to_json().get("pooling"),
            "best_epoch": trained.best_epoch,
            "epochs": len(trained.history),
            "seconds": round(sum(line["seconds"] for line in trained.history), 1),
        }
        write_json(folder / FOLD, record)
        shutil.rmtree(folder / "checkpoints")
    accelerator.wait_for_everyone()


def _write_answers(
    path: Path,
    test: Dataset,
    number: int,
    probabilities: NDArray[np.float64],
    refused: Mapping[str, str],
    attention: NDArray[np.float64] | None,
) -> None:
    """One row an image: source, group, perhaps series, label, fold, `p <class>` (null where refused), refused.

    `attention` is null where this fold's network pools without.
    """
    names, sources = test.features["label"].names, list(test["source"])
    unknown = ~np.isfinite(probabilities).all(axis=1)
    columns: dict[str, Any] = {"source": sources, "group": list(test["group"])}
    columns |= {"series": list(test["series"])} if "series" in test.column_names else {}
    columns["label"] = [names[label] for label in test["label"]]
    columns["fold"] = pyarrow.array([number] * len(sources), pyarrow.int32())
    columns |= {f"p {name}": pyarrow.array(probabilities[:, k], mask=unknown) for k, name in enumerate(names)}
    columns["refused"] = pyarrow.array([refused.get(source) for source in sources], pyarrow.string())
    scores = np.full(len(sources), np.nan) if attention is None else attention
    columns["attention"] = pyarrow.array(scores, pyarrow.float64(), from_pandas=True)
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(columns), temporary)


def _collect(plan: Plan) -> None:
    """Put the folds' answers together, one an image, and say in folds.json which network gave them."""
    numbers = range(1, len(plan.splits) + 1)
    records = [read_record(plan.folder_of(number) / FOLD) for number in numbers]
    names = [own["name"] for own in plan.description["folds"]]
    strange = [record["fold"] for record, name in zip(records, names, strict=True) if record["split_hash"] != name]
    if strange:
        raise CheckpointError(
            f"--folds: {plan.folder_of(strange[0])} is a fold of another corpus or seed; remove it, to train it again."
        )
    tables = [pyarrow.parquet.read_table(plan.folder_of(number) / PREDICTIONS) for number in numbers]
    with atomic_path(plan.folder / PREDICTIONS) as temporary:
        pyarrow.parquet.write_table(pyarrow.concat_tables(tables), temporary)
    write_json(plan.folder / FOLD_PLAN, plan.description | {"folds": records})
