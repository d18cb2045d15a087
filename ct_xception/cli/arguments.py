"""Options that several commands share, and what they stand for."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.errors import InputError, printable
from ct_xception.imaging.modality import CT, MODALITIES

if TYPE_CHECKING:
    from ct_xception.corpus.load import CorpusOptions
    from ct_xception.imaging.windows import Window
    from ct_xception.serving.classifier import Classifier
    from ct_xception.serving.series import Member


AUTO = "auto"  # of --runtime


def add_checkpoint(parser: argparse.ArgumentParser, name: str) -> None:
    """Which checkpoint, as a place or an option of this name."""
    help_ = "folder or Hub id (user/repo[@revision]); default: the newest runs/*/model"
    if name.startswith("--"):
        parser.add_argument(name, metavar="CHECKPOINT", help=help_)
    else:
        parser.add_argument(name, nargs="?", metavar="CHECKPOINT", help=help_)


def add_corpus(parser: argparse.ArgumentParser) -> None:
    """How a corpus is to be read."""
    parser.add_argument("--class_map", nargs="+", default=[], metavar="FOLDER=CLASS", help="where names differ")
    parser.add_argument("--split_map", nargs="+", default=[], metavar="FOLDER=SPLIT", help="where names differ")
    help_ = "folders and labels to leave out, by name, path or pattern ('Test*')"
    parser.add_argument("--exclude", nargs="+", default=[], metavar="NAME", help=help_)
    help_ = "class folders lie N folders below the corpus's own (default: told by their names)"
    parser.add_argument("--class_level", type=int, metavar="N", help=help_)
    parser.add_argument("--group_pattern", metavar="REGEX", help="its first group in a path is the patient")
    for column in ("image", "label", "group", "series", "site", "split", "mask"):
        parser.add_argument(f"--{column}_column", metavar="NAME", help="of a table or Hub dataset")
    help_ = "columns of a lesion's box in pixels, ends counted, for the evidence of heat maps"
    parser.add_argument("--box_columns", metavar="X0,Y0,X1,Y1", help=help_)
    help_ = "folder that a table's paths are relative to (default: its own)"
    parser.add_argument("--image_root", metavar="DIR", help=help_)
    help_ = "path of an image by the columns of a table, such as '{id}.png' or '{patient}/{slice}.dcm'"
    parser.add_argument("--image_template", metavar="TEMPLATE", help=help_)
    add_reading(parser)
    add_slices_per_file(parser)


def add_slices_per_file(parser: argparse.ArgumentParser) -> None:
    """Which slices of a file that holds several."""
    help_ = "slices taken of a file that holds several, evenly spaced: a number, or all (default: all of volumes)"
    parser.add_argument("--slices_per_file", metavar="N|all", help=help_)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """How a file becomes a slice."""
    parser.add_argument(
        "--window",
        metavar="PRESET|CENTRE/WIDTH",
        help="lung, mediastinal, bone, or HU such as -600/1500; for DICOM and deep images (default: that of "
        "training, else the file's own)",
    )
    parser.add_argument("--frame", type=int, metavar="N", help="read this slice of a file that holds several, from 0")
    help_ = "what the images are (default: what the checkpoint says, else ct)"
    parser.add_argument("--modality", choices=MODALITIES, help=help_)


def add_ort(parser: argparse.ArgumentParser) -> None:
    """Where the runtime of the page in the browser comes from."""
    help_ = "with --browser: the npm package onnxruntime-web, unpacked, to go with the page (default: from its CDN)"
    parser.add_argument("--ort", metavar="DIR", help=help_)


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """What runs the network."""
    from ct_xception.serving.runtimes import RUNTIMES

    help_ = (
        "what runs the network; all but torch need `ct-xception export` first (default: auto, the quickest file that "
    )
    help_ += "was exported and gave the network's own logits, else torch)"
    parser.add_argument("--runtime", choices=(AUTO, *RUNTIMES), default=AUTO, help=help_)


def add_no_gate(parser: argparse.ArgumentParser) -> None:
    """Whether the input gate is asked."""
    help_ = "answer also what the checkpoint's input gate takes for no slice such as those of training"
    parser.add_argument("--no-gate", action="store_true", help=help_)


def add_table(parser: argparse.ArgumentParser) -> None:
    """What is known beside the images."""
    help_ = "for a checkpoint trained with --tabular_columns: a table of path and these columns"
    parser.add_argument("--table", metavar="TABLE", help=help_)


def rows_of(table: str | None, classifier: Classifier) -> Callable[[Member], Mapping[str, Any] | None]:
    """What a table says of a slice, in the columns that the checkpoint takes; says what is answered without.

    Raises InputError for a table that cannot be read, or a checkpoint that takes no columns.
    """
    names = () if classifier.columns is None else classifier.columns.names
    if table is not None:
        from ct_xception.pipeline.owners import read_rows

        if not names:
            raise InputError(f"--table: {classifier.name} takes the image alone; leave it out.")
        return read_rows(Path(table), names)
    if names:
        print(f"no --table: {sentence_without(classifier)}", file=sys.stderr)
    return lambda member: None


def sentence_without(classifier: Classifier) -> str:
    """What is said where a checkpoint takes columns of a table and the caller gives none; empty where it takes none."""
    from ct_xception.imaging.decoders.dicom import TABULAR_TAGS

    names = () if classifier.columns is None else classifier.columns.names
    if not names:
        return ""
    headers = ", but for what DICOM files say of them" if set(names) & set(TABULAR_TAGS) else ""
    return f"{classifier.name} answers without {', '.join(map(printable, names))}, which it takes too{headers}."


def check_goes_with(arguments: argparse.Namespace, option: str, other: str) -> None:
    """Raise InputError where an option was given without the one that it is about."""
    if getattr(arguments, option) and not getattr(arguments, other):
        raise InputError(f"--{option}: goes with --{other}; give both, or neither.")


def window_of(arguments: argparse.Namespace) -> Window | None:
    """The window asked for. Raises InputError."""
    from ct_xception.imaging.windows import parse_window

    return None if arguments.window is None else parse_window(arguments.window)


def corpus_options(arguments: argparse.Namespace, window: Window | None, modality: str | None = None) -> CorpusOptions:
    """How a corpus is to be read, by the options of `add_corpus`; `modality` is a checkpoint's."""
    from ct_xception.corpus.listing import COLUMNS, CorpusOptions

    columns = {f"{name}_column": getattr(arguments, f"{name}_column") for name in COLUMNS}
    return CorpusOptions(
        class_map=pairs(arguments.class_map, "--class_map"),
        split_map=pairs(arguments.split_map, "--split_map"),
        exclude=tuple(arguments.exclude),
        class_level=arguments.class_level,
        box_columns=arguments.box_columns,
        image_root=arguments.image_root,
        image_template=arguments.image_template,
        group_pattern=arguments.group_pattern,
        window=window,
        frame=arguments.frame,
        modality=modality or arguments.modality or CT,
        slices_per_file=arguments.slices_per_file,
        **columns,
    )


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """NAME=VALUE texts as a dictionary. Raises InputError, naming the option."""
    broken = [text for text in texts if "=" not in text]
    if broken:
        raise InputError(f"{option}: {broken[0]!r} is not of the form NAME=NAME.")
    return dict(text.split("=", 1) for text in texts)


def checkpoint_of(given: str | None) -> str:
    """The checkpoint named, that of the run folder named, or the newest that a run left here; the last two are said."""
    if given is not None:
        return _of_run(given)
    found = sorted(Path("runs").glob("*/model/config.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError("no checkpoint named, and no runs/*/model here; name a folder or Hub id, or train one first.")
    return _told(found[-1].parent, "the newest run")


def _of_run(given: str) -> str:
    from ct_xception.serving.checkpoint import checkpoint_in

    found = checkpoint_in(given)
    return given if found == given else _told(Path(found), "of the run folder named")


def _told(folder: Path, why: str) -> str:
    print(f"checkpoint: {printable(folder)} ({why})", file=sys.stderr)
    return str(folder)


def load_classifier(
    checkpoint: str | None, runtime: str = "torch", *, overrule_gate: bool = False, modality: str | None = None
) -> Classifier:
    """The predictor of a checkpoint, named as for `checkpoint_of`."""
    path = checkpoint_of(checkpoint)
    from ct_xception.serving.classifier import Classifier

    if runtime == AUTO:
        runtime = _fastest(path)
    if runtime == "torch":  # the others start without transformers, and draw no bars
        hide_loading_bars()
    return Classifier.from_pretrained(path, runtime, overrule_gate=overrule_gate, modality=modality)


def _fastest(checkpoint: str) -> str:
    """The runtime to be asked, which is said where it is not the network itself."""
    from ct_xception.serving.fastest import fastest_runtime
    from ct_xception.serving.runtimes import DEFAULT_RUNTIME, EXPORTED

    found = fastest_runtime(checkpoint)
    if found != DEFAULT_RUNTIME:
        print(f"runtime: {EXPORTED[found].title} (it gave the network's own logits at export)", file=sys.stderr)
    return found


def hide_loading_bars() -> None:
    """transformers draws a bar over the tenth of a second that loading takes, and says which backend it has."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[float], None]]:
    """A bar on stderr, where that is a terminal, that is told the share done."""
    from tqdm import tqdm

    with tqdm(total=100, desc=what, unit="%", leave=False, delay=1, disable=None) as bar:

        def show(share: float) -> None:
            bar.update(round(100 * share) - bar.n)

        yield show
