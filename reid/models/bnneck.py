"""BNNeck: what stands behind a pooled feature, in a model or in one of its parts.

Luo et al., "Bag of Tricks and A Strong Baseline for Deep Person Re-Identification", CVPRW 2019,
https://arxiv.org/abs/1903.07071. Metric losses see the feature before the batch norm; the
classifier, and whoever searches, the embedding after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..registry import MODELS


class BNNeck(nn.Module):
    """[projection ->] feature -> batch norm -> embedding [-> logits], and the losses of the three.

    A base, not a layer: a model (:class:`~reid.models.Embedder`) or a part of one is a BNNeck and
    calls :meth:`_build` once, so that ``neck``, ``classifier`` and ``losses`` are its own.
    """

    neck: nn.BatchNorm1d
    losses: nn.ModuleList

    def _build(
        self,
        channels: int,
        dim: int | None,
        num_identities: int | None,
        losses: Sequence[Mapping[str, Any]],
    ) -> None:
        """Make the layers, and with ``num_identities`` what only training needs.

        Args:
            channels: C of the pooled vectors. dim: D, to which a linear layer brings them; None
                leaves them as they are.
            num_identities: P; None or 0: neither classifier nor losses.
            losses: their configs. A classifier is made only if one of them reads 'logits'.
        """
        owner = type(self).__name__
        if dim is not None and dim < 1:
            raise ValueError(f"{owner}: an embedding has 1 dimension or more, got {dim}")
        self.projection = None if dim is None else nn.Linear(channels, dim, bias=False)
        if self.projection is not None:
            # keeps the scale, to which margins of triplet losses are tuned
            nn.init.kaiming_normal_(self.projection.weight, nonlinearity="linear")
        self.dim = channels if dim is None else dim
        self.neck = nn.BatchNorm1d(self.dim)
        self.neck.bias.requires_grad_(False)  # keeps the embedding centred: BoT, section 3.5
        self.classifier = None
        self.losses = nn.ModuleList()
        if not num_identities:
            return
        self.losses.extend(MODELS.build(loss) for loss in losses)
        names = [loss.name for loss in self.losses]
        if len(set(names)) < len(names):
            raise ValueError(
                f"{owner}: losses of one name hide each other, got {names}; give each its own "
                "name, e.g. dict(type='reid.TripletLoss', name='soft_triplet_loss')"
            )
        if any(loss.input == "logits" for loss in self.losses):
            self.classifier = nn.Linear(self.dim, num_identities, bias=False)
            nn.init.normal_(self.classifier.weight, std=0.001)
        for loss in self.losses:
            loss.configure(num_classes=num_identities, feature_dim=self.dim)

    def vectors(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C) -> feature and embedding, both (N, D)."""
        feature = pooled if self.projection is None else self.projection(pooled)
        return feature, self.neck(feature)

    def loss_logs(self, feature: Tensor, embedding: Tensor, label: Tensor) -> dict[str, Tensor]:
        """The losses by name, and what is worth a line beside them."""
        tensors = {"feature": feature, "embedding": embedding}
        logs: dict[str, Tensor] = {}
        if self.classifier is not None:
            tensors["logits"] = self.classifier(embedding)
            with torch.no_grad():
                logs["accuracy"] = (tensors["logits"].argmax(1) == label).float().mean()
        for loss in self.losses:
            logs[loss.name] = loss(tensors[loss.input], label)
            logs.update(loss.statistics)
        return logs


def mean_logs(logs: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Each entry's mean over those that have it."""
    names = dict.fromkeys(name for entry in logs for name in entry)
    return {
        name: torch.stack([entry[name].float() for entry in logs if name in entry]).mean()
        for name in names
    }
