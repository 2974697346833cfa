"""CosFace: an additive margin on the cosine between a feature and the weight of its class.

Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", 2018
(https://arxiv.org/abs/1801.09414), equation 4: f(cos t) = cos t - m, all other classes unchanged.
"""

from __future__ import annotations

from torch import Tensor

from reid.losses.margin_softmax import MarginSoftmaxLoss
from reid.registry import MODELS


@MODELS.register_module()
class CosFaceLoss(MarginSoftmaxLoss):
    """Large margin cosine softmax; ``margin`` is a difference of cosines, 0..2, by
    default 0.35.

    Arguments, statistics and errors are those of :class:`MarginSoftmaxLoss`.
    """

    default_margin = 0.35
    max_margin = 2.0
    default_name = "cosface_loss"

    def own_logit(self, cosines: Tensor, margin: Tensor) -> Tensor:
        return cosines - margin
