"""A procedural chest in axial section, in Hounsfield units: the healthy part of the phantom.

Everything is placed in millimetres, x towards the patient's left (right in the image) and y towards the back (down in
the image), with the middle of the body at (0, 0), and painted organ over organ. `level` runs from 0 (the apices of the
lungs) to 1 (the domes of the diaphragm).

HU of tissues follow the usual tables (Hofer, CT Teaching Manual): lung -880 to -780, fat -110 to -80, water 0, muscle
50, blood 45 and up to 280 with contrast medium, cancellous bone 150 to 300, cortical bone 500 to 1,200.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ct_xception.phantom.scanner import AIR, Frame, Layer, Points, Scan, mottle

FAT, MUSCLE, BLOOD, CARTILAGE, MARROW, CORTEX = -102.0, 52.0, 45.0, 105.0, 210.0, 720.0

Tree = tuple[Points, Points, NDArray[np.float64], NDArray[np.float64]]  # starts, stops, widths in mm, in-plane share


def ramp(value: float, start: float, stop: float) -> float:
    """0 below `start`, 1 above `stop`, a smooth cubic between: organs come and go with the level."""
    t = min(max((value - start) / (stop - start), 0.0), 1.0)
    return t * t * (3.0 - 2.0 * t)


def blob(centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0, count: int = 40) -> Points:
    """An ellipse's outline; radii in mm, angle in degrees from x towards y."""
    t = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    u, v = radii[0] * np.cos(t), radii[1] * np.sin(t)
    return np.stack([centre[0] + c * u - s * v, centre[1] + s * u + c * v], axis=1)


def normals(outline: Points) -> Points:
    """Unit vectors pointing outwards at every point of a closed outline that runs from x towards y."""
    along = np.roll(outline, -1, axis=0) - np.roll(outline, 1, axis=0)
    across = np.stack([along[:, 1], -along[:, 0]], axis=1)
    return across / np.maximum(np.hypot(across[:, 0], across[:, 1]), 1e-9)[:, None]


@dataclass(frozen=True)
class Build:
    """One patient's body: lengths in mm, heart and spine relative to the average, phases in [0, 1)."""

    half_width: float = 165.0
    half_depth: float = 118.0
    squareness: float = 2.35
    fat: float = 15.0
    muscle: float = 8.0
    breast: float = 0.0
    heart: float = 1.0
    aorta: float = 13.5
    spine: float = 1.0
    lean: float = 0.0
    shape_phase: float = 0.0
    rib_phase: float = 0.0
    disc_phase: float = 0.0
    calcified: float = 0.0
    lung_hu: float = -850.0
    vessel_seed: int = 0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Build:
        """A random patient; the lengths spread as in adults."""
        female = rng.random() < 0.45
        half_width = rng.uniform(142.0, 162.0) if female else rng.uniform(152.0, 178.0)
        return cls(
            half_width=half_width,
            half_depth=half_width * rng.uniform(0.66, 0.78),
            squareness=rng.uniform(2.15, 2.6),
            fat=rng.uniform(6.0, 22.0),
            muscle=rng.uniform(4.0, 8.0) if female else rng.uniform(6.0, 12.0),
            breast=rng.uniform(16.0, 36.0) if female else 0.0,
            heart=rng.uniform(0.86, 1.08),
            aorta=rng.uniform(11.5, 16.0),
            spine=rng.uniform(0.9, 1.12),
            lean=rng.uniform(-5.0, 5.0),
            shape_phase=rng.random(),
            rib_phase=rng.random(),
            disc_phase=rng.random(),
            calcified=max(0.0, rng.uniform(-1.0, 1.0)),
            lung_hu=rng.uniform(-885.0, -830.0),
            vessel_seed=int(rng.integers(2**31)),
        )


@dataclass(frozen=True, eq=False)
class Walls:
    """The outlines of the trunk at one level, each (n, 2) in mm, skin first; `angle` is 0 left, π/2 behind."""

    skin: Points
    fascia: Points
    ribs: Points
    cavity: Points
    angle: NDArray[np.float64]

    @property
    def front(self) -> float:
        """y of the inside of the breast bone."""
        return float(self.cavity[:, 1].min())

    @property
    def back(self) -> float:
        """y of the skin in the furrow of the back."""
        return float(self.skin[np.argmin(np.abs(self.angle - np.pi / 2)), 1])


def _bump(angle: NDArray[np.float64], degrees: float, width: float) -> NDArray[np.float64]:
    """A Gaussian in angle on both sides of the body; 0 degrees is lateral, 90 the back, -90 the front."""
    side = np.degrees(np.arcsin(np.clip(np.sin(angle), -1.0, 1.0)))
    return np.exp(-(((side - degrees) / width) ** 2))


def trunk(build: Build, level: float, count: int = 240) -> Walls:
    """Skin, muscle fascia, ribs and pleura at a level."""
    angle = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    base = _base_outline(build, level, angle)
    outwards = normals(base)
    shoulder = 1.0 - ramp(level, 0.15, 0.55)
    fat = build.fat * (0.5 + 0.5 * _bump(angle, 10.0, 45.0)) + 2.5
    muscle = build.muscle * (0.5 + 0.9 * _bump(angle, 35.0, 22.0) + (0.4 + shoulder) * _bump(angle, -52.0, 18.0))
    muscle += 15.0 * _bump(angle, 76.0, 13.0) + 19.0 * shoulder * _bump(angle, 32.0, 24.0)
    fascia = base - outwards * fat[:, None]
    ribs = fascia - outwards * (muscle + 5.0)[:, None]
    cavity = ribs - outwards * (6.0 + 6.0 * _bump(angle, 90.0, 9.0))[:, None]
    narrow = np.array([0.78 + 0.22 * ramp(level, -0.15, 0.5), 0.86 + 0.14 * ramp(level, -0.1, 0.4)])
    breast = build.breast * _bump(angle, -44.0, 20.0) * np.exp(-(((level - 0.55) / 0.28) ** 2))
    return Walls(base + outwards * breast[:, None], fascia, ribs * narrow, cavity * narrow, angle)


def _base_outline(build: Build, level: float, angle: NDArray[np.float64]) -> Points:
    half_width = build.half_width * (0.94 + 0.06 * ramp(level, 0.0, 0.5))
    c, s, n = np.abs(np.cos(angle)) / half_width, np.abs(np.sin(angle)) / build.half_depth, build.squareness
    radius = (c**n + s**n) ** (-1.0 / n)
    phase = 2.0 * np.pi * build.shape_phase
    radius *= 1.0 + 0.010 * np.sin(3.0 * angle + phase) + 0.006 * np.sin(5.0 * angle + 3.0 * phase)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    lying = 0.84 * build.half_depth
    y = np.where(y > lying, lying + 0.55 * (y - lying), y)  # the table flattens the back
    furrow = np.where(y > 0.0, -5.0 * np.exp(-((x / 16.0) ** 2)), 5.0 * np.exp(-((x / 30.0) ** 2)))
    return np.stack([x, y + furrow], axis=1)


@dataclass(eq=False)
class Section:
    """One level of one patient in one series while it is painted: raster layers, and landmarks that organs share."""

    build: Build
    scan: Scan
    level: float
    walls: Walls
    rng: np.random.Generator
    body: Layer
    lung: Layer
    not_lung: Layer

    @property
    def vertebra(self) -> tuple[float, float]:
        """The middle of the vertebral body."""
        return 0.3 * self.build.lean, self.walls.back - 0.5 * self.build.fat - 67.0 * self.build.spine

    def at(self, x: float, y: float) -> tuple[float, float]:
        """A point of the average mediastinum (front at y = -92), moved as this patient's chest is deeper or leans."""
        return x + self.build.lean, y + (self.walls.front + 92.0) * min(max((12.0 - y) / 60.0, 0.0), 1.0)

    def share_in_lung(self, points: Points) -> float:
        """How many of the points (n, 2) in mm, as a share, lie inside a lung."""
        cells = self.not_lung.frame.cells(points).astype(int)
        inside = ((cells >= 0) & (cells < self.not_lung.frame.raster)).all(axis=1)
        picture = self.not_lung.image
        return sum(picture.getpixel((x, y)) == 0 for x, y in cells[inside].tolist()) / len(points)

    def blood(self, share: float = 1.0) -> float:
        """HU of blood where `share` of the aorta's contrast medium has arrived."""
        return BLOOD + share * self.scan.contrast


def paint_section(build: Build, scan: Scan, level: float, size: int, rng: np.random.Generator) -> Section:
    """Paint a healthy section: `body` holds all outside the lungs, `lung` all inside them, `not_lung` is 0 in them."""
    frame = Frame(size, scan.field_of_view, scan.shift, scan.turn)
    layers = Layer(frame, AIR), Layer(frame, build.lung_hu), Layer(frame, 255, "L")
    section = Section(build, scan, level, trunk(build, level), rng, *layers)
    _paint_table(section)
    _paint_wall(section)
    _paint_ribs(section)
    _paint_sternum(section)
    _paint_scapulae(section)
    section.body.fill(section.walls.cavity, FAT + 6.0)
    section.not_lung.fill(section.walls.cavity, 0)
    _paint_abdomen(section)
    _paint_mediastinum(section)
    _paint_spine(section)
    _paint_lungs(section)
    return section


def _paint_table(s: Section) -> None:
    x = np.linspace(-1.0, 1.0, 60)
    top = float(s.walls.skin[:, 1].max()) + s.scan.table_gap
    bend = -s.scan.table_curve * x**2
    upper = np.stack([215.0 * x, top + 5.0 + bend], axis=1)
    lower = np.stack([215.0 * x, top + 30.0 + 1.5 * bend], axis=1)
    s.body.fill(np.concatenate([upper, lower[::-1]]), -955.0)
    s.body.stroke(upper - [0.0, 4.0], 6.0, -930.0)
    s.body.stroke(upper, 2.0, -120.0)
    s.body.stroke(lower, 2.0, -220.0)


def _paint_wall(s: Section) -> None:
    walls, outwards = s.walls, normals(s.walls.ribs)
    s.body.fill(walls.skin, 10.0)
    s.body.fill(walls.skin - 2.2 * normals(walls.skin), FAT)
    if s.build.breast:
        _paint_breasts(s)
    s.body.fill(walls.fascia, MUSCLE)
    closed = np.concatenate([walls.ribs + 4.5 * outwards, walls.ribs[:1] + 4.5 * outwards[:1]])
    s.body.stroke(closed, 1.6, FAT + 50.0)
    for degrees, depth in ((40.0, 9.0), (26.0, 14.0), (-50.0, 9.0)):  # fat between the layers of muscle
        near = np.abs(np.degrees(np.arcsin(np.sin(walls.angle))) - degrees) < 17.0
        for side in (np.cos(walls.angle) > 0.0, np.cos(walls.angle) < 0.0):
            chosen = near & side
            s.body.stroke(walls.ribs[chosen] + depth * outwards[chosen], 1.1, FAT + 50.0)


def _paint_breasts(s: Section) -> None:
    shown = np.exp(-(((s.level - 0.55) / 0.28) ** 2))
    for angle in (2.0 * np.pi - 0.85, np.pi + 0.85):
        near = int(angle / (2.0 * np.pi) * len(s.walls.angle))
        root = s.walls.fascia[near] + 5.0 * normals(s.walls.fascia)[near]
        spread = np.array([13.0, 5.0]) * s.build.breast / 26.0
        ends = root + s.rng.normal(0.0, 1.0, (26, 2)) * spread - [0.0, 4.0]
        starts = root + 0.55 * (ends - root) + s.rng.normal(0.0, 2.5, (26, 2))
        s.body.strokes(starts, ends, np.full(26, 1.6 * shown), np.full(26, -30.0))


def _paint_ribs(s: Section) -> None:
    outwards = normals(s.walls.ribs)
    line = s.walls.ribs - 1.5 * outwards
    for side, lateral in ((1.0, 0.0), (-1.0, 180.0)):
        phase = (s.build.rib_phase + 3.3 * s.level + (0.13 if side > 0 else 0.0)) % 1.0
        for index in range(7):
            along = -86.0 + 24.0 * (index + phase)
            if along < 70.0:
                _paint_rib(s, line, outwards, lateral + side * along, along)


def _paint_rib(s: Section, line: Points, outwards: Points, at: float, along: float) -> None:
    """One rib cut obliquely: a thin shell of cortex around marrow; near the breast bone it is cartilage."""
    half = 9.0 + 4.0 * np.cos(np.radians(2.0 * along))
    offset = (np.degrees(s.walls.angle) - at + 180.0) % 360.0 - 180.0
    order = np.argsort(offset)
    chosen = order[np.abs(offset[order]) < half]
    u = offset[chosen] / half
    middle = line[chosen] + outwards[chosen] * (2.0 * u * np.sign(along))[:, None]
    for thickness, value in ((3.9, CORTEX - 60.0), (2.2, MARROW)) if along > -62.0 else ((3.8, CARTILAGE),):
        reach = thickness * np.sqrt(1.0 - u**2)[:, None] ** 0.6 * outwards[chosen]
        s.body.fill(np.concatenate([middle + reach, (middle - reach)[::-1]]), value)


def _paint_sternum(s: Section) -> None:
    y = float(s.walls.ribs[:, 1].min()) + 1.0
    half = 26.0 - 9.0 * ramp(s.level, 0.15, 0.4) - 3.0 * ramp(s.level, 0.6, 0.9)
    x = np.linspace(-1.0, 1.0, 24)
    for width, depth, value in ((1.0, 6.5, CORTEX - 170.0), (0.84, 4.2, MARROW - 70.0)):
        edge = depth * np.sqrt(1.0 - x**4)
        front = np.stack([half * width * x, y - edge], axis=1)
        s.body.fill(np.concatenate([front, np.stack([half * width * x, y + edge], axis=1)[::-1]]), value)
    if s.level < 0.16:
        for side in (-1.0, 1.0):  # the heads of the collar bones
            s.body.fill(blob((side * 36.0, y + 2.0), (13.0, 8.5)), CORTEX - 200.0)
            s.body.fill(blob((side * 36.0, y + 2.0), (10.5, 6.0)), MARROW - 40.0)


def _paint_scapulae(s: Section) -> None:
    shown = 1.0 - ramp(s.level, 0.40, 0.52)
    if shown <= 0.0:
        return
    outwards = normals(s.walls.ribs)
    for side in (1.0, -1.0):
        angles = np.linspace(0.26, 0.30 + 0.45 * shown, 9)
        angles = angles if side > 0 else np.pi - angles
        index = np.rint(angles / (2.0 * np.pi) * len(s.walls.angle)).astype(int)
        blade = s.walls.ribs[index] + outwards[index] * np.linspace(15.0, 9.0, 9)[:, None]
        s.body.stroke(blade, 4.6, CORTEX - 140.0)
        s.body.stroke(blade, 2.0, MARROW)
        s.body.fill(blob(tuple(blade[0]), (6.0 * shown, 4.2 * shown), 60.0), CORTEX - 120.0)
        ridge = np.stack([blade[4], blade[4] + outwards[index[4]] * 9.0 * ramp(shown, 0.5, 1.0)])
        s.body.stroke(ridge, 3.6, CORTEX - 200.0)


def _organ(s: Section, outline: Points, value: float, coat: float = 3.0) -> None:
    """An organ of the mediastinum with its coat of fat; both displace lung."""
    s.not_lung.fill(outline + coat * normals(outline), 255)
    s.body.fill(outline, value)


def _tube(s: Section, points: list[tuple[float, float]], width: float, value: float, coat: float = 2.5) -> None:
    """A vessel that runs in the plane of the section."""
    line = np.array(points)
    s.not_lung.stroke(line, width + 2.0 * coat, 255)
    s.body.stroke(line, width, value)


def _paint_mediastinum(s: Section) -> None:
    front, (x, y) = s.walls.front, s.vertebra
    wide = 13.0 + 8.0 * np.cos(3.0 * s.level)
    strip = [(-7.0, front - 6.0), (9.0, front - 6.0), s.at(0.5 * wide, -58.0), s.at(wide, -28.0), (22.0, 18.0)]
    strip += [(x + 15.0, y), (x - 15.0, y), (-15.0, 14.0), s.at(-wide, -28.0), s.at(-0.5 * wide, -58.0)]
    s.not_lung.fill(np.array(strip), 255)
    _paint_nodes(s)
    _paint_great_vessels(s)
    _paint_heart(s)
    _paint_airways(s)


def _paint_nodes(s: Section) -> None:
    """A few normal lymph nodes and small vessels in the mediastinal fat."""
    drawn = s.rng.normal(0.0, 1.0, (9, 3)) * [15.0, 18.0, 0.8] + [0.0, -30.0, 2.6]
    if s.level < 0.6:
        for x, y, size in drawn[drawn[:, 2] > 1.4]:
            s.body.fill(blob((x, y), (size, 0.8 * size), 40.0, count=12), BLOOD)


def _paint_great_vessels(s: Section) -> None:
    z, r, beside = s.level, s.build.aorta, s.vertebra[1] - 20.0
    down = (s.vertebra[0] + 27.0, beside)
    if z < 0.12:
        for x, y, size in ((-15.0, -36.0, 7.0), (3.0, -30.0, 4.8), (18.0, -18.0, 5.2), (-27.0, -24.0, 8.0)):
            _organ(s, blob(s.at(x, y), (size, size)), s.blood())
    elif z < 0.22:
        _tube(s, [s.at(-12.0, -42.0), s.at(6.0, -38.0), s.at(23.0, -18.0), down], 1.8 * r, s.blood())
    if z >= 0.12:
        _organ(s, blob(down, (0.92 * r, 0.92 * r)), s.blood())
        _paint_plaque(s, down, 0.92 * r)
    if 0.12 <= z < 0.62:
        _organ(s, blob(s.at(-30.0, -34.0), (8.0, 10.5), 15.0), s.blood(1.15))
    if 0.22 <= z < 0.60:
        _organ(s, blob(s.at(-9.0, -47.0 + 14.0 * z), (1.15 * r, 1.1 * r)), s.blood())
    _paint_pulmonary_arteries(s)


def _paint_plaque(s: Section, centre: tuple[float, float], radius: float) -> None:
    """Calcium in the aortic wall of some patients."""
    if s.build.calcified > 0.35:
        start = 6.28 * s.build.shape_phase + 4.0 * s.level
        t = np.linspace(start, start + 0.9 * s.build.calcified, 6)
        s.body.stroke(np.array(centre) + radius * np.stack([np.cos(t), np.sin(t)], axis=1), 1.6, 620.0)


def _paint_pulmonary_arteries(s: Section) -> None:
    z, blood = s.level, s.blood(1.2)
    size = 13.0 * ramp(z, 0.25, 0.33) * (1.0 - ramp(z, 0.48, 0.58))
    if size > 4.0:
        _organ(s, blob(s.at(20.0, -46.0), (size, 1.15 * size), -20.0), blood)
    if 0.31 < z < 0.46:
        _tube(s, [s.at(18.0, -40.0), s.at(9.0, -20.0), s.at(-15.0, -13.0), s.at(-42.0, -8.0)], 14.0, blood)
    if 0.27 < z < 0.41:
        _tube(s, [s.at(23.0, -38.0), s.at(38.0, -16.0), s.at(48.0, 2.0)], 13.0, blood)


def _paint_heart(s: Section) -> None:
    """Four chambers around their grooves of fat; a left ventricle with a thick wall."""
    grown = ramp(s.level, 0.42, 0.66) * s.build.heart
    if grown < 0.2:
        return
    middle = s.at(19.0 * grown, -45.0)
    middle = middle[0], middle[1] + 11.0 * grown

    def part(x: float, y: float, a: float, b: float, turn: float) -> Points:
        return blob((middle[0] + grown * x, middle[1] + grown * y), (grown * a, grown * b), turn)

    _organ(s, part(0, 0, 63, 47, 32), FAT + 14.0, coat=1.0)
    s.body.fill(part(1, 0, 60, 44, 32), s.blood(0.4))
    for x, y, a, b, turn in ((27, 9, 25, 13, 38), (-12, -21, 30, 14, 14), (-38, -4, 14, 21, 12), (-12, 26, 26, 12, 12)):
        s.body.fill(part(x, y, a, b, turn), s.blood(0.95))
    for groove in (((-30, -30), (-25, -10), (-20, 8)), ((-16, 12), (2, 16), (22, 30))):
        s.body.stroke(np.array([(middle[0] + grown * x, middle[1] + grown * y) for x, y in groove]), 2.6, FAT + 60.0)


def _paint_airways(s: Section) -> None:
    z = s.level
    gullet = (s.build.lean + 8.0, s.vertebra[1] - 26.0)
    _organ(s, blob(gullet, (7.5, 5.5)), 34.0)
    s.body.fill(blob((gullet[0] - 1.0, gullet[1]), (2.2, 1.4)), -600.0 if s.build.disc_phase > 0.5 else 20.0)
    if z < 0.30:
        _organ(s, blob(s.at(-3.0, -12.0), (10.0, 11.0)), 25.0, coat=1.0)
        s.body.fill(blob(s.at(-3.0, -12.0), (8.6, 9.4)), AIR)
    elif z < 0.52:
        low, size = z - 0.30, 7.6 - 8.0 * (z - 0.30)
        for side, drop in ((-1.0, 0.0), (1.0, 3.0)):
            x, y = s.at(side * (9.0 + 170.0 * low) - 3.0, -6.0 + drop + 30.0 * low)
            _organ(s, blob((x, y), (1.4 * size, size + 1.4), side * 28.0), 25.0, coat=1.0)
            s.body.fill(blob((x, y), (1.2 * size, size), side * 28.0), AIR)


def _paint_abdomen(s: Section) -> None:
    """The domes of the diaphragm: liver on the right, spleen on the left, each the shape of the chest around it."""
    domes = (
        (ramp(s.level, 0.72, 0.96), -1.0, (-80.0, 2.0), s.blood(0.35) + 12.0),
        (ramp(s.level, 0.86, 1.08), 1.0, (88.0, 34.0), s.blood(0.45) + 8.0),
    )
    for grown, side, middle, value in domes:
        if grown > 0.02:
            wall = s.walls.cavity.copy()
            wall[:, 0] = side * np.maximum(side * wall[:, 0], 4.0)
            outline = middle + (0.25 + 0.72 * grown) * ramp(grown, 0.0, 0.12) * (wall - middle)
            s.not_lung.fill(outline, 255)
            s.body.fill(outline, value)


def _paint_spine(s: Section) -> None:
    k, (x, y) = s.build.spine, s.vertebra
    cut = np.cos(2.0 * np.pi * (7.5 * s.level + s.build.disc_phase))  # 1 through the pedicles, -1 through a disc
    s.not_lung.fill(blob((x, y + 4.0), (22.0 * k, 19.0 * k)), 255)
    s.not_lung.fill(blob((x, y + 28.0), (34.0 * k, 15.0 * k)), 255)
    for side in (-1.0, 1.0):
        for (ax, ay), (bx, by), width in _spine_parts(cut):
            part = np.array([[x + side * k * ax, y + k * ay], [x + side * k * bx, y + k * by]])
            s.not_lung.stroke(part, width * k + 4.0, 255)
            s.body.stroke(part, width * k, CORTEX - 210.0)
            s.body.stroke(part, 0.45 * width * k, MARROW + 60.0)
    s.body.stroke(np.array([[x, y + 34.0 * k], [x, y + 54.0 * k]]), 5.0 * k, CORTEX - 210.0)
    s.body.fill(blob((x, y + 21.0 * k), (10.0 * k, 9.0 * k)), FAT + 60.0)
    s.body.fill(blob((x, y + 21.0 * k), (7.6 * k, 6.8 * k)), 30.0)
    outline = blob((x, y), (17.5 * k, 14.5 * k))
    outline[:, 1] = np.minimum(outline[:, 1], y + 11.0 * k)
    s.body.fill(outline, CORTEX - 190.0)
    s.body.fill((outline - [x, y]) * 0.88 + [x, y], MARROW if cut > -0.55 else 95.0)


def _spine_parts(cut: float) -> list[tuple[tuple[float, float], tuple[float, float], float]]:
    """Paired parts as (from, to, width) in mm from the middle of the vertebral body, x outwards."""
    parts = [((12.0, 27.0), (2.0, 37.0), 4.6)]
    if cut > -0.25:
        return [*parts, ((12.0, 9.0), (13.0, 27.0), 6.0), ((13.0, 26.0), (31.0, 32.0), 6.0)]
    return [*parts, ((16.0, 8.0), (27.0, 17.0), 7.0), ((27.0, 17.0), (40.0, 22.0), 5.5)]


def _paint_lungs(s: Section) -> None:
    for side in (-1.0, 1.0):
        _paint_fissure(s, side)
    starts, stops, widths, shown = vessel_tree(s.build, s.level)
    full = 30.0 + 0.3 * s.scan.contrast
    values = s.build.lung_hu + (full - s.build.lung_hu) * np.clip(widths / 3.8, 0.15, 1.0)
    lines = shown > 0.0
    s.lung.strokes(starts[lines], stops[lines], widths[lines], values[lines])
    cut = ~lines & (widths < 4.0)
    s.lung.discs(stops[cut], 0.5 * widths[cut] + 0.3, values[cut])
    thick = lines & (widths > 3.6)
    if s.level > 0.3 and thick.any():  # an artery's bronchus runs beside it
        aside = np.array([1.5, 4.0]) * np.sign(starts[thick, :1])
        for share, value in ((0.95, -230.0), (0.6, -970.0)):
            wide = share * widths[thick]
            s.lung.strokes(starts[thick] + aside, stops[thick] + aside, wide, np.full(len(wide), value))


def _paint_fissure(s: Section, side: float) -> None:
    x = np.linspace(28.0, 140.0, 24)
    wave = 14.0 * np.sin(x / 40.0 + 6.28 * s.build.shape_phase)
    y = 34.0 - 95.0 * (s.level - 0.35) + wave - 0.25 * (x - 28.0)
    s.lung.stroke(np.stack([side * x, y], axis=1), 0.7, -740.0)


def vessel_tree(build: Build, level: float, depth: int = 5) -> Tree:
    """Pulmonary vessels of both lungs as straight pieces.

    A piece lies in the plane of the section where its in-plane share is positive; elsewhere it crosses the plane and
    shows as a dot at its end. The tree belongs to the patient and drifts with the level, so that neighbouring slices
    share most of their vessels.
    """
    rng = np.random.default_rng(build.vessel_seed)
    right, left = (_lung_tree(rng, build, side, level, depth) for side in (-1.0, 1.0))
    starts, stops, widths, shown = (np.concatenate(both) for both in zip(right, left, strict=True))
    return starts, stops, widths, shown


def _lung_tree(rng: np.random.Generator, build: Build, side: float, level: float, depth: int) -> Tree:
    roots = np.radians(np.array([-80.0, -56.0, -30.0, -4.0, 22.0, 48.0, 76.0]))
    n = len(roots)
    heading = roots + rng.normal(0.0, 0.12, n) + 0.35 * np.sin(6.0 * level + rng.uniform(0.0, 6.28, n))
    at = np.array([side * (42.0 + 8.0 * level), -6.0 + 10.0 * level]) + rng.normal(0.0, 4.0, (n, 2))
    width = rng.uniform(3.8, 6.0, n) * (1.0 - 0.5 * abs(level - 0.45))
    length = rng.uniform(0.13, 0.21, n) * build.half_width
    orders: list[Tree] = []
    for order in range(depth):
        n = len(at)
        drift = heading + 0.30 * np.sin(9.0 * level + rng.uniform(0.0, 6.28, n))
        stop = at + length[:, None] * np.stack([side * np.cos(drift), np.sin(drift)], axis=1)
        shown = np.cos(11.0 * level + rng.uniform(0.0, 6.28, n)) + 0.7 - 0.25 * order
        orders.append((at, stop, width, shown))
        fork = rng.uniform(0.2, 0.55, n) * np.where(rng.random(n) < 0.5, 1.0, -1.0)
        heading = np.concatenate([heading + fork, heading - 0.7 * fork])
        at = np.concatenate([stop, stop])
        length = np.tile(length, 2) * rng.uniform(0.68, 0.95, 2 * n)
        width = np.tile(width, 2) * rng.uniform(0.56, 0.76, 2 * n)
    starts, stops, widths, shown = (np.concatenate(parts) for parts in zip(*orders, strict=True))
    return starts, stops, widths, shown


def unevenness(section: Section, lung_mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """HU to add to a slice (S, S): lungs are denser towards the back, and mottled; soft tissue is slightly uneven."""
    size = lung_mask.shape[0]
    rows = np.linspace(-1.0, 1.0, size, dtype=np.float32)[:, None]
    lungs = 38.0 * rows + 16.0 * mottle(size, max(3, size // 40), section.rng)
    return np.where(lung_mask, lungs, 5.0 * mottle(size, max(3, size // 24), section.rng)).astype(np.float32)
