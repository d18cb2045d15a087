"""The options of a batch scoring: apart from the work, whose imports take seconds, so that --help answers at once."""

from __future__ import annotations

import argparse

from ct_xception.imaging.modality import MODALITIES

SLICE, SERIES, PATIENT = UNITS = "slice", "series", "patient"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a scoring."""
    parser.add_argument("--model", required=True, metavar="CHECKPOINT", help="folder or Hub id (user/repo[@revision])")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--folder", metavar="DIR", help="image and DICOM files, searched in depth")
    where.add_argument("--corpus", metavar="SOURCE", help="a labelled folder, table, Hub dataset id, or phantom")
    parser.add_argument("-o", "--output", required=True, metavar="FILE.parquet")
    parser.add_argument("--window", metavar="PRESET|CENTRE/WIDTH", help="for DICOM and deep images")
    parser.add_argument("--frame", type=int, metavar="N", help="read this slice of files that hold several, from 0")
    help_ = "slices taken of a file that holds several, evenly spaced: a number, or all (default: all of volumes)"
    parser.add_argument("--slices_per_file", metavar="N|all", help=help_)
    parser.add_argument(
        "--by", choices=UNITS, default=SLICE, help="series, patient: a second file, *_by_patient.parquet, a row each"
    )
    parser.add_argument("--modality", choices=MODALITIES, help="what the images are, where the checkpoint does not say")
    parser.add_argument("--batch_size", type=int, default=16, metavar="N", help="slices at a time (default: 16)")
    parser.add_argument("--shard_size", type=int, default=512, metavar="N", help="rows lost by a kill (default: 512)")
