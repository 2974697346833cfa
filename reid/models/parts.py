"""Stripes: embeddings of horizontal parts of the body beside that of the whole.

Two ways, chosen by ``branches``:

- on the one map, as PCB: Sun et al., "Beyond Part Models", ECCV 2018,
  https://arxiv.org/abs/1711.09349;
- each number of stripes on the map of a last stage of its own, together with that map's global
  embedding, as MGN: Wang et al., "Learning Discriminative Features with Multiple Granularities",
  ACM MM 2018, https://arxiv.org/abs/1804.01438. Deviations: the branches part before layer4, not
  within layer3, so that all of layer3 is shared; and the reduction is a linear layer before a
  BNNeck, not a 1x1 convolution with batch norm and ReLU.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..registry import MODELS
from .bnneck import BNNeck
from .pooling import build_pooling


class PartNeck(BNNeck):
    """The reduction, BNNeck, classifier and losses of one part; arguments as BNNeck's."""

    def __init__(
        self,
        channels: int,
        dim: int,
        num_identities: int | None,
        losses: Sequence[Mapping[str, Any]],
    ) -> None:
        super().__init__()
        self._build(channels, dim, num_identities, losses)


@MODELS.register_module()
class Stripes(nn.Module):
    """Maps of the backbone -> features and embeddings of the parts.

    Args:
        backbone: built; with ``branches`` its ``layer4`` is copied, weights included, and it must
            return the maps of layers 3 and 4 (``out_indices=(2, 3)``).
        num_identities, losses: of the model; ``losses`` are those of the branches' global parts.
        stripes: numbers of stripes into which a map is cut. A height that they do not divide is
            cut as adaptive pooling does: stripes then overlap in a row.
        dim: length of each part's embedding.
        branches: whether each number of stripes has its own layer4 and global part.
        pooling: of a part: 'max' as in MGN, 'avg' as in PCB, 'gem' or a dict.
        stripe_losses: configs of the losses of the stripes, e.g. classification only: a stripe
            alone is often the same for two people, so MGN spares it the triplet loss.

    Attributes:
        feature_dim: length of all parts' embeddings together.

    Raises:
        ValueError: arguments that do not fit the backbone, or, in the forward, maps with fewer
            rows than stripes.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_identities: int | None = None,
        losses: Sequence[Mapping[str, Any]] = (),
        *,
        stripes: Sequence[int] = (2, 3),
        dim: int = 256,
        branches: bool = False,
        pooling: str | dict[str, Any] = "max",
        stripe_losses: Sequence[Mapping[str, Any]] = (dict(type="reid.CrossEntropyLoss"),),
    ) -> None:
        super().__init__()
        if not stripes or any(count < 2 for count in stripes):
            raise ValueError(f"Stripes: give numbers of stripes of 2 or more, got {stripes}")
        self.stripes = tuple(stripes)
        self.pooling = build_pooling(pooling)
        self.branches: nn.ModuleList | None = None
        channels = backbone.out_channels[-1]
        if branches:
            if getattr(backbone, "out_indices", None) != (2, 3) or not hasattr(backbone, "layer4"):
                raise ValueError(
                    "Stripes: branches copy layer4 and read the map of layer3: they need a ResNet "
                    f"with out_indices=(2, 3), got {type(backbone).__name__} with "
                    f"{getattr(backbone, 'out_indices', None)}"
                )
            if getattr(backbone, "preact", False) or hasattr(backbone, "NL_4"):
                raise ValueError(
                    "Stripes: branches cannot copy a stage that more than layer4 belongs to; use "
                    "preact=False and no non-local blocks in stage 4"
                )
            self.branches = nn.ModuleList(copy.deepcopy(backbone.layer4) for _ in stripes)
        self.necks = nn.ModuleList()
        for count in self.stripes:
            if branches:
                self.necks.append(PartNeck(channels, dim, num_identities, losses))
            for _ in range(count):
                self.necks.append(PartNeck(channels, dim, num_identities, stripe_losses))
        self.feature_dim = dim * len(self.necks)

    def forward(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The backbone's maps -> feature and embedding, (N, dim) each, of every part."""
        regions: list[Tensor] = []
        for index, count in enumerate(self.stripes):
            whole = maps[-1] if self.branches is None else self.branches[index](maps[-2])
            if self.branches is not None:
                regions.append(whole)
            regions += cut(whole, count)
        pooled = [self.pooling(region) for region in regions]  # (N, C) each
        return [neck.vectors(x) for neck, x in zip(self.necks, pooled, strict=True)]

    def loss_logs(
        self, vectors: Sequence[tuple[Tensor, Tensor]], label: Tensor
    ) -> list[dict[str, Tensor]]:
        """The logs of every part that :meth:`forward` returned the vectors of."""
        return [
            neck.loss_logs(feature, embedding, label)
            for neck, (feature, embedding) in zip(self.necks, vectors, strict=True)
        ]

    def training_only(self) -> tuple[str, ...]:
        """Prefixes, in this module's state dict, of what only training needs."""
        indices = range(len(self.necks))
        return tuple(f"necks.{i}.{part}." for i in indices for part in ("classifier", "losses"))


def cut(x: Tensor, count: int) -> list[Tensor]:
    """(N, C, H, W) -> ``count`` stripes (N, C, ~H / count, W), the bounds of adaptive pooling."""
    height = x.shape[2]
    if height < count:
        raise ValueError(
            f"a map of {height} rows cannot be cut into {count} stripes; use fewer stripes, larger "
            "images or last_stride=1"
        )
    return [x[:, :, i * height // count : -(-(i + 1) * height // count)] for i in range(count)]
