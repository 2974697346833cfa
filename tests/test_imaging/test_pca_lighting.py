from __future__ import annotations

import numpy as np
import pytest

from imaging.pca_lighting import EIGENVALUES, EIGENVECTORS, lighting
from imaging.transforms import build_transforms

GREY = np.full((4, 4, 3), 128, np.uint8)


def test_axes_are_orthonormal_and_the_first_is_brightness() -> None:
    assert np.allclose(EIGENVECTORS.T @ EIGENVECTORS, np.eye(3), atol=1e-3)
    shift = lighting(np.array([1.0, 0, 0]))
    assert np.allclose(shift, -0.2175 * np.array([0.5675, 0.5808, 0.5836]))


def test_textbook_is_a_sum_of_eigenvectors() -> None:
    alpha = np.array([0.3, -0.2, 0.7])
    by_hand = sum(alpha[i] * EIGENVALUES[i] * EIGENVECTORS[:, i] for i in range(3))
    assert np.allclose(lighting(alpha), by_hand)


def test_sn_takes_rows_of_the_reversed_matrix() -> None:
    alpha = np.array([0.3, -0.2, 0.7])
    by_hand = [
        sum(alpha[i] * EIGENVALUES[i] * EIGENVECTORS[i, 2 - channel] for i in range(3))
        for channel in range(3)
    ]
    assert np.allclose(lighting(alpha, "sn"), by_hand)
    assert np.allclose(lighting(np.array([1.0, 0, 0]), "sn"), 0.2175 * EIGENVECTORS[0][::-1])


@pytest.mark.parametrize("variant", ["textbook", "sn"])
def test_shifts_have_the_stated_spread(variant) -> None:
    pipeline = build_transforms([dict(type="PCALighting", variant=variant)])
    colours = np.array([pipeline(GREY, seed)[:, 0, 0].numpy() for seed in range(1500)])
    axes = np.eye(3)
    expected = np.linalg.norm([lighting(axis, variant) for axis in axes], axis=0) * 0.1 * 255
    assert np.allclose((colours - 128.0).std(0), expected, rtol=0.1, atol=0.3)
    assert np.allclose(colours.mean(0), 128, atol=0.5)


def test_one_colour_is_added_to_all_pixels_and_clipped() -> None:
    image = np.arange(0, 252, dtype=np.uint8).reshape(12, 7, 3)
    out = build_transforms([dict(type="PCALighting", sigma=1.0)])(image, 3)
    added = (out.permute(1, 2, 0).numpy().astype(int) - image).reshape(-1, 3)
    inside = (added + image.reshape(-1, 3) > 0) & (added + image.reshape(-1, 3) < 255)
    for channel in range(3):
        assert len(set(added[inside[:, channel], channel])) == 1
    assert not inside.all()  # sigma 1.0 leaves the range


def test_no_spread_no_change() -> None:
    out = build_transforms([dict(type="PCALighting", sigma=0.0)])(GREY, 0)
    assert np.array_equal(out.permute(1, 2, 0), GREY)


@pytest.mark.parametrize("wrong", [dict(sigma=-0.1), dict(variant="alexnet")])
def test_wrong_arguments(wrong) -> None:
    with pytest.raises(ValueError, match="PCALighting"):
        build_transforms([dict(type="PCALighting", **wrong)])
