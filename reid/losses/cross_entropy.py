"""Identity classification with label smoothing.

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016
(https://arxiv.org/abs/1512.00567), section 7; used for re-ID by Luo et al., "Bag of Tricks and A
Strong Baseline for Deep Person Re-identification", 2019 (https://arxiv.org/abs/1903.07071). Both
smooth the target to (1 - eps) one-hot + eps / K, which is what torch does. (The second paper
prints 1 - eps (K - 1) / K for the true class: the same number.)
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from reid.losses.base import ReIDLoss, check_label_range, finite_zero
from reid.registry import MODELS


@MODELS.register_module()
class CrossEntropyLoss(ReIDLoss):
    """Mean cross-entropy of the class scores with label smoothing.

    A label outside 0..P - 1 raises ValueError on the CPU; on an accelerator the kernel asserts.
    An empty batch gives 0 with zero gradients.

    Args:
        label_smoothing: eps in [0, 1); 0 is the plain cross-entropy.
        weight: factor of the returned loss.
        name: key in the logs.

    Raises:
        ValueError: an argument outside the values above.
    """

    def __init__(
        self, label_smoothing: float = 0.1, weight: float = 1.0, *, name: str = "id_loss"
    ) -> None:
        super().__init__(name=name, input="logits", weight=weight, inputs=("logits",))
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                f"CrossEntropyLoss: expected label_smoothing in [0, 1), got {label_smoothing!r}"
            )
        self.label_smoothing = label_smoothing

    def compute(self, x: Tensor, labels: Tensor) -> Tensor:
        check_label_range(labels, x.shape[1], "CrossEntropyLoss")
        if len(labels) == 0:  # the mean of nothing would be NaN
            return finite_zero(x)
        return F.cross_entropy(x, labels, label_smoothing=self.label_smoothing)

    def extra_repr(self) -> str:
        return f"label_smoothing={self.label_smoothing}, {super().extra_repr()}"
