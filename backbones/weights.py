"""Load checkpoints of many origins into our networks, completely or not at all.

Loading goes in three steps: find the state dict inside what was given, bring its keys into our
layout (:data:`RULES`, a list of small named rules), compare every key and shape with the model.
Only when all of it is known to fit is the first tensor copied. What happened is told by a
:class:`LoadReport`; nothing is skipped in silence.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .checkpoint import CheckpointError, read_checkpoint
from .download import OFFICIAL_WEIGHTS, DownloadError, OfficialWeights, official_weights
from .recognise import Shape, recognise

__all__ = [
    "OFFICIAL_WEIGHTS",
    "RULES",
    "CheckpointError",
    "DownloadError",
    "KeyRule",
    "LoadReport",
    "OfficialWeights",
    "WeightsMismatchError",
    "load_weights",
    "official_weights",
    "read_checkpoint",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadReport:
    """What :func:`load_weights` found. Keys are the model's, except where noted."""

    source: str
    """Where the weights came from."""
    layout: tuple[str, ...] = ()
    """The containers and naming rules that were recognised, in order; empty: our own names."""
    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    """In the model but not in the checkpoint."""
    unexpected: tuple[str, ...] = ()
    """In the checkpoint (named as the rules left them) but not in the model."""
    mismatched: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)
    """Key -> (shape in the model, shape in the checkpoint)."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Key in the checkpoint -> key in the model."""
    dropped: tuple[str, ...] = ()
    """Keys of the checkpoint that a rule left aside: other parts of a larger model."""
    tolerated: dict[str, str] = field(default_factory=dict)
    """Missing or unexpected key -> why it is no error."""
    diagnosis: tuple[str, ...] = ()
    """What probably went wrong, and what to do."""

    @property
    def ok(self) -> bool:
        """Whether everything fits, but for what is tolerated."""
        return not (self.mismatched or self._open(self.missing) or self._open(self.unexpected))

    def _open(self, keys: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(key for key in keys if key not in self.tolerated)

    def summary(self, limit: int | None = 6) -> str:
        """Readable text; at most ``limit`` keys of each group, or all of them for None."""
        total = len(self.loaded) + len(self.missing) + len(self.mismatched)
        lines = [f"{self.source}: {len(self.loaded)} of the model's {total} tensors match"]
        lines += [f"  {text}" for text in self.diagnosis]
        if self.layout:
            lines.append(f"  layout: {', '.join(self.layout)}")
        shapes = [f"{k} (model {m}, checkpoint {c})" for k, (m, c) in self.mismatched.items()]
        lines += _listed("of another shape", shapes, limit)
        lines += _listed("missing in the checkpoint", self._open(self.missing), limit)
        lines += _listed("not in the model", self._open(self.unexpected), limit)
        for reason in dict.fromkeys(self.tolerated.values()):
            keys = [key for key, why in self.tolerated.items() if why == reason]
            lines += _listed(f"tolerated, {reason}", keys, limit)
        lines += _listed("left aside, other parts of a larger model", self.dropped, limit)
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()


def _listed(title: str, keys: Collection[str], limit: int | None) -> list[str]:
    if not keys:
        return []
    shown = list(keys)[:limit]
    more = f", and {len(keys) - len(shown)} more" if len(keys) > len(shown) else ""
    return [f"  {len(keys)} {title}: {', '.join(shown)}{more}"]


class WeightsMismatchError(CheckpointError):
    """The weights do not fit the model, which is unchanged; ``.report`` says why."""

    def __init__(self, report: LoadReport) -> None:
        super().__init__(f"the weights do not fit the model, nothing was loaded.\n{report}")
        self.report = report


def load_weights(
    model: nn.Module,
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    strict: bool = True,
) -> LoadReport:
    """Copy weights into ``model``, in place.

    Two differences are tolerated (and reported) even when strict: a checkpoint without the batch
    counters that old torch versions did not have, and the classifier of a checkpoint when the
    model has none.

    Args:
        model: any network; its device and dtype stay as they are.
        source: a checkpoint file (see :func:`read_checkpoint`), a state dict, or a dict that
            holds one.
        strict: refuse everything else that does not fit. False loads what fits and logs the
            complete report as a warning.

    Returns:
        The report; ``print(report)`` is meant for people.

    Raises:
        FileNotFoundError, CheckpointError: the source cannot be read, or holds no state dict.
        WeightsMismatchError: the weights do not fit; the model is then exactly as before.
    """
    if isinstance(source, nn.Module):
        raise TypeError("source is a network; pass its state_dict(), or the path of a checkpoint")
    if isinstance(source, Mapping):
        name, checkpoint = "the given state dict", source
    else:
        name, checkpoint = str(source), _read(source)
    containers, state = _find_state_dict(checkpoint, name)
    model = _unwrapped(model)
    targets = {key: value for key, value in model.state_dict().items() if torch.is_tensor(value)}
    if any(value.is_meta for value in targets.values()):
        raise ValueError(
            "the model is on the meta device and holds no memory to load into; call "
            "model.to_empty(device=...) first"
        )
    layout, keys, dropped = _translate(list(state), set(targets))
    state = {new: state[old] for old, new in keys.items()}
    for key, value in state.items():
        _check_kind(key, value, targets.get(key), name)
    report = _compare(
        {key: tuple(value.shape) for key, value in targets.items()},
        {key: tuple(value.shape) for key, value in state.items()},
        LoadReport(
            source=name,
            layout=(*(f"inside {key!r}" for key in containers), *layout),
            renamed={old: new for old, new in keys.items() if old != new},
            dropped=dropped,
        ),
    )
    if not report.loaded or (strict and not report.ok):
        raise WeightsMismatchError(report)
    _copy({key: (targets[key], state[key]) for key in report.loaded})
    if report.ok:
        logger.info("%s", report)
    else:
        logger.warning("loaded only what fits.\n%s", report.summary(limit=None))
    return report


def _read(source: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        return read_checkpoint(source)
    except FileNotFoundError as error:
        name = os.fspath(source)
        if name in OFFICIAL_WEIGHTS:
            hint = f" official_weights({name!r}) downloads the published weights of that name."
        elif "://" in name:
            hint = " An address is not downloaded here: fetch the file first."
        else:
            raise
        raise FileNotFoundError(f"{error}{hint}") from None


def _unwrapped(model: nn.Module) -> nn.Module:
    """The network inside DataParallel, DistributedDataParallel or torch.compile."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def _copy(pairs: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Convert everything first, so that the copying itself has no reason to fail half-way."""
    with torch.no_grad():
        ready = [
            (target, value.to(target.device, target.dtype)) for target, value in pairs.values()
        ]
        for target, value in ready:
            target.copy_(value)


# ------------------------------------------------------------------ the state dict in a checkpoint

# 'ict' is the end of 'state_dict': early IBN-Net files cut "module." off this key too.
_CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network", "ict", "params")


def _find_state_dict(
    checkpoint: Mapping[str, Any], source: str
) -> tuple[list[str], dict[str, Tensor]]:
    """(names of the containers passed through, tensors by key)."""
    path: list[str] = []
    while True:
        inner = {
            str(key): value
            for key, value in checkpoint.items()
            if isinstance(value, Mapping) and _holds_tensors(value)
        }
        tensors = {str(k): t for k, v in checkpoint.items() if (t := _as_tensor(v)) is not None}
        known = next((key for key in _CONTAINERS if key in inner), None)
        if known is None and not tensors and len(inner) == 1:
            known = next(iter(inner))
        if known is None:
            break
        path.append(known)
        checkpoint = inner[known]
    if tensors:
        return path, tensors
    if inner:
        raise CheckpointError(
            f"{source} holds several groups of tensors ({', '.join(map(repr, inner))}); choose "
            "one: load_weights(model, read_checkpoint(path)[key])."
        )
    shown = ", ".join(repr(key) for key in list(checkpoint)[:8]) or "none"
    raise CheckpointError(
        f"{source} holds no tensors where a state dict was expected; its keys: {shown}. "
        "Save model.state_dict()."
    )


def _holds_tensors(value: Mapping[Any, Any], depth: int = 3) -> bool:
    return any(
        _as_tensor(item) is not None
        or (depth > 0 and isinstance(item, Mapping) and _holds_tensors(item, depth - 1))
        for item in value.values()
    )


def _as_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        native = value.astype(value.dtype.newbyteorder("="), copy=True)
        return torch.from_numpy(native.view(np.ndarray))
    return None


def _check_kind(key: str, value: Tensor, target: Tensor | None, source: str) -> None:
    """Refuse tensors whose numbers would mean something else after the copy."""
    plain = value.layout == torch.strided and not (value.is_quantized or value.is_complex())
    quantised = target is not None and target.is_floating_point() > value.is_floating_point()
    if not plain or quantised:
        raise CheckpointError(
            f"{source}: {key!r} is {value.dtype} ({value.layout}); expected ordinary dense float "
            "tensors. If the checkpoint is quantised or sparse, take the original one."
        )


# ------------------------------------------------------------------------------------ key layouts


@dataclass(frozen=True)
class KeyRule:
    """How the keys of one kind of checkpoint become ours."""

    name: str
    applies: Callable[[Collection[str], Collection[str]], bool]
    """(keys of the checkpoint so far, keys of the model) -> whether to use this rule."""
    rename: Callable[[str], str | None]
    """Key -> our key, or None to leave the key aside."""


def _wrapper(component: str, origin: str) -> KeyRule:
    """A part of the dotted name that a wrapper put in, wherever it stands."""
    pattern = re.compile(rf"(^|\.){component}\.")

    def applies(keys: Collection[str], model_keys: Collection[str]) -> bool:
        return any(map(pattern.search, keys)) and not any(map(pattern.search, model_keys))

    def rename(key: str) -> str:
        while pattern.search(key):
            key = pattern.sub(r"\1", key)
        return key

    return KeyRule(f"'{component}.' removed ({origin})", applies, rename)


def _subtree(prefix: str, origin: str) -> KeyRule:
    """The network is one part of the saved model; the other parts are left aside."""

    def applies(keys: Collection[str], model_keys: Collection[str]) -> bool:
        if any(key.startswith(prefix) for key in model_keys):
            return False
        tops = {key.partition(".")[0] for key in model_keys}
        # Anywhere below the prefix, because another one may follow ("model.backbone.conv1").
        inner = (key.removeprefix(prefix).split(".") for key in keys if key.startswith(prefix))
        return any(not tops.isdisjoint(parts) for parts in inner)

    def rename(key: str) -> str | None:
        return key.removeprefix(prefix) if key.startswith(prefix) else None

    return KeyRule(f"only '{prefix}' taken ({origin})", applies, rename)


def _pattern(name: str, pattern: str, replacement: str) -> KeyRule:
    """Keys that match ``pattern`` are rewritten, if the model has no such keys itself."""
    compiled = re.compile(pattern)

    def applies(keys: Collection[str], model_keys: Collection[str]) -> bool:
        return any(map(compiled.search, keys)) and not any(map(compiled.search, model_keys))

    return KeyRule(name, applies, lambda key: compiled.sub(replacement, key))


RULES: list[KeyRule] = [
    _wrapper("module", "DataParallel"),
    _wrapper("_orig_mod", "torch.compile"),
    _subtree("model.", "a wrapping trainer"),
    _subtree("backbone.", "the backbone of a larger model"),
    _subtree("base.", "the backbone of a re-ID baseline"),
    _subtree("encoder_q.", "the query encoder of MoCo"),
    _pattern(
        "DenseNet 'norm.1' -> 'norm1'",
        r"(denselayer\d+\.(?:norm|relu|conv))\.(\d+)\.",
        r"\1\2.",
    ),
]
"""Tried in this order, each at most once. A further layout is one more entry."""


def _translate(
    keys: Collection[str], model_keys: Collection[str]
) -> tuple[tuple[str, ...], dict[str, str], tuple[str, ...]]:
    """(rules used, checkpoint key -> our key, checkpoint keys left aside)."""
    current = {key: key for key in keys}
    used: list[str] = []
    for rule in RULES:
        if rule.applies(set(current.values()), model_keys):
            renamed = {old: rule.rename(new) for old, new in current.items()}
            current = {old: new for old, new in renamed.items() if new is not None}
            used.append(rule.name)
    twice = [new for new, count in Counter(current.values()).items() if count > 1]
    if twice:
        both = [old for old, new in current.items() if new == twice[0]]
        raise CheckpointError(
            f"the checkpoint holds {twice[0]!r} more than once ({', '.join(both)}); "
            "pass only the part that is meant."
        )
    return tuple(used), current, tuple(key for key in keys if key not in current)


# ------------------------------------------------------------------------------------- comparison

_CLASSIFIERS = ("fc.", "classifier.", "head.", "linear.", "last_linear.")


def _compare(
    model: Mapping[str, Shape], checkpoint: Mapping[str, Shape], report: LoadReport
) -> LoadReport:
    loaded = tuple(key for key, shape in model.items() if checkpoint.get(key) == shape)
    missing = tuple(key for key in model if key not in checkpoint)
    unexpected = tuple(key for key in checkpoint if key not in model)
    mismatched = {
        key: (shape, checkpoint[key])
        for key, shape in model.items()
        if key in checkpoint and checkpoint[key] != shape
    }

    tolerated: dict[str, str] = {}
    for key in missing:
        norm, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked" and f"{norm}.running_mean" in loaded:
            tolerated[key] = "the checkpoint is older than batch counters"
    if not any(key.startswith(_CLASSIFIERS) for key in model):
        for key in unexpected:
            if key.startswith(_CLASSIFIERS):
                tolerated[key] = "the model has no classifier"

    found = LoadReport(
        source=report.source,
        layout=report.layout,
        loaded=loaded,
        missing=missing,
        unexpected=unexpected,
        mismatched=mismatched,
        renamed=report.renamed,
        dropped=report.dropped,
        tolerated=tolerated,
    )
    if found.ok:
        return found
    return LoadReport(**{**vars(found), "diagnosis": _diagnose(model, checkpoint, found)})


def _diagnose(
    model: Mapping[str, Shape], checkpoint: Mapping[str, Shape], report: LoadReport
) -> tuple[str, ...]:
    """Sentences on what is probably wrong; empty if nothing is recognised."""
    ours, theirs = recognise(model), recognise(checkpoint)
    if ours and theirs and ours != theirs:
        text = f"this looks like {theirs}; the model is {ours}."
        if ours.norm != theirs.norm:
            text += f" Use weights that were trained with the model's normalisation, {ours.norm}"
            known = ours.zoo_name in OFFICIAL_WEIGHTS
            text += f": official_weights({ours.zoo_name!r})." if known else "."
        return (text,)

    differing = set(report.missing) | set(report.unexpected) | set(report.mismatched)
    differing -= set(report.tolerated)
    if all(key.startswith(_CLASSIFIERS) for key in differing):
        if report.mismatched:
            key, (mine, given) = next(iter(report.mismatched.items()))
            return (
                f"another number of classes: the checkpoint has {given[0]}, the model {mine[0]} "
                f"({key}). Create the model with num_classes={given[0]}, or with num_classes=0 "
                "for features; strict=False keeps the model's own classifier.",
            )
        if report.missing and not report.unexpected:
            return (
                "the checkpoint has no classifier. Create the model with num_classes=0 for "
                "features; strict=False keeps the model's own classifier.",
            )
        return ("the two classifiers have different names.",)

    inside = _prefix_that_fits(checkpoint, model)
    if inside:
        return (f"the keys are those of a part of the model: load into model.{inside}.",)
    outside = _prefix_that_fits(model, checkpoint)
    if outside:
        return (f"the model's keys stand under {outside!r} in the checkpoint: pass that part.",)
    return ()


def _prefix_that_fits(part: Collection[str], whole: Collection[str]) -> str:
    """'x.y' if most keys of ``part`` are keys of ``whole`` below 'x.y.', else ''."""
    first = next(iter(part), None)
    if first is None:
        return ""
    for key in whole:
        if key.endswith(f".{first}"):
            prefix = key.removesuffix(first)
            if sum(f"{prefix}{name}" in whole for name in part) > len(part) / 2:
                return prefix.rstrip(".")
    return ""
