"""The contract of every network here, stated once: arguments, maps or logits, what is frozen.

A network has a stem, stages that each halve (or keep) the resolution, and a classifier.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from mmengine.model import BaseModule
from torch import Tensor, nn

from .weights import load_weights

NormSpec = str | dict[str, Any]


class Backbone(BaseModule):
    """A network whose stages' maps, or whose logits, are its output.

    Args:
        out_indices: stages whose maps are returned where ``num_classes`` is 0.
        num_classes: outputs of the classifier; 0 returns a tuple of feature maps instead.
        frozen_stages: -1 freezes nothing, 0 the stem, k the stem and the first k stages: no
            gradient, norms in eval mode.
        norm_eval: keep every norm with running statistics in eval mode while training.
        init_cfg: mmengine initialisation, e.g. ``dict(type='Pretrained', checkpoint=...)``.

    Attributes:
        out_channels: channels of each returned map. reductions: its stride against the image.

    Shape: (N, in_channels, H, W) -> (N, num_classes), or a tuple of (N, C_i, H/r_i, W/r_i). Any
    size of image, because pooling is adaptive.

    Subclasses give :meth:`_stem`, :meth:`_stage`, :meth:`_parts` and, where ``num_classes`` is
    positive, ``avgpool`` and the classifier's layer, and call :meth:`_finish` last.
    """

    num_stages: ClassVar[int] = 4
    classifier_name: ClassVar[str] = "fc"
    out_channels: tuple[int, ...]
    reductions: tuple[int, ...]

    def __init__(
        self,
        *,
        out_indices: Sequence[int],
        num_classes: int,
        frozen_stages: int,
        norm_eval: bool,
        init_cfg: dict[str, Any] | list[dict[str, Any]] | None,
    ) -> None:
        super().__init__(init_cfg)
        name, last = type(self).__name__, self.num_stages
        if not out_indices or any(i not in range(last) for i in out_indices):
            raise ValueError(
                f"{name}: out_indices are stages 0 to {last - 1}, at least one, got {out_indices}"
            )
        if not isinstance(num_classes, int) or num_classes < 0:
            raise ValueError(
                f"{name}: num_classes is a number of classes, or 0 for feature maps, "
                f"got {num_classes!r}"
            )
        if not -1 <= frozen_stages <= last:
            raise ValueError(
                f"{name}: frozen_stages is -1 (none) to {last} (all), got {frozen_stages}"
            )
        self.out_indices, self.num_classes = tuple(out_indices), num_classes
        self.frozen_stages, self.norm_eval = frozen_stages, norm_eval

    @abstractmethod
    def _stem(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> what the first stage takes."""

    @abstractmethod
    def _stage(self, x: Tensor, index: int) -> Tensor:
        """The map of stage ``index`` from that of the stage before."""

    @abstractmethod
    def _parts(self, stage: int) -> Iterable[nn.Module]:
        """The modules of the stem (0) or of the stage of that number (from 1)."""

    def _finish(self, channels: Sequence[int], reductions: Sequence[int]) -> None:
        """Take note of all stages' channels and strides, and freeze what is to be frozen."""
        self.out_channels = tuple(channels[i] for i in self.out_indices)
        self.reductions = tuple(reductions[i] for i in self.out_indices)
        self._freeze()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = self._stem(x)
        maps = []
        last = self.num_stages - 1 if self.num_classes else max(self.out_indices)
        for index in range(last + 1):
            x = self._stage(x, index)
            if index in self.out_indices:
                maps.append(x)
        return self._classify(x) if self.num_classes else tuple(maps)

    def _classify(self, x: Tensor) -> Tensor:
        pooled = self.avgpool(x).flatten(1)  # (N, C)
        logits: Tensor = getattr(self, self.classifier_name)(pooled)
        return logits

    def init_weights(self) -> None:
        """As mmengine's, but a pretrained checkpoint is loaded whole, and never unpickled."""
        if isinstance(self.init_cfg, dict) and self.init_cfg.get("type") == "Pretrained":
            load_weights(self, self.init_cfg["checkpoint"])
            self._is_init = True
        else:
            super().init_weights()

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if getattr(module, "running_mean", None) is not None:
                    module.eval()
        return self

    def _freeze(self) -> None:
        for stage in range(self.frozen_stages + 1):
            for part in self._parts(stage):
                part.eval().requires_grad_(False)


def reset_convolutions(model: nn.Module) -> None:
    """N(0, sqrt(2 / (k * k * out_channels))), as the authors of IBN, BIN and SN.

    Kaiming's initialisation by fan-out, which ILM's authors name, is the same: neither counts the
    groups of a grouped convolution.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
