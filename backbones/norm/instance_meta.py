"""ILM-Norm: a small auto-encoder on a sample's own moments predicts its scale and offset.

Paper: Jia, Chen and Chen, "Instance-Level Meta Normalization", CVPR 2019,
https://arxiv.org/abs/1904.03516.

The authors' code is followed where the paper leaves a choice: both variances are unbiased; one
encoder is shared by the two decoders; the raw variance is fed to it. Deviations: any memory format
and number of spatial dimensions work, and empty batches.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..registry import MODELS
from .base import Norm, check_num_features
from .moments import Moments

KEY_CHANNELS = 16
"""Channels whose moments are merged to one key of the auto-encoder."""


@MODELS.register_module()
class ILM(Norm):
    """y = x_hat * omega + beta, with x standardised by ``base`` and omega, beta predicted.

    omega = sigmoid(W_omega relu(W key_var)) + weight_bias,
    beta = tanh(W_beta relu(W key_mean)) + bias_bias, equations 5 to 8 of the paper; the keys are
    the mean and variance of every 16 channels of a sample, and what is predicted for a key holds
    for its 16 channels.

    Args:
        num_features: C, a multiple of 16, and of 32 for the bases 'gn' and 'in'.
        base: 'gn' (32 groups), 'in' or 'ln'.
        eps: added to the base's variance.

    Parameters: weight_bias, bias_bias (1, C, 1, 1); fc_embed.0.weight (e, C / 16), which is also
    found as fc_weight.0.0.weight and fc_bias.0.0.weight; fc_weight.1.weight and fc_bias.1.weight
    (C / 16, e).

    Shape: (N, C, *spatial) -> the same. There are no batch statistics: training and evaluation
    compute the same.
    """

    def __init__(
        self, num_features: int, base: Literal["gn", "in", "ln"] = "gn", eps: float = 1e-5
    ) -> None:
        super().__init__()
        check_num_features(num_features, "ILM")
        if base not in ("gn", "in", "ln"):
            raise ValueError(f"ILM: base must be 'gn', 'in' or 'ln', got {base!r}")
        multiple = KEY_CHANNELS if base == "ln" else 32
        if num_features % multiple:
            raise ValueError(
                f"ILM: on {base!r} the channels must be a multiple of {multiple}, got "
                f"{num_features}; use another norm for this layer"
            )
        self.num_features, self.base, self.eps = num_features, base, eps
        self.groups = {"gn": 32, "in": num_features, "ln": 1}[base]
        keys = num_features // KEY_CHANNELS
        wide = keys >= KEY_CHANNELS if base == "gn" else keys > KEY_CHANNELS
        embedding = keys // KEY_CHANNELS if wide else 2
        self.weight_bias = nn.Parameter(torch.ones(1, num_features, 1, 1))
        self.bias_bias = nn.Parameter(torch.zeros(1, num_features, 1, 1))
        # One encoder under three names, as in the published checkpoints.
        self.fc_embed = nn.Sequential(nn.Linear(keys, embedding, bias=False), nn.ReLU())
        self.fc_weight = nn.Sequential(
            self.fc_embed, nn.Linear(embedding, keys, bias=False), nn.Sigmoid()
        )
        self.fc_bias = nn.Sequential(
            self.fc_embed, nn.Linear(embedding, keys, bias=False), nn.Tanh()
        )

    def learned(self) -> tuple[Tensor, ...]:
        linears = (self.fc_embed[0], self.fc_weight[1], self.fc_bias[1])
        weights = (cast(nn.Linear, linear).weight for linear in linears)
        return *weights, self.weight_bias, self.bias_bias

    def algebra(self, moments: Moments, *learned: Tensor) -> tuple[Tensor, Tensor]:
        # a half-precision network's moments are still float32
        encoder, to_weight, to_bias, weight_bias, bias_bias = (
            t.to(moments.mean.dtype) for t in learned
        )
        keys = moments.grouped(self.num_features // KEY_CHANNELS)  # (N, C / 16)
        omega = F.linear(F.linear(keys.unbiased_var, encoder).relu(), to_weight).sigmoid()
        beta = F.linear(F.linear(keys.mean, encoder).relu(), to_bias).tanh()
        base = moments.grouped(self.groups)  # (N, groups)
        size = self.num_features // self.groups
        deviation = torch.rsqrt(base.unbiased_var + self.eps).repeat_interleave(size, 1)  # (N, C)
        omega = omega.repeat_interleave(KEY_CHANNELS, 1) + weight_bias.flatten()
        beta = beta.repeat_interleave(KEY_CHANNELS, 1) + bias_bias.flatten()
        scale = omega * deviation
        return scale, beta + scale * (moments.mean - base.mean.repeat_interleave(size, 1))

    def extra_repr(self) -> str:
        return f"{self.num_features}, base={self.base!r}, eps={self.eps}"
