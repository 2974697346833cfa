"""The decoder of DeepLabV3+ with plain convolutions, as the domain generalisation papers have it.

Papers: Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation", ECCV 2018, https://arxiv.org/abs/1802.02611; this arrangement: Choi et al., CVPR
2021, https://arxiv.org/abs/2103.15597 (rates 6, 12, 18 at output stride 16, twice that at 8).
mmseg's ``DepthwiseSeparableASPPHead`` has separable convolutions and a 3x3 bottleneck instead; it
may stand in the same place of a config.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn
from torch.nn import functional as F

from ..registry import MODELS


@MODELS.register_module()
class DeepLabV3PlusHead(BaseDecodeHead):
    """Atrous pyramid on the map ``in_index``, joined with the low-level features of map 0.

    Args:
        dilations: rates of the pyramid's 3x3 convolutions, beside its 1x1 and its image pooling.
        c1_in_channels: channels of map 0; ``seg.Segmentor`` fills in None.
        c1_channels: what they are reduced to.
        kwargs: in_channels, channels, num_classes, norm_cfg, ... of mmseg's heads.

    The pooled branch is a map of 1x1, so that a batch norm cannot train on a single image: it
    raises ValueError, which says so. Use two images or more, or norm_cfg=dict(type="GN",
    num_groups=32).

    Shape: maps of the backbone -> (N, num_classes, h, w) at the resolution of map 0.
    """

    def __init__(
        self,
        *,
        dilations: Sequence[int] = (6, 12, 18),
        c1_in_channels: int | None = None,
        c1_channels: int = 48,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if c1_in_channels is None:
            raise ValueError(
                "DeepLabV3PlusHead: give c1_in_channels, the channels of the backbone's map 0 "
                "(seg.Segmentor fills it in for backbones that state their out_channels)"
            )
        options = {
            "conv_cfg": self.conv_cfg,
            "norm_cfg": self.norm_cfg,
            "act_cfg": self.act_cfg,
        }

        def conv(inputs: int, outputs: int, size: int = 1, dilation: int = 1) -> nn.Module:
            padding = dilation * (size // 2)
            module: nn.Module = ConvModule(
                inputs, outputs, size, padding=padding, dilation=dilation, **options
            )
            return module

        width = self.channels
        self.image_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv(self.in_channels, width))
        self.pyramid = nn.ModuleList([conv(self.in_channels, width)])
        self.pyramid.extend(conv(self.in_channels, width, 3, rate) for rate in dilations)
        self.bottleneck = conv((len(dilations) + 2) * width, width)
        self.c1_bottleneck = conv(c1_in_channels, c1_channels)
        self.fuse = nn.Sequential(conv(width + c1_channels, width, 3), conv(width, width, 3))

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        x, low = self._transform_inputs(inputs), inputs[0]
        pooled = self.image_pool(x).expand(-1, -1, *x.shape[2:])
        x = self.bottleneck(torch.cat([pooled, *(branch(x) for branch in self.pyramid)], 1))
        x = F.interpolate(x, low.shape[2:], mode="bilinear", align_corners=self.align_corners)
        x = self.fuse(torch.cat([x, self.c1_bottleneck(low)], 1))
        logits: Tensor = self.cls_seg(x)
        return logits
