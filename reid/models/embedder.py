"""The re-ID model: backbone, pooling, BNNeck, and a classifier for training.

Luo et al., "Bag of Tricks and A Strong Baseline for Deep Person Re-Identification", CVPRW 2019,
https://arxiv.org/abs/1903.07071. Metric losses see the pooled feature, before the batch norm of
the neck; the classifier, and whoever searches, the embedding after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from ..registry import MODELS
from .pooling import build_pooling


@MODELS.register_module()
class Embedder(BaseModel):
    """Images -> embeddings.

    Args:
        backbone: config of a network that returns a tuple of maps and has ``out_channels``, e.g.
            ``dict(type='backbones.ResNet', depth=50, ibn='a', last_stride=1)``.
        num_identities: outputs of the classifier, the number of training identities; None or 0
            builds the model without classifier and losses, for evaluation.
        pooling: 'avg', 'gem' or a dict.
        losses: configs of losses, each reads 'feature', 'embedding' or 'logits'.
        test_feature: what is searched with: 'embedding' (after the neck) or 'feature' (before).
        weights: a checkpoint for the backbone, e.g. pretrained on ImageNet.
        data_preprocessor: how images are normalised.

    Shape: ``forward(images)`` with (N, 3, H, W) normalised images -> (N, D) float32, unit length.
    """

    training_only = ("classifier.", "losses.")

    def __init__(
        self,
        backbone: dict[str, Any],
        num_identities: int | None = None,
        *,
        pooling: str | dict[str, Any] = "avg",
        losses: Sequence[dict[str, Any]] = (),
        test_feature: Literal["embedding", "feature"] = "embedding",
        weights: str | None = None,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor or dict(type="engine.ImageNormalizer"))
        if test_feature not in ("embedding", "feature"):
            raise ValueError(
                f"Embedder: test_feature must be 'embedding' or 'feature', got {test_feature!r}"
            )
        self.backbone = MODELS.build(backbone)
        if weights is not None:
            from backbones import load_weights

            load_weights(self.backbone, weights)
        self.pooling = build_pooling(pooling)
        self.feature_dim: int = self.backbone.out_channels[-1]
        self.neck = nn.BatchNorm1d(self.feature_dim)
        self.neck.bias.requires_grad_(False)  # keeps the embedding centred: BoT, section 3.5
        self.test_feature = test_feature
        self.losses = nn.ModuleList()
        if num_identities:
            self.classifier = nn.Linear(self.feature_dim, num_identities, bias=False)
            nn.init.normal_(self.classifier.weight, std=0.001)
            self.losses.extend(MODELS.build(loss) for loss in losses)
            names = [loss.name for loss in self.losses]
            if len(set(names)) < len(names):
                raise ValueError(
                    f"Embedder: losses of one name hide each other, got {names}; give each its own "
                    "name, e.g. dict(type='reid.TripletLoss', name='soft_triplet_loss')"
                )
            for loss in self.losses:
                loss.configure(num_classes=num_identities, feature_dim=self.feature_dim)

    def forward(
        self,
        inputs: Tensor,
        mode: Literal["tensor", "predict", "loss"] = "tensor",
        label: Tensor | None = None,
        **_: Any,
    ) -> Tensor | dict[str, Tensor]:
        """(N, 3, H, W) -> (N, D) unit length, or the losses of (images, labels) in mode 'loss'."""
        feature = self.pooling(self.backbone(inputs)[-1])  # (N, D)
        embedding = self.neck(feature)
        if mode != "loss":
            chosen = embedding if self.test_feature == "embedding" else feature
            return F.normalize(chosen.float())
        if label is None or not self.losses:
            raise ValueError(
                "Embedder: training needs labels, num_identities and at least one loss; "
                f"got label={label is not None}, {len(self.losses)} losses"
            )
        tensors = {"feature": feature, "embedding": embedding, "logits": self.classifier(embedding)}
        logs: dict[str, Tensor] = {}
        for loss in self.losses:
            logs[loss.name] = loss(tensors[loss.input], label)
            logs.update(loss.statistics)
        with torch.no_grad():
            logs["accuracy"] = (tensors["logits"].argmax(1) == label).float().mean()
        return logs
