"""How far the browser page's int8 answers are from Python's, and how long one takes there.

    python -m benchmarks.browser CHECKPOINT --ort DIR [--corpus phantom:patients=120,seed=7] [--count 50] [--store]

The checkpoint holds an int8 export; DIR holds onnxruntime-web (docs/serving.md). The page runs in a headless Chromium.
"""

from __future__ import annotations

import argparse
import base64
import functools
import http.server
import os
import platform
import shlex
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.results import store
from ct_xception.serving.classifier import Classifier, Prediction

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
ANSWER = """async ([name, data]) => {
  const { classifier } = await import("./page.js");
  const ready = await classifier, bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  const started = performance.now(), answer = await ready.answer(new File([bytes], name));
  return { ranking: answer.ranking, ms: performance.now() - started };
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder as a Space does, so that the page may use threads."""

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def main() -> int:
    """Print the table, and put it into RESULTS.md with --store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.browser", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--ort", required=True, metavar="DIR", help="folder of onnxruntime-web")
    parser.add_argument("--corpus", default="phantom:patients=120,seed=7")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--store", action="store_true", help="write the table into benchmarks/RESULTS.md")
    options = parser.parse_args()
    files = test_files(options.corpus, options.count)
    table = render(files, ask_page(options.checkpoint, options.ort, files), options.checkpoint)
    print(table)
    if options.store:
        store("browser", table)
    return 0


def test_files(source: str, count: int) -> list[tuple[str, bytes]]:
    """The names and bytes of `count` test slices, spread over the split."""
    from ct_xception.corpus.load import load_corpus

    test = load_corpus(source).dataset["test"]
    rows = [int(place * len(test) / min(count, len(test))) for place in range(min(count, len(test)))]
    items = test.select(rows)
    return [(item["source"], item["image"]["bytes"] or Path(item["image"]["path"]).read_bytes()) for item in items]


def ask_page(checkpoint: str, ort: str, files: Sequence[tuple[str, bytes]]) -> list[dict[str, Any]]:
    """What the page answers to each file: its ranking [[class, probability], …] and its milliseconds."""
    from playwright.sync_api import sync_playwright

    from ct_xception.publish.hosted.browser_space import write_site

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        write_site(Path(checkpoint), Path(folder) / "site", ort=Path(ort))
        handler = functools.partial(Quiet, directory=str(Path(folder) / "site"))
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            page = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS).new_page()
            page.set_default_timeout(120_000)
            page.goto(f"http://127.0.0.1:{server.server_address[1]}/")
            page.wait_for_selector("#status:has-text('Ready')")
            found = [page.evaluate(ANSWER, [name, base64.b64encode(data).decode()]) for name, data in files]
            server.shutdown()
    return found


def render(files: Sequence[tuple[str, bytes]], theirs: Sequence[dict[str, Any]], checkpoint: str) -> str:
    """The table: the page beside each of Python's runtimes, on the same files."""
    lines = [
        f"`{shlex.join(['python', '-m', 'benchmarks.browser', *sys.argv[1:]])}`, "
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, {platform.machine()}, {os.cpu_count()} cores, "
        f"{statistics.median(one['ms'] for one in theirs):.0f} ms an answer in the page (median)",
        "",
        "| the page beside Python's | n | same first class | largest difference of a probability | mean |",
        "|---|---:|---:|---:|---:|",
    ]
    for runtime in ("onnx-int8", "torch"):
        classifier = Classifier.from_pretrained(checkpoint, runtime, gate=False)
        ours = [classifier(data) for _, data in files]
        same = sum(mine.label == their["ranking"][0][0] for mine, their in zip(ours, theirs, strict=True))
        apart = [value for mine, their in zip(ours, theirs, strict=True) for value in differences(mine, their)]
        largest, mean = max(apart), statistics.fmean(apart)
        lines.append(f"| {runtime} | {len(files)} | {same} | {largest:.4f} | {mean:.5f} |")
    return "\n".join(lines)


def differences(mine: Prediction, their: dict[str, Any]) -> list[float]:
    """How far apart the two probabilities of each class are."""
    found = dict(their["ranking"])
    return [abs(found[label] - value) for label, value in mine.probabilities.items()]


if __name__ == "__main__":
    sys.exit(main())
