"""Load checkpoints of many origins into our networks, completely or not at all.

Loading goes in three steps: find the state dict inside what was given, bring its keys into our
layout (:data:`~backbones.layouts.RULES`, a list of small named rules), compare every key and shape
with the model. Only when all of it is known to fit is the first tensor copied. What happened is
told by a :class:`LoadReport`; nothing is skipped in silence.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoint import CheckpointError, find_state_dict, read_checkpoint
from .download import OFFICIAL_WEIGHTS, DownloadError, OfficialWeights, official_weights
from .layouts import RULES, KeyRule, translate
from .norm import SN
from .recognise import PLAIN, SN_WITHOUT_BN, Architecture, Shape, recognise
from .recognise import SN as SN_WITH_BN

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
    """What :func:`load_weights` or :func:`init_from_plain` found and did.

    Keys are the model's, except where noted.
    """

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
    dropped: dict[str, str] = field(default_factory=dict)
    """Key of the checkpoint that was left aside on purpose -> why."""
    tolerated: dict[str, str] = field(default_factory=dict)
    """Missing or unexpected key -> why it is no error."""
    diagnosis: tuple[str, ...] = ()
    """What probably went wrong, and what to do."""
    mapped: dict[str, str] = field(default_factory=dict)
    """Only of :func:`init_from_plain`: key -> what of the plain weights went there, where that is
    not simply the tensor of the same name."""
    notes: tuple[str, ...] = ()
    """Only of :func:`init_from_plain`: what was done with each kind of norm."""

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
        lines += [f"  {text}" for text in self.notes]
        if self.layout:
            lines.append(f"  layout: {', '.join(self.layout)}")
        shapes = [f"{k} (model {m}, checkpoint {c})" for k, (m, c) in self.mismatched.items()]
        lines += _listed("of another shape", shapes, limit)
        lines += _listed("missing in the checkpoint", self._open(self.missing), limit)
        lines += _listed("not in the model", self._open(self.unexpected), limit)
        for reason in dict.fromkeys(self.tolerated.values()):
            keys = [key for key, why in self.tolerated.items() if why == reason]
            lines += _listed(f"tolerated, {reason}", keys, limit)
        for reason in dict.fromkeys(self.dropped.values()):
            keys = [key for key, why in self.dropped.items() if why == reason]
            lines += _listed(f"left aside, {reason}", keys, limit)
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

    Three differences are tolerated (and reported) even when strict: a checkpoint without the batch
    counters that old torch versions did not have, the classifier of a checkpoint when the model
    has none, and non-local blocks of the model of which the checkpoint has none at all (they stay
    as they are, new ones the identity).

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
    name, containers, given, notes = open_source(source)
    model = unwrapped(model)
    targets = tensors_of(model)
    ours = translate(given, set(targets))
    for key, value in ours.state.items():
        check_kind(key, value, targets.get(key), name)
    report = LoadReport(
        source=name,
        layout=(*containers, *ours.rules),
        renamed=ours.renamed,
        dropped=ours.dropped,
        tolerated=_names_of_the_same(targets, ours.state, name),
    )
    report = _compare(_shapes(targets), _shapes(ours.state), report)
    sums = {
        key: notes.get(origin[: -len("running_mean")].rstrip("."), {}).get("batches_added", 0)
        for key, origin in ours.origin.items()
        if key.endswith("running_mean")
    }
    return finish(model, targets, ours.state, report, strict=strict, sums=sums)


def open_source(
    source: str | os.PathLike[str] | Mapping[str, Any],
) -> tuple[str, tuple[str, ...], dict[str, Tensor], Mapping[str, Any]]:
    """(what to call the source, the containers passed through, its tensors by key, notes).

    The notes are torch's on each layer, by the layer's name, where the source has them.
    """
    if isinstance(source, nn.Module):
        raise TypeError("source is a network; pass its state_dict(), or the path of a checkpoint")
    if isinstance(source, Mapping):
        name, checkpoint = "the given state dict", source
    else:
        name, checkpoint = str(source), _read(source)
    containers, state = find_state_dict(checkpoint, name)
    for key in containers:
        checkpoint = checkpoint.get(key, {})
    notes = getattr(checkpoint, "_metadata", {})
    return name, tuple(f"inside {key!r}" for key in containers), state, notes


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a model's state, which share its memory."""
    targets = {key: value for key, value in model.state_dict().items() if torch.is_tensor(value)}
    if any(value.is_meta for value in targets.values()):
        raise ValueError(
            "the model is on the meta device and holds no memory to load into; call "
            "model.to_empty(device=...) first"
        )
    return targets


def finish(
    model: nn.Module,
    targets: Mapping[str, Tensor],
    values: Mapping[str, Tensor],
    report: LoadReport,
    *,
    strict: bool,
    sums: Mapping[str, int] | None = None,
) -> LoadReport:
    """Refuse, or copy ``values`` for all keys in ``report.loaded``; the report is logged.

    ``sums``: keys of running means of SN that are sums -> of so many batches.
    """
    if not report.loaded or (strict and not report.ok):
        raise WeightsMismatchError(report)
    _copy({key: (targets[key], values[key]) for key in report.loaded})
    loaded = set(report.loaded)
    for name, module in model.named_modules():
        key = f"{name}.running_mean".lstrip(".")
        if isinstance(module, SN) and key in loaded:
            module.batches_added = (sums or {}).get(key, 0)  # else statistics
    if report.ok:
        logger.info("%s", report)
    else:
        logger.warning("loaded only what fits.\n%s", report.summary(limit=None))
    return report


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {key: tuple(value.shape) for key, value in tensors.items()}


def _names_of_the_same(
    targets: Mapping[str, Tensor], state: Mapping[str, Tensor], source: str
) -> dict[str, str]:
    """Keys that may be missing, since the same memory is loaded under another name.

    ILM's encoder has three names; files written without sharing keep only one of them.
    """
    groups: dict[tuple[Any, ...], list[str]] = {}
    for key, value in targets.items():
        if value.numel():
            memory = (value.device, value.data_ptr(), value.shape, value.stride())
            groups.setdefault(memory, []).append(key)
    tolerated: dict[str, str] = {}
    for keys in groups.values():
        present = [key for key in keys if key in state]
        if len(keys) == 1 or not present:
            continue
        first = state[present[0]]
        for key in present[1:]:
            if state[key].shape == first.shape and not torch.equal(state[key], first):
                raise CheckpointError(
                    f"{source}: {present[0]!r} and {key!r} are one tensor in the model, but differ "
                    "in the checkpoint. It was written by something else, or edited: make them "
                    "equal."
                )
        missing = [key for key in keys if key not in state]
        tolerated |= dict.fromkeys(missing, "another name of a tensor that is there")
    return tolerated


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


def unwrapped(model: nn.Module) -> nn.Module:
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


def check_kind(key: str, value: Tensor, target: Tensor | None, source: str) -> None:
    """Refuse tensors whose numbers would mean something else after the copy."""
    plain = value.layout == torch.strided and not (value.is_quantized or value.is_complex())
    quantised = target is not None and target.is_floating_point() > value.is_floating_point()
    if not plain or quantised:
        raise CheckpointError(
            f"{source}: {key!r} is {value.dtype} ({value.layout}); expected ordinary dense float "
            "tensors. If the checkpoint is quantised or sparse, take the original one."
        )


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

    tolerated = dict(report.tolerated)
    for key in missing:
        norm, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked" and f"{norm}.running_mean" in loaded:
            tolerated[key] = "the checkpoint is older than batch counters"
    tolerated |= superfluous_classifier(model, unexpected)
    if not any(key.startswith("NL_") for key in checkpoint):
        added = (key for key in missing if key.startswith("NL_"))
        tolerated |= dict.fromkeys(added, "non-local blocks stay as they are")
    found = replace(
        report,
        loaded=loaded,
        missing=missing,
        unexpected=unexpected,
        mismatched=mismatched,
        tolerated=tolerated,
    )
    return found if found.ok else replace(found, diagnosis=_diagnose(model, checkpoint, found))


def superfluous_classifier(model: Collection[str], unexpected: Collection[str]) -> dict[str, str]:
    """Keys of a classifier that a model without one has no use for, and why that is no error."""
    if any(key.startswith(_CLASSIFIERS) for key in model):
        return {}
    found = (key for key in unexpected if key.startswith(_CLASSIFIERS))
    return dict.fromkeys(found, "the model has no classifier")


def _diagnose(
    model: Mapping[str, Shape], checkpoint: Mapping[str, Shape], report: LoadReport
) -> tuple[str, ...]:
    """Sentences on what is probably wrong; empty if nothing is recognised."""
    if any(key.startswith("NL_") for key in report.unexpected):
        return (_non_local_remedy(checkpoint),)
    ours, theirs = recognise(model), recognise(checkpoint)
    if ours and theirs and ours != theirs:
        return (f"this looks like {theirs}; the model is {ours}.{_remedy(ours, theirs)}",)
    if classifier := classifier_diagnosis(report):
        return (classifier,)
    inside = _prefix_that_fits(checkpoint, model)
    if inside:
        return (f"the keys are those of a part of the model: load into model.{inside}.",)
    outside = _prefix_that_fits(model, checkpoint)
    if outside:
        return (f"the model's keys stand under {outside!r} in the checkpoint: pass that part.",)
    return ()


def _non_local_remedy(checkpoint: Mapping[str, Shape]) -> str:
    """How to build the network whose non-local blocks the checkpoint has."""
    shapes = {key: shape for key, shape in checkpoint.items() if key.startswith("NL_")}
    blocks = {key.split(".g.")[0]: s for key, s in shapes.items() if key.endswith(".g.weight")}
    counts = tuple(sum(b.startswith(f"NL_{stage}.") for b in blocks) for stage in range(1, 5))
    widths = {shape[0] for shape in blocks.values()}
    inner = widths.pop() if len(widths) == 1 else None  # None: half of the map's channels
    return (
        "the checkpoint's network has non-local blocks (NL_...) that the model has not; create the "
        f"model with non_local={counts}, non_local_channels={inner}."
    )


def _remedy(ours: Architecture, theirs: Architecture) -> str:
    """What to do about weights of another network, with a space before it; may be empty."""
    text = ""
    if theirs.stem == "deep" != ours.stem:
        text += (
            " Its stem is that of ResNet-C or -D (mmseg's ResNetV1c and V1d): there is no "
            "mapping between the two stems. Take the weights of a ResNet with one 7x7 convolution."
        )
    called = {"34": "50", "152 of basic blocks": "152"}.get(theirs.depth)
    if theirs.stem == ours.stem == "3x3" and called == ours.depth:
        text += (
            f" ILM-Norm's CIFAR ResNet-{ours.depth} is made of basic blocks; create that network "
            "with block='basic'."
        )
    if ours.norm == theirs.norm:
        return text
    if {SN_WITH_BN, SN_WITHOUT_BN} == {ours.norm, theirs.norm}:
        given = theirs.norm == SN_WITH_BN
        text += (
            f" Its switchable norms choose among {'IN, LN and BN' if given else 'IN and LN'}. "
            f"Create the model with norm=dict(type='SN', using_bn={given})."
        )
        return text
    text += f" Use weights that were trained with the model's normalisation, {ours.norm}"
    text += f": official_weights({ours.zoo_name!r})" if ours.zoo_name in OFFICIAL_WEIGHTS else ""
    if theirs.norm == PLAIN and replace(theirs, norm=ours.norm) == ours:
        return f"{text}; or start a training from these with init_from_plain(model, source)."
    return f"{text}."


def classifier_diagnosis(report: LoadReport) -> str:
    """What is wrong if nothing but the classifiers differ; else empty."""
    differing = set(report.missing) | set(report.unexpected) | set(report.mismatched)
    differing -= set(report.tolerated)
    if not all(key.startswith(_CLASSIFIERS) for key in differing):
        return ""
    if report.mismatched:
        key, (mine, given) = next(iter(report.mismatched.items()))
        return (
            f"another number of classes: the checkpoint has {given[0]}, the model {mine[0]} "
            f"({key}). Create the model with num_classes={given[0]}, or with num_classes=0 "
            "for features; strict=False keeps the model's own classifier."
        )
    if report.missing and not report.unexpected:
        return (
            "the checkpoint has no classifier. Create the model with num_classes=0 for "
            "features; strict=False keeps the model's own classifier."
        )
    return "the two classifiers have different names."


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
