"""Procedurally drawn pedestrians as a Market1501-layout data set, for demos and tests.

A *city* is a small re-identification world: identities walk past cameras, and every picture is one
identity in one pose seen by one camera. Two cities share no identity and differ in light, colour
cast, contrast, sharpness, noise and backgrounds: a domain gap in seconds, without a download.

    make_city("data/noon", "noon")      # train here ...
    make_city("data/dusk", "dusk")      # ... and test there

Every random draw comes from a generator keyed by (seed, city, what, pid, camera, image), so that a
picture depends neither on the order nor on the number of the others, and two runs write the same
bytes. A new city is a new entry of `CITIES`.
"""

from .city import CITIES, City
from .dataset import CitySummary, contact_sheet, make_city

__all__ = ["CITIES", "City", "CitySummary", "contact_sheet", "make_city"]
