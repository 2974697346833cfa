"""Batch statistics over two processes equal those of the whole batch on one."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from backbones.norm import IBN


def _inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    x, gy = torch.randn(2, 5, 6, 4, 4, dtype=torch.float64)
    return x, gy


def _step(layer: nn.Module, x: Tensor, gy: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(gy)
    grads = {f"grad/{n}": p.grad for n, p in layer.named_parameters()}
    return {"y": y.detach(), "gx": x.grad, **grads, **dict(layer.named_buffers())}


def _process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder, "store")), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    layer = nn.SyncBatchNorm.convert_sync_batchnorm(IBN(6).double())
    assert isinstance(layer, IBN) and isinstance(layer.BN, nn.SyncBatchNorm)
    x, gy = (t[:2] if rank == 0 else t[2:] for t in _inputs())  # unequal shares
    torch.save(_step(layer, x, gy), Path(folder, f"{rank}.pt"))
    dist.barrier()
    dist.destroy_process_group()


def test_two_processes_equal_one_large_batch(tmp_path: Path) -> None:
    mp.spawn(_process, (str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, expected in _step(IBN(6).double(), *_inputs()).items():
        first, second = parts[0][name], parts[1][name]
        if name in ("y", "gx"):
            got = torch.cat([first, second])
        elif name.startswith("grad/"):
            got = first + second
        else:
            torch.testing.assert_close(first, second)
            got = first
        torch.testing.assert_close(got, expected, msg=lambda m, n=name: f"{n}: {m}")
