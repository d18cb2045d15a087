"""Corpus in, Hub-ready checkpoint out: load, audit, split, train, calibrate, fit the gate, evaluate, card, seal.

    accelerate launch train_hf.py --corpus DIR --weights hub
    accelerate launch train_hf.py --corpus phantom --weights none --output_dir runs/phantom --resume auto
    accelerate launch train_hf.py … --resume auto --protocols published deduplicated grouped --only_fold 3

The last one trains the third fold of a cross-validation alone. Without --only_fold the folds that are missing are
trained one after another, also for a run that is complete, and the checkpoint is then evaluated anew.

    accelerate launch train_hf.py --init USER/REPO --corpus NEW --replay OLD

That goes on from a checkpoint, and ends with a new version only where no test, old or new, got worse.

--push_to_hub USER/REPO publishes the checkpoint; whether it may is asked before anything slow begins.

Every stage leaves its result in the run folder; --help lists the options. The process ends with 0 when done, 1 when
training failed, 2 on bad input or usage, 130 when interrupted; `accelerate launch` itself turns every failure into 1.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.errors import InputError, printable
from ct_xception.files import read_json, write_json
from ct_xception.wording import RESEARCH_USE

if TYPE_CHECKING:
    from accelerate import Accelerator
    from datasets import Dataset, DatasetDict

    from ct_xception.corpus.audit import Audit
    from ct_xception.corpus.load import Corpus
    from ct_xception.corpus.overlap import Overlap, SplitCorpus
    from ct_xception.evaluation.answers import AnswerBatch, Answers
    from ct_xception.evaluation.gate_fit import Seen
    from ct_xception.evaluation.protocols import Protocols
    from ct_xception.training.cache import CachedSlices
    from ct_xception.training.config import TrainConfig
    from ct_xception.training.loop import Trained
    from ct_xception.training.replay import OldCorpus


@dataclass(frozen=True, eq=False)
class River:
    """What every stage after the split starts from; the same on every process, but for the main one's `audit`.

    `patients` {source: name} are the audit's, None without one; `corpus` is the report that may be published; `old` are
    the corpora of --replay, and `overlaps`, the main one's again, say what all of them share, this one first.
    """

    config: TrainConfig
    run: Path
    accelerator: Accelerator
    command: str
    corpus: dict[str, Any]
    splits: DatasetDict
    split: dict[str, Any]
    audit: Audit | None
    patients: dict[str, str] | None
    old: tuple[OldCorpus, ...] = ()
    overlaps: list[Overlap] | None = None

    @property
    def label_names(self) -> list[str]:
        """The class names in index order."""
        return self.splits["train"].features["label"].names

    @property
    def folder(self) -> Path:
        """Where the checkpoint grows; it is put in place when it is whole."""
        return self.run / "model.partial"

    @property
    def corpora(self) -> list[SplitCorpus]:
        """This corpus, and the old ones."""
        from ct_xception.corpus.overlap import SplitCorpus

        survey = None if self.audit is None else self.audit.survey
        return [SplitCorpus(self.splits, self.corpus, self.split, survey), *self.old]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the build river; the exit code."""
    from ct_xception.training.config import parse_config

    try:
        config = parse_config(arguments)
        from ct_xception.training.loop import TrainingError

        try:
            build(config, _command(sys.argv[1:] if arguments is None else arguments))
        except (TrainingError, *_failures()) as error:  # type: ignore[misc]  # mypy does not see through the star
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            print(f"train_hf.py: {reason}", file=sys.stderr)
            return 1
    except InputError as error:
        if int(os.environ.get("RANK", "0")) == 0:
            print(f"train_hf.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ntrain_hf.py: interrupted; this run's --output_dir and --resume auto go on from here.", file=sys.stderr)
        return 130
    return 0


def build(config: TrainConfig, command: str) -> None:
    """The stages, in order, on one process or many."""
    from ct_xception.publish.hub import check_access
    from ct_xception.training.loop import make_accelerator, share_cores
    from ct_xception.training.preflight import check_before_reading, is_complete

    _quieten()
    share_cores(config)
    run = _open_run(config)
    accelerator = make_accelerator(config, run)
    check_before_reading(config, run)
    if config.push_to_hub:
        check_access(config.push_to_hub, private=config.private)
    several = f"   ({accelerator.num_processes} processes)" if accelerator.num_processes > 1 else ""
    accelerator.print(f"run folder: {run}{several}")
    if is_complete(config, run):
        accelerator.print(f"{run / 'model'} is complete already; nothing is left to train or measure.")
        if accelerator.is_main_process:
            push(config, run)
        return
    river = look_across(load_and_split(config, run, accelerator, command))
    if config.only_fold is None:
        make_checkpoint(river)
    if "grouped" in config.protocols:
        cross_validate(river)
    if config.only_fold is None:
        metrics = evaluate(river)
        compare_with_start(river)
        if accelerator.is_main_process:
            publish(run, metrics)
            push(config, run)
    accelerator.wait_for_everyone()
    accelerator.end_training()


def load_and_split(config: TrainConfig, run: Path, accelerator: Accelerator, command: str) -> River:
    """Load the corpus, look for what is wrong with it, honour or make its splits; write and print what was found."""
    from ct_xception.corpus.load import corpus_summary, load_corpus, public_report
    from ct_xception.corpus.split import split_corpus
    from ct_xception.evaluation.questions import partition_classes
    from ct_xception.training.preflight import check_corpus
    from ct_xception.training.processes import main_first
    from ct_xception.training.replay import load_old

    with main_first(accelerator):
        corpus = load_corpus(config.corpus, config.corpus_options)
    if config.class_groups:
        partition_classes(config.class_group_lists, corpus.label_names)
    audit, patients = audit_corpus(config, run, accelerator, corpus)
    fractions = (1 - config.valid_fraction - config.test_fraction, config.valid_fraction, config.test_fraction)
    splits, split, report = split_corpus(corpus, patients, fractions=fractions, seed=config.seed)
    check_corpus(config, run, corpus.label_names, split)
    if accelerator.is_main_process:
        _write_record(run, {"config.json": config.mapping, "corpus.json": report, "split.json": split})
        print(corpus_summary(report), flush=True)
        if audit is not None:
            _write_audit(run, audit)
    with main_first(accelerator):
        old = load_old(config, corpus.label_names, run / "cache")
    return River(config, run, accelerator, command, public_report(report), splits, split, audit, patients, old)


def audit_corpus(
    config: TrainConfig, run: Path, accelerator: Accelerator, corpus: Corpus
) -> tuple[Audit | None, dict[str, str] | None]:
    """The audit, on the main process, and on every one whose each image probably is; None without an audit."""
    from accelerate.utils import broadcast_object_list

    if not config.audit:
        accelerator.print("no audit: leaks are not looked for, and neither twins nor simple rules are measured.")
        return None, None
    audit = None
    if accelerator.is_main_process:
        from ct_xception.corpus.audit import audit_corpus as audit_all

        reading: dict[str, Any] = {"window": config.reading.window, "frame": config.frame}
        audit = audit_all(corpus, seed=config.seed, cache=run / "cache", **reading)
    patients = broadcast_object_list([None if audit is None else dict(audit.patients)])[0]
    return audit, patients


def _write_audit(run: Path, audit: Audit) -> None:
    from ct_xception.corpus.audit import audit_summary, keep_audit, write_audit

    write_audit(audit, run)
    keep_audit(audit, run / "cache")
    print(audit_summary(audit), flush=True)
    if audit.warning():
        print(f"warning: {audit.warning()}", file=sys.stderr, flush=True)


def look_across(river: River) -> River:
    """Look, on the main process, for test images of one corpus that another one trains on; nothing without --replay."""
    from ct_xception.corpus.audit import write_audit
    from ct_xception.corpus.overlap import find_overlaps, overlap_findings

    if river.audit is None or not river.old:
        return river
    reading: dict[str, Any] = {"window": river.config.reading.window, "frame": river.config.frame}
    overlaps = find_overlaps(river.corpora, cache=river.run / "cache", **reading)
    findings = overlap_findings(overlaps)
    audit = river.audit.with_findings(findings)
    if findings:
        write_audit(audit, river.run)
        print(f"warning: {' '.join(finding.title for finding in findings)}", file=sys.stderr, flush=True)
    return replace(river, audit=audit, overlaps=overlaps)


def make_checkpoint(river: River) -> None:
    """Train, calibrate, fit the input gate; where the checkpoint is there, open it again to be measured anew."""
    from ct_xception.training.model_folder import reopen_model_folder, write_model_folder

    config, run, folder, accelerator = river.config, river.run, river.folder, river.accelerator
    records: dict[str, Any] = {"corpus": river.corpus, "split": river.split}
    if (run / "model").exists():
        if accelerator.is_main_process:
            reopen_model_folder(run / "model", folder, **records)
    else:
        trained = train(river)
        if accelerator.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
            write_model_folder(folder, config, river.label_names, trained, command=river.command, **records)
    accelerator.wait_for_everyone()
    calibrate(river, folder, river.splits)
    fit_gate(river, folder)


def train(river: River) -> Trained:
    """Decode once, then train; the weights to keep."""
    from ct_xception.training.loop import Training
    from ct_xception.training.replay import split_of

    config, accelerator = river.config, river.accelerator
    training = Training(
        config,
        accelerator,
        river.run,
        label_names=river.label_names,
        split=split_of(river.split, river.old),
        train=_slices(river, "train"),
        validation=_slices(river, "validation"),
    )
    if config.trackers:
        accelerator.init_trackers("ct-xception", config={name: str(value) for name, value in config.mapping.items()})
    return training.fit()


def _slices(river: River, name: str) -> CachedSlices:
    from ct_xception.training.cache import prepare_slices
    from ct_xception.training.processes import main_first
    from ct_xception.training.replay import mix_in

    cache, config = river.run / "cache", river.config
    with main_first(river.accelerator):
        own = prepare_slices(river.splits[name], cache, config.reading, description=f"reading {name}")
        return mix_in(own, river.old, name, cache, config)


def calibrate(river: River, folder: Path, splits: DatasetDict) -> None:
    """Fold the temperature into the head, and settle how the checkpoint decides, by its answers to validation."""
    from ct_xception.evaluation.answers import Items
    from ct_xception.evaluation.rules import fit_rules, groups_cross
    from ct_xception.training.model_folder import calibrate_model_folder

    config = river.config
    side = read_json(folder / "ct_xception.json")
    groups = config.class_group_lists or side.get("class_groups", {})
    calibrated = "calibration" in side
    river.accelerator.wait_for_everyone()  # every process has read the side file before the main one changes it
    if calibrated and side["conformal"]["coverage"] == config.coverage and side.get("class_groups", {}) == groups:
        return
    answers = _answer(river, splits["validation"], _predictor(river, folder), "validation")
    if river.accelerator.is_main_process:
        options: dict[str, Any] = {"coverage": config.coverage, "class_groups": groups, "calibrated": calibrated}
        options["crossing"] = groups_cross(splits)
        temperature, rules = fit_rules(Items.of(splits["validation"]), answers, river.label_names, **options)
        calibrate_model_folder(folder, temperature, rules)
    river.accelerator.wait_for_everyone()


def fit_gate(river: River, folder: Path) -> None:
    """The input gate, from what the network makes of training and validation slices; a gate of these weights stays."""
    from ct_xception.evaluation import gate_fit

    side = read_json(folder / "ct_xception.json")
    river.accelerator.wait_for_everyone()  # as in `calibrate`
    if gate_fit.has_gate(side):
        return
    train, validation = (_see(river, folder, name) for name in ("train", "validation"))
    if river.accelerator.is_main_process:
        options: dict[str, Any] = {"weights_sha256": side["provenance"]["weights_sha256"]}
        rule, arrays = gate_fit.fit_gate(train, validation, body_crop=river.config.body_crop, **options)
        gate_fit.write_gate(folder, rule, arrays)
    river.accelerator.wait_for_everyone()


def _see(river: River, folder: Path, name: str) -> Seen:
    """What the network makes of a split's slices, in their order, on every process; each has looked at its share."""
    import numpy as np
    from accelerate.utils import gather_object

    from ct_xception.evaluation.gate_fit import Seen, sample, see_items
    from ct_xception.serving.predictor import Classifier

    accelerator, reading, items = river.accelerator, river.config.reading, river.splits[name]
    classifier = Classifier.from_pretrained(folder, device=str(accelerator.device), gate=False)
    rows = sample(len(items), river.config.seed)
    share = np.array_split(rows, accelerator.num_processes)[accelerator.process_index]
    options: dict[str, Any] = {"window": reading.window, "frame": reading.frame}
    options["progress"] = f"input gate, {name}" if accelerator.is_main_process else None
    found = see_items(classifier, items.select(share), batch_size=river.config.batch_size, **options)
    return Seen.join(gather_object([found]))


def _predictor(river: River, folder: Path) -> AnswerBatch:
    from ct_xception.evaluation.answers import predictor_answers

    reading, device = river.config.reading, str(river.accelerator.device)
    return predictor_answers(folder, device=device, window=reading.window, frame=reading.frame)


def _answer(river: River, items: Dataset, answer: AnswerBatch, title: str) -> Answers:
    """The answers to all items, in their order, on every process; each has asked its share."""
    import numpy as np
    from accelerate.utils import gather_object

    from ct_xception.evaluation.answers import answer_items, join_answers

    accelerator = river.accelerator
    share = np.array_split(np.arange(len(items)), accelerator.num_processes)[accelerator.process_index]
    progress = title if accelerator.is_main_process else None
    size = river.config.batch_size
    found = answer_items(items.select(share), answer, river.label_names, batch_size=size, progress=progress)
    return join_answers(gather_object([found]))


def cross_validate(river: River) -> None:
    """Train the folds that are missing, or --only_fold; every image is then answered by a network that saw no kin."""
    from ct_xception.corpus.split import merge_patients
    from ct_xception.training import crossval
    from ct_xception.training.cache import CachedSlices

    config = river.config
    splits, origin = merge_patients(river.splits, river.patients, river.corpus["groups"]["origin"])

    def finish(model: Path, fold: DatasetDict) -> Any:
        calibrate(river, model, fold)
        answers = _answer(river, fold["test"], _predictor(river, model), "held out")
        return answers.probabilities, answers.refused

    complete = crossval.cross_validate(
        config,
        river.accelerator,
        crossval.plan_folds(config, river.run, splits, origin),
        lambda: CachedSlices.join(_slices(river, name) for name in splits),
        corpus=river.corpus,
        command=river.command,
        finish=finish,
    )
    if config.only_fold is not None:
        left = "all folds are done" if complete else "others are left"
        river.accelerator.print(f"fold {config.only_fold} is done; {left}. Run without --only_fold to measure them.")


def evaluate(river: River) -> dict[str, Any]:
    """Answer the test split along both paths, each process its share; the main one writes the figures."""
    from ct_xception.evaluation.answers import PREDICTOR, STOCK_PIPELINE, stock_answers
    from ct_xception.evaluation.evaluator import write_evaluation
    from ct_xception.evaluation.figures import Outputs
    from ct_xception.evaluation.predictions import SOURCES

    folder, run, test = river.folder, river.run, river.splits["test"]
    paths = {
        PREDICTOR: _predictor(river, folder),
        STOCK_PIPELINE: stock_answers(folder, device=str(river.accelerator.device)),
    }
    titles = {path: f"test, {path.replace('_', ' ')}" for path in paths}
    answers = {path: _answer(river, test, answer, titles[path]) for path, answer in paths.items()}
    explained = explain(river, test, answers[PREDICTOR])
    if not river.accelerator.is_main_process:
        return {}
    history = run / "history.jsonl"
    outputs = Outputs(history=history if history.is_file() else None, examples=run, names=run / SOURCES)
    protocols = _protocols(river)
    stated: dict[str, Any] = {"split": river.split, "corpus": river.corpus, "seed": river.config.seed}
    stated |= {"outputs": outputs, "protocols": protocols, "explained": explained}
    metrics = write_evaluation(folder, test, answers, **stated)
    _write_errors(river, answers[PREDICTOR], protocols)
    return metrics


def explain(river: River, test: Dataset, answers: Answers) -> dict[int, dict[str, Any]]:
    """What is found of some test images' heat maps, by row, on every process; each has looked at its share."""
    from accelerate.utils import gather_object

    from ct_xception.evaluation.answers import Items
    from ct_xception.evaluation.explanations import explain_items, sample

    accelerator, config, reading = river.accelerator, river.config, river.config.reading
    rows = sample(Items.of(test).labels, answers.answered, config.explained, config.seed)
    share = rows[accelerator.process_index :: accelerator.num_processes]
    options: dict[str, Any] = {"window": reading.window, "frame": reading.frame, "seed": config.seed}
    options["progress"] = "heat maps" if accelerator.is_main_process else None
    found = explain_items(river.folder, test, share, device=str(accelerator.device), **options)
    return {row: record for part in gather_object([found]) for row, record in part.items()}


def _protocols(river: River) -> Protocols:
    """What is measured beside the own test split: what is asked for, and what an earlier call left behind."""
    from ct_xception.evaluation.frozen_features import frozen_features
    from ct_xception.evaluation.protocols import find_protocols
    from ct_xception.serving.checkpoint import open_checkpoint

    config, audit, folds = river.config, river.audit, river.run / "folds"
    features, skipped = None, dict[str, str]()
    if audit is not None:
        features, skipped = frozen_features(
            river.splits,
            audit.survey,
            weights=config.weights,
            backbone=config.backbone,
            image_size=config.image_size,
            contract=open_checkpoint(river.folder).contract,
            cache=river.run / "cache",
            frame=config.frame,
            batch_size=config.batch_size,
            device=str(river.accelerator.device),
        )
    done = folds if (folds / "predictions.parquet").is_file() else None
    stated: dict[str, Any] = {"folds": done, "features": features, "skipped": skipped, "seed": config.seed}
    if river.overlaps is not None:
        stated["elsewhere"] = river.overlaps[0].mask(river.splits["test"]["source"])
    return find_protocols(audit, river.splits, **stated)


def _write_errors(river: River, answers: Answers, protocols: Protocols) -> None:
    """The mistakes, one by one, with heat maps: a page for the run folder."""
    from ct_xception.evaluation.error_page import write_error_page

    if river.audit is None:
        return
    write_error_page(
        river.run,
        river.folder,
        river.splits,
        answers,
        survey=river.audit.survey,
        protocols=protocols,
        split=river.split,
        window=river.config.reading.window,
        frame=river.config.frame,
        device=str(river.accelerator.device),
    )


def compare_with_start(river: River) -> None:
    """Ask the new network and that of --init about every test, old and new; nothing without --init.

    Raises `TrainingError` where a test may have got worse: the checkpoint is kept as model.refused then.
    """
    from accelerate.utils import broadcast_object_list

    from ct_xception.evaluation.protocols import twin_mask
    from ct_xception.publish.lineage import settle_version
    from ct_xception.training.loop import TrainingError
    from ct_xception.training.replay import replay_record
    from ct_xception.training.start import open_start

    if river.config.init is None:
        return
    start = open_start(river.config)
    asked = {"new": _predictor(river, river.folder), "before": _predictor(river, start.folder)}
    tests = river.corpora
    answers = [
        tuple(_answer(river, one.splits["test"], answer, f"test {number}, {name}") for name, answer in asked.items())
        for number, one in enumerate(tests, start=1)
    ]
    why = None
    if river.accelerator.is_main_process:
        replay = replay_record(river.splits, river.old, river.config)
        has_twin = None if river.audit is None else twin_mask(river.audit, river.splits)
        stated: dict[str, Any] = {"margin": river.config.margin, "seed": river.config.seed}
        stated |= {"has_twin": has_twin, "overlaps": river.overlaps}
        why = settle_version(river.folder, river.run, start, tests, answers, replay, **stated)
    if why := broadcast_object_list([why])[0]:
        if not river.accelerator.is_main_process:
            sys.exit(1)  # one process says why
        raise TrainingError(why)


def publish(run: Path, metrics: dict[str, Any]) -> None:
    """Write the card, seal the folder, put it in place, and say what came out."""
    from ct_xception.evaluation.text import evaluation_summary
    from ct_xception.publish.card import write_card
    from ct_xception.publish.manifest import seal
    from ct_xception.training.model_folder import replace_model_folder

    folder = run / "model.partial"
    write_card(folder)
    seal(folder)
    replace_model_folder(folder, run / "model")
    print(f"\n{evaluation_summary(metrics)}")
    print(f"checkpoint: {run / 'model'}   (card: README.md, figures: evaluation/)")
    print(f"ask it:     ct-xception predict FILE --model {run / 'model'}")
    print(f"{RESEARCH_USE}")


def push(config: TrainConfig, run: Path) -> None:
    """Publish the finished checkpoint where --push_to_hub asks for it; --resume auto makes a failed push again."""
    from ct_xception.publish.hub import push_checkpoint

    if config.push_to_hub:
        pushed = push_checkpoint(run / "model", config.push_to_hub, private=config.private)
        print(f"published:  {pushed.url}   (commit {pushed.commit[:12]})")


def _open_run(config: TrainConfig) -> Path:
    """The run folder, the same on every process; not made yet."""
    from accelerate.utils import broadcast_object_list

    from ct_xception.training.model_folder import recover_model_folder
    from ct_xception.training.processes import join_processes

    state = join_processes()
    name = re.sub(r"[^\w.-]+", "-", Path(config.corpus.partition(":")[0]).name or "corpus").strip("-.")
    default = str(Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    run = Path(broadcast_object_list([config.output_dir or default])[0])
    if run.exists() and not run.is_dir():
        raise InputError(f"--output_dir: {printable(run)} is a file; name a folder.")
    held = run.is_dir() and any(run.iterdir())
    if state.is_main_process:
        recover_model_folder(run / "model")
    state.wait_for_everyone()
    if held and config.resume != "auto":
        raise InputError(
            f"--output_dir: {printable(run)} holds a run already; go on with it (--resume auto) or name another folder."
        )
    return run


def _write_record(run: Path, records: dict[str, Any]) -> None:
    """The run folder begins with what was asked for and what was found; before that nothing is written."""
    try:
        for name, record in records.items():
            write_json(run / name, record)
    except OSError as error:
        raise InputError(
            f"--output_dir: {printable(run)} cannot be written ({error.strerror}); name another folder."
        ) from error


def _quieten() -> None:
    """Leave the terminal to our own progress: transformers would draw a bar for every file that it reads or writes."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _command(arguments: Sequence[str]) -> str:
    """The command for the checkpoint's record. That is published: of a path elsewhere it has the last part alone."""
    shown = []
    for argument in arguments:
        option, sign, value = argument.rpartition("=")
        private = os.path.isabs(value) or value.startswith(("..", "~"))
        shown.append(f"{option}{sign}{Path(value).name if private else value}")
    return shlex.join(["accelerate", "launch", "train_hf.py", *shown])


def _failures() -> tuple[type[Exception], ...]:
    """What a machine may refuse in the middle of the work: disk, files, memory."""
    import torch
    from safetensors import SafetensorError

    return (OSError, SafetensorError, torch.OutOfMemoryError)


if __name__ == "__main__":
    sys.exit(main())
