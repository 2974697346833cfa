"""An exponential moving average of the weights, which is what is evaluated and kept.

    custom_hooks = [*_base_.custom_hooks, dict(type="engine.EMAHook", momentum=2e-4)]

mmengine has such a hook, too. This one is for our Runner: a checkpoint is loaded strictly and once
(mmengine's loads its own copy with whatever fits, and evaluates that copy); and batch statistics
that are measured at the end of a training (engine.CalibrationHook) are measured under the average,
with which they are saved (there: under the last weights, and then dropped).
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from .registry import HOOKS

_KEPT = "trained_weights"


@HOOKS.register_module()
class EMAHook(Hook):
    """Average the parameters over the iterations: average += m * (parameters - average).

    Validation sees the average, and ``state_dict`` of a checkpoint is the average: testing, export
    and deployment need nothing special. The weights that training goes on with lie beside it, under
    ``trained_weights``, so that a resumed run continues exactly. After the last iteration the model
    itself holds the average. Buffers (batch statistics, centers of a center loss) are not averaged.

    The average begins as a short one and grows longer: in the t-th update m is at least
    9 / (10 + t), as TensorFlow's, so that the random beginning of a training is soon forgotten.

    Args:
        momentum: m, the share of the newest weights; 1 / momentum is the length in iterations.
        begin_iter: until this many iterations are done, the average is the weights themselves.

    Raises:
        ValueError: a momentum outside 0..1, or a begin below 0.
    """

    # after gates are clamped (HIGH), before statistics are measured (LOW) and files written
    priority = "NORMAL"

    def __init__(self, momentum: float = 2e-4, begin_iter: int = 0) -> None:
        if not 0 < momentum <= 1 or begin_iter < 0:
            raise ValueError(
                "EMAHook: expected 0 < momentum <= 1 (the share of the newest weights) and "
                f"begin_iter >= 0, got momentum={momentum}, begin_iter={begin_iter}"
            )
        self.momentum, self.begin_iter = momentum, begin_iter
        self._other: dict[str, Tensor] = {}
        """The average; while the model holds that, the weights of the training."""
        self._swapped = False
        self._loaded: dict[str, Tensor] = {}

    def before_train(self, runner: Any) -> None:
        parameters = _parameters(runner.model)
        self._other = {
            name: self._loaded.get(name, value).detach().to(value.device, copy=True)
            for name, value in parameters.items()
        }
        self._loaded, self._swapped = {}, False

    @torch.no_grad()
    def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        updates = runner.iter - self.begin_iter
        momentum = 1.0 if updates < 0 else max(self.momentum, 9 / (10 + updates))
        for name, value in _parameters(runner.model).items():
            self._other[name].lerp_(value.to(self._other[name].dtype), momentum)
        if self.is_last_train_iter(runner):
            self._swap(runner.model)

    def before_val_epoch(self, runner: Any) -> None:
        if self._other and not self._swapped:  # none: a validation without a training
            self._swap(runner.model)

    def after_val_epoch(self, runner: Any, *_: Any, **__: Any) -> None:
        if self._swapped and runner.iter < runner.max_iters:
            self._swap(runner.model)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        if not self._other:
            return
        state, aliases = checkpoint["state_dict"], _aliases(runner.model)
        kept = {}
        for alias, name in aliases.items():
            here, other = state[alias], self._other[name].to(state[alias].device)
            average, trained = (here, other) if self._swapped else (other, here)
            state[alias] = average
            if alias == name:
                kept[name] = trained.cpu()
        checkpoint[_KEPT] = kept

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """On resuming, what the file calls its weights is the average: put both in their place."""
        kept = checkpoint.pop(_KEPT, None)
        if not runner._resume:
            return
        if kept is None:
            runner.logger.warning(
                "EMAHook: the checkpoint was written without; the average begins at its weights"
            )
            return
        state = checkpoint["state_dict"]
        for alias, name in _aliases(runner.model).items():
            if name not in kept or alias not in state:
                raise ValueError(
                    f"EMAHook: cannot resume: the checkpoint has no {alias!r} in both its average "
                    "and its trained weights; use the config of the run that wrote it"
                )
            self._loaded[name] = state[alias]
            state[alias] = kept[name]

    @torch.no_grad()
    def _swap(self, model: nn.Module) -> None:
        for name, value in _parameters(model).items():
            before = value.clone()
            value.copy_(self._other[name])
            self._other[name].copy_(before)
        self._swapped = not self._swapped


def _inner(model: nn.Module) -> nn.Module:
    inner = model.module if is_model_wrapper(model) else model
    assert isinstance(inner, nn.Module)
    return inner


def _parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    return dict(_inner(model).named_parameters())


def _aliases(model: nn.Module) -> dict[str, str]:
    """Every name of every parameter -> its first name: ILM's encoder has three."""
    first: dict[int, str] = {}
    named = _inner(model).named_parameters(remove_duplicate=False)
    return {name: first.setdefault(id(parameter), name) for name, parameter in named}
