from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config

from backbones.weights import CheckpointError
from reid.datasets import UnreadableImageError
from reid.inference import FeatureExtractor, compare
from reid.threshold import Threshold, threshold_path

CONFIG = Path(__file__).parent.parent.parent / "configs/reid/resnet18_ibn_a_small_market1501.py"


@pytest.fixture(scope="module")
def extractor() -> FeatureExtractor:
    torch.manual_seed(0)
    return FeatureExtractor(CONFIG, device="cpu", batch_size=3)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        rng.integers(0, 256, (h, w, 3), np.uint8) for h, w in [(128, 64), (50, 30), (200, 90)] * 2
    ]


def test_arrays_paths_and_batches_agree(extractor, images, tmp_path) -> None:
    for i, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"{i}.png"), image[..., ::-1])
    from_arrays = extractor(images)
    assert from_arrays.shape == (6, extractor.dim) and from_arrays.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(from_arrays, axis=1), 1, rtol=1e-5)
    from_paths = extractor([tmp_path / f"{i}.png" for i in range(6)])
    np.testing.assert_array_equal(from_arrays, from_paths)
    batch = torch.stack([extractor.transforms(image) for image in images])
    np.testing.assert_allclose(extractor(batch), from_arrays, atol=1e-6)
    one = extractor(str(tmp_path / "1.png"))
    np.testing.assert_allclose(one, from_arrays[1:2], atol=1e-5)
    np.testing.assert_allclose(extractor(images[1]), one, atol=1e-6)


def test_nothing_gives_nothing(extractor) -> None:
    assert extractor([]).shape == (0, extractor.dim)


def test_a_long_list_is_read_by_other_processes(extractor, images, tmp_path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path, image in zip(paths, images, strict=True):
        cv2.imwrite(str(path), image[..., ::-1])
    np.testing.assert_array_equal(extractor(paths, workers=2), extractor(paths))
    paths[4].write_bytes(b"broken")
    with pytest.raises(UnreadableImageError, match=r"4\.png"):
        extractor(paths, workers=2)


def test_a_broken_model_is_refused_with_the_image(images) -> None:
    broken = FeatureExtractor(CONFIG, device="cpu", batch_size=2)
    with torch.no_grad():
        broken.model.neck.weight[0] = float("inf")
    with pytest.raises(ValueError, match="not finite, first image 0"):
        broken(images)
    with pytest.raises(ValueError, match="not finite, first image 0"):
        broken(torch.zeros(1, 3, 128, 64, dtype=torch.uint8))


def test_arithmetic_follows_the_config_and_the_caller(extractor, images) -> None:
    config = Config.fromfile(str(CONFIG))
    config.precision = dict(dtype="float32", eval_dtype="bfloat16", channels_last=True)
    torch.manual_seed(0)
    half = FeatureExtractor(config, device="cpu")
    assert extractor.dtype == "float32" and half.dtype == "bfloat16"
    close, exact = half(images), extractor(images)
    assert close.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(close, axis=1), 1, rtol=1e-5)
    assert not np.array_equal(close, exact)
    assert (close * exact).sum(1).min() > 0.995
    assert FeatureExtractor(config, device="cpu", dtype="float32").dtype == "float32"
    with pytest.raises(ValueError, match="dtype: expected one of"):
        FeatureExtractor(CONFIG, device="cpu", dtype="int8")
    with pytest.raises(ValueError, match="batch_size"):
        FeatureExtractor(CONFIG, device="cpu", batch_size=0)


@pytest.fixture
def calibrated(extractor, tmp_path) -> tuple[Path, Threshold]:
    """Weights with a threshold beside them."""
    weights = tmp_path / "model.pth"
    torch.save({"state_dict": extractor.model.state_dict()}, weights)
    threshold = Threshold(
        0.5,
        far=0.01,
        frr=0.25,
        far_interval=(0.005, 0.02),
        frr_interval=(0.2, 0.3),
        model=extractor.fingerprint,
        protocol={"data": "campus", "genuine_pairs": 400, "impostor_pairs": 1000},
    )
    threshold.write(threshold_path(weights))
    return weights, threshold


def test_a_threshold_beside_the_weights_is_found(calibrated) -> None:
    weights, threshold = calibrated
    assert FeatureExtractor(CONFIG, weights, "cpu").threshold == threshold
    assert FeatureExtractor(CONFIG, weights, "cpu", threshold=False).threshold is None
    assert FeatureExtractor(CONFIG, weights, "cpu", threshold=0.7).threshold == Threshold(0.7)
    path = threshold_path(weights)
    assert FeatureExtractor(CONFIG, device="cpu").threshold is None
    for given in (path, str(path), threshold):
        assert FeatureExtractor(CONFIG, weights, "cpu", threshold=given).threshold == threshold


def test_a_threshold_of_another_model_is_refused(calibrated, images) -> None:
    weights, threshold = calibrated
    other = FeatureExtractor(CONFIG, device="cpu")  # other weights
    torch.save({"state_dict": other.model.state_dict()}, weights)
    with pytest.raises(ValueError, match=r"calibrated for the model .*threshold=False"):
        FeatureExtractor(CONFIG, weights, "cpu")
    for given in (threshold, threshold_path(weights)):
        with pytest.raises(ValueError, match="calibrated for the model"):
            FeatureExtractor(CONFIG, weights, "cpu", threshold=given)
        with pytest.raises(ValueError, match="calibrated for the model"):
            compare(other, images[0], images[1], given)
    assert FeatureExtractor(CONFIG, weights, "cpu", threshold=False).threshold is None


def test_the_answer_tells_how_often_it_errs(calibrated, images) -> None:
    weights, threshold = calibrated
    extractor = FeatureExtractor(CONFIG, weights, "cpu")
    same = compare(extractor, images[0], images[0])
    assert same.same and same.expected_error == 0.01 and same.calibration == threshold
    assert "same identity" in str(same) and "1% of pairs of two different identities" in str(same)
    assert "0.5% to 2%" in str(same) and "campus: 400 genuine and 1,000 impostor pairs" in str(same)
    high = FeatureExtractor(CONFIG, weights, "cpu", threshold=replace(threshold, value=1.1))
    different = compare(high, images[0], images[1])
    assert not different.same and different.expected_error == 0.25
    assert "25% of pairs of one identity" in str(different)


def test_no_threshold_says_how_to_get_one(extractor, images) -> None:
    with pytest.raises(ValueError, match=r"calibrate_threshold\.py"):
        compare(extractor, images[0], images[1])
    given = compare(extractor, images[0], images[1], 0.6)
    assert given.threshold == 0.6 and given.expected_error is None
    assert "unknown" in str(given)
    with pytest.raises(ValueError, match="finite number"):
        compare(extractor, images[0], images[1], float("nan"))


def test_compare(extractor, images) -> None:
    same = compare(extractor, images[0], images[0], threshold=0.99)
    assert same.same and same.score == pytest.approx(1, abs=1e-5)
    assert not compare(extractor, images[0], images[1], threshold=1.01).same


def test_fingerprint_follows_the_weights(extractor, tmp_path) -> None:
    torch.save({"state_dict": extractor.model.state_dict()}, tmp_path / "model.pth")
    again = FeatureExtractor(CONFIG, tmp_path / "model.pth", "cpu")
    assert again.fingerprint == extractor.fingerprint
    assert FeatureExtractor(CONFIG, device="cpu").fingerprint != extractor.fingerprint


def test_weights_of_another_network(tmp_path) -> None:
    other = CONFIG.with_name("resnet18_small_market1501.py")
    model = FeatureExtractor(other, device="cpu").model
    torch.save({"state_dict": model.state_dict()}, tmp_path / "bn.pth")
    with pytest.raises(CheckpointError, match="bn1"):
        FeatureExtractor(CONFIG, tmp_path / "bn.pth", "cpu")


@pytest.mark.parametrize(
    "wrong",
    [
        torch.zeros(2, 3, 8, 8),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
        [np.zeros((8, 0, 3), np.uint8)],
        [3],
        3,
        iter(["a.jpg"]),
    ],
)
def test_wrong_input(extractor, wrong) -> None:
    with pytest.raises(ValueError, match="uint8 RGB"):
        extractor(wrong if not isinstance(wrong, np.ndarray) else [wrong])


def test_unreadable_image(extractor, tmp_path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not an image")
    with pytest.raises(UnreadableImageError, match=r"broken\.jpg"):
        extractor(tmp_path / "broken.jpg")


def test_config_without_test_pipeline() -> None:
    with pytest.raises(ValueError, match="no test_pipeline"):
        FeatureExtractor(Config(dict(model={})))


def test_fingerprint_follows_the_preparation(extractor, tmp_path) -> None:
    torch.save({"state_dict": extractor.model.state_dict()}, tmp_path / "model.pth")
    for change in ["model.test_feature=feature", "test_pipeline"]:
        config = Config.fromfile(str(CONFIG))
        if change == "test_pipeline":
            config.test_pipeline = [dict(type="Resize", height=64, width=32)]
        else:
            config.model.test_feature = "feature"
        other = FeatureExtractor(config, tmp_path / "model.pth", "cpu")
        assert other.fingerprint != extractor.fingerprint
