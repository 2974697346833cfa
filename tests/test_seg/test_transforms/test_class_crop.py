from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmseg")

from mmengine.registry import TRANSFORMS
from mmseg.datasets.transforms import RandomCrop

from seg.transforms.class_crop import ClassCrop


def sample(labels: np.ndarray, **more: Any) -> dict[str, Any]:
    """Results whose image holds (row, column, label) of every pixel."""
    rows, columns = np.indices(labels.shape)
    image = np.stack([rows, columns, labels], axis=-1).astype(np.int32)
    return {"img": image, "gt_seg_map": labels.copy(), "seg_fields": ["gt_seg_map"], **more}


def blocks(height: int = 60, width: int = 90, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 5, (height // 10, width // 10))
    labels = coarse.repeat(10, axis=0).repeat(10, axis=1).astype(np.uint8)
    labels[:7, :50] = 255
    return labels


def corner(results: dict[str, Any]) -> tuple[int, int]:
    return int(results["img"][0, 0, 0]), int(results["img"][0, 0, 1])


@pytest.mark.parametrize("ratio", [1.0, 0.6, 0.3, 0.01])
@pytest.mark.parametrize("size", [(20, 30), (60, 90), (100, 30), (200, 200)])
def test_without_a_class_it_is_the_crop_of_mmseg(ratio: float, size: tuple[int, int]) -> None:
    theirs = RandomCrop(crop_size=size, cat_max_ratio=ratio)
    for rule in ("centroid", "contains"):
        ours = ClassCrop(crop_size=size, rule=rule, cat_max_ratio=ratio)
        for seed in range(20):
            np.random.seed(seed)
            expected = theirs(sample(blocks(seed=seed)))
            np.random.seed(seed)
            result = ours(sample(blocks(seed=seed)))
            np.testing.assert_array_equal(result["img"], expected["img"])
            np.testing.assert_array_equal(result["gt_seg_map"], expected["gt_seg_map"])
            assert result["img_shape"] == expected["img_shape"]


@pytest.mark.parametrize("rule", ["centroid", "contains"])
def test_image_and_all_label_maps_are_cut_alike(rule: str) -> None:
    labels = blocks()
    crop = ClassCrop((20, 30), rule=rule, min_pixels=1)
    for seed in range(10):
        np.random.seed(seed)
        results = sample(labels, crop_class=3, depth=labels + 100)
        results["seg_fields"].append("depth")
        results = crop(results)
        assert results["img"].shape == (20, 30, 3) and results["img_shape"] == (20, 30)
        np.testing.assert_array_equal(results["img"][..., 2], results["gt_seg_map"])
        np.testing.assert_array_equal(results["depth"], results["gt_seg_map"] + 100)


def test_without_jitter_the_centroid_is_the_centre() -> None:
    labels = np.zeros((101, 151), np.uint8)
    labels[50:53, 70:75] = 4  # centroid (51, 72)
    results = ClassCrop((21, 31), jitter=0.0)(sample(labels, crop_class=4))
    assert corner(results) == (51 - 10, 72 - 15)


@pytest.mark.parametrize("place", [(0, 0), (100, 150), (0, 150), (50, 3)])
@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_a_crop_at_the_border_stays_inside_and_shows_the_class(place, jitter) -> None:
    labels = np.zeros((101, 151), np.uint8)
    labels[place] = 4
    crop = ClassCrop((40, 30), jitter=jitter)
    for seed in range(30):
        np.random.seed(seed)
        results = crop(sample(labels, crop_class=4))
        assert results["gt_seg_map"].shape == (40, 30)
        assert (results["gt_seg_map"] == 4).sum() == 1


def test_full_jitter_reaches_every_position_that_covers_the_centroid() -> None:
    labels = np.zeros((41, 41), np.uint8)
    labels[20, 20] = 1
    np.random.seed(0)
    crop = ClassCrop(5, jitter=1.0)
    corners = [corner(crop(sample(labels, crop_class=1))) for _ in range(2000)]
    rows, counts = np.unique([c[0] for c in corners], return_counts=True)
    assert rows.tolist() == [16, 17, 18, 19, 20]
    assert counts.min() > 300
    assert len(set(corners)) == 25


def naive_tiles(labels: np.ndarray, wanted: int, tile: int) -> set[tuple[int, int]]:
    """Centroids (row, column) of the class in each tile, one pixel after the other."""
    pixels: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for row in range(labels.shape[0]):
        for column in range(labels.shape[1]):
            if labels[row, column] == wanted:
                pixels.setdefault((row // tile, column // tile), []).append((row, column))
    return {
        (sum(p[0] for p in group) // len(group), sum(p[1] for p in group) // len(group))
        for group in pixels.values()
    }


@pytest.mark.parametrize("tile", [7, 25, 1024])
def test_every_tile_with_the_class_is_drawn(tile: int) -> None:
    labels = blocks()
    expected = naive_tiles(labels, 2, tile)
    crop = ClassCrop((1, 1), tile=tile, jitter=0.0)
    np.random.seed(0)
    found = {corner(crop(sample(labels, crop_class=2))) for _ in range(60 * len(expected))}
    assert found == expected


def test_tiles_are_scaled_with_the_image() -> None:
    labels = np.zeros((40, 80), np.uint8)
    labels[5, [5, 25, 75]] = 1
    crop = ClassCrop((1, 1), tile=20, jitter=0.0)
    np.random.seed(0)
    plain = {corner(crop(sample(labels, crop_class=1)))[1] for _ in range(40)}
    assert plain == {5, 25, 75}
    wide = {
        corner(crop(sample(labels, crop_class=1, scale_factor=(2.0, 1.0))))[1] for _ in range(40)
    }
    assert wide == {15, 75}  # tiles 40 wide and 20 high: 5 and 25 share one


def test_min_pixels_of_a_tile() -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[3, 3] = 1
    labels[30:34, 30:34] = 1
    crop = ClassCrop((1, 1), tile=20, jitter=0.0, min_pixels=2)
    np.random.seed(0)
    assert {corner(crop(sample(labels, crop_class=1))) for _ in range(20)} == {(31, 31)}


def test_contains_takes_the_first_crop_with_enough_pixels() -> None:
    labels = blocks()
    crop = ClassCrop((20, 20), rule="contains", min_pixels=150)
    for seed in range(30):
        np.random.seed(seed)
        tries = []
        for _ in range(10):
            top, left = np.random.randint(0, 41), np.random.randint(0, 71)
            count = int((labels[top : top + 20, left : left + 20] == 3).sum())
            tries.append((count, (top, left)))
        good = [place for count, place in tries if count >= 150]
        expected = good[0] if good else max(tries, key=lambda t: t[0])[1]
        np.random.seed(seed)
        assert corner(crop(sample(labels, crop_class=3))) == expected


def test_contains_also_keeps_the_largest_share() -> None:
    labels = np.zeros((40, 40), np.uint8)
    labels[:, 20:] = 1
    crop = ClassCrop((20, 20), rule="contains", min_pixels=1, cat_max_ratio=0.75)
    balanced = 0
    for seed in range(50):
        np.random.seed(seed)
        share = (crop(sample(labels, crop_class=1))["gt_seg_map"] == 1).mean()
        balanced += 0.25 < share < 0.75
    assert balanced >= 45


@pytest.mark.parametrize("rule", ["centroid", "contains"])
def test_a_class_that_is_gone_gives_a_random_crop(rule: str) -> None:
    results = ClassCrop((20, 20), rule=rule)(sample(blocks(), crop_class=17))
    assert results["img_shape"] == (20, 20)


@pytest.mark.parametrize("rule", ["centroid", "contains"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (19, 20)])
def test_a_small_image_is_kept_as_far_as_it_goes(rule: str, shape: tuple[int, int]) -> None:
    results = ClassCrop((20, 30), rule=rule)(sample(np.ones(shape, np.uint8), crop_class=1))
    assert results["img_shape"] == (min(shape[0], 20), min(shape[1], 30))


def test_an_unlabelled_image_is_cropped_at_random() -> None:
    image = np.zeros((50, 50, 3), np.uint8)
    assert ClassCrop(20, cat_max_ratio=0.5)({"img": image})["img_shape"] == (20, 20)
    with pytest.raises(ValueError, match=r"there is no gt_seg_map; put seg\.LoadLabels"):
        ClassCrop(20)({"img": image, "crop_class": 2})


def test_the_draws_follow_numpys_global_state() -> None:
    for rule in ("centroid", "contains"):
        crop = ClassCrop((20, 20), rule=rule)
        places = []
        for _ in range(2):
            np.random.seed(3)
            places.append([corner(crop(sample(blocks(), crop_class=1))) for _ in range(5)])
        assert places[0] == places[1]
        assert len(set(places[0])) > 1


def test_wrong_arguments_are_named() -> None:
    for arguments, message in [
        ({"crop_size": (0, 5)}, "crop_size"),
        ({"crop_size": (1, 2, 3)}, "crop_size"),
        ({"crop_size": 5, "rule": "centre"}, "'centroid' or 'contains', got 'centre'"),
        ({"crop_size": 5, "cat_max_ratio": 0.0}, "cat_max_ratio"),
        ({"crop_size": 5, "tile": 0}, "tile"),
        ({"crop_size": 5, "jitter": 1.5}, "jitter"),
        ({"crop_size": 5, "min_pixels": 0}, "min_pixels"),
    ]:
        with pytest.raises(ValueError, match=message):
            ClassCrop(**arguments)
    labels = np.zeros((10, 10), np.uint8)
    with pytest.raises(ValueError, match="differ in size"):
        ClassCrop(5)(sample(labels) | {"gt_seg_map": labels[:5]})


def test_it_builds_from_a_config() -> None:
    crop = TRANSFORMS.build(dict(type="seg.ClassCrop", crop_size=[20, 30], rule="contains"))
    assert crop.crop_size == (20, 30) and crop.min_pixels == 1500
    assert "rule='contains'" in repr(crop)
