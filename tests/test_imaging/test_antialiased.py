from __future__ import annotations

import albumentations
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop, Resize

from imaging.antialiased import AntialiasedRandomResizedCrop, resize_antialiased
from imaging.transforms import build_transforms

PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@pytest.fixture
def image() -> np.ndarray:
    """Noise: the picture in which a missing filter shows most."""
    return np.random.default_rng(0).integers(0, 256, (75, 100, 3), np.uint8)


def assert_pillows(ours: np.ndarray, theirs: np.ndarray) -> None:
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.max() <= 2 and difference.mean() < 0.15


@pytest.mark.parametrize("size", [(32, 32), (60, 90), (75, 20), (120, 150), (1, 1)])
@pytest.mark.parametrize("name", PILLOW)
def test_pixels_are_pillows(image, size, name) -> None:
    theirs = np.asarray(Image.fromarray(image).resize(size[::-1], PILLOW[name]))
    ours = resize_antialiased(image, size, name)
    assert ours.shape == (*size, 3) and ours.dtype == np.uint8 and ours.flags.c_contiguous
    assert_pillows(ours, theirs)


def test_part_of_a_read_only_image(image) -> None:
    image.setflags(write=False)
    part = image[10:60, 20:90]
    assert np.array_equal(
        resize_antialiased(part, (25, 30), "bilinear"),
        resize_antialiased(part.copy(), (25, 30), "bilinear"),
    )


def test_the_size_that_it_has_changes_nothing(image) -> None:
    out = build_transforms([dict(type="AntialiasedResize", height=75, width=100)])(image)
    assert np.array_equal(out.permute(1, 2, 0), image)


@pytest.mark.parametrize("size", [(75, 100), (100, 75), (80, 80), (41, 97), (500, 375)])
def test_shorter_side_as_torchvision(size) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    ours = build_transforms([dict(type="AntialiasedSmallestMaxSize", max_size=64)])(picture)
    theirs = np.asarray(Resize(64)(Image.fromarray(picture))).transpose(2, 0, 1)
    assert ours.shape == theirs.shape
    assert_pillows(ours.numpy(), theirs)


@pytest.mark.parametrize(
    "step",
    [
        dict(type="AntialiasedSmallestMaxSize", max_size=41),
        dict(type="AntialiasedResize", height=41, width=63),
        dict(type="AntialiasedRandomResizedCrop", size=(41, 63)),
    ],
)
def test_label_maps_get_the_images_size_and_no_new_label(step) -> None:
    from imaging.transforms import build_compose

    labels = np.random.default_rng(0).choice(np.array([3, 200], np.uint8), (53, 79))
    out = build_compose([step])(image=np.stack([labels] * 3, 2), mask=labels)
    assert out["mask"].shape == out["image"].shape[:2]
    assert set(np.unique(out["mask"])) == {3, 200}


def test_crops_are_albumentations_own(image) -> None:
    """The same draws cut out the same rectangle."""
    arguments = dict(size=(20, 30), scale=(0.2, 0.9), ratio=(0.5, 1.5))
    ours = AntialiasedRandomResizedCrop(**arguments)
    theirs = albumentations.RandomResizedCrop(**arguments)
    for seed in range(20):
        ours.set_random_seed(seed)
        theirs.set_random_seed(seed)
        out = ours(image=image)["image"]
        theirs(image=image)
        left, top, right, bottom = theirs.get_applied_params()["crop_coords"]
        expected = resize_antialiased(image[top:bottom, left:right], (20, 30), "bilinear")
        assert np.array_equal(out, expected)


def test_crops_are_distributed_as_torchvisions(image) -> None:
    step = AntialiasedRandomResizedCrop((8, 8))
    step.set_random_seed(0)
    torch.manual_seed(0)
    blank = Image.fromarray(image)
    ours, theirs = [], []
    for _ in range(3000):
        params = step.get_params_dependent_on_data({"shape": image.shape}, {})
        left, top, right, bottom = params["crop_coords"]
        ours.append((top, left, bottom - top, right - left))
        theirs.append(RandomResizedCrop.get_params(blank, (0.08, 1.0), (3 / 4, 4 / 3)))
    quantiles = np.linspace(0.05, 0.95, 10)
    a, b = (np.quantile(np.array(x), quantiles, axis=0) for x in (ours, theirs))
    assert np.abs(a - b).max() <= 4  # pixels, of 75 x 100: three standard errors


@pytest.mark.parametrize(
    "wrong",
    [
        dict(type="AntialiasedResize", height=0, width=3),
        dict(type="AntialiasedResize", height=3, width=3, interpolation="nearest"),
        dict(type="AntialiasedSmallestMaxSize", max_size="large"),
        dict(type="AntialiasedRandomResizedCrop", size=(3, 3), scale=(0.9, 0.1)),
        dict(type="AntialiasedRandomResizedCrop", size=(3, 3), area_for_downscale="image"),
    ],
)
def test_wrong_arguments(wrong) -> None:
    with pytest.raises(ValueError, match=wrong["type"]):
        build_transforms([wrong])
