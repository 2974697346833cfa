"""One ResNet: depth, norm, IBN, SE, groups, stem, pre-activation, non-local are arguments.

Papers: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016,
https://arxiv.org/abs/1512.03385; IBN-a and IBN-b: Pan et al., ECCV 2018,
https://arxiv.org/abs/1807.09441; the networks of SN: Luo et al., ICLR 2019,
https://arxiv.org/abs/1806.10779; those of ILM: Jia et al., CVPR 2019,
https://arxiv.org/abs/1904.03516. The blocks and their papers stand in ``blocks.py`` and
``non_local.py``.

Parameter names are always torchvision's, where shapes are, too: the norms of SN's networks are
``bn1`` and not ``sn1``, shortcuts are ``downsample``, the classifier is ``fc``. Deviation from the
authors' networks: average pooling is adaptive, so that any input size works (equal at theirs).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from .backbone import Backbone, NormSpec, reset_convolutions
from .blocks import (
    BasicBlock,
    BlockType,
    Bottleneck,
    PreactBasicBlock,
    PreactBottleneck,
    conv3x3,
    make_stage,
)
from .non_local import NonLocal
from .norm import build_norm, norm_relu
from .registry import MODELS

BlockName = Literal["basic", "bottleneck"]

ARCHITECTURES: dict[int, tuple[BlockName, tuple[int, int, int, int]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
WIDTHS = (64, 128, 256, 512)


@MODELS.register_module()
class ResNet(Backbone):
    """ResNet with its norms as an argument.

    Args:
        depth: 18, 34, 50, 101 or 152.
        ibn: None; 'a': the first norm of every block of layers 1 to 3 is IBN; 'b': the stem's norm
            is IN, and IN follows the addition in the last block of layers 1 and 2 (its logits do
            not change when the input's contrast does).
        norm: every other norm; a name or dict for ``build_norm``. With ``ibn`` it is a batch norm.
        se: squeeze and excite (reduction 16) before each addition.
        groups, base_width: of the bottlenecks' 3x3 convolutions; ResNeXt's are 32 and 4.
        stem: '7x7' with stride 2 and max-pooling, or '3x3' with neither, for small images.
        preact: norm and ReLU before each convolution (ResNet v2, as SN's authors have it):
            shortcuts are bare convolutions of the activation, and ``bn_out`` with ReLU follows
            layer4. The maps of layers 1 to 3 are then sums that no ReLU has seen.
        block: 'basic' or 'bottleneck' in place of what the depth implies. In the published code of
            ILM-Norm the 3x3-stem networks of depth 50 and 152 are built of basic blocks by
            mistake (50 equals 34); ``block="basic"`` gives those.
        last_gamma: the weight of each block's last norm starts at 0 (SN's networks v1).
        non_local: how many of the last blocks of each stage a non-local block follows; AGW's
            ResNet-50 has ``(0, 2, 3, 0)``. New ones are the identity. They are called NL_1 to NL_4.
        non_local_channels: inside of them; None is half of the map's.
        dropout: share of the pooled features that training drops before the classifier.
        strides, dilations: of the four stages; a stage's first block takes the stride, all its
            blocks the dilation. Output stride 16 is ``strides=(1, 2, 2, 1)`` with
            ``dilations=(1, 1, 1, 2)``.
        last_stride: stride of layer4, overriding ``strides[3]``; 1 is usual in re-identification.
        frozen_stages, norm_eval, out_indices, num_classes, init_cfg: see :class:`Backbone`; stages
            are layers 1 to 4.
        in_channels: of the image.

    Raises:
        ValueError: an argument out of range, arguments that exclude each other, or a norm that
            does not fit a layer's channels.

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
        se: bool = False,
        groups: int = 1,
        base_width: int = 64,
        stem: Literal["7x7", "3x3"] = "7x7",
        preact: bool = False,
        block: BlockName | None = None,
        last_gamma: bool = False,
        non_local: Sequence[int] = (0, 0, 0, 0),
        non_local_channels: int | None = None,
        dropout: float = 0.0,
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
        super().__init__(
            out_indices=out_indices,
            num_classes=num_classes,
            frozen_stages=frozen_stages,
            norm_eval=norm_eval,
            init_cfg=init_cfg,
        )
        _check_choices(depth, ibn, stem, block, strides, dilations, dropout)
        block_name, num_blocks = ARCHITECTURES[depth]
        block_name = block or block_name
        _check_block(block_name, groups, base_width, preact, ibn, se, last_gamma, any(non_local))
        _check_non_local(non_local, num_blocks)
        strides = (*strides[:3], strides[3] if last_stride is None else last_stride)
        self.depth, self.ibn, self.preact = depth, ibn, preact

        if stem == "7x7":
            self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        else:
            self.conv1 = conv3x3(in_channels, 64)
        self.bn1 = build_norm("in" if ibn == "b" else norm, 64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "7x7" else nn.Identity()

        block_type = _block_type(block_name, preact)
        options: dict[str, Any] = {"norm": norm}
        if not preact:
            options["se"] = se
        if block_type is Bottleneck:
            options |= {"groups": groups, "base_width": base_width}
        first_norm = ibn_in_place_of(norm) if ibn else None
        channels = [64] + [width * block_type.expansion for width in WIDTHS]
        for stage in range(4):
            if ibn == "a":
                options["first_norm"] = first_norm if stage < 3 else None
            layer = make_stage(
                block_type,
                channels[stage],
                WIDTHS[stage],
                num_blocks[stage],
                strides[stage],
                dilation=dilations[stage],
                output_norm="in" if ibn == "b" and stage < 2 else None,
                **options,
            )
            self.add_module(f"layer{stage + 1}", layer)
        if preact:
            self.bn_out = build_norm(norm, channels[-1])
        if num_classes:
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
            self.fc = nn.Linear(channels[-1], num_classes)

        reset_convolutions(self)
        if last_gamma:
            _zero_last_weights(self)
        for stage, count in enumerate(non_local):  # after reset_convolutions: theirs are torch's
            if count:
                width = channels[stage + 1]
                added = [NonLocal(width, non_local_channels, norm) for _ in range(count)]
                self.add_module(f"NL_{stage + 1}", nn.ModuleList(added))
        first = 4 if stem == "7x7" else 1
        self._finish(channels[1:], [first * math.prod(strides[: i + 1]) for i in range(4)])

    def _stem(self, x: Tensor) -> Tensor:
        stem: Tensor = self.maxpool(norm_relu(self.bn1, self.conv1(x)))
        return stem

    def _stage(self, x: Tensor, index: int) -> Tensor:
        layer, added = getattr(self, f"layer{index + 1}"), getattr(self, f"NL_{index + 1}", ())
        if added:
            plain = len(layer) - len(added)
            x = layer[:plain](x)
            for block, non_local in zip(layer[plain:], added, strict=True):
                x = non_local(block(x))
        else:
            x = layer(x)
        return norm_relu(self.bn_out, x) if self.preact and index == 3 else x

    def _classify(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.dropout(self.avgpool(x).flatten(1)))
        return logits

    def _parts(self, stage: int) -> Iterable[nn.Module]:
        names = ["conv1", "bn1"] if stage == 0 else [f"layer{stage}"]
        if hasattr(self, f"NL_{stage}"):
            names.append(f"NL_{stage}")
        if self.preact and stage == 4:
            names.append("bn_out")
        return [getattr(self, name) for name in names]


def ibn_in_place_of(norm: NormSpec) -> dict[str, Any]:
    """The IBN layer where ``norm`` would stand: same eps, momentum and synchronisation.

    Raises:
        ValueError: ``norm`` is no batch norm.
    """
    arguments: dict[str, Any] = {"type": norm} if isinstance(norm, str) else dict(norm)
    name = str(arguments.get("type", "")).lower().removeprefix("backbones.")
    if name not in ("bn", "syncbn"):
        raise ValueError(
            f"ibn mixes instance and batch norm, so the other norms are 'bn' or 'syncbn', got "
            f"norm={norm!r}; leave one of the two arguments out"
        )
    return arguments | {"type": name.replace("bn", "ibn")}


def _block_type(name: BlockName, preact: bool) -> BlockType:
    if preact:
        return PreactBasicBlock if name == "basic" else PreactBottleneck
    return BasicBlock if name == "basic" else Bottleneck


def _zero_last_weights(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, (BasicBlock, Bottleneck)):
            weight = getattr(module.last_norm, "weight", None)
            if weight is None:
                raise ValueError(
                    f"ResNet: last_gamma sets the norms' weight to 0, and "
                    f"{type(module.last_norm).__name__} has none; use last_gamma=False"
                )
            nn.init.zeros_(weight)


def _check_choices(
    depth: int,
    ibn: str | None,
    stem: str,
    block: str | None,
    strides: Sequence[int],
    dilations: Sequence[int],
    dropout: float,
) -> None:
    if depth not in ARCHITECTURES:
        raise ValueError(f"ResNet: depth must be one of {sorted(ARCHITECTURES)}, got {depth}")
    if ibn not in (None, "a", "b"):
        raise ValueError(f"ResNet: ibn must be None, 'a' or 'b', got {ibn!r}")
    if stem not in ("7x7", "3x3"):
        raise ValueError(f"ResNet: stem must be '7x7' or '3x3', got {stem!r}")
    if block not in (None, "basic", "bottleneck"):
        raise ValueError(f"ResNet: block must be None, 'basic' or 'bottleneck', got {block!r}")
    if len(strides) != 4 or len(dilations) != 4:
        raise ValueError(
            f"ResNet: strides and dilations name four stages, got {strides} and {dilations}"
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"ResNet: dropout is a share, 0 to below 1, got {dropout}")


def _check_block(
    block: BlockName,
    groups: int,
    base_width: int,
    preact: bool,
    ibn: str | None,
    se: bool,
    last_gamma: bool,
    non_local: bool,
) -> None:
    grouped = (groups, base_width) != (1, 64)
    if grouped and block == "basic":
        raise ValueError(
            f"ResNet: a basic block has no groups, got groups={groups}, base_width={base_width}; "
            "use depth 50, 101 or 152, or block='bottleneck'"
        )
    if groups < 1 or WIDTHS[0] * base_width < 64:
        raise ValueError(
            f"ResNet: groups and base_width are 1 or more, got {groups} and {base_width}"
        )
    other = {"ibn": ibn, "se": se, "groups": grouped, "last_gamma": last_gamma}
    other["non_local"] = non_local
    refused = [name for name, given in other.items() if given]
    if preact and refused:
        raise ValueError(
            f"ResNet: the pre-activation network has no {', '.join(refused)}; use preact=False"
        )


def _check_non_local(non_local: Sequence[int], num_blocks: Sequence[int]) -> None:
    fits = len(non_local) == 4 and all(
        0 <= n <= blocks for n, blocks in zip(non_local, num_blocks, strict=True)
    )
    if not fits:
        raise ValueError(
            f"ResNet: non_local counts blocks of the four stages, at most {tuple(num_blocks)}, "
            f"got {tuple(non_local)}"
        )
