"""Precision and memory layout of a run: autocast on any device, channels_last, compilation.

mmengine's AmpOptimWrapper refuses the CPU, although bfloat16 autocast with channels_last trains two
to three times faster there on current processors. One config line covers both devices::

    precision = dict(dtype="auto", channels_last=True, compile=False)

On a processor without instructions for bfloat16 the same takes many times longer than float32,
since each operation is emulated; ``"auto"`` is bfloat16 where it is fast, and float32 elsewhere.
"""

from __future__ import annotations

import platform
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from .registry import OPTIM_WRAPPERS

DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_dtype(dtype: str) -> str:
    """``"auto"`` -> ``"bfloat16"`` where it is fast, else ``"float32"``; others as they are."""
    if dtype != "auto":
        return dtype
    return "bfloat16" if has_bfloat16() else "float32"


def has_bfloat16() -> bool:
    """Whether the accelerator, or without one the processor, computes in bfloat16 by itself."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if platform.machine().lower() in ("x86_64", "amd64"):
        # torch has no public question for this one; its own tests ask these
        questions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, lambda: False)() for name in questions)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@dataclass(frozen=True)
class Precision:
    """What ``cfg.precision`` may say.

    Args:
        dtype: of autocast while training: 'float32' (no autocast), 'bfloat16', 'float16', or
            'auto', for which ``engine.cli.build_runner`` puts one of the first two.
        eval_dtype: the same while evaluating; features are float32 unless told otherwise.
        channels_last: store convolution weights and maps as (N, H, W, C).
        compile: compile the model's backbone with torch.compile.
    """

    dtype: str = "float32"
    eval_dtype: str = "float32"
    channels_last: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        for name in (choose_dtype(self.dtype), self.eval_dtype):
            if name not in DTYPES:
                raise ValueError(f"precision: unknown dtype {name!r}; choose one of {[*DTYPES]}")

    def apply(self, model: nn.Module) -> nn.Module:
        """Set the memory format and compile, in place."""
        if self.channels_last:
            model = model.to(memory_format=torch.channels_last)
        if self.compile:
            getattr(model, "backbone", model).compile()
        return model


def autocast(dtype: str, device_type: str) -> AbstractContextManager[Any]:
    """Autocast on ``device_type`` ('cpu', 'cuda', ...); 'float32' switches it off."""
    kind = DTYPES[dtype]
    return torch.autocast(device_type, dtype=kind, enabled=kind is not None)


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """OptimWrapper whose forward runs under autocast, on CPU as well as CUDA.

    Args:
        dtype: 'float32', 'bfloat16', 'auto', or 'float16' (CUDA only: its gradients are scaled).
        kwargs: as mmengine's OptimWrapper.
    """

    def __init__(self, *, dtype: str = "bfloat16", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        dtype = choose_dtype(dtype)
        if dtype not in DTYPES:
            raise ValueError(
                f"precision: unknown dtype {dtype!r}; choose one of {[*DTYPES, 'auto']}"
            )
        on_cuda = torch.cuda.is_available()
        if dtype == "float16" and not on_cuda:
            raise ValueError(
                "precision: float16 needs a CUDA device; use dtype='bfloat16' on a CPU"
            )
        self.dtype, self.device_type = dtype, "cuda" if on_cuda else "cpu"
        self.scaler = torch.amp.GradScaler(self.device_type, enabled=dtype == "float16")

    @contextmanager
    def optim_context(self, model: nn.Module) -> Generator[None, None, None]:
        with super().optim_context(model), autocast(self.dtype, self.device_type):
            yield

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        super().backward(self.scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        if self.clip_grad_kwargs:
            self.scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = super().state_dict()
        if self.scaler.is_enabled():
            state["loss_scaler"] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state_dict = dict(state_dict)
        if scaler := state_dict.pop("loss_scaler", None):
            self.scaler.load_state_dict(scaler)
        super().load_state_dict(state_dict)
