from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine import Config

from backbones.weights import CheckpointError
from reid.datasets import UnreadableImageError
from reid.inference import FeatureExtractor, compare

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
        [3],
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
