"""Lesions of the phantom: one recipe a class, painted inside the lungs with a mask that is known exactly.

The first three recipes follow what radiology texts say of the commonest histologies, exaggerated in size so that a
small network can learn them from few slices: an adenocarcinoma lies in the periphery, part solid and spiculated; a
large cell carcinoma is a big lobulated mass of the periphery; a squamous cell carcinoma is central and cavitates. The
others are findings that differ from these, and from each other, in place, number, size or texture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ct_xception.errors import InputError, printable
from ct_xception.phantom.anatomy import Section, blob, normals
from ct_xception.phantom.scanner import Layer, Numbers, Points

HEALTHY = "normal"

Rng = np.random.Generator


@dataclass(frozen=True)
class Recipe:
    """How a class of lesions looks.

    `angles` is the sector, in degrees (0 lateral, 90 the back, -90 the front), `reach` the place between hilum (0) and
    pleura (1), `radius` in mm. `shape` is a mass, a layer (all lung behind or before a line), or a rind along the
    pleura. There are `count` lesions on each of `sides` lungs. `core`, `cavity` and `calcium` are shares of the radius:
    outside the core is ground glass, inside the cavity air. `lobes` is how far lobulation, and `spicules` how many
    streaks, disturb the outline. `fluid` fills the lower half of the cavity.
    """

    name: str
    angles: tuple[float, float] = (-50.0, 60.0)
    reach: tuple[float, float] = (0.6, 0.75)
    radius: tuple[float, float] = (20.0, 26.0)
    shape: str = "mass"
    count: int = 1
    sides: int = 1
    hu: float = 42.0
    ground: float = -520.0
    core: float = 1.0
    cavity: float = 0.0
    calcium: float = 0.0
    lobes: float = 0.06
    spicules: int = 0
    fluid: bool = False


RECIPES: tuple[Recipe, ...] = (
    Recipe("adenocarcinoma", reach=(0.55, 0.65), radius=(38.0, 46.0), core=0.6, lobes=0.14, spicules=30),
    Recipe("large cell carcinoma", angles=(5.0, 55.0), reach=(0.66, 0.74), radius=(46.0, 56.0), lobes=0.13),
    Recipe("squamous cell carcinoma", (-25.0, 25.0), (0.26, 0.36), (34.0, 42.0), cavity=0.5, lobes=0.11),
    Recipe("metastases", (-70.0, 75.0), (0.4, 0.9), (8.0, 12.0), count=9, sides=2, lobes=0.02),
    Recipe("pleural effusion", (90.0, 90.0), (0.5, 0.68), shape="layer", hu=12.0),
    Recipe("calcified granuloma", (-60.0, -10.0), (0.5, 0.7), (13.0, 17.0), calcium=0.75, lobes=0.02),
    Recipe("consolidation", (50.0, 75.0), (0.6, 0.7), (48.0, 58.0), lobes=0.25, spicules=12, core=0.9),
    Recipe("septic emboli", (-70.0, 75.0), (0.7, 0.92), (12.0, 16.0), count=4, sides=2, cavity=0.55),
    Recipe("pleural thickening", radius=(13.0, 18.0), shape="rind"),
    Recipe("abscess", (25.0, 65.0), (0.5, 0.62), (32.0, 40.0), cavity=0.84, fluid=True),
    Recipe("miliary disease", (-85.0, 85.0), (0.1, 0.97), (2.4, 3.2), count=90, sides=2, lobes=0.0),
    Recipe("hilar lymph nodes", (-15.0, 25.0), (0.08, 0.14), (18.0, 23.0), sides=2, lobes=0.14),
    Recipe("hamartoma", (-70.0, -30.0), (0.4, 0.6), (20.0, 25.0), hu=-40.0, calcium=0.3),
    Recipe("mycetoma", (-45.0, 10.0), (0.55, 0.65), (30.0, 36.0), cavity=0.8, calcium=-0.5),
    Recipe("carcinoid", (-30.0, 30.0), (0.12, 0.18), (15.0, 19.0), hu=180.0, lobes=0.02),
    Recipe("part-solid nodules", (-60.0, 70.0), (0.4, 0.85), (17.0, 21.0), count=3, sides=2, core=0.4),
    # The last four show in a lung window alone, as in life.
    Recipe("ground-glass opacity", (-60.0, 70.0), (0.5, 0.7), (42.0, 54.0), core=0.0, lobes=0.2),
    Recipe("bulla", (-70.0, -20.0), (0.6, 0.75), (34.0, 44.0), cavity=0.95, lobes=0.03),
    Recipe("pneumothorax", (-90.0, -90.0), (0.45, 0.65), shape="layer", hu=-990.0),
    Recipe("crazy paving", (-80.0, 80.0), (0.2, 0.9), (22.0, 30.0), count=7, sides=2, core=0.0),
)


def assign_recipes(classes: Sequence[str]) -> dict[str, Recipe | None]:
    """A recipe for every class: none for `normal`, its own for a name in RECIPES, else the next one free, in order.

    Raises InputError for fewer than two classes, a name given twice or empty, or more classes than recipes.
    """
    names = [name.strip().casefold() for name in classes]
    if len(names) < 2:
        raise InputError(f"a phantom needs at least two classes, got {len(names)}; name them in the option classes.")
    if len(set(names)) < len(names) or "" in names:
        raise InputError(f"the phantom's classes {printable(list(classes))} repeat a name or leave one empty.")
    ill = [name for name in names if name != HEALTHY]
    if len(ill) > len(RECIPES):
        raise InputError(f"the phantom has {len(RECIPES)} kinds of lesion and {len(ill)} classes need one; give fewer.")
    own = {recipe.name: recipe for recipe in RECIPES}
    free = iter(recipe for recipe in RECIPES if recipe.name not in names)
    chosen = {name: own[name] if name in own else next(free) for name in ill}
    return {given: chosen.get(name) for given, name in zip(classes, names, strict=True)}


@dataclass(frozen=True)
class Lesion:
    """One patient's disease: the recipe, the side (-1 the right lung), the level in the chest, the seed of its form."""

    recipe: Recipe
    side: float
    level: float
    seed: int

    @classmethod
    def draw(cls, rng: Rng, recipe: Recipe, level: float) -> Lesion:
        """A random lesion at a level."""
        side = float(rng.choice((-1.0, 1.0)))
        if recipe.reach[1] < 0.4 and level > 0.4:
            side = -1.0  # the heart covers the left hilum
        return cls(recipe, side, level, int(rng.integers(2**31)))


def paint_lesion(section: Section, lesion: Lesion, mask: Layer) -> None:
    """Paint a lesion into the lung layer, and where it lies into `mask` (which still has to be cut to the lungs)."""
    rng = np.random.default_rng(lesion.seed)
    recipe = lesion.recipe
    if recipe.shape == "layer":
        _paint_layer(section, lesion, rng, mask)
    elif recipe.shape == "rind":
        _paint_rind(section, lesion, rng, mask)
    else:
        away = abs(section.level - lesion.level)
        for index in range(recipe.count * recipe.sides):
            side = lesion.side if index % recipe.sides == 0 else -lesion.side
            _paint_mass(section, recipe, side, away, rng, mask)


def _pleura(section: Section, side: float, degrees: float) -> Numbers:
    """The point (2,) of the pleura in a direction: 0 degrees lateral, 90 the back, on one side."""
    radians = np.radians(degrees)
    angle = radians % (2.0 * np.pi) if side > 0 else np.pi - radians
    index = int(angle / (2.0 * np.pi) * len(section.walls.angle)) % len(section.walls.angle)
    return section.walls.cavity[index]


@dataclass(frozen=True, eq=False)
class _Mass:
    """One lesion where it is painted: centre (2,) and radius in mm, HU of its solid part, and its random numbers."""

    section: Section
    recipe: Recipe
    centre: Numbers
    radius: float
    hu: float
    rng: Rng

    def outline(self, share: float = 1.0, lobes: float | None = None) -> Points:
        return _wavy(self.centre, share * self.radius, self.recipe.lobes if lobes is None else lobes, self.rng)

    def scatter(self, count: int, spread: float) -> Points:
        """Points (count, 2) around the centre, none beyond 1.5 times the spread, which is a share of the radius."""
        return self.centre + spread * self.radius * self.rng.normal(0.0, 1.0, (count, 2)).clip(-1.5, 1.5)


def _paint_mass(section: Section, recipe: Recipe, side: float, away: float, rng: Rng, mask: Layer) -> None:
    radius = rng.uniform(*recipe.radius) * section.build.half_width / 165.0
    radius *= np.sqrt(max(0.25, 1.0 - (7.0 * away) ** 2))  # a ball, cut off its middle
    centre = _find_room(section, recipe, side, radius, rng)
    mass = _Mass(section, recipe, centre, radius, recipe.hu + 0.15 * section.scan.contrast, rng)
    outline = mass.outline()
    mask.fill(outline, 255)
    if recipe.core < 1.0:
        _paint_ground_glass(mass, outline)
    if recipe.spicules:
        _paint_spicules(mass, mask)
    if recipe.core > 0.0:
        section.lung.fill(outline if recipe.core == 1.0 else mass.outline(recipe.core), mass.hu)
    if recipe.cavity:
        _paint_cavity(mass)
    if recipe.calcium:
        _paint_calcium(mass)


def _find_room(section: Section, recipe: Recipe, side: float, radius: float, rng: Rng) -> Numbers:
    """A centre where at least half of a ball of that radius lies in lung; the best of eight tries if none does."""
    hilum = np.array([side * 34.0, 0.0])
    ball = np.concatenate([blob((0.0, 0.0), (share * radius, share * radius), count=12) for share in (0.3, 0.6, 0.9)])
    degrees, reach = rng.uniform(*recipe.angles, 8), rng.uniform(*recipe.reach, 8)
    best, most = hilum, -1.0
    for index in range(8):
        centre = hilum + reach[index] * (_pleura(section, side, degrees[index]) - hilum)
        share = section.share_in_lung(centre + ball)
        if share > most:
            best, most = centre, share
        if most >= 0.5:
            break
    return best


def _wavy(centre: Numbers, radius: float, lobes: float, rng: Rng) -> Points:
    """A lobulated outline around a centre, (60, 2) mm."""
    t = np.linspace(0.0, 2.0 * np.pi, 60, endpoint=False)
    phases, weights = rng.uniform(0.0, 6.28, 4), rng.uniform(0.5, 1.0, 4)
    waves = sum(w * np.sin(k * t + p) for k, p, w in zip((2, 3, 5, 7), phases, weights, strict=True))
    stretched = radius * (1.0 + 0.6 * lobes * waves)
    return centre + stretched[:, None] * np.stack([np.cos(t), np.sin(t)], axis=1)


def _paint_ground_glass(mass: _Mass, outline: Points) -> None:
    hu, rng, count = mass.recipe.ground, mass.rng, int(0.9 * mass.radius)
    mass.section.lung.fill(outline, hu)
    mass.section.lung.discs(mass.scatter(count, 0.5), rng.uniform(1.5, 4.5, count), hu + rng.normal(0.0, 110.0, count))


def _paint_spicules(mass: _Mass, mask: Layer) -> None:
    n, rng = mass.recipe.spicules, mass.rng
    t = np.linspace(0.0, 2.0 * np.pi, n, endpoint=False) + rng.normal(0.0, 0.2, n)
    directions = np.stack([np.cos(t), np.sin(t)], axis=1)
    starts = mass.centre + 0.5 * mass.radius * directions
    stops = mass.centre + mass.radius * rng.uniform(0.8, 1.45, n)[:, None] * directions + rng.normal(0.0, 1.5, (n, 2))
    widths = rng.uniform(1.4, 3.6, n)
    mass.section.lung.strokes(starts, stops, widths, rng.uniform(-120.0, 40.0, n))
    mask.strokes(starts, stops, widths, np.full(n, 255))


def _paint_cavity(mass: _Mass) -> None:
    radius = mass.recipe.cavity * mass.radius
    room = 0.5 * (1.0 - mass.recipe.cavity) * mass.radius  # off centre, but inside
    hole = _wavy(mass.centre + mass.rng.uniform(-room, room, 2) / 2.0, radius, mass.recipe.lobes, mass.rng)
    mass.section.lung.fill(hole, -985.0)
    if mass.recipe.fluid:  # the surface of the fluid is level: the patient lies on the back
        hole[:, 1] = np.maximum(hole[:, 1], mass.centre[1] + 0.1 * radius)
        mass.section.lung.fill(hole, 18.0)


def _paint_calcium(mass: _Mass) -> None:
    """Calcium in the middle; a negative share is a ball of soft tissue lying in the cavity, as a fungus does."""
    share, lung = mass.recipe.calcium, mass.section.lung
    if share < 0.0:
        lung.fill(mass.outline(-share) + [0.0, 0.22 * mass.radius], mass.hu)
    elif share > 0.5:
        lung.fill(mass.outline(share), 900.0)
    else:
        lung.discs(mass.scatter(9, 0.35), share * mass.radius * mass.rng.uniform(0.35, 0.8, 9), np.full(9, 650.0))


def _paint_layer(section: Section, lesion: Lesion, rng: Rng, mask: Layer) -> None:
    """Fluid behind, or air in front of, a line across one lung."""
    wall = section.walls.cavity
    front, back = float(wall[:, 1].min()), float(wall[:, 1].max())
    behind = lesion.recipe.angles[0] > 0.0
    share = rng.uniform(*lesion.recipe.reach) + 0.15 * (section.level - lesion.level)
    y = front + share * (back - front) if behind else front + (1.0 - share) * (back - front)
    x = np.linspace(0.0, 1.0, 24)
    curve = y + (-1.0 if behind else 1.0) * 22.0 * (x - 0.35) ** 2 + rng.normal(0.0, 1.0)
    line = np.stack([lesion.side * 190.0 * x, curve], axis=1)
    edge = 190.0 if behind else -190.0
    outline = np.concatenate([line, [[lesion.side * 190.0, edge], [0.0, edge]]])
    section.lung.fill(outline, lesion.recipe.hu)
    mask.fill(outline, 255)


def _paint_rind(section: Section, lesion: Lesion, rng: Rng, mask: Layer) -> None:
    """A lobulated layer along the pleura of one side."""
    wall = section.walls.cavity
    depth = rng.uniform(*lesion.recipe.radius)
    phases = rng.uniform(0.0, 6.28, 2)
    angle = section.walls.angle
    wave = 1.0 + 0.25 * np.sin(9.0 * angle + phases[0]) + 0.2 * np.sin(17.0 * angle + phases[1])
    inner = wall - (depth * wave)[:, None] * normals(wall)
    on_side = np.roll(np.arange(len(wall)), len(wall) // 4) if lesion.side > 0 else np.arange(len(wall))
    chosen = on_side[(lesion.side * wall[on_side, 0]) > 25.0]
    outline = np.concatenate([wall[chosen] + 4.0 * normals(wall)[chosen], inner[chosen][::-1]])
    section.lung.fill(outline, lesion.recipe.hu)
    mask.fill(outline, 255)
