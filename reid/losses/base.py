"""The contract of every re-ID loss: what it reads, what it returns, what it refuses.

A model runs its losses from a config without knowing which they are::

    tensors = {"feature": feature, "embedding": embedding, "logits": logits}
    logs = {loss.name: loss(tensors[loss.input], labels) for loss in losses}
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

INPUTS = ("feature", "embedding", "logits")


class ReIDLoss(nn.Module):
    """Base of the losses: checks the batch, computes in float32, multiplies by the weight.

    Subclasses implement :meth:`compute`.

    Args:
        name: key of the loss in the logs. It contains "loss", because mmengine adds up exactly
            the entries whose key does: under any other name the loss would not be trained.
        input: what the loss reads: "feature" (N, D) before the BNNeck, "embedding" (N, D) after
            it, or "logits" (N, P), the class scores.
        weight: the returned scalar is already multiplied by it.
        inputs: the values of ``input`` that make sense for this loss.

    Attributes:
        statistics: detached 0-d tensors of the last call that are worth a line in the logs. No key
            contains "loss", so none of them is ever added to the training objective.
    """

    def __init__(
        self, *, name: str, input: str, weight: float, inputs: tuple[str, ...] = INPUTS
    ) -> None:
        super().__init__()
        if "loss" not in name:
            raise ValueError(
                f"{type(self).__name__}: expected a name that contains 'loss' (mmengine trains "
                f"only on such log entries), got {name!r}; use e.g. '{name}_loss'"
            )
        if input not in inputs:
            raise ValueError(
                f"{type(self).__name__}: expected input to be one of {', '.join(inputs)}, "
                f"got {input!r}"
            )
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(
                f"{type(self).__name__}: expected a finite weight >= 0, got {weight!r}; "
                "leave the loss out of the list to switch it off"
            )
        self.name = name
        self.input = input
        self.weight = weight
        self.statistics: dict[str, Tensor] = {}

    def configure(self, *, num_classes: int, feature_dim: int) -> None:
        """Tell the loss the sizes that the model knows; most losses need neither.

        Called once by the model that owns the loss, before it is moved to a device or wrapped.
        """

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Weighted loss of one batch.

        Args:
            x: (N, D) floating, the tensor that ``input`` names. Half precision is computed in
                float32, also under autocast.
            labels: (N,) integer identity labels on the same device.

        Returns:
            0-d float32 tensor (float64 for a float64 ``x``), always attached to the graph of
            ``x``: with nothing to learn from (N = 0 included) it is 0 with zero gradients, so
            that distributed training does not wait for a rank without a backward. NaN in ``x``
            gives NaN: nothing is masked.

        Raises:
            ValueError: shapes, dtypes or devices that do not fit together.
        """
        _check_batch(x, labels, type(self).__name__)
        dtype = torch.promote_types(x.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            return self.weight * self.compute(x.to(dtype), labels.long())

    def compute(self, x: Tensor, labels: Tensor) -> Tensor:
        """Unweighted loss: ``x`` (N, D) float32 or float64, ``labels`` (N,) int64, 0-d result."""
        raise NotImplementedError(f"{type(self).__name__} must implement compute(x, labels)")

    def log_key(self, statistic: str) -> str:
        """Key of a statistic beside the loss: 'active' of 'triplet_loss' is 'triplet_active'."""
        stem = self.name.replace("loss", "").strip("_")
        return f"{stem}_{statistic}" if stem else statistic

    def extra_repr(self) -> str:
        return f"name={self.name!r}, input={self.input!r}, weight={self.weight}"


def finite_zero(x: Tensor) -> Tensor:
    """0 attached to the graph of ``x`` if every entry is finite, NaN otherwise.

    Added to a loss it keeps the graph when no sample contributes, and lets an Inf or NaN show
    that a minimum, a maximum or a clamp would hide. (The product comes first: a sum of large
    finite numbers may overflow.)
    """
    return (x * 0).sum()


def check_label_range(labels: Tensor, num_classes: int, owner: str) -> None:
    """Refuse labels outside 0..num_classes - 1.

    Only on the CPU in eager mode: on an accelerator reading the labels would stall every step,
    and there the indexing kernel itself stops the program.

    Raises:
        ValueError: naming the first offending label.
    """
    if labels.device.type != "cpu" or torch.compiler.is_compiling():
        return
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if outside.numel():
        raise ValueError(
            f"{owner}: expected labels in 0..{num_classes - 1}, got {int(outside[0])}; "
            "train on the dataset's contiguous labels, not on pids, and set the number of "
            "classes of the model to the number of training identities"
        )


def _check_batch(x: Tensor, labels: Tensor, owner: str) -> None:
    if x.ndim != 2 or not x.is_floating_point():
        raise ValueError(
            f"{owner}: expected a floating tensor of shape (N, D), got {x.dtype} of shape "
            f"{tuple(x.shape)}; pool and flatten feature maps first"
        )
    if labels.ndim != 1 or len(labels) != len(x):
        raise ValueError(
            f"{owner}: expected labels of shape ({len(x)},), one for each row of the input, "
            f"got {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"{owner}: expected integer labels, got {labels.dtype}; use labels.long()")
    if labels.device != x.device:
        raise ValueError(
            f"{owner}: expected the labels on {x.device} like the input, got {labels.device}; "
            "move them with labels.to(x.device)"
        )
