"""Feature divergence: how differently a network's layers see two domains, layer by layer.

Paper: Pan et al., "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net",
ECCV 2018, https://arxiv.org/abs/1807.09441, section 4.3. A channel's mean over an image's positions
is taken as Gaussian over the images of a domain; two domains differ in it by the symmetric
Kullback-Leibler divergence, and a layer's divergence is the mean over its channels.

Deviations: the paper does not say what to do about a channel that is constant in one domain, where
its formula is infinite; here a variance counts as at least ``eps`` of the channel's spread over
both domains. The authors' code for this section was not released.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "ChannelStatistics",
    "channel_divergence",
    "default_layers",
    "divergence",
    "divergence_by_chance",
    "feature_statistics",
    "near_constant",
]

_INPUT = ":input"
# Residual blocks of every ResNet here, dense blocks of a DenseNet; under any prefix.
_BLOCK = re.compile(r"(?P<prefix>(?:.*\.)?)(?P<stage>layer\d+|denseblock\d+)(?P<index>\.\d+)?")
# Relative to a channel's mean; below it a float32 mean over positions has only rounding error.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and variance over images of every channel's mean over positions.

    Attributes:
        count: images. mean, var: (C,) float64 on the CPU; the variance divides by ``count``.
    """

    count: int
    mean: Tensor
    var: Tensor

    @classmethod
    def of(cls, values: Tensor) -> ChannelStatistics:
        """Statistics of (N, C) channel means, N > 0."""
        values = values.to("cpu").double()
        var, mean = torch.var_mean(values, 0, correction=0)
        return cls(len(values), mean, var)

    def merged(self, other: ChannelStatistics) -> ChannelStatistics:
        """Of both sets of images together (Chan et al. 1979), without cancellation."""
        count = self.count + other.count
        share = other.count / count
        difference = other.mean - self.mean
        mean = self.mean + share * difference
        var = self.var.lerp(other.var, share) + share * (1 - share) * difference.square()
        return ChannelStatistics(count, mean, var)


def channel_divergence(a: ChannelStatistics, b: ChannelStatistics, *, eps: float = 1e-3) -> Tensor:
    """``KL(A || B) + KL(B || A)`` of two Gaussians per channel, in nats.

    With ``KL(A || B) = log(s_B / s_A) + (s_A^2 + (m_A - m_B)^2) / (2 s_B^2) - 1/2`` the logarithms
    cancel. Scaling or shifting a channel in both domains changes nothing.

    Args:
        eps: a variance counts as at least ``eps * (var_A / 2 + var_B / 2 + (m_A - m_B)^2 / 4)``,
            the spread of the channel over both domains in equal parts. This bounds a channel's
            divergence by ``4 / eps`` and touches only channels that are next to constant in a
            domain. A channel that is constant, and the same, in both has divergence 0.

    Returns:
        (C,) float64, zero or more.

    Raises:
        ValueError: other numbers of channels, fewer than two images, or eps not above 0.
    """
    squared, floor = _compared(a, b, eps)
    floor = torch.where(floor > 0, floor, 1.0)  # constant at zero in both
    var_a, var_b = torch.maximum(a.var, floor), torch.maximum(b.var, floor)
    return (var_a - var_b).square() / (2 * var_a * var_b) + squared * (1 / var_a + 1 / var_b) / 2


def near_constant(a: ChannelStatistics, b: ChannelStatistics, *, eps: float = 1e-3) -> Tensor:
    """Which channels are next to constant in one domain or both: ``eps`` sets their divergence.

    A few of them can outweigh all others in a layer's mean, above all with few images.

    Args and Raises: as :func:`channel_divergence`.

    Returns:
        (C,) bool; False for channels that are constant, and the same, in both.
    """
    squared, floor = _compared(a, b, eps)
    # equality: not the floor that rounding sets
    spread = (a.var + b.var) / 2 + squared / 4
    return (torch.minimum(a.var, b.var) < floor) & (eps * spread == floor)


def _compared(a: ChannelStatistics, b: ChannelStatistics, eps: float) -> tuple[Tensor, Tensor]:
    """(squared difference of the means, smallest variance that counts), both (C,)."""
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"expected the same channels in both domains, got {len(a.mean)} and {len(b.mean)}; "
            "compare statistics of one network"
        )
    if min(a.count, b.count) < 2:
        raise ValueError(
            f"a variance over images needs two or more in each domain, got {a.count} and {b.count}"
        )
    if not eps > 0:
        raise ValueError(f"eps must be above 0, got {eps}")
    squared = (a.mean - b.mean).square()
    spread = (a.var + b.var) / 2 + squared / 4
    # what float32 leaves of a channel that never changes is no difference between domains
    rounding = (_ROUNDING * torch.maximum(a.mean.abs(), b.mean.abs())).square()
    return squared, torch.maximum(eps * spread, rounding)


def divergence(
    a: Mapping[str, ChannelStatistics],
    b: Mapping[str, ChannelStatistics],
    *,
    eps: float = 1e-3,
) -> dict[str, float]:
    """Divergence of every layer: the mean of :func:`channel_divergence` over its channels.

    Args:
        a, b: statistics of one network on two domains, from :func:`feature_statistics`.
        eps: see :func:`channel_divergence`.

    Raises:
        ValueError: other layers in ``a`` than in ``b``, or what :func:`channel_divergence` refuses.
    """
    if a.keys() != b.keys():
        raise ValueError(
            "expected statistics of the same layers, only one side has "
            f"{sorted(a.keys() ^ b.keys())}"
        )
    return {name: float(channel_divergence(a[name], b[name], eps=eps).mean()) for name in a}


def divergence_by_chance(count_a: int, count_b: int) -> float:
    """Expected divergence of two random samples of ONE domain: what is not above it is no gap.

    Exact for independent images and Gaussian channels, about ``2 / count_a + 2 / count_b``;
    infinite for three images or fewer.
    """
    if min(count_a, count_b) <= 3:
        return float("inf")
    inverse_a, inverse_b = count_a / (count_a - 3), count_b / (count_b - 3)
    ratios = (1 - 1 / count_a) * inverse_b + (1 - 1 / count_b) * inverse_a
    means = (1 / count_a + 1 / count_b) * (inverse_a + inverse_b)
    return (ratios + means) / 2 - 1


def default_layers(model: nn.Module) -> dict[str, str]:
    """Name -> place of the stem's and of every block's output, in order of depth.

    In a ResNet these are outputs of ReLU: 17 in a ResNet-50, the stem before its max pooling and
    16 blocks. (Pre-activation blocks end in the addition, dense blocks in a concatenation; these
    are taken as they are. A stem without max pooling is what enters the first stage.)

    Raises:
        ValueError: no such blocks.
    """
    modules = dict(model.named_modules())
    layers: dict[str, str] = {}
    for name in modules:
        match = _BLOCK.fullmatch(name)
        if match is None or (match["stage"].startswith("layer") != bool(match["index"])):
            continue
        stem = f"{match['prefix']}stem"
        if stem not in layers:
            pool = f"{match['prefix']}maxpool"
            pools = isinstance(modules.get(pool), nn.MaxPool2d)
            first = pool if pools else f"{match['prefix']}{match['stage']}"
            layers[stem] = first + _INPUT
        layers[name] = name
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no blocks named layer1.0 or denseblock1; pass layers=, "
            f"names of its modules ({', '.join(n for n, _ in model.named_children())}, ...)"
        )
    return layers


@torch.no_grad()
def feature_statistics(
    model: nn.Module,
    batches: Iterable[Tensor],
    layers: Sequence[str] | Mapping[str, str] | None = None,
) -> dict[str, ChannelStatistics]:
    """Run a network over one domain and keep two numbers a channel; features are never stored.

    The network runs in eval mode and is left as it was. Means over positions are in float32 for
    half precision features, means over images in float64.

    Args:
        model: any network.
        batches: (N, C, H, W) images prepared for the network; brought to its device and type.
        layers: names of modules whose output is taken, or 'NAME:input' for what enters one; as a
            mapping, under a name of your choice. None: :func:`default_layers`. A feature is an
            (N, C) or (N, C, *spatial) tensor.

    Returns:
        Statistics by layer, in the order of ``layers``.

    Raises:
        ValueError: an unknown layer, one that does not run exactly once for a batch, features
            that are not finite, or fewer than two images. TypeError: batches or features of
            another kind.
    """
    if layers is None:
        layers = default_layers(model)
    places = dict(layers) if isinstance(layers, Mapping) else {name: name for name in layers}
    if not places:
        raise ValueError("layers names no layer; leave it out for the default")
    modules = dict(model.named_modules())
    if unknown := [p for p in places.values() if p.removesuffix(_INPUT) not in modules]:
        raise ValueError(
            f"{type(model).__name__} has no module {', '.join(map(repr, unknown))}; "
            "model.named_modules() lists them"
        )
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    seen: dict[str, list[Tensor]] = {name: [] for name in places}
    totals: dict[str, ChannelStatistics] = {}
    was_training = {module: module.training for module in model.modules()}
    handles = []
    try:
        for name, place in places.items():
            module = modules[place.removesuffix(_INPUT)]
            keep = partial(_keep, seen[name], name)
            if place.endswith(_INPUT):
                handles.append(module.register_forward_pre_hook(partial(_keep_input, keep)))
            else:
                handles.append(module.register_forward_hook(partial(_keep_output, keep)))
        model.eval()
        for batch in batches:
            _check_batch(batch)
            if len(batch) == 0:
                continue
            model(batch if parameter is None else batch.to(parameter.device, parameter.dtype))
            for name, tables in seen.items():
                found = ChannelStatistics.of(_only(name, tables, len(batch)))
                totals[name] = totals[name].merged(found) if name in totals else found
                tables.clear()
    finally:
        for handle in handles:
            handle.remove()
        for module, training in was_training.items():
            module.training = training
    _check_totals(totals)
    return {name: totals[name] for name in places}


def _keep(tables: list[Tensor], name: str, feature: Any) -> None:
    if not isinstance(feature, Tensor) or feature.ndim < 2 or not feature.is_floating_point():
        got = (
            f"{feature.dtype} of shape {tuple(feature.shape)}"
            if isinstance(feature, Tensor)
            else f"a {type(feature).__name__}"
        )
        raise TypeError(f"layer {name!r}: expected a float tensor (N, C, ...), got {got}")
    # (N, C, *spatial) -> (N, C)
    dtype = feature.dtype if feature.dtype == torch.float64 else torch.float32
    tables.append(feature.flatten(2).mean(2, dtype=dtype) if feature.ndim > 2 else feature.clone())


def _keep_output(keep: partial[None], module: nn.Module, inputs: Any, output: Any) -> None:
    keep(output)


def _keep_input(keep: partial[None], module: nn.Module, inputs: tuple[Any, ...]) -> None:
    keep(inputs[0] if inputs else None)


def _only(name: str, tables: list[Tensor], images: int) -> Tensor:
    if len(tables) != 1:
        raise ValueError(
            f"layer {name!r} ran {len(tables)} times for one batch, expected once; choose a module "
            "that has one place in the network"
        )
    if len(tables[0]) != images:
        raise ValueError(
            f"layer {name!r} gave {len(tables[0])} features for {images} images; the first "
            "dimension must be the image"
        )
    return tables[0]


def _check_batch(batch: Any) -> None:
    if not isinstance(batch, Tensor) or not batch.is_floating_point() or batch.ndim < 2:
        got = batch.dtype if isinstance(batch, Tensor) else type(batch).__name__
        raise TypeError(
            f"batches must be float tensors (N, C, H, W), normalised for the network; got {got}"
        )


def _check_totals(totals: Mapping[str, ChannelStatistics]) -> None:
    count = next(iter(totals.values())).count if totals else 0
    if count < 2:
        raise ValueError(
            f"a domain needs two images or more (a variance over images is taken), got {count}"
        )
    for name, found in totals.items():
        if not (found.mean.isfinite().all() and found.var.isfinite().all()):
            raise ValueError(
                f"layer {name!r} has features that are not finite; check the weights and the "
                "images, or use float32 instead of half precision"
            )
