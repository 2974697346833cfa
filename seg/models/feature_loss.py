"""What a loss on feature maps has to offer to :class:`seg.models.segmentor.Segmentor`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn


class FeatureLoss(nn.Module):
    """A loss on the maps of named modules of the backbone.

    The segmentor calls :meth:`measure` on each map at the moment that its module returns it, and
    :meth:`forward` with all the results; the loss stands in the log under ``loss_name``.

    Args:
        features: names of modules inside the backbone (see ``named_modules.find_module``).
        weight: factor of the loss.
        loss_name: begins with 'loss', so that mmengine counts it among the losses.

    Raises:
        ValueError: no features, or a name that mmengine would not count.
    """

    def __init__(self, features: str | Sequence[str], *, weight: float, loss_name: str) -> None:
        super().__init__()
        self.features = (features,) if isinstance(features, str) else tuple(features)
        self.weight, self.loss_name = float(weight), loss_name
        name = type(self).__name__
        if not self.features or not all(isinstance(f, str) for f in self.features):
            raise ValueError(
                f"{name}: features are names of modules of the backbone, at least one, e.g. "
                f"('layer1', 'layer2'), got {features!r}"
            )
        if len(set(self.features)) < len(self.features):
            raise ValueError(f"{name}: one feature is named twice in {self.features}")
        if not loss_name.startswith("loss"):
            raise ValueError(f"{name}: loss_name must begin with 'loss', got {loss_name!r}")

    def configure(self, channels: Mapping[str, int]) -> None:
        """Told once, before training: channels of the map of each feature."""

    @property
    def wants_copies(self) -> bool:
        """Whether :meth:`gather` is to be called with the next batch."""
        return False

    def gather(self, maps: Sequence[Tensor], copies: Sequence[Tensor]) -> None:
        """Measures of a batch, and of its photometric copy: same images, without gradient."""

    def measure(self, x: Tensor) -> Tensor:
        """What to keep of a map (N, C, H, W); not the map itself, which may be overwritten."""
        return x.clone()

    def forward(self, measures: Sequence[Tensor]) -> Tensor:
        """The loss, times the weight: a scalar."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"features={self.features}, weight={self.weight}, loss_name={self.loss_name!r}"
