from __future__ import annotations

import cv2
import numpy as np
import pytest

from reid.evaluation.embedding_map import (
    IDENTITIES,
    domain_picture,
    identity_picture,
    project,
    some_identities,
)


def decoded(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return image


@pytest.fixture
def groups() -> np.ndarray:
    """Three groups of 20 points far from each other, (60, 16)."""
    generator = np.random.default_rng(0)
    centres = 10 * generator.normal(size=(3, 16))
    return np.repeat(centres, 20, axis=0) + generator.normal(size=(60, 16))


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_groups_stay_together(groups, method) -> None:
    points = project(groups, method)
    assert points.shape == (60, 2)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (distances.argmin(axis=1) // 20 == np.arange(60) // 20).all()
    np.testing.assert_array_equal(points, project(groups, method))


def test_pca_keeps_what_differs_most() -> None:
    line = np.outer(np.arange(8.0), [3, 4, 0])
    points = project(line, "pca")
    np.testing.assert_allclose(np.abs(np.diff(points[:, 0])), 5, rtol=1e-6)
    np.testing.assert_allclose(points[:, 1], 0, atol=1e-6)


@pytest.mark.parametrize("method", ["tsne", "pca"])
@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (2, 4), (4, 4), (6, 1), (7, 3)])
def test_few_points_and_equal_points(method, shape) -> None:
    for features in (np.random.default_rng(0).normal(size=shape), np.ones(shape)):
        points = project(features, method)
        assert points.shape == (shape[0], 2) and np.isfinite(points).all()


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="'tsne' or 'pca', got 'umap'"):
        project(np.eye(4), "umap")
    with pytest.raises(ValueError, match="finite"):
        project(np.full((4, 4), np.nan))


def test_identities_that_most_cameras_saw() -> None:
    pids = np.repeat(np.arange(-1, 30), 6)
    camids = np.zeros(len(pids), np.int64)
    camids[pids == 17] = np.arange(6)
    camids[pids == 0] = np.arange(6)
    chosen = some_identities(pids, camids)
    assert len(np.unique(pids[chosen])) == IDENTITIES and pids[chosen[0]] == 17
    assert not set(pids[chosen].tolist()) & {-1, 0}
    many = np.repeat([3, 4], 500)
    assert len(some_identities(many, np.zeros(1000, np.int64))) == 80
    assert len(some_identities(np.array([-1, 0]), np.array([0, 0]))) == 0


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_pictures(groups, method) -> None:
    pids = np.repeat([5, 6, 7], 20)
    cameras = [f"$cam_{i % 14}$" if i % 5 else None for i in range(60)]  # more than markers
    image = decoded(identity_picture(groups, pids, cameras, "a $model_1$", method=method))
    assert (image == (31, 119, 180)).all(axis=2).sum() > 100  # the first identity's colour
    image = decoded(domain_picture({"a": groups, "b $x$": groups + 5}, "x", method=method))
    orange = (np.abs(image.astype(int) - (255, 127, 14)) < 60).all(axis=2)
    assert orange.sum() > 100


def test_a_part_of_large_domains_is_drawn(groups) -> None:
    image = domain_picture({"a": groups, "b": groups[:3]}, "x", method="pca", per_domain=5)
    assert decoded(image).std() > 5
