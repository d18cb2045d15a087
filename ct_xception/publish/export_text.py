"""What the card says of the exported files, and what the terminal says after an export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ct_xception.publish import tables
from ct_xception.publish.evidence import Evidence
from ct_xception.publish.exports import INT8
from ct_xception.publish.tables import code, figure_text, plain, points_text
from ct_xception.serving.catalogue import RUNTIMES
from ct_xception.statistics.intervals import describe_figure

TITLES = {"onnx": "ONNX, float32", INT8: "ONNX, int8", "openvino": "OpenVINO, float32"}


def export_slots(evidence: Evidence) -> dict[str, str]:
    """The card's slots on other runtimes; all empty where nothing was exported."""
    record = evidence.exports or {"files": {}, "kept_out": {}}
    files = record["files"]
    return {
        "export_table": export_table(files) if files else "",
        "export_statement": export_statement(files),
        "export_use": "\n".join(_use(files)) if files else "",
        "export_kept_out": " ".join(
            f"**{TITLES[name]} was not kept**: {plain(found['reason'])}." for name, found in record["kept_out"].items()
        ),
    }


def export_table(files: Mapping[str, Any]) -> str:
    """A row a file: size, and how it answers beside torch."""
    rows = []
    for name in TITLES.keys() & files.keys():
        found = files[name]
        size = f"{found['bytes'] / 1e6:.1f} MB"
        rows.append((list(TITLES).index(name), [code(RUNTIMES[name][0]), TITLES[name], size, *_beside(found)]))
    heads = ["File", "", "Size", "Same first class", "Accuracy", "Accuracy lost", "Macro AUROC", "Macro AUROC lost"]
    return tables.markdown_table(heads, [row for _, row in sorted(rows)])


def _beside(found: Mapping[str, Any]) -> list[str]:
    """The cells on how a file answers; of a float32 file the logits say it all."""
    figures = found.get("figures")
    if figures is None:
        largest = found["difference"]["largest"]["logits"]
        return [f"logits within {largest:.1e} (n = {found['difference']['n']:,})", "", "", "", ""]
    accuracy, auroc = figures["accuracy"], figures["macro_auroc"]
    lost = auroc["loss"]
    return [
        f"{figure_text('accuracy', figures['agreement'])}, n = {figures['n']:,}",
        figure_text("accuracy", accuracy["approximation"]),
        points_text(accuracy["loss"]),
        figure_text("macro_auroc", auroc["approximation"]),
        figure_text("macro_auroc", lost),
    ]


def export_statement(files: Mapping[str, Any]) -> str:
    """What the table's figures stand on."""
    said = []
    if any("difference" in found for found in files.values()):
        said.append("Float32 files give the network's logits, as far as float32 arithmetic in another order does.")
    if INT8 in files:
        n = files[INT8]["calibration"]["n"]
        said.append(
            f"The int8 file is an approximation, calibrated on {n:,} training slices; its figures are of the test "
            "split, beside the network's own answers to the same slices, and what is lost is above 0."
        )
    return " ".join(said)


def _use(files: Mapping[str, Any]) -> Iterator[str]:
    yield "```bash"
    for name in sorted(files, key=list(TITLES).index):
        yield f"ct-xception predict slice.dcm --model ct-xception-checkpoint --runtime {name}"
    yield "```"


def export_summary(record: Mapping[str, Any]) -> str:
    """An export's record in lines for the terminal."""
    lines = []
    for name, found in [*record["files"].items(), *record["kept_out"].items()]:
        kept = "kept out" if "reason" in found else RUNTIMES[name][0]
        lines.append(f"{TITLES[name]}: {kept}, {found['bytes'] / 1e6:.1f} MB")
        if "figures" in found:
            figures = found["figures"]
            lines.append(f"  same first class as the network: {describe_figure(figures['agreement'])}")
            for figure, title in (("accuracy", "accuracy"), ("macro_auroc", "macro AUROC")):
                lines.append(f"  {title}: {describe_figure(figures[figure]['approximation'])}")
                lines.append(f"  {title} lost: {describe_figure(figures[figure]['loss'])}")
        else:
            apart = found["difference"]
            far = ", ".join(
                f"{output} {'not finite' if value is None else f'{value:.1e}'}"
                for output, value in apart["largest"].items()
            )
            lines.append(f"  largest difference from the network on {apart['n']:,} {apart['slices']}: {far}")
        if "reason" in found:
            lines.append(f"  not kept: {found['reason']}")
    return "\n".join(lines)
