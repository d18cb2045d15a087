"""Leaks, copies and contradictions counted on surveys of a few images."""

from __future__ import annotations

from ct_xception.audit.findings import Finding, in_order
from ct_xception.audit.leaks import find_conflicts, find_copies, find_leaks
from tests.audit.surveys import make_survey, make_twins


def by_kind(findings: list[Finding]) -> dict[str, Finding]:
    return {f"{one.kind} {one.detail.get('split', '')}".strip(): one for one in findings}


def test_exact_leaks_are_counted_by_class_against_the_training_set() -> None:
    survey = make_survey(
        ["train"] * 3 + ["test"] * 4, [0, 1, 1, 1, 1, 0, 0], pixels=["a", "b", "c", "b", "b", "x", "y"]
    )
    found = by_kind(find_leaks(survey, make_twins(survey)))
    assert set(found) == {"leak_exact test"}
    leak = found["leak_exact test"]
    assert leak.severity == "critical"
    assert leak.title == "2 of 4 test images (2 of 2 normal) are in the training set, byte for byte."
    assert leak.items == ("test/normal/3.png", "test/normal/4.png")
    assert leak.detail["pairs"][0] == ["test/normal/3.png", "train/normal/1.png", 1.0]


def test_equal_pixels_in_another_file_are_told_from_equal_bytes() -> None:
    survey = make_survey(
        ["train", "validation", "test", "test"], [0, 0, 0, 0], pixels=["a", "b", "a", "b"], byte_hash=list("abcd")
    )
    leak = by_kind(find_leaks(survey, make_twins(survey)))["leak_exact test"]
    assert leak.title.startswith("2 of 2 test images (2 of 2 cancer) are in an earlier split pixel for pixel")
    assert leak.title.endswith("byte for byte in the training set: none.")


def test_near_leaks_list_their_pairs_most_alike_first() -> None:
    survey = make_survey(["train"] * 2 + ["test"] * 60, [0, 1] * 31)
    twins = make_twins(survey, near=[(0, 2, 0.985), (1, 3, 0.999)])
    leak = by_kind(find_leaks(survey, twins))["leak_near test"]
    assert (leak.n, leak.total, leak.severity) == (2, 60, "critical")
    assert [pair[2] for pair in leak.detail["pairs"]] == [0.999, 0.985]
    assert leak.detail["pairs"][1][:2] == ["test/cancer/2.png", "train/cancer/0.png"]


def test_a_single_near_copy_among_many_may_be_chance() -> None:
    survey = make_survey(["train"] * 2 + ["test"] * 200, [0, 1] * 101)
    assert by_kind(find_leaks(survey, make_twins(survey, near=[(0, 2, 0.99)])))["leak_near test"].severity == "warning"


def test_a_near_pair_stands_for_all_copies_of_its_pictures() -> None:
    """The near pair joins two training files; a byte copy of one of them lies in test: exact, not near."""
    survey = make_survey(["train", "train", "test", "test"], [0] * 4, pixels=["a", "b", "b", "c"])
    found = by_kind(find_leaks(survey, make_twins(survey, near=[(0, 1, 0.99), (0, 3, 0.99)])))
    assert found["leak_exact test"].items == ("test/cancer/2.png",)
    assert found["leak_near test"].items == ("test/cancer/3.png",)


def test_relatives_leak_patients_where_nobody_knows_them() -> None:
    survey = make_survey(["train", "test", "test", "test"], [0, 0, 0, 1], pixels=["a", "a", "b", "c"])
    twins = make_twins(survey, related=[(0, 2, 0.93)])
    found = by_kind(find_leaks(survey, twins))
    leak = found["leak_patient test"]
    assert (leak.severity, leak.n, leak.items) == ("warning", 1, ("test/cancer/2.png",))
    assert "with the twins 2 of 2 cancer" in leak.title
    assert leak.detail["figures"] == {"body-aligned correlation above 0.9": 1}


def test_known_patients_that_cross_are_critical_and_relatives_then_silent() -> None:
    splits, groups = ["train", "train", "test", "test"], ["p1", "p2", "p1", "p3"]
    survey = make_survey(splits, [0, 1, 0, 1], groups=groups)
    found = by_kind(find_leaks(survey, make_twins(survey, related=[(1, 3, 0.95)])))
    assert set(found) == {"leak_group test"}
    leak = found["leak_group test"]
    assert leak.severity == "critical"
    assert leak.title.startswith("1 patient crosses the splits: 1 of 2 test images (1 of 1 cancer)")
    assert leak.detail["groups"] == ["p1"]
    assert "p1" not in str(leak.public())


def test_a_series_under_two_patients_names_leaks_where_the_patients_do_not() -> None:
    groups, series = ["p1", "p2", "p3", "p2", "p4"], ["1.2.30", "1.2.31", "1.2.30", "1.2.31", ""]
    survey = make_survey(["train"] * 2 + ["test"] * 3, [0, 1, 0, 1, 1], groups=groups, series=series)
    found = by_kind(find_leaks(survey, make_twins(survey)))
    assert found["leak_group test"].items == ("test/normal/3.png",)
    leak = found["leak_series test"]
    assert (leak.severity, leak.n, leak.items) == ("critical", 1, ("test/cancer/2.png",))
    assert leak.title.startswith("1 series crosses the splits under other patients' names: 1 of 3 test images")
    assert "1.2.30" in leak.detail["groups"] and "1.2.30" not in str(leak.public())


def test_images_without_a_series_share_none() -> None:
    survey = make_survey(["train", "test"], [0, 0], groups=["p1", "p2"], series=["", ""])
    assert find_leaks(survey, make_twins(survey)) == []


def test_leaks_into_validation_only_warn() -> None:
    survey = make_survey(["train", "validation"], [0, 0], pixels=["a", "a"])
    assert by_kind(find_leaks(survey, make_twins(survey)))["leak_exact validation"].severity == "warning"


def test_a_corpus_without_splits_leaks_nothing() -> None:
    survey = make_survey(["train"] * 2, [0, 0], pixels=["a", "a"])
    assert find_leaks(survey, make_twins(survey)) == []


def test_one_picture_under_two_labels_is_critical_and_nearly_one_warns() -> None:
    survey = make_survey(["train"] * 4, [0, 1, 0, 1], pixels=["a", "a", "b", "c"])
    exact, near = find_conflicts(survey, make_twins(survey, near=[(2, 3, 0.99)]))
    assert (exact.kind, exact.severity, exact.n) == ("conflict", "critical", 2)
    assert exact.title == "2 images show one and the same picture under two labels: 1 pair as cancer and normal."
    assert (near.kind, near.severity) == ("conflict_near", "warning")
    assert near.detail["pairs"] == [["train/cancer/2.png", "train/normal/3.png", 0.99]]


def test_twins_of_one_label_contradict_nothing() -> None:
    survey = make_survey(["train"] * 2, [1, 1], pixels=["a", "a"])
    assert find_conflicts(survey, make_twins(survey)) == []


def test_copies_are_counted_beyond_the_first() -> None:
    survey = make_survey(["train"] * 5, [0, 1, 1, 1, 0], pixels=["a", "b", "b", "b", "a"])
    (finding,) = find_copies(survey, make_twins(survey))
    assert finding.title == (
        "3 of 5 images repeat another byte for byte (2 of 3 normal, 1 of 2 cancer), in 2 groups: 2 are distinct."
    )


def test_pixel_copies_are_counted_beside_byte_copies() -> None:
    survey = make_survey(
        ["train"] * 10, [0] * 10, pixels=list("aaaabbbcde"), byte_hash=["a", "a", "a", "a", *"bxycde"]
    )  # three more files of the bytes of one, and two other files of the pixels of another
    found = by_kind(find_copies(survey, make_twins(survey)))["duplicates_pixels"]
    assert found.title.startswith("2 of 10 images repeat another pixel for pixel, in another file")
    assert found.title.endswith("in 1 groups: 5 are distinct.")


def test_unreadable_images_are_copies_of_nothing() -> None:
    survey = make_survey(["train", "test"], [0, 0], pixels=["", ""], failed={"train/cancer/0.png": "x"})
    survey.failed["test/cancer/1.png"] = "x"
    twins = make_twins(make_survey(["train", "test"], [0, 0]))
    assert find_leaks(survey, twins) == [] and find_copies(survey, twins) == []


def test_findings_are_ordered_by_severity_and_else_kept() -> None:
    given = [Finding(name, severity, "", 0, 0) for name, severity in (("a", "note"), ("b", "critical"), ("c", "note"))]
    assert [finding.kind for finding in in_order(given)] == ["b", "a", "c"]
