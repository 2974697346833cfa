"""Vectors as a re-identification model makes them: clusters of unit length, an identity each."""

import numpy as np

DIM, ROWS = 24, 3000


def _vectors() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((150, DIM))
    vectors = centers[rng.integers(0, 150, ROWS + 40)] + 0.6 * rng.standard_normal((ROWS + 40, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[:ROWS].astype(np.float32), vectors[ROWS:].astype(np.float32)


VECTORS, QUERIES = _vectors()


def segments() -> list[np.ndarray]:
    return [VECTORS[:1], VECTORS[1:1700], VECTORS[1700:]]


def share_of(share: float, seed: int = 1) -> np.ndarray:
    """A filter that keeps such a share of the rows, and at least one."""
    keep = np.random.default_rng(seed).random(ROWS) < share
    keep[17] = True
    return keep
