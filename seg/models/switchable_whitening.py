"""Switchable whitening as a loss: covariances of the batch and of its images, mixed.

Paper: Pan et al., "Switchable Whitening for Deep Representation Learning", ICCV 2019,
https://arxiv.org/abs/1904.09739. Its layer whitens with a mixture of the covariances of the batch
(BW) and of each image (IW), by softmax weights. Here the same mixture is what a loss pulls to 0 off
the diagonal: "SW as a feature loss", beside IW and ISW of ``whitening.py``.

Deviation, and a warning for who compares: the row "SW" of RobustNet's tables is the *layer*, which
replaces norms and whitens by Newton's iteration. The layer's weights are learned from the task,
whose gradient passes through the whitened map. A loss has no such gradient: its own draws the
weights to the covariance that is smaller anyhow (the batch's, by the triangle inequality), so
they are fixed unless ``learned=True``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..registry import MODELS
from .feature_loss import FeatureLoss
from .whitening import EPS, above_diagonal, instance_covariance, off_diagonal_loss


def batch_covariance(x: Tensor, eps: float = EPS) -> Tensor:
    """Covariance of the channels over the batch, each with mean 0 and variance 1 in the batch.

    Args:
        x: (N, C, H, W), two values a channel or more.

    Returns:
        (1, C, C), divided by N * H * W - 1.
    """
    n, c, h, w = x.shape
    return instance_covariance(x.transpose(0, 1).reshape(1, c, n * h, w), eps)


@MODELS.register_module()
class SwitchableWhitening(FeatureLoss):
    """Off-diagonal elements of a mixture of batch and instance covariances are pulled to 0.

    Args:
        features: names of modules of the backbone.
        switch: logits of the shares of (batch, instance); equal ones give a half each.
        learned: make the logits parameters (one pair a feature); see the deviation above.
        weight: of the mean over features.
        loss_name: in the log.
    """

    switch: Tensor

    def __init__(
        self,
        features: str | Sequence[str],
        *,
        switch: tuple[float, float] = (0.0, 0.0),
        learned: bool = False,
        weight: float = 0.6,
        loss_name: str = "loss_sw",
    ) -> None:
        super().__init__(features, weight=weight, loss_name=loss_name)
        if len(switch) != 2:
            raise ValueError(
                f"SwitchableWhitening: switch has two logits (batch, instance), got {switch}"
            )
        logits = torch.tensor([tuple(switch)] * len(self.features), dtype=torch.float32)
        if learned:
            self.switch = nn.Parameter(logits)
        else:
            self.register_buffer("switch", logits)

    def measure(self, x: Tensor) -> Tensor:
        """(N + 1, P): elements of the batch's covariance, then of each image's."""
        both = torch.cat([batch_covariance(x), instance_covariance(x)])
        return above_diagonal(both)

    def forward(self, measures: Sequence[Tensor]) -> Tensor:
        losses = []
        for elements, logits in zip(measures, self.switch, strict=True):
            batch, instance = logits.to(elements.dtype).softmax(0)
            mixed = batch * elements[:1] + instance * elements[1:]  # (N, P)
            losses.append(off_diagonal_loss(mixed))
        return self.weight * torch.stack(losses).mean()
