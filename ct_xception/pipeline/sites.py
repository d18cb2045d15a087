"""A checkpoint meets a new site: recalibrated on a few labelled cases, or adapted to slices without labels.

    told = recalibrate("runs/mine/model", corpus, Path("clinic"))
    told = adapt("runs/mine/model", waiting, Path("clinic"), check=corpus)

Each writes a new version of the checkpoint into a new folder, whole or not at all, with its record; the parent is left
alone. Raises WorkError, and writes nothing, where what was fitted is not shown to help.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas
from numpy.typing import NDArray

from ct_xception.checkpoint import POOLING, WEIGHTS
from ct_xception.checkpoint_files import Rules, Side, need_side, write_side
from ct_xception.corpus.labels import words
from ct_xception.corpus.summary import public_name
from ct_xception.errors import InputError, WorkError, printable
from ct_xception.evaluation.answers import Items
from ct_xception.evaluation.gate_fit import Seen, distance_of, fit_gate, write_gate
from ct_xception.evaluation.shift.adaptation import Judged, judge_by_labels, judge_steadiness, vote
from ct_xception.evaluation.shift.drift_fit import fit_reference, write_reference
from ct_xception.evaluation.shift.site_rules import Cases, Refit, check_enough, refit_rules
from ct_xception.evaluation.shift.site_slices import (
    SiteSlices,
    Waiting,
    draw_evenly,
    list_items,
    look_at,
    with_network,
)
from ct_xception.files import sha256_file
from ct_xception.model.normalisation import adapt_normalisation, norms_of, source_share
from ct_xception.publish.imported import check_new_folder
from ct_xception.publish.site_versions import ADAPTED, RECALIBRATED, finish_version, new_version, start_side
from ct_xception.serving.classifier import Classifier
from ct_xception.statistics.intervals import describe_metric
from ct_xception.statistics.pooling import ATTENTION
from ct_xception.statistics.prior_shift import PriorShift, estimate_prior

if TYPE_CHECKING:
    import torch

    from ct_xception.corpus.load import Corpus
    from ct_xception.imaging.windows import Window
    from ct_xception.serving.checkpoint import Checkpoint

COVERAGE = 0.95  # of sets, where the parent has none
SOURCE_SIZE = 16.0  # patients of the site that training's statistics are worth (Schneider et al. 2020: N = 16)
MOST_SLICES = 400  # unlabelled ones looked at: more would hardly move a mean; drawn evenly over the patients
LEAST_SLICES, LEAST_UNITS = 40, 10
MOST_TRIED = 64  # slices that the proxy changes, eight answers each and network
OUTPUT = "--output_dir"


@dataclass(frozen=True)
class Reading:
    """How the site's files are read and answered."""

    window: Window | None = None
    frame: int | None = None
    batch_size: int = 16
    progress: bool = True
    seed: int = 0
    command: str = ""

    def look(self, classifier: Classifier, waiting: Sequence[Waiting], title: str, *, keep: bool = False) -> SiteSlices:
        """The slices as the classifier sees them."""
        title_ = title if self.progress else None
        return look_at(classifier, waiting, window=self.window, batch_size=self.batch_size, keep=keep, progress=title_)


@dataclass(frozen=True)
class Told:
    """What came of it: the new folder, the record that its card is made from, and lines for the terminal."""

    folder: Path
    record: Mapping[str, Any]
    lines: tuple[str, ...]


def recalibrate(
    checkpoint: str | Path,
    corpus: Corpus,
    output: Path,
    *,
    coverage: float | None = None,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> Told:
    """Fit temperature, operating points, sets, abstention and pooling to a site's labelled cases; no weight is touched.

    `coverage` is that of the sets, by default the parent's. Raises InputError where there are too few cases, WorkError
    where the new rules are shown, out of fold, to be worse than the old.
    """
    check_new_folder(output, OUTPUT)
    classifier = Classifier.from_pretrained(checkpoint)
    parent = _parent(classifier)
    side = need_side(parent.folder)
    slices = reading.look(classifier, _labelled(corpus, classifier, reading, "--with"), "labelled cases")
    cases, answered, notes = _cases(slices, classifier.label_names, "--with")
    scores = answered.probabilities(side.output_temperature)
    fitted = _coverage(coverage, side)
    learnt = (answered.attention, answered.attention)
    options: dict[str, Any] = {"coverage": fitted, "attention": learnt, "seed": reading.seed}
    refit = refit_rules(cases, scores, scores, side, classifier.label_names, **options)
    figures = refit.figures(reading.seed)
    _refuse_worse(figures)
    site = {
        "kind": RECALIBRATED,
        "name": public_name(corpus.report),
        "command": reading.command,
        "cases": _told_of(corpus, cases, classifier.label_names),
        "notes": [*notes, *_notes_on(refit, cases, classifier.label_names)],
    }
    with new_version(output, parent) as folder:
        rules = refit.rules.to_json() | {"output_temperature": side.output_temperature * refit.rules.temperature}
        rules["temperature"] = side.temperature
        _write_rules(folder, parent, side, rules, site)
        _write_drift(folder, answered)
        _keep_attention(folder, refit.rules)
        record = {"figures": figures, "judged": None, "prior": None}
        finish_version(folder, _note_drift(folder), record, _table(refit, cases, scores, classifier.label_names))
    return Told(output, record, (*_hints(slices), *figure_lines(figures, cases)))


def adapt(
    checkpoint: str | Path,
    waiting: Sequence[Waiting],
    output: Path,
    *,
    name: str,
    check: Corpus | None = None,
    use_prior: bool = False,
    source_size: float = SOURCE_SIZE,
    coverage: float | None = None,
    reading: Reading = Reading(),  # noqa: B008 (frozen)
) -> Told:
    """Fit a checkpoint's batch norms and input gate to a site's slices without labels, and keep it if that helps.

    With `check`, labelled cases of the site, they decide, and the rules are fitted to them; without, a proxy decides
    (`judge_steadiness`), and the version promises no sets and points. `use_prior` moves the head to the mix of
    classes that is estimated at the site. Raises InputError where there are too few slices or cases, WorkError where
    the adapted network is not shown to help.
    """
    check_new_folder(output, OUTPUT)
    classifier = Classifier.from_pretrained(checkpoint)
    parent = _parent(classifier)
    labelled = None
    if check is not None:
        listed = _labelled(check, classifier, reading, "--check")
        labelled = reading.look(classifier, listed, "labelled cases", keep=True)
    drawn = draw_evenly(waiting, MOST_SLICES, reading.seed)
    site, notes = _of_site(reading.look(classifier, drawn, "unlabelled slices", keep=True), len(waiting), labelled)
    meeting = _meet(classifier, site, reading, source_size=source_size, use_prior=use_prior)
    checked = None
    if labelled is None or check is None:
        judged = meeting.judge_alone()
    else:
        judged, checked = meeting.judge_with(check, labelled, _coverage(coverage, need_side(parent.folder)))
    if not judged.kept:
        raise WorkError(
            f"not shown to help by {judged.by} ({judged.sentence}), so nothing was written; keep the checkpoint as it "
            "is, or give more slices or cases."
        )
    told = {
        "kind": ADAPTED,
        "name": printable(name),
        "command": reading.command,
        "source_share": source_share(len(set(meeting.units)), source_size),
        "source_size": source_size,
        "prior_used": use_prior,
        "unlabelled": _told_unlabelled(name, site, meeting.units),
        "notes": notes,
    }
    if checked is not None:
        told |= {"cases": checked.told(classifier.label_names), "notes": [*notes, *checked.notes]}
    return _write_adapted(output, meeting, judged, checked, told)


def _meet(
    classifier: Classifier, site: SiteSlices, reading: Reading, *, source_size: float, use_prior: bool
) -> _Meeting:
    """Adapt the network of `classifier` to a site's slices, and look at them with it."""
    parent, units = _parent(classifier), site.units
    adapted = _adapted(parent, site, units, source_size)
    seen = with_network(site, adapted, reading.batch_size)
    prior = _prior(parent, seen, units, required=use_prior)
    if use_prior and prior is not None:
        _move_head(adapted, prior)
        seen = with_network(site, adapted, reading.batch_size)
    return _Meeting(parent, classifier, adapted, site, seen, units, prior, reading)


@dataclass(frozen=True, eq=False)
class _Checked:
    """Labelled cases of the site: what the parent answers (N, K), and the rules fitted to the adapted network's."""

    corpus: Corpus
    cases: Cases
    before: NDArray[np.float64]
    refit: Refit
    notes: tuple[str, ...]

    def told(self, label_names: Sequence[str]) -> dict[str, Any]:
        """What the record says of them."""
        return _told_of(self.corpus, self.cases, label_names)


@dataclass(frozen=True, eq=False)
class _Meeting:
    """A parent and its adapted network, with the same unlabelled slices as each of them sees them."""

    parent: Checkpoint
    before: Classifier
    adapted: Classifier
    site: SiteSlices
    seen: SiteSlices
    units: Sequence[str]
    prior: PriorShift | None
    reading: Reading

    def judge_alone(self) -> Judged:
        """By the proxy, on some of the unlabelled slices."""
        rows = np.linspace(0, len(self.site) - 1, min(len(self.site), MOST_TRIED)).round().astype(int).tolist()
        before, after = (vote(network, self.site, rows, self.reading.seed) for network in (self.before, self.adapted))
        return judge_steadiness(before, after, [self.units[row] for row in rows], self.reading.seed)

    def judge_with(self, corpus: Corpus, slices: SiteSlices, coverage: float) -> tuple[Judged, _Checked]:
        """By labelled cases, each network calibrated on them out of fold; what the signs refuse has no say."""
        kept = slices.select(~slices.foreign)
        cases, names, seed = _as_cases(kept), self.before.label_names, self.reading.seed
        check_enough(cases, names, "--check")
        side, after = need_side(self.parent.folder), with_network(kept, self.adapted, self.reading.batch_size)
        scores = (kept.probabilities(side.output_temperature), after.probabilities())
        # What a slice counts was learnt of the parent's features: the adapted network has others.
        learnt = ((kept.attention, kept.attention), (kept.attention, None))
        alone, refit = (
            refit_rules(cases, scores[0], own, side, names, coverage=coverage, attention=scored, seed=seed)
            for own, scored in zip(scores, learnt, strict=True)
        )
        notes = [*_left_out(slices, ~slices.foreign), *_notes_on(refit, cases, names)]
        return judge_by_labels(alone, refit, seed), _Checked(corpus, cases, scores[0], refit, tuple(notes))


def _parent(classifier: Classifier) -> Checkpoint:
    assert classifier.checkpoint is not None  # it was loaded from one
    if classifier.columns is not None:
        told = ", ".join(map(printable, classifier.columns.names))
        raise InputError(
            f"{classifier.name}: takes columns of a table beside the image ({told}), which fitting to a site does not "
            "read; train with --init on the site's own cases."
        )
    return classifier.checkpoint


def _coverage(asked: float | None, side: Side) -> float:
    if asked is not None and not 0 < asked < 1:
        raise InputError(f"--coverage is {asked}; give a share above 0 and below 1, such as 0.9.")
    return asked or (side.conformal.coverage if side.conformal else COVERAGE)


# What is labelled


def _labelled(corpus: Corpus, classifier: Classifier, reading: Reading, option: str) -> list[Waiting]:
    """The images of a labelled corpus, with the network's classes for labels. Raises InputError for other classes."""
    known = {words(name): index for index, name in enumerate(classifier.label_names)}
    if foreign := [name for name in corpus.label_names if words(name) not in known]:
        raise InputError(
            f"{option}: {', '.join(map(printable, foreign))} is no class of the checkpoint, which knows "
            f"{', '.join(classifier.label_names)}; say which by --class_map '{printable(foreign[0])}=CLASS', or leave "
            "it out with --exclude."
        )
    index = [known[words(name)] for name in corpus.label_names]
    return [replace(one, label=index[one.label]) for one in list_items(corpus, reading.frame)]


def _as_cases(slices: SiteSlices) -> Cases:
    return Cases(Items(slices.labels, list(slices.units), list(slices.names)), slices.patients_known)


def _cases(slices: SiteSlices, label_names: Sequence[str], option: str) -> tuple[Cases, SiteSlices, list[str]]:
    """The cases that the checkpoint would answer; what its gate refuses is left out, and told."""
    answered, notes = slices.select(slices.passed), _left_out(slices, slices.passed)
    if not len(answered):
        raise InputError(
            f"{option}: the checkpoint's input gate refuses all {len(slices):,} slices, so that no rule would ever be "
            f"asked; adapt it to the site first (ct-xception adapt){''.join(f'; {hint}' for hint in _hints(slices))}."
        )
    cases = _as_cases(answered)
    check_enough(cases, label_names, option)
    return cases, answered, notes


def _left_out(slices: SiteSlices, kept: NDArray[np.bool_]) -> list[str]:
    gone = int((~kept).sum())
    said = [f"{gone:,} labelled slices were left out, as the input gate refuses them"] if gone else []
    return [*said, *_hints(slices), *_unreadable(slices)]


def _hints(slices: SiteSlices) -> list[str]:
    return [] if slices.window_hint is None else [slices.window_hint]


def _unreadable(slices: SiteSlices) -> list[str]:
    gone = len(slices.unreadable)
    return [f"{gone:,} slices were left out, as they cannot be read"] if gone else []


def _notes_on(refit: Refit, cases: Cases, label_names: Sequence[str]) -> list[str]:
    held = set(cases.items.labels.tolist())
    absent = [printable(name) for k, name in enumerate(label_names) if k not in held]
    said = [f"no case is of {', '.join(absent)}: these classes have no operating point now"] if absent else []
    rule = refit.rules.conformal
    if rule is not None and rule.reason:
        said.append(f"sets of classes hold all classes: {rule.reason}")
    if not cases.patients_known:
        said.append("whose the slices are is not known: look-alikes stand for patients")
    return said


def _told_of(corpus: Corpus, cases: Cases, label_names: Sequence[str]) -> dict[str, Any]:
    labels = cases.items.labels
    return {
        "source": public_name(corpus.report),
        "hash": corpus.report["hash"],
        "n": len(labels),
        "n_groups": len(set(cases.items.groups)),
        "noun": cases.noun,
        "patients_known": cases.patients_known,
        "classes": {name: int((labels == k).sum()) for k, name in enumerate(label_names) if (labels == k).any()},
    }


def _refuse_worse(figures: Mapping[str, Any]) -> None:
    change = figures["difference"]["log_loss"]
    if change.low is not None and change.low > 0:
        raise WorkError(
            f"out of fold the new rules are worse than the checkpoint's own (log-loss after less before "
            f"{describe_metric(change)}), so nothing was written; label more cases, or keep the checkpoint as it is."
        )


def figure_lines(figures: Mapping[str, Any], cases: Cases) -> list[str]:
    """What was measured, in lines for the terminal."""
    titles = {"accuracy": "accuracy", "macro_auroc": "macro AUROC", "log_loss": "log-loss", "ece": "calibration error",
              "coverage": "sets hold the true class", "set_size": "classes a set"}  # fmt: skip
    lines = list[str]()
    for by, block in {"slice": figures, "patient": figures.get("by_patient")}.items():
        if block is None:
            continue
        counted = f"by {by}: {block['n']:,} {'slices' if by == 'slice' else 'patients'}"
        lines.append(f"{counted} of {block['n_groups']:,} {cases.noun}; after is out of fold, by patient")
        for name, title in titles.items():
            told = [describe_metric(block[side][name]) if name in block[side] else "–" for side in ("before", "after")]
            lines += [f"  {title:<24} before {told[0]}", f"  {'':<24} after  {told[1]}"]
        lines.append(f"  log-loss, after less before: {describe_metric(block['difference']['log_loss'])}")
    return lines


# What is not


def _of_site(site: SiteSlices, listed: int, labelled: SiteSlices | None) -> tuple[SiteSlices, list[str]]:
    """The slices that may be of the site, and sentences on the others. Raises InputError where they are too few.

    What labelled cases hold is left out: they are to say what a network is worth that has not seen them.
    """
    notes = [*_hints(site), *_unreadable(site)]
    if listed > MOST_SLICES:
        notes.append(f"{MOST_SLICES} of {listed:,} slices were looked at, drawn evenly over the patients")
    if gone := int(site.foreign.sum()):
        notes.append(f"{gone:,} slices were left out: they show no body, are of another modality or coloured")
    kept = site.select(~site.foreign)
    if labelled is not None and len(kept) and (shared := kept.shared_with(labelled)).any():
        told = f"{int(shared.sum()):,} slices were left out: they, or their {_noun(kept)}, are among those of --check"
        kept, notes = kept.select(~shared), [*notes, told]
    count = len(set(kept.units)) if len(kept) else 0
    noun = _noun(kept)
    if len(kept) < LEAST_SLICES or count < LEAST_UNITS:
        raise InputError(
            f"--to: {len(kept):,} slices of {count} {noun} can be used, and {LEAST_SLICES} of {LEAST_UNITS} are the "
            f"least that tell what a site is like; give more{''.join(f' ({note})' for note in notes)}."
        )
    return kept, notes


def _noun(slices: SiteSlices) -> str:
    return "patients" if slices.patients_known else "groups of look-alikes"


def _told_unlabelled(name: str, site: SiteSlices, units: Sequence[str]) -> dict[str, Any]:
    """What the record says of them; the hash is of what the network was given, which is the same wherever they lie."""
    assert site.inputs is not None
    digest = hashlib.sha256(np.ascontiguousarray(site.inputs).tobytes()).hexdigest()
    head = {"source": printable(name), "hash": digest, "n": len(site), "n_units": len(set(units)), "noun": _noun(site)}
    return head


def _adapted(parent: Checkpoint, site: SiteSlices, units: Sequence[str], source_size: float) -> Classifier:
    """The parent with its batch norms fitted to the site; the scale that its predictor applied is in its head now."""
    from ct_xception.serving.runtimes.pytorch import load_model

    if not source_size >= 0:
        raise InputError(f"--source_size is {source_size}; give 0 or more.")
    model = load_model(parent)
    if not norms_of(model):
        raise InputError(f"{parent.name}: its network has no batch norms to adapt; recalibrate it instead.")
    model.fold_temperature(need_side(parent.folder).output_temperature)
    assert site.inputs is not None
    share = source_share(len(set(units)), source_size)
    adapt_normalisation(model, site.inputs, source_share=share)
    return Classifier(model, parent.contract, checkpoint=replace(parent, attention=None))


def _prior(parent: Checkpoint, seen: SiteSlices, units: Sequence[str], *, required: bool) -> PriorShift | None:
    """The mix of classes at the site, by the mix in training; None where that is not known."""
    counts = need_side(parent.folder).provenance.corpus.get("counts", {}).get("train", {})
    known = {name: float(counts.get(name, 0)) for name in parent.config["label_names"]}
    if not all(known.values()):
        if required:
            raise InputError(
                f"--use_prior: {parent.name} does not say how often training had each class; leave it out."
            )
        return None
    total = sum(known.values())
    return estimate_prior(seen.probabilities(), {name: one / total for name, one in known.items()}, units)


def _move_head(adapted: Classifier, prior: PriorShift) -> None:
    """Add log(site's share / training's) to the head's bias, which is Saerens' correction for every reader."""
    import torch

    shares = np.maximum(prior.prior, 1e-4)
    moved = np.log(shares / np.array(list(prior.source.values())))
    with torch.no_grad():
        head: torch.nn.Linear = adapted.model.head
        head.bias.add_(torch.as_tensor(moved, dtype=head.bias.dtype))


# What is written


def _write_rules(
    folder: Path, parent: Checkpoint, side: Side, rules: Mapping[str, Any], site: Mapping[str, Any]
) -> None:
    """The side file of a version: the parent's, with these rules in place of its own."""
    names = ("calibration", "conformal", "operating_points", "abstention", "pooling", "output_temperature")
    kept = {key: value for key, value in side.to_json().items() if key not in names}
    start_side(folder, parent, Side.of(kept | dict(rules)), site)


def _write_adapted(
    output: Path, meeting: _Meeting, judged: Judged, checked: _Checked | None, told: Mapping[str, Any]
) -> Told:
    parent, model = meeting.parent, meeting.adapted.model
    side, names = need_side(parent.folder), meeting.before.label_names
    rules: dict[str, Any] = {"temperature": side.temperature * side.output_temperature}
    figures, table, lines = None, None, list[str]()
    if checked is not None:
        refit = checked.refit
        model.fold_temperature(refit.rules.temperature)
        rules = refit.rules.to_json() | {"temperature": rules["temperature"] * refit.rules.temperature}
        figures = refit.figures(meeting.reading.seed)
        table, lines = _table(refit, checked.cases, checked.before, names), figure_lines(figures, checked.cases)
    record = {"figures": figures, "judged": vars(judged), "prior": _told_prior(meeting.prior)}
    with new_version(output, parent) as folder:
        model.save_pretrained(folder)
        (folder / POOLING).unlink(missing_ok=True)  # of the parent's features
        _write_rules(folder, parent, side, rules, told)
        _write_gate(folder, meeting)
        finish_version(folder, _note_drift(folder), record, table)
    said = [f"kept by {judged.by}: {judged.sentence}", *_prior_lines(meeting.prior, told["prior_used"])]
    return Told(output, record, (*told["notes"], *said, *lines))


def _told_prior(prior: PriorShift | None) -> dict[str, Any] | None:
    if prior is None:
        return None
    return {"source": dict(prior.source), "target": dict(prior.target), "n": prior.n, "n_groups": prior.n_groups}


def _prior_lines(prior: PriorShift | None, used: bool) -> list[str]:
    if prior is None:
        return ["the mix of classes in training is not stated: that at the site was not estimated"]
    lines = [
        f"  {name}: {prior.source[name]:.3f} in training, {describe_metric(one)}" for name, one in prior.target.items()
    ]
    verdict = "shown to be another" if prior.is_shown else "not shown to be another"
    return [f"mix of classes at the site, {verdict} than in training, {'used' if used else 'not used'}:", *lines]


def _parts(units: Sequence[str], seed: int) -> NDArray[np.bool_]:
    """Which slices (N,) set limits: those of a third of the units, the others are fitted to."""
    names = sorted(set(units))
    chosen = np.random.default_rng(seed).permutation(len(names))[: max(1, round(len(names) / 3))]
    held = {names[index] for index in chosen}
    return np.array([unit in held for unit in units], bool)


def _write_gate(folder: Path, meeting: _Meeting) -> None:
    """The input gate and the reference of sets, fitted to what the adapted network sees in the site's slices."""
    limits = _parts(meeting.units, meeting.reading.seed)
    seen = replace(meeting.seen.seen, groups=tuple(meeting.units))
    fit, held = (seen.select(np.flatnonzero(mask).tolist()) for mask in (~limits, limits))
    contract = meeting.parent.contract
    rule, arrays = fit_gate(
        fit,
        held,
        weights_sha256=sha256_file(folder / WEIGHTS),
        body_crop=contract.body_crop,
        modality=contract.modality,
    )
    fitted = {"fitted_on": fit, "limits_from": held}
    said = {key: {"split": "unlabelled slices of the site", "n": len(one.features)} for key, one in fitted.items()}
    write_gate(folder, rule.with_(**said), arrays)
    if arrays:
        write_reference(folder, *fit_reference(fit, held, distance_of(rule, arrays)))


def _keep_attention(folder: Path, rules: Rules) -> None:
    """What slices count stays only where the new rule of pooling asks for it."""
    if rules.pooling is None or rules.pooling.method != ATTENTION:
        (folder / POOLING).unlink(missing_ok=True)


def _write_drift(folder: Path, slices: SiteSlices) -> None:
    """What sets of slices are compared with: the labelled cases' patients, in the coordinates of the parent's gate."""
    from ct_xception.serving.gate import Gate

    gate = Gate.of(need_side(folder), folder)
    if gate is not None:
        seen = replace(slices.seen, groups=tuple(slices.units))
        nobody = Seen(seen.features[:0])
        write_reference(folder, *fit_reference(nobody, seen, gate.distance))


def _note_drift(folder: Path) -> Side:
    """Say in the record whether sets of slices can be judged."""
    side = need_side(folder)
    provenance = side.provenance.to_json()
    provenance["site"] |= {"drift": side.drift is not None}
    side = side.with_(provenance=provenance)
    write_side(folder, side)
    return side


def _table(refit: Refit, cases: Cases, before: NDArray[np.float64], label_names: Sequence[str]) -> pandas.DataFrame:
    """The answers behind the figures, numbers for names, a row a case in the order of the folds."""
    names, rows = np.asarray(label_names, object), refit.rows
    columns: dict[str, Any] = {
        "source": [f"item {row:06d}" for row in rows],
        "group": [f"group {group:06d}" for group in cases.groups[rows]],
        "label": names[cases.items.labels[rows]],
        "fold": refit.fold[rows] + 1,
    }
    for title, scores in (("before", before[rows]), ("after", refit.after.scores)):
        columns |= {f"{title} p {name}": scores[:, k] for k, name in enumerate(label_names)}
    return pandas.DataFrame(columns)
