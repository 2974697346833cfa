"""``calibrate``: running statistics measured on data instead of averaged along the training.

After training, or on images of another domain, a network is run over some batches with fixed
weights, and every layer's running mean and variance become those of the inputs it has just seen.
SN's authors evaluate with such batch averages (Luo et al., https://arxiv.org/abs/1806.10779,
section 3); for BN the idea is known as precise BN (Wu and Johnson, "Rethinking 'Batch' in
BatchNorm", https://arxiv.org/abs/2105.07576, section 3).

Two choices. While measuring, each layer normalises by its batch's statistics, as it did in
training. And the variance is that of all calibration data together, by the law of total variance
(mean of the batches' variances + variance of their means), in float64; the usual average of the
batches' variances leaves out the second term, so that its result depends on the batch size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from .convert import Where, select_layers
from .norm import BIN, IBN, SN
from .norm.moments import Moments, TorchKernels
from .weights import unwrapped

logger = logging.getLogger(__name__)


def calibrate(
    model: nn.Module,
    loader: Iterable[Any],
    num_batches: int | None = None,
    *,
    device: torch.device | str | None = None,
    forward: Callable[[nn.Module, Any], Any] | None = None,
    where: Where = None,
) -> int:
    """Set the running statistics of a network's norms to those of data; weights do not change.

    All layers that keep running statistics take part: batch norms of any kind, the batch half of
    IBN, BIN, SN (also with ``using_moving_average=False``, which needs this before evaluating) and
    instance norms that track. They run in training mode, everything else in evaluation mode, so
    that dropout is off, without gradients and uncompiled. A layer that is used twice counts both.
    Modes are afterwards what they were; if anything fails, so are the statistics.

    Args:
        model: any network, also wrapped in DistributedDataParallel.
        loader: batches; see ``forward`` for what they may be.
        num_batches: batches to use of each process's loader; None for all. If the loader has
            fewer, those are used, and the log says so. About 10,000 images are plenty.
        device: where the inputs go; the model's by default.
        forward: ``(model, batch) -> anything``, to run the network on a batch as the loader gives
            it. By default: a model of mmengine gets ``model.data_preprocessor(batch)`` and runs
            with ``mode='tensor'`` (norms of heads that only a loss uses are not reached); any
            other model gets the batch itself if it is a tensor, its first item if it is a tuple or
            list, its ``'inputs'`` if it is a dict.
        where: which layers, as in :func:`convert_norm`; all by default. The others stay in
            evaluation mode.

    Returns:
        The number of batches used, of all processes together.

    With several processes, each reads its own loader; all stop when the first has no more, and end
    with the same statistics, of all data.

    Raises:
        ValueError: nothing to calibrate, an empty loader, a batch of a single value per channel,
            ``num_batches`` below 1.
        TypeError: a batch that the default ``forward`` cannot use.
        FloatingPointError: a layer's inputs were not finite.
    """
    if num_batches is not None and num_batches < 1:
        raise ValueError(f"calibrate: num_batches is 1 or more, or None for all, got {num_batches}")
    model = unwrapped(model)
    keepers = _keepers(model, where)
    run = forward or partial(_run, device=torch.device(device or _device_of(model)))
    with _measuring(model, keepers) as commit:
        used = _run_batches(model, loader, num_batches, run)
        commit()
    logger.info("calibrated %d layers on %d batches", len(keepers), used)
    return used


class _Keeper:
    """A layer that keeps running statistics, and the sums of what it has seen."""

    def __init__(self, name: str, keeper: nn.Module, caller: nn.Module) -> None:
        self.name, self.keeper = name, keeper
        self.caller = caller
        """Whose forward is called: IBN, for its batch half."""
        self.mean_of_instances = isinstance(keeper, _InstanceNorm)
        """Tracks the average instance's statistics rather than those of all values."""
        self.count: Tensor | None = None
        self.mean: Tensor | None = None
        self.spread: Tensor | None = None
        """Sum of squared deviations from the mean, (C,) float64."""

    @property
    def statistics(self) -> tuple[Tensor, Tensor]:
        return cast(tuple[Tensor, Tensor], (self.keeper.running_mean, self.keeper.running_var))

    @property
    def channels(self) -> int:
        return self.statistics[0].numel()

    @torch.no_grad()
    def see(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Forward pre-hook: add the input to the sums."""
        x: Tensor = args[0] if args else next(iter(kwargs.values()))
        if x.numel() == 0:
            return
        if x.ndim == 2:  # (N, C): planes of one position
            x = x[..., None]
        if isinstance(module, IBN):
            first = 0 if module.order == "bn_in" else module.IN.num_features
            x = x[:, first : first + self.channels]
        means, variances = (table.to(_wide(x)) for table in TorchKernels().moments(x))  # (N, C)
        positions = x[0, 0].numel()
        if self.mean_of_instances or isinstance(self.keeper, SN):  # theirs are unbiased
            variances = Moments(means, variances, positions).unbiased_var
        mean = means.mean(0)
        spread = variances.sum(0)
        if not self.mean_of_instances:
            spread = spread + (means - mean).square().sum(0)
        self._add(mean.new_tensor(float(len(x) * positions)), mean, spread * positions)

    def _add(self, count: Tensor, mean: Tensor, spread: Tensor) -> None:
        if self.count is None or self.mean is None or self.spread is None:
            self.count, self.mean, self.spread = count, mean, spread
            return
        total = self.count + count
        step = mean - self.mean
        self.mean = self.mean + step * (count / total)
        self.spread = self.spread + spread
        if not self.mean_of_instances:
            self.spread = self.spread + step.square() * (self.count * count / total)
        self.count = total

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and variance, (C,), the variance as the layer's running one is meant."""
        assert self.count is not None and self.mean is not None and self.spread is not None
        plain = self.mean_of_instances or isinstance(self.keeper, SN)
        return self.mean, self.spread / (self.count if plain else (self.count - 1).clamp(min=1))


def _keepers(model: nn.Module, where: Where) -> list[_Keeper]:
    halves = {id(m.BN): m for m in model.modules() if isinstance(m, IBN)}
    layers = select_layers(model, where, _keeps_statistics)
    keepers = [_Keeper(names[0], layer, halves.get(id(layer), layer)) for names, layer in layers]
    known = {id(keeper.keeper) for keeper in keepers}
    if where is None:
        for name, module in model.named_modules():
            own = module._buffers.get("running_mean")
            if own is not None and own.numel() and id(module) not in known:
                logger.warning(
                    "%s: running statistics of a %s are left as they are", name, type(module)
                )
    return keepers


def _keeps_statistics(module: nn.Module) -> bool:
    mean = getattr(module, "running_mean", None)
    kinds = (_BatchNorm, _InstanceNorm, BIN, SN)
    return isinstance(module, kinds) and isinstance(mean, Tensor) and mean.numel() > 0


@contextmanager
def _measuring(model: nn.Module, keepers: list[_Keeper]) -> Iterator[Callable[[], None]]:
    """Modes and hooks for measuring; gives the function that makes the result the statistics.

    Whatever happens, modes are restored, and the statistics too, unless that function has run.
    """
    modes = [(module, module.training) for module in model.modules()]
    before = [_snapshot(keeper.keeper) for keeper in keepers]
    handles = [k.caller.register_forward_pre_hook(k.see, with_kwargs=True) for k in keepers]
    done = False

    def commit() -> None:
        nonlocal done
        _merge(keepers)
        results = []
        for keeper, state in zip(keepers, before, strict=True):
            if keeper.count is None or float(keeper.count) == 0:
                logger.warning("%s: not reached, statistics left as they are", keeper.name)
                results.append((keeper.keeper, state))
                continue
            mean, var = keeper.result()
            if not (mean.isfinite().all() and var.isfinite().all()):
                raise FloatingPointError(
                    f"calibrate: the inputs of {keeper.name} were not finite; nothing was changed. "
                    "Look at the images, or measure in float32"
                )
            results.append((keeper.keeper, {**state, "mean": mean, "var": var, "added": 0}))
        for module, state in results:
            _restore(module, state)
        done = True

    try:
        for module, _ in modes:
            module.training = False  # not .eval(), which frozen stages and the like override
        for keeper in keepers:
            keeper.keeper.training = keeper.caller.training = True
        # compiled code does not see hooks that come later
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            yield commit
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes:
            module.training = mode
        if not done:
            for keeper, state in zip(keepers, before, strict=True):
                _restore(keeper.keeper, state)


def _snapshot(module: nn.Module) -> dict[str, Any]:
    tracked = getattr(module, "num_batches_tracked", None)
    return {
        "mean": cast(Tensor, module.running_mean).clone(),
        "var": cast(Tensor, module.running_var).clone(),
        "tracked": tracked.clone() if isinstance(tracked, Tensor) else None,
        "added": getattr(module, "batches_added", None),
    }


@torch.no_grad()
def _restore(module: nn.Module, state: dict[str, Any]) -> None:
    for name in ("mean", "var"):
        buffer = cast(Tensor, getattr(module, f"running_{name}"))
        buffer.copy_(state[name].view_as(buffer))
    if state["tracked"] is not None:
        cast(Tensor, module.num_batches_tracked).copy_(state["tracked"])
    if isinstance(module, SN):
        module.batches_added = state["added"]


def _run_batches(
    model: nn.Module,
    loader: Iterable[Any],
    num_batches: int | None,
    run: Callable[[nn.Module, Any], Any],
) -> int:
    used = 0
    batches = islice(iter(loader), num_batches)
    while True:
        batch = next(batches, _END)
        # synchronised norms wait for each other: no process may run more batches than another
        if _sum_over_processes(float(batch is _END)):
            break
        run(model, batch)
        used += 1
        if used % 50 == 0:
            logger.info("calibrating: %d batches", used)
    if used == 0:
        raise ValueError("calibrate: the loader gave no batch" + (" in one process" * _parallel()))
    if num_batches is not None and used < num_batches:
        logger.warning("calibrate: asked for %d batches, had and used %d", num_batches, used)
    return used * (dist.get_world_size() if _parallel() else 1)


_END = object()


def _run(model: nn.Module, batch: Any, *, device: torch.device) -> None:
    if callable(preprocess := getattr(model, "data_preprocessor", None)):
        data = preprocess(batch, False)
        if isinstance(data, Mapping):
            model(**data, mode="tensor")
        else:
            model(*(data if isinstance(data, tuple | list) else (data,)), mode="tensor")
        return
    if isinstance(batch, Mapping) and "inputs" in batch:
        x = batch["inputs"]
    elif isinstance(batch, tuple | list) and len(batch):
        x = batch[0]
    else:
        x = batch
    if not isinstance(x, Tensor):
        raise TypeError(
            "calibrate: expected a batch that is a tensor, a tuple that begins with one, or a dict "
            f"with 'inputs', got {type(batch).__name__}; say how to run the model by "
            "forward=lambda model, batch: ..."
        )
    model(x.to(device, non_blocking=True))


def _device_of(model: nn.Module) -> torch.device:
    tensors = (*model.parameters(), *model.buffers())
    return tensors[0].device


def _wide(x: Tensor) -> torch.dtype:
    return torch.float32 if x.device.type == "mps" else torch.float64  # which has no float64


def _parallel() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _sum_over_processes(value: float) -> float:
    if not _parallel():
        return value
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    total = torch.tensor(value, device=device)
    dist.all_reduce(total)
    return float(total)


def _merge(keepers: list[_Keeper]) -> None:
    """Make each layer's sums those of all processes: two messages for all layers together."""
    if not _parallel():
        return
    device = keepers[0].statistics[0].device
    empty = partial(torch.zeros, dtype=_wide(keepers[0].statistics[0]), device=device)
    rows = []
    for keeper in keepers:
        count, mean, spread = keeper.count, keeper.mean, keeper.spread
        if count is None or mean is None or spread is None:
            count, mean, spread = empty(()), empty(keeper.channels), empty(keeper.channels)
        rows.append((count.to(device), mean.to(device), spread.to(device)))
    sizes = [keeper.channels for keeper in keepers]
    counts = torch.stack([count for count, _, _ in rows])
    means = torch.cat([count * mean for count, mean, _ in rows])
    first = torch.cat([counts, means])
    dist.all_reduce(first)
    totals, sums = first[: len(rows)], first[len(rows) :].split(sizes)
    global_means = [s / t.clamp(min=1) for s, t in zip(sums, totals, strict=True)]
    spreads = [
        spread + (0 if keeper.mean_of_instances else count * (mean - overall).square())
        for keeper, (count, mean, spread), overall in zip(keepers, rows, global_means, strict=True)
    ]
    second = torch.cat(spreads)
    dist.all_reduce(second)
    for i, (keeper, spread) in enumerate(zip(keepers, second.split(sizes), strict=True)):
        keeper.count, keeper.mean, keeper.spread = totals[i], global_means[i], spread
