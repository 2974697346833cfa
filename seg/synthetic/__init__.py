"""Procedurally drawn streets in the formats of GTA5 and Cityscapes, for demos and tests.

A *street* is a road with what belongs to it, seen from a car: all 19 classes of Cityscapes, in
perspective, with a label map that is exact to the pixel. It is painted once and shown in one of two
*styles* that share every edge and differ in colour, contrast, texture, light and camera:

    make_streets("data/game", "game")                           # train here: GTA5's layout
    make_streets("data/real", "real", split="val", images=100)  # test there: Cityscapes' layout

"game" is saturated and sunny, with clean textures, hard shadows, bloom and a vignette. "real" is
grey-green, flat, soft and noisy, under clouds, in haze, fog, rain or at dusk. A network that
trusts colours and contrast learns the one and fails in the other.

Every random draw comes from a generator keyed by the seed, the street's number and, for its looks,
the style: an image depends neither on the other images nor on the number of workers, and two runs
write the same bytes. Pixels are the same on every machine; the bytes of a PNG also depend on the
version of pillow's zlib.

    street.py      where everything stands          canvas.py      parts per pixel, and their table
    buildings.py, vehicles.py, people.py, furniture.py             what stands there
    appearance.py  the styles, textures.py their textures          labels.py      ids and colours
    drawing.py     one image as files               dataset.py     the tree on disk
"""

from .appearance import STYLES
from .contact_sheet import contact_sheet
from .dataset import StreetsReport, make_streets
from .drawing import draw_street

__all__ = ["STYLES", "StreetsReport", "contact_sheet", "draw_street", "make_streets"]
