"""Make a checkpoint of a Keras Xception.

Read a Keras Xception with its head (average pooling, Dropout, one Dense layer) from a .keras file or a whole model in
.h5, as data: no code of the file is run, and Keras is not needed. What its padding makes of the answers is measured and
said. The checkpoint has no figures: ct-xception evaluate measures some, ct-xception train --init goes on from it.

examples:
  ct-xception import-keras model.keras -o imported --labels benign,malignant
  ct-xception import-keras model.h5 -o imported --image_size 224 --rescale unit
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ct_xception.cli.arguments import hide_loading_bars
from ct_xception.command_line import DONE, Parser
from ct_xception.errors import printable
from ct_xception.text import RESEARCH_USE


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
    parser.add_argument("file", metavar="FILE", help="model.keras or model.h5")
    parser.add_argument("-o", "--output", required=True, metavar="CHECKPOINT", help="new folder")
    parser.add_argument("--labels", metavar="A,B,…", help="class names in Keras' order (default: class 0, …)")
    parser.add_argument("--image_size", type=int, metavar="PIXELS", help="side of the input (default: the file's own)")
    parser.add_argument("--rescale", metavar="keras|unit|none", help="x / 127.5 - 1, x / 255, or x (default: keras)")


def run(arguments: argparse.Namespace) -> int:
    from ct_xception.formats.keras.convert import import_keras
    from ct_xception.formats.keras.padding import padding_figures, padding_statement
    from ct_xception.publish.imported import check_new_folder, write_imported_checkpoint

    output, labels = Path(arguments.output), arguments.labels
    check_new_folder(output)
    names = None if labels is None else [name.strip() for name in labels.split(",")]
    imported = import_keras(arguments.file, names, image_size=arguments.image_size, rescale=arguments.rescale)
    padding = padding_figures(imported.model, progress=True)
    hide_loading_bars()
    write_imported_checkpoint(output, imported, padding)
    for note in (*imported.notes, padding_statement(padding)):
        print(f"note: {note}")
    print(f"{printable(output)}: {', '.join(imported.model.label_names)}; how often it is right was not measured.")
    print(RESEARCH_USE, file=sys.stderr)
    return DONE
