"""What every norm of the core has in common: checks of its input, and the last pass's extras."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from .moments import Moments, normalize


class Norm(nn.Module, ABC):
    """A layer that is a small algebra on the moments of its input.

    Subclasses name their learned tensors (:meth:`learned`) and turn moments into a scale and an
    offset (:meth:`algebra`); everything else is here.

    Shape: (N, C, *spatial) -> the same, in the type and memory format of the input.
    """

    # mmcv names a norm's attribute by this: `bn1`, so that weights keep torchvision's names
    _abbr_ = "bn"
    num_features: int
    spatial_dims: tuple[int, ...] = (1, 2, 3)
    """Numbers of spatial dimensions that the input may have."""
    has_batch_statistics: ClassVar[bool] = False
    """Whether it can be synchronised."""
    sync: bool = False
    """Whether batch statistics are taken over all processes."""

    @abstractmethod
    def learned(self) -> tuple[Tensor, ...]:
        """The tensors that :meth:`algebra` takes after the moments."""

    @abstractmethod
    def algebra(self, moments: Moments, *learned: Tensor) -> tuple[Tensor, Tensor]:
        """(scale, offset) of ``y = scale * (x - mean) + offset``, (N, C) or broadcastable."""

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """``[relu](norm(x) [+ residual])`` in the passes of the norm alone."""
        check_input(x, self.num_features, self.spatial_dims, type(self).__name__)
        if x.ndim == 2:  # (N, C): planes of one position
            residual = None if residual is None else residual[..., None]
            return self._normalize(x[..., None], residual, relu)[..., 0]
        return self._normalize(x, residual, relu)

    def _normalize(self, x: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
        return normalize(
            x,
            self.algebra,
            *self.learned(),
            residual=residual,
            relu=relu,
            collective=self.sync and self.training,
        )


def norm_relu(norm: nn.Module, x: Tensor, residual: Tensor | None = None) -> Tensor:
    """``relu(norm(x) [+ residual])``; in fewer passes where the norm can."""
    # a hook must see the norm's own output, and the gradient of it
    watched = norm._forward_hooks or norm._backward_hooks or norm._backward_pre_hooks
    if isinstance(norm, Norm) and not watched:
        y: Tensor = norm(x, residual, relu=True)
        return y
    y = norm(x)
    if residual is not None:
        y = y + residual
    # never over what a hook has seen, or over x where the norm was replaced by nn.Identity
    return F.relu(y, inplace=y is not x and not watched)


def check_num_features(num_features: Any, name: str) -> None:
    """Raises ValueError unless ``num_features`` is a positive integer."""
    if not isinstance(num_features, int) or isinstance(num_features, bool) or num_features < 1:
        raise ValueError(
            f"{name}: num_features is the number of channels, 1 or more, got {num_features!r}"
        )


def check_input(x: Tensor, num_features: int, spatial_dims: tuple[int, ...], name: str) -> None:
    """Raises ValueError or TypeError, with the shape that was expected."""
    if x.ndim - 2 not in spatial_dims or x.shape[1] != num_features:
        axes = {0: "", 1: ", L", 2: ", H, W", 3: ", D, H, W"}
        shapes = " or ".join(f"(N, {num_features}{axes[dims]})" for dims in spatial_dims)
        raise ValueError(f"{name}: expected {shapes}, got shape {tuple(x.shape)}")
    if not x.is_floating_point():
        raise TypeError(f"{name}: expected floating point input, got {x.dtype}; call .float()")
