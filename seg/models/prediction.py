"""Labels of one image from a network's low-resolution logits, whole or by sliding windows.

The definition is mmseg's ``slide_inference`` and ``whole_inference`` followed by
``postprocess_result``: every window's logits are upsampled to the window, overlapping windows are
averaged, padding is cut off, the result is upsampled to the original size, and the largest logit
is the label. The labels here are the same but for rounding. What differs is the way there:

- upsampling is linear, so windows beside each other are upsampled along x and summed while they
  still have few rows; rows follow, a band at a time, and become labels at once. Neither the logits
  of the whole image nor those of a whole window ever exist at full resolution;
- windows go through the network in channels_last, on a GPU several at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["labels_of", "predict_labels", "predict_logits", "window_starts"]

Network = Callable[[Tensor], Tensor]

# Of a band of float logits. On a processor it should stay near the cache; a GPU wants few kernels.
_BAND_BYTES = {"cpu": 2 << 20}
_BAND_BYTES_ELSEWHERE = 128 << 20


@torch.no_grad()
def predict_labels(
    network: Network,
    image: Tensor,
    *,
    mode: str = "whole",
    crop_size: tuple[int, int] | None = None,
    stride: tuple[int, int] | None = None,
    batch_windows: int | None = None,
    align_corners: bool = False,
    out_size: tuple[int, int] | None = None,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    threshold: float = 0.3,
) -> Tensor:
    """Labels of one image.

    Args:
        network: (B, 3, h, w) -> (B, C, h', w') logits at any resolution.
        image: (3, H, W), normalised, padded as the network wants it.
        mode: 'whole': one pass; 'slide': overlapping windows, their logits averaged.
        crop_size, stride: (height, width) of windows and of their steps, for 'slide'. Windows are
            moved back inside at the right and lower edge; a smaller image is one smaller window.
        batch_windows: windows that go through the network together; None: one on a processor,
            whose cache holds the maps of one (measured: more are slower), four elsewhere.
        align_corners: of both interpolations.
        out_size: (height, width) of the labels; None: of the image without padding.
        padding: (left, right, top, bottom) pixels of the image that were added.
        threshold: with one logit per pixel (C = 1), label 1 is sigmoid(logit) > threshold.

    Returns:
        (h, w) uint8, on the device of the image. Of logits that are NaN, the first wins.

    Raises:
        ValueError: an unknown mode, windows that leave gaps, more padding than image, a network
            that returns something else, more than 256 classes.
    """
    rows = [
        labels_of(band, threshold, dim=-1)
        for band in _logits(
            network, image, mode, crop_size, stride, batch_windows, align_corners, out_size, padding
        )
    ]
    return torch.cat(rows)


@torch.no_grad()
def predict_logits(
    network: Network,
    image: Tensor,
    *,
    mode: str = "whole",
    crop_size: tuple[int, int] | None = None,
    stride: tuple[int, int] | None = None,
    batch_windows: int | None = None,
    align_corners: bool = False,
    out_size: tuple[int, int] | None = None,
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Tensor:
    """(C, h, w) float32 logits of one image, whose :func:`labels_of` are :func:`predict_labels`.

    The arguments are those of :func:`predict_labels`; this needs memory for the full-size logits.
    """
    bands = _logits(
        network, image, mode, crop_size, stride, batch_windows, align_corners, out_size, padding
    )
    return torch.cat([band.permute(2, 0, 1) for band in bands], 1)


def labels_of(logits: Tensor, threshold: float = 0.3, dim: int = 0) -> Tensor:
    """uint8 labels of logits whose classes lie along ``dim``; see :func:`predict_labels`.

    Raises:
        ValueError: more than 256 classes.
    """
    classes = logits.shape[dim]
    if classes > 256:
        raise ValueError(f"labels are uint8: at most 256 classes, got {classes}")
    if classes == 1:
        return (logits.squeeze(dim).sigmoid() > threshold).to(torch.uint8)
    return logits.argmax(dim).to(torch.uint8)


def window_starts(length: int, crop: int, stride: int) -> list[int]:
    """Where windows start along one axis, in order; the last one ends at the edge."""
    crop = min(crop, length)
    steps = -(-(length - crop) // stride)
    return [min(i * stride, length - crop) for i in range(steps + 1)]


# ------------------------------------------------------------------------------------------ logits


def _logits(
    network: Network,
    image: Tensor,
    mode: str,
    crop_size: tuple[int, int] | None,
    stride: tuple[int, int] | None,
    batch_windows: int | None,
    align_corners: bool,
    out_size: tuple[int, int] | None,
    padding: tuple[int, int, int, int],
) -> Iterator[Tensor]:
    """Bands of rows, top to bottom, of the logits at ``out_size``: (rows, w, C)."""
    crop, step = _windows(image, mode, crop_size, stride)
    if batch_windows is None:
        batch_windows = 1 if image.device.type == "cpu" else 4
    if batch_windows < 1:
        raise ValueError(f"batch_windows: expected 1 or more, got {batch_windows}")
    height, width = image.shape[1:]
    left, right, top, bottom = padding
    inner = (height - top - bottom, width - left - right)
    if min(padding) < 0 or min(inner) < 1:
        raise ValueError(
            f"padding {tuple(padding)} (left, right, top, bottom) leaves nothing of an image of "
            f"{height}x{width}"
        )
    out_size = inner if out_size is None else (int(out_size[0]), int(out_size[1]))
    if min(out_size) < 1:
        raise ValueError(f"out_size: expected a height and a width of 1 or more, got {out_size}")
    bands = _averaged(network, image, crop, step, batch_windows, align_corners)
    if any(padding):
        bands = _cropped(bands, padding, height)
    return bands if out_size == inner else _resized(bands, inner, out_size, align_corners)


def _windows(
    image: Tensor,
    mode: str,
    crop_size: tuple[int, int] | None,
    stride: tuple[int, int] | None,
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Height and width of the windows, and of their steps."""
    if image.ndim != 3 or image.numel() == 0 or not image.is_floating_point():
        raise ValueError(
            "expected one normalised image as a (3, H, W) float tensor, got "
            f"{image.dtype} of shape {tuple(image.shape)}"
        )
    size = (image.shape[1], image.shape[2])
    if mode == "whole":
        return size, size
    if mode != "slide":
        raise ValueError(f"test_cfg: mode is 'whole' or 'slide', got {mode!r}")
    if crop_size is None or stride is None:
        raise ValueError(
            "test_cfg: mode='slide' needs crop_size and stride, e.g. crop_size=(512, 512), "
            "stride=(341, 341)"
        )
    for crop, step in zip(crop_size, stride, strict=True):
        if not 1 <= step <= crop:
            raise ValueError(
                f"test_cfg: stride {tuple(stride)} must lie between 1 and crop_size "
                f"{tuple(crop_size)}, so that no gaps stay between windows"
            )
    return (crop_size[0], crop_size[1]), (stride[0], stride[1])


def _averaged(
    network: Network,
    image: Tensor,
    crop: tuple[int, int],
    step: tuple[int, int],
    batch_windows: int,
    align_corners: bool,
) -> Iterator[Tensor]:
    """Bands of rows of the windows' mean logits at the size of the image."""
    height, width = image.shape[1:]
    crop = (min(crop[0], height), min(crop[1], width))
    tops = window_starts(height, crop[0], step[0])
    lefts = window_starts(width, crop[1], step[1])
    share_x = 1 / _coverage(lefts, crop[1], width).to(image.device)[:, None]  # (W, 1)
    share_y = 1 / _coverage(tops, crop[0], height)
    active: list[_Strip] = []
    for i, lows in enumerate(_strips(network, image, tops, lefts, crop, batch_windows)):
        taps = _Taps.between(lows[0].shape[1], crop[0], align_corners)
        share = share_x if len(lefts) > 1 else None
        active.append(_Strip(tops[i], lows, lefts, crop[1], share, taps, align_corners))
        # what lies above the next window's top has got all its windows
        end = tops[i + 1] if i + 1 < len(tops) else height
        channels, dtype = lows[0].shape[0], lows[0].dtype
        size = _band_rows(image.device, width * channels * dtype.itemsize)
        for start in range(tops[i], end, size):
            stop = min(start + size, end)
            strips = [strip for strip in active if start < strip.top + crop[0]]
            # a strip may end inside the band: then the rest belongs to the others
            band = strips[-1].rows(start, stop, share_y)
            for strip in strips[:-1]:
                last = min(stop, strip.top + crop[0])
                band[: last - start] += strip.rows(start, last, share_y)
            yield band
        active = [strip for strip in active if strip.top + crop[0] > end]


def _coverage(starts: list[int], crop: int, length: int) -> Tensor:
    """By how many windows each position is covered: (length,) float32."""
    count = torch.zeros(length)
    for start in starts:
        count[start : start + crop] += 1
    return count


def _band_rows(device: torch.device, row_bytes: int) -> int:
    return max(1, _BAND_BYTES.get(device.type, _BAND_BYTES_ELSEWHERE) // row_bytes)


def _strips(
    network: Network,
    image: Tensor,
    tops: list[int],
    lefts: list[int],
    crop: tuple[int, int],
    batch_windows: int,
) -> Iterator[list[Tensor]]:
    """Low-resolution logits (C, h', w') of the windows, one row of windows after the other."""
    corners = [(y, x) for y in tops for x in lefts]
    strip: list[Tensor] = []
    for i in range(0, len(corners), batch_windows):
        views = [image[:, y : y + crop[0], x : x + crop[1]] for y, x in corners[i:][:batch_windows]]
        windows = torch.stack(views)
        if windows.device.type == "cpu":  # where convolutions are faster so
            windows = windows.contiguous(memory_format=torch.channels_last)
        logits = network(windows)
        if not isinstance(logits, Tensor) or logits.ndim != 4 or len(logits) != len(views):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"the network should return ({len(views)}, C, h, w) logits for {len(views)} "
                f"windows, got {got}"
            )
        # sums are in float32, also of a network in bfloat16
        dtype = torch.promote_types(logits.dtype, torch.float32)
        logits = logits.to(dtype).contiguous(memory_format=torch.channels_last)
        for low in logits:
            strip.append(low)
            if len(strip) == len(lefts):
                yield strip
                strip = []


class _Taps(NamedTuple):
    """Linear interpolation along one axis: out[i] = near[i] * x[first[i]] + far[i] * x[second[i]].

    The positions are those of ``F.interpolate``, computed in float32 as it does.
    """

    first: Tensor  # (out,) int64
    second: Tensor
    near: Tensor  # (out,) float32
    far: Tensor

    @classmethod
    def between(cls, length: int, out: int, align_corners: bool) -> _Taps:
        positions = torch.arange(out, dtype=torch.float32)
        if length == out:
            source = positions
        elif align_corners:
            source = positions * torch.tensor((length - 1) / (out - 1) if out > 1 else 0.0)
        else:
            source = ((positions + 0.5) * torch.tensor(length / out) - 0.5).clamp(min=0)
        first = source.long().clamp(max=length - 1)
        second = first if length == out else (first + 1).clamp(max=length - 1)
        far = (source - first).clamp(0, 1)
        return cls(first, second, 1 - far, far)

    def part(self, start: int, stop: int) -> _Taps:
        """Of the outputs [start, stop) alone; inputs are counted as before."""
        return _Taps(*(table[start:stop] for table in self))

    def apply(self, rows: Tensor, origin: int, scale: Tensor | None = None) -> Tensor:
        """(n, w, C) -> (out, w, C); ``rows[0]`` is input ``origin``; scale: (out,)."""
        near, far = (
            (self.near, self.far) if scale is None else (self.near * scale, self.far * scale)
        )
        shape, device = (-1, 1, 1), rows.device
        first, second = (self.first - origin).to(device), (self.second - origin).to(device)
        out = rows.index_select(0, first).mul_(near.to(device, rows.dtype).view(shape))
        return out.addcmul_(rows.index_select(0, second), far.to(device, rows.dtype).view(shape))


class _Strip(NamedTuple):
    """One row of windows, still at the network's resolution."""

    top: int
    lows: list[Tensor]  # (C, h', w') each, in channels_last
    lefts: list[int]
    width: int  # of a window
    share: Tensor | None  # (W, 1): one over the windows at each column; None: a single window
    taps: _Taps  # from the network's rows to the windows'
    align_corners: bool

    def rows(self, start: int, stop: int, share_y: Tensor) -> Tensor:
        """This strip's part of the rows [start, stop) of the image: (rows, W, C)."""
        taps = self.taps.part(start - self.top, stop - self.top)
        low, high = int(taps.first[0]), int(taps.second[-1]) + 1
        wide = self._wide(low, high)
        return taps.apply(wide, low, share_y[start:stop])

    def _wide(self, low: int, high: int) -> Tensor:
        """The network's rows [low, high), upsampled along x and averaged: (rows, W, C)."""
        pieces = (
            F.interpolate(
                logits[None, :, low:high],
                (high - low, self.width),
                mode="bilinear",
                align_corners=self.align_corners,
            )[0].permute(1, 2, 0)
            for logits in self.lows
        )
        if self.share is None:
            return next(pieces).contiguous()
        total = self.lows[0].new_zeros((high - low, len(self.share), len(self.lows[0])))
        for left, piece in zip(self.lefts, pieces, strict=True):
            total[:, left : left + self.width] += piece
        return total.mul_(self.share.to(total.dtype))


def _cropped(
    bands: Iterator[Tensor], padding: tuple[int, int, int, int], height: int
) -> Iterator[Tensor]:
    """Without the rows and columns that padding added."""
    left, right, top, bottom = padding
    row = 0
    for band in bands:
        first, last = max(top - row, 0), min(height - bottom - row, len(band))
        row += len(band)
        if first < last:
            yield band[first:last, left : band.shape[1] - right]


def _resized(
    bands: Iterator[Tensor], size: tuple[int, int], out_size: tuple[int, int], align_corners: bool
) -> Iterator[Tensor]:
    """Bands at ``size`` interpolated to ``out_size``; the rows that are still needed are kept."""
    taps = _Taps.between(size[0], out_size[0], align_corners)
    kept: Tensor | None = None
    origin = done = 0  # row of the image that kept[0] is; rows written
    for band in bands:
        wide = F.interpolate(
            band.permute(2, 0, 1)[None],
            (len(band), out_size[1]),
            mode="bilinear",
            align_corners=align_corners,
        )[0].permute(1, 2, 0)
        kept = wide if kept is None else torch.cat([kept, wide])
        ready = int(torch.searchsorted(taps.second, origin + len(kept)))
        size_out = _band_rows(kept.device, kept[0].numel() * kept.dtype.itemsize)
        for start in range(done, ready, size_out):
            yield taps.part(start, min(start + size_out, ready)).apply(kept, origin).contiguous()
        done = ready
        if done < out_size[0]:
            # rows before the next output's first tap are of no more use
            useless = min(int(taps.first[done]) - origin, len(kept))
            kept, origin = kept[useless:], origin + useless
