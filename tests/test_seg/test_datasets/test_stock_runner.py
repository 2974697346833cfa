"""Our datasets in a stock mmseg config, run by mmengine's own Runner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmseg")

from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

NORM = {"type": "BN", "requires_grad": True}


def make_gta5(root: Path) -> None:
    """Four images of 32x48, left road and right car, whose labels are palette PNGs."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True)
    for i in range(1, 5):
        ids = np.full((32, 48), 7, np.uint8)
        ids[:, 24:] = 26
        label = Image.fromarray(ids)
        label.putpalette(rng.integers(0, 255, 768, dtype=np.uint8).tolist())
        label.save(root / "labels" / f"{i:05d}.png")
        noise = rng.integers(0, 60, (32, 48, 3), dtype=np.uint8)
        Image.fromarray(noise + (ids[..., None] * 5)).save(root / "images" / f"{i:05d}.png")
    (root / "train.txt").write_text("00001.png\n00002.png\n00003.png\n")
    (root / "val.txt").write_text("00004.png\n")


def config(root: Path, work_dir: Path, load: list[dict[str, Any]]) -> Config:
    model = {
        "type": "EncoderDecoder",
        "data_preprocessor": {
            "type": "SegDataPreProcessor",
            "size": (32, 32),
            "mean": [127.0] * 3,
            "std": [60.0] * 3,
            "bgr_to_rgb": True,
            "pad_val": 0,
            "seg_pad_val": 255,
        },
        "backbone": {
            "type": "ResNetV1c",
            "depth": 18,
            "num_stages": 1,
            "strides": (1,),
            "dilations": (1,),
            "out_indices": (0,),
            "norm_cfg": NORM,
        },
        "decode_head": {
            "type": "FCNHead",
            "in_channels": 64,
            "channels": 8,
            "num_convs": 1,
            "concat_input": False,
            "num_classes": 19,
            "norm_cfg": NORM,
        },
        "test_cfg": {"mode": "whole"},
    }

    def loader(split: str, pipeline: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        return {
            "batch_size": more.pop("batch_size", 1),
            "num_workers": more.pop("num_workers", 0),
            "sampler": {"type": more.pop("sampler", "DefaultSampler"), "shuffle": split == "train"},
            "dataset": {
                "type": "seg.GTA5", "root": str(root), "split": split, "pipeline": pipeline, **more
            },
        }  # fmt: skip

    crop = [{"type": "RandomCrop", "crop_size": (32, 32)}]
    packed = [{"type": "PackSegInputs"}]
    return Config(
        {
            "default_scope": "mmseg",
            "model": model,
            "work_dir": str(work_dir),
            "train_dataloader": loader(
                "train",
                load + crop + packed,
                batch_size=3,
                num_workers=1,
                drop="robustnet",
                sampler="InfiniteSampler",
            ),
            "val_dataloader": loader("val", load + packed, test_mode=True),
            "val_evaluator": {"type": "IoUMetric"},
            "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": 6, "val_interval": 6},
            "val_cfg": {"type": "ValLoop"},
            "optim_wrapper": {
                "type": "OptimWrapper",
                "optimizer": {"type": "SGD", "lr": 0.05, "momentum": 0.9},
            },
            "default_hooks": {"checkpoint": None},
            "log_level": "ERROR",
        }
    )


@pytest.mark.parametrize(
    "load",
    [
        [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}],
        [{"type": "seg.LoadImage"}, {"type": "seg.LoadLabels"}],
    ],
    ids=["stock", "own"],
)
def test_it_trains_and_validates(tmp_path: Path, load: list[dict[str, Any]]) -> None:
    make_gta5(tmp_path / "gta5")
    cfg = config(tmp_path / "gta5", tmp_path / "work", load)
    cfg.experiment_name = f"{tmp_path.name}_{load[0]['type']}"
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.message_hub.get_scalar("train/loss").current() < 3.0  # log(19) is 2.94
    assert runner.val_dataloader.dataset.metainfo["num_images"] == 1
    results = runner.val_loop.run()
    assert 0 <= results["mIoU"] <= 100
