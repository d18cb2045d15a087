"""Where the lungs are, from the grey levels of one slice alone, whatever its window.

Lungs are the large dark places inside the body that do not reach its rim, each with its convex hull, so that vessels,
lesions and masses that lean on the chest wall count as lung; a little of the mediastinum does too. No atlas and no
network: good enough to say whether a heat map lies in the lungs, not to measure them. On the phantom, Dice 0.77-0.94.
"""

from __future__ import annotations

import numpy as np

from ct_xception.imaging.body.crop import MIN_THRESHOLD, otsu_threshold

MIN_SHARE = 0.015  # of the body: a smaller dark place is airway, bowel or stomach
BLACK_SHARE = 0.1  # of the body: where so much is black, the window cuts the lungs off, and fat would pass for dark too
MOST_BOX = 0.68  # of the body's box: a dark place whose own box is larger is a brain in its skull (both lungs: 0.61)
RIM = 0.025  # of the body's width: dark places that come closer to the air are fat under the skin


def lung_mask(pixels: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Where the lungs are: (H, W) bool, from grey levels (H, W) uint8 and the body's mask. All False where none are.

    `body` is the mask that `body_mask` gives.
    """
    from skimage.morphology import convex_hull_image

    lungs = np.zeros(body.shape, dtype=bool)
    for place in lung_places(pixels, body):  # each alone: one hull around both would hold the heart
        lungs |= convex_hull_image(place)
    return lungs & body


def lung_places(pixels: np.ndarray, body: np.ndarray) -> list[np.ndarray]:
    """The dark places (H, W) bool that are lung, without their hulls; as `lung_mask`, empty where none are."""
    from scipy import ndimage

    if not body.any() or body.all():
        return []
    width = int(np.ptp(np.flatnonzero(body.any(axis=0)))) + 1
    depth = ndimage.distance_transform_edt(np.pad(body, 1))[1:-1, 1:-1]
    black = body & (pixels <= MIN_THRESHOLD)
    dark = black if black.sum() > BLACK_SHARE * body.sum() else body & (pixels <= otsu_threshold(pixels[body][None]))
    dark = ndimage.binary_opening(dark, iterations=max(1, width // 150))
    labels, found = ndimage.label(dark)
    if not found:
        return []
    numbers = np.arange(found + 1)
    sizes = np.bincount(labels.ravel(), minlength=found + 1)
    nearest = np.asarray(ndimage.minimum(depth, labels, numbers))
    height = int(np.ptp(np.flatnonzero(body.any(axis=1)))) + 1
    boxes = np.array([0, *(labels[box].size for box in ndimage.find_objects(labels))])
    kept = (sizes >= MIN_SHARE * body.sum()) & (nearest > RIM * width) & (numbers > 0)
    kept &= boxes <= MOST_BOX * width * height
    return [labels == number for number in numbers[kept]]
