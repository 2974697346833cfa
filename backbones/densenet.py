"""DenseNet, plain and with IBN-a.

Papers: Huang et al., "Densely Connected Convolutional Networks", CVPR 2017,
https://arxiv.org/abs/1608.06993; IBN-a: Pan et al., ECCV 2018, https://arxiv.org/abs/1807.09441.

Parameter names and shapes are those of torchvision and of the published IBN-Net files. Deviation
from the latter: average pooling is adaptive (equal at 224x224), and a map of a single row or
column is not halved further, so that any input size works.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .backbone import Backbone, NormSpec
from .blocks import conv3x3
from .norm import build_norm, norm_relu
from .registry import MODELS
from .resnet import ibn_in_place_of

# depth -> channels of the stem, channels that each layer adds, layers of each block
ARCHITECTURES: dict[int, tuple[int, int, tuple[int, int, int, int]]] = {
    121: (64, 32, (6, 12, 24, 16)),
    161: (96, 48, (6, 12, 36, 24)),
    169: (64, 32, (6, 12, 32, 32)),
    201: (64, 32, (6, 12, 48, 32)),
}
BOTTLENECK = 4
"""Channels between the two convolutions of a layer, in units of what the layer adds."""
IBN_RATIO = 0.4
"""Share of IN, the last channels: the others hold what the layers before have added up."""
IBN_PERIOD = 3
"""IBN stands in every third layer, from the first on."""


class DenseLayer(nn.Module):
    """1x1 to four times the growth, 3x3 to the growth; (N, C, H, W) -> (N, growth, H, W)."""

    def __init__(
        self, in_channels: int, growth: int, *, norm: NormSpec, first_norm: NormSpec
    ) -> None:
        super().__init__()
        width = BOTTLENECK * growth
        self.norm1 = build_norm(first_norm, in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.norm2 = build_norm(norm, width)
        self.conv2 = conv3x3(width, growth)

    def forward(self, x: Tensor) -> Tensor:
        new: Tensor = self.conv1(norm_relu(self.norm1, x))
        new = self.conv2(norm_relu(self.norm2, new))
        return new


class DenseBlock(nn.Module):
    """Layers that each take all that the ones before have made; their outputs are joined."""

    def __init__(
        self,
        in_channels: int,
        growth: int,
        num_layers: int,
        *,
        norm: NormSpec,
        ibn: NormSpec | None,
    ) -> None:
        super().__init__()
        for index in range(num_layers):
            layer = DenseLayer(
                in_channels + index * growth,
                growth,
                norm=norm,
                first_norm=ibn if ibn is not None and index % IBN_PERIOD == 0 else norm,
            )
            self.add_module(f"denselayer{index + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = torch.cat((x, layer(x)), 1)
        return x


class Transition(nn.Module):
    """Half the channels, half the resolution."""

    def __init__(self, in_channels: int, *, norm: NormSpec) -> None:
        super().__init__()
        self.norm = build_norm(norm, in_channels)
        self.conv = nn.Conv2d(in_channels, in_channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(norm_relu(self.norm, x))
        height, width = x.shape[-2:]
        return F.avg_pool2d(x, (2 if height > 1 else 1, 2 if width > 1 else 1))


@MODELS.register_module()
class DenseNet(Backbone):
    """DenseNet with its norms as an argument.

    Args:
        depth: 121, 161, 169 or 201.
        ibn: None; 'a': the first norm of every third layer of dense blocks 1 to 3 is IBN, with
            the first 60% of the channels batch-normalised.
        norm: every other norm; a name or dict for ``build_norm``. With ``ibn`` it is a batch norm.
        out_indices, num_classes, frozen_stages, norm_eval, init_cfg: see :class:`Backbone`. Maps
            are the outputs of the four dense blocks, the last one after ``norm5`` and ReLU.
        in_channels: of the image.

    Raises:
        ValueError: an argument out of range, or a norm that does not fit a layer's channels.

    Attributes:
        out_channels: channels of each returned map. reductions: its stride against the image,
            4, 8, 16 and 32.

    Initialised by torch's defaults, as the authors'.

    Shape: (N, in_channels, H, W) -> (N, num_classes), or a tuple of (N, C_i, H/r_i, W/r_i),
    rounded down.
    """

    classifier_name = "classifier"

    def __init__(
        self,
        depth: int,
        *,
        ibn: Literal["a"] | None = None,
        norm: NormSpec = "bn",
        out_indices: Sequence[int] = (0, 1, 2, 3),
        num_classes: int = 0,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        in_channels: int = 3,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(
            out_indices=out_indices,
            num_classes=num_classes,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            init_cfg=init_cfg,
        )
        if depth not in ARCHITECTURES:
            raise ValueError(f"DenseNet: depth must be one of {sorted(ARCHITECTURES)}, got {depth}")
        if ibn not in (None, "a"):
            raise ValueError(f"DenseNet: ibn must be None or 'a', got {ibn!r}")
        self.depth, self.ibn = depth, ibn
        channels, growth, num_layers = ARCHITECTURES[depth]
        ibn_norm: NormSpec | None = None
        if ibn:
            ibn_norm = {"ratio": IBN_RATIO, "order": "bn_in"} | ibn_in_place_of(norm)

        self.features = nn.ModuleDict()
        self.features["conv0"] = nn.Conv2d(
            in_channels, channels, 7, stride=2, padding=3, bias=False
        )
        self.features["norm0"] = build_norm(norm, channels)
        out_channels = []
        for stage in range(4):
            if stage:
                self.features[f"transition{stage}"] = Transition(channels, norm=norm)
                channels //= 2
            self.features[f"denseblock{stage + 1}"] = DenseBlock(
                channels,
                growth,
                num_layers[stage],
                norm=norm,
                ibn=ibn_norm if stage < 3 else None,
            )
            channels += num_layers[stage] * growth
            out_channels.append(channels)
        self.features["norm5"] = build_norm(norm, channels)
        if num_classes:
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.classifier = nn.Linear(channels, num_classes)
        self._finish(out_channels, (4, 8, 16, 32))

    def _stem(self, x: Tensor) -> Tensor:
        x = norm_relu(self.features["norm0"], self.features["conv0"](x))
        return F.max_pool2d(x, 3, stride=2, padding=1)

    def _stage(self, x: Tensor, index: int) -> Tensor:
        if index:
            x = self.features[f"transition{index}"](x)
        x = self.features[f"denseblock{index + 1}"](x)
        return norm_relu(self.features["norm5"], x) if index == 3 else x

    def _parts(self, stage: int) -> Iterable[nn.Module]:
        if stage == 0:
            names = ["conv0", "norm0"]
        else:
            names = [f"transition{stage - 1}"] if stage > 1 else []
            names += [f"denseblock{stage}", *(["norm5"] if stage == 4 else [])]
        return [self.features[name] for name in names]
