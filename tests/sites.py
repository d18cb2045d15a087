"""Drawn slices of two classes as several sites' scanners would show them, and a checkpoint that knows the first site.

The classes differ in the grey of the lungs. Another site's pictures are darker by a factor: its lungs of one class look
as the other's did at home, so that a network is wrong there until its batch norms know the site, which undo a factor.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from ct_xception.checkpoint import CARD
from ct_xception.checkpoint_files import Side, seal, write_side
from ct_xception.corpus.load import load_corpus, public_report
from ct_xception.evaluation.answers import Answers, Items
from ct_xception.evaluation.gate_fit import distance_of, fit_gate, write_gate
from ct_xception.evaluation.rules import fit_rules
from ct_xception.evaluation.shift.drift_fit import fit_reference, write_reference
from ct_xception.evaluation.shift.site_slices import SiteSlices, list_items, look_at
from ct_xception.files import sha256_file
from ct_xception.model.modelling import CTXceptionForImageClassification
from ct_xception.model.normalisation import adapt_normalisation
from ct_xception.serving.checkpoint import InputContract
from ct_xception.serving.classifier import Classifier
from tests.networks import enliven

CLEAR, HAZY = "clear", "hazy"
LUNGS = {CLEAR: (40, 60), HAZY: (105, 125)}  # grey levels at home
SITE = 0.45  # by which another site's pictures are darker


def draw_site(folder: Path, patients: int, *, factor: float = 1.0, seed: int = 0, slices: int = 2) -> Path:
    """Write slices.csv (path, label, patient) and its pictures, the classes alternating by patient; the table."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows = []
    for patient in range(patients):
        label = (CLEAR, HAZY)[patient % 2]
        for number in range(slices):
            name = f"images/{patient:03d}_{number}.png"
            Image.fromarray(_slice(rng, label, factor)).save(folder / name)
            rows.append((name, label, f"site {seed} {patient:03d}"))
    table = folder / "slices.csv"
    with open(table, "w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "patient"), *rows])
    return table


def _slice(rng: np.random.Generator, label: str, factor: float) -> np.ndarray:
    rows, columns = np.mgrid[-1:1:80j, -1:1:96j]
    pixels = np.where((rows / rng.uniform(0.75, 0.85)) ** 2 + (columns / 0.9) ** 2 < 1, rng.integers(190, 220), 0)
    for side in (-0.42, 0.42):
        tall, wide = rng.uniform(0.45, 0.6), rng.uniform(0.26, 0.34)
        pixels[(rows / tall) ** 2 + ((columns - side) / wide) ** 2 < 1] = rng.integers(*LUNGS[label])
    noisy = pixels + rng.normal(0, 4, pixels.shape) * (pixels > 0)
    return np.clip(np.rint(noisy * factor), 0, 255).astype(np.uint8)


def home_checkpoint(folder: Path, corpus_folder: Path) -> Path:
    """A sealed checkpoint whose head was fitted to the first site's slices, with rules, gate and reference of sets."""
    model = CTXceptionForImageClassification.from_backbone("legacy_xception", [CLEAR, HAZY], 64, seed=7)
    classifier = Classifier(enliven(model, batches=2), InputContract(), gate=None)
    corpus = load_corpus(draw_site(corpus_folder, 40))
    inputs = look_at(classifier, list_items(corpus), keep=True).inputs
    assert inputs is not None
    adapt_normalisation(model, inputs, source_share=0.0)  # as a network's are that was trained there
    slices = look_at(classifier, list_items(corpus))
    _fit_head(model, slices.seen.features, slices.labels)
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    weights = sha256_file(folder / "model.safetensors")
    known = look_at(classifier, list_items(corpus))
    items = Items(known.labels, known.patients, known.names)
    rules = fit_rules(
        items, Answers(known.probabilities()), [CLEAR, HAZY], coverage=0.9, class_groups={}, calibrated=True,
        patients_known=True,
    )  # fmt: skip
    told = {
        "corpus": public_report(corpus.report),
        "split": {"name": "0ff1ce", "protocol": "made"},
        "weights_sha256": weights,
        "initial_weights": "random",
    }
    write_side(folder, Side.of({**rules.to_json(), "provenance": told, "input": {"body_crop": True, "filters": []}}))
    _write_gate(folder, known, weights)
    (folder / CARD).write_text("# The card of the parent\n", encoding="utf-8")
    seal(folder)
    return folder


def _fit_head(model: CTXceptionForImageClassification, features: np.ndarray, labels: np.ndarray) -> None:
    """A logistic regression of features over their spread, as a softmax of two."""
    centre, spread = features.mean(axis=0), max(float(features.std()), 1e-6)
    fitted = LogisticRegression(C=1.0, max_iter=1000).fit((features - centre) / spread, labels)
    weight = torch.from_numpy(fitted.coef_[0] / spread).float()
    bias = float(fitted.intercept_[0] - fitted.coef_[0] @ centre / spread)
    with torch.no_grad():
        model.head.weight.copy_(torch.stack([-weight / 2, weight / 2]))
        model.head.bias.copy_(torch.tensor([-bias / 2, bias / 2]))


def _write_gate(folder: Path, known: SiteSlices, weights: str) -> None:
    seen = replace(known.seen, groups=tuple(known.units))
    held = np.array([int(unit.rpartition(" ")[2]) % 4 < 2 for unit in known.units])
    fit, limits = (seen.select(np.flatnonzero(mask).tolist()) for mask in (~held, held))
    rule, arrays = fit_gate(fit, limits, weights_sha256=weights)
    write_gate(folder, rule, arrays)
    write_reference(folder, *fit_reference(fit, limits, distance_of(rule, arrays)))
