from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("mmseg")

import cv2
from mmseg.registry import TRANSFORMS

from seg.transforms import Albumentations

# RobustNet's photometric augmentation
ROBUSTNET = [
    dict(type="ColorJitter", brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.5),
    dict(type="GaussianBlur", sigma_limit=(0.15, 1.3), blur_limit=0, p=1.0),
]


@pytest.fixture
def image() -> np.ndarray:
    grid = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(grid, (40, 30), interpolation=cv2.INTER_CUBIC)


def _results(image: np.ndarray, **more) -> dict:
    labels = (np.arange(image.shape[0] * image.shape[1]) % 19).astype(np.uint8)
    return dict(
        img=image.copy(),
        gt_seg_map=labels.reshape(image.shape[:2]),
        seg_fields=["gt_seg_map"],
        **more,
    )


def test_transforms_see_rgb(image) -> None:
    step = Albumentations([dict(type="ToGray", method="weighted_average", p=1.0)])
    out = step(_results(image))["img"]
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    assert np.abs(out[..., 0].astype(int) - gray).max() <= 1


def test_image_and_labels_move_together(image) -> None:
    results = _results(image)
    original = {key: np.copy(results[key]) for key in ("img", "gt_seg_map")}
    out = Albumentations([dict(type="HorizontalFlip", p=1.0)])(results)
    np.testing.assert_array_equal(out["img"], original["img"][:, ::-1])
    np.testing.assert_array_equal(out["gt_seg_map"], original["gt_seg_map"][:, ::-1])
    assert out["img"].flags.c_contiguous and out["gt_seg_map"].flags.c_contiguous


def test_every_map_of_seg_fields_is_transformed(image) -> None:
    results = _results(image)
    results["gt_edge_map"] = np.zeros(image.shape[:2], np.uint8)
    results["seg_fields"].append("gt_edge_map")
    out = Albumentations([dict(type="CenterCrop", height=10, width=12)])(results)
    assert out["gt_seg_map"].shape == out["gt_edge_map"].shape == (10, 12) == out["img_shape"]
    assert out["img"].shape == (10, 12, 3)


@pytest.mark.parametrize(
    "entry",
    [
        dict(type="Pad", padding=5),
        dict(type="PadIfNeeded", min_height=40, min_width=50),
        dict(type="Rotate", limit=(30, 30), p=1.0),
        dict(type="Affine", translate_px=(8, 8), p=1.0),
        dict(type="OneOf", transforms=[dict(type="Pad", padding=5)], p=1.0),
    ],
)
def test_new_borders_are_ignored(image, entry) -> None:
    results = _results(image)
    results["gt_seg_map"][:] = 3
    results["pad_shape"] = image.shape[:2]
    out = Albumentations([entry])(results)
    assert set(np.unique(out["gt_seg_map"])) == {3, 255}
    assert out["gt_seg_map"].dtype == np.uint8
    assert out["img_shape"] == out["pad_shape"] == out["img"].shape[:2] == out["gt_seg_map"].shape


def test_an_own_fill_is_kept(image) -> None:
    results = _results(image)
    results["gt_seg_map"][:] = 3
    out = Albumentations([dict(type="Pad", padding=2, fill_mask=7)])(results)
    assert set(np.unique(out["gt_seg_map"])) == {3, 7}


def test_without_labels(image) -> None:
    out = Albumentations(ROBUSTNET)(dict(img=image, sample_seed=0))
    assert out["img"].shape == image.shape and "gt_seg_map" not in out


def test_an_untouched_image_stays_the_same_array(image) -> None:
    assert Albumentations([dict(type="ToGray", p=0.0)])(dict(img=image))["img"] is image
    assert Albumentations([])(dict(img=image))["img"] is image


EVERYTHING = [
    *ROBUSTNET,
    dict(type="GaussNoise", p=0.8),
    dict(type="ShotNoise", p=0.5),
    dict(type="ElasticTransform", p=0.5),
    dict(
        type="SomeOf",
        n=2,
        transforms=[dict(type="HorizontalFlip"), dict(type="Rotate"), dict(type="ISONoise")],
        p=0.7,
    ),
]


def test_the_sample_seed_decides_everything(image) -> None:
    first = Albumentations(EVERYTHING)
    outs = [first(_results(image, sample_seed=s)) for s in range(8)]
    assert len({out["img"].tobytes() for out in outs}) == 8
    others = [Albumentations(EVERYTHING), copy.deepcopy(first), pickle.loads(pickle.dumps(first))]
    for other in others:
        for s in reversed(range(8)):
            cv2.setRNGSeed(s + 100)
            np.random.seed(s)
            again = other(_results(image, sample_seed=s))
            for key in ("img", "gt_seg_map"):
                np.testing.assert_array_equal(again[key], outs[s][key])


def test_without_a_seed_numpy_decides(image) -> None:
    step = Albumentations(EVERYTHING)
    outs = []
    for seed in (4, 4, 5):
        np.random.seed(seed)
        outs.append([step(_results(image))["img"].tobytes() for _ in range(3)])
    assert outs[0] == outs[1] != outs[2]
    assert len(set(outs[0])) == 3


def test_two_steps_of_one_pipeline_draw_independently(image) -> None:
    """One seed for both would flip either twice (the original) or not at all."""
    flip = Albumentations([dict(type="HorizontalFlip", p=0.5)])
    moved = []
    for s in range(60):
        results = flip(flip(_results(image, sample_seed=s)))
        moved.append(not np.array_equal(results["img"], image))
    assert 15 < sum(moved) < 45


def test_color_jitter_has_torchvisions_ranges() -> None:
    jitter = Albumentations(ROBUSTNET)._compose.transforms[0]
    for name in ("brightness", "contrast", "saturation"):
        assert getattr(jitter, name) == pytest.approx((0.6, 1.4))
    assert jitter.hue == pytest.approx((-0.1, 0.1))
    assert jitter.p == 0.5
    orders = {tuple(jitter.get_params()["order"]) for _ in range(200)}
    assert len(orders) > 20  # of 24: the order is random, as in torchvision


@pytest.mark.parametrize(
    ("name", "factor", "neutral"),
    [("brightness", 1.3, 1.0), ("contrast", 0.7, 1.0), ("saturation", 1.4, 1.0), ("hue", 0.1, 0.0)],
)
def test_color_jitter_equals_torchvision(image, name, factor, neutral) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional")
    torch = pytest.importorskip("torch")
    fixed = dict.fromkeys(("brightness", "contrast", "saturation"), (1.0, 1.0))
    entry = {"type": "ColorJitter", **fixed, "hue": (0.0, 0.0), "p": 1.0, name: (factor, factor)}
    out = Albumentations([entry])(dict(img=image))["img"]
    rgb = torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1)
    expected = getattr(functional, f"adjust_{name}")(rgb, factor).permute(1, 2, 0).numpy()
    # OpenCV's hue has steps of 2 degrees, torchvision's none
    limit = 8 if name == "hue" else 2
    assert np.abs(out[..., ::-1].astype(int) - expected).max() <= limit


@pytest.mark.parametrize("sigma", [0.15, 0.5, 1.3])
def test_blur_has_the_sigma_that_it_says(image, sigma) -> None:
    entry = dict(ROBUSTNET[1], sigma_limit=(sigma, sigma))
    out = Albumentations([entry])(dict(img=image))["img"]
    expected = cv2.GaussianBlur(image.astype(np.float64), (15, 15), sigma)
    assert np.abs(out[8:-8, 8:-8] - expected[8:-8, 8:-8]).max() < 1.5


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ([dict(type="ColourJitter")], "unknown transform 'ColourJitter'.*ColorJitter"),
        ([dict(brightness=1)], "unknown transform 'None'"),
        ([dict(type="Compose", transforms=[])], "unknown transform 'Compose'"),
        ([dict(type="cv2")], "unknown transform 'cv2'"),
        (
            [dict(type="ColorJitter", brigthness=0.4)],
            "ColorJitter takes no argument 'brigthness'; did you mean brightness",
        ),
        (
            [dict(type="OneOf", transforms=[dict(type="Rotate", limits=3)])],
            "Rotate takes no argument 'limits'; did you mean limit",
        ),
        ([dict(type="ColorJitter", brightness=-1)], "transform ColorJitter: .*non negative"),
        ([dict(type="Resize", height=3)], "transform Resize: .*width"),
        ([dict(type="HistogramMatching")], "HistogramMatching needs hm_metadata"),
        (dict(type="ColorJitter"), "is a list of dict"),
        (["ColorJitter"], r"expected dict\(type="),
    ],
)
@pytest.mark.filterwarnings("error")
def test_bad_configs(transforms, message) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        Albumentations(transforms)


def test_bad_results_are_named(image) -> None:
    with pytest.raises(ValueError, match="leave normalisation and tensors to the model"):
        Albumentations([dict(type="Normalize", p=1.0)])(dict(img=image))
    crop = Albumentations([dict(type="RandomCrop", height=99, width=99)])
    with pytest.raises(ValueError, match=r"failed on a/b\.png, 40x30 pixels"):
        crop(dict(img=image, img_path="a/b.png"))
    with pytest.raises(ValueError, match="uint8"):
        crop(dict(img=image.astype(np.float32)))


def test_registered_and_readable() -> None:
    step = TRANSFORMS.build(dict(type="seg.Albumentations", transforms=EVERYTHING))
    text = repr(step)
    assert "ColorJitter(brightness=0.4" in text and "SomeOf(n=2, transforms=[HorizontalFlip" in text
