"""Keep parts of a model as they are while the rest begins to learn.

A new head on a pretrained backbone has large, random gradients at first; fast-reid's strong recipe
(SBS) lets only the head learn for the first 1,000 iterations:

    custom_hooks = [
        *_base_.custom_hooks,
        dict(type="engine.FreezeHook", modules=["backbone"], iterations=1000),
    ]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from torch import nn

from .registry import HOOKS


@HOOKS.register_module()
class FreezeHook(Hook):
    """Freeze modules for the first iterations or epochs: no gradient, norms in evaluation mode.

    What was frozen before (``frozen_stages``, the BNNeck's bias) stays so afterwards. A resumed run
    freezes, or does not, by the iteration at which it goes on. With several processes the model is
    wrapped anew when the freezing ends, because DistributedDataParallel must know all parameters
    that learn, and only these.

    Args:
        modules: dotted names of modules of the model.
        iterations, epochs: how long; exactly one of the two.

    Raises:
        ValueError: neither or both of them, a number below 1, or a module that is not there.
    """

    priority = "HIGH"

    def __init__(
        self,
        modules: Sequence[str] = ("backbone",),
        iterations: int | None = None,
        epochs: int | None = None,
    ) -> None:
        length = epochs if iterations is None else iterations
        if (iterations is None) == (epochs is None) or length is None or length < 1:
            raise ValueError(
                "FreezeHook: give either iterations or epochs, 1 or more, got "
                f"iterations={iterations}, epochs={epochs}"
            )
        if isinstance(modules, str) or not modules:
            raise ValueError(f"FreezeHook: modules is a list of names, got {modules!r}")
        self.modules, self.iterations, self.epochs = tuple(modules), iterations, epochs
        self._parts: list[nn.Module] = []
        self._frozen: list[nn.Parameter] = []
        """The parameters that learn again afterwards; empty when nothing is frozen."""

    def before_train(self, runner: Any) -> None:
        model = _inner(runner.model)
        self._parts = [_part(model, name) for name in self.modules]
        self._frozen = []
        if not self._lasts(runner):
            return
        length, whole = (
            (self.epochs, runner.max_epochs)
            if self.iterations is None
            else (self.iterations, runner.max_iters)
        )
        if length >= whole:
            runner.logger.warning(
                f"FreezeHook: {', '.join(self.modules)} is frozen for {length} of {whole} "
                f"{'epochs' if self.iterations is None else 'iterations'}: it never learns"
            )
        every = {p: None for part in self._parts for p in part.parameters() if p.requires_grad}
        self._frozen = list(every)
        self._set_learning(runner, False)

    def before_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
        if not self._frozen:
            return
        if not self._lasts(runner):
            self._set_learning(runner, True)
            self._frozen = []
            _inner(runner.model).train()
            runner.logger.info(f"{', '.join(self.modules)} learns from here on")
            return
        for part in self._parts:  # each epoch, and each validation, ends in training mode
            if part.training:
                part.eval()

    def _lasts(self, runner: Any) -> bool:
        if self.iterations is not None:
            return bool(runner.iter < self.iterations)
        return bool(runner.epoch < (self.epochs or 0))

    def _set_learning(self, runner: Any, learns: bool) -> None:
        for parameter in self._frozen:
            parameter.requires_grad_(learns)
        if is_model_wrapper(runner.model):
            wrapper = runner.cfg.get("model_wrapper_cfg")
            runner.model = runner.wrap_model(wrapper, runner.model.module)


def _inner(model: nn.Module) -> nn.Module:
    inner = model.module if is_model_wrapper(model) else model
    assert isinstance(inner, nn.Module)
    return inner


def _part(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        children = ", ".join(child for child, _ in model.named_children())
        raise ValueError(
            f"FreezeHook: the model has no module {name!r}; it has {children}, and theirs below, "
            "e.g. 'backbone.layer1'"
        ) from None
