from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from imaging.transforms import (
    IMAGENET_MEAN_RGB,
    build_compose,
    build_transforms,
    describe_transforms,
    own_transforms,
)

TRAIN = [
    dict(type="Resize", height=32, width=16),
    dict(type="HorizontalFlip", p=0.5),
    dict(type="Pad", padding=3),
    dict(type="RandomCrop", height=32, width=16),
    dict(type="RandomErasing", p=0.5),
    dict(type="ColorJitter", p=0.5),
]


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 24, 3), np.uint8)


def test_the_seed_decides_everything(image) -> None:
    first, second = build_transforms(TRAIN), build_transforms(TRAIN)
    results = [first(image, seed) for seed in range(8)]
    for seed in reversed(range(8)):  # another order, another pipeline, the same pixels
        assert torch.equal(second(image, seed), results[seed])
    assert len({r.numpy().tobytes() for r in results}) == 8


def test_result(image) -> None:
    out = build_transforms(TRAIN)(image, 0)
    assert out.shape == (3, 32, 16) and out.dtype == torch.uint8


def test_steps_are_drawn_independently(image) -> None:
    """One seed for every step would make the flip and the erasing happen together."""
    pipeline = build_transforms(
        [
            dict(type="HorizontalFlip", p=0.5),
            dict(type="RandomErasing", fill=(0, 0, 0), scale=(0.4, 0.4), p=0.5),
        ]
    )
    seen = set()
    for seed in range(60):
        out = pipeline(image, seed).permute(1, 2, 0).numpy()
        erased = (out == 0).all(2).mean() > 0.2
        kept = ~(out == 0).all(2)
        flipped = not np.array_equal(out[kept], image[kept])
        seen.add((flipped, erased))
    assert seen == {(a, b) for a in (False, True) for b in (False, True)}


def test_steps_are_those_of_compose(image) -> None:
    """What is left out of albumentations' Compose changes no pixel."""
    steps = [
        dict(type="Resize", height=30, width=20),
        dict(type="Pad", padding=2, fill=9),
        dict(type="CenterCrop", height=16, width=16),
        dict(type="OneOf", transforms=[dict(type="HorizontalFlip", p=1.0)], p=1.0),
        dict(type="Sequential", transforms=[dict(type="InvertImg", p=1.0)], p=1.0),
    ]
    expected = build_compose(steps)(image=image)["image"]
    assert np.array_equal(build_transforms(steps)(image, 0).permute(1, 2, 0), expected)


def test_numpys_draws_follow_the_seed_too(image) -> None:
    pipeline = build_transforms([dict(type="GaussNoise", p=1.0)])  # draws with numpy
    results = [pipeline(image, seed).numpy().tobytes() for seed in (0, 1, 0)]
    assert results[0] == results[2] != results[1]


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_in_another_process_draws_the_same(image, clone) -> None:
    pipeline = build_transforms(TRAIN)
    pipeline(image, 5)
    assert torch.equal(clone(pipeline)(image, 3), pipeline(image, 3))


@pytest.mark.parametrize("steps", [[], [dict(type="HorizontalFlip", p=0.0)], TRAIN])
def test_the_result_shares_no_memory_with_the_image(image, steps) -> None:
    """Data sets that are one array in memory hand out views of it, read-only ones perhaps."""
    image.setflags(write=False)
    out = build_transforms(steps)(image, 0)
    assert not np.may_share_memory(out.numpy(), image)
    assert out.permute(1, 2, 0).is_contiguous()  # channels last, as decoded: batches copy rows
    out.zero_()


def test_random_crop_of_a_padded_image_as_torchvision(image) -> None:
    """RandomCrop(size, padding=4): all (2 * 4 + 1)^2 places, each as often."""
    size = dict(height=40, width=24)
    pipeline = build_transforms([dict(type="Pad", padding=4), dict(type="RandomCrop", **size)])
    inside = np.full((40, 24, 3), 255, np.uint8)
    counts = np.zeros((9, 9), int)
    for seed in range(4050):
        filled = (pipeline(inside, seed)[0] == 255).numpy()
        row, column = filled.any(1), filled.any(0)
        top = 4 + int(row.argmax()) if not row[0] else int(row.sum()) - 36
        left = 4 + int(column.argmax()) if not column[0] else int(column.sum()) - 20
        counts[top, left] += 1
    assert counts.min() > 20 and counts.max() < 85  # 50 expected, 7 is one standard deviation


@pytest.mark.parametrize("name", own_transforms())
def test_own_transforms_travel_to_workers_and_print(image, name) -> None:
    required = {
        "AntialiasedRandomResizedCrop": dict(size=(8, 8)),
        "AntialiasedResize": dict(height=8, width=9),
        "AntialiasedSmallestMaxSize": dict(max_size=8),
    }
    pipeline = build_transforms([dict(type=name, p=1.0, **required.get(name, {}))])
    there = pickle.loads(pickle.dumps(pipeline))
    for seed in range(5):
        assert torch.equal(there(image, seed), pipeline(image, seed))
    assert repr(pipeline._steps[0]).startswith(f"{name}(")


def test_own_transforms_hide_none_of_albumentations() -> None:
    import albumentations

    assert [name for name in own_transforms() if hasattr(albumentations, name)] == []


def test_erasing_is_zero_once_normalised() -> None:
    from engine.normalizer import ImageNormalizer

    white = np.full((32, 16, 3), 255, np.uint8)
    erase = build_transforms([dict(type="RandomErasing", fill=IMAGENET_MEAN_RGB, p=1.0)])
    out = ImageNormalizer().normalize(erase(white, 0)[None])
    erased = out[:, 0] < out[:, 0].max()
    assert erased.any() and out.abs().amax(1)[erased].max() < 0.02


def test_without_a_seed_draws_differ(image) -> None:
    pipeline = build_transforms(TRAIN)
    assert len({pipeline(image).numpy().tobytes() for _ in range(6)}) > 1


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            dict(type="Resizze", height=1, width=1),
            "unknown transform 'Resizze'.*mean.*Resize",
        ),
        (dict(height=1), "unknown transform 'None'"),
        (
            dict(type="Resize", hight=1, width=1),
            "Resize takes no argument 'hight'; .*height",
        ),
    ],
)
def test_wrong_entries(entry, message) -> None:
    with pytest.raises(ValueError, match=message):
        build_transforms([entry])


def test_a_pipeline_must_end_in_an_image(image) -> None:
    with pytest.raises(ValueError, match="leave normalisation"):
        build_transforms([dict(type="Normalize")])(image, 0)


def test_transforms_in_words() -> None:
    steps = [
        dict(type="SmallestMaxSize", max_size=256),
        dict(type="CenterCrop", height=224, width=224),
        dict(type="RandomResizedCrop", size=(112, 112)),
        dict(type="HorizontalFlip", p=0.5),
    ]
    assert describe_transforms(steps) == (
        "SmallestMaxSize 256, CenterCrop 224x224, RandomResizedCrop 112x112, HorizontalFlip"
    )
    assert describe_transforms(None) == describe_transforms([]) == "images as they are"
    assert describe_transforms(np.flip) == "images by flip"
    assert steps[0]["type"] == "SmallestMaxSize"
