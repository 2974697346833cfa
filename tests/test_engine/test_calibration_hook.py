from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from backbones.norm import SN
from engine.calibration_hook import CalibrationHook

HOOK = dict(type="engine.CalibrationHook", num_batches=3)


@DATASETS.register_module(name="CalibrationVectors")
class Vectors(Dataset[dict[str, Any]]):
    metainfo: ClassVar = {"name": "vectors"}

    def __init__(self) -> None:
        self.values = torch.randn(24, 4, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"inputs": self.values[index]}


class Normed(BaseModel):
    """A norm whose training statistics are useless for evaluation until they are calibrated."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.linear = nn.Linear(4, 8)
        self.norm = SN(8, spatial_dims=0, using_moving_average=False)
        self.frozen = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(0.5)
        self.evaluated_with: list[Tensor] = []

    def train(self, mode: bool = True) -> Normed:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(self, inputs: Tensor, mode: str = "tensor", **_: Any) -> Any:
        out = self.norm(self.linear(inputs))
        if mode == "loss":
            return {"square_loss": self.dropout(self.frozen(out)).square().mean()}
        if mode == "predict":
            self.evaluated_with.append(self.norm.running_mean.clone())
            return list(out)
        return out


@pytest.fixture
def make(make_runner: Callable[..., Any]) -> Callable[..., Any]:
    """A run with a validation after each of its two epochs; without the hook for None."""

    def build(name: str = "run", hook: Any = HOOK) -> Any:
        data = Vectors()
        return make_runner(
            name,
            model=Normed(),
            custom_hooks=[] if hook is None else [hook],
            val_dataloader=DataLoader(data, 12),
            val_cfg={},
            val_evaluator=Evaluator([]),
        )

    return build


def expected_mean(model: nn.Module, data: Tensor) -> Tensor:
    return nn.functional.linear(data, model.linear.weight, model.linear.bias).mean(0)


def test_registered() -> None:
    assert HOOKS.build(dict(type="engine.CalibrationHook")).num_batches == 200


def test_the_last_checkpoint_holds_measured_statistics(make, tmp_path) -> None:
    runner = make()
    runner.train()
    assert runner.model.norm.batches_added == 0
    # the loader is an object: the hook has read this very one, whose order follows the epoch
    loader = runner.train_dataloader
    loader.sampler.set_epoch(1)
    data = torch.cat([batch["inputs"] for batch in itertools.islice(loader, 3)])
    state = torch.load(tmp_path / "run" / "epoch_2.pth", weights_only=False)["state_dict"]
    expected = expected_mean(runner.model, data)
    torch.testing.assert_close(state["norm.running_mean"].flatten(), expected)
    # what training kept in evaluation mode was left alone
    assert (state["frozen.running_mean"] == 0).all()


def test_every_validation_has_fresh_statistics(make) -> None:
    runner = make()
    runner.train()
    seen = runner.model.evaluated_with
    assert len(seen) == 4 and not torch.equal(seen[1], seen[2])
    assert torch.equal(seen[3], runner.model.norm.running_mean)
    assert runner.model.training is False and not runner.model.frozen.training


def test_without_the_hook_this_network_cannot_be_validated(make) -> None:
    with pytest.raises(RuntimeError, match=r"run backbones\.calibrate"):
        make(hook=None).train()


def test_training_does_not_notice(make_runner) -> None:
    """Also where the run does not seed each iteration, and dropout draws on from what is left."""
    losses = []
    for hooks in ([], [HOOK]):
        runner = make_runner(f"with{len(hooks)}", model=Normed(), custom_hooks=hooks)
        if hooks:  # calibrates between the two epochs, as a validation would
            (hook,) = (h for h in runner.hooks if isinstance(h, CalibrationHook))
            runner.recorder.after_train_epoch = hook.before_val_epoch
        torch.manual_seed(5)
        runner.train()
        losses.append(runner.recorder.losses)
    assert len(losses[0]) == 12 and losses[0] == losses[1]


def test_a_loader_of_its_own(make) -> None:
    loader = dict(
        batch_size=8,
        dataset=Vectors(),
        sampler=dict(type="DefaultSampler", shuffle=False),
        collate_fn=dict(type="default_collate"),
    )
    runner = make(hook=CalibrationHook(num_batches=2, dataloader=loader))
    runner.train()
    expected = expected_mean(runner.model, Vectors().values[:16])
    torch.testing.assert_close(runner.model.norm.running_mean.flatten(), expected)


def test_a_loader_like_that_of_the_training(make) -> None:
    """Built from the config, so that the sampler of the training goes on undisturbed."""
    runner = make(hook=dict(type="engine.CalibrationHook", num_batches=2))
    runner.cfg["train_dataloader"] = dict(
        batch_size=8,
        dataset=dict(type="CalibrationVectors"),
        sampler=dict(type="InfiniteSampler", shuffle=False),
        collate_fn=dict(type="default_collate"),
    )
    runner.train()
    expected = expected_mean(runner.model, Vectors().values[:16])
    torch.testing.assert_close(runner.model.norm.running_mean.flatten(), expected)


def test_outside_training_a_checkpoint_is_judged_as_it_is(make) -> None:
    runner = make()
    runner.model.norm.using_moving_average = True
    runner.val()
    assert (runner.model.norm.running_mean == 0).all()


def test_nothing_to_measure_is_said_at_the_start(make_runner) -> None:
    runner = make_runner(custom_hooks=[HOOK])  # a linear layer and dropout
    with pytest.raises(ValueError, match="no layer that keeps running statistics"):
        runner.train()
    assert not runner.recorder.losses
