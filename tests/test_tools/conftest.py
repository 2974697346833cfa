"""A small world for the tools: two drawn cities, a config of a few seconds, a trained model."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

ROOT = Path(__file__).parent.parent.parent

CONFIG = """
_base_ = {base!r}

train_pipeline = [
    dict(type="Resize", height=64, width=32),
    dict(type="HorizontalFlip", p=0.5),
    dict(type="RandomErasing", p=0.5),
]
test_pipeline = [dict(type="Resize", height=64, width=32)]
_test = dict(num_workers=0, dataset=dict(transforms=test_pipeline))

precision = dict(_delete_=True)
train_dataloader = dict(
    batch_size=8,
    num_workers={workers},
    persistent_workers={workers} > 0,
    dataset=dict(root={noon!r}, transforms=train_pipeline),
    sampler=dict(identities=4, instances=2, iterations=4),
)
test_dataloader = dict(
    noon=dict(num_workers=0, dataset=dict(root={noon!r}, transforms=test_pipeline)),
    dusk=dict(num_workers=0, dataset=dict(root={dusk!r}, transforms=test_pipeline)),
)
val_dataloader = test_dataloader
train_cfg = dict(max_epochs=2, val_interval=2)
param_scheduler = [dict(type="MultiStepLR", milestones=[1], gamma=0.1)]
optim_wrapper = dict(type="engine.AutocastOptimWrapper", dtype="float32")
default_hooks = dict(logger=dict(interval=1))
visualizer = None
"""


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``noon``, ``dusk`` and ``tiny.py``."""
    from reid.synthetic import make_city

    folder = tmp_path_factory.mktemp("world")
    for city in ("noon", "dusk"):
        make_city(folder / city, city, identities=12, cameras=2, images_per_camera=3, size=(64, 32))
    for name, workers in (("tiny", 0), ("tiny_workers", 2)):
        text = CONFIG.format(
            base=str(ROOT / "configs/reid/resnet18_ibn_a_small_synthetic.py"),
            noon=str(folder / "noon"),
            dusk=str(folder / "dusk"),
            workers=workers,
        )
        (folder / f"{name}.py").write_text(text)
    return folder


def forget_runs() -> None:
    """Loggers and the like are named by the second of their start: one run must not write to the
    streams of another that began in the same second of this process."""
    for kind in (MMLogger, MessageHub, Visualizer, DefaultScope):
        kind._instance_dict.clear()


@pytest.fixture
def tool(monkeypatch, capfd) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """``tool("train_reid", *arguments)`` -> exit code, stdout, stderr; runs in this process."""

    def run(name: str, *arguments: object) -> tuple[int, str, str]:
        from engine.cli import run_tool

        path = ROOT / "tools" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"tools_{name}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            run_tool(module.main)
        out, err = capfd.readouterr()
        return int(caught.value.code or 0), out, err

    yield run
    forget_runs()


@pytest.fixture
def trained(world, tool) -> Path:
    """A checkpoint of two tiny epochs, made once."""
    checkpoint = world / "run" / "epoch_2.pth"
    if not checkpoint.exists():
        code, _, err = tool("train_reid", world / "tiny.py", "--work-dir", world / "run")
        assert code == 0, err
    return checkpoint
