"""Our networks in stock mmseg configs, run by mmengine's own Runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmseg")

from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image


def make_data(root: Path) -> None:
    """Six images of 48x64 whose left and right halves are two classes, as mmseg's layout."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(3):
            label = np.zeros((48, 64), np.uint8)
            label[:, 32:] = 1
            image = rng.integers(0, 60, (48, 64, 3)) + 150 * label[..., None]
            Image.fromarray(image.astype(np.uint8)).save(root / "images" / split / f"{i}.png")
            Image.fromarray(label).save(root / "labels" / split / f"{i}.png")


def stock_config(root: Path, work_dir: Path, model: dict[str, Any]) -> Config:
    """What somebody who knows mmseg would write."""
    load = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]
    crop = [dict(type="RandomCrop", crop_size=(32, 32)), dict(type="RandomFlip", prob=0.5)]

    def loader(split: str, pipeline: list[Any], batch_size: int, sampler: str) -> dict[str, Any]:
        return dict(
            batch_size=batch_size,
            num_workers=0,
            sampler=dict(type=sampler, shuffle=split == "train"),
            dataset=dict(
                type="BaseSegDataset",
                data_root=str(root),
                data_prefix=dict(img_path=f"images/{split}", seg_map_path=f"labels/{split}"),
                img_suffix=".png",
                seg_map_suffix=".png",
                metainfo=dict(classes=("left", "right"), palette=[[0, 0, 0], [255, 0, 0]]),
                pipeline=pipeline,
                reduce_zero_label=False,
            ),
        )

    packed = [dict(type="PackSegInputs")]
    return Config(
        dict(
            default_scope="mmseg",
            model=model,
            work_dir=str(work_dir),
            train_dataloader=loader("train", load + crop + packed, 2, "InfiniteSampler"),
            val_dataloader=loader("val", load + packed, 1, "DefaultSampler"),
            val_evaluator=dict(type="IoUMetric", iou_metrics=["mIoU"]),
            train_cfg=dict(type="IterBasedTrainLoop", max_iters=2, val_interval=2),
            val_cfg=dict(type="ValLoop"),
            optim_wrapper=dict(
                type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01, momentum=0.9)
            ),
            default_hooks=dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2)),
            log_level="ERROR",
        )
    )


def model(kind: str, **overrides: Any) -> dict[str, Any]:
    head = dict(
        type="FCNHead",
        in_channels=512,
        in_index=3,
        channels=16,
        num_convs=1,
        concat_input=False,
        num_classes=2,
        norm_cfg=dict(type="BN", requires_grad=True),
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    )
    return (
        dict(
            type=kind,
            data_preprocessor=dict(
                type="SegDataPreProcessor",
                mean=[123.675, 116.28, 103.53],
                std=[58.395, 57.12, 57.375],
                bgr_to_rgb=True,
                size=(32, 32),
            ),
            backbone=dict(type="backbones.ResNet", depth=18, ibn="a", strides=(1, 2, 1, 1)),
            decode_head=head,
            auxiliary_head=head | dict(in_channels=256, in_index=2),
            test_cfg=dict(mode="whole"),
        )
        | overrides
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("stock", model("EncoderDecoder")),
        (
            "norms",
            model(
                "EncoderDecoder",
                backbone=dict(type="ResNet", depth=18, norm_cfg=dict(type="backbones.SN")),
            ),
        ),
        (
            "ours",
            model(
                "seg.Segmentor",
                feature_losses=[dict(type="seg.InstanceWhitening", features=("layer1",))],
                style=[dict(type="seg.MixStyle", after=("layer1",))],
            ),
        ),
    ],
)
def test_trains_and_validates(tmp_path, name: str, config: dict[str, Any]) -> None:
    make_data(tmp_path / "data")
    runner = Runner.from_cfg(stock_config(tmp_path / "data", tmp_path / name, config))
    before = runner.model.backbone.conv1.weight.clone()
    runner.train()
    assert not torch.equal(runner.model.backbone.conv1.weight, before)
    scalars = runner.message_hub.log_scalars
    assert np.isfinite(scalars["train/loss"].current())
    assert 0 <= scalars["val/mIoU"].current() <= 100
    assert (tmp_path / name / "iter_2.pth").exists()
