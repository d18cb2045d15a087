"""Every option that training offers, run end to end on a tiny corpus: corpus in, sealed checkpoint out.

`make test-options` runs all of the cases; the suite runs the first few. An option or choice that no case names is an
error, so that none is offered untried.
"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pandas
import pytest
from PIL import Image

from ct_xception.checkpoint import EVALUATION, METRICS, MODEL, SIDE_FILE
from ct_xception.imaging.transforms import FILTERS
from ct_xception.model.configuration import BACKBONES
from ct_xception.phantom.corpus import generate_phantom
from ct_xception.pipeline.run import main
from ct_xception.serving.classifier import Classifier
from ct_xception.training.options import PROTOCOLS, TRACKERS, build_parser
from tests.accelerators import forget_accelerator

pytestmark = pytest.mark.usefixtures("fresh_accelerator")
BASE = "--weights none --image_size 64 --epochs 1 --batch_size 8 --explained 0 --no-audit --workers 0 --threads 1"
# What a case cannot name: these are about where, and the hub's and the folds' own tests run them.
ELSEWHERE = {"help", "push_to_hub", "private", "only_fold", "resume", "output_dir"}
QUICK = [
    "--backbone xception41p --loss bce --schedule constant --sampling patients --optimizer sgd --learning_rate 0.01",
    "--loss focal --focal_gamma 1.5 --schedule linear --metric auroc --mixup 0.2 --class_weights balanced --audit "
    "--head attention --attention se",
]
CASES = [
    *QUICK,
    "--backbone xception65p --schedule polynomial --metric accuracy --optimizer adam --body_rate 1 --weight_decay 0",
    "--backbone xception41 --schedule cosine_with_restarts --metric balanced_accuracy --optimizer rmsprop "
    "--head linear --attention cbam",
    "--backbone xception65 --schedule cosine --metric macro_f1 --sampling balanced --dropout 0 --label_smoothing 0",
    "--backbone xception71 --loss cross_entropy --metric loss --sampling shuffle --class_weights none --ema 0 "
    "--attention none",
    "--backbone legacy_xception --epochs 3 --freeze_epochs 1 --warmup_epochs 0 --accumulation 2 --clip_norm 0 "
    "--patience 1 --mixed_precision no",
    "--image_size 96 --small_size 64 --small_epochs 1 --epochs 2",
    "--mixed_precision bf16 --filters median clahe --no-body_crop --augment rotation=5 flip=0 --explained 2 --seed 3",
    "--trackers tensorboard --workers 2 --window lung --coverage 0.8 --coverage_by class --class_groups a={0} b={1}",
    "--protocols published deduplicated grouped --folds 2 --coverage_by all --audit",
    "--external other={table} --class_map other/x={0} other/y={1} --robustness 2 --metric calibrated_loss "
    "--external_options other.label_column=diagnosis other.group_column=who",
    "--weights {model} --frozen_blocks 3",
    "--init {model} --replay {corpus} --replay_share 0.3 --margin 1",
    "--soup {soup}",
    "--config {recipe}",
    "--unlabelled {plain} {table} --unlabelled_ratio 0.5 --unlabelled_weight 0.5 --epochs 2 --mixup 0.2",
    "--corpus {table} --image_column file --label_column diagnosis --group_column who --series_column of "
    "--split_column part --mask_column lesion --site_column clinic --sampling sites "
    "--box_columns lesion_left,lesion_top,lesion_right,lesion_bottom --class_map x={0} y={1} "
    "--split_map dev=validation --frame 0 --tabular_columns slice,window --tabular_dropout 0.2 "
    "--explained 2",
    "--corpus {plain} --group_pattern ^([^_]+)_ --valid_fraction 0.3 --test_fraction 0.3 --slices_per_file 3 "
    "--modality ct",
    "--corpus {plain} --class_level 1 --exclude P0001_* --modality mr --group_pattern ^([^_]+)_",
    "--corpus {ids} --image_root {plain} --image_template {{kind}}/{{id}}.png --modality xray --body_crop",
    "--corpus {plain} --modality any --group_pattern ^([^_]+)_",
]

MADE = {
    "model": "trained",
    "soup": "soup",
}  # names in braces that stand for checkpoints, and the fixtures that train them


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the cases' names in braces stand for: corpora of two classes in three layouts, a recipe, class names."""
    folder = tmp_path_factory.mktemp("corpora")
    corpus = generate_phantom(folder / "tree", patients=24, slices_per_patient=2, size=64, classes=2)
    table = pandas.read_csv(corpus / "metadata.csv")
    first, second = sorted(table["label"].unique())
    _write_plain(folder / "plain", corpus, table)
    _write_table(folder / "table.csv", corpus, table, {first: "x", second: "y"})
    ids = pandas.DataFrame({"id": [path.stem for path in sorted((folder / "plain").rglob("*.png"))]})
    ids["kind"] = [path.parent.name for path in sorted((folder / "plain").rglob("*.png"))]
    ids.assign(label=ids["kind"], patient=ids["id"].str.split("_").str[0]).to_csv(folder / "ids.csv", index=False)
    (folder / "recipe.yaml").write_text("epochs: 1\nlabel_smoothing: 0.2\naugment: {gamma: 0.2}\n")
    return {"corpus": str(corpus), "plain": str(folder / "plain"), "table": str(folder / "table.csv")} | {
        "ids": str(folder / "ids.csv"),
        "recipe": str(folder / "recipe.yaml"),
        "0": shlex.quote(first),
        "1": shlex.quote(second),
    }


def _write_plain(folder: Path, corpus: Path, table: pandas.DataFrame) -> None:
    for row in table.itertuples():
        (folder / row.label).mkdir(parents=True, exist_ok=True)
        Image.open(corpus / row.file_name).save(folder / row.label / f"{row.patient}_{row.Index}.png")


def _write_table(file: Path, corpus: Path, table: pandas.DataFrame, labels: dict[str, str]) -> None:
    names = {"file_name": "file", "label": "diagnosis", "patient": "who", "series": "of", "split": "part"}
    own = table.rename(columns=names | {"mask": "lesion"})
    own["file"] = [str(corpus / name) for name in own["file"]]
    own["lesion"] = [str(corpus / name) if isinstance(name, str) and name else None for name in own["lesion"]]
    own["clinic"] = own["who"].str[-1].astype(int) % 3
    own["diagnosis"], own["part"] = own["diagnosis"].map(labels), own["part"].replace({"valid": "dev"})
    own.to_csv(file, index=False)


@pytest.fixture(scope="module")
def trained(names: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of two classes, for the cases that begin with one."""
    run = tmp_path_factory.mktemp("trained") / "run"
    assert main([*shlex.split(BASE), "--corpus", names["corpus"], "--output_dir", str(run)]) == 0
    return str(run / MODEL)


@pytest.fixture(scope="module")
def soup(names: dict[str, str], trained: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two checkpoints of one beginning."""
    runs = [tmp_path_factory.mktemp("soup") / str(seed) for seed in (1, 2)]
    base = shlex.split(BASE.replace("--weights none", f"--weights {trained}"))
    for run in runs:
        forget_accelerator()
        assert main([*base, "--corpus", names["corpus"], "--seed", run.name, "--output_dir", str(run)]) == 0
    return " ".join(map(str, runs))


def test_no_option_or_choice_is_offered_untried() -> None:
    words = shlex.split(" ".join([BASE, "--corpus", *CASES]))
    for action in build_parser()._actions:
        if action.dest in ELSEWHERE:
            continue
        assert set(action.option_strings) & set(words), f"no case tries --{action.dest}"
        for choice in action.choices or ():
            tried = f"--{action.dest} {choice}"
            assert choice == "fp16" or any(f"{tried} " in f"{case} " for case in CASES), f"no case tries {tried}"
    assert set(BACKBONES) | set(FILTERS) | set(PROTOCOLS) <= set(words) and set(TRACKERS) & set(words)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.replace("--", "").replace(" ", "_")[:60])
def test_an_option_ends_in_a_whole_checkpoint(
    case: str, names: dict[str, str], tmp_path: Path, request: pytest.FixtureRequest, sample_slices: list[Path]
) -> None:
    if case not in QUICK and not os.environ.get("CT_XCEPTION_TEST_OPTIONS"):
        pytest.skip("slow; make test-options runs every case")
    made = {name: request.getfixturevalue(own) for name, own in MADE.items() if f"{{{name}}}" in case}
    forget_accelerator()  # of the checkpoint just trained
    given = case.format(
        *(names[str(index)] for index in range(2)),
        **made,
        **{key: value for key, value in names.items() if key.isalpha()},
    )
    base = BASE.replace("--weights none ", "") if made else BASE
    words = [*shlex.split(base), "--corpus", names["corpus"], *shlex.split(given)]
    assert main([*words, "--output_dir", str(tmp_path / "run")]) == 0
    folder = tmp_path / "run" / MODEL
    metrics, side = (json.loads((folder / name).read_text()) for name in (f"{EVALUATION}/{METRICS}", SIDE_FILE))
    assert metrics["n"] > 0 and f"{EVALUATION}/{METRICS}" in side["manifest"]
    answer = Classifier.from_pretrained(folder, gate=False)(sample_slices[0])
    assert sum(answer.probabilities.values()) == pytest.approx(1)
