"""A toy model and data, run by the real Runner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from engine.runner import Runner


class Vectors(Dataset[dict[str, Any]]):
    metainfo: ClassVar = {"name": "vectors"}

    def __init__(self, length: int = 24) -> None:
        self.values = torch.randn(length, 4, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"inputs": self.values[index], "path": f"image_{index}.jpg"}


class SkippingSampler(Sampler[int]):
    """Shuffles by (seed, epoch) and can begin anywhere, like this project's own samplers."""

    def __init__(self, dataset: Vectors) -> None:
        self.length, self.epoch, self.start = len(dataset), 0, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Any:
        order = torch.randperm(self.length, generator=torch.Generator().manual_seed(self.epoch))
        start, self.start = self.start, 0
        return iter(order[start:].tolist())


class Toy(BaseModel):
    """A linear layer with dropout, so that the model's own randomness matters."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.linear = nn.Linear(4, 2)
        self.dropout = nn.Dropout(0.5)
        self.poison_at: int | None = None
        self.calls = 0

    def forward(self, inputs: Tensor, mode: str = "tensor", **_: Any) -> Any:
        out = self.linear(self.dropout(inputs))
        if mode != "loss":
            return out
        self.calls += 1
        poison = torch.nan if self.calls == self.poison_at else 1.0
        return {"square_loss": out.float().square().mean() * poison}


class LossRecorder(Hook):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any, outputs: Any) -> None:
        self.losses.append(float(outputs["loss"].detach()))


@pytest.fixture
def make_runner(tmp_path: Path) -> Callable[..., Runner]:
    """``make_runner(name, **overrides)``: two epochs of six iterations; with ``.recorder``."""

    def make(name: str = "run", *, skips: bool = True, **overrides: Any) -> Runner:
        data = Vectors()
        sampler = SkippingSampler(data) if skips else DefaultSampler(data, seed=0)
        cfg: dict[str, Any] = {
            "cfg": {"precision": overrides.pop("precision", {})},
            "model": Toy(),
            "train_dataloader": DataLoader(data, 4, sampler=sampler),
            "train_cfg": dict(type="engine.EpochLoop", max_epochs=2),
            "optim_wrapper": dict(
                type="engine.AutocastOptimWrapper",
                dtype="float32",
                optimizer=dict(type="Adam", lr=0.01),
            ),
            "param_scheduler": [dict(type="MultiStepLR", milestones=[1], gamma=0.1)],
            "default_hooks": dict(checkpoint=dict(type="CheckpointHook", interval=1)),
            "custom_hooks": [
                dict(type="engine.IterationSeedHook"),
                dict(type="engine.NonFiniteLossHook"),
                dict(type="engine.ManifestHook"),
                dict(type="engine.StopSafelyHook"),
            ],
            "randomness": dict(seed=3),
            "work_dir": str(tmp_path / name),
            "experiment_name": f"{tmp_path.name}_{name}_{len(list(tmp_path.iterdir()))}",
            "log_level": "WARNING",
            **overrides,
        }
        runner = Runner(**cfg)  # objects instead of dicts, so not from_cfg
        runner.recorder = LossRecorder()
        runner.register_hook(runner.recorder)
        return runner

    return make
