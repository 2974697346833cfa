from __future__ import annotations

import copy
import pickle
from functools import partial

import numpy as np
import pytest

pytest.importorskip("mmseg")

import cv2
from mmseg.registry import TRANSFORMS

from seg.transforms import StyleRandomization
from seg.transforms.style import StyleTransform


@pytest.fixture
def image() -> np.ndarray:
    grid = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(grid, (40, 30), interpolation=cv2.INTER_CUBIC)


class Mark(StyleTransform):
    def restyle(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return np.flip(255 - image, 1)  # not contiguous


def test_p_is_respected(image) -> None:
    step = Mark(p=0.3)
    outs = [step(dict(img=image, sample_seed=s))["img"] for s in range(1000)]
    changed = sum(out is not image for out in outs)
    assert 250 < changed < 350
    assert all(out.flags.c_contiguous for out in outs)
    assert Mark(p=0.0)(dict(img=image))["img"] is image
    assert Mark(p=1.0)(dict(img=image))["img"] is not image


@pytest.mark.parametrize(
    "bad",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
)
def test_bad_images_are_named(bad) -> None:
    with pytest.raises(ValueError, match=r"Mark: expected an \(H, W, 3\) uint8.*street\.png"):
        Mark()(dict(img=bad, img_path="a/street.png"))
    with pytest.raises(ValueError, match=r"put seg\.LoadImage"):
        Mark()({})


def test_all_methods_are_used(image, tmp_path) -> None:
    cv2.imwrite(str(tmp_path / "t.png"), image[::-1])
    step = TRANSFORMS.build(
        dict(
            type="seg.StyleRandomization",
            target=str(tmp_path),
            methods=("colour", "convolution", "fourier"),
            p=1.0,
        )
    )
    used: list[str] = []

    def note(kind: str, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        used.append(kind)
        return image.copy()

    for inner in step.transforms:
        inner.restyle = partial(note, type(inner).__name__)
    for s in range(60):
        step(dict(img=image, sample_seed=s))
    assert set(used) == {"ColourTransfer", "RandomConvolution", "FourierDomainAdaptation"}
    assert min(used.count(kind) for kind in set(used)) > 8


def test_repeatable_and_copyable(image) -> None:
    step = StyleRandomization(p=0.7)
    labels = np.full((30, 40), 3, np.uint8)
    outs = [step(dict(img=image, gt_seg_map=labels, sample_seed=s)) for s in range(8)]
    assert all(np.array_equal(out["gt_seg_map"], labels) for out in outs)
    for other in (copy.deepcopy(step), pickle.loads(pickle.dumps(step))):
        for s in reversed(range(8)):
            np.testing.assert_array_equal(
                other(dict(img=image, sample_seed=s))["img"], outs[s]["img"]
            )
    assert "ColourTransfer" in repr(step)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="methods are some of"):
        StyleRandomization(methods=("color",))
    with pytest.raises(ValueError, match="methods are some of"):
        StyleRandomization(methods=())
    with pytest.raises(ValueError, match="needs target"):
        StyleRandomization(methods="fourier")
