"""Colours and random draws that pedestrians, backdrops and cameras share."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Colour = tuple[float, float, float]  # R, G, B in 0..1


def generator(*key: object) -> np.random.Generator:
    """An independent generator for every key, whatever was drawn before and in whichever order."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def pick(rng: np.random.Generator, options: Sequence[Any], weights: Sequence[float] = ()) -> Any:
    """One of the options, with probabilities proportional to the weights (default: equal)."""
    p = np.divide(weights, np.sum(weights)) if len(weights) else None
    return options[int(rng.choice(len(options), p=p))]


def normal(rng: np.random.Generator, mean: float, std: float, low: float, high: float) -> float:
    """A normal draw, clipped to low..high."""
    return float(np.clip(rng.normal(mean, std), low, high))


def rgb(code: str) -> Colour:
    """``"ff8000"`` -> (1.0, 0.5, 0.0)."""
    return int(code[:2], 16) / 255, int(code[2:4], 16) / 255, int(code[4:], 16) / 255


def palette(codes: str) -> tuple[Colour, ...]:
    return tuple(rgb(code) for code in codes.split())


def darker(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def near(rng: np.random.Generator, colour: Colour, spread: float = 0.035) -> Colour:
    """A neighbour of a palette colour, so that people in red do not share one red."""
    r, g, b = np.clip(np.asarray(colour) + rng.normal(0, spread, 3), 0.02, 0.98)
    return float(r), float(g), float(b)


def mix(base: Any, other: Any, where: Any) -> Array:
    """`base`, and `other` where the mask (0..1 or bool, one axis less than the colours) is set."""
    weight = np.asarray(where, np.float32)[..., None]
    low = np.asarray(base, np.float32)
    return low + (np.asarray(other, np.float32) - low) * weight


# Repeated entries are more frequent: as in the street, white and black tops abound.
SKIN = palette("f1c9a5 e8b48c d9a07a c58c66 a56d49 7d4f34 5a3825")
HAIR = palette("17130f 17130f 231a14 3b2618 5a3a20 8a5a2b c79a55 8d8a86 7a2e1d")
UPPER = palette(
    "f2f0ea f2f0ea 1d1f24 1d1f24 2a3d66 3a78b8 8fb8d8 b3262e d9622b e2b93b 3d7a45 8aa06a "
    "7a4a7f e39bb0 8b8f94 c9b48f"
)
LOWER = palette("1e2026 2b3a5a 3d5a86 7d99bd 6f7276 b9a27c 5a4632 e4e0d6 4d5a3c 7a2f36")
SHOES = palette("1a1a1c efefec 6a4328 b8322c 3a4f8f 8c8c8c")
BAGS = palette("1c1d20 26365c 8a2b2b 6b4a2c 3f6b4a c98a3a 8f8f94 b04f7a")
HATS = palette("1e2530 a8292f e8e4da 31507f 4d6b3f d08a2a")
CARS = palette("a8b0b8 912f2b 2b4c7e e6e4df 26282b")
