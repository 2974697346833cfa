"""Losses that must know the number of identities and the length of the features."""

from __future__ import annotations

from reid.losses.base import ReIDLoss


class SizedLoss(ReIDLoss):
    """A loss with parameters or buffers of (num_classes, feature_dim).

    Sizes that are left out here are given by the owning model through :meth:`configure`. As soon
    as both are known, :meth:`allocate` is called once. Calling the loss earlier raises
    RuntimeError.

    Args:
        num_classes: P, the number of training identities.
        feature_dim: D.
        name, weight, input: as in :class:`ReIDLoss`; ``input`` is "feature" or "embedding".

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        num_classes: int | None,
        feature_dim: int | None,
        *,
        name: str,
        input: str,
        weight: float,
    ) -> None:
        super().__init__(name=name, input=input, weight=weight, inputs=("feature", "embedding"))
        self.num_classes = self._positive("num_classes", num_classes)
        self.feature_dim = self._positive("feature_dim", feature_dim)
        self._allocated = False

    def configure(self, *, num_classes: int, feature_dim: int) -> None:
        """Fill in the sizes that were not given; those that were must agree.

        Raises:
            ValueError: a size differs from the one already known.
        """
        for key, value in (("num_classes", num_classes), ("feature_dim", feature_dim)):
            known = getattr(self, key)
            if known is not None and known != value:
                raise ValueError(
                    f"{type(self).__name__}: {key}={known} was given, but the model has {value}; "
                    f"leave {key} out of the loss and it follows the model"
                )
            setattr(self, key, self._positive(key, value))
        self.allocate_if_sized()

    def allocate_if_sized(self) -> None:
        """Allocate unless done already or a size is missing; subclasses' constructors end here."""
        if self._allocated or self.num_classes is None or self.feature_dim is None:
            return
        self.allocate(self.num_classes, self.feature_dim)
        self._allocated = True

    def allocate(self, num_classes: int, feature_dim: int) -> None:
        """Create what is (num_classes, feature_dim)."""
        raise NotImplementedError(f"{type(self).__name__} must implement allocate(...)")

    def check_sized(self, feature_dim: int) -> None:
        """Refuse to compute before the sizes are known, or with features of another length.

        Raises:
            RuntimeError: the sizes are not known yet.
            ValueError: another ``feature_dim``.
        """
        if not self._allocated:
            raise RuntimeError(
                f"{type(self).__name__}: num_classes and feature_dim are not known yet; give both "
                "to the constructor or call configure(num_classes=..., feature_dim=...) first"
            )
        if feature_dim != self.feature_dim:
            raise ValueError(
                f"{type(self).__name__}: expected features of dimension {self.feature_dim}, got "
                f"{feature_dim}; feature_dim must be that of the {self.input}"
            )

    def extra_repr(self) -> str:
        return (
            f"num_classes={self.num_classes}, feature_dim={self.feature_dim}, "
            f"{super().extra_repr()}"
        )

    def _positive(self, key: str, value: int | None) -> int | None:
        if value is not None and value < 1:
            raise ValueError(f"{type(self).__name__}: expected {key} >= 1, got {value!r}")
        return value
