from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("mmseg")

from seg.inference import Segmenter, build_model
from seg.label_spaces import SPACES
from seg.transforms.loading import read_image
from seg.visualization import comparison

CONFIG = """
default_scope = "mmseg"
model = dict(
    type="seg.Segmentor",
    data_preprocessor=dict(
        type="SegDataPreProcessor", mean=[120, 110, 100], std=[60, 60, 60], bgr_to_rgb=True
    ),
    backbone=dict(type="backbones.CifarResNet", depth=8),
    decode_head=dict(
        type="FCNHead", in_index=2, in_channels=64, channels=16, num_convs=1,
        num_classes=7, norm_cfg=dict(type="BN"),
    ),
)
test_pipeline = [
    dict(type="seg.LoadImage"), dict(type="seg.LoadLabels"), dict(type="PackSegInputs")
]
test_dataloader = dict(
    camvid=dict(
        batch_size=1,
        num_workers=0,
        dataset=dict(
            type="seg.CamVid", root={root!r}, split="val", pipeline=test_pipeline, test_mode=True
        ),
        sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    ),
)
"""


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    root = tmp_path / "camvid"
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(5):
            coarse = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
            image = cv2.resize(coarse, (50, 40), interpolation=cv2.INTER_CUBIC)
            labels = rng.integers(0, 12, (40, 50)).astype(np.uint8)
            cv2.imwrite(str(root / "images" / split / f"s{i}.png"), image)
            cv2.imwrite(str(root / "labels" / split / f"s{i}.png"), labels)
    return root


@pytest.fixture
def model(tmp_path: Path, streets: Path) -> tuple[Path, Path]:
    from engine.cli import load_config

    config, checkpoint = tmp_path / "tiny.py", tmp_path / "tiny.pth"
    config.write_text(CONFIG.format(root=str(streets)))
    network, _ = build_model(load_config(config))
    torch.nn.init.normal_(network.decode_head.conv_seg.weight)
    torch.save({"state_dict": network.state_dict(), "meta": {}}, checkpoint)
    return config, checkpoint


def test_a_domain(tool, model, streets, tmp_path) -> None:
    out = tmp_path / "new" / "pictures"
    run = ("visualize", "segmentation", *model, "--domain", "camvid", "--limit", 2)
    code, text, err = tool(*run, "--out", out, "--panel-width", 100)
    assert code == 0, err
    assert sorted(p.name for p in out.iterdir()) == ["000_s0.png", "001_s2.png"]
    assert "2 pictures" in text and "2/2" in err

    # by hand: CamVid's ids in seven classes, void and Bicyclist ignored
    seven = np.array([6, 5, 4, 0, 1, 5, 4, 4, 3, 2, 255, 255], np.uint8)
    truth = seven[cv2.imread(str(streets / "labels/val/s2.png"), cv2.IMREAD_UNCHANGED)]
    image = read_image(streets / "images/val/s2.png")
    space = SPACES["street7"]
    prediction = Segmenter(*model, "cpu")(image)
    expected = comparison(
        image, truth, prediction, space.palette, space.classes, title="s2", panel_width=100
    )
    np.testing.assert_array_equal(read_image(out / "001_s2.png"), expected)


def test_images_on_a_sheet(tool, model, streets, tmp_path) -> None:
    out = tmp_path / "sheet.png"
    images = [streets / "images/val" / f"s{i}.png" for i in (0, 1, 2)]
    code, text, err = tool(
        *("visualize", "segmentation", *model, "--images", *images),
        *("--out", out, "--panel-width", 120, "--columns", 2),
    )
    assert code == 0, err
    assert read_image(out).shape[1] == 2 * 120 + 6 + 24 and str(out) in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--domain", "gta5"), "it has 'camvid'"),
        (("--images", "absent.png"), "no image at absent.png"),
        (("--domain", "camvid", "--limit", "0"), "--limit"),
        (("--domain", "camvid", "--columns", "0"), "--columns"),
        (("--domain", "camvid", "--out", "x.jpg"), "--out"),
    ],
)
def test_mistakes(tool, model, monkeypatch, tmp_path, options, message) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = tool("visualize", "segmentation", *model, *options)
    assert code == 1 and message in err and err.count("\n") == 1


def test_domain_or_images(tool, model) -> None:
    code, _, err = tool("visualize", "segmentation", *model)
    assert code == 2 and "--domain" in err
