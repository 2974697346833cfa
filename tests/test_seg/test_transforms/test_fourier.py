from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("mmseg")

import cv2

from seg.transforms import FourierDomainAdaptation
from seg.transforms.fourier import exchange_amplitudes, from_low_frequencies, low_frequencies


def naive(image: np.ndarray, target: np.ndarray, half: int) -> np.ndarray:
    """The paper's formula with whole transforms, channel by channel."""
    out = np.zeros(image.shape)
    height, width = image.shape[:2]
    rows, columns = height // 2, width // 2  # where fftshift puts frequency zero
    block = np.s_[rows - half : rows + half + 1, columns - half : columns + half + 1]
    for c in range(image.shape[2]):
        own = np.fft.fftshift(np.fft.fft2(image[..., c].astype(np.float64)))
        other = np.fft.fftshift(np.fft.fft2(target[..., c].astype(np.float64)))
        amplitude, phase = np.abs(own), np.angle(own)
        amplitude[block] = np.abs(other)[block]
        spectrum = np.fft.ifftshift(amplitude * np.exp(1j * phase))
        result = np.fft.ifft2(spectrum)
        assert np.abs(result.imag).max() < 1e-6
        out[..., c] = result.real
    return np.rint(out).clip(0, 255).astype(np.uint8)


def _pair(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(height * width)
    small = generator.integers(0, 256, (2, 6, 8, 3), np.uint8)
    pair = [cv2.resize(s, (width, height), interpolation=cv2.INTER_CUBIC) for s in small]
    noise = generator.integers(-9, 10, (2, height, width, 3))
    first, second = (np.stack(pair) + noise).clip(0, 255).astype(np.uint8)
    return first, second


@pytest.mark.parametrize("size", [(16, 16), (15, 23), (24, 17), (64, 96), (2, 9), (1, 1)])
@pytest.mark.parametrize("share", [0.0, 0.09, 0.3, 0.49])
def test_equals_whole_transforms(size, share) -> None:
    image, target = _pair(*size)
    half = int(share * min(size))
    out = exchange_amplitudes(image, np.abs(low_frequencies(target, half)))
    difference = np.abs(out.astype(int) - naive(image, target, half))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01  # rounding of halves


def test_low_frequencies_are_numpys() -> None:
    image, _ = _pair(21, 30)
    whole = np.fft.fft2(image.astype(np.float64), axes=(0, 1))
    found = low_frequencies(image, 4)
    np.testing.assert_allclose(found, whole[:5, np.arange(-4, 5)], atol=1e-2, rtol=1e-4)


def test_low_pass_is_real_and_periodic() -> None:
    image, _ = _pair(20, 20)
    smooth = from_low_frequencies(low_frequencies(image, 0), 20, 20)
    np.testing.assert_allclose(smooth, np.broadcast_to(image.mean((0, 1)), smooth.shape), rtol=1e-4)


def test_own_amplitudes_change_nothing() -> None:
    image, _ = _pair(33, 50)
    out = exchange_amplitudes(image, np.abs(low_frequencies(image, 8)))
    np.testing.assert_array_equal(out, image)


def test_a_flat_image_takes_the_targets_brightness() -> None:
    flat = np.zeros((16, 16, 3), np.uint8)
    out = exchange_amplitudes(flat, np.abs(low_frequencies(np.full_like(flat, 200), 1)))
    np.testing.assert_array_equal(out, np.full_like(flat, 200))


@pytest.fixture
def target(tmp_path) -> str:
    for k in range(3):
        _, image = _pair(30 + k, 40)
        cv2.imwrite(str(tmp_path / f"{k}.png"), image)
    return str(tmp_path)


def test_transform(target) -> None:
    image, _ = _pair(31, 45)
    labels = np.arange(31 * 45, dtype=np.uint8).reshape(31, 45)
    step = FourierDomainAdaptation(target, beta=(0.01, 0.2), p=1.0)
    results = [
        step(
            dict(
                img=image.copy(), gt_seg_map=labels.copy(), seg_fields=["gt_seg_map"], sample_seed=s
            )
        )
        for s in range(6)
    ]
    for out in results:
        assert out["img"].dtype == np.uint8 and out["img"].shape == image.shape
        assert out["img"].flags.c_contiguous
        np.testing.assert_array_equal(out["gt_seg_map"], labels)
    assert len({out["img"].tobytes() for out in results}) >= 3  # images x block sizes
    other = pickle.loads(pickle.dumps(copy.deepcopy(step)))
    for s in reversed(range(6)):  # another order and an empty cache: the same pixels
        np.testing.assert_array_equal(
            other(dict(img=image, sample_seed=s))["img"], results[s]["img"]
        )


def test_the_target_is_scaled_to_the_image(tmp_path) -> None:
    image, big = _pair(40, 60)
    cv2.imwrite(str(tmp_path / "t.png"), big)
    crop = np.ascontiguousarray(image[:24, :36])
    step = FourierDomainAdaptation(tmp_path, beta=0.1, p=1.0)
    expected = naive(crop, cv2.resize(big, (36, 24), interpolation=cv2.INTER_AREA), 2)
    out = step(dict(img=crop))["img"]
    assert np.abs(out.astype(int) - expected).max() <= 1


def test_the_cache_is_bounded(target, monkeypatch) -> None:
    monkeypatch.setattr("seg.transforms.fourier.CACHE_BYTES", 1)
    step = FourierDomainAdaptation(target, p=1.0)
    image, _ = _pair(20, 20)
    for s in range(8):
        step(dict(img=image, sample_seed=s))
    assert len(step._cache) == 1


def test_bad_arguments(target, tmp_path) -> None:
    for beta in (-0.1, 0.5, (0.2, 0.1)):
        with pytest.raises(ValueError, match="beta"):
            FourierDomainAdaptation(target, beta=beta)
    with pytest.raises(ValueError, match="p is a probability"):
        FourierDomainAdaptation(target, p=1.5)
    with pytest.raises(FileNotFoundError, match="style images"):
        FourierDomainAdaptation(tmp_path / "no")
    assert "3 images" in repr(FourierDomainAdaptation(target))
