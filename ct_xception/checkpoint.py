"""The checkpoint folder and the run folder around it: the name of every file, format numbers.

A checkpoint folder is a Hub repository: stock files (`CONFIG`, `WEIGHTS`), one side file with what they cannot say
(`SIDE_FILE`), the input gate's arrays, the card, exports, and the figures in `EVALUATION`. Nothing else names them.
"""

from __future__ import annotations

# A checkpoint folder
CONFIG, WEIGHTS, SIDE_FILE, GATE = "config.json", "model.safetensors", "ct_xception.json", "gate.safetensors"
DRIFT = "drift.safetensors"  # sorted values of training's patients, for sets of new slices
POOLING = "pooling.safetensors"  # how much each slice of a patient counts, where that was learnt
CARD, EVALUATION = "README.md", "evaluation"
ONNX_FOLDER, OPENVINO_FOLDER = "onnx", "openvino"
ONNX, ONNX_INT8 = f"{ONNX_FOLDER}/model.onnx", f"{ONNX_FOLDER}/model_int8.onnx"
OPENVINO = (f"{OPENVINO_FOLDER}/model.xml", f"{OPENVINO_FOLDER}/model.bin")

# In its folder EVALUATION, or in the folder that `ct-xception evaluate` is given
METRICS, PREDICTIONS, PREDICTIONS_GROUPED = "metrics.json", "predictions.parquet", "predictions_grouped.parquet"
PREDICTIONS_INT8, BASELINES = "predictions_int8.parquet", "baselines.parquet"
AUDIT, EXPLANATIONS, EXPORT = "audit.json", "explanations.json", "export.json"
CONTINUITY, CONTINUITY_ANSWERS = "continuity.json", "continuity.parquet"
CONFUSION, ROC, CURVES, EXAMPLES = "confusion_matrix.png", "roc.png", "curves.png", "examples.png"
RELIABILITY = "reliability.png"
CONFUSION_PATIENTS, ROC_PATIENTS = "confusion_matrix_patients.png", "roc_patients.png"
RELIABILITY_PATIENTS = "reliability_patients.png"
ROBUSTNESS, ROBUSTNESS_ANSWERS = "robustness.png", "robustness.parquet"
SITE, SITE_ANSWERS = "site.json", "site.parquet"  # of a version fitted to a site: what was measured there
EXTERNAL = "external"  # the folder of answers on other corpora, one NAME.parquet each

# A run folder, which holds the checkpoint in MODEL and the folds of cross-validation in FOLDS
MODEL, FOLDS = "model", "folds"
OPTIONS, CORPUS, SPLIT = "config.json", "corpus.json", "split.json"
STATE, BEST, PROGRESS = "state.safetensors", "best.safetensors", "progress.json"
FOLD_PLAN, FOLD = "folds.json", "fold.json"
SOURCES, ERRORS, LABELS_AT_ODDS = "evaluation_sources.json", "errors.html", "labels_at_odds.json"
SEARCH = "search.json"  # of a search, and in the run folder of its winner

SIDE_FORMATS = (1, 2, 3)  # of SIDE_FILE: 1 had no seal of its own; 3 scales logits, which readers of 2 would not do
SIDE_FORMAT, SCALED_FORMAT, METRICS_FORMAT, EXPORT_FORMAT, EXPLANATIONS_FORMAT = 2, 3, 2, 1, 1
EXTERNAL_FORMAT, SITE_FORMAT = 1, 1

# The networks that a checkpoint may hold: timm takes addresses, too, where it expects a name.
BACKBONES = ("legacy_xception", "xception41", "xception65", "xception71", "xception41p", "xception65p")
# How the last feature map is pooled, and what weighs channels and places in the last blocks: the stock form first.
HEADS, ATTENTIONS = ("linear", "attention"), ("none", "se", "cbam")
STOCK_TYPE, OWN_TYPE = "timm_wrapper", "ct_xception"  # model_type of config.json: what stock transformers knows, or not


def evaluated(name: str) -> str:
    """The path in a checkpoint folder of a file of its evaluation."""
    return f"{EVALUATION}/{name}"
