"""Generate a corpus of procedural chest CT.

Write a corpus of generated chest CT slices with known lesions, patients, series and splits.

examples:
  ct-xception phantom corpus
  ct-xception phantom corpus --patients 40 --dicom --plant duplicates:6,leaks
"""

from __future__ import annotations

import argparse

from ct_xception.command_line import DONE, Parser
from ct_xception.errors import printable


def add_arguments(parser: Parser) -> None:
    """The options of this command."""
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


def run(arguments: argparse.Namespace) -> int:
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
