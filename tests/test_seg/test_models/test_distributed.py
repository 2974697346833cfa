"""Two processes with half of a batch each learn what one process with all of it learns."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

pytest.importorskip("mmseg")

IMAGES = 4


def _model() -> Any:
    from mmengine.registry import init_default_scope

    from seg.registry import MODELS

    init_default_scope("mmseg")
    torch.manual_seed(0)
    head = {"channels": 8, "num_classes": 5, "dropout_ratio": 0.0, "norm_cfg": {"type": "BN"}}
    return MODELS.build(
        {
            "type": "seg.Segmentor",
            "backbone": {"type": "backbones.ResNet", "depth": 18, "ibn": "b"},
            "decode_head": head | {"type": "seg.DeepLabV3PlusHead", "c1_in_channels": None},
            "auxiliary_head": head | {"type": "FCNHead", "in_index": 2},
            "feature_losses": [
                {
                    "type": "seg.InstanceSelectiveWhitening",
                    "features": ("bn1", "layer1.-1.IN"),
                    "start": 0,
                    "statistics_images": IMAGES,
                }
            ],
            # a copy without chance: blurred, always as much
            "photometric": dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
            | {"blur": (1.0, 1.0)},
        }
    )


def _step(model: Any, share: slice, wrap: Any = None) -> dict[str, torch.Tensor]:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    torch.manual_seed(1)
    x = 3 * torch.randn(IMAGES, 3, 64, 64)
    labels = torch.randint(0, 5, (IMAGES, 1, 64, 64))
    batch = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels[share]]
    losses = (wrap or model)(x[share], batch, mode="loss")
    sum(v for k, v in losses.items() if "loss" in k).backward()
    result = {f"loss/{k}": v.detach() for k, v in losses.items() if "loss" in k}
    result |= {f"grad/{k}": p.grad for k, p in model.named_parameters()}
    return result | {f"buffer/{k}": b for k, b in model.named_buffers()}


def _process(rank: int, folder: str) -> None:
    from torch.nn.parallel import DistributedDataParallel

    from backbones import sync_norms

    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder, "store")), 2)
    dist.init_process_group(
        "gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    model = sync_norms(_model())
    wrapped = DistributedDataParallel(model, broadcast_buffers=False)
    found = _step(model, slice(2 * rank, 2 * rank + 2), wrapped)
    torch.save(found, Path(folder, f"{rank}.pt"))
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="needs the gloo backend"
)
def test_two_processes_equal_one(tmp_path) -> None:
    mp.spawn(_process, (str(tmp_path),), nprocs=2)
    expected = _step(_model(), slice(None))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert first.keys() == expected.keys()
    assert int(expected["buffer/feature_losses.0.mask_0"].sum()) > 0
    for key, value in expected.items():
        if key.startswith("loss/"):
            torch.testing.assert_close((first[key] + second[key]) / 2, value)
            continue
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(
            first[key], value, rtol=1e-3, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}"
        )


def test_every_batch_norm_is_synchronised() -> None:
    from torch import nn

    from backbones import sync_norms

    model = sync_norms(_model())
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) > 20
    assert all(m.sync for m in norms)
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in model.modules())
