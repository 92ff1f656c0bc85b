"""Whether a picture shows what its prompt asked, by checks that need no network, and their
tolerances.

Pictures are uint8 arrays [256,256,3]. The tolerances below were fixed before the model was trained.
Object identity is judged by `classifier.py`.
"""

import os
import sys

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "train"))

from catalogue import COLOURS

GROUND_TOLERANCE = 32  # levels: the largest channel difference from the palette's colour
OBJECT_CONTRAST = 36  # levels: a pixel this far from the background belongs to an object
TINT_TOLERANCE = 22.0  # degrees of hue
PLACE_TOLERANCE = 30.0  # degrees of hue, for each of two tints that are 70 degrees apart or more
SMALL_AT_MOST = 0.47  # the object's longer side, as a part of the picture's
BIG_AT_LEAST = 0.76
SPECK = 20  # cells of a 64x64 grid: smaller components are not counted
RING = 8  # pixels: the border in which the background is measured


def ground(picture):
    """The background's colour: the median of the border."""
    ring = np.ones(picture.shape[:2], bool)
    ring[RING:-RING, RING:-RING] = False
    return np.median(picture[ring].astype(float), axis=0)


def figure(picture):
    """The pixels that differ from the background."""
    return np.abs(picture.astype(float) - ground(picture)).max(2) > OBJECT_CONTRAST


def cells(mask):
    """The mask on a 64x64 grid: cells at least 40 % covered."""
    return mask.reshape(64, mask.shape[0] // 64, 64, mask.shape[1] // 64).mean((1, 3)) >= 0.4


def components(grid):
    """The sizes of the 8-connected components, largest first."""
    left, sizes = set(zip(*np.nonzero(grid))), []
    while left:
        stack, size = [left.pop()], 0
        while stack:
            y, x = stack.pop()
            size += 1
            for cell in [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]:
                if cell in left:
                    left.remove(cell)
                    stack.append(cell)
        sizes.append(size)
    return sorted(sizes, reverse=True)


def hue(pixels):
    """The mean hue in degrees, weighted by chroma; None for grey."""
    if len(pixels) == 0:
        return None
    r, g, b = pixels.astype(float).reshape(-1, 3).mean(0)
    a, c = r - 0.5 * (g + b), np.sqrt(0.75) * (g - b)
    return None if np.hypot(a, c) < 10 else float(np.degrees(np.arctan2(c, a)) % 360)


def near_hue(pixels, name, tolerance):
    found, wanted = hue(pixels), hue(np.array([COLOURS[name]]))
    return found is not None and abs((found - wanted + 180) % 360 - 180) <= tolerance


def longer_side(mask):
    """The longer side of the figure's box, as a part of the picture's; 0 if there is none."""
    ys, xs = np.nonzero(cells(mask))
    return (max(np.ptp(ys), np.ptp(xs)) + 1) / 64 if len(ys) else 0.0


def background_holds(picture, fact):
    return np.abs(ground(picture) - COLOURS[fact["ground"]]).max() <= GROUND_TOLERANCE


def tint_holds(picture, fact):
    return near_hue(picture[figure(picture)], fact["tint"], TINT_TOLERANCE)


def count_holds(picture, fact):
    return sum(s >= SPECK for s in components(cells(figure(picture)))) == fact["count"]


def place_holds(picture, fact):
    mask, half = figure(picture), picture.shape[1] // 2
    left, right = picture[:, :half][mask[:, :half]], picture[:, half:][mask[:, half:]]
    return near_hue(left, fact["left"], PLACE_TOLERANCE) and near_hue(
        right, fact["right"], PLACE_TOLERANCE
    )


def size_holds(picture, fact):
    side = longer_side(figure(picture))
    return 0 < side <= SMALL_AT_MOST if fact["size"] == "small" else side >= BIG_AT_LEAST


CHECKS = {
    "background": background_holds,
    "tint": tint_holds,
    "count": count_holds,
    "place": place_holds,
    "size": size_holds,
}
