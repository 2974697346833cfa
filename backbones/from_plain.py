"""Start a network with IBN, BIN, SN, ILM, IN, LN or GN from the weights of its plain counterpart.

Convolutions and the classifier go where they were. What becomes of a batch norm's weight, bias and
running statistics is decided norm by norm (:func:`_pieces`), and the report tells all of it: what
was split or reshaped, what has no counterpart and stays as the model was made, and what of the
plain weights has no use.

Only BIN with its gate at 1, and of course BN, then compute what the plain network computes; with
every other norm this is a start for training, not a network to be used.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .checkpoint import CheckpointError
from .layouts import translate
from .norm import BIN, IBN, ILM, SN
from .recognise import PLAIN, Shape, recognise
from .weights import (
    LoadReport,
    check_kind,
    classifier_diagnosis,
    finish,
    open_source,
    superfluous_classifier,
    tensors_of,
    unwrapped,
)

__all__ = ["init_from_plain"]


def init_from_plain(
    model: nn.Module,
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    strict: bool = True,
) -> LoadReport:
    """Fill ``model`` with the weights of a network that has batch norm in place of its norms.

    Args:
        model: a network with any norms of ours, synchronised or not, freshly made: what plain
            weights do not determine (gates, SN's control weights, ILM's auto-encoder, the extra
            instance norms of IBN-b) is left as it is.
        source: weights of the same network with batch norm, in any layout that
            :func:`load_weights` knows: a file, a state dict, or a dict that holds one.
        strict: refuse everything that does not fit. False initialises what fits (a classifier of
            another size keeps its random start) and logs the complete report as a warning.

    Returns:
        The report: ``.notes`` for each kind of norm, ``.mapped`` for each tensor that was split,
        shifted or reshaped, ``.tolerated`` for what stays as it was, ``.dropped`` for what of the
        source has no use.

    Raises:
        FileNotFoundError, CheckpointError: the source cannot be read, or is not of a network with
            batch norm.
        WeightsMismatchError: it does not fit; the model is then exactly as before.
    """
    name, containers, given, _ = open_source(source)
    model = unwrapped(model)
    targets = tensors_of(model)
    plan = _plan(model, targets)
    plain = translate(given, {piece.source for piece in plan.pieces.values()})
    _check_plain({key: tuple(value.shape) for key, value in plain.state.items()}, name)

    for key, value in plain.state.items():
        check_kind(key, value, targets.get(key), name)

    values: dict[str, Tensor] = {}
    missing: list[str] = []
    mismatched: dict[str, tuple[Shape, Shape]] = {}
    mapped: dict[str, str] = {}
    for key, piece in plan.pieces.items():
        if piece.source not in plain.state:
            missing.append(key)
            continue
        value = plain.state[piece.source]
        if tuple(value.shape) != piece.shape:
            mismatched[key] = piece.shape, tuple(value.shape)
        else:
            values[key] = piece.take(value).reshape(targets[key].shape)
            if piece.text:
                mapped[key] = piece.text.format(piece.source)
    used = {piece.source for piece in plan.pieces.values()} | plan.unused.keys()
    unexpected = tuple(key for key in plain.state if key not in used)
    tolerated = dict(plan.kept)
    for key in missing:
        norm, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked" and f"{norm}.running_mean" in values:
            tolerated[key] = "the checkpoint is older than batch counters"
    tolerated |= superfluous_classifier(targets, unexpected)
    report = LoadReport(
        source=name,
        layout=(*containers, *plain.rules),
        loaded=tuple(values),
        missing=(*missing, *plan.kept),
        unexpected=unexpected,
        mismatched=mismatched,
        renamed=plain.renamed,
        dropped=plain.dropped
        | {plain.origin[key]: why for key, why in plan.unused.items() if key in plain.state},
        tolerated=tolerated,
        mapped=mapped,
        notes=plan.notes(),
    )
    if not report.ok:
        shapes = {key: tuple(value.shape) for key, value in plain.state.items()}
        report = replace(report, diagnosis=_diagnose(targets, shapes, report))
    return finish(model, targets, values, report, strict=strict)


def _check_plain(shapes: Mapping[str, Shape], source: str) -> None:
    found = recognise(shapes)
    if found is not None and found.norm != PLAIN:
        raise CheckpointError(
            f"{source} is {found}; expected a network with batch norm. Weights that were trained "
            "with the model's own norms are loaded with load_weights(model, source)."
        )


def _diagnose(
    targets: Mapping[str, Tensor], plain: Mapping[str, Shape], report: LoadReport
) -> tuple[str, ...]:
    ours, theirs = recognise({key: tuple(v.shape) for key, v in targets.items()}), recognise(plain)
    if ours and theirs and replace(theirs, norm=ours.norm) != ours:
        wanted = replace(ours, norm=PLAIN)
        return (f"this looks like {theirs}; the model is {ours}, which starts from {wanted}.",)
    text = classifier_diagnosis(report)
    return (text,) if text else ()


# ------------------------------------------------------------------- what goes where, norm by norm


def _as_it_is(value: Tensor) -> Tensor:
    return value


@dataclass(frozen=True)
class _Piece:
    """What one tensor of the model takes from the plain weights."""

    source: str
    shape: Shape
    """That the source must have."""
    take: Callable[[Tensor], Tensor] = _as_it_is
    text: str = ""
    """What is taken, with {} for the source's key; empty: the tensor of the same name."""


@dataclass
class _Plan:
    pieces: dict[str, _Piece] = field(default_factory=dict)
    """By key of the model."""
    kept: dict[str, str] = field(default_factory=dict)
    """Key of the model that plain weights say nothing about -> why it stays as it is."""
    unused: dict[str, str] = field(default_factory=dict)
    """Key of the plain weights that the model has no use for -> why."""
    counts: Counter[str] = field(default_factory=Counter)
    """What was done -> to how many layers."""

    def notes(self) -> tuple[str, ...]:
        return tuple(f"{count} {text}" for text, count in self.counts.items())


def _plan(model: nn.Module, targets: Mapping[str, Tensor]) -> _Plan:
    plan = _Plan()
    inside: str | None = None  # the norm whose children are being passed
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        if inside is not None and name.startswith(inside):
            continue
        if _pieces(plan, module, prefix):
            inside = prefix
    done = plan.pieces.keys() | plan.kept.keys()
    for key, value in targets.items():
        if key not in done:
            plan.pieces[key] = _Piece(key, tuple(value.shape))
    order = {key: index for index, key in enumerate(targets)}
    plan.pieces = dict(sorted(plan.pieces.items(), key=lambda item: order[item[0]]))
    return plan


_STATISTICS = ("running_mean", "running_var")


def _pieces(plan: _Plan, norm: nn.Module, prefix: str) -> bool:
    """Add what ``norm``, found at ``prefix``, takes from a batch norm there; False if no norm."""
    if isinstance(norm, IBN):
        _split(plan, norm, prefix)
    elif isinstance(norm, BIN):
        _take(plan, norm, prefix, ("weight", "bias", *_STATISTICS))
        plan.kept[f"{prefix}gate"] = "BIN's gate; at 1, where it starts, BIN is BN"
        plan.kept[f"{prefix}num_batches_tracked"] = "BIN counts no batches"
        plan.unused[f"{prefix}num_batches_tracked"] = "BIN counts no batches"
        plan.counts["BIN: weight, bias and running statistics taken; the gate stays"] += 1
    elif isinstance(norm, SN):
        _take(plan, norm, prefix, ("weight", "bias", *(_STATISTICS if norm.using_bn else ())))
        for leaf in ("mean_weight", "var_weight"):
            plan.kept[f"{prefix}{leaf}"] = "SN's control weights: equal shares at their start"
        _no_use(plan, prefix, "SN counts no batches", "num_batches_tracked")
        if norm.using_bn:
            text = (
                "SN: weight, bias and running statistics reshaped; the running variance is an "
                "approximation (SN's batch variance is close to BN's, not equal); the control "
                "weights stay"
            )
        else:
            text = "SN without BN: weight and bias reshaped; no place for running statistics"
            _no_use(plan, prefix, "SN without BN has no batch statistics", *_STATISTICS)
        plan.counts[text] += 1
    elif isinstance(norm, ILM):
        shape = (norm.num_features,)
        plan.pieces[f"{prefix}weight_bias"] = _Piece(
            f"{prefix}weight", shape, lambda value: value - 0.5, "{} - 0.5"
        )
        plan.pieces[f"{prefix}bias_bias"] = _Piece(f"{prefix}bias", shape, text="{}")
        for key in norm.state_dict():
            if key.startswith("fc_"):
                plan.kept[f"{prefix}{key}"] = "ILM's auto-encoder, random at its start"
        _no_use(plan, prefix, _STATELESS, *_STATISTICS, "num_batches_tracked")
        plan.counts[
            "ILM: weight - 0.5 to weight_bias and bias to bias_bias, since a fresh auto-encoder "
            "adds 0.5 and 0 on average; the auto-encoder stays"
        ] += 1
    elif isinstance(norm, (nn.InstanceNorm2d, nn.GroupNorm)):
        if prefix.endswith(".IN."):  # after the addition, where a plain block has no norm
            for leaf in norm.state_dict():
                plan.kept[f"{prefix}{leaf}"] = "IBN-b's instance norm after the addition"
            plan.counts["instance norms after the addition (IBN-b) stay as they start"] += 1
            return True
        _take(plan, norm, prefix, ("weight", "bias"))
        _no_use(plan, prefix, _STATELESS, *_STATISTICS, "num_batches_tracked")
        kind = "IN" if isinstance(norm, nn.InstanceNorm2d) else "GN or LN"
        plan.counts[f"{kind}: weight and bias taken; no place for running statistics"] += 1
    elif isinstance(norm, _BatchNorm):
        _take(plan, norm, prefix, ("weight", "bias", *_STATISTICS))
        plan.counts["BN: taken as they are"] += 1
    else:
        return False
    return True


_STATELESS = "running statistics, of which the model's norms have none"


def _take(plan: _Plan, norm: Any, prefix: str, leaves: tuple[str, ...]) -> None:
    """The tensors of the same names, reshaped where the norm keeps them in another shape."""
    features = norm.num_features if hasattr(norm, "num_features") else norm.num_channels
    own = norm.state_dict()
    for leaf in leaves:
        if leaf in own:
            same = own[leaf].shape == (features,)
            text = "" if same else f"{{}} as {tuple(own[leaf].shape)}"
            plan.pieces[prefix + leaf] = _Piece(prefix + leaf, (features,), text=text)


def _no_use(plan: _Plan, prefix: str, why: str, *leaves: str) -> None:
    plan.unused |= {prefix + leaf: why for leaf in leaves}


def _split(plan: _Plan, norm: IBN, prefix: str) -> None:
    """IBN: the channels of a batch norm in the layer's own order."""
    first = norm.IN if norm.order == "in_bn" else norm.BN
    border = first.num_features
    halves = {"IN": norm.IN, "BN": norm.BN}
    for child, half in halves.items():
        part = slice(0, border) if half is first else slice(border, None)
        shown = f"[:{border}]" if half is first else f"[{border}:]"
        for leaf in half.state_dict():
            key = f"{prefix}{child}.{leaf}"
            if leaf == "num_batches_tracked":
                plan.pieces[key] = _Piece(prefix + leaf, (), text="{}")
            else:
                plan.pieces[key] = _Piece(
                    prefix + leaf, (norm.num_features,), itemgetter(part), f"{{}}{shown}"
                )
    order = "IN | BN" if first is norm.IN else "BN | IN"
    plan.counts[
        f"IBN: weight and bias split {order}; the BN half takes its part of the running "
        "statistics, the IN half has none"
    ] += 1
