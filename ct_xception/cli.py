"""The `ct-xception` command: one thin subcommand a stage.

    ct-xception predict slice.dcm scans/ --model runs/phantom/model
    ct-xception explain slice.png -o why.png
    ct-xception demo

Exit codes: 0 done, 1 the work failed, 2 bad input or usage, 3 some of many inputs were refused (and listed), 130
interrupted. Heavy packages are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ct_xception import __version__
from ct_xception.errors import InputError, SliceError, printable
from ct_xception.text import RESEARCH_USE, percent

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from ct_xception.audit.audit import Audit
    from ct_xception.corpus.load import Corpus, CorpusOptions
    from ct_xception.evaluation.protocols import Protocols
    from ct_xception.explain.explain import Explanation
    from ct_xception.imaging.windows import Window
    from ct_xception.publish.hub import Pushed
    from ct_xception.serving.classifier import Classifier, Prediction

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DONE, FAILED, BAD_INPUT, SOME_REFUSED, INTERRUPTED = 0, 1, 2, 3, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code; a user's mistake prints one sentence on stderr."""
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except InputError as error:
        return _complain(str(error), BAD_INPUT)
    except BrokenPipeError:
        # The reader (head, less) has seen enough; Python would fail once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        return _complain(printable(error), FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)


def _run(argv: Sequence[str]) -> int:
    try:
        arguments = build_parser().parse_args(_join_negative_windows(argv))
    except SystemExit as stop:  # argparse has printed its help or its complaint already
        return int(stop.code or DONE)
    code: int = arguments.command(arguments)
    return code


def build_parser() -> argparse.ArgumentParser:
    """The parser of every subcommand; each sets `command` to the function that does it."""
    parser = argparse.ArgumentParser(
        prog="ct-xception",
        description="Classify CT slices with Xception: answer, explain, measure, show.",
        epilog=f"`ct-xception COMMAND --help` lists a command's options. {RESEARCH_USE}",
    )
    parser.add_argument("--version", action="version", version=f"ct-xception {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        _add_audit,
        _add_predict,
        _add_explain,
        _add_evaluate,
        _add_compare,
        _add_phantom,
        _add_export,
        _add_import_keras,
        _add_push,
        _add_demo,
    ):
        add(commands)
    return parser


def _complain(sentence: str, code: int = BAD_INPUT) -> int:
    print(f"ct-xception: {sentence}", file=sys.stderr)
    return code


# audit


def _add_audit(commands: Commands) -> None:
    parser = commands.add_parser(
        "audit",
        help="look for what would make a corpus's figures lie",
        description="Look for duplicates, leaks between splits, contradicting labels, shortcuts and foreign images, "
        "and write audit.html (a page with the images, to be opened offline) and audit.json.",
    )
    parser.add_argument("corpus", metavar="CORPUS", help="folder, CSV or Parquet table, Hub dataset id, or phantom")
    parser.add_argument("--output", default="audit", metavar="DIR", help="default: audit")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a finding is critical")
    _add_corpus_options(parser)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of folds and intervals (default: 0)")
    parser.set_defaults(command=_audit)


def _audit(arguments: argparse.Namespace) -> int:
    from dataclasses import replace

    from ct_xception.audit.audit import audit_corpus, audit_summary, write_audit
    from ct_xception.corpus.load import load_corpus

    window, output = _window(arguments), Path(arguments.output)
    if output.exists() and not output.is_dir():
        raise InputError(f"--output: {printable(output)} is a file; name a folder.")
    # The survey reads every file and lists the damaged ones: loading need not decode them too.
    corpus = load_corpus(arguments.corpus, replace(_corpus_options(arguments, window), decode=False))
    audit = audit_corpus(corpus, window=window, frame=arguments.frame, seed=arguments.seed)
    write_audit(audit, output)
    print(audit_summary(audit, shutil.get_terminal_size().columns))
    print(f"written to {printable(output)}/: audit.html, audit.json")
    return FAILED if arguments.strict and audit.counts["critical"] else DONE


# predict


def _add_predict(commands: Commands) -> None:
    parser = commands.add_parser(
        "predict",
        help="answer image or DICOM files, or folders of them",
        description="Answer image or DICOM files: a table on a terminal, tab-separated columns in a pipe, or JSON. "
        "Files that cannot be read right are listed on stderr, one line each.",
    )
    parser.add_argument("inputs", nargs="+", metavar="FILE|FOLDER", help="folders are searched in depth")
    _add_checkpoint(parser, "--model")
    _add_reading(parser)
    _add_runtime(parser)
    _add_no_gate(parser)
    parser.add_argument("--json", action="store_true", help="JSON: an object for one FILE, a list otherwise")
    parser.add_argument("--batch_size", type=int, default=8, metavar="N", help="slices at a time (default: 8)")
    parser.set_defaults(command=_predict)


def _predict(arguments: argparse.Namespace) -> int:
    window, refused = _window(arguments), list[SliceError]()
    paths = list(_find_files(arguments.inputs, refused))
    total = len(paths) + len(refused)
    if paths:
        classifier = _load_classifier(arguments.model, arguments.runtime, gate=not arguments.no_gate)
        answers = classifier.predict_many(paths, window=window, frame=arguments.frame, batch_size=arguments.batch_size)
        for line in _render(_accept(answers, refused), paths, classifier, arguments):
            print(line, flush=True)
        print(RESEARCH_USE, file=sys.stderr)
    if refused and total > 1:
        print(f"{len(refused)} of {total} inputs refused.", file=sys.stderr)
    return DONE if not refused else BAD_INPUT if len(refused) == total else SOME_REFUSED


def _find_files(inputs: Sequence[str], refused: list[SliceError]) -> Iterator[Path]:
    """The files named, and the readable ones in the folders named, sorted; what is neither goes to `refused`."""
    from ct_xception.imaging.source import is_readable_name

    for name in inputs:
        path, found = Path(name), False
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                if not file.name.startswith(".") and file.is_file() and is_readable_name(file):
                    found = True
                    yield file
            if not found:
                _refuse(SliceError(path, "the folder holds no image or DICOM file", "name another folder"), refused)
        elif path.exists():
            yield path
        else:
            _refuse(SliceError(path, "no such file or folder", "check the name"), refused)


def _accept(answers: Iterable[Prediction | SliceError], refused: list[SliceError]) -> Iterator[Prediction]:
    for answer in answers:
        if isinstance(answer, SliceError):
            _refuse(answer, refused)
        else:
            yield answer


def _refuse(error: SliceError, refused: list[SliceError]) -> None:
    refused.append(error)
    _complain(str(error))


def _render(
    predictions: Iterator[Prediction], paths: Sequence[Path], classifier: Classifier, arguments: argparse.Namespace
) -> Iterator[str]:
    """Lines for stdout, in the form that the options and the terminal ask for."""
    from ct_xception.serving import text

    single = len(arguments.inputs) == 1 and not Path(arguments.inputs[0]).is_dir()
    gated = classifier.gate is not None
    if arguments.json:
        return (text.json_object if single else text.json_list)(predictions, classifier.name)
    if not sys.stdout.isatty():
        return text.tab_separated(predictions, classifier.label_names, classifier.decisions, gated=gated)
    if single:
        return text.bars(predictions)
    sources = [printable(path) for path in paths]
    columns = shutil.get_terminal_size().columns
    return text.table(predictions, sources, classifier.label_names, columns, classifier.decisions, gated=gated)


# explain


def _add_explain(commands: Commands) -> None:
    from ct_xception.explain.method import BUDGETS, DEFAULT_BUDGET, DEFAULT_METHOD
    from ct_xception.explain.methods import METHODS

    methods = "; ".join(f"{name}: {method.title}" for name, method in METHODS.items())
    parser = commands.add_parser(
        "explain",
        help="draw where on the slice the evidence for a class lies",
        description="Draw slice and heat map side by side, with colour bar, class, probability and window; or print "
        "the map's regions, and the evidence for the map itself, as JSON.",
    )
    parser.add_argument("file", metavar="FILE", help="an image or DICOM file")
    parser.add_argument("-o", "--output", metavar="OUT", help="figure to write: .png, .pdf or .svg")
    _add_checkpoint(parser, "--model")
    _add_reading(parser)
    parser.add_argument("--target", metavar="LABEL", help="class to explain (default: the answer)")
    help_ = f"{methods} (default: {DEFAULT_METHOD})"
    parser.add_argument("--method", default=DEFAULT_METHOD, metavar="NAME", help=help_)
    help_ = f"how much work (default: {DEFAULT_BUDGET})"
    parser.add_argument("--budget", choices=BUDGETS, default=DEFAULT_BUDGET, help=help_)
    _add_no_gate(parser)
    parser.add_argument("--evidence", action="store_true", help="measure how far the map can be trusted")
    parser.add_argument("--json", action="store_true", help="JSON on stdout: answer, regions and evidence")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of methods that sample (default: 0)")
    parser.add_argument("--opacity", type=float, default=0.6, metavar="0..1", help="of strong evidence (default: 0.6)")
    parser.set_defaults(command=_explain)


def _explain(arguments: argparse.Namespace) -> int:
    from ct_xception.explain.methods import find_method
    from ct_xception.explain.overlay import check_figure, save_figure

    arguments.method = find_method(arguments.method).name
    window = _window(arguments)
    if arguments.output is None and not (arguments.json or arguments.evidence):
        raise InputError("nothing to do: name a figure with -o OUT, or ask for --json or --evidence.")
    check_figure(arguments.output or "figure.png", arguments.opacity)
    classifier = _load_classifier(arguments.model, gate=not arguments.no_gate)
    prediction = classifier(arguments.file, window=window, frame=arguments.frame)
    if prediction.gate is not None and prediction.gate.refused:
        why = "; ".join(prediction.gate.reasons)
        name = printable(arguments.file)
        raise InputError(f"{name}: refused by the input gate ({why}); --no-gate explains it all the same.")
    explanation = _attribute(arguments, classifier, prediction)
    attribution = explanation.attribution
    probability = prediction.probabilities[attribution.label]
    if arguments.output is not None:
        picture = arguments.output
        save_figure(picture, prediction.slice, attribution, probability=probability, opacity=arguments.opacity)
    _print_explanation(arguments, classifier, prediction, explanation)
    print(RESEARCH_USE, file=sys.stderr)
    return DONE


def _attribute(arguments: argparse.Namespace, classifier: Classifier, prediction: Prediction) -> Explanation:
    from ct_xception.explain.explain import explain

    with _progress_bar(arguments.method) as progress:
        return explain(
            classifier,
            prediction.slice,
            arguments.target or prediction.label,
            arguments.method,
            budget=arguments.budget,
            seed=arguments.seed,
            progress=progress,
        )


def _print_explanation(
    arguments: argparse.Namespace, classifier: Classifier, prediction: Prediction, explanation: Explanation
) -> None:
    """The map in JSON or in sentences, with what was asked for of the evidence."""
    from ct_xception.explain.faithfulness import evidence
    from ct_xception.explain.methods import METHODS
    from ct_xception.explain.summary import explanation_record, explanation_sentences
    from ct_xception.serving.text import answer_record, describe_gate

    found = None
    if arguments.evidence:
        with _progress_bar("evidence") as progress:
            found = evidence(explanation, budget=arguments.budget, seed=arguments.seed, progress=progress)
    if arguments.json:
        record = {
            **answer_record(prediction, classifier.name),
            "explanation": explanation_record(explanation, found),
        }
        print(json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False))
        return
    if arguments.output is not None:
        attribution = explanation.attribution
        share = percent(prediction.probabilities[attribution.label])
        method = METHODS[attribution.method].title
        print(f"{printable(arguments.output)}: {method} of {attribution.label} ({share})")
    for sentence in (*describe_gate(prediction.gate), *explanation_sentences(explanation, found)):
        print(f"  - {sentence}")


@contextlib.contextmanager
def _progress_bar(what: str) -> Iterator[Callable[[float], None]]:
    """A bar on stderr, where that is a terminal, that is told the share done."""
    from tqdm import tqdm

    with tqdm(total=100, desc=what, unit="%", leave=False, delay=1, disable=None) as bar:

        def show(share: float) -> None:
            bar.update(round(100 * share) - bar.n)

        yield show


# evaluate


def _add_evaluate(commands: Commands) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="measure a checkpoint on a corpus",
        description="Answer a split of a corpus by the predictor and by stock pipeline(), and write metrics.json, "
        "predictions.parquet, figures and errors.html, a page of the mistakes; and the same without test images that "
        "have a twin in training, and what simple rules score. A corpus without splits is split as training would.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder or Hub id (user/repo[@revision])")
    parser.add_argument(
        "--corpus", required=True, metavar="SOURCE", help="folder, CSV or Parquet table, Hub dataset id, or phantom"
    )
    parser.add_argument("--split", choices=("train", "validation", "test", "all"), default="test", help="default: test")
    parser.add_argument("--output", default="evaluation", metavar="DIR", help="default: evaluation")
    _add_corpus_options(parser)
    parser.add_argument(
        "--audit",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="look for twins of test images, and let simple rules answer too (default: yes)",
    )
    parser.add_argument("--folds", metavar="DIR", help="cross-validation of this corpus, as in runs/NAME/folds")
    parser.add_argument(
        "--explained", type=int, default=12, metavar="N", help="items whose heat maps are checked (default: 12)"
    )
    parser.add_argument("--batch_size", type=int, default=16, metavar="N", help="default: 16")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of made splits and intervals (default: 0)")
    parser.set_defaults(command=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    from ct_xception.evaluation.figures import Outputs
    from ct_xception.evaluation.measure import ErrorPage, evaluate_checkpoint
    from ct_xception.evaluation.predictions import SOURCES
    from ct_xception.evaluation.summary import evaluation_summary
    from ct_xception.serving.catalogue import WEIGHTS
    from ct_xception.serving.checkpoint import open_checkpoint, read_provenance

    window, folder = _window(arguments), open_checkpoint(arguments.checkpoint).folder
    output = Path(arguments.output)
    if output.exists() and not output.is_dir():
        raise InputError(f"--output: {printable(output)} is a file; name a folder.")
    if any((parent / WEIGHTS).is_file() for parent in (output.absolute(), *output.absolute().parents)):
        raise InputError(
            f"--output: {printable(output)} lies in a checkpoint, whose files are sealed and published; name another "
            "folder (errors.html shows images)."
        )
    found = _load_split(arguments, window, read_provenance(folder))
    metrics = evaluate_checkpoint(
        folder,
        found.splits[arguments.split],
        split=found.split,
        corpus=found.report,
        split_name=arguments.split,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        window=window,
        frame=arguments.frame,
        outputs=Outputs(folder=output, names=output / SOURCES),
        protocols=found.protocols,
        explained=max(arguments.explained, 0),
        errors=ErrorPage(output, found.splits, None if found.audit is None else found.audit.survey),
    )
    print(evaluation_summary(metrics))
    if "imported" in read_provenance(folder):
        print("note: which images this imported network was trained on is not known; any of them here flatter it.")
    print(f"written to {printable(output)}/ (errors.html shows images of the corpus: keep it to yourself)")
    print(RESEARCH_USE, file=sys.stderr)
    return DONE


class _Measured(NamedTuple):
    """What is evaluated: the splits, their record (None for a corpus taken whole), the corpus's report, the rest."""

    splits: Mapping[str, Dataset]
    split: dict[str, Any] | None
    report: dict[str, Any]
    protocols: Protocols
    audit: Audit | None = None


def _load_split(arguments: argparse.Namespace, window: Window | None, provenance: Mapping[str, Any]) -> _Measured:
    """The corpus, split as training split it. Raises InputError where that cannot be had."""
    from ct_xception.corpus.load import load_corpus
    from ct_xception.corpus.split import split_corpus
    from ct_xception.evaluation.protocols import Protocols

    corpus = load_corpus(arguments.corpus, _corpus_options(arguments, window))
    if arguments.split == "all":
        from datasets import concatenate_datasets

        whole = {"all": concatenate_datasets(list(corpus.dataset.values()))}
        return _Measured(whole, None, corpus.report, Protocols())
    if "train" not in corpus.dataset and arguments.split in corpus.dataset:
        return _Measured(corpus.dataset, None, corpus.report, Protocols())
    audit = _audit_for(arguments, corpus, window)
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


def _corpus_options(arguments: argparse.Namespace, window: Window | None) -> CorpusOptions:
    """How a corpus is to be read, by the options of `_add_corpus`."""
    from ct_xception.corpus.listing import COLUMNS, CorpusOptions

    columns = {f"{name}_column": getattr(arguments, f"{name}_column") for name in COLUMNS}
    return CorpusOptions(
        class_map=_pairs(arguments.class_map, "--class_map"),
        split_map=_pairs(arguments.split_map, "--split_map"),
        group_pattern=arguments.group_pattern,
        window=window,
        frame=arguments.frame,
        **columns,
    )


def _pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    broken = [text for text in texts if "=" not in text]
    if broken:
        raise InputError(f"{option}: {broken[0]!r} is not of the form NAME=NAME.")
    return dict(text.split("=", 1) for text in texts)


# compare


def _add_compare(commands: Commands) -> None:
    parser = commands.add_parser(
        "compare",
        help="compare two evaluations on the same items",
        description="Compare the accuracies of two checkpoints from their evaluation folders: a paired bootstrap by "
        "group, and McNemar's exact test. Evaluations of different items are refused.",
    )
    parser.add_argument("first", metavar="EVALUATION_A", help="folder with metrics.json and predictions.parquet")
    parser.add_argument("second", metavar="EVALUATION_B", help="another one, of the same split")
    parser.add_argument("--path", choices=("predictor", "stock_pipeline"), default="predictor", help="whose answers")
    parser.add_argument("--without_twins", action="store_true", help="leave out items with a twin in training")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the intervals (default: 0)")
    parser.set_defaults(command=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    from ct_xception.statistics.comparison import compare_evaluations, describe_comparison

    options = {"path": arguments.path, "without_twins": arguments.without_twins, "seed": arguments.seed}
    found = compare_evaluations(arguments.first, arguments.second, **options)
    if arguments.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print(*describe_comparison(found, printable(arguments.first), printable(arguments.second)), sep="\n")
    return DONE


# phantom


def _add_phantom(commands: Commands) -> None:
    parser = commands.add_parser(
        "phantom",
        help="generate a corpus of procedural chest CT",
        description="Write a corpus of generated chest CT slices with known lesions, patients, series and splits.",
    )
    parser.add_argument("directory", metavar="DIR", help="new or empty folder")
    parser.add_argument("--patients", type=int, default=160, metavar="N", help="default: 160")
    parser.add_argument("--slices_per_patient", type=int, default=4, metavar="N", help="default: 4")
    parser.add_argument("--size", type=int, default=256, metavar="PIXELS", help="of a slice's side (default: 256)")
    parser.add_argument("--classes", type=int, default=4, metavar="N", help="default: the 4 of the reference corpus")
    parser.add_argument(
        "--plant",
        default="",
        metavar="DEFECT[:N],…",
        help="duplicates, near-duplicates, leaks, conflicts, brightness; planted.json lists what was planted",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: 0")
    parser.add_argument("--dicom", action="store_true", help="DICOM in HU instead of windowed 8-bit PNG")
    parser.set_defaults(command=_phantom)


def _phantom(arguments: argparse.Namespace) -> int:
    from ct_xception.phantom.corpus import generate_phantom

    folder = generate_phantom(
        arguments.directory,
        patients=arguments.patients,
        slices_per_patient=arguments.slices_per_patient,
        size=arguments.size,
        classes=arguments.classes,
        plant=[name.strip() for name in arguments.plant.split(",") if name.strip()],
        seed=arguments.seed,
        dicom=arguments.dicom,
    )
    count = arguments.patients * arguments.slices_per_patient
    print(f"{printable(folder)}: {count} slices of {arguments.patients} patients")
    return DONE


# export


def _add_export(commands: Commands) -> None:
    parser = commands.add_parser(
        "export",
        help="write a checkpoint's network for ONNX Runtime or OpenVINO",
        description="Write the network into the checkpoint's folder for other runtimes, and keep what answers as it "
        "does: ONNX and OpenVINO in float32, and ONNX in int8, calibrated on training slices. Card and manifest are "
        "brought up to date. What is not kept is said, with exit code 1.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder, such as runs/NAME/model")
    parser.add_argument("--onnx", action="store_true", help="onnx/model.onnx (the default)")
    parser.add_argument("--int8", action="store_true", help="onnx/model_int8.onnx, a quarter of the size")
    parser.add_argument("--openvino", action="store_true", help="openvino/model.xml and model.bin")
    parser.add_argument(
        "--corpus", metavar="SOURCE", help="the corpus of training (default: the phantom, if that will do)"
    )
    _add_corpus_options(parser)
    parser.add_argument("--browser", metavar="DIR", help="write the page that answers in the browser, a static site")
    _add_ort(parser)
    parser.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    from ct_xception.serving.catalogue import ONNX, ONNX_INT8

    _check_goes_with(arguments, "ort", "browser")
    asked = {"onnx": arguments.onnx, "onnx-int8": arguments.int8, "openvino": arguments.openvino}
    runtimes, folder = [name for name, wanted in asked.items() if wanted], Path(arguments.checkpoint)
    exported = not folder.is_dir() or any((folder / name).is_file() for name in (ONNX, ONNX_INT8))
    if not runtimes and not (arguments.browser and exported):
        runtimes = ["onnx"]
    code = _export_networks(arguments, runtimes) if runtimes else DONE
    if arguments.browser:
        from ct_xception.publish.browser_space import write_site

        files = write_site(arguments.checkpoint, arguments.browser, ort=arguments.ort)
        size = sum(file.stat().st_size for file in files.values()) / 1e6
        print(f"{printable(arguments.browser)}/: the page, {len(files)} files, {size:.1f} MB; to see it:")
        print(f"  python -m http.server --bind 127.0.0.1 --directory {printable(arguments.browser)}")
    return code


def _export_networks(arguments: argparse.Namespace, runtimes: Sequence[str]) -> int:
    from ct_xception.publish.export import export_checkpoint
    from ct_xception.publish.export_text import export_summary

    options = _corpus_options(arguments, _window(arguments))
    _hide_loading_bars()
    record = export_checkpoint(arguments.checkpoint, runtimes, corpus=arguments.corpus, options=options)
    print(export_summary(record))
    return FAILED if any(name in record["kept_out"] for name in runtimes) else DONE


# import-keras


def _add_import_keras(commands: Commands) -> None:
    parser = commands.add_parser(
        "import-keras",
        help="make a checkpoint of a Keras Xception",
        description="Read a Keras Xception with its head (average pooling, Dropout, one Dense layer) from a .keras "
        "file or a whole model in .h5, as data: no code of the file is run, and Keras is not needed. What its padding "
        "makes of the answers is measured and said.",
        epilog="The checkpoint has no figures: ct-xception evaluate measures some, train_hf.py --init goes on from it.",
    )
    parser.add_argument("file", metavar="FILE", help="model.keras or model.h5")
    parser.add_argument("-o", "--output", required=True, metavar="CHECKPOINT", help="new folder")
    parser.add_argument("--labels", metavar="A,B,…", help="class names in Keras' order (default: class 0, …)")
    parser.add_argument("--image_size", type=int, metavar="PIXELS", help="side of the input (default: the file's own)")
    parser.add_argument("--rescale", metavar="keras|unit|none", help="x / 127.5 - 1, x / 255, or x (default: keras)")
    parser.set_defaults(command=_import_keras)


def _import_keras(arguments: argparse.Namespace) -> int:
    from ct_xception.formats.keras.convert import import_keras
    from ct_xception.formats.keras.padding import padding_figures, padding_statement
    from ct_xception.publish.imported import check_new_folder, write_imported_checkpoint

    output, labels = Path(arguments.output), arguments.labels
    check_new_folder(output)
    names = None if labels is None else [name.strip() for name in labels.split(",")]
    imported = import_keras(arguments.file, names, image_size=arguments.image_size, rescale=arguments.rescale)
    padding = padding_figures(imported.model, progress=True)
    _hide_loading_bars()
    write_imported_checkpoint(output, imported, padding)
    for note in (*imported.notes, padding_statement(padding)):
        print(f"note: {note}")
    print(f"{printable(output)}: {', '.join(imported.model.label_names)}; how often it is right was not measured.")
    print(RESEARCH_USE, file=sys.stderr)
    return DONE


# push


def _add_push(commands: Commands) -> None:
    parser = commands.add_parser(
        "push",
        help="publish a checkpoint, its Space and its corpus's record on the Hub",
        description="Publish a checkpoint folder as USER/REPO on the Hub: one commit or none, with the card, the "
        "figures and every other file of the folder. A push that was cut off is made again with the same command.",
        epilog="Of a checkpoint that is on the Hub already (user/repo[@revision]), --space or --browser publishes the "
        "Space alone; of a run folder, --dataset publishes the record alone. Log in first: hf auth login.",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="folder, Hub id for a Space, run folder for --dataset")
    parser.add_argument("repo_id", metavar="USER/REPO", help="made where it does not exist")
    parser.add_argument("--private", action="store_true", help="make what is new private")
    parser.add_argument("--tag", metavar="V", help="tag this version, for user/repo@V")
    parser.add_argument("--message", metavar="TEXT", help="of the checkpoint's commit")
    parser.add_argument("--new_card", action="store_true", help="write the card anew from the folder's files")
    parser.add_argument("--handler", action="store_true", help="with the handler.py for the Hub's Inference Endpoints")
    parser.add_argument("--space", action="store_true", help="also publish the demo page, on this checkpoint")
    parser.add_argument("--browser", action="store_true", help="also publish the page that answers in the browser")
    _add_ort(parser)
    parser.add_argument("--dataset", action="store_true", help="also publish the corpus's splits and audit, no images")
    parser.add_argument("--images", action="store_true", help="with --dataset: the images, too (never DICOM)")
    parser.set_defaults(command=_push)


def _push(arguments: argparse.Namespace) -> int:
    from ct_xception.publish.corpus_record import is_run
    from ct_xception.publish.hub import push_checkpoint, push_corpus

    folder, repo_id = Path(arguments.checkpoint), arguments.repo_id
    _check_goes_with(arguments, "images", "dataset")
    _check_goes_with(arguments, "ort", "browser")
    if arguments.space and arguments.browser:
        raise InputError("--browser: --space has that name already; push one of them, and the other under its own.")
    version: dict[str, Any] = {"private": arguments.private, "tag": arguments.tag}
    run, model = (folder if is_run(folder) else folder.parent), arguments.checkpoint
    pushed: list[Pushed] = []
    if folder.is_dir() and run != folder:
        own = {"message": arguments.message, "new_card": arguments.new_card, "handler": arguments.handler}
        pushed.append(_tell_pushed(push_checkpoint(folder, repo_id, **version, **own)))
        model = f"{repo_id}@{pushed[0].commit}"
    if arguments.space or arguments.browser:
        pushed.append(_tell_pushed(_push_page(arguments, model, version, is_run=run == folder)))
    if arguments.dataset:
        pushed.append(_tell_pushed(push_corpus(run, repo_id, **version, images=arguments.images)))
    if not pushed:
        raise InputError(f"{printable(folder)}: is no checkpoint folder; of a Hub id push --space, of a run --dataset.")
    return DONE


def _push_page(arguments: argparse.Namespace, model: str, version: Mapping[str, Any], *, is_run: bool) -> Pushed:
    """Publish one of the two Spaces, for a model that is on the Hub."""
    from ct_xception.publish.hub import push_browser_space, push_space

    if is_run:
        option = "--space" if arguments.space else "--browser"
        raise InputError(f"{option}: a run folder has no page; give its checkpoint (RUN/model), or a Hub id.")
    if arguments.space:
        return push_space(model, arguments.repo_id, **version)
    return push_browser_space(arguments.checkpoint, model, arguments.repo_id, ort=arguments.ort, **version)


def _tell_pushed(pushed: Pushed) -> Pushed:
    done = "published" if pushed.changed else "unchanged"
    tag = f", tag {pushed.tag}" if pushed.tag else ""
    print(f"{pushed.target}: {done}, commit {pushed.commit[:12]}{tag}: {pushed.url}", flush=True)
    return pushed


# demo


def _add_demo(commands: Commands) -> None:
    parser = commands.add_parser(
        "demo",
        help="open the demo page on a checkpoint",
        description="Serve the demo page on this machine until interrupted (Ctrl-C).",
    )
    _add_checkpoint(parser, "checkpoint")
    parser.add_argument("--port", type=int, default=7860, help="default: 7860")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--feedback", metavar="FOLDER", help="let reviewers say what is right, and keep it there")
    parser.set_defaults(command=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    checkpoint = _checkpoint(arguments.checkpoint)
    from ct_xception_app.app import build_demo, launch, open_reviews

    _hide_loading_bars()
    launch(build_demo(checkpoint, reviews=open_reviews(arguments.feedback)), host=arguments.host, port=arguments.port)
    return DONE


# Options that several commands share


def _add_checkpoint(parser: argparse.ArgumentParser, name: str) -> None:
    help_ = "folder or Hub id (user/repo[@revision]); default: the newest runs/*/model"
    if name.startswith("--"):
        parser.add_argument(name, metavar="CHECKPOINT", help=help_)
    else:
        parser.add_argument(name, nargs="?", metavar="CHECKPOINT", help=help_)


def _add_corpus_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--class_map", nargs="+", default=[], metavar="FOLDER=CLASS", help="where names differ")
    parser.add_argument("--split_map", nargs="+", default=[], metavar="FOLDER=SPLIT", help="where names differ")
    parser.add_argument("--group_pattern", metavar="REGEX", help="its first group in a path is the patient")
    for column in ("image", "label", "group", "series", "split", "mask"):
        parser.add_argument(f"--{column}_column", metavar="NAME", help="of a table or Hub dataset")
    _add_reading(parser)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--window",
        metavar="PRESET|CENTRE/WIDTH",
        help="lung, mediastinal, bone, or HU such as -600/1500; for DICOM and deep images (default: that of "
        "training, else the file's own)",
    )
    parser.add_argument("--frame", type=int, metavar="N", help="frame or page of a file with several, from 0")


def _window(arguments: argparse.Namespace) -> Window | None:
    from ct_xception.imaging.windows import parse_window

    return None if arguments.window is None else parse_window(arguments.window)


def _checkpoint(given: str | None) -> str:
    """The checkpoint named, or the newest one that a run left here, which is then announced."""
    if given is not None:
        return given
    found = sorted(Path("runs").glob("*/model/config.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError("no checkpoint named, and no runs/*/model here; name a folder or Hub id, or train one first.")
    newest = found[-1].parent
    print(f"checkpoint: {printable(newest)} (the newest run)", file=sys.stderr)
    return str(newest)


def _add_ort(parser: argparse.ArgumentParser) -> None:
    help_ = "with --browser: the npm package onnxruntime-web, unpacked, to go with the page (default: from its CDN)"
    parser.add_argument("--ort", metavar="DIR", help=help_)


def _check_goes_with(arguments: argparse.Namespace, option: str, other: str) -> None:
    if getattr(arguments, option) and not getattr(arguments, other):
        raise InputError(f"--{option}: goes with --{other}; give both, or neither.")


def _add_runtime(parser: argparse.ArgumentParser) -> None:
    from ct_xception.serving.catalogue import RUNTIMES

    help_ = "what runs the network; all but torch need `ct-xception export` first (default: torch)"
    parser.add_argument("--runtime", choices=RUNTIMES, default="torch", help=help_)


def _add_no_gate(parser: argparse.ArgumentParser) -> None:
    help_ = "answer also what the checkpoint's input gate takes for no slice such as those of training"
    parser.add_argument("--no-gate", action="store_true", help=help_)


def _load_classifier(checkpoint: str | None, runtime: str = "torch", *, gate: bool = True) -> Classifier:
    path = _checkpoint(checkpoint)
    from ct_xception.serving.classifier import Classifier

    if runtime == "torch":  # the others start without transformers, and draw no bars
        _hide_loading_bars()
    return Classifier.from_pretrained(path, runtime, gate=gate)


def _hide_loading_bars() -> None:
    """transformers draws a progress bar over the tenth of a second that loading takes."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def _join_negative_windows(argv: Sequence[str]) -> list[str]:
    """`--window -600/1500` as `--window=-600/1500`: argparse would take the value for an option."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] == "--window" and argument[:1] == "-" and argument[1:2].isdigit():
            joined[-1] = f"--window={argument}"
        else:
            joined.append(argument)
    return joined


if __name__ == "__main__":
    sys.exit(main())
