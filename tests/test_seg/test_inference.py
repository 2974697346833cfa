from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmseg")

from mmengine import Config
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.models import EncoderDecoder
from mmseg.structures import SegDataSample

from backbones.weights import CheckpointError
from seg.inference import Segmenter, build_model, classes_of
from seg.label_spaces import SPACES
from seg.registry import MODELS

MEAN, STD = [120.0, 110.0, 100.0], [60.0, 55.0, 50.0]


def config(classes: int = 19, pipeline=(), **model) -> Config:
    return Config(
        dict(
            default_scope="mmseg",
            model=dict(
                type="seg.Segmentor",
                data_preprocessor=dict(
                    type="SegDataPreProcessor", mean=MEAN, std=STD, bgr_to_rgb=True
                ),
                backbone=dict(type="backbones.CifarResNet", depth=8),
                decode_head=dict(
                    type="FCNHead",
                    in_index=2,
                    in_channels=64,
                    channels=16,
                    num_convs=1,
                    num_classes=classes,
                    norm_cfg=dict(type="BN"),
                ),
                auxiliary_head=dict(
                    type="FCNHead",
                    in_index=1,
                    in_channels=32,
                    channels=8,
                    num_convs=1,
                    num_classes=classes,
                    norm_cfg=dict(type="BN"),
                ),
            )
            | model,
            test_pipeline=[
                dict(type="seg.LoadImage"),
                *pipeline,
                dict(type="seg.LoadLabels"),
                dict(type="PackSegInputs"),
            ],
        )
    )


def build(cfg: Config):
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(cfg.model)
    for name, parameter in model.named_parameters():
        if "conv_seg" in name:
            torch.nn.init.normal_(parameter)
    return model.eval()


def save(model, path, **meta):
    torch.save({"state_dict": model.state_dict(), "meta": meta}, path)
    return path


@pytest.fixture
def image() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return cv2.resize(coarse, (61, 45), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def checkpoint(tmp_path):
    return save(build(config()), tmp_path / "last.pth")


SLIDE = dict(mode="slide", crop_size=(32, 32), stride=(20, 24))


@pytest.mark.parametrize("test_cfg", [dict(mode="whole"), SLIDE])
@pytest.mark.parametrize(
    "pipeline", [(), (dict(type="Resize", scale=(90, 64)),)], ids=["native", "resized"]
)
def test_labels_are_mmsegs(tmp_path, image, test_cfg, pipeline) -> None:
    """Read, resize, normalise and predict by hand with mmseg's own EncoderDecoder."""
    cfg = config(pipeline=pipeline, test_cfg=test_cfg)
    model = build(cfg)
    segmenter = Segmenter(cfg, save(model, tmp_path / "last.pth"), "cpu")
    pixels = cv2.resize(image, (90, 64), interpolation=cv2.INTER_LINEAR) if pipeline else image
    x = torch.from_numpy((pixels - np.array(MEAN)) / np.array(STD)).permute(2, 0, 1).float()
    meta = dict(
        ori_shape=image.shape[:2],
        img_shape=pixels.shape[:2],
        pad_shape=pixels.shape[:2],
        padding_size=[0] * 4,
    )
    with torch.no_grad():
        (sample,) = EncoderDecoder.predict(model, x[None], [SegDataSample(metainfo=meta)])
    assert isinstance(sample.pred_sem_seg, PixelData)
    labels = segmenter(image)
    assert labels.dtype == np.uint8 and labels.shape == image.shape[:2]
    assert len(np.unique(labels)) > 2
    assert (labels != sample.pred_sem_seg.data[0].numpy()).mean() < 0.002
    chances = segmenter.probabilities(image)
    np.testing.assert_allclose(chances, sample.seg_logits.data.softmax(0).numpy(), atol=1e-4)
    assert chances.shape == (19, *image.shape[:2]) and chances.dtype == np.float32
    assert (chances.argmax(0) == labels).all()


def test_paths_arrays_and_sequences(tmp_path, checkpoint, image) -> None:
    segmenter = Segmenter(config(), checkpoint, "cpu")
    path = tmp_path / "a.png"
    Image.fromarray(image).save(path)
    labels = segmenter(image)
    np.testing.assert_array_equal(segmenter(path), labels)
    np.testing.assert_array_equal(segmenter(str(path)), labels)
    several = segmenter([path, image[:20]])
    assert isinstance(several, list) and several[1].shape == (20, 61)
    np.testing.assert_array_equal(several[0], labels)
    assert len(segmenter(np.stack([image, image]))) == 2
    assert segmenter([]) == []


def test_kinds_of_files(tmp_path, checkpoint, image) -> None:
    segmenter = Segmenter(config(), checkpoint, "cpu")
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    expected = segmenter(np.dstack([grey] * 3))
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(segmenter(tmp_path / "grey.png"), expected)
    rgba = np.dstack([image, np.full(image.shape[:2], 9, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(segmenter(tmp_path / "rgba.png"), segmenter(image))
    cv2.imwrite(str(tmp_path / "deep.png"), grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(segmenter(tmp_path / "deep.png"), expected)


def test_unreadable_files_are_named(tmp_path, checkpoint) -> None:
    segmenter = Segmenter(config(), checkpoint, "cpu")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n1234")
    for name in ("broken.png", "absent.png"):
        with pytest.raises((ValueError, OSError), match=name):
            segmenter(tmp_path / name)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), "np.dstack"),
        (np.zeros((4, 4, 4), np.uint8), "alpha"),
        (np.zeros((4, 4, 3), np.uint16), ">> 8"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), "uint8"),
        (7, "got int"),
        (None, "got NoneType"),
    ],
)
def test_other_arrays_are_refused(checkpoint, image, message) -> None:
    with pytest.raises(ValueError, match=message):
        Segmenter(config(), checkpoint, "cpu")(image)


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1)])
@pytest.mark.parametrize("test_cfg", [dict(mode="whole"), SLIDE])
def test_tiny_images(checkpoint, size, test_cfg) -> None:
    segmenter = Segmenter(config(test_cfg=test_cfg), checkpoint, "cpu")
    assert segmenter(np.zeros((*size, 3), np.uint8)).shape == size


def test_test_cfg_can_be_replaced(checkpoint, image) -> None:
    whole = Segmenter(config(), checkpoint, "cpu")(image)
    slide = Segmenter(config(), checkpoint, "cpu", test_cfg=SLIDE)(image)
    same = Segmenter(config(test_cfg=SLIDE), checkpoint, "cpu")(image)
    assert (whole != slide).any()
    np.testing.assert_array_equal(slide, same)


def test_bfloat16(checkpoint, image) -> None:
    exact = Segmenter(config(), checkpoint, "cpu").probabilities(image)
    rough = Segmenter(config(), checkpoint, "cpu", dtype="bfloat16").probabilities(image)
    assert 0 < np.abs(exact - rough).max() < 0.2
    with pytest.raises(ValueError, match="int8"):
        Segmenter(config(), checkpoint, dtype="int8")


def test_mmsegs_own_segmentor(tmp_path, image) -> None:
    cfg = config(type="EncoderDecoder", auxiliary_head=None)
    model = build(cfg)
    labels = Segmenter(cfg, save(model, tmp_path / "a.pth"), "cpu")(image)
    np.testing.assert_array_equal(Segmenter(config(), tmp_path / "a.pth", "cpu")(image), labels)


def test_padding_of_the_preprocessor_is_cut_off(tmp_path, image) -> None:
    padded = dict(
        type="SegDataPreProcessor",
        mean=MEAN,
        std=STD,
        bgr_to_rgb=True,
        test_cfg=dict(size_divisor=32),
    )
    cfg = config(data_preprocessor=padded)
    assert Segmenter(cfg, None, "cpu")(image).shape == image.shape[:2]


class TestCheckpoint:
    def test_another_head(self, tmp_path) -> None:
        path = save(build(config(classes=11)), tmp_path / "camvid.pth")
        with pytest.raises(CheckpointError, match=r"decode_head\.conv_seg\.weight") as caught:
            Segmenter(config(), path)
        assert "camvid.pth" in str(caught.value) and "11" in str(caught.value)

    def test_a_backbone_alone(self, tmp_path) -> None:
        path = tmp_path / "backbone.pth"
        torch.save(build(config()).backbone.state_dict(), path)
        with pytest.raises(CheckpointError, match="missing"):
            Segmenter(config(), path)

    def test_absent_and_broken(self, tmp_path) -> None:
        with pytest.raises(FileNotFoundError, match=r"none\.pth"):
            Segmenter(config(), tmp_path / "none.pth")
        (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 cut")
        with pytest.raises(CheckpointError, match=r"broken\.pth"):
            Segmenter(config(), tmp_path / "broken.pth")

    def test_without_auxiliary_head(self, tmp_path, image) -> None:
        """What only training needs may be there or not."""
        model = build(config())
        state = model.state_dict()
        torch.save(state, tmp_path / "with.pth")
        lean = {k: v for k, v in state.items() if not k.startswith("auxiliary_head")}
        torch.save(lean, tmp_path / "without.pth")
        first, second = (
            Segmenter(config(), tmp_path / name, "cpu")(image)
            for name in ("with.pth", "without.pth")
        )
        np.testing.assert_array_equal(first, second)
        loaded, _ = build_model(config(), tmp_path / "with.pth")
        assert not any(k.startswith("auxiliary_head") for k in loaded.state_dict())


class TestClasses:
    def test_by_number(self, checkpoint) -> None:
        segmenter = Segmenter(config(), checkpoint, "cpu")
        assert segmenter.classes == SPACES["cityscapes19"].classes
        assert segmenter.palette == SPACES["cityscapes19"].palette

    def test_from_the_checkpoint(self, tmp_path) -> None:
        meta = dict(classes=["a", "b", "c"], palette=[[1, 2, 3]] * 3)
        path = save(build(config(3)), tmp_path / "own.pth", dataset_meta=meta)
        segmenter = Segmenter(config(3), path, "cpu")
        assert segmenter.classes == ("a", "b", "c") and segmenter.palette == ((1, 2, 3),) * 3

    def test_from_the_data_sets(self) -> None:
        dataset = dict(type="seg.CamVid", root="x", space="street7")
        cfg = Config(dict(test_dataloader=dict(camvid=dict(dataset=dataset))))
        assert classes_of(cfg, 7)[0] == SPACES["street7"].classes

    def test_unknown_number(self) -> None:
        names, palette = classes_of(Config({}), 43)
        assert names[42] == "class 42" and len(set(palette)) == 43


def test_config_errors(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="no config at"):
        Segmenter(tmp_path / "absent.py")
    with pytest.raises(ValueError, match="no model"):
        Segmenter(Config(dict(test_pipeline=[])))
    with pytest.raises(ValueError, match="no test_pipeline"):
        Segmenter(Config(dict(model=config().model)))
    unpacked = config()
    unpacked.test_pipeline = [dict(type="seg.LoadImage")]
    with pytest.raises(ValueError, match="PackSegInputs"):
        Segmenter(unpacked)(np.zeros((4, 4, 3), np.uint8))


@pytest.mark.slow
def test_large_image_in_bounded_memory(checkpoint) -> None:
    """19 classes at 8192x4096 would take 2.5 GB as logits."""
    code = """
import resource, sys
import numpy as np, torch
sys.path.insert(0, sys.argv[2])
from test_inference import Segmenter, config
torch.set_num_threads(1)
test_cfg = dict(mode="slide", crop_size=(512, 512), stride=(512, 512), batch_windows=1)
segmenter = Segmenter(config(test_cfg=test_cfg), sys.argv[1], "cpu")
image = np.zeros((4096, 8192, 3), np.uint8)
segmenter(image[:600, :600])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert segmenter(image).shape == (4096, 8192)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    here = Path(__file__)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(checkpoint), str(here.parent)],
        capture_output=True,
        text=True,
        cwd=here.parents[2],
        env={**os.environ, "PYTHONPATH": str(here.parents[2])},
    )
    assert done.returncode == 0, done.stderr
    # the image in float32, twice while it is normalised, is 800 MB of it
    assert float(done.stdout.split()[-1]) < 1600
