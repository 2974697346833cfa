"""Losses and miners of pytorch-metric-learning by a config line.

Musgrave et al., "PyTorch Metric Learning", 2020 (https://arxiv.org/abs/2008.09164,
https://kevinmusgrave.github.io/pytorch-metric-learning/). The package is an extra and is imported
when such a loss is built. What it computes is its own; added here are the contract of this room
(float32, graph and zero gradients for a batch without pairs, NaN shows) and the sizes of losses
that own class weights.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from reid.losses.base import check_label_range, finite_zero
from reid.losses.sized import SizedLoss
from reid.registry import MODELS

# Where the package keeps what a key of a config means.
_ROOMS = {
    "loss": "losses",
    "losses": "losses",
    "miner": "miners",
    "miners": "miners",
    "distance": "distances",
    "reducer": "reducers",
    "embedding_regularizer": "regularizers",
    "weight_regularizer": "regularizers",
}

# What the package calls the sizes that the model knows.
_SIZES = {
    "num_classes": "num_classes",
    "embedding_size": "feature_dim",
    "descriptors_dim": "feature_dim",
}

_UNSUITABLE = {
    "SelfSupervisedLoss": "compares two views of every image, and a batch of re-ID has one",
    "VICRegLoss": "compares two views of every image, and a batch of re-ID has one",
    "ManifoldLoss": "takes no labels",
    "EmbeddingsAlreadyPackagedAsTriplets": "expects triplets in a fixed order of the batch",
}

# Not a number when no image of the batch has a second one of its identity.
_NEEDS_A_PAIR = ("NCALoss",)


@MODELS.register_module()
class MetricLearningLoss(SizedLoss):
    """A loss of pytorch-metric-learning, with one of its miners if wanted::

        dict(
            type="reid.MetricLearningLoss",
            loss=dict(type="MultiSimilarityLoss", alpha=2, beta=50),
            miner=dict(type="MultiSimilarityMiner", epsilon=0.1),
        )

    Other keys are arguments of the package's class; ``distance``, ``reducer`` and regularisers are
    dicts with a ``type`` again, as are the losses inside of CrossBatchMemory or MultipleLosses.
    Sizes that a loss requires (``num_classes``, ``embedding_size``) are filled in from the model
    when they are left out; only such a loss waits for :meth:`configure`. An empty batch, or one
    without the pairs that the loss learns from, gives 0 with zero gradients.

    It cannot be compiled into one graph: the package's shapes depend on the labels. What
    CrossBatchMemory remembers of earlier batches is not restored exactly when a run is resumed.

    ``statistics``: with a miner "metric_mined", the number of triplets that it chose (or of pairs,
    positive and negative).

    Args:
        loss: dict with the ``type`` of a class in pytorch_metric_learning.losses.
        miner: dict with the ``type`` of a class in pytorch_metric_learning.miners, or None: what
            the loss does by itself, usually all pairs or triplets.
        weight: factor of the returned loss.
        input: "feature" (before the BNNeck) or "embedding".
        name: key in the logs.

    Raises:
        ImportError: pytorch-metric-learning is not installed.
        ValueError: an unknown type (the message lists near ones), arguments that it does not take.
        RuntimeError: a loss with class weights called before the sizes are known.
    """

    def __init__(
        self,
        loss: Mapping[str, Any],
        miner: Mapping[str, Any] | None = None,
        weight: float = 1.0,
        *,
        input: str = "feature",
        name: str = "metric_loss",
    ) -> None:
        super().__init__(None, None, name=name, input=input, weight=weight)
        self.loss: nn.Module | None = None
        self.miner = None if miner is None else _build("miner", miner, {})
        self._config = loss
        if not any(_missing_sizes(cls, arguments) for cls, arguments in _parts("loss", loss)):
            self.loss = _build("loss", loss, {})

    def allocate(self, num_classes: int, feature_dim: int) -> None:
        sizes = {"num_classes": num_classes, "feature_dim": feature_dim}
        for cls, arguments in _parts("loss", self._config):
            _check_sizes(cls, arguments, sizes)
        if self.loss is None:
            self.loss = _build("loss", self._config, sizes)

    def compute(self, x: Tensor, labels: Tensor) -> Tensor:
        if self.loss is None:
            self.check_sized(x.shape[1])
        assert self.loss is not None
        if self.num_classes is not None:
            check_label_range(labels, self.num_classes, "MetricLearningLoss")
        zero = finite_zero(x)
        for (
            parameter
        ) in self.loss.parameters():  # no rank may wait for a parameter without gradient
            zero = zero + finite_zero(parameter)
        self.statistics = {}
        if len(labels) == 0 or (
            self._config["type"] in _NEEDS_A_PAIR and len(labels.unique()) == len(labels)
        ):
            return zero
        mined = None
        if self.miner is not None:
            mined = self.miner(x.detach(), labels)
            # (anchor, positive, negative), or (anchor, positive, anchor, negative)
            number = len(mined[0]) + (len(mined[2]) if len(mined) == 4 else 0)
            self.statistics = {self.log_key("mined"): x.new_full((), number)}
        value: Tensor = self.loss(x, labels, mined)
        return value + zero

    def extra_repr(self) -> str:
        return super(SizedLoss, self).extra_repr()


def _build(key: str, config: Any, sizes: Mapping[str, int]) -> nn.Module:
    """Build the object that a ``key`` of a config describes, and the ones inside of it."""
    cls = _find(key, config)
    arguments = {name: value for name, value in config.items() if name != "type"}
    for name, value in arguments.items():
        if _is_config(name, value):
            arguments[name] = _build(name, value, sizes)
        elif isinstance(value, (list, tuple)):
            arguments[name] = [_build(name, v, sizes) if _is_config(name, v) else v for v in value]
    for name in _missing_sizes(cls, arguments):
        arguments[name] = sizes[_SIZES[name]]
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ValueError(
            f"MetricLearningLoss: {cls.__name__} cannot be built: {error}; its arguments are "
            f"{inspect.signature(cls)}"
        ) from error


def _parts(key: str, config: Any) -> Iterator[tuple[type[nn.Module], Mapping[str, Any]]]:
    """Class and arguments of what a config describes, and of everything inside of it."""
    yield _find(key, config), config
    for name, value in config.items():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            if _is_config(name, part):
                yield from _parts(name, part)


def _check_sizes(cls: type, arguments: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    for name, ours in _SIZES.items():
        given = arguments.get(name)
        if given is not None and given != sizes[ours]:
            raise ValueError(
                f"MetricLearningLoss: {name}={given} was given to {cls.__name__}, but the model "
                f"has {sizes[ours]}; leave {name} out and it follows the model"
            )


def _find(key: str, config: Any) -> type[nn.Module]:
    """The class that a config names."""
    if not (isinstance(config, Mapping) and isinstance(config.get("type"), str)):
        raise ValueError(
            f"MetricLearningLoss: expected {key} to be a dict with a type, e.g. "
            f"dict(type='MultiSimilarityLoss'), got {config!r}"
        )
    room, name = _package(_ROOMS[key]), config["type"]
    if name in _UNSUITABLE:
        raise ValueError(f"MetricLearningLoss: {name} {_UNSUITABLE[name]}; choose another {key}")
    known = {
        n: c
        for n, c in vars(room).items()
        if inspect.isclass(c) and issubclass(c, nn.Module) and _is_concrete(n)
    }
    if name not in known:
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.5) or sorted(known)
        raise ValueError(
            f"MetricLearningLoss: pytorch_metric_learning.{_ROOMS[key]} has no {name!r}; "
            f"nearest are {', '.join(near)}"
        )
    return known[name]


def _is_concrete(name: str) -> bool:
    return not name.startswith(("Base", "Generic")) and not name.endswith("Mixin")


def _is_config(name: str, value: Any) -> bool:
    return name in _ROOMS and isinstance(value, Mapping) and "type" in value


def _missing_sizes(cls: type, arguments: Mapping[str, Any]) -> list[str]:
    """Sizes that a constructor, or one that it passes its arguments on to, has no default for."""
    required = {
        name
        for base in inspect.getmro(cls)
        if "__init__" in vars(base)
        for name, parameter in inspect.signature(vars(base)["__init__"]).parameters.items()
        if parameter.default is inspect.Parameter.empty
    }
    return [name for name in _SIZES if name in required and name not in arguments]


def _package(room: str) -> ModuleType:
    """pytorch_metric_learning.<room>, imported at use: it is an extra."""
    try:
        from pytorch_metric_learning import distances, losses, miners, reducers, regularizers
    except ImportError as error:
        raise ImportError(
            "MetricLearningLoss needs pytorch-metric-learning: "
            "pip install 'reidseg[metric-learning]'"
        ) from error
    rooms: dict[str, ModuleType] = {
        "losses": losses,
        "miners": miners,
        "distances": distances,
        "reducers": reducers,
        "regularizers": regularizers,
    }
    return rooms[room]
