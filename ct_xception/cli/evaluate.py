"""Measure a checkpoint on a corpus.

Answer a split of a corpus by the predictor and by stock pipeline(), and write metrics.json, predictions.parquet,
figures and errors.html, a page of the mistakes; and the same without test images that have a twin in training, and what
simple rules score. A corpus without splits is split as training would.

--external tests the checkpoint on another corpus, whole, by what its classes and those of the checkpoint share. With
--corpus, that of training, images that both hold are left out. --keep puts the figures into the checkpoint's own card.

examples:
  ct-xception evaluate runs/phantom/model --corpus phantom:patients=120
  ct-xception evaluate user/repo --corpus DIR --split all --output elsewhere
  ct-xception evaluate runs/mine/model --external clinic=DIR --class_map clinic/malignant=cancer --keep
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ct_xception.cli import PROGRAM
from ct_xception.cli.arguments import add_corpus, checkpoint_of, corpus_options, hide_loading_bars, pairs, window_of
from ct_xception.command_line import DONE, Parser, complain
from ct_xception.corpus.external_options import HELP, OPTION, check_external_options
from ct_xception.errors import InputError, printable
from ct_xception.text import RESEARCH_USE

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from ct_xception.audit.audit import Audit
    from ct_xception.audit.overlap import SplitCorpus
    from ct_xception.corpus.load import Corpus, CorpusOptions
    from ct_xception.evaluation.protocols import Protocols
    from ct_xception.evaluation.shift.external import External
    from ct_xception.imaging.windows import Window
    from ct_xception.metrics import Metrics
    from ct_xception.serving.checkpoint import Checkpoint


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder or Hub id (user/repo[@revision])")
    parser.add_argument("--corpus", metavar="SOURCE", help="folder, CSV or Parquet table, Hub dataset id, or phantom")
    help_ = "another corpus to be tested on, whole; its classes by name, by groups, or by --class_map NAME/label=CLASS"
    parser.add_argument("--external", nargs="+", action="extend", default=[], metavar="NAME=SOURCE", help=help_)
    parser.add_argument(OPTION, nargs="+", action="extend", default=[], metavar="NAME.OPTION=VALUE", help=HELP)
    help_ = "groups of the checkpoint's classes, for --external (default: the checkpoint's own)"
    parser.add_argument("--class_groups", nargs="+", default=[], metavar="GROUP=CLASS,CLASS", help=help_)
    help_ = "with --external: write its figures into the checkpoint, too, with a new card and seal"
    parser.add_argument("--keep", action="store_true", help=help_)
    parser.add_argument("--split", choices=("train", "validation", "test", "all"), default="test", help="default: test")
    parser.add_argument("-o", "--output", default="evaluation", metavar="DIR", help="default: evaluation")
    add_corpus(parser)
    parser.add_argument(
        "--audit",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="look for twins of test images, and let simple rules answer too (default: yes)",
    )
    parser.add_argument("--folds", metavar="DIR", help="cross-validation of this corpus, as in runs/NAME/folds")
    parser.add_argument(
        "--explained", type=int, default=0, metavar="N", help="items whose heat maps are checked (default: 0)"
    )
    help_ = "test slices changed as other scanners would, 55 to 70 times each (default: 0; 48 take some minutes)"
    parser.add_argument("--robustness", type=int, default=0, metavar="N", help=help_)
    parser.add_argument("--batch_size", type=int, default=16, metavar="N", help="default: 16")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of made splits and intervals (default: 0)")


def run(arguments: argparse.Namespace) -> int:
    from ct_xception.imaging.decoded import keep_decoded

    hide_loading_bars()
    with keep_decoded():
        return _evaluate(arguments)


def _evaluate(arguments: argparse.Namespace) -> int:
    from ct_xception.checkpoint import SOURCES
    from ct_xception.evaluation.evaluation import Evaluation, Outputs
    from ct_xception.evaluation.measure import evaluate
    from ct_xception.serving.checkpoint import open_checkpoint, read_provenance

    window, checkpoint = window_of(arguments), open_checkpoint(checkpoint_of(arguments.checkpoint))
    folder, modality = checkpoint.folder, checkpoint.contract.told(arguments.modality, checkpoint.name).modality
    output = Path(arguments.output)
    _check_output(output)
    options = corpus_options(arguments, window, modality).with_columns(checkpoint.config.get("tabular"))
    options = _with_external(options, arguments)
    if arguments.keep or not arguments.corpus:
        return _validate(arguments, checkpoint, options, output)
    provenance, external = read_provenance(folder), pairs(arguments.external, "--external")
    found = _load_split(arguments, options.without_external(external), provenance)
    externals = _externals(arguments, checkpoint, options, [found.as_learnt()])
    evaluation = Evaluation(
        folder,
        found.splits,
        arguments.split,
        split=found.split,
        corpus=found.report,
        window=window,
        frame=arguments.frame,
        modality=modality,
        outputs=Outputs(folder=output, errors=output, names=output / SOURCES),
        protocols=found.protocols,
        externals=externals,
        survey=None if found.audit is None else found.audit.survey,
        explained=max(arguments.explained, 0),
        robustness=max(arguments.robustness, 0),
        batch_size=arguments.batch_size,
        seed=arguments.seed,
    )
    return _report(evaluate(evaluation), output, imported="imported" in provenance)


def _report(metrics: Metrics | None, output: Path, *, imported: bool) -> int:
    from ct_xception.evaluation.report.figures import evaluation_summary

    assert metrics is not None  # this is the only process
    print(evaluation_summary(metrics))
    if imported:
        print("note: which images this imported network was trained on is not known; any of them here flatter it.")
    print(f"written to {printable(output)}/ (errors.html shows images of the corpus: keep it to yourself)")
    print(RESEARCH_USE, file=sys.stderr)
    return DONE


def _check_output(output: Path) -> None:
    """Raise InputError where figures and pictures must not go."""
    from ct_xception.checkpoint import WEIGHTS

    if output.exists() and not output.is_dir():
        raise InputError(f"--output: {printable(output)} is a file; name a folder.")
    if any((parent / WEIGHTS).is_file() for parent in (output.absolute(), *output.absolute().parents)):
        raise InputError(
            f"--output: {printable(output)} lies in a checkpoint, whose files are sealed and published; name another "
            "folder (errors.html shows images)."
        )


class _Measured(NamedTuple):
    """What is evaluated: the splits, their record (None for a corpus taken whole), the corpus's report, the rest."""

    splits: Mapping[str, Dataset]
    split: dict[str, Any] | None
    report: dict[str, Any]
    protocols: Protocols
    audit: Audit | None = None

    def as_learnt(self) -> SplitCorpus:
        """What an external corpus must not share images with."""
        from ct_xception.audit.overlap import SplitCorpus

        survey = None if self.audit is None else self.audit.survey
        return SplitCorpus(self.splits, self.report, self.split or {}, survey)


def _validate(arguments: argparse.Namespace, checkpoint: Checkpoint, options: CorpusOptions, output: Path) -> int:
    """External validation alone; the corpus of training, if it is given, is there to be compared with."""
    from ct_xception.audit.overlap import SplitCorpus
    from ct_xception.corpus.load import load_corpus
    from ct_xception.evaluation.report.figures import external_lines
    from ct_xception.publish.external import check_keepable, validate

    if not arguments.external:
        what = "--keep: keeps" if arguments.keep else "neither --corpus nor --external was given: evaluate measures"
        raise InputError(f"{what} external validation or a corpus's split; name one with --external NAME=SOURCE.")
    if arguments.keep:
        check_keepable(checkpoint)
    learnt = None
    if arguments.corpus:
        own = load_corpus(arguments.corpus, options.without_external(pairs(arguments.external, "--external")))
        learnt = [SplitCorpus(own.dataset, own.report, {})]
    externals = _externals(arguments, checkpoint, options, learnt)
    asking: dict[str, Any] = {"batch_size": arguments.batch_size, "seed": arguments.seed, "modality": options.modality}
    found = validate(checkpoint, externals, output=output, keep=arguments.keep, **asking)
    print("\n".join(external_lines(found)).lstrip("\n"))
    kept = f" and into {printable(checkpoint.name)}, its card and seal" if arguments.keep else ""
    print(f"written to {printable(output)}/{kept}")
    print(RESEARCH_USE, file=sys.stderr)
    return DONE


def _externals(
    arguments: argparse.Namespace, checkpoint: Checkpoint, options: CorpusOptions, learnt: list[SplitCorpus] | None
) -> tuple[External, ...]:
    """The corpora of --external, as they are to be asked."""
    from ct_xception.checkpoint_files import read_side
    from ct_xception.corpus.tables.beside import without_columns
    from ct_xception.evaluation.shift.external import External, describe_plan, load_external, plan_external

    stated = read_side(checkpoint.folder, checkpoint.name)
    given = {name: text.split(",") for name, text in pairs(arguments.class_groups, "--class_groups").items()}
    groups, found = given or (stated.class_groups if stated else {}), []
    for name, source in pairs(arguments.external, "--external").items():
        corpus = load_external(name, source, options)
        for note in without_columns(corpus.report):
            complain(PROGRAM, f"--external {name}: {note}.")
        plan = plan_external(
            name,
            corpus,
            checkpoint.config["label_names"],
            class_groups=groups,
            class_map=options.class_map,
            learnt=learnt,
            options=options,
        )
        print(describe_plan(name, plan), file=sys.stderr)
        found.append(External.of(name, plan, corpus, options))
    return tuple(found)


def _with_external(options: CorpusOptions, arguments: argparse.Namespace) -> CorpusOptions:
    """The options with what is said of external corpora. Raises InputError for what is said of none."""
    given = pairs(arguments.external_options, OPTION)
    check_external_options(given, pairs(arguments.external, "--external"))
    return replace(options, of_external=given)


def _load_split(arguments: argparse.Namespace, options: CorpusOptions, provenance: Mapping[str, Any]) -> _Measured:
    """The corpus, split as training split it. Raises InputError where that cannot be had."""
    from ct_xception.corpus.load import load_corpus
    from ct_xception.corpus.split import split_corpus
    from ct_xception.corpus.tables.beside import describe_missing, tabular_record, without_columns
    from ct_xception.evaluation.protocols import Protocols

    corpus = load_corpus(arguments.corpus, options)
    for line in [*without_columns(corpus.report), *describe_missing(tabular_record(corpus.dataset, options))]:
        complain(PROGRAM, f"--corpus: {line}.")
    if arguments.split == "all":
        from datasets import concatenate_datasets

        whole = {"all": concatenate_datasets(list(corpus.dataset.values()))}
        return _Measured(whole, None, corpus.report, Protocols())
    if "train" not in corpus.dataset and arguments.split in corpus.dataset:
        return _Measured(corpus.dataset, None, corpus.report, Protocols())
    audit = _audit_for(arguments, corpus, options.window)
    stated = provenance.get("split", {})
    fractions, seed = stated.get("fractions", (0.7, 0.15, 0.15)), stated.get("seed", arguments.seed)
    patients = None if audit is None else audit.patients
    splits, split, report = split_corpus(corpus, patients, fractions=fractions, seed=seed)
    same = provenance.get("corpus", {}).get("hash") == report["hash"]
    # A published test split is what it is; whatever else was carved must be what training carved.
    carved = split["protocol"] == "made" or arguments.split != "test"
    if same and carved and split["name"] != stated.get("name"):
        raise InputError(
            f"--corpus: its split cannot be made again as training made it, so its {arguments.split} images may have "
            "been trained on; give the columns or patterns of training, or --split all for a corpus that was not "
            "trained on."
        )
    return _Measured(splits, split, report, _protocols(arguments, audit, splits), audit)


def _audit_for(arguments: argparse.Namespace, corpus: Corpus, window: Window | None) -> Audit | None:
    """The audit that tells twins, and the pseudo-patients that splits are made by; None where it is not wanted."""
    if not arguments.audit:
        return None
    from ct_xception.audit.audit import audit_corpus

    return audit_corpus(corpus, window=window, frame=arguments.frame, seed=arguments.seed)


def _protocols(arguments: argparse.Namespace, audit: Audit | None, splits: DatasetDict) -> Protocols:
    from ct_xception.evaluation.protocols import Protocols, find_protocols

    if arguments.split != "test":
        return Protocols()
    folds = None if arguments.folds is None else Path(arguments.folds)
    skipped = {"frozen_features": "only train_hf.py knows the weights that training began with"}
    return find_protocols(audit, splits, folds=folds, skipped=skipped, seed=arguments.seed)
