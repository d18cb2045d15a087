"""What config.json and ct_xception.json of a checkpoint may say, as types: read, written and sealed in one place each.

    side = read_side(folder)                       # a Side; None where the folder has no side file
    write_side(folder, side.with_(temperature=1.2))
    seal(folder)                                   # the manifest of every file, and the side file's own hash

Types, ranges, sizes and depth are checked before anything acts on them; whatever else a file holds is refused with one
sentence. Keys that this version does not know are passed over, and kept when the file is written again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ct_xception.checkpoint import (
    ATTENTIONS,
    BACKBONES,
    CONFIG,
    HEADS,
    OWN_TYPE,
    SCALED_FORMAT,
    SIDE_FILE,
    SIDE_FORMAT,
    SIDE_FORMATS,
    STOCK_TYPE,
)
from ct_xception.errors import CheckpointError, printable
from ct_xception.files import dump_json, parse_json, sha256_file, write_atomically

MOST_BYTES = 2 * 2**20  # of config.json or ct_xception.json; a real one has a few thousand
AGAIN = "fetch the checkpoint again"
MOST_CLASSES = 1000
MOST_COLUMNS, MOST_VALUES = 64, 64  # of a table beside the images, and known values of one of them
MODALITIES = ("ct", "mr", "xray", "any")

Text = Annotated[str, Field(max_length=2000)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
Count = Annotated[int, Field(ge=0, le=10**12)]
Level = Annotated[float, Field(ge=-10, le=10)]
Pair = tuple[Positive, Positive]
Classes = Annotated[tuple[Text, ...], Field(min_length=1, max_length=MOST_CLASSES)]
Pixels = Annotated[int, Field(ge=32, le=1024)]


class Stated(BaseModel):
    """A part of a file: frozen, every number finite, and keys of a later version kept without being acted on."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False, defer_build=True)

    @classmethod
    def of(cls, stated: Mapping[str, Any], name: str = SIDE_FILE) -> Self:
        """From what JSON holds; `name` is what the sentence of the CheckpointError calls it."""
        try:
            text = dump_json(dict(stated))
        except ValueError as error:
            raise _malformed(name, str(error)) from error
        return cls.from_json(text, name)

    @classmethod
    def from_json(cls, text: str | bytes, name: str = SIDE_FILE) -> Self:
        """From a file's text. Raises CheckpointError, one sentence with the first thing that is wrong."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise _malformed(name, _first_of(error)) from error

    def to_json(self) -> dict[str, Any]:
        """As JSON takes it: what was stated, and nothing more."""
        return self.model_dump(mode="json", exclude_unset=True)

    def with_(self, **changes: Any) -> Self:
        """A copy with other values, checked as a file's would be; None takes a key away."""
        merged = self.to_json() | changes
        return type(self).of({key: value for key, value in merged.items() if value is not None})


def _first_of(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]


def _told_as(kind: type[Stated]) -> AfterValidator:
    """A record that stays the dict that it is, of the form of `kind`."""

    def check(value: dict[str, Any]) -> dict[str, Any]:
        try:
            kind.model_validate_json(dump_json(value))
        except ValidationError as error:
            raise ValueError(_first_of(error)) from error
        return value

    return AfterValidator(check)


class WindowRule(Stated):
    """A CT window in HU."""

    centre: Annotated[float, Field(gt=-1e9, lt=1e9)]
    width: Annotated[float, Field(ge=1, lt=1e9)]


class InputSteps(Stated):
    """What a slice is of, and what is done to it before the network's own preprocessing."""

    modality: Literal[MODALITIES] | None = None  # type: ignore[valid-type]
    body_crop: bool = True
    filters: Annotated[tuple[Literal["median", "clahe"], ...], Field(max_length=8)] = ()
    window: WindowRule | None = None


class Metric(Stated):
    """One measured number with the count behind it and its 95 % interval.

    `value`, `low` and `high` are None where they cannot be had; `reason` then says why.
    """

    value: float | None
    n: Count
    low: float | None = None
    high: float | None = None
    method: Text | None = None
    reason: str | None = None


class FittedOn(Stated):
    """The items that something was fitted on."""

    split: Text
    n: Count
    n_groups: Count = 0


class ConformalRule(Stated):
    """A rule of prediction sets, as `statistics.conformal.fit_conformal` gives it; of another method, a later one's.

    `thresholds` {class: its own} decide where they are stated.
    """

    method: Text
    coverage: Annotated[float, Field(gt=0, lt=1)]
    threshold: Annotated[float, Field(ge=0, le=1e6)] | None
    thresholds: dict[Text, Annotated[float, Field(ge=0, le=1e6)] | None] | None = None
    n_by_class: dict[Text, Count] | None = None
    penalty: Annotated[float, Field(ge=0, le=1e3)] = 0.1
    free_ranks: Annotated[int, Field(ge=0, le=MOST_CLASSES)] = 2
    unit: Text | None = None  # what was counted to fit it: "item" or "group", of which there were n_groups
    n: Count = 0
    n_groups: Count = 0
    reason: Text | None = None


class PointRule(Stated):
    """An operating point; the threshold is None where validation could give none."""

    name: Text
    positive: Classes
    threshold: Share | None
    chosen_for: Text
    kind: Text = "class"
    sensitivity: Metric | None = None
    specificity: Metric | None = None
    n: Count = 0
    n_positive: Count = 0
    reason: Text | None = None


class Abstention(Stated):
    """The confidence below which the network abstains, and what that does to the validation items."""

    threshold: Share | None = None
    chosen_for: Text | None = None
    answered: Metric | None = None
    accuracy: Metric | None = None
    n: Count = 0


class PoolingRule(Stated):
    """How slices become one answer a series or a patient, and how to decide on it, as `evaluation.patients` fits it.

    Of another version or method it is a later one's, and passed over. `unit` is what it was fitted on.
    """

    version: Count
    unit: Text
    method: Text
    temperature: Annotated[float, Field(gt=0, le=1e6)]
    n: Count = 0
    n_groups: Count = 0
    several: Count = 0
    mixed: Count = 0
    reason: Text | None = None
    losses: dict[Text, Annotated[float, Field(ge=0, le=1e3)]] | None = None
    conformal: ConformalRule | None = None
    operating_points: Annotated[tuple[PointRule, ...], Field(max_length=10_000)] = ()
    abstention: Abstention | None = None


class SignsRule(Stated):
    """What training slices look like without a network, as `serving.gate.Signs` has it."""

    modalities: Annotated[tuple[Text, ...], Field(max_length=100)]
    body: Share | None
    lungs: Share
    sides: Pair | None
    aspects: Pair | None
    windows: Annotated[tuple[tuple[float, Annotated[float, Field(ge=1, lt=1e9)]], ...], Field(max_length=100)]


class DriftRule(Stated):
    """What training's patients are kept for (`serving.drift`): `units_each` is how many units of look-alikes one is.

    Of another version it is a later one's, and passed over.
    """

    version: Count
    units_each: Annotated[float, Field(ge=1, le=1e6)] = 1.0
    n_patients: dict[Text, Count] = {}


class GateRule(Stated):
    """The input gate's numbers; `method` is None, and the rest unstated, where too few slices were there to fit one."""

    method: Text | None
    weights_sha256: Text | None = None
    noise: Positive | None = None
    length: Positive | None = None
    usual: Positive | None = None
    doubtful: Positive | None = None
    refused: Positive | None = None
    signs: SignsRule | None = None
    fitted_on: FittedOn | None = None
    limits_from: FittedOn | None = None
    reason: Text | None = None


class SearchRecord(Stated):
    """The search of hyperparameters that chose a recipe, told in the card.

    `space` has a line for each searched option; `trials` are counted by how they ended; `verdict` are the sentences on
    what the choice is worth. All figures are of validation.
    """

    space: dict[Text, Text]
    proxy: dict[str, Any] = {}
    objectives: tuple[Text, ...]
    sampler: Text
    pruner: Text
    folds: Count = 0
    trials: dict[Text, Count]
    epochs: Count
    winner: Count
    verdict: tuple[Text, ...]


class GroupsRecord(Stated):
    """Whose the images of a corpus are: by which column, tag or pattern."""

    origin: str | None = None


class ColumnsRecord(Stated):
    """Images of each split, and how many of them a column of the table has no value for."""

    images: dict[Text, Count] = {}
    missing: dict[Text, dict[Text, Count]] = {}


class CorpusRecord(Stated):
    """What a run's report of its corpus says, as far as it is acted on or told in the card."""

    source: str | None = None
    kind: Text | None = None
    hash: Text | None = None
    counts: dict[Text, dict[Text, Count]] = {}
    groups: GroupsRecord | None = None
    tabular: ColumnsRecord = ColumnsRecord()
    notes: tuple[str, ...] = ()


class SplitRecord(Stated):
    """How a corpus was split, as far as it is acted on or told in the card."""

    name: Text | None = None
    protocol: Text | None = None
    groups_origin: str | None = None
    seed: int = 0
    fractions: tuple[Share, Share, Share] | None = None
    crossing_groups: Count = 0


AnyCorpus = Annotated[dict[str, Any], _told_as(CorpusRecord)]
AnySplit = Annotated[dict[str, Any], _told_as(SplitRecord)]


class ReplayedRecord(Stated):
    """An older corpus of which training saw slices again."""

    corpus: AnyCorpus
    split: AnySplit = {}


class ReplayRecord(Stated):
    """How much of a training's slices were of older corpora."""

    corpora: tuple[ReplayedRecord, ...] = ()
    images: Count = 0
    share: Share = 0.0


class UnlabelledRecord(Stated):
    """What was learnt from without labels, told in the card.

    `groups` are patients, None where nobody knows them; `left_out` counts images by why; `alike` is whether look-alikes
    were looked for. `kept` is the share whose pseudo-label counted in the epoch whose weights were kept, and
    `threshold` the confidence that it took, None where none was enough.
    """

    corpora: tuple[AnyCorpus, ...]
    images: Count
    groups: Count | None = None
    left_out: dict[Text, Count] = {}
    alike: bool = True
    ratio: Annotated[float, Field(gt=0, le=1000)]
    weight: Annotated[float, Field(ge=0, le=1000)]
    kept: Share
    threshold: Share | None = None


class Ingredient(Stated):
    """A checkpoint that a soup was offered: its validation figure alone, the soup's with it, and whether it is in."""

    name: Text
    weights_sha256: Text
    seed: Count | None = None
    figure: Annotated[float, Field(ge=0, le=1e6)]
    together: Annotated[float, Field(ge=0, le=1e6)] | None = None
    kept: bool


class SoupRecord(Stated):
    """The checkpoints whose weights were averaged in place of training, told in the card; figures are of validation."""

    metric: Text
    n: Count
    ingredients: Annotated[tuple[Ingredient, ...], Field(min_length=2, max_length=1000)]


class SiteRecord(Stated):
    """The site that a version's rules or batch norms were fitted to, and how (`kind`)."""

    kind: Text
    name: str


class Origin(Stated):
    """The checkpoint that a version went on from."""

    name: str
    revision: Text | None = None
    weights_sha256: Text | None = None


class Version(Stated):
    """A version of a checkpoint, as those after it remember it."""

    weights_sha256: Text | None = None
    version: Annotated[int, Field(ge=1, le=10**6)] = 1
    date: Text | None = None
    judged: dict[str, Any] | None = None
    corpus: AnyCorpus = {}
    split: AnySplit = {}
    replay: ReplayRecord | None = None
    imported: dict[str, Any] | None = None
    site: SiteRecord | None = None
    went_on_from: Origin | None = None


class Ancestor(Version):
    """A version with the name that it was opened by."""

    name: str


class Provenance(Version):
    """How the weights came about; a record for people, of which few parts are acted on."""

    initial_weights: str | None = None
    command: str | None = None
    best_epoch: Count | None = None
    search: SearchRecord | None = None
    unlabelled: UnlabelledRecord | None = None
    soup: SoupRecord | None = None
    lineage: tuple[Ancestor, ...] = ()


class Rules(Stated):
    """How to decide on an answer, from what `calibration` says; the temperature is folded into the head already.

    By `output_temperature` our predictor divides the logits besides: a new site's, whose weights stay as they are.
    """

    temperature: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    output_temperature: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    calibration: FittedOn | None = None
    conformal: ConformalRule | None = None
    operating_points: Annotated[tuple[PointRule, ...], Field(max_length=10_000)] = ()
    class_groups: dict[Text, Classes] = {}
    abstention: Abstention | None = None
    pooling: PoolingRule | None = None


class Side(Rules):
    """ct_xception.json: input steps, rules of deciding, gate, provenance, and the seal.

    `manifest` is {path in the folder: SHA-256}. `seal` is the SHA-256 of all the rest of this file (`own_hash`), so
    that no rule can be changed by accident; both are written together, when a folder is finished.
    """

    format: int = SIDE_FORMAT
    input: InputSteps = InputSteps()
    gate: GateRule | None = None
    drift: DriftRule | None = None
    provenance: Provenance = Provenance()
    manifest: dict[Text, Text] = {}
    refused: Text | None = None
    seal: Text | None = None


class PretrainedCfg(Stated):
    """The network's own preprocessing, in timm's terms."""

    input_size: tuple[Literal[3], Pixels, Pixels]
    mean: Annotated[tuple[Level, ...], Field(min_length=1, max_length=3)]
    std: Annotated[tuple[Annotated[float, Field(gt=1e-6, le=10)], ...], Field(min_length=1, max_length=3)]
    interpolation: Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"] = "bicubic"
    crop_pct: Annotated[float, Field(ge=0.05, le=1)] = 0.875
    crop_mode: Literal["squash", "border", "center"] = "center"
    first_conv: Text = ""
    classifier: Text = ""


class TabularColumn(Stated):
    """A column of the table beside the images: a number, by training's mean and deviation, or one of known values."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    kind: Literal["number", "category"]
    mean: Annotated[float, Field(ge=-1e12, le=1e12)] | None = None
    deviation: Annotated[float, Field(ge=1e-9, le=1e12)] | None = None
    values: Annotated[tuple[Annotated[str, Field(max_length=200)], ...], Field(max_length=MOST_VALUES)] = ()

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        told = self.mean is not None and self.deviation is not None
        if self.kind == "number" and (not told or self.values):
            raise ValueError(f"the number {self.name!r} needs a mean and a deviation, and no values")
        if self.kind == "category" and (told or len({value.casefold() for value in self.values}) < len(self.values)):
            raise ValueError(f"the category {self.name!r} needs values that differ, and no mean")
        if self.kind == "category" and not self.values:
            raise ValueError(f"the category {self.name!r} has no values")
        return self


class TabularRule(Stated):
    """What a network takes beside an image, column by column: how `ct_xception.tabular` encodes it."""

    version: Literal[1]
    columns: Annotated[tuple[TabularColumn, ...], Field(min_length=1, max_length=MOST_COLUMNS)]

    @model_validator(mode="after")
    def _are_apart(self) -> Self:
        if len({column.name.casefold() for column in self.columns}) < len(self.columns):
            raise ValueError("two columns have one name")
        return self


class NetworkConfig(Stated):
    """config.json, as far as it is acted on: a classifier with an Xception in it.

    It is a stock timm_wrapper unless its head, its attention or what it takes beside the image is of ours, and says so
    by its type.
    """

    model_type: Literal[STOCK_TYPE, OWN_TYPE]  # type: ignore[valid-type]
    head: Literal[HEADS] = HEADS[0]  # type: ignore[valid-type]
    attention: Literal[ATTENTIONS] = ATTENTIONS[0]  # type: ignore[valid-type]
    tabular: TabularRule | None = None
    architecture: Literal[BACKBONES]  # type: ignore[valid-type]
    label_names: Annotated[tuple[Text, ...], Field(min_length=2, max_length=MOST_CLASSES)]
    pretrained_cfg: PretrainedCfg
    problem_type: Literal["single_label_classification"] | None = None
    model_args: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    num_classes: Count | None = None
    num_labels: Count | None = None
    id2label: dict[str, Text] | None = None
    label2id: dict[str, int] | None = None

    def disagreement(self) -> str | None:
        """What says otherwise of the classes than `label_names`; None where nothing does."""
        names = list(self.label_names)
        numbered = {str(index): name for index, name in enumerate(names)}
        stock = (self.head, self.attention, self.tabular) == (HEADS[0], ATTENTIONS[0], None)
        stated = {
            "model_type": stock == (self.model_type == STOCK_TYPE),
            "num_classes": self.num_classes in (None, len(names)),
            "num_labels": self.num_labels in (None, len(names)),
            "id2label": self.id2label in (None, numbered),
            "label2id": self.label2id in (None, {name: index for index, name in enumerate(names)}),
            "label_names": len(set(names)) == len(names),
            "pretrained_cfg.mean": {len(self.pretrained_cfg.mean), len(self.pretrained_cfg.std)} <= {1, 3},
        }
        return next((key for key, agrees in stated.items() if not agrees), None)


def _malformed(name: str, what: str) -> CheckpointError:
    return CheckpointError(f"{name}: is not of the form that a checkpoint has ({printable(what)[:200]}); {AGAIN}.")


def read_object(path: Path, name: str) -> dict[str, Any]:
    """The JSON object in a small file. Raises CheckpointError; `name` is what it calls the checkpoint."""
    try:
        with open(path, "rb") as stream:
            text = stream.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES >> 20} MiB")
        value = parse_json(text)
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{name}: {path.name} is not JSON ({printable(str(error))}); {AGAIN}.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{name}: {path.name} holds no JSON object; {AGAIN}.")
    return value


def read_side(folder: Path, name: str | None = None) -> Side | None:
    """The side file of a checkpoint folder, None where it has none; `name` is what messages call the checkpoint.

    Raises CheckpointError where it is of another format or form, or is not what its own seal says.
    """
    name = name or printable(folder)
    if not (folder / SIDE_FILE).is_file():
        return None
    stated = read_object(folder / SIDE_FILE, name)
    if stated.get("format", SIDE_FORMAT) not in SIDE_FORMATS or isinstance(stated.get("format"), bool):
        raise CheckpointError(
            f"{name}: {SIDE_FILE} has format {printable(repr(stated['format']))[:80]}, this version reads up to "
            f"{SIDE_FORMATS[-1]}; update ct-xception."
        )
    side = Side.of(stated, f"{name}: {SIDE_FILE}")
    if side.format > 1 and side.manifest and side.seal != own_hash(stated):
        raise CheckpointError(f"{name}: {SIDE_FILE} is not what its own seal says; it was damaged or changed, {AGAIN}.")
    return side


def own_hash(stated: Mapping[str, Any]) -> str:
    """The SHA-256 of a side file's contents but for `seal`, as JSON without spaces and with its keys in order."""
    rest = {key: value for key, value in stated.items() if key != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def side_text(side: Side) -> str:
    """A side file's text: of the oldest format whose readers do what it says, sealed where it holds a manifest."""
    stated = side.to_json() | {"format": SIDE_FORMAT if side.output_temperature == 1 else SCALED_FORMAT}
    stated.pop("seal", None)
    return dump_json(stated | ({"seal": own_hash(stated)} if side.manifest else {}), indent=2) + "\n"


def write_side(folder: Path, side: Side) -> None:
    """Write the side file of a checkpoint folder."""
    write_atomically(folder / SIDE_FILE, side_text(side))


def need_side(folder: Path) -> Side:
    """The side file of a checkpoint folder. Raises CheckpointError where it has none."""
    side = read_side(folder)
    if side is None:
        raise CheckpointError(f"{printable(folder)}: {SIDE_FILE} is missing; train again to have a whole checkpoint.")
    return side


def read_config(folder: Path, name: str) -> NetworkConfig:
    """config.json of a checkpoint folder. Raises CheckpointError where it is no classifier that is read here."""
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{name}: {CONFIG} is missing; give a checkpoint folder, such as runs/NAME/model.")
    stated = read_object(folder / CONFIG, name)
    for problem in _foreign(stated):
        raise CheckpointError(f"{name}: {printable(problem)}.")
    config = NetworkConfig.of(stated, f"{name}: {CONFIG}")
    if (key := config.disagreement()) is not None:
        raise _malformed(f"{name}: {CONFIG}", f"{key} does not agree with the rest")
    return config


def check_safetensors(path: Path, most_bytes: int) -> None:
    """Raise ValueError where a safetensors file is larger than one that is read here, or its header alone is.

    What the header says is checked by safetensors itself, which takes one of 100 MB; a network's has some 100 kB.
    """
    size = path.stat().st_size
    with open(path, "rb") as stream:
        header = int.from_bytes(stream.read(8), "little")
    if size > most_bytes or header > MOST_BYTES:
        raise ValueError(f"{path.name} has {size:,} bytes and a header of {header:,}, more than is read")


def _foreign(stated: Mapping[str, Any]) -> list[str]:
    """What makes a configuration another kind of network's, in words that say so."""
    found = []
    if stated.get("model_type") not in (STOCK_TYPE, OWN_TYPE):
        kind = repr(stated.get("model_type", "nothing"))[:80]
        found.append(f"model_type is {kind}, not 'timm_wrapper'; give a timm image classifier")
    cfg = stated.get("pretrained_cfg", {})
    if isinstance(cfg, dict) and (missing := [key for key in ("input_size", "mean", "std") if not cfg.get(key)]):
        lacking = f"pretrained_cfg in {CONFIG} lacks {', '.join(missing)}"
        found.append(f"{lacking}; without its preprocessing a network's answers mean nothing")
    names, single = stated.get("label_names") or [], (None, "single_label_classification")
    if (isinstance(names, list) and len(names) < 2) or stated.get("problem_type") not in single:
        found.append(f"{CONFIG} describes no choice between two or more classes; give one that does")
    # timm takes addresses where a name is expected, and arguments that make it open files.
    if stated.get("architecture") not in BACKBONES:
        known = ", ".join(BACKBONES)
        found.append(f"architecture {repr(stated.get('architecture'))[:80]} is none of {known}; it is not loaded")
    if isinstance(given := stated.get("model_args"), dict) and given:
        found.append(f"model_args in {CONFIG} holds {', '.join(sorted(given))[:80]}; it is not loaded")
    return found


def seal(folder: Path) -> dict[str, str]:
    """Write the manifest of a finished folder, {relative path: SHA-256} of every file but the side file; return it.

    Raises `CheckpointError` where the folder has no side file.
    """
    side, own = need_side(folder), folder / SIDE_FILE
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file != own)
    manifest = {file.relative_to(folder).as_posix(): sha256_file(file) for file in files}
    write_side(folder, side.with_(manifest=manifest))
    return manifest


def check_seal(
    folder: Path, files: Collection[str], manifest: Mapping[str, str], *, ignored: Collection[str] = ()
) -> None:
    """Raise CheckpointError, one sentence, unless the folder's `files` are those of its manifest, hash by hash.

    All are paths in the folder. The side file holds the manifest and is not in it; `ignored` may be there, be changed
    or be missing.
    """
    name = printable(folder)
    if not manifest:
        raise CheckpointError(f"{name}: was never sealed, so its training did not end; go on with --resume auto.")
    present = set(files) - {SIDE_FILE}
    wanted = manifest.keys() - set(ignored)
    if missing := sorted(wanted - present):
        raise CheckpointError(
            f"{name}: {missing[0]} is in the manifest but not in the folder; give a whole checkpoint."
        )
    if extra := sorted(present - manifest.keys() - set(ignored)):
        raise CheckpointError(f"{name}: {printable(extra[0])} is not in the manifest; take it out, and try again.")
    for file in sorted(wanted):
        if sha256_file(folder / file) != manifest[file]:
            raise CheckpointError(
                f"{name}: {file} differs from the SHA-256 in {SIDE_FILE}; it was damaged or changed, train or fetch it "
                "again."
            )
