"""The classification model: a backbone with its own classifier, cross entropy, mixed batches."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from backbones import load_weights
from backbones.weights import WeightsMismatchError

from .mixing import build_mixing
from .registry import MODELS

logger = logging.getLogger(__name__)


@MODELS.register_module()
class Classifier(BaseModel):
    """Images -> logits.

    Args:
        backbone: config of a network with ``num_classes``, e.g.
            ``dict(type='backbones.ResNet', depth=50, ibn='a', num_classes=1000)``.
        label_smoothing: share of the target that is spread over all classes (Szegedy et al. 2016).
        mixing: ways to mix the images and labels of a training batch, ``dict(type='MixUp',
            alpha=0.2)`` and ``dict(type='CutMix', alpha=1.0)``; one of them is drawn for a batch.
        weights: a checkpoint for the backbone. A classifier of another number of classes is left
            out, which the log says, and none need be there; everything else must fit.
        data_preprocessor: how images are normalised.

    Shape: ``forward(images)`` with (N, 3, H, W) normalised images -> (N, K) float32 logits.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        *,
        label_smoothing: float = 0.0,
        mixing: Sequence[Mapping[str, Any]] = (),
        weights: str | None = None,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor or dict(type="engine.ImageNormalizer"))
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"Classifier: label_smoothing is in [0, 1), got {label_smoothing}")
        self.backbone = MODELS.build(backbone)
        self.num_classes: int = getattr(self.backbone, "num_classes", 0)
        if self.num_classes < 1:
            raise ValueError(
                "Classifier: the backbone has no classifier; give it the number of classes, e.g. "
                f"backbone=dict(type='backbones.ResNet', depth=18, num_classes=10), got {backbone}"
            )
        if weights is not None:
            load_pretrained(self.backbone, weights)
        self.label_smoothing = label_smoothing
        self.mixing = build_mixing(mixing, self.num_classes)

    def forward(
        self,
        inputs: Tensor,
        mode: Literal["tensor", "predict", "loss"] = "tensor",
        label: Tensor | None = None,
        **_: Any,
    ) -> Tensor | dict[str, Tensor]:
        """(N, 3, H, W) -> (N, K) logits, or the loss of (images, labels) in mode 'loss'."""
        if mode != "loss":
            logits: Tensor = self.backbone(inputs)
            return logits.float()
        if label is None:
            raise ValueError("Classifier: training needs labels; the batch has no 'label'")
        self._check(label)
        inputs, target = self.mixing(inputs, label)
        logits = self.backbone(inputs).float()
        loss = F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)
        with torch.no_grad():
            # of a mixed image, the class that has the larger share
            truth = target.argmax(1) if target.ndim == 2 else target
            accuracy = (logits.argmax(1) == truth).float().mean()
        return {"loss": loss, "accuracy": accuracy}

    def _check(self, label: Tensor) -> None:
        """Out of range, a label ends in an error of the loss that names nothing (or a CUDA trap).

        Only where looking does not make the host wait for the device.
        """
        if label.is_cuda or not label.numel():
            return
        low, high = int(label.min()), int(label.max())
        if low < 0 or high >= self.num_classes:
            raise ValueError(
                f"labels run from {low} to {high}, but the network has {self.num_classes} "
                "classes (0 .. "
                f"{self.num_classes - 1}); set model.backbone.num_classes to the data's number"
            )


def load_pretrained(backbone: nn.Module, weights: str) -> None:
    """Load a checkpoint into a network with a classifier, which may be for other classes, or none.

    Raises:
        WeightsMismatchError: something other than the classifier does not fit.
    """
    try:
        load_weights(backbone, weights)
    except WeightsMismatchError as error:
        name = getattr(backbone, "classifier_name", "fc")
        report = error.report
        theirs = [shapes for key, shapes in report.mismatched.items() if key.startswith(f"{name}.")]
        absent = not report.unexpected and any(key.startswith(f"{name}.") for key in report.missing)
        if not theirs and not absent:
            raise
        head = getattr(backbone, name)
        setattr(backbone, name, nn.Identity())  # a classifier that is not there need not fit
        try:
            load_weights(backbone, weights)
        finally:
            setattr(backbone, name, head)
        logger.warning(
            "%s: %s; this one, of %d, starts anew",
            weights,
            f"its classifier of {theirs[0][1][0]} classes is left out"
            if theirs
            else "it has no classifier",
            head.out_features,
        )
