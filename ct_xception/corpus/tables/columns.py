"""Which column of a table is what: by the names that people give them, whatever their case and punctuation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from ct_xception.errors import InputError, printable

# Names of each role without case and punctuation, ranked: the first one present is it, unless an option names another.
COLUMNS: dict[str, tuple[str, ...]] = {
    "image": tuple(
        "filename file filepath filepaths path paths image images imagepath imagefile imagefilename imagename "
        "imageindex img imgpath imgfile imgname picture slice slicepath dicom dicompath dcm dcmpath dicomfile fullpath "
        "relativepath imageid imgid sliceid sopinstanceuid scan scanpath uid id".split()
    ),
    "label": tuple(
        "label labels class classname category diagnosis dx target finding findings findinglabels findinglabel "
        "labelname classlabel pathology disease condition histology outcome groundtruth y".split()
    ),
    "group": (),  # PATIENTS below
    "series": tuple("seriesuid seriesinstanceuid seriesid series".split()),
    "site": tuple(  # where an image was made; a bare `center` may be a window's, and `location` a lesion's
        "siteid sitename site hospitalid hospitalname hospital institutionid institutionname institution institute "
        "centerid centreid centername centrename clinic".split()
    ),
    "split": tuple(
        "split splits subset set partition splitname datasplit traintest phase foldname fold "
        "kfold cvfold foldid foldno foldindex".split()
    ),
    "mask": tuple("mask maskpath maskfile lesionmask".split()),
}
OWNERS = ("group", "series", "site")  # the roles that say whose and whence an image is
_NUMBER = "(id|ids|no|nr|num|number|uid|code|key|index|name|hash|identifier|ref)?"
# Whose an image is, ranked: a patient outranks a group, then subjects, cases and studies.
PATIENTS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(anon|anonymi[sz]ed|pseudo|deid|dicom)?(patients?|participants?|persons?|individuals?|mrn){_NUMBER}|pids?|(pat|pt)(id|no|nr|num|number)",
        "groups?(id|key)?",
        rf"(subjects?|volunteers?){_NUMBER}|(subj|sub)(id|no|nr|num)",
        rf"cases?{_NUMBER}",
        "(study|studies|exam|examination)(id|no|nr|uid|instanceuid|number)?|accession(no|number|id)?",
    )
)
# Columns of zeros and ones that say for one split whether an image is in it.
SPLIT_FLAGS = {
    f"{before}{word}{after}": split
    for split, words in {"train": ("train", "training"), "test": ("test", "testing", "holdout"),
                         "validation": ("val", "valid", "validation")}.items()
    for word in words for before in ("", "is", "in") for after in ("", "set", "split")
}  # fmt: skip
_PERSON = re.compile("patient|subject|participant|person|volunteer|mrn")
_TRAITS = re.compile(
    "age|sex|gender|weight|size|height|birth|dob|position|orient|ethnic|race|history|smok|count|status|type|class|label|"
    "comment|date|stage|state|diagn|survival|outcome|symptom|total|number?of|bmi|cohort|site|hospital|country"
)


def plain(column: object) -> str:
    """A column's name without case, punctuation and spaces: `Patient ID`, `patient_id` and `PatientID` are one."""
    return re.sub(r"[\W_]+", "", str(column).casefold())


def named(columns: Iterable[object], role: str) -> list[str]:
    """The columns that go by a name of a role, the best first."""
    names = [str(column) for column in columns]
    if role == "group":
        return [name for rank in PATIENTS for name in names if rank.fullmatch(plain(name))]
    return [name for known in COLUMNS[role] for name in names if plain(name) == known]


def find_column(columns: Iterable[object], role: str, given: str | None) -> str | None:
    """The column that an option names, or else the first that goes by a name of the role."""
    names = [str(column) for column in columns]
    if given is not None:
        return given if given in names else None
    return next(iter(named(names, role)), None)


def patient_like(columns: Iterable[object]) -> list[str]:
    """Columns that may tell patients apart, those with a known name first; ages and sexes tell none."""
    names = [str(column) for column in columns]
    known = named(names, "group")
    return known + [
        name for name in names
        if name not in known and _PERSON.search(plain(name)) and not _TRAITS.search(plain(name))
    ]  # fmt: skip


def one_hot(columns: Sequence[str], values: Callable[[str], Sequence[str]]) -> tuple[list[str], list[str]]:
    """The columns of zeros and ones, where there are two or more, and of each row the names of those that are 1.

    Blanks are zeros and -1 is uncertain, as in CheXpert. A row's names have bars between them; one without any is none.
    """
    flags = {name: [_flag(value) for value in values(name)] for name in columns}
    hot = [
        name for name, told in flags.items() if None not in told and {"1", "-1"} & set(told) and {"0", ""} & set(told)
    ]
    if len(hot) < 2:
        return [], []
    told = {"1": "{}", "-1": "uncertain {}"}
    rows = zip(*(flags[name] for name in hot), strict=True)
    named_ = ([told[flag].format(name) for name, flag in zip(hot, row, strict=True) if flag in told] for row in rows)
    return hot, ["|".join(names) or "none" for names in named_]


def _flag(value: str) -> str | None:
    known = {"": "", "1": "1", "1.0": "1", "true": "1", "0": "0", "0.0": "0", "false": "0", "-1": "-1", "-1.0": "-1"}
    return known.get(value.casefold())


def box_columns(given: str | None) -> tuple[str, ...]:
    """The four names of `--box_columns`; none where it is not given. Raises InputError."""
    names = () if given is None else tuple(name.strip() for name in given.split(","))
    if names and (len(names) != 4 or len(set(names)) < 4 or not all(names)):
        raise InputError(
            f"--box_columns {printable(given)}: give four columns, left, top, right and bottom, such as x0,y0,x1,y1."
        )
    return names


def tabular_columns(given: str | None) -> tuple[str, ...]:
    """The names of `--tabular_columns`; none where it is not given. Raises InputError."""
    names = () if given is None else tuple(name.strip() for name in given.split(","))
    if not all(names) or len({name.casefold() for name in names}) < len(names) or (given is not None and not names):
        raise InputError(f"--tabular_columns {printable(given)}: give columns, each once, such as age,sex.")
    return names
