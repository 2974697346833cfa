from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import Tensor, nn

from backbones.norm import BIN
from engine.averaging_hook import EMAHook
from engine.checkpoints import latest_checkpoint
from engine.registry import HOOKS

from .conftest import Vectors

M = 0.3
EMA = dict(type="engine.EMAHook", momentum=M)


class Recorder(Hook):
    """The weights after every step, and those that validation sees."""

    priority = "HIGHEST"

    def __init__(self) -> None:
        self.trained: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        self.trained.append(state_of(runner.model))

    def before_val_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        self.validated.append(state_of(runner.model))


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in model.named_parameters()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def naive_average(start: dict[str, Tensor], weights: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    average = copy.deepcopy(start)
    for t, entry in enumerate(weights):
        m = max(M, 9 / (10 + t))
        average = {key: (1 - m) * average[key] + m * entry[key] for key in average}
    return average


def run(make_runner: Callable[..., Any], name: str = "run", **overrides: Any) -> Any:
    data = Vectors()
    hooks = overrides.pop("custom_hooks", [EMA])
    runner = make_runner(
        name,
        custom_hooks=[dict(type="engine.IterationSeedHook"), *hooks],
        val_dataloader=torch.utils.data.DataLoader(data, 12),
        val_cfg={},
        val_evaluator=Evaluator([]),
        **overrides,
    )
    runner.average_recorder = Recorder()
    runner.register_hook(runner.average_recorder)
    return runner


def test_average_is_validated_and_saved_and_training_does_not_notice(make_runner, tmp_path) -> None:
    plain = run(make_runner, "plain", custom_hooks=[])
    start = state_of(plain.model)
    plain.train()
    runner = run(make_runner)
    runner.train()
    record = runner.average_recorder
    assert all(
        same(a, b) for a, b in zip(record.trained, plain.average_recorder.trained, strict=True)
    )
    for epoch, seen in ((1, record.validated[0]), (2, record.validated[-1])):
        expected = naive_average(start, record.trained[: 6 * epoch])
        torch.testing.assert_close(seen, expected)
        saved = torch.load(tmp_path / "run" / f"epoch_{epoch}.pth", weights_only=False)
        torch.testing.assert_close(dict(saved["state_dict"]), expected)
        assert same(saved["trained_weights"], record.trained[6 * epoch - 1])
    torch.testing.assert_close(state_of(runner.model), naive_average(start, record.trained))


@pytest.mark.parametrize("longer", [False, True])
def test_resuming_goes_on_exactly(make_runner, tmp_path, longer) -> None:
    """Half-way, and from the end of a run that is made longer."""
    length = 3 if longer else 2
    cfg = dict(type="engine.EpochLoop", max_epochs=length)
    still = dict(param_scheduler=None)
    whole = run(make_runner, "whole", train_cfg=cfg, **still)
    whole.train()
    done = run(
        make_runner, "part", train_cfg=dict(type="engine.EpochLoop", max_epochs=length - 1), **still
    )
    done.train()
    resumed = run(make_runner, "part", resume=True, train_cfg=cfg, **still)
    resumed.train()
    assert latest_checkpoint(tmp_path / "part").name == f"epoch_{length}.pth"
    assert same(resumed.average_recorder.trained[-1], whole.average_recorder.trained[-1])
    assert same(state_of(resumed.model), state_of(whole.model))


def test_a_checkpoint_without_average_begins_one(make_runner) -> None:
    run(
        make_runner,
        "part",
        custom_hooks=[],
        train_cfg=dict(type="engine.EpochLoop", max_epochs=1),
    ).train()
    resumed = run(make_runner, "part", resume=True)
    resumed.train()
    assert len(resumed.average_recorder.trained) == 6
    assert not same(state_of(resumed.model), resumed.average_recorder.trained[-1])


def test_another_models_average_is_refused(make_runner) -> None:
    runner = run(make_runner)
    runner._resume = True
    hook = next(h for h in runner.hooks if isinstance(h, EMAHook))
    file = {"state_dict": runner.model.state_dict(), "trained_weights": {}}
    with pytest.raises(ValueError, match=r"has no 'linear.weight' in both"):
        hook.after_load_checkpoint(runner, file)


def test_testing_loads_the_average_strictly_and_once(make_runner, tmp_path) -> None:
    trained = run(make_runner)
    trained.train()
    file = str(tmp_path / "run" / "epoch_1.pth")
    tested = run(make_runner, "test", load_from=file)
    tested.load_or_resume()
    saved = torch.load(file, weights_only=False)
    assert same(state_of(tested.model), dict(saved["state_dict"]))
    tested.call_hook("before_test_epoch")
    assert same(state_of(tested.model), dict(saved["state_dict"]))


class Gated(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.linear = nn.Linear(4, 8)
        self.norm = BIN(8)

    def forward(self, inputs: Tensor, mode: str = "tensor", **_: Any) -> Any:
        out = self.norm(self.linear(inputs)[:, :, None, None].expand(-1, -1, 2, 2))
        return (
            {"square_loss": (out - self.norm.gate.sum()).square().mean()} if mode == "loss" else out
        )


def test_clamped_gates_are_averaged_and_statistics_measured_under_the_average(
    make_runner, tmp_path
) -> None:
    hooks = [dict(type="engine.CalibrationHook", num_batches=6), EMA]
    hooks.append(dict(type="engine.GateClampHook"))
    runner = run(make_runner, model=Gated(), custom_hooks=hooks)
    runner.train()
    saved = torch.load(tmp_path / "run" / "epoch_2.pth", weights_only=False)
    gate = saved["state_dict"]["norm.gate"]
    assert gate.min() >= 0 and gate.max() <= 1
    state = saved["state_dict"]
    with torch.no_grad():
        out = nn.functional.linear(Vectors().values, state["linear.weight"], state["linear.bias"])
    torch.testing.assert_close(state["norm.running_mean"].flatten(), out.mean(0))


class Tied(BaseModel):
    """One tensor under two names, as ILM's encoder."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Linear(4, 4)
        self.second = self.first

    def forward(self, inputs: Tensor, mode: str = "tensor", **_: Any) -> Any:
        out = self.second(self.first(inputs))
        return {"square_loss": out.square().mean()} if mode == "loss" else out


def test_shared_weights_stay_shared(make_runner, tmp_path) -> None:
    runner = run(make_runner, model=Tied())
    runner.train()
    for epoch in (1, 2):
        state = torch.load(tmp_path / "run" / f"epoch_{epoch}.pth", weights_only=False)[
            "state_dict"
        ]
        assert torch.equal(state["first.weight"], state["second.weight"])
    run(make_runner, model=Tied(), resume=True).train()


def test_until_its_begin_the_average_is_the_weights(make_runner, tmp_path) -> None:
    runner = run(make_runner, custom_hooks=[dict(EMA, begin_iter=6)])
    runner.train()
    saved = torch.load(tmp_path / "run" / "epoch_1.pth", weights_only=False)
    assert same(dict(saved["state_dict"]), runner.average_recorder.trained[5])
    assert not same(state_of(runner.model), runner.average_recorder.trained[-1])


@pytest.mark.parametrize("wrong", [dict(momentum=0.0), dict(momentum=1.5), dict(begin_iter=-1)])
def test_wrong_arguments(wrong) -> None:
    with pytest.raises(ValueError, match="EMAHook: expected 0 < momentum <= 1"):
        HOOKS.build({**EMA, **wrong})
