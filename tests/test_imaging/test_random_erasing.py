from __future__ import annotations

import numpy as np
import pytest

from imaging.transforms import build_transforms

WHITE = np.full((128, 64, 3), 255, np.uint8)


def boxes(n: int = 400, image: np.ndarray = WHITE, **arguments) -> list[tuple[int, int]]:
    """(height, width) of the erased rectangle of n draws."""
    entry = dict(type="RandomErasing", fill=(0, 0, 0), p=1.0, **arguments)
    pipeline = build_transforms([entry])
    sizes = []
    for seed in range(n):
        erased = (pipeline(image, seed).numpy() == 0).all(0)
        rows, columns = np.flatnonzero(erased.any(1)), np.flatnonzero(erased.any(0))
        assert erased.sum() == len(rows) * len(columns)  # one full rectangle
        sizes.append((len(rows), len(columns)))
    return sizes


def test_area_and_ratio_cover_the_stated_ranges() -> None:
    sizes = np.array(boxes())
    share, ratio = sizes.prod(1) / (128 * 64), sizes[:, 0] / sizes[:, 1]
    assert 0.015 < share.min() < 0.04 and 0.36 < share.max() < 0.42
    assert 0.27 < ratio.min() < 0.6 and 3.0 < ratio.max() < 3.6


def test_area_is_uniform_where_every_shape_fits() -> None:
    sizes = np.array(boxes(scale=(0.02, 0.1)))
    share = sizes.prod(1) / (128 * 64)
    assert np.mean(share) == pytest.approx(0.06, abs=0.004)


def test_places_reach_all_corners() -> None:
    pipeline = build_transforms([dict(type="RandomErasing", fill=(0, 0, 0), p=1.0)])
    erased = sum((pipeline(WHITE, seed).numpy() == 0).all(0).astype(int) for seed in range(400))
    assert (erased[8:-8, 8:-8] > 0).all()
    corners = [erased[:8, :8], erased[:8, -8:], erased[-8:, :8], erased[-8:, -8:]]
    assert all(corner.any() for corner in corners)


def test_probability() -> None:
    pipeline = build_transforms([dict(type="RandomErasing", fill=(0, 0, 0), p=0.5)])
    share = np.mean([bool((pipeline(WHITE, seed) == 0).any()) for seed in range(400)])
    assert share == pytest.approx(0.5, abs=0.08)


def test_nothing_that_fits_erases_nothing() -> None:
    assert boxes(3, scale=(1.0, 1.0)) == [(0, 0)] * 3
    assert boxes(3, image=WHITE[:1, :1]) == [(0, 0)] * 3


def test_the_image_given_is_not_changed() -> None:
    image = WHITE.copy()
    boxes(3, image=image)
    assert (image == 255).all()


WRONG = [dict(scale=(0.4, 0.02)), dict(scale=(0.0, 0.1)), dict(ratio=(0.0, 1.0))]


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_ranges(wrong) -> None:
    with pytest.raises(ValueError, match="RandomErasing: expected"):
        build_transforms([dict(type="RandomErasing", **wrong)])
