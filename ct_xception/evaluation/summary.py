"""An evaluation as lines for the terminal: every protocol, both paths, and the simple rules beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ct_xception.evaluation.answers import PREDICTOR, STOCK_PIPELINE
from ct_xception.statistics.intervals import describe_figure

PATH_TITLES = {PREDICTOR: "our predictor", STOCK_PIPELINE: "stock pipeline()"}
SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc")


def evaluation_summary(metrics: Mapping[str, Any]) -> str:
    """metrics.json for the terminal: never a figure without n and interval, the most pessimistic protocol named."""
    lines = [f"{metrics['split']} split, n = {metrics['n']}, protocol: {metrics['protocol']}"]
    lines += _path_lines(metrics["paths"]) + _baseline_lines(metrics, metrics["protocol"], metrics["paths"])
    for name, block in metrics.get("protocols", {}).items():
        lines += ["", f"{name}: {block['title']}, n = {block['n']}"]
        if block.get("removed") == 0:
            lines[-1] += ": no image has one, so every figure is as above"
            continue
        if block.get("removed") is not None:
            lines[-1] += f" ({block['removed']} left out)"
        lines += _path_lines(block["paths"]) + _baseline_lines(metrics, name, block["paths"])
    lines += _calibration_lines(metrics) + _gate_lines(metrics.get("gate", {}))
    if headline := metrics.get("headline"):
        lines += ["", f"headline, the most pessimistic protocol that ran: {headline['protocol']}"]
    return "\n".join(lines)


def _path_lines(paths: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        f"  {PATH_TITLES.get(path, path):17} {name.replace('_', ' '):18} {describe_figure(figures.get(name))}"
        for path, figures in paths.items()
        for name in SHOWN
    ]


def _baseline_lines(metrics: Mapping[str, Any], protocol: str, paths: Mapping[str, Mapping[str, Any]]) -> list[str]:
    from ct_xception.evaluation.baselines import describe_baselines

    block = metrics.get("baselines", {}).get(protocol)
    return [] if block is None else describe_baselines(block, paths[PREDICTOR], title="our predictor").splitlines()


def _gate_lines(block: Mapping[str, Any]) -> list[str]:
    """What the input gate does to the split, or why there is none."""
    if reason := block.get("rule", {}).get("reason"):
        return ["", f"no input gate: {reason}"]
    if "refused" not in block:
        return []
    shares = [f"  {name:<8}  {describe_figure(block[name])}" for name in ("refused", "doubtful")]
    return ["", "input gate, share of this split's slices", *shares]


def _calibration_lines(metrics: Mapping[str, Any]) -> list[str]:
    lines = []
    if calibration := metrics.get("calibration"):
        lines += ["", f"calibration, temperature {calibration['temperature']:.3f} from {calibration['n_validation']} "
                  "validation images"]  # fmt: skip
        lines += [
            f"  calibration error {when:6} {describe_figure(calibration[when]['ece'])}" for when in ("before", "after")
        ]
    conformal = metrics.get("conformal", {})
    if reason := conformal.get("rule", {}).get("reason"):
        return [*lines, f"  no sets of classes are promised: {reason}"]
    for name, figures in conformal.items():
        if name != "rule":
            lines.append(
                f"  sets that are to hold the true class {100 * figures['nominal']:g} % of times, {name}: "
                f"coverage {describe_figure(figures['coverage'])}, size {describe_figure(figures['mean_size'])}"
            )
    return lines
