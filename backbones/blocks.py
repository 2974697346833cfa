"""The blocks of residual networks: basic and bottleneck, with the norms behind or before.

Papers: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016,
https://arxiv.org/abs/1512.03385, and "Identity Mappings in Deep Residual Networks", ECCV 2016,
https://arxiv.org/abs/1603.05027 (pre-activation); Hu et al., "Squeeze-and-Excitation Networks",
CVPR 2018, https://arxiv.org/abs/1709.01507; Xie et al., "Aggregated Residual Transformations for
Deep Neural Networks", CVPR 2017, https://arxiv.org/abs/1611.05431 (grouped convolutions).
The bottleneck strides on its 3x3 convolution, as torchvision's.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from .backbone import NormSpec
from .norm import build_norm, norm_relu

SE_REDUCTION = 16


class SqueezeExcite(nn.Module):
    """Scale each channel of (N, C, H, W) by a gate in 0..1, computed from all channels' means.

    Raises:
        ValueError: fewer channels than the reduction.
    """

    def __init__(self, channels: int, reduction: int = SE_REDUCTION) -> None:
        super().__init__()
        if channels < reduction:
            raise ValueError(
                f"SE: {channels} channels cannot be reduced {reduction} times; use a smaller "
                "reduction"
            )
        self.fc = nn.Sequential(
            nn.Linear(channels, channels // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))  # (N, C)
        return x * gate[:, :, None, None]


class _Block(nn.Module):
    """What follows the last convolution of a post-activation block."""

    expansion: ClassVar[int]
    last_norm_name: ClassVar[str]

    def _end(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        norm: NormSpec,
        se: bool,
        output_norm: NormSpec | None,
    ) -> None:
        """Registered in this order, which is that of the published checkpoints."""
        self.se = SqueezeExcite(out_channels) if se else None
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                build_norm(norm, out_channels),
            )
        self.IN = None if output_norm is None else build_norm(output_norm, out_channels)

    @property
    def last_norm(self) -> nn.Module:
        """The norm before the addition."""
        norm: nn.Module = getattr(self, self.last_norm_name)
        return norm

    def _join(self, out: Tensor, x: Tensor) -> Tensor:
        """Norm, then SE; add the shortcut; then IBN-b's norm and ReLU."""
        shortcut = x if self.downsample is None else self.downsample(x)
        if self.se is None and self.IN is None:
            return norm_relu(self.last_norm, out, shortcut)
        out = self.last_norm(out)
        if self.se is not None:
            out = self.se(out)
        out = out + shortcut
        return F.relu(out, inplace=True) if self.IN is None else norm_relu(self.IN, out)


class BasicBlock(_Block):
    """3x3, 3x3.

    Args:
        in_channels, width: channels of the input; of the block (times ``expansion``: its output).
        norm, first_norm: of the block; another one for its first place.
        se: squeeze and excite before the addition.
        output_norm: of the sum, before the last ReLU (IBN-b).
    """

    expansion = 1
    last_norm_name = "bn2"

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: NormSpec = "bn",
        first_norm: NormSpec | None = None,
        se: bool = False,
        output_norm: NormSpec | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, width, stride, dilation)
        self.bn1 = build_norm(first_norm or norm, width)
        self.conv2 = conv3x3(width, width, 1, dilation)
        self.bn2 = build_norm(norm, width)
        self._end(in_channels, width, stride, norm, se, output_norm)

    def forward(self, x: Tensor) -> Tensor:
        out = norm_relu(self.bn1, self.conv1(x))
        return self._join(self.conv2(out), x)


class Bottleneck(_Block):
    """1x1, 3x3, 1x1 to four times the width.

    Args: as :class:`BasicBlock`'s, and
        groups, base_width: of the 3x3 convolution; its channels are those of ResNeXt's type C,
            ``width * base_width // 64 * groups``.
    """

    expansion = 4
    last_norm_name = "bn3"

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: NormSpec = "bn",
        first_norm: NormSpec | None = None,
        se: bool = False,
        output_norm: NormSpec | None = None,
        groups: int = 1,
        base_width: int = 64,
    ) -> None:
        super().__init__()
        inner, out_channels = width * base_width // 64 * groups, width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = build_norm(first_norm or norm, inner)
        self.conv2 = conv3x3(inner, inner, stride, dilation, groups)
        self.bn2 = build_norm(norm, inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = build_norm(norm, out_channels)
        self._end(in_channels, out_channels, stride, norm, se, output_norm)

    def forward(self, x: Tensor) -> Tensor:
        out = norm_relu(self.bn1, self.conv1(x))
        out = norm_relu(self.bn2, self.conv2(out))
        return self._join(self.conv3(out), x)


class PreactBasicBlock(nn.Module):
    """Norm and ReLU before each 3x3; a shortcut of other shape is a bare 1x1 of the activation."""

    expansion: ClassVar[int] = 1

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: NormSpec = "bn",
    ) -> None:
        super().__init__()
        self.bn1 = build_norm(norm, in_channels)
        self.conv1 = conv3x3(in_channels, width, stride, dilation)
        self.bn2 = build_norm(norm, width)
        self.conv2 = conv3x3(width, width, 1, dilation)
        self.downsample = _bare_shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = norm_relu(self.bn1, x)
        shortcut = x if self.downsample is None else self.downsample(out)
        out = self.conv1(out)
        out = self.conv2(norm_relu(self.bn2, out))
        joined: Tensor = out + shortcut
        return joined


class PreactBottleneck(nn.Module):
    """Norm and ReLU before 1x1, 3x3 and 1x1; the shortcut as :class:`PreactBasicBlock`'s."""

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: NormSpec = "bn",
    ) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.bn1 = build_norm(norm, in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn2 = build_norm(norm, width)
        self.conv2 = conv3x3(width, width, stride, dilation)
        self.bn3 = build_norm(norm, width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.downsample = _bare_shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = norm_relu(self.bn1, x)
        shortcut = x if self.downsample is None else self.downsample(out)
        out = self.conv1(out)
        out = self.conv2(norm_relu(self.bn2, out))
        out = self.conv3(norm_relu(self.bn3, out))
        joined: Tensor = out + shortcut
        return joined


BlockType = type[BasicBlock] | type[Bottleneck] | type[PreactBasicBlock] | type[PreactBottleneck]


def make_stage(
    block: BlockType,
    in_channels: int,
    width: int,
    num_blocks: int,
    stride: int,
    *,
    output_norm: NormSpec | None = None,
    **options: Any,
) -> nn.Sequential:
    """``num_blocks`` blocks; the first takes the stride, the last the output norm."""
    out_channels = width * block.expansion
    blocks: list[nn.Module] = []
    for index in range(num_blocks):
        if output_norm is not None and index == num_blocks - 1:
            options["output_norm"] = output_norm
        blocks.append(
            block(
                in_channels if index == 0 else out_channels,
                width,
                stride=stride if index == 0 else 1,
                **options,
            )
        )
    return nn.Sequential(*blocks)


def conv3x3(
    in_channels: int, out_channels: int, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    """3x3 without bias; keeps the size at stride 1, whatever the dilation."""
    return nn.Conv2d(
        in_channels,
        out_channels,
        3,
        stride=stride,
        padding=dilation,
        dilation=dilation,
        groups=groups,
        bias=False,
    )


def _bare_shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
