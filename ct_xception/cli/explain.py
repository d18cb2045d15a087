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
from typing import TYPE_CHECKING

from ct_xception.cli.arguments import (
    add_checkpoint,
    add_no_gate,
    add_reading,
    load_classifier,
    progress_bar,
    window_of,
)
from ct_xception.command_line import DONE, Parser
from ct_xception.errors import InputError, printable
from ct_xception.files import dump_json
from ct_xception.text import RESEARCH_USE, percent

if TYPE_CHECKING:
    from ct_xception.explain.faithfulness import Explained
    from ct_xception.serving.classifier import Classifier, Prediction


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
    from ct_xception.explain.catalogue import BUDGETS, METHODS

    methods = "; ".join(f"{name}: {method.title}" for name, method in METHODS.items())
    parser.add_argument("file", metavar="FILE", help="an image or DICOM file")
    parser.add_argument("-o", "--output", metavar="OUT", help="figure to write: .png, .pdf or .svg")
    add_checkpoint(parser, "--model")
    add_reading(parser)
    parser.add_argument("--target", metavar="LABEL", help="class to explain (default: the answer)")
    parser.add_argument(
        "--method", choices=METHODS, default="gradcam", metavar="NAME", help=f"{methods} (default: gradcam)"
    )
    parser.add_argument("--budget", choices=BUDGETS, default="balanced", help="how much work (default: balanced)")
    add_no_gate(parser)
    parser.add_argument("--evidence", action="store_true", help="measure how far the map can be trusted")
    parser.add_argument("--json", action="store_true", help="JSON on stdout: answer, regions and evidence")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of methods that sample (default: 0)")
    parser.add_argument("--opacity", type=float, default=0.6, metavar="0..1", help="of strong evidence (default: 0.6)")


def run(arguments: argparse.Namespace) -> int:
    from ct_xception.explain.overlay import check_figure, save_figure

    window = window_of(arguments)
    if arguments.output is None and not (arguments.json or arguments.evidence):
        raise InputError("nothing to do: name a figure with -o OUT, or ask for --json or --evidence.")
    check_figure(arguments.output or "figure.png", arguments.opacity)
    classifier = load_classifier(arguments.model, gate=not arguments.no_gate)
    prediction = classifier(arguments.file, window=window, frame=arguments.frame)
    if prediction.gate is not None and prediction.gate.refused:
        why = "; ".join(prediction.gate.reasons)
        name = printable(arguments.file)
        raise InputError(f"{name}: refused by the input gate ({why}); --no-gate explains it all the same.")
    explained = _attribute(arguments, classifier, prediction)
    attribution = explained.attribution
    probability = prediction.probabilities[attribution.label]
    if arguments.output is not None:
        picture = arguments.output
        save_figure(picture, prediction.slice, attribution, probability=probability, opacity=arguments.opacity)
    _print_explanation(arguments, classifier, prediction, explained)
    print(RESEARCH_USE, file=sys.stderr)
    return DONE


def _attribute(arguments: argparse.Namespace, classifier: Classifier, prediction: Prediction) -> Explained:
    from ct_xception.explain.attribution import attribute
    from ct_xception.explain.faithfulness import Explained

    target = classifier.label_index(arguments.target or prediction.label)
    prepared = classifier.prepare(prediction.slice)
    with progress_bar(arguments.method) as progress:
        attribution = attribute(
            classifier.model,
            prepared.pixel_values,
            target,
            box=prepared.crop.box,
            shape=prediction.slice.pixels.shape,
            method=arguments.method,
            budget=arguments.budget,
            seed=arguments.seed,
            progress=progress,
        )
    slice_, box = prediction.slice, prepared.crop.box
    return Explained(classifier.model, slice_, prepared.pixel_values, box, target, attribution)


def _print_explanation(
    arguments: argparse.Namespace, classifier: Classifier, prediction: Prediction, explained: Explained
) -> None:
    """The map in JSON or in sentences, with what was asked for of the evidence."""
    from ct_xception.explain import summary as account
    from ct_xception.explain.faithfulness import evidence
    from ct_xception.serving.text import answer_record, describe_gate

    found = None
    if arguments.evidence:
        with progress_bar("evidence") as progress:
            found = evidence(explained, budget=arguments.budget, seed=arguments.seed, progress=progress)
    if arguments.json:
        record = {
            **answer_record(prediction, classifier.name),
            "explanation": account.explanation_record(explained, found),
        }
        print(dump_json(record, indent=2))
        return
    if arguments.output is not None:
        attribution = explained.attribution
        share = percent(prediction.probabilities[attribution.label])
        method = account.method_title(attribution.method)
        print(f"{printable(arguments.output)}: {method} of {attribution.label} ({share})")
    for sentence in (*describe_gate(prediction.gate), *account.explanation_sentences(explained, found)):
        print(f"  - {sentence}")
