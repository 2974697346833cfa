"""The re-ID model: backbone, pooling, BNNeck, and a classifier for training.

What stands behind the pooling is in ``bnneck.py``; embeddings of parts of the body in
``parts.py``; short embeddings that learn from long ones in ``distillation.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from mmengine.model import BaseModel
from torch import Tensor
from torch.nn import functional as F

from ..registry import MODELS
from .bnneck import BNNeck, mean_logs
from .distillation import DistilledEmbedding, similarity_loss
from .pooling import build_pooling


@MODELS.register_module()
class Embedder(BaseModel, BNNeck):
    """Images -> embeddings.

    Args:
        backbone: config of a network that returns a tuple of maps and has ``out_channels``, e.g.
            ``dict(type='backbones.ResNet', depth=50, ibn='a', last_stride=1)``.
        num_identities: outputs of the classifier, the number of training identities; None or 0
            builds the model without classifier and losses, for evaluation.
        pooling: 'avg', 'gem', 'max' or a dict.
        losses: configs of losses, each reads 'feature', 'embedding' or 'logits'; without one of
            the last kind there is no classifier.
        embedding_dim: a shorter embedding, e.g. 512, 256 or 128; None is the backbone's channels.
        reduction: how it is made: 'projected', by a linear layer before the BNNeck, which all
            losses train; or 'distilled', beside the full embedding, which is trained as without
            it: the short one learns the cosine similarities of each batch from it.
        parts: config of embeddings of parts, beside the global one, e.g.
            ``dict(type='reid.Stripes', stripes=(2, 3))``. Logs are the means over all parts.
        test_feature: what is searched with: 'embedding' (after the neck) or 'feature' (before).
        weights: a checkpoint for the backbone, e.g. pretrained on ImageNet.
        plain_weights: the checkpoint is of the same network with batch norm, from which BIN, ILM
            and other norms are started (``backbones.init_from_plain``).
        data_preprocessor: how images are normalised.

    Attributes:
        feature_dim: D, length of what is searched with: of the distilled embedding, or of the
            global one and all parts' together.

    Shape: ``forward(images)`` with (N, 3, H, W) normalised images -> (N, D) float32, unit length.
    """

    training_only: tuple[str, ...] = ("classifier.", "losses.")

    def __init__(
        self,
        backbone: dict[str, Any],
        num_identities: int | None = None,
        *,
        pooling: str | dict[str, Any] = "avg",
        losses: Sequence[dict[str, Any]] = (),
        embedding_dim: int | None = None,
        reduction: Literal["projected", "distilled"] = "projected",
        parts: dict[str, Any] | None = None,
        test_feature: Literal["embedding", "feature"] = "embedding",
        weights: str | None = None,
        plain_weights: bool = False,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor or dict(type="engine.ImageNormalizer"))
        _check_choice("test_feature", test_feature, ("embedding", "feature"))
        _check_choice("reduction", reduction, ("projected", "distilled"))
        self.backbone = MODELS.build(backbone)
        if weights is not None:
            from backbones import init_from_plain, load_weights

            (init_from_plain if plain_weights else load_weights)(self.backbone, weights)
        self.pooling = build_pooling(pooling)
        distilled = embedding_dim is not None and reduction == "distilled"
        self._build(
            self.backbone.out_channels[-1],
            None if distilled else embedding_dim,
            num_identities,
            losses,
        )
        self.feature_dim: int = self.dim
        self.parts = None
        if parts is not None:
            arguments = {"backbone": self.backbone, "num_identities": num_identities}
            self.parts = MODELS.build({**arguments, "losses": losses, **parts})
            self.feature_dim += self.parts.feature_dim
            own = tuple(f"parts.{prefix}" for prefix in self.parts.training_only())
            self.training_only = (*self.training_only, *own)
        self.distilled = None
        if distilled:
            if test_feature == "feature":
                raise ValueError(
                    "Embedder: a distilled embedding has no feature before its neck to search "
                    "with; use test_feature='embedding'"
                )
            self.distilled = DistilledEmbedding(self.feature_dim, embedding_dim)
            self.feature_dim = embedding_dim
        self.test_feature = test_feature

    def forward(
        self,
        inputs: Tensor,
        mode: Literal["tensor", "predict", "loss"] = "tensor",
        label: Tensor | None = None,
        **_: Any,
    ) -> Tensor | dict[str, Tensor]:
        """(N, 3, H, W) -> (N, D) unit length, or the losses of (images, labels) in mode 'loss'."""
        maps = self.backbone(inputs)
        vectors = [self.vectors(self.pooling(maps[-1]))]  # feature and embedding of the whole,
        if self.parts is not None:  # then of each part
            vectors += self.parts(maps)
        feature, embedding = (_joined(kind) for kind in zip(*vectors, strict=True))
        short = None if self.distilled is None else self.distilled(feature)
        if mode != "loss":
            chosen = embedding if self.test_feature == "embedding" else feature
            return F.normalize((chosen if short is None else short).float())
        if label is None or not self.losses:
            raise ValueError(
                "Embedder: training needs labels, num_identities and at least one loss; "
                f"got label={label is not None}, {len(self.losses)} losses"
            )
        logs = self.loss_logs(*vectors[0], label)
        if self.parts is not None:
            logs = mean_logs([logs, *self.parts.loss_logs(vectors[1:], label)])
        if short is not None:
            logs["distillation_loss"] = similarity_loss(short, embedding)
        return logs


def _joined(vectors: Sequence[Tensor]) -> Tensor:
    """(N, D_i) each -> (N, sum of D_i)."""
    return vectors[0] if len(vectors) == 1 else torch.cat(tuple(vectors), dim=1)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        first, second = choices
        raise ValueError(f"Embedder: {name} must be {first!r} or {second!r}, got {value!r}")
