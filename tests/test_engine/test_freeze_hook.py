from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import Tensor, nn

from engine.freeze_hook import FreezeHook
from engine.registry import HOOKS


class Backboned(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
        self.backbone[1].bias.requires_grad_(False)  # not to be touched by the hook
        self.head = nn.Linear(8, 2)

    def forward(self, inputs: Tensor, mode: str = "tensor", **_: Any) -> Any:
        out = self.head(self.backbone(inputs))
        return {"square_loss": (out - 1).square().mean()} if mode == "loss" else out


class Watch(Hook):
    """Before and after each step: the backbone's state, what learns, which norms count."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.learns: list[bool] = []
        self.training: list[bool] = []

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        model = getattr(runner.model, "module", runner.model)
        self.states.append({k: v.clone() for k, v in model.state_dict().items()})
        self.learns.append(model.backbone[0].weight.requires_grad)
        self.training.append(model.backbone[1].training)
        assert model.training and model.head.training
        assert not model.backbone[1].bias.requires_grad


def run(make_runner: Callable[..., Any], name: str = "run", **overrides: Any) -> Any:
    hook = overrides.pop("hook", dict(type="engine.FreezeHook", iterations=8))
    hooks = [dict(type="engine.IterationSeedHook"), hook]
    runner = make_runner(name, model=Backboned(), custom_hooks=hooks, **overrides)
    runner.watch = Watch()
    runner.register_hook(runner.watch)
    return runner


def check(watch: Watch, frozen: int, start: dict[str, Tensor], before: int = 0) -> None:
    """``frozen`` of 12 iterations, of which ``before`` had been done."""
    expected = [iteration >= frozen for iteration in range(before, 12)]
    assert watch.learns == watch.training == expected
    previous = start
    for learns, state in zip(expected, watch.states, strict=True):
        for key, value in state.items():
            still = "backbone.1.bias" in key or ("backbone" in key and not learns)
            assert torch.equal(value, previous[key]) == still, key
        previous = state


@pytest.mark.parametrize(
    ("arguments", "frozen"),
    [(dict(iterations=8), 8), (dict(epochs=1), 6), (dict(iterations=1), 1)],
)
def test_frozen_then_learning(make_runner, arguments, frozen) -> None:
    runner = run(make_runner, hook=dict(type="engine.FreezeHook", **arguments))
    start = {k: v.clone() for k, v in runner.model.state_dict().items()}
    runner.train()
    check(runner.watch, frozen, start)


@pytest.mark.parametrize("frozen", [8, 3])
def test_a_resumed_run_is_where_the_whole_one_was(make_runner, frozen) -> None:
    hook = dict(type="engine.FreezeHook", iterations=frozen)
    whole = run(make_runner, "whole", hook=hook, param_scheduler=None)
    whole.train()
    once = dict(type="engine.EpochLoop", max_epochs=1)
    run(make_runner, "part", hook=hook, train_cfg=once, param_scheduler=None).train()
    resumed = run(make_runner, "part", hook=hook, resume=True, param_scheduler=None)
    resumed.train()
    check(resumed.watch, frozen, whole.watch.states[5], before=6)
    for key, value in whole.watch.states[-1].items():
        assert torch.equal(value, resumed.watch.states[-1][key]), key


def test_distributed_training_waits_for_no_frozen_parameter(make_runner, tmp_path) -> None:
    """DistributedDataParallel raises in the second step if a parameter has no gradient."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 's'}", rank=0, world_size=1)
    try:
        plain, wrapped = run(make_runner, "plain"), run(make_runner, "wrapped")
        wrapped._distributed = True
        wrapped.model = wrapped.wrap_model(None, wrapped.model)
        plain.train(), wrapped.train()
    finally:
        dist.destroy_process_group()
    assert isinstance(wrapped.model, nn.parallel.DistributedDataParallel)
    assert wrapped.watch.learns == [False] * 8 + [True] * 4
    for a, b in zip(plain.watch.states, wrapped.watch.states, strict=True):
        assert all(torch.equal(a[key], b[key]) for key in a)


def test_parts_by_their_dotted_names(make_runner) -> None:
    hook = dict(type="engine.FreezeHook", modules=["backbone.1", "head"], iterations=20)
    runner = run(make_runner, hook=hook)
    runner._hooks.remove(runner.watch)
    start = {k: v.clone() for k, v in runner.model.state_dict().items()}
    said: list[str] = []
    runner.logger.addFilter(lambda record: said.append(record.getMessage()) or True)
    runner.train()
    after = runner.model.state_dict()
    changed = {key for key in after if not torch.equal(after[key], start[key])}
    assert changed == {"backbone.0.weight", "backbone.0.bias"}
    assert any("frozen for 20 of 12 iterations: it never learns" in text for text in said)


def test_unknown_module(make_runner) -> None:
    runner = run(make_runner, hook=dict(type="engine.FreezeHook", modules=["neck"], epochs=1))
    with pytest.raises(ValueError, match=r"no module 'neck'; it has .*backbone, head"):
        runner.train()


@pytest.mark.parametrize(
    "wrong", [{}, dict(iterations=3, epochs=1), dict(epochs=0), dict(iterations=-1)]
)
def test_wrong_length(wrong) -> None:
    with pytest.raises(ValueError, match="either iterations or epochs"):
        HOOKS.build(dict(type="engine.FreezeHook", **wrong))


def test_modules_is_a_list() -> None:
    with pytest.raises(ValueError, match="modules is a list of names, got 'backbone'"):
        FreezeHook("backbone", epochs=1)
