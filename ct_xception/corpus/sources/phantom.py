"""The phantom as a corpus: `phantom:patients=40,seed=1`, generated once into the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ct_xception.corpus.listing import CorpusOptions, Listing
from ct_xception.corpus.sources import Source
from ct_xception.corpus.sources.folder import list_folder
from ct_xception.errors import InputError, printable
from ct_xception.files import cache_folder


def list_phantom(name: str, options: CorpusOptions) -> Listing:
    """List the images of a phantom, generated before if it is not in the cache."""
    listing = list_folder(_phantom_folder(name), options)
    listing.kind = SOURCE.kind
    return listing


def _phantom_folder(name: str) -> Path:
    """The cached phantom of a source such as `phantom:patients=40,classes=benign+malignant,plant=leaks:20`."""
    from ct_xception.phantom import corpus as phantom

    given = _phantom_options(name)
    options = phantom.PhantomOptions(**given)
    # Another version of the code that draws would give other images under the same options.
    code = "".join(file.read_text("utf-8") for file in sorted(Path(phantom.__file__).parent.glob("*.py")))
    key = hashlib.sha256(f"{options!r}{code}".encode()).hexdigest()[:16]
    folder = cache_folder() / f"phantom-{key}"
    if not (folder / "metadata.csv").is_file():
        try:
            phantom.generate_phantom(folder, **given)
        except (InputError, OSError):
            if not (folder / "metadata.csv").is_file():  # else another process was faster
                raise
    return folder


def _phantom_options(name: str) -> dict[str, Any]:
    from ct_xception.phantom.corpus import REFERENCE_CLASSES, class_names

    numbers = {"patients": "patients", "slices": "slices_per_patient", "size": "size", "seed": "seed"}
    options: dict[str, Any] = {"classes": REFERENCE_CLASSES}
    for part in filter(None, name.removeprefix("phantom").removeprefix(":").split(",")):
        key, _, value = part.partition("=")
        if key in numbers and value.isdecimal():
            options[numbers[key]] = int(value)
        elif key == "classes" and value:
            options["classes"] = class_names(int(value) if value.isdecimal() else value.split("+"))
        elif key == "plant" and value:
            options["plant"] = tuple(value.split("+"))
        else:
            known = "patients=N, slices=N, size=N, seed=N, classes=N or A+B+C, plant=KIND:N+KIND"
            raise InputError(f"{printable(name)}: {printable(part)!r} is no option of the phantom; it takes {known}.")
    return options


SOURCE = Source(
    "phantom",
    "phantom[:patients=N,seed=N]",
    lambda name: name == "phantom" or name.startswith("phantom:"),
    list_phantom,
    rank=4,
    public=True,
    generated=True,
)
