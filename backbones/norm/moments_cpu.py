"""The four passes on a CPU, in C++ compiled at the first use.

As torch operations, a norm on a CPU needs 20 and more passes over full tensors; the kernels of
``moments_cpu.cpp`` need 8, which is what ``nn.BatchNorm2d`` needs. They are compiled by the machine
itself (see :mod:`backbones.native`) and use torch's OpenMP runtime, hence its threads. Without a
compiler everything still works, by torch operations.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from pathlib import Path

import torch
from torch import Tensor

from .. import native

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_suffix(".cpp")
DTYPES = (torch.float32, torch.bfloat16)


class CpuKernels:
    """The passes of :class:`~backbones.norm.moments.Kernels` for float32 and bfloat16."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x, rows = _dense(x)
        mean, var = _tables(x)
        self._call("norm_moments", x, rows, (), x, mean, var)
        return mean, var

    def affine(
        self,
        x: Tensor,
        mean: Tensor,
        scale: Tensor,
        offset: Tensor,
        residual: Tensor | None,
        relu: bool,
    ) -> Tensor:
        x, rows = _dense(x)
        residual = None if residual is None else _like(residual, x, rows)
        y = torch.empty_like(x)
        self._call("norm_affine", x, rows, (relu,), x, mean, scale, offset, residual, y)
        return y

    def sums(
        self, gy: Tensor, x: Tensor, mean: Tensor, scale: Tensor, offset: Tensor, relu: bool
    ) -> tuple[Tensor, Tensor]:
        x, rows = _dense(x)
        gy = _like(gy, x, rows)
        g_scale, g_offset = _tables(x)
        self._call("norm_sums", x, rows, (relu,), gy, x, mean, scale, offset, g_scale, g_offset)
        return g_scale, g_offset

    def input_gradient(
        self,
        gy: Tensor,
        x: Tensor,
        mean: Tensor,
        scale: Tensor,
        offset: Tensor,
        p: Tensor,
        q: Tensor,
        relu: bool,
    ) -> Tensor:
        x, rows = _dense(x)
        gy = _like(gy, x, rows)
        gx = torch.empty_like(x)
        self._call("norm_gradient", x, rows, (relu,), gy, x, mean, scale, offset, p, q, gx)
        return gx

    def _call(
        self, name: str, x: Tensor, rows: bool, options: tuple[bool, ...], *tensors: Tensor | None
    ) -> None:
        positions = x.shape[2:].numel()
        if x.numel() == 0:
            return
        getattr(self._library, name)(
            ctypes.c_bool(x.dtype == torch.bfloat16),
            ctypes.c_bool(rows),
            *map(ctypes.c_int64, (x.shape[0], x.shape[1], positions)),
            ctypes.c_int(torch.get_num_threads()),
            *map(ctypes.c_bool, options),
            *(ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors),
        )


@functools.cache
def cpu_kernels() -> CpuKernels | None:
    """The compiled kernels, or None where they cannot be made (the reason is logged)."""
    library = native.load_or_warn(
        SOURCE,
        "norms",
        "the CPU kernels of the norms",
        without="norms run as torch operations, several times slower",
    )
    return None if library is None else CpuKernels(library)


def _dense(x: Tensor) -> tuple[Tensor, bool]:
    """x without gaps, and whether it lies as rows of channels rather than as planes."""
    if x.is_contiguous():
        return x, False
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    if last is not None and x.is_contiguous(memory_format=last):
        return x, True
    return x.contiguous(), False


def _like(tensor: Tensor, x: Tensor, rows: bool) -> Tensor:
    """In the type and memory format of x; where a gradient comes otherwise, it is copied."""
    tensor = tensor.to(x.dtype)
    if not rows:
        return tensor.contiguous()
    last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    return tensor.contiguous(memory_format=last)


def _tables(x: Tensor) -> tuple[Tensor, Tensor]:
    first, second = x.new_empty((2, *x.shape[:2]), dtype=torch.float32)
    return first, second
