"""The healthy chest: what must be true of any of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ct_xception.phantom.anatomy import Build, blob, normals, paint_section, ramp, trunk, vessel_tree
from ct_xception.phantom.scanner import Scan


@pytest.fixture(params=range(6))
def build(request: pytest.FixtureRequest) -> Build:
    return Build.draw(np.random.default_rng(request.param))


def test_ramp_is_flat_outside_and_half_in_the_middle():
    assert [ramp(value, 1.0, 3.0) for value in (0.0, 1.0, 2.0, 3.0, 9.0)] == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_normals_of_a_circle_point_outwards():
    circle = blob((0.0, 0.0), (10.0, 10.0))
    np.testing.assert_allclose(normals(circle), circle / 10.0, atol=1e-9)


@pytest.mark.parametrize("level", [0.1, 0.4, 0.7, 0.95])
def test_walls_lie_inside_each_other(build: Build, level: float):
    walls = trunk(build, level)
    reach = [np.abs(outline).max(axis=0) for outline in (walls.cavity, walls.ribs, walls.fascia, walls.skin)]
    for inner, outer in zip(reach, reach[1:], strict=False):
        assert (inner < outer).all()


def test_lungs_are_dark_apart_and_of_human_size(build: Build):
    scan = Scan(field_of_view=2.2 * build.half_width)
    section = paint_section(build, scan, 0.4, 128, np.random.default_rng(0))
    lung = section.not_lung.array() == 0
    mm2 = lung.sum() / section.lung.frame.scale**2
    assert 12_000 < mm2 < 55_000  # both lungs in one section of an adult
    assert section.lung.array()[lung].mean() < -650.0
    middle = lung[:, lung.shape[1] // 2 - 3 : lung.shape[1] // 2 + 3]
    assert middle.mean() < 0.06  # the mediastinum parts them


def test_contrast_medium_brightens_blood_alone():
    plain, bright = (
        paint_section(Build(), Scan(contrast=contrast), 0.75, 64, np.random.default_rng(0)).body.array()
        for contrast in (0.0, 200.0)
    )
    changed = (bright - plain)[bright != plain]
    assert changed.size > 500 and changed.min() > 0.0 and changed.max() <= 240.0


def test_neighbouring_levels_share_their_vessels():
    build = Build(vessel_seed=5)
    here, near, far = (vessel_tree(build, level)[1] for level in (0.40, 0.41, 0.60))
    assert np.median(np.abs(near - here)) < 2.0
    assert np.median(np.abs(far - here)) > 8.0
    other = vessel_tree(replace(build, vessel_seed=6), 0.40)[1]
    assert np.median(np.abs(other - here)) > 5.0
