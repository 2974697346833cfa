"""Instance whitening as a loss: IW, IRW (relaxed) and ISW (selective).

Paper: Choi et al., "RobustNet: Improving Domain Generalization in Urban-Scene Segmentation via
Instance Selective Whitening", CVPR 2021, https://arxiv.org/abs/2103.15597. The covariance of the
channels of one image holds its style, and the loss pulls elements off the diagonal to 0: all of
them (IW), their mean down to a margin (IRW), or those that a photometric change moves most (ISW).

The authors take the maps of IBN-b's three instance norms, which are, in a ResNet of ours with
``ibn="b"``, ``features=("bn1", "layer1.-1.IN", "layer2.-1.IN")``. Here every map is standardised
before its covariance is taken: what the authors get by norms without weight and bias holds for any
map, so any backbone will do.

Deviations: ISW clusters the elements above the diagonal, as the paper says (the authors' code
clusters the whole matrix, with zeros elsewhere); its statistics come from the training batches
that follow iteration ``start``, network in eval mode, in place of ten more passes over the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.dist import all_reduce
from torch import Tensor

from ..registry import MODELS
from .clustering import kmeans_1d
from .feature_loss import FeatureLoss

EPS = 1e-5


def standardised(x: Tensor, eps: float = EPS) -> Tensor:
    """Each channel of each image with mean 0 and variance 1 (0 where it is constant).

    Args:
        x: (N, C, H, W); below float32 it is computed in float32.

    Returns:
        (N, C, H * W).
    """
    flat = x.flatten(2)
    flat = flat.to(torch.promote_types(flat.dtype, torch.float32))
    centred = flat - flat.mean(2, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(2, keepdim=True) + eps)


def instance_covariance(x: Tensor, eps: float = EPS) -> Tensor:
    """Covariance of the channels of each image, of its standardised map.

    Args:
        x: (N, C, H, W) with at least two positions.

    Returns:
        (N, C, C), divided by H * W - 1.

    Raises:
        ValueError: another shape.
    """
    if x.ndim != 4 or x.shape[2] * x.shape[3] < 2:
        raise ValueError(
            "whitening: expected (N, C, H, W) maps of two positions or more, got "
            f"{tuple(x.shape)}; name a module whose map is larger"
        )
    with torch.autocast(x.device.type, enabled=False):
        z = standardised(x, eps)
        return z @ z.transpose(1, 2) / (z.shape[2] - 1)


def above_diagonal(covariance: Tensor) -> Tensor:
    """(N, C, C) -> (N, C * (C - 1) / 2), row by row."""
    c = covariance.shape[-1]
    rows, columns = torch.triu_indices(c, c, 1, device=covariance.device)
    return covariance[..., rows, columns]


def off_diagonal_loss(elements: Tensor, mask: Tensor | None = None, margin: float = 0.0) -> Tensor:
    """Mean absolute covariance beyond a margin, averaged over images.

    Args:
        elements: (N, P), see :func:`above_diagonal`.
        mask: (P,) the elements that count, not 0; None: all.
        margin: what an image's mean may be at no cost.

    Returns:
        Scalar; 0 where nothing counts.
    """
    magnitude = elements.abs()
    if mask is None:
        count: Tensor | int = max(elements.shape[1], 1)
    else:
        mask = mask.ne(0).to(magnitude.dtype)
        magnitude, count = magnitude * mask, mask.sum().clamp(min=1)
    per_image = magnitude.sum(1) / count - margin  # (N,)
    return per_image.relu().sum() / max(len(elements), 1)


def variance_between(elements: Tensor, copies: Tensor) -> Tensor:
    """Variance of each element between an image and its copy, averaged over images.

    Args:
        elements, copies: (N, P) of the same images in two styles.

    Returns:
        (P,): with two values the (biased) variance is a quarter of the squared difference.
    """
    return ((elements - copies).square() / 4).mean(0)


def sensitive_mask(variance: Tensor, clusters: int = 3, insensitive: int = 1) -> Tensor:
    """The elements outside of the lowest ``insensitive`` of ``clusters`` clusters.

    Args:
        variance: (P,).

    Returns:
        (P,) uint8, 1 for the elements that a photometric change moves. All 0 where there are no
        more distinct values than ``insensitive``.
    """
    labels = kmeans_1d(variance.detach().double().cpu().numpy(), clusters)
    return torch.from_numpy((labels >= insensitive).astype("uint8")).to(variance.device)


@MODELS.register_module()
class InstanceWhitening(FeatureLoss):
    """IW, and IRW with a margin: all elements off the diagonal are pulled to 0.

    Args:
        features: names of modules of the backbone.
        margin: mean absolute covariance of an image at no cost; the authors' IRW has 1 / 64.
        weight: of the mean over features.
        loss_name: in the log.
    """

    def __init__(
        self,
        features: str | Sequence[str],
        *,
        margin: float = 0.0,
        weight: float = 0.6,
        loss_name: str = "loss_iw",
    ) -> None:
        super().__init__(features, weight=weight, loss_name=loss_name)
        if margin < 0:
            raise ValueError(f"InstanceWhitening: margin is 0 or more, got {margin}")
        self.margin = margin

    def measure(self, x: Tensor) -> Tensor:
        return above_diagonal(instance_covariance(x))

    def forward(self, measures: Sequence[Tensor]) -> Tensor:
        losses = [off_diagonal_loss(elements, margin=self.margin) for elements in measures]
        return self.weight * torch.stack(losses).mean()


@MODELS.register_module()
class InstanceSelectiveWhitening(FeatureLoss):
    """ISW: the elements that colours and blur move are pulled to 0, the others are left alone.

    Three phases, by batches seen in training:

    1. up to ``start`` the loss is 0, while the network settles;
    2. then each batch and its photometric copy go through the backbone once more, in eval mode and
       without gradient, until ``statistics_images`` images (of all processes) have been seen;
       the loss is still 0;
    3. the variances are clustered, the mask is fixed, the loss is on.

    All state is in buffers, hence in checkpoints: a resumed run goes on in its phase.

    Args:
        features: names of modules of the backbone.
        clusters: of the variances.
        insensitive: the lowest clusters, which are left alone.
        start: batches before statistics are taken; the default is the authors' five epochs of
            12,403 images in batches of 16.
        statistics_images: how many images the statistics are taken of.
        weight: of the mean over features.
        loss_name: in the log.
    """

    iterations: Tensor
    images: Tensor

    def __init__(
        self,
        features: str | Sequence[str],
        *,
        clusters: int = 3,
        insensitive: int = 1,
        start: int = 3875,
        statistics_images: int = 12403,
        weight: float = 0.6,
        loss_name: str = "loss_isw",
    ) -> None:
        super().__init__(features, weight=weight, loss_name=loss_name)
        if not 0 < insensitive < clusters:
            raise ValueError(
                "InstanceSelectiveWhitening: expected 0 < insensitive < clusters, got "
                f"insensitive={insensitive}, clusters={clusters}"
            )
        if start < 0 or statistics_images < 1:
            raise ValueError(
                "InstanceSelectiveWhitening: start is 0 or more and statistics_images 1 or more, "
                f"got {start} and {statistics_images}"
            )
        self.clusters, self.insensitive = clusters, insensitive
        self.start, self.statistics_images = start, statistics_images
        self.register_buffer("iterations", torch.zeros((), dtype=torch.int64))
        self.register_buffer("images", torch.zeros((), dtype=torch.int64))

    def configure(self, channels: Mapping[str, int]) -> None:
        for index, feature in enumerate(self.features):
            c = channels[feature]
            pairs = c * (c - 1) // 2
            self.register_buffer(f"variance_{index}", torch.zeros(pairs))
            # no bool: some communication backends cannot broadcast it
            self.register_buffer(f"mask_{index}", torch.zeros(pairs, dtype=torch.uint8))

    @property
    def masks(self) -> list[Tensor]:
        """Of each feature, (P,) uint8; all 0 until the statistics are complete."""
        return [getattr(self, f"mask_{index}") for index in range(len(self.features))]

    @property
    def is_on(self) -> bool:
        """Whether the masks are fixed."""
        return int(self.images) >= self.statistics_images

    @property
    def wants_copies(self) -> bool:
        return int(self.iterations) >= self.start and not self.is_on

    @torch.no_grad()
    def gather(self, maps: Sequence[Tensor], copies: Sequence[Tensor]) -> None:
        count = torch.tensor(len(maps[0]), device=self.images.device)
        all_reduce(count)
        share = count / (self.images + count)
        for index, (elements, changed) in enumerate(zip(maps, copies, strict=True)):
            # over processes, each image counts the same
            total = variance_between(elements, changed) * len(elements)
            all_reduce(total)
            variance = getattr(self, f"variance_{index}")
            variance.lerp_((total / count).to(variance), share.to(variance))
        self.images += count
        if self.is_on:
            for index, mask in enumerate(self.masks):
                variance = getattr(self, f"variance_{index}")
                mask.copy_(sensitive_mask(variance, self.clusters, self.insensitive))

    def measure(self, x: Tensor) -> Tensor:
        return above_diagonal(instance_covariance(x))

    def forward(self, measures: Sequence[Tensor]) -> Tensor:
        if self.training:
            self.iterations += 1
        # masks are all 0 before they are fixed, and so is the loss
        losses = [off_diagonal_loss(*pair) for pair in zip(measures, self.masks, strict=True)]
        return self.weight * torch.stack(losses).mean()

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, clusters={self.clusters}, insensitive={self.insensitive}, "
            f"start={self.start}, statistics_images={self.statistics_images}"
        )
