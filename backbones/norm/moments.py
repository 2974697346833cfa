"""The one numeric core of every norm: moments -> a little algebra -> affine.

A norm of this project sees its input ``x`` of shape (N, C, *spatial) only through two small tables,
the mean and the biased variance of every (sample, channel) plane. It answers with two small tables,
and the output is affine in x, plane by plane::

    mean, var     = moments(x)                    # (N, C) each
    scale, offset = algebra(mean, var, *params)   # (N, C) each: this is all that a paper defines
    y             = scale * (x - mean) + offset

``offset`` is the value of y at the plane's mean. Writing y around the mean rather than as
``s * x + t`` costs nothing and keeps the digits where the mean is large and the deviation small.

The backward has the same form. With ``d = x - mean`` and S = number of spatial positions::

    g_scale = sum(gy * d),  g_offset = sum(gy)              # (N, C)
    g_mean, g_var, g_params = backward of the algebra       # autograd on (N, C) tables
    gx = scale * gy + (2 g_var / S) * d + (g_mean - scale * g_offset) / S

so only x is kept, and one pair of passes serves every norm. The tables are float32 (float64 for
float64 input) whatever the type of x; the output has the type and the memory format of x.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

Algebra = Callable[..., tuple[Tensor, Tensor]]


class Kernels(Protocol):
    """The four passes over full tensors; a device with kernels of its own implements these."""

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Mean and biased variance, (N, C) each, and x - mean if it lies around anyway."""

    def affine(
        self, x: Tensor, mean: Tensor, centred: Tensor | None, scale: Tensor, offset: Tensor
    ) -> Tensor:
        """``scale * (x - mean) + offset`` in the type of x. May overwrite ``centred``."""

    def sums(self, gy: Tensor, x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """``sum(gy * (x - mean))`` and ``sum(gy)``, (N, C) each."""

    def input_gradient(
        self, gy: Tensor, x: Tensor, mean: Tensor, scale: Tensor, p: Tensor, q: Tensor
    ) -> Tensor:
        """``scale * gy + p * (x - mean) + q`` in the type of x."""


class TorchKernels:
    """The passes as ordinary torch operations, for any device.

    Two passes (mean, then mean of the squared deviation) are as exact as Welford's and run at
    memory speed, where ``torch.var_mean`` on a CPU is an order of magnitude slower.
    """

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        spatial = tuple(range(2, x.ndim))
        dtype = table_dtype(x)
        mean = x.mean(spatial, dtype=dtype)
        centred = _centre(x, mean)
        return mean, centred.square().mean(spatial), centred

    def affine(
        self, x: Tensor, mean: Tensor, centred: Tensor | None, scale: Tensor, offset: Tensor
    ) -> Tensor:
        centred = _centre(x, mean) if centred is None else centred
        return centred.mul_(_plane(scale, x)).add_(_plane(offset, x)).to(x.dtype)

    def sums(self, gy: Tensor, x: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        spatial = tuple(range(2, x.ndim))
        g_offset = gy.sum(spatial, dtype=mean.dtype)
        return _centre(x, mean).mul_(gy).sum(spatial), g_offset

    def input_gradient(
        self, gy: Tensor, x: Tensor, mean: Tensor, scale: Tensor, p: Tensor, q: Tensor
    ) -> Tensor:
        gx = _centre(x, mean).mul_(_plane(p, x)).add_(_plane(q, x))
        return gx.add_(gy * _plane(scale, x)).to(x.dtype)


def normalize(x: Tensor, algebra: Algebra, *params: Tensor) -> Tensor:
    """Normalise ``x`` by the algebra of a norm.

    Args:
        x: (N, C, *spatial), at least one spatial dimension, floating point, any memory format.
        algebra: ``(mean, var, *params) -> (scale, offset)``, all tables (N, C) or broadcastable
            to it; differentiable torch operations.
        params: learned tensors that the algebra takes; gradients flow to them.

    Returns:
        Tensor of the shape, dtype and memory format of ``x``. An empty x gives an empty result
        and zero gradients.
    """
    if x.ndim < 3:
        raise ValueError(
            f"a norm over spatial positions needs (N, C, *spatial), got shape {tuple(x.shape)}; "
            "add a spatial dimension, e.g. x[:, :, None]"
        )
    if _is_traced():
        return _normalize_by_autograd(x, algebra, *params)
    if x.numel() == 0:
        return x + sum((p.sum() * 0 for p in params), start=x.new_zeros(())).to(x.dtype)
    y: Tensor = _Normalize.apply(x, algebra, *params)
    return y


def table_dtype(x: Tensor) -> torch.dtype:
    """float32 for every input type but float64."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def select_kernels(x: Tensor) -> Kernels:
    """The passes for the device of ``x``. CUDA kernels enter here."""
    return TorchKernels()


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, algebra: Algebra, *params: Tensor) -> Tensor:
        kernels = select_kernels(x)
        mean, var, centred = kernels.moments(x)
        # The algebra keeps its own tiny graph from (mean, var, params) to (scale, offset); the
        # outer graph never sees it and keeps x alone.
        leaves = [t.detach().requires_grad_() for t in (mean, var, *params)]
        with torch.enable_grad():
            scale, offset = (table.expand_as(mean) for table in algebra(*leaves))
        ctx.kernels, ctx.leaves, ctx.tables = kernels, leaves, (scale, offset)
        ctx.save_for_backward(x)
        return kernels.affine(x, mean, centred, scale.detach(), offset.detach())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        mean, scale = ctx.leaves[0].detach(), ctx.tables[0].detach()
        g_scale, g_offset = ctx.kernels.sums(gy, x, mean)
        outputs = [
            (t, g) for t, g in zip(ctx.tables, (g_scale, g_offset), strict=True) if t.requires_grad
        ]
        if outputs:
            tables, grads = zip(*outputs, strict=True)
            g_mean, g_var, *g_params = torch.autograd.grad(
                tables, ctx.leaves, grads, retain_graph=True, allow_unused=True
            )
        else:
            g_mean, g_var, g_params = None, None, [None] * (len(ctx.leaves) - 2)
        gx = None
        if ctx.needs_input_grad[0]:
            positions = x.shape[2:].numel()
            p = torch.zeros_like(mean) if g_var is None else g_var * (2 / positions)
            q = -scale * g_offset if g_mean is None else g_mean - scale * g_offset
            gx = ctx.kernels.input_gradient(gy, x, mean, scale, p, q / positions)
        return gx, None, *g_params


def _normalize_by_autograd(x: Tensor, algebra: Algebra, *params: Tensor) -> Tensor:
    """The same numbers as ordinary torch operations: for tracing, export and compilation."""
    spatial = tuple(range(2, x.ndim))
    wide = x.to(table_dtype(x))
    mean = wide.mean(spatial)
    centred = wide - _plane(mean, x)
    scale, offset = algebra(mean, centred.square().mean(spatial), *params)
    return (centred * _plane(scale, x) + _plane(offset, x)).to(x.dtype)


def _is_traced() -> bool:
    """Inside torch.compile or torch.export (ONNX goes through it), or the older torch.jit.trace."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def _plane(table: Tensor, x: Tensor) -> Tensor:
    """(..., C) -> (..., C, 1, ..., 1): broadcastable over the spatial dimensions of x."""
    return table.reshape(*table.shape, *(1,) * (x.ndim - 2))


def _centre(x: Tensor, mean: Tensor) -> Tensor:
    """x - mean in the type of the tables; always a new tensor."""
    if x.dtype == mean.dtype:
        return x - _plane(mean, x)
    return x.to(mean.dtype).sub_(_plane(mean, x))
