"""Everything that governs a training run: one frozen dataclass, checked in full before the first slow act.

The command line of `train_hf.py` and its `--config FILE.yaml` are read into it, and it is saved with the run.
"""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ct_xception.checkpoint import ATTENTIONS, HEADS
from ct_xception.command_line import Parser
from ct_xception.corpus.external_options import HELP, check_external_options
from ct_xception.corpus.listing import COLUMNS, CorpusOptions, check_external_name
from ct_xception.corpus.tables.columns import tabular_columns
from ct_xception.errors import InputError, printable
from ct_xception.imaging.modality import CT, MODALITIES
from ct_xception.imaging.transforms import FILTERS, AugmentConfig
from ct_xception.imaging.windows import parse_window
from ct_xception.text import RESEARCH_USE, did_you_mean
from ct_xception.training.losses import LOSSES
from ct_xception.training.start import settle_start

if TYPE_CHECKING:
    from ct_xception.corpus.load import CorpusOptions
    from ct_xception.training.data.cache import Reading

EXAMPLES = """\
  accelerate launch train_hf.py --corpus DIR --weights hub --output_dir runs/mine
  accelerate launch train_hf.py --corpus phantom --weights none --epochs 3
  accelerate launch --multi_gpu --num_processes 4 train_hf.py --config recipe.yaml --resume auto"""
METRICS = ("loss", "calibrated_loss", "accuracy", "balanced_accuracy", "macro_f1", "auroc")
SCHEDULES = ("cosine", "linear", "polynomial", "cosine_with_restarts", "constant")
TRACKERS = ("tensorboard", "trackio", "wandb")
SITES = "sites"
PROTOCOLS = ("published", "deduplicated", "grouped")


def option(default: Any, help: str, group: str, choices: Sequence[str] = ()) -> Any:
    """A field of `TrainConfig` with what its command-line option says."""
    metadata = {"help": help, "group": group, "choices": tuple(choices)}
    if isinstance(default, (dict, list)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Raises `InputError`, naming the option, for a value that is out of range."""

    corpus: str = option(
        "", "folder, CSV or Parquet, DICOM tree, Hub dataset id, or phantom[:patients=N,seed=N]", "corpus"
    )
    class_map: dict[str, str] = option({}, "folder or label name = class name, where they differ", "corpus")
    split_map: dict[str, str] = option({}, "folder or split name = train, validation, test or ignore", "corpus")
    exclude: list[str] = option([], "folders and labels to leave out, by name, path or pattern", "corpus")
    class_level: int | None = option(
        None, "class folders lie so many folders below the corpus's own (default: told by their names)", "corpus"
    )
    image_column: str | None = option(None, "column of file paths or images (default: found by name)", "corpus")
    label_column: str | None = option(None, "column of labels (default: found by name)", "corpus")
    group_column: str | None = option(None, "column of patient identifiers (default: found by name)", "corpus")
    series_column: str | None = option(None, "column of series UIDs (default: found by name)", "corpus")
    site_column: str | None = option(None, "column of hospitals or other sites (default: found by name)", "corpus")
    split_column: str | None = option(None, "column of split names (default: found by name)", "corpus")
    mask_column: str | None = option(
        None, "column of pictures of the lesions, for the evidence of heat maps (default: found by name)", "corpus"
    )
    box_columns: str | None = option(
        None, "four columns X0,Y0,X1,Y1 of a lesion's box in pixels, ends counted, in place of a mask", "corpus"
    )
    tabular_columns: str | None = option(
        None,
        "columns of the corpus's table (or PatientAge, PatientSex, … of DICOM) that the network takes beside the image "
        "(age,sex); it answers without them, too",
        "corpus",
    )
    image_root: str | None = option(None, "folder that a table's paths are relative to (default: its own)", "corpus")
    image_template: str | None = option(
        None, "path of an image by the columns of a table, for example {id}.png", "corpus"
    )
    group_pattern: str | None = option(None, "regular expression whose first group in a path is the patient", "corpus")
    valid_fraction: float = option(0.15, "share of groups for validation where the corpus has none", "corpus")
    test_fraction: float = option(0.15, "share of groups for test where the corpus has none", "corpus")
    unlabelled: list[str] = option(
        [],
        "corpora or folders of slices to learn from without labels (FixMatch); labels in them are not looked at",
        "corpus",
    )
    modality: str = option(CT, "what the images are: ct, mr, xray, or any of these", "corpus", MODALITIES)
    window: str | None = option(
        None, "lung, mediastinal, bone or --window=CENTRE/WIDTH in HU (default: the file's)", "corpus"
    )
    frame: int | None = option(None, "read this slice of files that hold several, from 0", "corpus")
    slices_per_file: str | None = option(
        None,
        "slices taken of a file that holds several, evenly spaced: a number, or all (default: all of volumes)",
        "corpus",
    )
    body_crop: bool | None = option(None, "crop each slice to the body (default: of CT alone)", "corpus")
    filters: list[str] = option([], "filters on each slice, in order: median, clahe", "corpus")

    backbone: str = option("legacy_xception", "legacy_xception or xception41, 65, 71, 41p, 65p", "network")
    weights: str = option("hub", "first weights: hub, none (random), checkpoint, safetensors or Keras file", "network")
    image_size: int = option(192, "side of the square input in pixels", "network")
    dropout: float = option(0.3, "share of pooled features dropped before the head", "network")
    head: str = option(
        HEADS[0],
        "linear: a linear layer on averaged features, which stock tools read; attention: on features pooled by "
        "attention, which shows where it looks, and which stock pipeline() knows after `import ct_xception`",
        "network",
        HEADS,
    )
    attention: str = option(
        ATTENTIONS[0],
        "se or cbam blocks in the last two blocks of the body, for stock pipeline() as --head attention",
        "network",
        ATTENTIONS,
    )

    tabular_dropout: float = option(
        0.3, "share of rows of --tabular_columns withheld while training, for answers without them", "network"
    )

    init: str | None = option(
        None, "checkpoint to go on from, head and all, on the same classes: a folder or Hub id", "continuity"
    )
    soup: list[str] = option(
        [],
        "in place of training: the average of these checkpoints of one split and first weights, each taken in where "
        "validation gets no worse (model soup)",
        "continuity",
    )
    replay: list[str] = option([], "corpora that it was trained on: mixed in, and tested again", "continuity")
    replay_share: float = option(0.5, "share of --replay in training and validation; 0 tests it alone", "continuity")
    margin: float = option(
        0.05, "accuracy that a test may have lost, by the 95 % interval, for a new version to be written", "continuity"
    )

    epochs: int = option(20, "times through the training split", "training")
    batch_size: int = option(16, "images a step on each process", "training")
    accumulation: int = option(1, "steps whose gradients are summed before an update", "training")
    optimizer: str = option("adamw", "adamw, adam, rmsprop, sgd or any other of timm's factory", "training")
    learning_rate: float = option(1e-3, "peak learning rate of the head", "training")
    body_rate: float = option(0.3, "learning rate of the body as a multiple of the head's", "training")
    weight_decay: float = option(0.05, "decay of weights; biases and norms have none", "training")
    schedule: str = option("cosine", "course of the learning rate after the warm-up", "training", SCHEDULES)
    warmup_epochs: float = option(1.0, "epochs of linear warm-up", "training")
    small_epochs: int = option(0, "first epochs that train at --small_size (progressive resizing)", "training")
    small_size: int = option(0, "side of the square input in the first --small_epochs epochs", "training")
    freeze_epochs: int = option(0, "first epochs that train the head alone", "training")
    frozen_blocks: int = option(0, "first blocks of the body that stay as they began, with the stem", "training")
    clip_norm: float = option(1.0, "largest norm of the gradient; 0 turns it off", "training")
    ema: float = option(0.98, "decay of the moving average of weights that is kept; 0 turns it off", "training")
    mixed_precision: str | None = option(
        None, "arithmetic of the forward pass (default: accelerate's)", "training", ("no", "fp16", "bf16")
    )

    loss: str = option("cross_entropy", "loss; bce is for two classes", "loss", tuple(LOSSES))
    label_smoothing: float = option(0.1, "share of each label spread over all classes", "loss")
    focal_gamma: float = option(2.0, "focusing exponent of the focal loss", "loss")
    class_weights: str = option("none", "weigh the loss by inverse class frequency", "loss", ("none", "balanced"))
    sampling: str = option(
        "shuffle",
        "draw every image once, or with replacement: classes, patients or sites evenly, however many images they have",
        "loss",
        ("shuffle", "balanced", "patients", SITES),
    )
    mixup: float = option(0.0, "alpha of mixup; 0 turns it off", "loss")
    unlabelled_ratio: float = option(2.0, "images of --unlabelled beside each labelled one in a step", "loss")
    unlabelled_weight: float = option(1.0, "weight of the loss on --unlabelled, once it is ramped in", "loss")
    augment: dict[str, str] = option({}, "augmentation = value, for example rotation=15 flip=0", "loss")

    audit: bool = option(True, "look for duplicates, leaks and shortcuts before training", "evidence")
    protocols: list[str] = option(
        ["published", "deduplicated"],
        "how to test: published (the corpus's own split, or the one made), deduplicated, grouped (cross-validation)",
        "evidence",
    )
    folds: int = option(5, "parts of the grouped cross-validation", "evidence")
    only_fold: int | None = option(None, "train this fold alone, from 1, to spread folds over machines", "evidence")
    class_groups: dict[str, str] = option(
        {}, "question = classes, for example cancer=adenocarcinoma,carcinoid normal=normal", "evidence"
    )
    external: dict[str, str] = option(
        {},
        "another corpus to be tested on, whole, as NAME=SOURCE; its classes are matched by name, by the groups of "
        "--class_groups, or by --class_map NAME/label=CLASS",
        "evidence",
    )
    external_options: dict[str, str] = option({}, HELP, "evidence")
    coverage: float = option(0.95, "how often a set of classes is to hold the true one", "evidence")
    coverage_by: str = option("all", "whether that holds over all classes, or for each", "evidence", ("all", "class"))
    explained: int = option(12, "test images whose heat maps are checked for the card", "evidence")
    robustness: int = option(
        0,
        "test images changed as other scanners would, 55 to 70 times each, for the card: 48 take some minutes",
        "evidence",
    )

    metric: str = option("loss", "validation figure that chooses the epoch to keep", "run", METRICS)
    patience: int = option(0, "stop after this many epochs without a better figure; 0 never stops", "run")
    seed: int = option(0, "governs splits, weights, order and augmentation", "run")
    output_dir: str | None = option(None, "run folder (default: runs/ and the corpus's name and the time)", "run")
    resume: str = option("no", "auto goes on with the run in output_dir where there is one", "run", ("no", "auto"))
    workers: int = option(1, "processes that prepare batches", "run")
    threads: int = option(0, "CPU threads of each training process; 0 shares out the cores", "run")
    trackers: list[str] = option([], "also report to: tensorboard, trackio, wandb", "run")
    push_to_hub: str | None = option(None, "publish the finished checkpoint on the Hub as USER/REPO", "run")
    private: bool = option(False, "make the repository of --push_to_hub private", "run")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_choice(field, getattr(self, field.name))
        if self.body_crop is None:  # the outline finder knows what air around a patient in CT looks like, and no other
            object.__setattr__(self, "body_crop", self.modality == CT)
        _check_ranges(self)
        _check_names(self)

    @property
    def reading(self) -> Reading:
        """How this run's files become slices."""
        from ct_xception.training.data.cache import Reading

        window = None if self.window is None else parse_window(self.window)
        return Reading(window, self.frame, tuple(self.filters), bool(self.body_crop), self.modality)

    @property
    def corpus_options(self) -> CorpusOptions:
        """How this run's corpus is to be read."""
        columns = {f"{name}_column": getattr(self, f"{name}_column") for name in COLUMNS}
        return CorpusOptions(
            class_map=self.class_map,
            split_map=self.split_map,
            exclude=tuple(self.exclude),
            class_level=self.class_level,
            box_columns=self.box_columns,
            tabular_columns=self.tabular_columns,
            image_root=self.image_root,
            image_template=self.image_template,
            group_pattern=self.group_pattern,
            window=self.reading.window,
            frame=self.frame,
            modality=self.modality,
            slices_per_file=self.slices_per_file,
            of_external=self.external_options,
            **columns,
        )

    @property
    def class_group_lists(self) -> dict[str, list[str]]:
        """`--class_groups` as {group: [class, …]}."""
        return {name: [one.strip() for one in text.split(",")] for name, text in self.class_groups.items()}

    @property
    def mapping(self) -> dict[str, Any]:
        """The configuration as JSON takes it."""
        return dataclasses.asdict(self)


# Options that do not change the weights a run ends with: a resumed run may differ in them. (The audit and the folds may
# change a split; that is told by the split's own name.)
EVIDENCE = frozenset(
    {
        "mask_column",
        "box_columns",
        "audit",
        "protocols",
        "folds",
        "only_fold",
        "class_groups",
        "external",
        "external_options",
        "coverage",
        "coverage_by",
        "explained",
        "robustness",
        "margin",
    }
)
FREE_TO_DIFFER = frozenset({"output_dir", "resume", "workers", "trackers", "push_to_hub", "private"}) | EVIDENCE

_RANGES: dict[str, tuple[float, float]] = {
    "valid_fraction": (0.01, 0.9),
    "test_fraction": (0.01, 0.9),
    "epochs": (1, 100_000),
    "batch_size": (2, 65_536),
    "accumulation": (1, 65_536),
    "learning_rate": (1e-6, 100.0),
    "body_rate": (0.0, 100.0),
    "weight_decay": (0.0, 10.0),
    "warmup_epochs": (0.0, 100_000),
    "small_epochs": (0, 100_000),
    "small_size": (0, 65_536),
    "freeze_epochs": (0, 100_000),
    "frozen_blocks": (0, 100),
    "clip_norm": (0.0, 1e9),
    "ema": (0.0, 0.999999),
    "dropout": (0.0, 0.99),
    "tabular_dropout": (0.0, 0.99),
    "label_smoothing": (0.0, 0.99),
    "focal_gamma": (0.0, 100.0),
    "mixup": (0.0, 100.0),
    "unlabelled_ratio": (0.1, 100.0),
    "unlabelled_weight": (0.0, 100.0),
    "patience": (0, 100_000),
    "folds": (2, 100),
    "coverage": (0.5, 0.999),
    "explained": (0, 1000),
    "robustness": (0, 1000),
    "replay_share": (0.0, 0.95),
    "margin": (0.0, 1.0),
    "seed": (0, 2**31 - 1),
    "workers": (0, 256),
    "threads": (0, 4096),
}


def _check_choice(field: dataclasses.Field, value: Any) -> None:
    choices = field.metadata["choices"]
    if choices and value is not None and value not in choices:
        guess = did_you_mean(str(value), choices)
        raise InputError(f"--{field.name}: {value!r} is not one of {', '.join(choices)}{guess or '.'}")


def _check_ranges(config: TrainConfig) -> None:
    for name, (low, high) in _RANGES.items():
        value = getattr(config, name)
        if not low <= value <= high:
            raise InputError(f"--{name}: {value} is out of range; give a value from {low:g} to {high:g}.")
    if config.valid_fraction + config.test_fraction > 0.9:
        raise InputError("--valid_fraction and --test_fraction leave less than a tenth for training; give less.")
    if config.mixup and config.batch_size % 2:
        raise InputError(f"--mixup: pairs the images of a batch, and --batch_size {config.batch_size} is odd.")
    if config.mixup and config.tabular_columns is not None:
        raise InputError("--mixup: mixes images, and not the rows of --tabular_columns; give one of the two.")
    if config.frozen_blocks and config.weights == "none":
        raise InputError("--frozen_blocks: random blocks would stay random; give --weights hub or a file.")
    if config.unlabelled and not config.ema:
        raise InputError("--unlabelled: the moving average of weights makes its pseudo-labels; give an --ema above 0.")
    if config.unlabelled and config.epochs < 2:
        raise InputError("--unlabelled: is learnt from once an epoch was validated; give --epochs 2 or more.")
    _check_epochs(config)


def _check_epochs(config: TrainConfig) -> None:
    if (config.small_epochs > 0) != (config.small_size > 0):
        raise InputError("--small_epochs and --small_size: say how long and at which side; give both or none.")
    if config.small_size >= config.image_size:
        raise InputError(f"--small_size: {config.small_size} is not below --image_size {config.image_size}; give less.")
    if config.small_epochs and config.small_epochs >= config.epochs:
        raise InputError(
            f"--small_epochs: {config.small_epochs} of {config.epochs} epochs leave none at --image_size; give fewer."
        )
    if config.freeze_epochs >= config.epochs:
        raise InputError(
            f"--freeze_epochs: {config.freeze_epochs} of {config.epochs} epochs leave none for the whole network."
        )


def _check_names(config: TrainConfig) -> None:
    if config.resume == "auto" and not config.output_dir:
        raise InputError("--resume auto: needs --output_dir, the folder of the run to go on with.")
    if config.push_to_hub and config.only_fold is not None:
        raise InputError("--push_to_hub: a fold alone makes no checkpoint; push from the call without --only_fold.")
    if config.private and not config.push_to_hub:
        raise InputError("--private: is about --push_to_hub, which was not given; name its USER/REPO.")
    if config.frame is not None and config.frame < 0:
        raise InputError(f"--frame: {config.frame} is below 0; frames count from 0.")
    if not config.corpus:
        raise InputError("--corpus: not given; name a folder, a table, a Hub dataset id, or phantom.")
    for name in config.filters:
        if name not in FILTERS:
            raise InputError(f"--filters: {name!r} is not one of {', '.join(FILTERS)}.")
    for name in config.trackers:
        if name not in TRACKERS:
            raise InputError(f"--trackers: {name!r} is not one of {', '.join(TRACKERS)}.")
    if config.window is not None:
        parse_window(config.window)
    tabular_columns(config.tabular_columns)
    _check_evidence(config)
    _check_continuity(config)
    augment_config(config)


def _check_evidence(config: TrainConfig) -> None:
    for name in config.protocols:
        if name not in PROTOCOLS:
            raise InputError(f"--protocols: {name!r} is not one of {', '.join(PROTOCOLS)}.")
    if config.only_fold is not None and not 1 <= config.only_fold <= config.folds:
        raise InputError(f"--only_fold: {config.only_fold} is none of the folds 1 to {config.folds}.")
    if config.only_fold is not None and "grouped" not in config.protocols:
        raise InputError("--only_fold: there are folds in cross-validation alone; add --protocols grouped.")
    for name in config.external:
        check_external_name(name)
    check_external_options(config.external_options, config.external)
    classes = [name for names in config.class_group_lists.values() for name in names]
    if "" in classes or len(set(classes)) < len(classes):
        raise InputError(
            "--class_groups: a class is empty or in two groups; give NAME=CLASS,CLASS with each class once."
        )


def _check_continuity(config: TrainConfig) -> None:
    if config.replay and config.init is None:
        raise InputError("--replay: is about what --init was trained on, which was not given; name that checkpoint.")
    for name, given in (("init", config.init is not None), ("soup", bool(config.soup))):
        if given and "grouped" in config.protocols:
            raise InputError(
                f"--{name}: a cross-validation would test it on images that it has seen; leave --protocols grouped out."
            )
    if len(config.soup) == 1:
        raise InputError("--soup: one checkpoint has no average; name two or more.")
    if config.soup and config.unlabelled:
        raise InputError("--unlabelled: is learnt from in training, and --soup averages what is trained; give one.")


def augment_config(config: TrainConfig) -> Any:
    """The `AugmentConfig` that `--augment` asks for. Raises `InputError` for an unknown name or value."""
    known = {field.name for field in dataclasses.fields(AugmentConfig)}
    values = {}
    for name, text in config.augment.items():
        if name not in known:
            raise InputError(f"--augment: {name!r} is not one of {', '.join(sorted(known))}.")
        try:
            values[name] = float(text)
        except (TypeError, ValueError):
            raise InputError(f"--augment: {name}={text} is not a number.") from None
    return AugmentConfig(**values)


def build_parser() -> Parser:
    """The command line of train_hf.py."""
    parser = Parser(
        prog="accelerate launch train_hf.py",
        usage="accelerate launch train_hf.py --corpus SOURCE [OPTION …]",
        description="Fine-tune a timm Xception on labelled CT, MR or X-rays, evaluate it and write a Hub-ready "
        f"checkpoint. {RESEARCH_USE}",
        epilog=f"examples:\n{EXAMPLES}",
    )
    add_options(parser)
    return parser


def add_options(parser: Parser) -> None:
    """An option for every field, in the groups of the dataclass; what is not given is absent from what is parsed."""
    parser.argument_default, parser.wants_options = argparse.SUPPRESS, True
    parser.add_argument("--config", metavar="FILE.yaml", help="options from a YAML file; the command line wins")
    groups: dict[str, Any] = {}
    for field in dataclasses.fields(TrainConfig):
        group = field.metadata["group"]
        groups.setdefault(group, parser.add_argument_group(group))
        groups[group].add_argument(f"--{field.name}", **_argument(field))


def _argument(field: dataclasses.Field) -> dict[str, Any]:
    """The argparse settings of one field."""
    kind, default = _types()[field.name], _default(field)
    shown = " ".join(default) if isinstance(default, list) else default
    shown = "" if shown in (None, "", {}) else f" (default: {shown})"
    settings: dict[str, Any] = {"help": (field.metadata["help"] + shown).replace("%", "%%")}
    if kind is bool:
        return settings | {"action": argparse.BooleanOptionalAction}
    if kind is list:
        return settings | {"nargs": "*", "metavar": "NAME"}
    if kind is dict:
        return settings | {"nargs": "*", "metavar": "NAME=VALUE", "action": _Pairs}
    if field.metadata["choices"]:
        return settings | {"choices": field.metadata["choices"]}
    return settings | {"type": kind, "metavar": {str: "TEXT", int: "N", float: "X"}[kind]}


class _Pairs(argparse.Action):
    """NAME=VALUE arguments, gathered into a dictionary."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        pairs = [value.partition("=") for value in values]
        for name, sign, value in pairs:
            if not (name and sign and value):
                parser.error(f"{option_string}: {name + sign + value!r} is not NAME=VALUE")
        # An option given twice adds to what the first one said.
        setattr(namespace, self.dest, getattr(namespace, self.dest, {}) | {name: value for name, _, value in pairs})


def _types() -> dict[str, type]:
    """The plain type of every field: `X | None` counts as X, a parametrised list or dict as list or dict."""
    plain = {}
    for name, hint in typing.get_type_hints(TrainConfig).items():
        if isinstance(hint, types.UnionType):
            hint = next(part for part in typing.get_args(hint) if part is not type(None))
        plain[name] = typing.get_origin(hint) or hint
    return plain


def option_defaults() -> dict[str, Any]:
    """Every option's default."""
    return {field.name: _default(field) for field in dataclasses.fields(TrainConfig)}


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def parse_config(arguments: Sequence[str] | None = None) -> TrainConfig:
    """Read the command line, and the YAML file it names, into a checked `TrainConfig`."""
    return config_from_given(vars(build_parser().parse_args(arguments)))


def config_from_given(given: Mapping[str, Any]) -> TrainConfig:
    """A checked `TrainConfig` from the options of a command line, with those of the YAML file that `config` names."""

    own = {name: value for name, value in given.items() if name != "config"}
    file = given.get("config")
    return config_from_mapping(settle_start((read_yaml(Path(file)) if file else {}) | own))


def config_from_mapping(values: Mapping[str, Any]) -> TrainConfig:
    """A `TrainConfig` from plain values; an unknown name or a value of another type raises `InputError`."""
    kinds = _types()
    unknown = [name for name in values if name not in kinds]
    if unknown:
        guess = did_you_mean(str(unknown[0]), kinds) or "; see --help for the names."
        raise InputError(f"configuration: unknown option {', '.join(map(str, unknown))}{guess}")
    return TrainConfig(**{name: _typed(name, value, kinds[name]) for name, value in values.items()})


_OPTIONAL = frozenset(field.name for field in dataclasses.fields(TrainConfig) if field.default is None)


def _typed(name: str, value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML 1.1 reads 1e-3 as text
        except ValueError:
            pass
    if value is False and kind is str:
        value = "no"  # YAML 1.1 reads a bare no as false
    if kind is dict and isinstance(value, dict):
        return _named_texts(name, value)
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if fits or (value is None and name in _OPTIONAL):
        return value
    wanted = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list"}
    raise InputError(f"--{name}: {value!r} is not {wanted.get(kind, 'a table of NAME: VALUE')}.")


def _named_texts(name: str, table: dict[Any, Any]) -> dict[str, str]:
    """A table of NAME: VALUE as the command line would have given it; class groups may be lists in YAML."""
    if name == "class_groups":
        table = {key: ",".join(map(str, value)) if isinstance(value, list) else value for key, value in table.items()}
    for key, value in table.items():
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise InputError(f"--{name}: {key}: {value!r} is neither text nor a number.")
    return {str(key): str(value) for key, value in table.items()}


def read_yaml(path: Path, option: str = "--config") -> dict[str, Any]:
    """A YAML file of one NAME: VALUE a line. Raises InputError, naming the option that asked for it."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{option}: {printable(path)} cannot be read ({error.strerror}); give a YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{option}: {printable(path)} is not YAML ({reason}); write one NAME: VALUE a line.") from None
    if not isinstance(values, dict):
        raise InputError(f"{option}: {printable(path)} holds no options; write one NAME: VALUE a line.")
    return values
