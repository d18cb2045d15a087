"""How another corpus is read: its own options, and what is said of them where they are wrong."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from ct_xception.cli import main
from ct_xception.corpus.external_options import as_written, check_external_options, own_fields
from ct_xception.corpus.listing import CorpusOptions
from ct_xception.errors import InputError
from ct_xception.imaging.windows import Window
from ct_xception.training.options import TrainConfig


def test_each_corpus_has_its_own() -> None:
    given = {
        "st.mary.label_column": "dx",
        "st.mary.window": "-600/1500",
        "st.mary.class_map": "ill=cancer, well=normal",
        "st.mary.exclude": "a, b*",
        "other.frame": "3",
    }
    options = CorpusOptions(
        window=Window(40, 400), label_column="label", class_map={"st.mary/x": "y"}, of_external=given
    )
    theirs, others = options.for_external("st.mary"), options.for_external("other")
    assert (theirs.window, theirs.label_column, theirs.exclude) == (Window(-600, 1500), "dx", ("a", "b*"))
    assert theirs.class_map == {"x": "y", "ill": "cancer", "well": "normal"} and theirs.frame is None
    assert (others.window, others.label_column, others.frame) == (Window(40, 400), None, 3)


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("label_column", "dx", "say of which corpus; write NAME.option=VALUE"),
        ("clinc.label_column", "dx", "there is no external corpus clinc; give clinic"),
        ("clinic.label_colum", "dx", "did you mean label_column?"),
        ("clinic.frame", "two", "clinic.frame=two: it is to be a whole number"),
        ("clinic.window", "lungs", r"clinic.window: window 'lungs' is neither a preset"),
        ("clinic.class_map", "ill", "it is to be of the form FOLDER=NAME"),
    ],
)
def test_what_cannot_be_is_told(key: str, text: str, said: str) -> None:
    with pytest.raises(InputError, match=r"^--external_options .*" + said):
        check_external_options({key: text}, ["clinic"])


def test_nothing_is_said_of_a_corpus_that_is_not_there() -> None:
    with pytest.raises(InputError, match="name one with --external NAME=SOURCE"):
        TrainConfig(corpus="phantom", external_options={"clinic.window": "lung"})
    TrainConfig(corpus="phantom", external={"clinic": "x"}, external_options={"clinic.window": "lung"})


@pytest.mark.parametrize(
    ("said", "rewritten"),
    [
        ("name it with --label_column NAME, or", "name it with --external_options c.label_column=NAME, or"),
        ("paths (--image_root, --x)", "paths (--external_options c.image_root, --x)"),
        ("settle it with --class_map ill=CLASS", "settle it with --external_options c.class_map=ill=CLASS"),
        ("--image_template 'DIR/{id}.png'", "--external_options c.image_template='DIR/{id}.png'"),
        ("--class_level 2 takes", "--external_options c.class_level=2 takes"),
        ("--group_pattern matches 3 of 4", "--external_options c.group_pattern matches 3 of 4"),
        ("--external clinic", "--external clinic"),
    ],
)  # fmt: skip
def test_sentences_name_the_option_that_there_is(said: str, rewritten: str) -> None:
    assert as_written(said, "--external_options c.") == rewritten


def test_own_fields_are_empty_where_nothing_is_said() -> None:
    assert own_fields("clinic", {"other.frame": "1"}) == {}


def test_a_table_of_other_columns_elsewhere_is_held_against_this_one(
    small_phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, table = tmp_path / "pictures", tmp_path / "tables" / "t.csv"
    table.parent.mkdir()
    shutil.copytree(small_phantom / "test", pictures)
    with open(table, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["scan", "verdict"])
        for path in sorted(pictures.rglob("*.png")):
            rows.writerow([path.relative_to(pictures).as_posix(), path.parent.name])
    words = ["audit", str(small_phantom), "--against", str(table), "--output", str(tmp_path / "found")]
    options = ["--against_options", "image_column=scan", "label_column=verdict"]
    assert main([*words, *options]) == 2
    told = capsys.readouterr().err
    assert "--against: " in told and "(--against_options image_root, --against_options image_template)" in told
    assert main([*words, *options, f"image_root={pictures}"]) == 0
    assert "(8 images of" in " ".join(capsys.readouterr().out.split())
    assert main(["audit", str(small_phantom), *options, "--output", str(tmp_path / "no")]) == 2
    assert "--against_options: goes with --against" in capsys.readouterr().err
