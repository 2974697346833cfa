"""The thin ResNet for images of 32x32: depth 6n + 2, three stages of 16, 32 and 64 channels.

Papers: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2,
https://arxiv.org/abs/1512.03385; with BIN: Nam and Kim, NeurIPS 2018,
https://arxiv.org/abs/1805.07925, whose authors' rule for the blocks is kept. Deviation from their
network: average pooling is adaptive (equal at 32x32).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from .backbone import Backbone, NormSpec, reset_convolutions
from .blocks import BasicBlock, Bottleneck, conv3x3, make_stage
from .norm import build_norm, norm_relu
from .registry import MODELS
from .resnet import BlockName

WIDTHS = (16, 32, 64)
BOTTLENECK_FROM = 44
"""The depth from which on the blocks are bottlenecks, unless told otherwise."""


@MODELS.register_module()
class CifarResNet(Backbone):
    """A thin ResNet with its norms as an argument.

    Args:
        depth: 6n + 2 with n blocks a stage, whichever the block. The number is that of layers
            only with basic blocks: depth 50 has 8 bottlenecks a stage, which are 74 layers, and
            depth 110 has 18, which are 164.
        norm: every norm, shortcuts' included; a name or dict for ``build_norm``.
        block: 'basic' or 'bottleneck'; by default bottlenecks from depth 44 on.
        out_indices, num_classes, frozen_stages, norm_eval, init_cfg: see :class:`Backbone`; there
            are three stages.
        in_channels: of the image.

    Raises:
        ValueError: an argument out of range, or a norm that does not fit 16 channels.

    Attributes:
        out_channels: channels of each returned map. reductions: its stride against the image,
            1, 2 and 4.

    Shape: (N, in_channels, H, W) -> (N, num_classes), or a tuple of (N, C_i, H/r_i, W/r_i).
    """

    num_stages = 3

    def __init__(
        self,
        depth: int,
        *,
        norm: NormSpec = "bn",
        block: BlockName | None = None,
        out_indices: Sequence[int] = (0, 1, 2),
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
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(
                f"CifarResNet: depth must be 6n + 2 (8, 14, 20, 32, 44, 50, 56, 110, ...), "
                f"got {depth}"
            )
        if block not in (None, "basic", "bottleneck"):
            raise ValueError(
                f"CifarResNet: block must be None, 'basic' or 'bottleneck', got {block!r}"
            )
        self.depth = depth
        block = block or ("bottleneck" if depth >= BOTTLENECK_FROM else "basic")
        block_type = BasicBlock if block == "basic" else Bottleneck

        self.conv1 = conv3x3(in_channels, WIDTHS[0])
        self.bn1 = build_norm(norm, WIDTHS[0])
        channels = [WIDTHS[0]] + [width * block_type.expansion for width in WIDTHS]
        for stage in range(3):
            layer = make_stage(
                block_type,
                channels[stage],
                WIDTHS[stage],
                (depth - 2) // 6,
                1 if stage == 0 else 2,
                norm=norm,
            )
            self.add_module(f"layer{stage + 1}", layer)
        if num_classes:
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(channels[-1], num_classes)

        reset_convolutions(self)
        self._finish(channels[1:], (1, 2, 4))

    def _stem(self, x: Tensor) -> Tensor:
        return norm_relu(self.bn1, self.conv1(x))

    def _stage(self, x: Tensor, index: int) -> Tensor:
        stage: Tensor = getattr(self, f"layer{index + 1}")(x)
        return stage

    def _parts(self, stage: int) -> Iterable[nn.Module]:
        names = ("conv1", "bn1") if stage == 0 else (f"layer{stage}",)
        return [getattr(self, name) for name in names]
