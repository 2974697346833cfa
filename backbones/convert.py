"""``convert_norm``: other normalisation in any network - torchvision's, timm's, mmseg's, yours.

convert_norm(torchvision.models.resnet50(), "bin")
convert_norm(model, dict(type="IBN", ratio=0.5), where=["layer1", "layer2"])

What a layer has learned stays: weight, bias, running statistics, eps and momentum go over, and so
do device, type, training mode, frozen parameters, hooks and the names in the state dict where the
new layer has the same tensors. Whether the network computes the same afterwards depends on the two
norms: BN -> BIN does, exactly (its gate starts at pure BN); BN -> IN does not, and must be trained.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrize

from .norm import BIN, BN, GN, IBN, ILM, IN, LN, SN, build_norm
from .norm.base import Norm
from .norm.build import NORMS

logger = logging.getLogger(__name__)

NormSpec = str | Mapping[str, Any]
Where = str | Iterable[str] | Callable[[str, nn.Module], bool] | None
"""Which layers: all (None), names or shell patterns of layers or of what holds them, or a test."""

# Where the layers of build_norm take maps only, torch's: by name and spatial dimensions.
_TORCH_NORMS: dict[tuple[str, int], type[nn.Module]] = {
    ("bn", 0): nn.BatchNorm1d,
    ("bn", 1): nn.BatchNorm1d,
    ("bn", 3): nn.BatchNorm3d,
    ("syncbn", 0): nn.SyncBatchNorm,
    ("syncbn", 1): nn.SyncBatchNorm,
    ("syncbn", 3): nn.SyncBatchNorm,
    ("in", 1): nn.InstanceNorm1d,
    ("in", 3): nn.InstanceNorm3d,
}
# Everything that a module's hooks live in; the handles of those who registered them point here.
_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
    "_is_full_backward_hook",
)


@dataclass
class Step:
    """What becomes of one normalisation layer."""

    names: tuple[str, ...]
    """Where it stands; several names for one layer that is used in several places."""
    old: nn.Module
    new: nn.Module | None = None
    """The replacement, ready to use; ``old`` itself where nothing needs to change; None if
    impossible."""
    reason: str = ""
    """Why it is impossible."""
    notes: list[str] = field(default_factory=list)
    """What a user should know of this replacement."""

    @property
    def name(self) -> str:
        return self.names[0]

    def __str__(self) -> str:
        place = " = ".join(name or "the model" for name in self.names)
        if self.new is None:
            return f"{place}: {_describe(self.old)} stays: {self.reason}"
        if self.new is self.old:
            return f"{place}: {_describe(self.old)} stays as it is"
        notes = f" ({'; '.join(self.notes)})" if self.notes else ""
        return f"{place}: {_describe(self.old)} -> {_describe(self.new)}{notes}"


def convert_norm(
    model: nn.Module,
    norm: NormSpec,
    *,
    where: Where = None,
    spatial_dims: int | None = None,
    skip_impossible: bool = False,
) -> nn.Module:
    """Replace the normalisation layers of a network, in place.

    Everything is checked first: if an error is raised, nothing has changed. ``plan_conversion``
    with the same arguments shows beforehand, layer by layer, what would be done.

    Args:
        model: any network. Convert before building the optimiser and before wrapping in
            DistributedDataParallel: new norms can bring new parameters (BIN's gate).
        norm: what :func:`build_norm` takes: 'bn', 'in', 'gn', 'ln', 'ibn', 'bin', 'sn', 'ilm',
            'syncbn' and so on, or a dict with arguments, which win over those of the old layer.
            SN's momentum is the share it keeps: 1 - that of the old layer.
        where: None for all; a name or shell pattern, or several: 'layer1', 'features.*.block',
            which mean a layer or all layers below; or ``(name, layer) -> bool``.
        spatial_dims: of the inputs of layers whose class does not tell. BatchNorm1d: 0 by default,
            for (N, C), where there is no instance to normalise; 1 for (N, C, L). GroupNorm,
            SyncBatchNorm: 2.
        skip_impossible: leave what cannot be replaced, with a warning in the log, instead of
            raising.

    Returns:
        The model; a new module if the model itself is a normalisation layer.

    Raises:
        ValueError: an unknown norm; nothing selected; layers that cannot be replaced, listed with
            the reasons.
        TypeError: an argument that the norm does not take.
    """
    steps = plan_conversion(model, norm, where=where, spatial_dims=spatial_dims)
    impossible = [step for step in steps if step.new is None]
    if impossible and not skip_impossible:
        raise ValueError(
            f"convert_norm: {len(impossible)} of {len(steps)} layers cannot become {norm!r}; "
            "nothing was changed. Choose others by where=..., or leave these by "
            "skip_impossible=True:\n" + "\n".join(f"  {step}" for step in impossible)
        )
    replaced = {id(s.old): s for s in steps if s.new is not None and s.new is not s.old}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and id(child) in replaced:
                parent._modules[name] = replaced[id(child)].new
    for step in replaced.values():
        logger.debug("%s", step)
    for step in impossible:
        logger.warning("%s", step)
    logger.info(
        "%d of %d normalisation layers became %s%s",
        len(replaced),
        len(steps),
        norm,
        f"; {len(impossible)} could not" if impossible else "",
    )
    for note, count in Counter(n for s in replaced.values() for n in s.notes).items():
        logger.info("%d layers: %s", count, note)
    root = replaced.get(id(model))
    return model if root is None else cast(nn.Module, root.new)


def plan_conversion(
    model: nn.Module,
    norm: NormSpec,
    *,
    where: Where = None,
    spatial_dims: int | None = None,
) -> list[Step]:
    """What :func:`convert_norm` would do, one step a layer; nothing is changed.

    ``print(*plan_conversion(model, "bin"), sep="\\n")`` lists it. Arguments and errors are those of
    ``convert_norm``, but layers that cannot be replaced are steps with a ``reason``.
    """
    name, arguments = _parse(norm)
    spatial_dims = arguments.pop("spatial_dims", spatial_dims)
    if spatial_dims is not None and spatial_dims not in range(4):
        raise ValueError(f"convert_norm: spatial_dims is 0 to 3, got {spatial_dims!r}")
    for prefix, module in model.named_modules():
        if isinstance(module, DistributedDataParallel):
            raise ValueError(
                f"convert_norm: {prefix or 'the model'} is wrapped in DistributedDataParallel, "
                "which would not see new parameters; convert first, then wrap"
            )
    steps = [Step(names, layer) for names, layer in select_layers(model, where, _is_norm)]
    anchor = next((t for t in model.parameters() if t.is_floating_point()), torch.zeros(()))
    for step in steps:
        try:
            old = _read(step.old, spatial_dims)
            if not arguments and _is_already(step.old, name, old):
                step.new = step.old
            else:
                step.new, step.notes = _replacement(step.old, old, name, arguments, anchor)
        except _Impossible as error:
            step.reason = str(error)
    return steps


def select_layers(
    model: nn.Module, where: Where, wanted: Callable[[nn.Module], bool]
) -> list[tuple[tuple[str, ...], nn.Module]]:
    """The outermost modules that are ``wanted`` and chosen by ``where``, once each, with all names.

    Raises:
        ValueError: there is none, or a pattern fits none (the nearest names are given).
    """
    found: dict[int, tuple[list[str], nn.Module]] = {}
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules(remove_duplicate=False):
        if name.startswith(inside or "\0"):
            continue
        if wanted(module):
            inside = (f"{name}." if name else "",)
            found.setdefault(id(module), ([], module))[0].append(name)
    every = [name for names, _ in found.values() for name in names]
    if not every:
        raise ValueError(f"{type(model).__name__} has no such layer: nothing to do")
    chosen: Callable[[str, nn.Module], bool]
    if where is None:
        return [(tuple(names), module) for names, module in found.values()]
    if callable(where):
        chosen = where
    else:
        patterns = [where] if isinstance(where, str) else list(where)
        for pattern in patterns:
            if not any(_fits(name, pattern) for name in every):
                known = {n for name in every for n in _prefixes(name)}
                near = difflib.get_close_matches(pattern, sorted(known), n=3, cutoff=0.4)
                raise ValueError(
                    f"where={pattern!r} fits no layer of {type(model).__name__}; "
                    f"near: {near or every[:3]}, layers: {every[0]!r} to {every[-1]!r}"
                )

        def chosen(name: str, module: nn.Module) -> bool:
            return any(_fits(name, pattern) for pattern in patterns)

    selected = [
        (tuple(names), module)
        for names, module in found.values()
        if any(chosen(name, module) for name in names)
    ]
    if not selected:
        raise ValueError(f"where={where!r} chooses none of the {len(every)} layers")
    return selected


def _fits(name: str, pattern: str) -> bool:
    return any(fnmatchcase(prefix, pattern) for prefix in _prefixes(name))


def _prefixes(name: str) -> list[str]:
    """'a.b.c' -> ['a', 'a.b', 'a.b.c']."""
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _parse(norm: NormSpec) -> tuple[str, dict[str, Any]]:
    arguments = {"type": norm} if isinstance(norm, str) else dict(norm)
    name = str(arguments.pop("type", "")).lower().removeprefix("backbones.")
    if name not in NORMS:
        build_norm(norm, 32)  # raises, and lists the names
    return name, arguments


# ------------------------------------------------------------------------- reading the old layer


class _Impossible(ValueError):
    """Why a layer cannot be replaced."""


@dataclass
class _Old:
    """What a normalisation layer knows, in torch's terms."""

    num_features: int
    eps: float
    dims: int
    """Spatial dimensions of its input."""
    weight: Tensor | None
    """(C,), like all that follow."""
    bias: Tensor | None
    momentum: Any = ...
    """Share that is replaced; None averages all batches, ... where there is none."""
    running_mean: Tensor | None = None
    running_var: Tensor | None = None
    num_batches_tracked: Tensor | None = None
    sync: bool = False
    process_group: Any = None
    half: bool = False
    """Only some of the running statistics are measured ones."""
    num_groups: int | None = None
    notes: tuple[str, ...] = ()


_WELL_KNOWN = ("torch.", "torchvision.", "timm.", "mmcv.", "backbones.")
_CALIBRATE = "running statistics start at 0 and 1{}: run backbones.calibrate"
_PER_PIXEL = (
    "it normalised every position over the channels, which none of the others does: train again"
)


def _is_norm(module: nn.Module) -> bool:
    """Also kinds that are unknown here, so that they are reported and not passed over."""
    known = (Norm, _BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm)
    if isinstance(module, known):
        return True
    kind = type(module)
    if not re.search("Norm(?!al|ed)", kind.__name__) or kind.__module__.startswith(
        ("torch.nn.utils.", "torch.ao.")
    ):
        return False
    # a block with a norm somewhere inside (Conv2dNormActivation) has no tensors of its own
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return bool(own) or not any(module.children())


def _read(module: nn.Module, spatial_dims: int | None) -> _Old:
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
        raise _Impossible("it does not know its channels yet; run one batch through the model")
    if parametrize.is_parametrized(module):
        raise _Impossible(
            "its tensors are parametrised; remove that first by "
            "torch.nn.utils.parametrize.remove_parametrizations"
        )
    if isinstance(module, _BatchNorm):
        return _Old(
            module.num_features,
            module.eps,
            _choose(_dims_of_batch_norm(module), spatial_dims),
            module.weight,
            module.bias,
            module.momentum,
            module.running_mean,
            module.running_var,
            module.num_batches_tracked,
            sync=isinstance(module, nn.SyncBatchNorm) or bool(getattr(module, "sync", False)),
            process_group=getattr(module, "process_group", None),
        )
    if isinstance(module, _InstanceNorm):
        classes = {nn.InstanceNorm1d: 1, nn.InstanceNorm2d: 2, nn.InstanceNorm3d: 3}
        dims = next(n for kind, n in classes.items() if isinstance(module, kind))
        note = "its running statistics, of instances, are dropped"
        notes = (note,) if module.running_mean is not None else ()
        channels = module.num_features
        return _Old(channels, module.eps, dims, module.weight, module.bias, notes=notes)
    if isinstance(module, nn.GroupNorm):
        dims = _choose((2, 1, 3), spatial_dims)
        groups = None if isinstance(module, LN) else module.num_groups
        channels = module.num_channels
        return _Old(channels, module.eps, dims, module.weight, module.bias, num_groups=groups)
    if isinstance(module, Norm):
        return _read_ours(module, spatial_dims)
    return _read_by_name(module)


def _read_ours(module: Norm, spatial_dims: int | None) -> _Old:
    if module.spatial_dims == (0,):
        dims = 0
    else:
        possible = sorted(module.spatial_dims, key=lambda n: (n != 2, n))
        dims = _choose(tuple(possible), spatial_dims)
    features = module.num_features
    group = getattr(module, "process_group", None)
    if isinstance(module, IBN):
        parts = (module.IN, module.BN) if module.order == "in_bn" else (module.BN, module.IN)
        means = [_or(p.running_mean, torch.zeros_like(p.weight)) for p in parts]
        variances = [_or(p.running_var, torch.ones_like(p.weight)) for p in parts]
        return _Old(
            features,
            module.BN.eps,
            dims,
            _joined([p.weight for p in parts]),
            _joined([p.bias for p in parts]),
            module.BN.momentum,
            _joined(means),
            _joined(variances),
            module.BN.num_batches_tracked,
            module.sync,
            module.group,
            half=module.IN.num_features > 0,
        )
    if isinstance(module, BIN):
        return _Old(
            features,
            module.eps,
            dims,
            module.weight,
            module.bias,
            module.momentum,
            module.running_mean,
            module.running_var,
            module.num_batches_tracked,
            module.sync,
            group,
        )
    if isinstance(module, SN):
        old = _Old(
            features,
            module.eps,
            dims,
            _flat(module.weight),
            _flat(module.bias),
            1 - module.momentum,
            sync=module.sync,
            process_group=group,
        )
        if module.running_mean is not None and module.running_var is not None:
            if module.batches_added:
                old.notes = ("its buffers hold sums, which are dropped",)
            else:
                old.running_mean = module.running_mean.flatten()
                old.running_var = module.running_var.flatten()
        return old
    if isinstance(module, ILM):
        note = "what ILM predicts per sample is dropped: only its biases become weight and bias"
        weight, bias = _flat(module.weight_bias), _flat(module.bias_bias)
        return _Old(features, module.eps, dims, weight, bias, notes=(note,))
    raise _Impossible(f"{type(module).__name__} is a norm that convert_norm does not know")


def _read_by_name(module: nn.Module) -> _Old:
    """Classes that torchvision, timm and mmcv each have of their own."""
    name = type(module).__name__
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if re.match(r"LayerNorm\w*2d", name):  # (N, C, H, W), each position for itself
        shape: tuple[int, ...] = getattr(module, "normalized_shape", ())
        shape = shape if weight is None else tuple(weight.shape)
        if len(shape) == 1:
            eps = float(cast(float, getattr(module, "eps", 1e-6)))
            return _Old(shape[0], eps, 2, weight, bias, notes=(_PER_PIXEL,))
    if re.match("FrozenBatchNorm", name) and isinstance(module.running_mean, Tensor):
        return _Old(
            len(module.running_mean),
            float(cast(float, getattr(module, "eps", 1e-5))),
            2,
            weight,
            bias,
            running_mean=module.running_mean,
            running_var=cast(Tensor, module.running_var),
            notes=(
                "was frozen: its weight and bias still are, but in training mode the new layer "
                "uses and moves batch statistics; keep it in eval mode to prevent that",
            ),
        )
    if isinstance(module, nn.LayerNorm) or re.match("RMSNorm|RmsNorm", name):
        raise _Impossible(
            "it works on tokens (..., C) with the channel last, the others on maps (N, C, ...)"
        )
    raise _Impossible(f"{name} is a kind of norm that convert_norm does not know")


def _dims_of_batch_norm(module: _BatchNorm) -> tuple[int, ...]:
    for kind, dims in ((nn.BatchNorm1d, (0, 1)), (nn.BatchNorm2d, (2,)), (nn.BatchNorm3d, (3,))):
        if isinstance(module, kind):
            return dims
    return (2, 0, 1, 3)


def _choose(possible: tuple[int, ...], wanted: int | None) -> int:
    return wanted if wanted in possible else possible[0]


def _or(tensor: Tensor | None, default: Tensor) -> Tensor:
    return default.detach() if tensor is None else tensor


def _flat(parameter: Tensor) -> Tensor:
    return parameter.detach().flatten().requires_grad_(parameter.requires_grad)


def _joined(parts: list[Tensor]) -> Tensor:
    trained = any(part.requires_grad for part in parts if part.numel())
    return torch.cat([part.detach() for part in parts]).requires_grad_(trained)


# ------------------------------------------------------------------------- making the new layer


class _Activated(nn.Module):
    """A norm that ends in dropout and activation, as timm's do; its tensors keep their names."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        y: Tensor = self.act(self.drop(super().forward(x)))
        if residual is not None:
            y = y + residual
        return F.relu(y) if relu else y


_OURS: dict[str, type[nn.Module]] = {
    **{"bn": BN, "in": IN, "gn": GN, "ln": LN},
    **{"ibn": IBN, "bin": BIN, "sn": SN, "ilm": ILM},
}
# One class a norm, by name in this module, so that they can be pickled.
_ACTIVATED: dict[type[nn.Module], type[nn.Module]] = {
    kind: type(f"{kind.__name__}Act", (_Activated, kind), {"__module__": __name__})
    for kind in (*dict.fromkeys(_TORCH_NORMS.values()), *_OURS.values())
}
globals().update({kind.__name__: kind for kind in _ACTIVATED.values()})


def _is_already(module: nn.Module, name: str, old: _Old) -> bool:
    if old.sync != name.startswith("sync"):
        return False
    if name in ("bn", "syncbn"):
        return isinstance(module, _BatchNorm)
    kind = _TORCH_NORMS.get((name, old.dims), _OURS[name.removeprefix("sync")])
    return type(module) in (kind, _ACTIVATED[kind])


def _replacement(
    module: nn.Module, old: _Old, name: str, arguments: dict[str, Any], anchor: Tensor
) -> tuple[nn.Module, list[str]]:
    """The new layer with all that the old one knows, and what a user should know."""
    if old.dims == 0 and name not in ("bn", "syncbn", "sn", "syncsn"):
        raise _Impossible(
            "its input is taken to be (N, C), without positions to take an instance's statistics "
            "from; if it is (N, C, L), give spatial_dims=1"
        )
    arguments = {**_inherited(old, name), **arguments}
    if name.endswith(("bin", "sn")) and arguments.get("momentum", ...) is None:
        raise _Impossible(
            "its momentum is None (an average of all batches), for which "
            f"{_OURS[name.removeprefix('sync')].__name__} has no counter; give momentum=..."
        )
    like = next((t for t in (old.weight, old.running_mean) if t is not None), anchor)
    try:
        with torch.device(like.device):
            torch_norm = _TORCH_NORMS.get((name, old.dims))
            new = (
                torch_norm(old.num_features, **arguments)
                if torch_norm is not None
                else build_norm({"type": name, **arguments}, old.num_features)
            )
    except ValueError as error:
        raise _Impossible(str(error)) from error
    new.to(dtype=like.dtype)
    notes = list(old.notes)
    kind = type(module)
    if not kind.__module__.startswith(_WELL_KNOWN) and "forward" in vars(kind):
        notes.append(f"what the forward of {kind.__name__} does beyond its base is dropped")
    if isinstance(module, type(new)):  # the same norm with other arguments: BIN's gate stays
        _copy_what_fits(module, new)
    trained = old.weight is None or old.weight.requires_grad
    trained = trained or (old.bias is not None and old.bias.requires_grad)
    new.requires_grad_(trained)
    _write(new, old)
    if isinstance(new, _BatchNorm | IBN | BIN) or getattr(new, "using_bn", False):
        if old.running_mean is None:
            notes.append(_CALIBRATE.format(""))
        elif old.half:
            notes.append(_CALIBRATE.format(" where IN was"))
    new = _with_activation(new, module)
    if getattr(new, "process_group", ...) is None:
        new.process_group = old.process_group
    new.train(module.training)
    for hooks in _HOOKS:
        setattr(new, hooks, getattr(module, hooks))
    return new, notes


def _inherited(old: _Old, name: str) -> dict[str, Any]:
    """Arguments that the old layer decides where the user does not."""
    base = name.removeprefix("sync")
    arguments: dict[str, Any] = {"eps": old.eps}
    if base in ("bn", "bin", "in", "gn", "ln"):
        arguments["affine"] = old.weight is not None
    if base == "gn" and old.num_groups is not None:
        arguments["num_groups"] = old.num_groups
    if base == "sn":
        arguments["spatial_dims"] = old.dims
    if base in ("bn", "ibn", "bin", "sn") and old.momentum is not ...:
        arguments["momentum"] = old.momentum
    if base == "sn" and isinstance(old.momentum, float):
        arguments["momentum"] = 1 - old.momentum
    if name in ("ibn", "bin", "sn") and old.sync:
        arguments["sync"] = True
    return arguments


def _write(new: nn.Module, old: _Old) -> None:
    """Hand over weight, bias and running statistics; the very tensors where the shape is theirs."""
    if isinstance(new, IBN):
        in_features, bn_features = new.IN.num_features, new.BN.num_features
        sizes = [in_features, bn_features] if new.order == "in_bn" else [bn_features, in_features]
        parts = (new.IN, new.BN) if new.order == "in_bn" else (new.BN, new.IN)
        for name in ("weight", "bias"):
            _put_parts(parts, name, getattr(old, name), sizes)
        which = parts.index(new.BN)
        for name in ("running_mean", "running_var"):
            value = getattr(old, name)
            if value is not None:
                _put(new.BN, name, value.split(sizes)[which].clone())
        _put(new.BN, "num_batches_tracked", old.num_batches_tracked)
        return
    weight, bias = ("weight_bias", "bias_bias") if isinstance(new, ILM) else ("weight", "bias")
    _put(new, weight, old.weight)
    _put(new, bias, old.bias)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        _put(new, name, getattr(old, name))
    if isinstance(new, SN) and new.running_var is not None and old.running_var is None:
        nn.init.ones_(new.running_var)  # SN's own start is 0, as the authors'


def _put_parts(
    parts: tuple[nn.Module, nn.Module], name: str, value: Tensor | None, sizes: list[int]
) -> None:
    for i, part in enumerate(parts):
        if value is None:
            _put(part, name, None)
        else:
            share = value.detach().split(sizes)[i].clone()
            _put(part, name, share.requires_grad_(value.requires_grad))


def _put(module: nn.Module, name: str, value: Tensor | None) -> None:
    """Make ``value`` the parameter or buffer of that name, which keeps its shape."""
    own = getattr(module, name, None)
    if not isinstance(own, Tensor):
        return
    if value is None:
        if isinstance(own, nn.Parameter):  # there was none to train: the start stays
            own.requires_grad_(False)
        return
    if isinstance(own, nn.Parameter):
        if not (isinstance(value, nn.Parameter) and value.shape == own.shape):
            trained = value.requires_grad
            copy = value.detach().reshape(own.shape).clone()
            value = nn.Parameter(copy, requires_grad=trained)
        setattr(module, name, value)
    else:
        fits = value.shape == own.shape
        setattr(module, name, value if fits else value.detach().reshape(own.shape).clone())


@torch.no_grad()
def _copy_what_fits(module: nn.Module, new: nn.Module) -> None:
    own = dict(new.named_parameters())
    for name, value in module.named_parameters():
        if name in own and own[name].shape == value.shape:
            own[name].copy_(value)


def _with_activation(new: nn.Module, module: nn.Module) -> nn.Module:
    """Give the norm the dropout and activation that the old one ended in, if it did."""
    extras = {name: getattr(module, name, None) for name in ("drop", "act")}
    if any(isinstance(extra, nn.Module) for extra in extras.values()):
        kind: Any = _ACTIVATED[type(new)]
        new.__class__ = kind
        for name, extra in extras.items():
            setattr(new, name, extra if isinstance(extra, nn.Module) else nn.Identity())
    return new


def _describe(module: nn.Module) -> str:
    for name in ("num_features", "num_channels", "normalized_shape"):
        if (size := getattr(module, name, None)) is not None:
            return f"{type(module).__name__}({size})"
    return type(module).__name__
