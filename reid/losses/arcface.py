"""ArcFace: an additive margin on the angle between a feature and the weight of its class.

Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", 2019
(https://arxiv.org/abs/1801.07698), equation 3: f(cos t) = cos(t + m), all other classes unchanged.

No angle is computed: cos(t + m) = cos t cos m - sin t sin m. The slope of the sine by the cosine is
infinite at t = 0 and pi, so sin^2 is kept above the rounding error of the type; below it, at
sin t < 0.0004 in float32, the sine is a constant and gradients stay finite.
Deviation, as in the authors' code: beyond t = pi - m, where cos(t + m) would rise again, the loss
continues with cos t - m sin m, which still falls.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reid.losses.margin_softmax import MarginSoftmaxLoss
from reid.registry import MODELS


@MODELS.register_module()
class ArcFaceLoss(MarginSoftmaxLoss):
    """Additive angular margin softmax; ``margin`` is in radians, 0..pi/2, by default 0.5.

    Arguments, statistics and errors are those of :class:`MarginSoftmaxLoss`.
    """

    default_margin = 0.5
    max_margin = math.pi / 2
    default_name = "arcface_loss"

    def own_logit(self, cosines: Tensor, margin: Tensor) -> Tensor:
        cos_margin, sin_margin = margin.cos(), margin.sin()
        smallest = torch.finfo(cosines.dtype).eps
        sines = (1 - cosines.square()).clamp_min(smallest).sqrt()
        return torch.where(
            cosines > -cos_margin,  # t < pi - m
            cosines * cos_margin - sines * sin_margin,
            cosines - margin * sin_margin,
        )
