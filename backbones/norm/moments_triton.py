"""The passes of the numeric core as Triton kernels, for CUDA devices.

Each pass of :class:`backbones.norm.moments.Kernels` reads its tensors once and writes its result
once, so that it runs at the speed of the memory; torch needs several operations, and for 16 bit
types a float32 copy between them. One kernel serves both memory formats. It sees x as a set of
*rows*, the (sample, channel) planes, each of S positions, and works on a tile of a few rows by a
block of positions:

====================  ==================  ==========================  ======================
format                memory              tile                        next to each other
====================  ==================  ==========================  ======================
contiguous            (N * C, S)          (ROWS, BLOCK)               positions of a plane
channels last         (N, S, C)           (BLOCK, ROWS)               channels of a position
====================  ==================  ==========================  ======================

A program walks over ``chunks`` blocks: its *share* of the positions. Where there are too few rows
to fill the device, several programs share a row, and a second, tiny kernel combines their tables.
There are no atomics: the same input on the same device gives the same bits.

Variance: each lane of the tile runs Welford's update over the blocks, and lanes and shares are
pooled by the formula of Chan, Golub and LeVeque ("Updating Formulae and a Pairwise Algorithm for
Computing Sample Variances", 1979), all at once. Squares of raw values never meet, and a plane that
fits into one block comes down to the two-pass formula in registers.

This module imports triton: import it only once there is a CUDA tensor.
"""

# A kernel's arguments are pointers and numbers of Triton's own kind: there is nothing to annotate
# but constants.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls

from __future__ import annotations

import functools
import math
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .moments import TorchKernels, table_dtype

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
"""Types of x that the kernels take; float64 is left to torch."""

# 16 values a thread: four 128 bit loads in float32, two in 16 bit types. Every pass then takes 30
# to 120 registers a thread (ptxas for sm_90), and a multiprocessor holds 16 warps or more.
VALUES = 16
# Where small planes cannot be loaded in vectors (7 x 7), a thread meets many planes, each with its
# own tables: 16 values of them would take up to 255 registers, four take 64.
SCATTERED_VALUES = 4
WARPS = 4
LONG_TILE = 4096  # eight warps, for one plane: 56 x 56 positions and below are read in one go
CHANNEL_TILE = 128  # channels last: side by side in a tile, whole cache lines in every type
CHUNKS = 4  # blocks of an elementwise program: tables are loaded once for all of them
PROGRAMS = 4  # a multiprocessor, at which the device counts as filled
MAX_SHARES = 256  # of a row: the second kernel holds them in one tile
MAX_GRID_Y = 65535
MAX_OFFSET = 2**30  # elements within a share are counted in int32, where shares begin in int64


def triton_kernels(x: Tensor) -> TritonKernels | None:
    """The kernels for ``x``, or None where torch's operations have to do.

    Raises:
        ValueError: BACKBONES_KERNELS is neither ``auto`` nor ``torch``.
    """
    return TritonKernels() if is_available(x) else None


def is_available(x: Tensor) -> bool:
    """Whether the kernels take ``x``.

    ``x`` must be a tensor of :data:`DTYPES` on an NVIDIA device of compute capability 7.0 or newer
    on which Triton works.
    """
    if not x.is_cuda or torch.version.cuda is None or x.dtype not in DTYPES:
        return False
    return _capability(x.device) >= (7, 0) and _works(x.device)


class TritonKernels:
    """The passes in Triton.

    x is float32, float16 or bfloat16 of any strides: contiguous and channels-last tensors are read
    as they are, others are copied to the nearer of the two formats, which the result then has. The
    second tensor of a pass may be of another format than x; it is copied to that of x.
    """

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.numel() == 0:
            return TorchKernels().moments(x)
        layout = _Layout(x)
        plan = layout.plan(reduces=True)
        mean, var = shares = layout.empty_tables(plan)
        with _on_device(x):
            _moments_kernel[plan.grid](layout.x, *shares, **plan.arguments)
            if plan.shares > 1:
                mean, var = layout.empty_tables()
                _combine_moments_kernel[plan.combine_grid](
                    *shares, mean, var, **plan.combine_arguments
                )
        return mean[0], var[0]

    def affine(
        self,
        x: Tensor,
        mean: Tensor,
        scale: Tensor,
        offset: Tensor,
        residual: Tensor | None,
        relu: bool,
    ) -> Tensor:
        if x.numel() == 0:
            return TorchKernels().affine(x, mean, scale, offset, residual, relu)
        layout = _Layout(x)
        y = torch.empty_like(layout.x)
        plan = layout.plan(reduces=False)
        with _on_device(x):
            _affine_kernel[plan.grid](
                layout.x,
                # never read without a residual: any pointer will do
                layout.x if residual is None else layout.bring(residual),
                y,
                *_tables(mean, scale, offset),
                HAS_RESIDUAL=residual is not None,
                RELU=relu,
                **plan.arguments,
            )
        return y

    def sums(
        self, gy: Tensor, x: Tensor, mean: Tensor, scale: Tensor, offset: Tensor, relu: bool
    ) -> tuple[Tensor, Tensor]:
        if x.numel() == 0:
            return TorchKernels().sums(gy, x, mean, scale, offset, relu)
        layout = _Layout(x)
        plan = layout.plan(reduces=True)
        g_scale, g_offset = shares = layout.empty_tables(plan)
        with _on_device(x):
            _sums_kernel[plan.grid](
                layout.bring(gy),
                layout.x,
                *_tables(mean, scale, offset),
                *shares,
                RELU=relu,
                **plan.arguments,
            )
            if plan.shares > 1:
                g_scale, g_offset = layout.empty_tables()
                _combine_sums_kernel[plan.combine_grid](
                    *shares, g_scale, g_offset, **plan.combine_arguments
                )
        return g_scale[0], g_offset[0]

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
        if x.numel() == 0:
            return TorchKernels().input_gradient(gy, x, mean, scale, offset, p, q, relu)
        layout = _Layout(x)
        gx = torch.empty_like(layout.x)
        plan = layout.plan(reduces=False)
        with _on_device(x):
            _input_gradient_kernel[plan.grid](
                layout.bring(gy),
                layout.x,
                gx,
                *_tables(mean, scale, offset, p, q),
                RELU=relu,
                **plan.arguments,
            )
        return gx


class _Layout:
    """x in one of the two formats, and how to bring another tensor to it."""

    def __init__(self, x: Tensor) -> None:
        assert x.dtype in DTYPES, f"no kernels for {x.dtype}: ask is_available first"
        self.channels_last = not x.is_contiguous() and _channels_are_innermost(x)
        self.x = self.bring(x)

    def bring(self, tensor: Tensor) -> Tensor:
        """``tensor`` in the memory format of x; itself if it has it already."""
        if not self.channels_last:
            return tensor.contiguous()
        return tensor.movedim(1, -1).contiguous().movedim(-1, 1)

    def plan(self, reduces: bool) -> _Plan:
        samples, channels = self.x.shape[:2]
        positions = self.x.shape[2:].numel()
        return _plan(
            samples, channels, positions, self.channels_last, reduces, _processors(self.x.device)
        )

    def empty_tables(self, plan: _Plan | None = None) -> tuple[Tensor, Tensor]:
        """Two tables (shares, N, C)."""
        shape = (1 if plan is None else plan.shares, *self.x.shape[:2])
        first, second = (
            torch.empty(shape, dtype=table_dtype(self.x), device=self.x.device) for _ in range(2)
        )
        return first, second


def _channels_are_innermost(x: Tensor) -> bool:
    spatial = [s for s, size in zip(x.stride()[2:], x.shape[2:], strict=True) if size > 1]
    return x.stride(1) < min(spatial, default=0)


def _tables(*tables: Tensor) -> tuple[Tensor, ...]:
    return tuple(table.contiguous() for table in tables)


def _on_device(x: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be that of x."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


@functools.cache
def _processors(device: torch.device) -> int:
    """Multiprocessors; 1 for the CPU, where only Triton's interpreter gets here."""
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@functools.cache
def _works(device: torch.device) -> bool:
    """Try once: Triton needs a C compiler and a driver that it knows, and may find neither."""
    try:
        TritonKernels().moments(torch.zeros(1, 1, 1, device=device))
    except Exception as error:
        warnings.warn(
            f"Triton's kernels do not run on {device}, torch's slower operations take their place "
            f"(BACKBONES_KERNELS=torch silences this): {type(error).__name__}: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


class _Plan(NamedTuple):
    """How a pass is cut into programs."""

    grid: tuple[int, int]
    """(blocks of rows, shares of a row)."""
    arguments: dict[str, Any]
    combine_grid: tuple[int]
    combine_arguments: dict[str, Any]

    @property
    def shares(self) -> int:
        return self.grid[1]


@functools.lru_cache(maxsize=4096)
def _plan(
    samples: int,
    channels: int,
    positions: int,
    channels_last: bool,
    reduces: bool,
    processors: int,
) -> _Plan:
    rows = samples * channels
    if positions == 1:  # then the formats are one, and all rows lie side by side
        samples, channels, channels_last = 1, rows, True
    unit = math.gcd(channels if channels_last else positions, 16)
    values = VALUES
    tile = WARPS * 32 * values
    if channels_last:
        row_tile = min(_power_of_2(channels), max(CHANNEL_TILE, tile // _power_of_2(positions)))
        block = min(_power_of_2(positions), tile // row_tile)
        row_blocks = samples * _cdiv(channels, row_tile)
        stride = channels
    else:
        block = min(_power_of_2(positions), LONG_TILE)
        if unit < 4 and 2 * block <= WARPS * 32 * SCATTERED_VALUES:
            values = SCATTERED_VALUES
            tile = WARPS * 32 * values
        row_tile = min(_power_of_2(rows), max(1, tile // block))
        # small planes: fewer of them a program, down to a warp, rather than an idle device
        while (
            row_tile > 1
            and row_tile * block > 32 * values
            and _cdiv(rows, row_tile) < PROGRAMS * processors
        ):
            row_tile //= 2
        row_blocks = _cdiv(rows, row_tile)
        stride = 1

    blocks = _cdiv(positions, block)
    if reduces:
        # A row is shared only where that pays for the second kernel.
        wanted = _cdiv(PROGRAMS * processors, row_blocks)
        shares = min(wanted, _cdiv(blocks, 2), MAX_SHARES) if wanted > 2 else 1
        chunks = _cdiv(blocks, shares)
    else:
        # Enough programs first, then several blocks for each.
        chunks = min(CHUNKS, max(1, row_blocks * blocks // (PROGRAMS * processors)))
        chunks = max(min(chunks, blocks), _cdiv(blocks, MAX_GRID_Y))
    chunks = min(chunks, max(1, MAX_OFFSET // (block * stride)))
    shares = _cdiv(blocks, chunks)

    span = chunks * block
    share_tile = _power_of_2(shares)
    combine_block = min(_power_of_2(rows), max(16, tile // share_tile))
    return _Plan(
        grid=(row_blocks, shares),
        arguments={
            "rows": rows,
            "channels": channels // unit if channels_last else channels,
            "positions": positions if channels_last else positions // unit,
            "span": span,
            "chunks": chunks,
            "UNIT": unit,
            "ROWS": row_tile,
            "BLOCK": block,
            "CHANNELS_LAST": channels_last,
            "num_warps": _warps(row_tile * block, values),
        },
        combine_grid=(_cdiv(rows, combine_block),),
        combine_arguments={
            "rows": rows,
            "positions": positions,
            "span": span,
            "shares": shares,
            "SHARES": share_tile,
            "BLOCK": combine_block,
            "num_warps": _warps(share_tile * combine_block, VALUES),
        },
    )


def _warps(tile: int, values: int) -> int:
    """Warps for a tile at so many values a thread."""
    return max(1, min(2 * WARPS, tile // (32 * values)))


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)


def _power_of_2(n: int) -> int:
    """The smallest power of two that is not below n."""
    return 1 << (n - 1).bit_length()


# ------------------------------------------------------------------------------------------------
# On the device. Shapes of tiles: (ROWS, BLOCK), or (BLOCK, ROWS) for channels last; what belongs to
# a row is (ROWS, 1) or (1, ROWS).


@triton.jit
def _share(
    rows,
    channels,
    positions,
    span,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
):
    """What this program does.

    ``row``: the entries of the tables, of which those in ``valid`` exist. ``base``: the element of
    x at which its share of each row begins. ``lane``: the positions of the first block.
    ``length``: positions of its share. ``stride``: channels, the step from a position to the next
    in channels last.
    """
    start = tl.program_id(1).to(tl.int64) * span
    # The size of the innermost dimension comes in UNITs: so the compiler knows what divides it.
    stride = channels * UNIT
    if CHANNELS_LAST:
        channels = channels * UNIT
        row_blocks = tl.cdiv(channels, ROWS)
        sample = (tl.program_id(0) // row_blocks).to(tl.int64)
        first = (tl.program_id(0) % row_blocks).to(tl.int64) * ROWS
        channel = (first + tl.arange(0, ROWS))[None, :]
        row = sample * channels + channel
        valid = channel < channels
        base = (sample * positions + start) * channels + channel
        lane = tl.arange(0, BLOCK)[:, None]
    else:
        positions = positions * UNIT
        row = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
        valid = row < rows
        base = row * positions + start
        lane = tl.arange(0, BLOCK)[None, :]
    length = tl.minimum(positions - start, span).to(tl.int32)
    return row, valid, base, lane, length, stride


@triton.jit
def _element(base, position, stride, CHANNELS_LAST: tl.constexpr):
    """Where in x the positions of a share lie; the product fits int32 (MAX_OFFSET)."""
    return base + (position * stride if CHANNELS_LAST else position)


@triton.jit
def _zeros(ROWS: tl.constexpr, BLOCK: tl.constexpr, CHANNELS_LAST: tl.constexpr):
    if CHANNELS_LAST:
        zeros = tl.zeros((BLOCK, ROWS), dtype=tl.float32)
    else:
        zeros = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    return zeros


@triton.jit
def _line(centred, scale, offset):
    """One expression for every pass: the backward must find the ReLU where the forward put it."""
    return centred * scale + offset


@triton.jit
def _pool(mean, m2, count, total, AXIS: tl.constexpr):
    """Mean and biased variance of the union of samples (Chan, Golub and LeVeque, 1979).

    The second round takes off what the first mean was rounded by; it matters where the mean is far
    larger than the deviation.
    """
    about = tl.sum(mean * count, axis=AXIS, keep_dims=True) / total
    apart = mean - about
    slip = tl.sum(apart * count, axis=AXIS, keep_dims=True) / total
    square = tl.sum(m2 + apart * apart * count, axis=AXIS, keep_dims=True) / total
    var = square - slip * slip
    return about + slip, tl.where(var < 0.0, 0.0, var)  # a NaN stays


@triton.jit
def _moments_kernel(
    x_ptr,
    mean_ptr,
    var_ptr,
    rows,
    channels,
    positions,
    span,
    chunks,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
):
    """Mean and biased variance of a share of each row -> tables (shares, rows)."""
    row, valid, base, lane, length, stride = _share(
        rows, channels, positions, span, UNIT, ROWS, BLOCK, CHANNELS_LAST
    )
    mean = _zeros(ROWS, BLOCK, CHANNELS_LAST)
    m2 = _zeros(ROWS, BLOCK, CHANNELS_LAST)
    for i in range(chunks):
        position = i * BLOCK + lane
        inside = (position < length) & valid
        element = _element(base, position, stride, CHANNELS_LAST)
        x = tl.load(x_ptr + element, mask=inside, other=0.0).to(tl.float32)
        # Only the last block has lanes outside, so all others have seen i values before.
        delta = tl.where(inside, x - mean, 0.0)
        mean += delta * (1.0 / (i + 1))
        m2 += delta * (x - mean)
    count = ((length - lane + (BLOCK - 1)) // BLOCK).to(tl.float32)
    pooled, var = _pool(mean, m2, count, length.to(tl.float32), 0 if CHANNELS_LAST else 1)
    out = tl.program_id(1).to(tl.int64) * rows + row
    tl.store(mean_ptr + out, pooled, mask=valid)
    tl.store(var_ptr + out, var, mask=valid)


@triton.jit
def _combine_moments_kernel(
    share_mean_ptr,
    share_var_ptr,
    mean_ptr,
    var_ptr,
    rows,
    positions,
    span,
    shares,
    SHARES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Tables (shares, rows) -> (rows)."""
    row = (tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK))[None, :]
    share = tl.arange(0, SHARES).to(tl.int64)[:, None]
    inside = (share < shares) & (row < rows)
    mean = tl.load(share_mean_ptr + share * rows + row, mask=inside, other=0.0)
    var = tl.load(share_var_ptr + share * rows + row, mask=inside, other=0.0)
    left = tl.maximum(tl.minimum(positions - share * span, span), 0)
    count = left.to(tl.float32)
    total = tl.sum(count, axis=0, keep_dims=True)
    mean, var = _pool(mean, var * count, count, total, 0)
    tl.store(mean_ptr + row, mean, mask=row < rows)
    tl.store(var_ptr + row, var, mask=row < rows)


@triton.jit
def _affine_kernel(
    x_ptr,
    residual_ptr,
    y_ptr,
    mean_ptr,
    scale_ptr,
    offset_ptr,
    rows,
    channels,
    positions,
    span,
    chunks,
    HAS_RESIDUAL: tl.constexpr,
    RELU: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
):
    row, valid, base, lane, length, stride = _share(
        rows, channels, positions, span, UNIT, ROWS, BLOCK, CHANNELS_LAST
    )
    mean = tl.load(mean_ptr + row, mask=valid, other=0.0)
    scale = tl.load(scale_ptr + row, mask=valid, other=0.0)
    offset = tl.load(offset_ptr + row, mask=valid, other=0.0)
    for i in range(chunks):
        position = i * BLOCK + lane
        inside = (position < length) & valid
        element = _element(base, position, stride, CHANNELS_LAST)
        x = tl.load(x_ptr + element, mask=inside, other=0.0).to(tl.float32)
        y = _line(x - mean, scale, offset)
        if HAS_RESIDUAL:
            y += tl.load(residual_ptr + element, mask=inside, other=0.0).to(tl.float32)
        if RELU:
            y = tl.where(y < 0.0, 0.0, y)  # a NaN stays, as it does in torch
        tl.store(y_ptr + element, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _sums_kernel(
    gy_ptr,
    x_ptr,
    mean_ptr,
    scale_ptr,
    offset_ptr,
    g_scale_ptr,
    g_offset_ptr,
    rows,
    channels,
    positions,
    span,
    chunks,
    RELU: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
):
    """Sums over a share of each row -> tables (shares, rows)."""
    row, valid, base, lane, length, stride = _share(
        rows, channels, positions, span, UNIT, ROWS, BLOCK, CHANNELS_LAST
    )
    mean = tl.load(mean_ptr + row, mask=valid, other=0.0)
    scale = tl.load(scale_ptr + row, mask=valid, other=0.0)
    offset = tl.load(offset_ptr + row, mask=valid, other=0.0)
    g_scale = _zeros(ROWS, BLOCK, CHANNELS_LAST)
    g_offset = _zeros(ROWS, BLOCK, CHANNELS_LAST)
    for i in range(chunks):
        position = i * BLOCK + lane
        inside = (position < length) & valid
        element = _element(base, position, stride, CHANNELS_LAST)
        # outside, gy is 0 and adds nothing
        g = tl.load(gy_ptr + element, mask=inside, other=0.0).to(tl.float32)
        centred = tl.load(x_ptr + element, mask=inside, other=0.0).to(tl.float32) - mean
        if RELU:
            g = tl.where(_line(centred, scale, offset) > 0.0, g, 0.0)
        g_scale += g * centred
        g_offset += g
    out = tl.program_id(1).to(tl.int64) * rows + row
    axis: tl.constexpr = 0 if CHANNELS_LAST else 1
    tl.store(g_scale_ptr + out, tl.sum(g_scale, axis=axis, keep_dims=True), mask=valid)
    tl.store(g_offset_ptr + out, tl.sum(g_offset, axis=axis, keep_dims=True), mask=valid)


@triton.jit
def _combine_sums_kernel(
    share_scale_ptr,
    share_offset_ptr,
    g_scale_ptr,
    g_offset_ptr,
    rows,
    positions,
    span,
    shares,
    SHARES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Tables (shares, rows) -> (rows)."""
    row = (tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK))[None, :]
    share = tl.arange(0, SHARES).to(tl.int64)[:, None]
    inside = (share < shares) & (row < rows)
    g_scale = tl.load(share_scale_ptr + share * rows + row, mask=inside, other=0.0)
    g_offset = tl.load(share_offset_ptr + share * rows + row, mask=inside, other=0.0)
    tl.store(g_scale_ptr + row, tl.sum(g_scale, axis=0, keep_dims=True), mask=row < rows)
    tl.store(g_offset_ptr + row, tl.sum(g_offset, axis=0, keep_dims=True), mask=row < rows)


@triton.jit
def _input_gradient_kernel(
    gy_ptr,
    x_ptr,
    gx_ptr,
    mean_ptr,
    scale_ptr,
    offset_ptr,
    p_ptr,
    q_ptr,
    rows,
    channels,
    positions,
    span,
    chunks,
    RELU: tl.constexpr,
    UNIT: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
):
    row, valid, base, lane, length, stride = _share(
        rows, channels, positions, span, UNIT, ROWS, BLOCK, CHANNELS_LAST
    )
    mean = tl.load(mean_ptr + row, mask=valid, other=0.0)
    scale = tl.load(scale_ptr + row, mask=valid, other=0.0)
    offset = tl.load(offset_ptr + row, mask=valid, other=0.0)
    p = tl.load(p_ptr + row, mask=valid, other=0.0)
    q = tl.load(q_ptr + row, mask=valid, other=0.0)
    for i in range(chunks):
        position = i * BLOCK + lane
        inside = (position < length) & valid
        element = _element(base, position, stride, CHANNELS_LAST)
        g = tl.load(gy_ptr + element, mask=inside, other=0.0).to(tl.float32)
        centred = tl.load(x_ptr + element, mask=inside, other=0.0).to(tl.float32) - mean
        if RELU:
            g = tl.where(_line(centred, scale, offset) > 0.0, g, 0.0)
        gx = scale * g + (p * centred + q)
        tl.store(gx_ptr + element, gx.to(gx_ptr.dtype.element_ty), mask=inside)
