from __future__ import annotations

import numpy as np
import pytest
import torch

from imaging.transforms import build_transforms

from .conftest import encode, picture

GRADIENT = np.stack(np.broadcast_arrays(np.arange(64)[:, None], np.arange(32), 0), -1).astype(
    np.uint8
)
"""Every pixel says where it was."""


def changed(before: np.ndarray, after: torch.Tensor) -> tuple[slice, slice]:
    """Bounds of what is different."""
    different = (after.permute(1, 2, 0).numpy() != before).any(2)
    rows, columns = np.flatnonzero(different.any(1)), np.flatnonzero(different.any(0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def test_a_patch_is_a_rectangle_of_the_same_image_flipped_or_not() -> None:
    pipeline = build_transforms([dict(type="RandomPatch", p=1.0)])
    flipped = set()
    for seed in range(40):
        out = pipeline(GRADIENT, seed)
        rows, columns = changed(GRADIENT, out)
        patch = out.permute(1, 2, 0).numpy()[rows, columns].astype(int)
        steps = np.diff(patch[0, :, 1])
        assert (np.diff(patch[:, 0, 0]) == 1).all() and (abs(steps) == 1).all()
        flipped |= set(steps.tolist())
    assert flipped == {-1, 1}


def test_patches_of_another_image(tmp_path) -> None:
    black, white = np.zeros((64, 32, 3), np.uint8), np.full((20, 10, 3), 255, np.uint8)
    (tmp_path / "a.png").write_bytes(encode(white, ".png"))
    (tmp_path / "notes.txt").write_text("no image")
    pipeline = build_transforms([dict(type="RandomPatch", images=str(tmp_path), p=1.0)])
    shares = []
    for seed in range(60):
        out = pipeline(black, seed)
        rows, columns = changed(black, out)
        assert (out[:, rows, columns] == 255).all()
        shares.append(float((out == 255).float().mean()))
    assert 0.015 < min(shares) < 0.08 and 0.3 < max(shares) <= 0.42


def test_image_and_seed_decide_everything(tmp_path) -> None:
    for index in range(5):
        (tmp_path / f"{index}.png").write_bytes(encode(picture(index), ".png"))
    entry = dict(type="RandomPatch", images=str(tmp_path), p=0.5)
    first, second = build_transforms([entry]), build_transforms([entry])
    image = picture(9)
    kept = image.copy()
    results = [first(image, seed) for seed in range(20)]
    for seed in reversed(range(20)):
        assert torch.equal(second(image, seed), results[seed])
    same = sum(np.array_equal(r.permute(1, 2, 0).numpy(), image) for r in results)
    assert 4 <= same <= 16 and np.array_equal(image, kept)


def test_nothing_that_fits_changes_nothing() -> None:
    pipeline = build_transforms([dict(type="RandomPatch", p=1.0)])
    one = GRADIENT[5:6, 5:6]
    assert np.array_equal(pipeline(one, 0).permute(1, 2, 0).numpy(), one)


@pytest.mark.parametrize(
    "wrong",
    [dict(scale=(0.4, 0.1)), dict(ratio=(0.0, 1.0)), dict(flip=1.5), dict(images="/nowhere")],
)
def test_wrong_arguments(wrong) -> None:
    with pytest.raises(ValueError, match=r"RandomPatch: (expected|no images)"):
        build_transforms([dict(type="RandomPatch", **wrong)])


def test_colour_jitter_by_its_name() -> None:
    """albumentations' own, as re-ID pipelines use it."""
    entry = dict(type="ColorJitter", brightness=0.2, contrast=0.15, saturation=0, hue=0, p=1.0)
    pipeline, image = build_transforms([entry]), picture(3)
    results = [pipeline(image, seed) for seed in range(4)]
    assert all(torch.equal(pipeline(image, s), r) for s, r in enumerate(results))
    assert all(r.shape == (3, 48, 24) for r in results)
    assert len({r.numpy().tobytes() for r in results}) == 4
    with pytest.raises(ValueError, match="takes no argument 'brightnes'"):
        build_transforms([dict(type="ColorJitter", brightnes=0.2)])
