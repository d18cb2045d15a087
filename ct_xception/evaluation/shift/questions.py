"""What a corpus of other classes can ask a network: its own classes, or the groups that its classes form.

    question = match_question(["malignant", "normal"], label_names, class_groups, {"malignant": "cancer"}, name="iq")

Names match by their words, whatever case and separators; nothing is decided by resemblance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ct_xception.corpus.labels import words
from ct_xception.errors import InputError, printable
from ct_xception.evaluation.answers import Answers
from ct_xception.statistics.class_groups import ClassGroups, partition_classes

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """`alternatives` {name: classes of the network}; `answers` {label of the corpus: the alternative that it is}.

    `unasked` are labels of the corpus that are none of the alternatives.
    """

    alternatives: Mapping[str, tuple[str, ...]]
    answers: Mapping[str, str]
    unasked: tuple[str, ...] = ()

    @property
    def by_class(self) -> bool:
        """Whether the network's very classes are asked."""
        return all(len(members) == 1 for members in self.alternatives.values())

    def collapse(self, probabilities: Floats, label_names: Sequence[str]) -> Floats:
        """The probabilities (N, K) of the network's classes, summed to those of the alternatives (N, A)."""
        names = list(label_names)
        columns = [[names.index(member) for member in members] for members in self.alternatives.values()]
        return np.stack([probabilities[:, own].sum(axis=1) for own in columns], axis=1)

    def collapse_answers(self, answers: Answers, label_names: Sequence[str]) -> Answers:
        """Answers to the network's classes as answers to the alternatives."""
        return replace(answers, probabilities=self.collapse(answers.probabilities, label_names))


def match_question(
    found: Sequence[str],
    label_names: Sequence[str],
    class_groups: ClassGroups | None,
    class_map: Mapping[str, str],
    *,
    name: str,
) -> Question:
    """The question that a corpus of the labels `found` asks a network of the classes `label_names`.

    `class_map` {label: class or group} goes first. Where any label is a group of several classes, the question is the
    one between the groups. Raises InputError, naming the corpus `name`, where no label can be asked about.
    """
    groups = partition_classes(class_groups, label_names) if class_groups else {}
    classes = {words(one): one for one in label_names}
    grouped = {words(one): one for one in groups}
    told = {label: words(class_map.get(label, label)) for label in found}
    _check_targets(class_map, told, classes | grouped, name)
    as_classes = {label: classes[key] for label, key in told.items() if key in classes}
    if any(key in grouped and key not in classes for key in told.values()):
        group_of = {member: group for group, members in groups.items() for member in members}
        answers = {label: group_of[one] for label, one in as_classes.items()}
        answers |= {label: grouped[key] for label, key in told.items() if key in grouped}
        alternatives = groups
    else:
        answers, alternatives = as_classes, {one: (one,) for one in label_names}
    if not answers:
        raise _nothing_asked(found, label_names, groups, name)
    return Question(alternatives, answers, tuple(label for label in found if label not in answers))


def _check_targets(
    class_map: Mapping[str, str], told: Mapping[str, tuple[str, ...]], known: Mapping[tuple[str, ...], str], name: str
) -> None:
    """Raise InputError where the option names something that the network does not know."""
    for label, key in told.items():
        if label in class_map and key not in known:
            raise InputError(
                f"--class_map {printable(label)}={printable(class_map[label])}: neither a class nor a group of the "
                f"network, for --external {name}; there are {', '.join(dict.fromkeys(known.values()))}."
            )


def _nothing_asked(
    found: Sequence[str], label_names: Sequence[str], groups: Mapping[str, tuple[str, ...]], name: str
) -> InputError:
    several = [group for group, members in groups.items() if len(members) > 1]
    known = f"the network's ({', '.join(label_names)})" + (
        f" or of its groups ({', '.join(several)})" if groups else ""
    )
    example = f"'{name}/{printable(found[0])}=CLASS'"
    remedy = f"say which they are with --class_map {example}" + (
        "" if groups else ", where --class_groups may form groups of classes"
    )
    shown = ", ".join(printable(one) for one in found)
    return InputError(f"--external {name}: none of its classes ({shown}) is one of {known}; {remedy}.")
