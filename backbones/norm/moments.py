"""The one numeric core of every norm: moments -> a little algebra -> affine.

A norm of this project sees its input ``x`` of shape (N, C, *spatial) only through two small tables,
the mean and the biased variance of every (sample, channel) plane. It answers with two small tables,
and the output is affine in x, plane by plane::

    mean, var     = moments(x)                    # (N, C) each
    scale, offset = algebra(Moments(mean, var, S), *params)   # (N, C) each: all a paper defines
    y             = scale * (x - mean) + offset

``offset`` is the value of y at the plane's mean. Writing y around the mean rather than as
``s * x + t`` costs nothing and keeps the digits where the mean is large and the deviation small.

The backward has the same form. With ``d = x - mean`` and S = number of spatial positions::

    g_scale = sum(gy * d),  g_offset = sum(gy)              # (N, C)
    g_mean, g_var, g_params = backward of the algebra       # autograd on (N, C) tables
    gx = scale * gy + (2 g_var / S) * d + (g_mean - scale * g_offset) / S

so only x is kept, and one pair of passes serves every norm. The tables are float32 (float64 for
float64 input) whatever the type of x; the output has the type and the memory format of x.

A ReLU, and an addition before it, ride along in the last pass instead of costing passes of their
own; the backward finds the ReLU's mask again from x.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from . import moments_cpu


class Moments(NamedTuple):
    """Mean and biased variance of the groups of an input, each over ``positions`` values."""

    mean: Tensor
    """(N, G): float32 or float64."""
    var: Tensor
    """(N, G): biased."""
    positions: int
    """Values that each entry summarises."""

    def grouped(self, num_groups: int) -> Moments:
        """The moments of ``num_groups`` groups of neighbouring channels, (N, num_groups)."""
        size = self.mean.shape[1] // num_groups
        means = self.mean.unflatten(1, (num_groups, size))  # (N, num_groups, C / num_groups)
        mean = means.mean(2)
        # total variance = mean of the variances + variance of the means
        spread = (means - mean.unsqueeze(2)).square()
        var = (self.var.unflatten(1, (num_groups, size)) + spread).mean(2)
        return Moments(mean, var, self.positions * size)

    @property
    def unbiased_var(self) -> Tensor:
        """Variance with Bessel's correction; a single value has variance 0, not NaN."""
        # No `if` and no max(): an exported graph must not decide now how large its maps are.
        # torch.jit.trace counts in tensors.
        rest: Any = self.positions - 1
        rest = rest.clamp(min=1) if isinstance(rest, Tensor) else torch.sym_max(rest, 1)
        var: Tensor = self.var * (self.positions / rest)
        return var


Algebra = Callable[..., tuple[Tensor, Tensor]]


class Kernels(Protocol):
    """The four passes over full tensors; a device with kernels of its own implements these.

    All tables are (N, C), contiguous, of :func:`table_dtype`. With ``relu`` the backward passes
    count ``gy`` only where the output ``scale * (x - mean) + offset`` is positive.
    """

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and biased variance of each plane."""

    def affine(
        self,
        x: Tensor,
        mean: Tensor,
        scale: Tensor,
        offset: Tensor,
        residual: Tensor | None,
        relu: bool,
    ) -> Tensor:
        """``[relu](scale * (x - mean) + offset [+ residual])``, type and memory format of x."""

    def sums(
        self, gy: Tensor, x: Tensor, mean: Tensor, scale: Tensor, offset: Tensor, relu: bool
    ) -> tuple[Tensor, Tensor]:
        """``sum(gy * (x - mean))`` and ``sum(gy)`` of each plane."""

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
        """``scale * gy + p * (x - mean) + q``, type and memory format of x."""


class TorchKernels:
    """The passes as ordinary torch operations, for any device and type.

    Two passes (mean, then mean of the squared deviation) are as exact as Welford's and run at
    memory speed, where ``torch.var_mean`` on a CPU is an order of magnitude slower.
    """

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        spatial = tuple(range(2, x.ndim))
        mean = x.mean(spatial, dtype=table_dtype(x))
        return mean, _centre(x, mean).square_().mean(spatial)

    def affine(
        self,
        x: Tensor,
        mean: Tensor,
        scale: Tensor,
        offset: Tensor,
        residual: Tensor | None,
        relu: bool,
    ) -> Tensor:
        y = _centre(x, mean).mul_(_plane(scale, x)).add_(_plane(offset, x))
        if residual is not None:
            y.add_(residual)
        return (y.relu_() if relu else y).to(x.dtype)

    def sums(
        self, gy: Tensor, x: Tensor, mean: Tensor, scale: Tensor, offset: Tensor, relu: bool
    ) -> tuple[Tensor, Tensor]:
        spatial = tuple(range(2, x.ndim))
        centred = _centre(x, mean)
        gy = _masked(gy, centred, scale, offset) if relu else gy
        return centred.mul_(gy).sum(spatial), gy.sum(spatial, dtype=mean.dtype)

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
        centred = _centre(x, mean)
        gy = _masked(gy, centred, scale, offset) if relu else gy
        gx = centred.mul_(_plane(p, x)).add_(_plane(q, x))
        return gx.add_(gy * _plane(scale, x)).to(x.dtype)


def normalize(
    x: Tensor,
    algebra: Algebra,
    *params: Tensor,
    residual: Tensor | None = None,
    relu: bool = False,
    collective: bool = False,
) -> Tensor:
    """Normalise ``x`` by the algebra of a norm.

    Args:
        x: (N, C, *spatial), at least one spatial dimension, floating point, any memory format.
        algebra: ``(Moments, *params) -> (scale, offset)``, tables (N, C) or broadcastable to it;
            differentiable torch operations.
        params: learned tensors that the algebra takes; gradients flow to them.
        residual: added to the result, same shape and type as ``x``.
        relu: rectify the result, after the addition.
        collective: the algebra talks to other processes, so it must run for an empty batch, too.

    Returns:
        Tensor of the shape, dtype and memory format of ``x``. An empty x gives an empty result
        and zero gradients.

    Raises:
        TypeError: x is not floating point.
        ValueError: x has no spatial dimension, or ``residual`` another shape.
    """
    if x.ndim < 3:
        raise ValueError(
            f"a norm over spatial positions needs (N, C, *spatial), got shape {tuple(x.shape)}; "
            "add a spatial dimension, e.g. x[:, :, None]"
        )
    if not x.is_floating_point():
        raise TypeError(f"a norm needs floating point input, got {x.dtype}; call x.float() first")
    if residual is not None and residual.shape != x.shape:
        raise ValueError(
            f"a residual has the shape of the norm's input, {tuple(x.shape)}, got "
            f"{tuple(residual.shape)}"
        )
    if _is_traced():
        return _normalize_by_autograd(x, algebra, *params, residual=residual, relu=relu)
    if x.numel() == 0 and not collective:
        y = x + sum((p.sum() * 0 for p in params), start=x.new_zeros(())).to(x.dtype)
        return y if residual is None else y + residual
    # The algebra is differentiated by hand below, so autograd must not see its inputs here.
    if not (torch.is_grad_enabled() and _need_gradients(x, residual, *params)):
        kernels = select_kernels(x)
        mean, var = kernels.moments(x)
        with _without_autocast(x):
            scale, offset = algebra(Moments(mean, var, math.prod(x.shape[2:])), *params)
        return kernels.affine(x, mean, _table(scale, mean), _table(offset, mean), residual, relu)
    result: Tensor = _Normalize.apply(x, residual, algebra, relu, *params)
    return result


def table_dtype(x: Tensor) -> torch.dtype:
    """float32 for every input type but float64."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def select_kernels(x: Tensor) -> Kernels:
    """The fastest passes there are for the device and type of ``x``.

    ``BACKBONES_KERNELS=torch`` in the environment leaves ordinary torch operations for all.
    """
    choice = os.environ.get("BACKBONES_KERNELS", "auto")
    if choice not in ("auto", "torch"):
        raise ValueError(f"BACKBONES_KERNELS is 'auto' or 'torch', got {choice!r}")
    kernels: Kernels | None = None
    if choice == "torch" or not _has_memory(x):
        return TorchKernels()
    if x.device.type == "cpu" and x.dtype in moments_cpu.DTYPES:
        kernels = moments_cpu.cpu_kernels()
    elif x.device.type == "cuda":
        triton = _triton_module()
        kernels = triton.triton_kernels(x) if triton is not None else None
    return kernels or TorchKernels()


def _has_memory(x: Tensor) -> bool:
    """Subclasses may have none of their own (fake and distributed tensors).

    Under a dispatch mode (make_fx, fake tensors) every operation wants to be seen.
    """
    return type(x) in (Tensor, nn.Parameter) and not torch._C._len_torch_dispatch_stack()


@functools.cache
def _triton_module() -> Any:
    """Imported at the first CUDA tensor: it takes a second, and not every torch brings triton."""
    try:
        from . import moments_triton
    except ImportError:
        return None
    return moments_triton


def has_kernels(x: Tensor) -> bool:
    """Whether the core has more than torch operations for ``x``, and may use it here."""
    return not (_is_traced() or isinstance(select_kernels(x), TorchKernels))


def _without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Tables stay float32 whatever autocast does to the layers around."""
    if x.device.type == "meta" or not torch.is_autocast_enabled(x.device.type):
        return nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def _need_gradients(*tensors: Tensor | None) -> bool:
    return any(t is not None and t.requires_grad for t in tensors)


def _table(table: Tensor, like: Tensor) -> Tensor:
    return table.detach().to(like.dtype).expand_as(like).contiguous()


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        residual: Tensor | None,
        algebra: Algebra,
        relu: bool,
        *params: Tensor,
    ) -> Tensor:
        ctx.kernels = kernels = select_kernels(x)
        mean, var = kernels.moments(x)
        # The algebra keeps its own tiny graph from (mean, var, params) to (scale, offset); the
        # outer graph never sees it and keeps x alone.
        leaves = [
            t.detach().requires_grad_(needed)
            for t, needed in zip(
                (mean, var, *params), (True, True, *ctx.needs_input_grad[4:]), strict=True
            )
        ]
        with torch.enable_grad(), _without_autocast(x):
            moments = Moments(leaves[0], leaves[1], math.prod(x.shape[2:]))
            tables = [table.expand_as(mean) for table in algebra(moments, *leaves[2:])]
        scale, offset = (_table(table, mean) for table in tables)
        y = kernels.affine(x, mean, scale, offset, residual, relu)
        ctx.leaves, ctx.graph, ctx.relu = leaves, tables, relu
        ctx.has_residual = residual is not None
        # After an addition the mask of the ReLU does not follow from x: it is read off y, which
        # the next layer keeps anyway.
        ctx.save_for_backward(x, mean, scale, offset, y if relu and residual is not None else None)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, scale, offset, y = ctx.saved_tensors
        if y is not None:
            gy = torch.ops.aten.threshold_backward(gy, y, 0)
        relu = ctx.relu and y is None
        g_scale, g_offset = ctx.kernels.sums(gy, x, mean, scale, offset, relu)
        outputs = [
            (t, g) for t, g in zip(ctx.graph, (g_scale, g_offset), strict=True) if t.requires_grad
        ]
        inputs = [leaf for leaf in ctx.leaves if leaf.requires_grad]
        found: dict[int, Tensor | None] = {}
        if outputs:
            tables, grads = zip(*outputs, strict=True)
            results = torch.autograd.grad(
                tables, inputs, grads, retain_graph=True, allow_unused=True
            )
            found = {id(leaf): g for leaf, g in zip(inputs, results, strict=True)}
        g_mean, g_var, *g_params = (found.get(id(leaf)) for leaf in ctx.leaves)
        gx = None
        if ctx.needs_input_grad[0]:
            positions = max(math.prod(x.shape[2:]), 1)
            p = torch.zeros_like(mean) if g_var is None else g_var * (2 / positions)
            q = -scale * g_offset if g_mean is None else g_mean - scale * g_offset
            gx = ctx.kernels.input_gradient(
                gy, x, mean, scale, offset, p.contiguous(), (q / positions).contiguous(), relu
            )
        return gx, gy if ctx.has_residual else None, None, None, *g_params


def _normalize_by_autograd(
    x: Tensor,
    algebra: Algebra,
    *params: Tensor,
    residual: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """The same numbers as ordinary torch operations: for tracing, export and compilation."""
    spatial = tuple(range(2, x.ndim))
    wide = x.to(table_dtype(x))
    mean = wide.mean(spatial)
    centred = wide - _plane(mean, x)
    moments = Moments(mean, centred.square().mean(spatial), math.prod(x.shape[2:]))
    with _without_autocast(x):
        scale, offset = algebra(moments, *params)
    y = centred * _plane(scale, x) + _plane(offset, x)
    if residual is not None:
        y = y + residual
    return (y.relu() if relu else y).to(x.dtype)


def _is_traced() -> bool:
    """Whether ordinary operations must be seen: tracing, function transforms, forward-mode AD.

    Tracing is torch.compile, torch.export (ONNX goes through it) or the older torch.jit.trace;
    transforms are torch.func's (grad, vmap, jvp).
    """
    return (
        torch.compiler.is_compiling()
        or torch._C._get_tracing_state() is not None
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
    )


def _plane(table: Tensor, x: Tensor) -> Tensor:
    """(..., C) -> (..., C, 1, ..., 1): broadcastable over the spatial dimensions of x."""
    return table[(..., *(None,) * (x.ndim - 2))]


def _centre(x: Tensor, mean: Tensor) -> Tensor:
    """x - mean in the type of the tables; always a new tensor."""
    if x.dtype == mean.dtype:
        return x - _plane(mean, x)
    return x.to(mean.dtype).sub_(_plane(mean, x))


def _masked(gy: Tensor, centred: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """gy where the ReLU let the output through, else 0."""
    passed = torch.addcmul(_plane(offset, gy), centred, _plane(scale, gy)) > 0
    return gy.where(passed, 0)  # not a product: what is masked out may be infinite
