from __future__ import annotations

import numpy as np
import pytest
import torch

from imaging.transforms import IMAGENET_MEAN_RGB, build_transforms

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
