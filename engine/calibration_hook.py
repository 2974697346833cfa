"""Evaluate with statistics measured on the data: ``backbones.calibrate`` at the right moments."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from torch import nn

from backbones.calibrate import calibrate

from .precision import Precision, autocast
from .registry import HOOKS


@HOOKS.register_module()
class CalibrationHook(Hook):
    """Measure the running statistics before every validation and after the last iteration.

    Networks with SN and ``using_moving_average=False`` cannot be evaluated without. The last
    checkpoint holds measured statistics; an earlier one, written before a validation, those of its
    training. Layers that training keeps in evaluation mode (frozen stages, ``norm_eval``) are left
    as they are. Training itself is the same with and without this hook, to the bit.

    Args:
        num_batches: batches of each process.
        dataloader: config of a loader; by default a second one like that of the training, with its
            augmentation, from the beginning of its first epoch. (A training loader that was handed
            over as an object is iterated itself.)

    Raises:
        ValueError: in training mode no layer keeps running statistics.
    """

    priority = "LOW"  # before the checkpoint is written, after an average of weights moved on

    def __init__(self, num_batches: int = 200, dataloader: dict[str, Any] | None = None) -> None:
        self.num_batches = num_batches
        self.dataloader = dataloader
        self._training = False

    def before_train(self, runner: Any) -> None:
        runner.model.train()
        if not any(_is_measured(module) for module in runner.model.modules()):
            raise ValueError(
                "CalibrationHook: the model has no layer that keeps running statistics in training "
                "mode (no batch norm, or all of them frozen by norm_eval); remove the hook"
            )
        self._training = True

    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        if self.is_last_train_iter(runner):
            self._calibrate(runner)

    def before_val_epoch(self, runner: Any) -> None:
        if self._training:  # a checkpoint under test is judged as it is
            self._calibrate(runner)

    def after_train(self, runner: Any) -> None:
        self._training = False

    def _calibrate(self, runner: Any) -> None:
        with _untouched_randomness():
            # Anew each time: mmengine's infinite sampler cannot be iterated twice, and all
            # validations see the same images.
            config = self.dataloader or runner.cfg.get("train_dataloader")
            loader = runner.build_dataloader(config or runner.train_dataloader, seed=runner.seed)
            precision = getattr(runner, "precision", Precision())
            device = next(runner.model.parameters()).device
            with autocast(precision.eval_dtype, device.type):
                calibrate(
                    runner.model,
                    loader,
                    self.num_batches,
                    where=lambda _, layer: _is_measured(layer),
                )


def _is_measured(module: nn.Module) -> bool:
    return module.training and getattr(module, "running_mean", None) is not None


@contextmanager
def _untouched_randomness() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
