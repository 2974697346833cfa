"""One ResNet: the norm, IBN-a and IBN-b, strides, dilations and frozen stages are arguments.

Papers: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016,
https://arxiv.org/abs/1512.03385; IBN-a and IBN-b: Pan et al., ECCV 2018,
https://arxiv.org/abs/1807.09441. The bottleneck strides on its 3x3 convolution, as torchvision's.

Parameter names and shapes are those of torchvision and of the published IBN-Net files. Deviation
from the latter: average pooling is adaptive, so that any input size works (equal at 224x224).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from mmengine.model import BaseModule
from torch import Tensor, nn

from .norm import build_norm
from .registry import MODELS
from .weights import load_weights

NormSpec = str | dict[str, Any]


class BasicBlock(nn.Module):
    """3x3, 3x3; ResNet-18 and -34."""

    expansion: ClassVar[int] = 1

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: NormSpec = "bn",
        first_norm: NormSpec | None = None,
        output_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, width, stride, dilation)
        self.bn1 = build_norm(first_norm or norm, width)
        self.conv2 = _conv3x3(width, width, 1, dilation)
        self.bn2 = build_norm(norm, width)
        self.downsample = _shortcut(in_channels, width, stride, norm)
        if output_norm is not None:
            self.IN = output_norm
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return _join(self, out, x)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 to four times the width; ResNet-50, -101 and -152."""

    expansion: ClassVar[int] = 4

    def __init__(
        self,
        in_channels: int,
        width: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        norm: NormSpec = "bn",
        first_norm: NormSpec | None = None,
        output_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = build_norm(first_norm or norm, width)
        self.conv2 = _conv3x3(width, width, stride, dilation)
        self.bn2 = build_norm(norm, width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = build_norm(norm, out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride, norm)
        if output_norm is not None:
            self.IN = output_norm
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return _join(self, out, x)


ARCHITECTURES: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}
WIDTHS = (64, 128, 256, 512)


@MODELS.register_module()
class ResNet(BaseModule):
    """ResNet with its norms as an argument.

    Args:
        depth: 18, 34, 50, 101 or 152.
        ibn: None; 'a': the first norm of every block of layers 1 to 3 is IBN; 'b': the stem's norm
            is IN, and IN follows the addition in the last block of layers 1 and 2 (its logits do
            not change when the input's contrast does).
        norm: every other norm; a name or dict for ``build_norm``.
        strides, dilations: of the four stages; a stage's first block takes the stride, all its
            blocks the dilation. Output stride 16 is ``strides=(1, 2, 2, 1)`` with
            ``dilations=(1, 1, 1, 2)``.
        last_stride: stride of layer4, overriding ``strides[3]``; 1 is usual in re-identification.
        frozen_stages: -1 freezes nothing, 0 the stem, k the stem and layers 1 to k: no gradient,
            norms in eval mode.
        norm_eval: keep all batch norms in eval mode while training.
        out_indices: stages whose maps are returned where ``num_classes`` is 0.
        num_classes: outputs of the classifier; 0 returns a tuple of feature maps instead.
        in_channels: of the image.
        init_cfg: mmengine initialisation, e.g. ``dict(type='Pretrained', checkpoint=...)``.

    Attributes:
        out_channels: channels of each returned map. reductions: its stride against the image.

    Shape: (N, in_channels, H, W) -> (N, num_classes), or a tuple of (N, C_i, H/r_i, W/r_i).
    """

    def __init__(
        self,
        depth: int,
        *,
        ibn: Literal["a", "b"] | None = None,
        norm: NormSpec = "bn",
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        last_stride: int | None = None,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        out_indices: Sequence[int] = (0, 1, 2, 3),
        num_classes: int = 0,
        in_channels: int = 3,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        _check(depth, ibn, strides, dilations, frozen_stages, out_indices)
        strides = (*strides[:3], strides[3] if last_stride is None else last_stride)
        block, num_blocks = ARCHITECTURES[depth]
        self.depth, self.ibn = depth, ibn
        self.frozen_stages, self.norm_eval = frozen_stages, norm_eval
        self.out_indices, self.num_classes = tuple(out_indices), num_classes

        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = build_norm("in" if ibn == "b" else norm, 64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

        channels = 64
        for stage in range(4):
            out_channels = WIDTHS[stage] * block.expansion
            blocks: list[nn.Module] = []
            for index in range(num_blocks[stage]):
                is_last = index == num_blocks[stage] - 1
                blocks.append(
                    block(
                        channels,
                        WIDTHS[stage],
                        stride=strides[stage] if index == 0 else 1,
                        dilation=dilations[stage],
                        norm=norm,
                        first_norm="ibn" if ibn == "a" and stage < 3 else None,
                        output_norm=build_norm("in", out_channels)
                        if ibn == "b" and stage < 2 and is_last
                        else None,
                    )
                )
                channels = out_channels
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))

        self.out_channels = tuple(WIDTHS[i] * block.expansion for i in self.out_indices)
        self.reductions = tuple(4 * math.prod(strides[: i + 1]) for i in self.out_indices)
        if num_classes:
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(512 * block.expansion, num_classes)

        self._reset_parameters()
        self._freeze()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        last = 3 if self.num_classes else max(self.out_indices)
        for stage in range(last + 1):
            x = getattr(self, f"layer{stage + 1}")(x)
            if stage in self.out_indices:
                maps.append(x)
        if self.num_classes:
            return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]
        return tuple(maps)

    def init_weights(self) -> None:
        """As mmengine's, but a pretrained checkpoint is loaded whole, and never unpickled."""
        if isinstance(self.init_cfg, dict) and self.init_cfg.get("type") == "Pretrained":
            load_weights(self, self.init_cfg["checkpoint"])
            self._is_init = True
        else:
            super().init_weights()

    def train(self, mode: bool = True) -> ResNet:
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def _freeze(self) -> None:
        stages = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]
        for name in stages[: self.frozen_stages + 2 if self.frozen_stages >= 0 else 0]:
            getattr(self, name).eval().requires_grad_(False)

    def _reset_parameters(self) -> None:
        """N(0, sqrt(2 / (k * k * out_channels))), norms 1 and 0, as the authors'."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))


def _conv3x3(in_channels: int, out_channels: int, stride: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(
        in_channels,
        out_channels,
        3,
        stride=stride,
        padding=dilation,
        dilation=dilation,
        bias=False,
    )


def _shortcut(
    in_channels: int, out_channels: int, stride: int, norm: NormSpec
) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
        build_norm(norm, out_channels),
    )


def _join(block: BasicBlock | Bottleneck, out: Tensor, x: Tensor) -> Tensor:
    """Add the shortcut, then IBN-b's norm if the block has one, then ReLU."""
    out += x if block.downsample is None else block.downsample(x)
    if hasattr(block, "IN"):
        out = block.IN(out)
    activated: Tensor = block.relu(out)
    return activated


def _check(
    depth: int,
    ibn: str | None,
    strides: Sequence[int],
    dilations: Sequence[int],
    frozen_stages: int,
    out_indices: Sequence[int],
) -> None:
    if depth not in ARCHITECTURES:
        raise ValueError(f"ResNet: depth must be one of {sorted(ARCHITECTURES)}, got {depth}")
    if ibn not in (None, "a", "b"):
        raise ValueError(f"ResNet: ibn must be None, 'a' or 'b', got {ibn!r}")
    if len(strides) != 4 or len(dilations) != 4:
        raise ValueError(
            f"ResNet: strides and dilations name four stages, got {strides} and {dilations}"
        )
    if not -1 <= frozen_stages <= 4:
        raise ValueError(f"ResNet: frozen_stages is -1 (none) to 4 (all), got {frozen_stages}")
    if not out_indices or any(i not in range(4) for i in out_indices):
        raise ValueError(f"ResNet: out_indices are stages 0 to 3, at least one, got {out_indices}")
