from __future__ import annotations

import json
import signal

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch import nn

from backbones.norm import BIN
from engine.hooks import GateClampHook, NonFiniteLossError, StoppedBySignal
from engine.registry import HOOKS


def test_nan_stops_with_the_images_named_and_no_checkpoint_after_it(make_runner, tmp_path) -> None:
    runner = make_runner()
    runner.model.poison_at = 8
    with pytest.raises(NonFiniteLossError, match=r"square_loss.*iteration 8.*--resume"):
        runner.train()
    report = json.loads((tmp_path / "run" / "nonfinite_loss_iter_8.json").read_text())
    assert report["iteration"] == 8 and len(report["paths"]) == 4
    assert all(path.startswith("image_") for path in report["paths"])
    assert {p.name for p in (tmp_path / "run").glob("*.pth")} == {"epoch_1.pth"}
    state = torch.load(tmp_path / "run" / "epoch_1.pth", weights_only=False)["state_dict"]
    assert all(value.isfinite().all() for value in state.values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_writes_a_checkpoint_then_exits(make_runner, tmp_path, number) -> None:
    before = signal.getsignal(number)
    runner = make_runner()
    recorder = runner.recorder
    recorder.before_train_iter = lambda runner, batch_idx, data_batch: (
        signal.raise_signal(number) if runner.iter == 2 else None
    )
    with pytest.raises(StoppedBySignal) as caught:
        runner.train()
    assert caught.value.code == 128 + number
    assert (tmp_path / "run" / "stopped_iter_3.pth").is_file()
    assert signal.getsignal(number) is before


def test_handlers_are_restored_after_training(make_runner) -> None:
    before = signal.getsignal(signal.SIGTERM)
    make_runner().train()
    assert signal.getsignal(signal.SIGTERM) is before


def test_randomness_does_not_depend_on_what_was_drawn_before(make_runner) -> None:
    plain, disturbed = make_runner("plain"), make_runner("disturbed")
    original = disturbed.recorder.after_train_iter

    def draw(*args, **kwargs) -> None:
        original(*args, **kwargs)
        torch.rand(7), np.random.rand(3)

    disturbed.recorder.after_train_iter = draw
    plain.train(), disturbed.train()
    assert plain.recorder.losses == disturbed.recorder.losses
    other = make_runner("other", randomness=dict(seed=4))
    other.train()
    assert other.recorder.losses != plain.recorder.losses


def test_manifest(make_runner, tmp_path) -> None:
    make_runner().train()
    manifest = json.loads((tmp_path / "run" / "manifest_train.json").read_text())
    assert manifest["seed"] == 3 and manifest["data"] == {"train": {"name": "vectors"}}
    assert manifest["versions"]["torch"] and manifest["device"]
    assert {"command", "time", "git", "protocol", "config", "python"} <= manifest.keys()


def test_weights_that_are_not_finite_are_never_written(make_runner, tmp_path) -> None:
    """A finite loss whose gradient is not, in the last iteration of an epoch."""
    runner = make_runner()
    original = runner.recorder.after_train_iter

    def spoil(*args, **kwargs) -> None:
        original(*args, **kwargs)
        if len(runner.recorder.losses) == 12:
            runner.model.linear.weight.data.fill_(torch.nan)

    runner.recorder.after_train_iter = spoil
    with pytest.raises(NonFiniteLossError, match=r"linear\.weight is not finite"):
        runner.train()
    assert {p.name for p in (tmp_path / "run").glob("*.pth")} == {"epoch_1.pth"}


def test_a_stop_waits_for_the_optimiser_to_step(make_runner, tmp_path) -> None:
    def wrapper() -> dict:
        return dict(
            type="engine.AutocastOptimWrapper",
            dtype="float32",
            optimizer=dict(type="Adam", lr=0.01),
            accumulative_counts=3,
        )

    whole = make_runner("whole", optim_wrapper=wrapper())
    whole.train()
    first = make_runner("parts", optim_wrapper=wrapper())
    first.recorder.before_train_iter = lambda runner, batch_idx, data_batch: (
        signal.raise_signal(signal.SIGTERM) if runner.iter == 3 else None
    )
    with pytest.raises(StoppedBySignal):
        first.train()
    assert [p.name for p in (tmp_path / "parts").glob("stopped*")] == ["stopped_iter_6.pth"]
    second = make_runner("parts", optim_wrapper=wrapper(), resume=True)
    second.train()
    assert first.recorder.losses + second.recorder.losses == whole.recorder.losses


def test_the_same_signal_twice_at_once_is_one(make_runner, tmp_path) -> None:
    runner = make_runner()
    runner.recorder.before_train_iter = lambda runner, batch_idx, data_batch: (
        [signal.raise_signal(signal.SIGTERM) for _ in range(2)] if runner.iter == 1 else None
    )
    with pytest.raises(StoppedBySignal):
        runner.train()
    assert (tmp_path / "run" / "stopped_iter_2.pth").is_file()


def test_a_second_signal_ends_at_once(make_runner) -> None:
    hooks = [dict(type="engine.StopSafelyHook", grace=-1.0)]
    runner = make_runner(custom_hooks=hooks)
    runner.recorder.before_train_iter = lambda runner, batch_idx, data_batch: [
        signal.raise_signal(signal.SIGINT) for _ in range(2)
    ]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            runner.train()
    finally:
        signal.signal(signal.SIGINT, before)


class GateRecorder(Hook):
    """Sees the gates where an average of the weights (mmengine's EMAHook) would take them."""

    priority = "NORMAL"

    def __init__(self) -> None:
        self.gates: list[torch.Tensor] = []

    def after_train_iter(self, runner, *_, **__) -> None:
        self.gates.append(runner.model.norm.gate.detach().clone())


class Gated(BaseModel):
    """Its loss pushes one gate out at 1, and the other at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = BIN(4)

    def forward(self, inputs, mode="tensor", **_):
        y = self.norm(inputs[..., None]).square().mean()
        pushes = self.norm.gate * torch.tensor([-1.0, 1.0, 0.0, 0.0])
        return {"gate_loss": y + pushes.sum()} if mode == "loss" else y


@pytest.mark.parametrize("clamps", [True, False])
def test_gates_are_clamped_after_each_step(make_runner, tmp_path, clamps) -> None:
    hooks = [dict(type="engine.GateClampHook")] * clamps
    optim_wrapper = dict(
        type="engine.AutocastOptimWrapper",
        dtype="float32",
        optimizer=dict(type="SGD", lr=0.1, weight_decay=1e-4),
        paramwise_cfg=dict(custom_keys={"gate": dict(lr_mult=10, decay_mult=0)}),
    )
    runner = make_runner(model=Gated(), custom_hooks=hooks, optim_wrapper=optim_wrapper)
    recorder = GateRecorder()
    runner.register_hook(recorder)
    runner.train()
    gates = torch.stack(recorder.gates)
    assert len(gates) == 12
    inside = bool(((gates >= 0) & (gates <= 1)).all())
    assert inside == clamps  # without the hook they do leave
    if clamps:
        assert gates[-1, 0] == 1 and gates[-1, 1] == 0
    weights = torch.load(tmp_path / "run" / "epoch_2.pth", weights_only=False)["state_dict"]
    assert torch.equal(weights["norm.gate"], gates[-1])


def test_gates_are_found_behind_a_wrapper_and_missed_by_nobody() -> None:
    class Runner:
        model: nn.Module

    hook, runner = HOOKS.build(dict(type="engine.GateClampHook")), Runner()
    assert isinstance(hook, GateClampHook)
    inner = nn.Sequential(BIN(3), nn.Linear(3, 3))
    for model in (inner, nn.DataParallel(inner), nn.Linear(3, 3)):
        runner.model = model
        inner[0].gate.data.fill_(1.7)
        before = inner[1].weight.clone()
        hook.after_train_iter(runner, 0, data_batch=None, outputs={})
        touched = not isinstance(model, nn.Linear)
        assert torch.equal(inner[0].gate, torch.full((3,), 1.0 if touched else 1.7))
        assert torch.equal(inner[1].weight, before)
