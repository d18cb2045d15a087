"""Draw where on the slice the evidence for a class lies.

Draw slice and heat map side by side, with colour bar, class, probability and window; or print the map's regions, and
the evidence for the map itself, as JSON.

examples:
  ct-xception explain slice.png --model runs/phantom/model -o why.png
  ct-xception explain slice.dcm -o why.svg --target normal --method integrated_gradients --budget fast
  ct-xception explain slice.dcm --evidence --json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ct_xception.cli import PROGRAM
from ct_xception.cli.arguments import (
    add_checkpoint,
    add_no_gate,
    add_reading,
    add_table,
    load_classifier,
    progress_bar,
    rows_of,
    window_of,
)
from ct_xception.command_line import DONE, Parser, complain
from ct_xception.errors import InputError, printable
from ct_xception.text import RESEARCH_USE, percent

if TYPE_CHECKING:
    from ct_xception.explain.explain import Explanation
    from ct_xception.serving.classifier import Classifier, Prediction


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
    from ct_xception.explain.budget import BUDGETS, DEFAULT_BUDGET, DEFAULT_METHOD
    from ct_xception.explain.methods import METHODS

    methods = "; ".join(f"{name}: {method.title}" for name, method in METHODS.items())
    parser.add_argument("file", metavar="FILE", help="an image or DICOM file")
    parser.add_argument("-o", "--output", metavar="OUT", help="figure to write: .png, .pdf or .svg")
    add_checkpoint(parser, "--model")
    add_reading(parser)
    parser.add_argument("--target", metavar="LABEL", help="class to explain (default: the answer)")
    help_ = f"{methods} (default: {DEFAULT_METHOD})"
    parser.add_argument("--method", default=DEFAULT_METHOD, metavar="NAME", help=help_)
    help_ = f"how much work (default: {DEFAULT_BUDGET})"
    parser.add_argument("--budget", choices=BUDGETS, default=DEFAULT_BUDGET, help=help_)
    add_no_gate(parser)
    add_table(parser)
    parser.add_argument("--evidence", action="store_true", help="measure how far the map can be trusted")
    parser.add_argument("--json", action="store_true", help="JSON on stdout: answer, regions and evidence")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of methods that sample (default: 0)")
    parser.add_argument("--opacity", type=float, default=0.6, metavar="0..1", help="of strong evidence (default: 0.6)")


def run(arguments: argparse.Namespace) -> int:
    from ct_xception.explain.methods import find_method
    from ct_xception.explain.overlay import check_figure, save_figure

    arguments.method = find_method(arguments.method).name
    window = window_of(arguments)
    if arguments.output is None and not (arguments.json or arguments.evidence):
        raise InputError("nothing to do: name a figure with -o OUT, or ask for --json or --evidence.")
    check_figure(arguments.output or "figure.png", arguments.opacity)
    classifier = load_classifier(arguments.model, overrule_gate=arguments.no_gate, modality=arguments.modality)
    from ct_xception.serving.series import Member

    row = rows_of(arguments.table, classifier)(Member(printable(arguments.file), Path(arguments.file)))
    if row is None and arguments.table is not None:
        complain(PROGRAM, f"--table does not name {printable(arguments.file)}, which is explained without it.")
    prediction = classifier(arguments.file, window=window, frame=arguments.frame, tabular=row)
    if prediction.refusal:
        why = "; ".join(prediction.refusal)
        name = printable(arguments.file)
        raise InputError(f"{name}: refused by the input gate ({why}); --no-gate explains it all the same.")
    explanation = _explain(arguments, classifier, prediction)
    attribution = explanation.attribution
    probability = prediction.probabilities[attribution.label]
    if arguments.output is not None:
        picture = arguments.output
        save_figure(picture, prediction.slice, attribution, probability=probability, opacity=arguments.opacity)
    _print_explanation(arguments, classifier, prediction, explanation)
    print(RESEARCH_USE, file=sys.stderr)
    return DONE


def _explain(arguments: argparse.Namespace, classifier: Classifier, prediction: Prediction) -> Explanation:
    from ct_xception.explain.explain import explain

    with progress_bar(arguments.method) as progress:
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
    from ct_xception.files import dump_json
    from ct_xception.serving.text import answer_record, describe_gate

    found = None
    if arguments.evidence:
        with progress_bar("evidence") as progress:
            found = evidence(explanation, budget=arguments.budget, seed=arguments.seed, progress=progress)
    if arguments.json:
        record = {
            **answer_record(prediction, classifier.name),
            "explanation": explanation_record(explanation, found),
        }
        print(dump_json(record, indent=2))
        return
    if arguments.output is not None:
        attribution = explanation.attribution
        share = percent(prediction.probabilities[attribution.label])
        method = METHODS[attribution.method].title
        print(f"{printable(arguments.output)}: {method} of {attribution.label} ({share})")
    for sentence in (*describe_gate(prediction.gate), *explanation_sentences(explanation, found)):
        print(f"  - {sentence}")
