"""What the input gate makes of pictures that nothing of it was settled on, and of honest slices beside them.

    python -m benchmarks.unseen runs/phantom/model --corpus phantom:patients=30,seed=77 \
        --honest ../shared/corpora/covid-ct-patients --series ../shared/corpora/lung-dx-dicom --packages DIR [--store]

`benchmarks/foreign.py` holds the pictures that limits and signs were fitted with; none of them, and none of its code,
is here. Brain MRI: the MNI template that nilearn ships and the scans among nibabel's test files; radiographs and
ultrasound: pydicom-data (`--packages` is a folder that both were installed into). Coronal and sagittal slices and
X-rays: cut from, and projected through, the CT series of `--series`. Photographs: gradio's and matplotlib's. Head and
abdominal CT and plots are drawn here.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from benchmarks.results import store
from ct_xception.corpus.cells import slice_source
from ct_xception.corpus.load import load_corpus
from ct_xception.errors import SliceError
from ct_xception.imaging.windows import WINDOWS, Window, apply_window
from ct_xception.serving.classifier import Classifier, Prediction
from ct_xception.statistics.intervals import wilson_interval

BRAIN = Window(40, 80)
HONEST = 120  # slices at most of an honest corpus
Source = Path | Image.Image
Values = NDArray[np.float32]


def main() -> int:
    """Print the table, and put it into RESULTS.md with --store."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unseen", description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--corpus", required=True, help="slices such as the checkpoint was trained on, of new patients")
    parser.add_argument("--honest", nargs="*", default=[], metavar="DIR", help="corpora of other chest CT slices")
    parser.add_argument("--series", metavar="DIR", help="a folder of CT series as DICOM, a folder each")
    parser.add_argument("--packages", metavar="DIR", help="where nilearn and pydicom-data were installed")
    parser.add_argument("--seed", type=int, default=2026, help="of what is drawn here (default: 2026)")
    parser.add_argument("--store", action="store_true", help="write the table into benchmarks/RESULTS.md")
    options = parser.parse_args()
    lines = [f"`{' '.join(['python', '-m', 'benchmarks.unseen', *sys.argv[1:]])}`", "", HEAD, *rows(options)]
    print("\n".join(lines))
    if options.store:
        store("unseen", "\n".join(lines))
    return 0


HEAD = "| pictures | n | refused | doubtful | answered |\n|---|---:|---:|---:|---:|"


def rows(options: argparse.Namespace) -> Iterator[str]:
    """A row a kind of foreign picture, their sum, and a row an honest corpus."""
    classifier, everyone = Classifier.from_pretrained(options.checkpoint), list[str]()
    for kind, sources in foreign(options).items():
        verdicts = judge(classifier, sources)
        everyone += verdicts
        yield row(kind, verdicts)
    yield row("**no axial chest CT, all**", everyone)
    for corpus in [options.corpus, *options.honest, *filter(None, [options.series])]:
        yield row(f"honest: {Path(corpus).name}", judge(classifier, honest(corpus)))


def foreign(options: argparse.Namespace) -> dict[str, list[Source]]:
    """The foreign pictures by kind; those of a folder that is not given are left out."""
    rng = np.random.default_rng(options.seed)
    found: dict[str, list[Source]] = {
        "head CT, drawn": _windowed(head, rng, [BRAIN, WINDOWS["bone"], WINDOWS["mediastinal"]]),
        "abdominal CT, drawn": _windowed(abdomen, rng, [WINDOWS["mediastinal"], Window(60, 360), WINDOWS["lung"]]),
        "photographs": list(photographs()),
        "plots": [plot(rng) for _ in range(20)],
    }
    if options.series:
        volumes = list(series(Path(options.series)))
        found["coronal chest CT"] = list(reformats(volumes, 1))
        found["sagittal chest CT"] = list(reformats(volumes, 2))
        found["X-rays, projected"] = list(projections(volumes))
    if options.packages:
        found["brain MRI"] = list(brains(Path(options.packages)))
        found["radiographs and ultrasound, DICOM"] = list(radiographs(Path(options.packages)))
    return found


def judge(classifier: Classifier, sources: Sequence[Source]) -> list[str]:
    """The gate's verdict on each picture; one that the reader refuses is refused."""
    verdicts = []
    for source in sources:
        try:
            answer = classifier([source])[0]
        except SliceError:
            verdicts.append("refused")
            continue
        assert isinstance(answer, Prediction) and answer.gate is not None
        verdicts.append(answer.gate.verdict)
    return verdicts


def row(name: str, verdicts: list[str]) -> str:
    """A line of the table, with Wilson's intervals."""
    shares = (_share(verdicts.count(verdict), len(verdicts)) for verdict in ("refused", "doubtful", "accepted"))
    return f"| {name} | {len(verdicts)} | {' | '.join(shares)} |"


def _share(hits: int, n: int) -> str:
    low, high = wilson_interval(hits / n, n) if n else (0.0, 1.0)
    return f"{hits} = {100 * hits / max(n, 1):.1f} % ({100 * low:.1f}–{100 * high:.1f})"


def honest(corpus: str) -> list[Source]:
    """Up to HONEST slices of a corpus, evenly spread over it."""
    path = Path(corpus)
    if path.is_dir() and not any(path.rglob("*.csv")) or any(path.rglob("*.dcm")):
        return sorted(path.rglob("*.dcm"))
    items = [item for split in load_corpus(corpus).dataset.values() for item in split]
    return [slice_source(item) for item in items[:: max(1, len(items) // HONEST)]][:HONEST]


def picture(levels: Values | NDArray[np.uint8]) -> Image.Image:
    """Grey levels as a JPEG or PNG reader would give them."""
    return Image.fromarray(np.ascontiguousarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8)))


def _windowed(
    draw: Callable[[np.random.Generator], Values], rng: np.random.Generator, windows: list[Window]
) -> list[Source]:
    return [picture(apply_window(draw(rng), windows[number % len(windows)])) for number in range(36)]


def head(rng: np.random.Generator) -> Values:
    """An axial head in HU: scalp, skull, folded brain, ventricles, air cells or orbits on low slices."""
    side = int(rng.choice([256, 384, 512]))
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    a, b = rng.uniform(0.55, 0.7), rng.uniform(0.7, 0.88)
    radius = np.hypot(x / a, (y - rng.uniform(-0.05, 0.05)) / b)
    values = np.select(
        [radius < 0.86, radius < 0.88, radius < 0.955, radius < 1],
        [rng.uniform(30, 40), 10, rng.uniform(700, 1400), rng.uniform(-60, 30)],
        -1000.0,
    )
    brain = radius < 0.86
    folds = ndimage.gaussian_filter(rng.standard_normal(values.shape), side / 60)
    values[brain & (np.abs(folds / folds.std()) < 0.25) & (radius > 0.6)] = 8
    for sign in (-1, 1):
        horn = np.hypot((x - sign * 0.1) / rng.uniform(0.05, 0.09), (y + 0.05) / rng.uniform(0.2, 0.3)) < 1
        values[horn & brain] = 5
    if rng.random() < 0.4:
        for sign in (-1, 1):
            cells = np.hypot(x - sign * 0.4 * a, y - 0.3 * b) < 0.13
            values[cells & (folds > 0) & brain] = -800
    values = ndimage.gaussian_filter(values, 0.8)
    return (values + rng.normal(0, rng.uniform(3, 8), values.shape)).astype(np.float32)


def abdomen(rng: np.random.Generator) -> Values:
    """An axial abdomen in HU: fat, muscle wall, liver, spleen, kidneys, aorta, vertebra, bowel with some gas."""
    side = int(rng.choice([256, 384, 512]))
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    a, b = rng.uniform(0.8, 0.95), rng.uniform(0.5, 0.68)
    bent = 2.4  # a body is squarer than an ellipse
    radius = (np.abs(x / a) ** bent + np.abs(y / b) ** bent) ** (1 / bent)
    wall = rng.uniform(0.78, 0.9)
    values = np.select([radius < wall - 0.07, radius < wall, radius < 1], [-95.0, 50.0, -105.0], -1000.0)

    def organ(cx: float, cy: float, rx: float, ry: float, level: float) -> None:
        inside = (np.hypot((x - cx * a) / (rx * a), (y - cy * b) / (ry * b)) < 1) & (radius < wall - 0.07)
        values[inside] = level

    organ(-0.42, -0.15, rng.uniform(0.35, 0.45), rng.uniform(0.45, 0.6), rng.uniform(55, 110))
    organ(0.52, 0.1, 0.18, 0.3, rng.uniform(60, 120))
    for sign in (-1, 1):
        organ(sign * 0.38, 0.42, 0.13, 0.2, rng.uniform(40, 180))
    for _ in range(int(rng.integers(6, 14))):
        cx, cy, r = rng.uniform(-0.3, 0.55), rng.uniform(-0.55, 0.25), rng.uniform(0.05, 0.12)
        organ(cx, cy, r, 1.4 * r, rng.uniform(10, 60))
        if rng.random() < 0.25:
            organ(cx, cy - 0.03, 0.6 * r, 0.6 * r, -900)
    organ(0.05, 0.2, 0.06, 0.09, rng.uniform(40, 250))
    organ(0, 0.5, 0.14, 0.2, rng.uniform(200, 400))
    values[(np.hypot(x / (0.16 * a), (y - 0.5 * b) / (0.22 * b)) < 1) & (values < 0)] = 60
    values = ndimage.gaussian_filter(values, 0.9)
    return (values + rng.normal(0, rng.uniform(5, 15), values.shape)).astype(np.float32)


def photographs() -> Iterator[Source]:
    """Photographs and drawings that gradio and matplotlib ship, in colour and in grey."""
    for package, folders in {
        "gradio": ("media_assets/images", "test_data"),
        "matplotlib": ("mpl-data/sample_data",),
    }.items():
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None
        for folder in folders:
            for path in sorted((Path(spec.origin).parent / folder).glob("*.[jp][pn]g")):
                yield path
                with Image.open(path) as image:
                    yield image.convert("RGB").convert("L")


def plot(rng: np.random.Generator) -> Image.Image:
    """A line, bar, scatter, histogram or heat-map plot, with its axes."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(rng.uniform(3, 6), rng.uniform(3, 5)), dpi=90)
    axes, kind = figure.subplots(), int(rng.integers(5))
    grey = colormaps["gray"](rng.uniform(0, 0.6))
    if kind == 0:
        axes.plot(rng.standard_normal((60, 3)).cumsum(0), color=grey)
    elif kind == 1:
        axes.bar(range(8), rng.uniform(1, 9, 8), color=grey)
    elif kind == 2:
        axes.scatter(*rng.standard_normal((2, 150)), color=grey)
    elif kind == 3:
        axes.hist(rng.standard_normal(500), 20, color=grey)
    else:
        axes.imshow(ndimage.gaussian_filter(rng.standard_normal((40, 40)), 3), cmap="gray")
    axes.set_title("Figure of a paper")
    buffer = io.BytesIO()
    figure.savefig(buffer, facecolor=str(rng.choice(["white", "black"])))
    return Image.open(buffer).convert("L")


def series(folder: Path) -> Iterator[tuple[Values, tuple[float, float]]]:
    """Each folder of DICOM as a volume in HU (slices from the head down, rows, columns), with its steps in mm."""
    import pydicom

    for place in sorted({path.parent for path in folder.rglob("*.dcm")}):
        read = [pydicom.dcmread(path) for path in sorted(place.glob("*.dcm"))]
        read.sort(key=lambda one: -float(one.ImagePositionPatient[2]))
        values = np.stack([one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in read])
        step = abs(float(read[0].ImagePositionPatient[2]) - float(read[1].ImagePositionPatient[2]))
        yield values.astype(np.float32), (step, float(read[0].PixelSpacing[0]))


def reformats(volumes: Sequence[tuple[Values, tuple[float, float]]], axis: int) -> Iterator[Source]:
    """Coronal (axis 1) or sagittal (axis 2) slices, with even pixels, through the body in two windows."""
    for values, (step, spacing) in volumes:
        depths = np.flatnonzero((values > -300).mean(axis=tuple({0, 1, 2} - {axis})) > 0.1)
        for number, depth in enumerate(np.linspace(*np.quantile(depths, [0.15, 0.85]), 12).astype(int)):
            plane = ndimage.zoom(values.take(depth, axis), (step / spacing, 1), order=1)
            yield picture(apply_window(plane, WINDOWS[("lung", "mediastinal")[number % 2]]))


def projections(volumes: Sequence[tuple[Values, tuple[float, float]]]) -> Iterator[Source]:
    """X-rays from the front and the side, turned by up to 12 degrees, soft and hard, as film and on white."""
    for values, (step, spacing) in volumes:
        mass = np.clip(values / 1000 + 1, 0, 2)
        for turn in (-12, -6, 0, 6, 12):
            turned = ndimage.rotate(mass, turn, (1, 2), reshape=False, order=1)
            for axis in (1, 2):
                thick = ndimage.zoom(turned.sum(axis=axis) * spacing / 10, (step / spacing, 1), order=1)
                film = 1 - np.exp(-0.09 * np.clip(thick - np.quantile(thick, 0.05), 0, None))
                levels = 255 * film / film.max()
                yield picture(levels if turn else 255 - levels)


def brains(packages: Path) -> Iterator[Source]:
    """Axial, coronal and sagittal slices of brains in MR, from nilearn and nibabel, up to the 99.5th percentile."""
    import nibabel

    found = find_spec("nibabel")
    assert found is not None and found.origin is not None
    own = Path(found.origin).parent / "tests" / "data"
    files = [*packages.rglob("mni_icbm152_t1_tal*.nii.gz"), own / "example4d.nii.gz", own / "anatomical.nii"]
    for path in files:
        values = np.asarray(nibabel.load(path).dataobj, dtype=np.float32)
        values = values[..., 0] if values.ndim == 4 else values
        top = float(np.quantile(values, 0.995))
        for axis in (2, 1, 0):
            count = 12 if axis == 2 else 5
            for depth in np.linspace(0.3, 0.75, count) * values.shape[axis]:
                plane = np.rot90(values.take(int(depth), axis))
                small = picture(255 * plane / top)
                grown = max(1, round(256 / min(small.size)))
                yield small.resize((small.width * grown, small.height * grown), Image.Resampling.BICUBIC)


def radiographs(packages: Path) -> Iterator[Source]:
    """The radiographs and ultrasound pictures of pydicom-data, one of each."""
    for name in ("RG1_UNCR", "RG3_UNCR", "US1_UNCR", "gdcm-US-ALOKA-16", "MR2_UNCR"):
        yield from packages.rglob(f"{name}.dcm")


if __name__ == "__main__":
    sys.exit(main())
