"""The names that other code bases give to the tensors of our networks, in both directions.

Ours are torchvision's. Reading is a list of small rules (:data:`RULES`): which one applies is seen
from the keys, so nobody has to say where a file came from. Writing is a table (:data:`LAYOUTS`):
each target says which networks it has, how it calls their tensors, and what it leaves out. Every
layout that is written is read back to the same tensors under the same keys.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .checkpoint import CheckpointError, find_state_dict, read_checkpoint
from .recognise import (
    BIN,
    IBN_A,
    IBN_B,
    ILM,
    ILM_GN,
    ILM_IN_LN,
    PLAIN,
    SN,
    SN_WITHOUT_BN,
    STATELESS,
    Architecture,
    recognise,
)

__all__ = [
    "LAYOUTS",
    "RULES",
    "Conversion",
    "KeyRule",
    "Layout",
    "Translation",
    "convert_state_dict",
    "plan_renaming",
    "translate",
]

# --------------------------------------------------------------------------------- theirs -> ours


@dataclass(frozen=True)
class KeyRule:
    """How the tensors of one kind of checkpoint become ours."""

    name: str
    applies: Callable[[Collection[str], Collection[str]], bool]
    """(keys of the checkpoint so far, keys of the model) -> whether to use this rule."""
    rename: Callable[[str], str | None]
    """Key -> our key, or None to leave the tensor aside."""
    value: Callable[[str, Tensor], Tensor | None] | None = None
    """(key before this rule, tensor) -> the tensor in our shape, or None to leave it aside."""
    why_aside: str = "other parts of a larger model"
    """Why tensors are left aside, if any are."""


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


def _subtree(prefix: str, origin: str, **others: str) -> KeyRule:
    """The network is one part of the saved model; the other parts are left aside.

    ``others``: what stands beside the prefix and is still the network's: our name -> theirs.
    """

    def applies(keys: Collection[str], model_keys: Collection[str]) -> bool:
        if any(key.startswith(prefix) for key in model_keys):
            return False
        tops = {key.partition(".")[0] for key in model_keys}
        # Anywhere below the prefix, because another one may follow ("model.backbone.conv1").
        inner = (key.removeprefix(prefix).split(".") for key in keys if key.startswith(prefix))
        return any(not tops.isdisjoint(parts) for parts in inner)

    def rename(key: str) -> str | None:
        if key.startswith(prefix):
            return key.removeprefix(prefix)
        for ours, theirs in others.items():
            if key.startswith(f"{theirs}."):
                return f"{ours}.{key.removeprefix(f'{theirs}.')}"
        return None

    return KeyRule(f"only '{prefix}' taken ({origin})", applies, rename)


def _aside(pattern: str, name: str, why: str) -> KeyRule:
    """Keys that no network has, and none needs."""
    found = re.compile(pattern).search

    def applies(keys: Collection[str], model_keys: Collection[str]) -> bool:
        return any(map(found, keys)) and not any(map(found, model_keys))

    return KeyRule(name, applies, lambda key: None if found(key) else key, why_aside=why)


_Replacement = str | Callable[[re.Match[str]], str]


def _pattern(
    name: str, *replacements: tuple[str, _Replacement], drop: str = "", why: str = ""
) -> KeyRule:
    """Keys that the first pattern finds call for the rule, unless the model has such keys itself.

    ``drop``: pattern of keys to leave aside, and ``why``.
    """
    compiled = [(re.compile(pattern), text) for pattern, text in replacements]
    dropped = re.compile(drop) if drop else None

    def applies(keys: Collection[str], model_keys: Collection[str]) -> bool:
        mark = compiled[0][0].search
        return any(map(mark, keys)) and not any(map(mark, model_keys))

    def rename(key: str) -> str | None:
        if dropped is not None and dropped.search(key):
            return None
        for pattern, text in compiled:
            key = pattern.sub(text, key)
        return key

    return KeyRule(name, applies, rename, why_aside=why)


# Squeeze and excitation: two bias-free linear layers here, two 1x1 convolutions with bias there.
_SE_KEY = re.compile(r"\.(?:se\.fc|se_layer\.conv)([12])(?:\.conv)?\.(weight|bias)$")
_SE_BIAS = "zero biases of SE layers"


def _se_rename(key: str) -> str:
    return _SE_KEY.sub(lambda m: f".se.fc.{2 * int(m[1]) - 2}.{m[2]}", key)


def _se_value(key: str, value: Tensor) -> Tensor | None:
    match = _SE_KEY.search(key)
    if match is None:
        return value
    if match[2] == "weight":
        return value.flatten(1)  # (out, in, 1, 1) -> (out, in)
    if bool(value.any()):
        raise CheckpointError(
            f"{key!r} is not zero: the squeeze-and-excitation layers of this checkpoint have "
            "biases, those of SE-IBN-Net have none, and without them the network is another one. "
            "Use weights that were trained without."
        )
    return None


def _se_applies(keys: Collection[str], model_keys: Collection[str]) -> bool:
    return any(map(_SE_KEY.search, keys)) and not any(map(_SE_KEY.search, model_keys))


_DETECTION = r"^(?:Conv_Body\.(?:conv_body\.)?|Box_Head\.(?=res5\.))"
_DEEP_STEM = re.compile(r"^stem\.([01346])\.")

RULES: list[KeyRule] = [
    _wrapper("module", "DataParallel"),
    _wrapper("_orig_mod", "torch.compile"),
    _pattern(
        "Detectron names of the SN authors' detectors: 'res2' -> 'layer1'",
        (rf"{_DETECTION}res1\.", ""),
        (rf"{_DETECTION}res(\d)\.", lambda match: f"layer{int(match[1]) - 1}."),
        (rf"{_DETECTION}classifier\.", "fc."),
        # FPN levels, region proposals and heads; sums of a calibration that came to its end
        drop=rf"^(?!{_DETECTION[1:]}(?:res\d|classifier)\.)|\.batch_(?:mean|var)$",
        why="other parts of a detector",
    ),
    _subtree("model.", "a wrapping trainer"),
    _subtree("backbone.", "the backbone of a larger model", fc="head.fc"),
    _subtree("base.", "the backbone of a re-ID baseline"),
    _subtree("encoder_q.", "the query encoder of MoCo"),
    _aside(
        r"^(?:fc\.\d|fc[12]|embed_fc)\.(?:weight|bias)$",
        "projection heads left aside (MoCo, LUPerson)",
        "projection heads of a pretraining",
    ),
    _pattern(
        "DenseNet 'norm.1' -> 'norm1'",
        (r"(denselayer\d+\.(?:norm|relu|conv))\.(\d+)\.", r"\1\2."),
    ),
    _pattern(
        "norms named by their kind, 'sn1' -> 'bn1'",
        (r"(^|\.)(?:sn|gn|in|ln)(\d|_out)\.", r"\1bn\2."),
    ),
    _pattern(
        "ILM-Norm's CIFAR names: 'shortcut' -> 'downsample', 'linear' -> 'fc'",
        (r"(layer\d+\.\d+\.)shortcut\.", r"\1downsample."),
        (r"^linear\.", "fc."),
    ),
    KeyRule("SE layers as 1x1 convolutions", _se_applies, _se_rename, _se_value, _SE_BIAS),
    _pattern(
        "mmseg's deep stem, 'stem.0' -> 'conv1.0'",
        (_DEEP_STEM.pattern, r"conv1.\1."),
        (r"^stem\.7\.", "bn1."),
    ),
]
"""Tried in this order, each at most once. A further layout is one more entry."""


@dataclass(frozen=True)
class Translation:
    """A checkpoint's tensors under our names."""

    rules: tuple[str, ...]
    """The rules that were used, in order."""
    state: dict[str, Tensor]
    origin: dict[str, str]
    """Our key -> the key in the checkpoint."""
    dropped: dict[str, str]
    """Key in the checkpoint -> why it was left aside."""

    @property
    def renamed(self) -> dict[str, str]:
        """Key in the checkpoint -> our key, where they differ."""
        return {old: new for new, old in self.origin.items() if old != new}


def translate(state: Mapping[str, Tensor], model_keys: Collection[str]) -> Translation:
    """Bring a state dict into our layout.

    Args:
        state: tensors by key.
        model_keys: the keys to arrive at: a rule is not used against names the model itself has.

    Raises:
        CheckpointError: two keys become one, or a tensor has no place in our networks.
    """
    current = {key: (key, value) for key, value in state.items()}  # original key -> key now, tensor
    used: list[str] = []
    dropped: dict[str, str] = {}
    for rule in RULES:
        if not rule.applies({key for key, _ in current.values()}, model_keys):
            continue
        used.append(rule.name)
        following: dict[str, tuple[str, Tensor]] = {}
        for old, (key, value) in current.items():
            new = rule.rename(key)
            ours = value if rule.value is None or new is None else rule.value(key, value)
            if new is None or ours is None:
                dropped[old] = rule.why_aside
            else:
                following[old] = new, ours
        current = following
    counts = Counter(new for new, _ in current.values())
    twice = [new for new, count in counts.items() if count > 1]
    if twice:
        both = [old for old, (new, _) in current.items() if new == twice[0]]
        raise CheckpointError(
            f"the checkpoint holds {twice[0]!r} more than once ({', '.join(both)}); "
            "pass only the part that is meant."
        )
    return Translation(
        tuple(used),
        dict(current.values()),
        {new: old for old, (new, _) in current.items()},
        dropped,
    )


# --------------------------------------------------------------------------------- ours -> theirs


@dataclass(frozen=True)
class Layout:
    """How another code base names the tensors of our networks."""

    about: str
    """Whose it is, for the help text."""
    families: tuple[str, ...]
    """The families of networks that it has, as :class:`Architecture` calls them."""
    norms: tuple[str, ...]
    stems: tuple[str, ...] = ("7x7",)
    basic_blocks: bool = True
    rename: Callable[[str, Architecture], str | None] = lambda key, architecture: key
    """Our key -> theirs, or None for what it has no place for."""
    squeeze: str = ""
    """How the two SE layers are called if they are 1x1 convolutions with bias, e.g. 'se.fc{}'."""
    container: str = ""
    """Key that its own files put around the state dict."""

    def refusal(self, architecture: Architecture) -> str:
        """Why it cannot hold such a network; empty if it can."""
        if architecture.family not in self.families:
            return f"it has no {architecture.family}, only {_either(self.families)}"
        if architecture.norm not in self.norms:
            return f"it has no {architecture.norm}, only {_either(self.norms)}"
        if architecture.stem not in self.stems and architecture.family != "DenseNet":
            return (
                f"its {architecture.family} has a {_either(self.stems)} stem, this one a "
                f"{architecture.stem} stem"
            )
        if not (self.basic_blocks or architecture.bottlenecks):
            return "it has bottlenecks only, this network is made of basic blocks"
        return ""


def _either(names: Collection[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def _below(prefix: str, head: str = "") -> Callable[[str, Architecture], str | None]:
    """Everything below ``prefix``; the classifier is called ``head``, or left out."""

    def rename(key: str, architecture: Architecture) -> str | None:
        if key.startswith(("fc.", "classifier.")):
            return f"{head}.{key.partition('.')[2]}" if head else None
        if architecture.stem == "deep":
            key = re.sub(r"^conv1\.", "stem.", re.sub(r"^bn1\.", "stem.7.", key))
        return f"{prefix}{key}"

    return rename


def _sn_names(key: str) -> str:
    return re.sub(r"(^|\.)bn(\d|_out)\.", r"\1sn\2.", key)


def _sn(key: str, architecture: Architecture) -> str:
    return f"module.{_sn_names(key)}"


def _sn_detection(prefix: str) -> Callable[[str, Architecture], str | None]:
    def rename(key: str, architecture: Architecture) -> str:
        top, _, rest = _sn_names(key).partition(".")
        if top == "fc":
            return f"{prefix}classifier.{rest}"
        if top.startswith("layer"):
            return f"{prefix}res{int(top.removeprefix('layer')) + 1}.{rest}"
        return f"{prefix}res1.{top}.{rest}"

    return rename


def _ilm(key: str, architecture: Architecture) -> str:
    if architecture.stem == "3x3":
        key = re.sub(r"^fc\.", "linear.", key)
        key = re.sub(r"(layer\d+\.\d+\.)downsample\.", r"\1shortcut.", key)
    return f"module.{key}"


def _densenet_old(key: str, architecture: Architecture) -> str:
    return re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)\.", r"\1.\2.", key)


_RESNETS = ("ResNet", "ResNeXt", "SE-ResNet", "SE-ResNeXt")
_NON_LOCAL = tuple(f"non-local {family}" for family in _RESNETS)
_FAMILIES = (*_RESNETS, *_NON_LOCAL, "pre-activation ResNet", "CIFAR-ResNet", "DenseNet")
_NORMS = (PLAIN, IBN_A, IBN_B, BIN, SN, SN_WITHOUT_BN, ILM, ILM_GN, ILM_IN_LN, STATELESS)
_ANY_STEM = ("7x7", "3x3", "deep")

LAYOUTS: dict[str, Layout] = {
    "ours": Layout("this toolkit: torchvision's names for every network", _FAMILIES, _NORMS,
                   _ANY_STEM),
    "torchvision": Layout(
        "torchvision.models", ("ResNet", "ResNeXt", "DenseNet"), (PLAIN, STATELESS)
    ),
    "timm": Layout(
        "timm's ResNet, ResNeXt, SE-ResNet (SE layers as 1x1 convolutions) and DenseNet",
        (*_RESNETS, "DenseNet"), (PLAIN, STATELESS), ("7x7", "deep"), squeeze="se.fc{}",
    ),
    "mmseg": Layout(
        "a segmentor of mmseg around a backbone of ours (or its own ResNet); no classifier",
        _FAMILIES, _NORMS, _ANY_STEM, rename=_below("backbone."), container="state_dict",
    ),
    "mmpretrain": Layout(
        "a classifier of mmpretrain around its own ResNet, with any of our norms as norm_cfg",
        _RESNETS, (PLAIN, BIN, SN, SN_WITHOUT_BN, ILM, ILM_GN, ILM_IN_LN, STATELESS), _ANY_STEM,
        rename=_below("backbone.", "head.fc"), squeeze="se_layer.conv{}.conv",
        container="state_dict",
    ),
    "ibn": Layout("the files of IBN-Net", (*_RESNETS, "DenseNet"), (IBN_A, IBN_B)),
    "bin": Layout(
        "the checkpoints of BIN's authors", ("CIFAR-ResNet",), (PLAIN, STATELESS, BIN),
        ("3x3",), rename=lambda key, _: f"module.{key}", container="state_dict",
    ),
    "sn": Layout(
        "the files of Switchable-Normalization", ("ResNet", "pre-activation ResNet"),
        (SN, SN_WITHOUT_BN), rename=_sn, container="state_dict",
    ),
    "sndet": Layout(
        "the SN authors' detectors without a feature pyramid", ("ResNet",), (SN, SN_WITHOUT_BN),
        basic_blocks=False, rename=_sn_detection("Conv_Body."), container="model",
    ),
    "sndet_fpn": Layout(
        "the SN authors' detectors with a feature pyramid", ("ResNet",), (SN, SN_WITHOUT_BN),
        basic_blocks=False, rename=_sn_detection("Conv_Body.conv_body."), container="model",
    ),
    "ilm": Layout(
        "the checkpoints of ILM-Norm's authors, ImageNet and CIFAR", ("ResNet",),
        (PLAIN, ILM, ILM_GN, ILM_IN_LN), ("7x7", "3x3"), rename=_ilm, container="net",
    ),
    "fastreid": Layout(
        "fast-reid, the backbone of a model; no classifier", (*_RESNETS, *_NON_LOCAL),
        (PLAIN, IBN_A),
        rename=_below("backbone."), container="model",
    ),
    "strong_baseline": Layout(
        "reid-strong-baseline, the backbone of a model; no classifier", _RESNETS, (PLAIN, IBN_A),
        rename=_below("base."),
    ),
    "densenet_old": Layout(
        "DenseNets of torchvision < 0.3 and of early IBN-Net, 'norm.1'", ("DenseNet",),
        (PLAIN, IBN_A), rename=_densenet_old,
    ),
}  # fmt: skip
"""The targets of :func:`convert_state_dict`."""


@dataclass(frozen=True)
class Conversion:
    """A checkpoint in another layout, and what became of every tensor."""

    target: str
    architecture: Architecture
    """The network that the weights belong to."""
    state_dict: dict[str, Tensor]
    layout: tuple[str, ...]
    """The containers and naming rules that were recognised in the source; empty: our names."""
    renamed: dict[str, str]
    """Key in the source -> key in the result, in the order of the result."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Key in the source -> why it has no place in the result."""
    added: dict[str, str] = field(default_factory=dict)
    """Key in the result that the source does not have -> why."""

    @property
    def container(self) -> str:
        """Key that the target's own files put around the state dict; may be empty."""
        return LAYOUTS[self.target].container


# Names that ask for no renaming, so that every rule is free to be used.
_OUR_KEYS = frozenset(
    {"conv1.weight", "bn1.weight", "bn_out.weight", "fc.weight", "classifier.weight"}
    | {f"layer{stage}.0.conv1.weight" for stage in range(1, 5)}
    | {"features.conv0.weight"}
)


def plan_renaming(source: str | os.PathLike[str] | Mapping[str, Any], to: str) -> Conversion:
    """Bring weights of any known layout into another one; nothing is written.

    Args:
        source: a checkpoint file (see :func:`read_checkpoint`), a state dict, or a dict that
            holds one. Its layout is recognised.
        to: a key of :data:`LAYOUTS`.

    Raises:
        ValueError: an unknown target; the known ones are listed.
        CheckpointError: the source cannot be read, belongs to no network of ours, or to one that
            the target does not have; the message says why.
    """
    if to not in LAYOUTS:
        raise ValueError(f"unknown layout {to!r}; choose one of {', '.join(LAYOUTS)}")
    if isinstance(source, Mapping):
        name, checkpoint = "the given state dict", source
    else:
        name, checkpoint = str(source), read_checkpoint(source)
    containers, state = find_state_dict(checkpoint, name)
    ours = translate(state, _OUR_KEYS)
    architecture = recognise({key: tuple(value.shape) for key, value in ours.state.items()})
    if architecture is None:
        raise CheckpointError(
            f"{name} belongs to none of our networks (ResNets and DenseNets), so there is nothing "
            f"to convert. Its keys begin with {', '.join(list(ours.state)[:3]) or 'nothing'}."
        )
    layout = LAYOUTS[to]
    refusal = layout.refusal(architecture)
    if refusal:
        possible = [key for key, other in LAYOUTS.items() if not other.refusal(architecture)]
        raise CheckpointError(
            f"{name} is {architecture}, which {to!r} ({layout.about}) cannot hold: {refusal}. "
            f"Possible: {', '.join(possible)}."
        )

    result: dict[str, Tensor] = {}
    renamed: dict[str, str] = {}
    left_out = dict(ours.dropped)
    added: dict[str, str] = {}
    for key, value in _with_all_names(ours.state).items():
        origin = ours.origin.get(key)
        new = layout.rename(key, architecture)
        if new is None:
            left_out[origin or key] = "this layout has no classifier"
            continue
        entries = _as_convolutions(new, value, layout.squeeze) if layout.squeeze else {new: value}
        for index, (entry, tensor) in enumerate(entries.items()):
            result[entry] = tensor
            if origin is None:
                added[entry] = "another name of the same tensor"
            elif index:
                added[entry] = "zero: this layer has no bias"
            else:
                renamed[origin] = entry
    return Conversion(
        target=to,
        architecture=architecture,
        state_dict=result,
        layout=(*(f"inside {key!r}" for key in containers), *ours.rules),
        renamed=renamed,
        left_out=left_out,
        added=added,
    )


def convert_state_dict(
    source: str | os.PathLike[str] | Mapping[str, Any], *, to: str = "ours"
) -> dict[str, Tensor]:
    """Weights of any known layout in another one; see :func:`plan_renaming`.

    The tensors are the source's own wherever their shape stays; clone what you mean to change.
    """
    return plan_renaming(source, to).state_dict


_ENCODER = re.compile(r"(?:fc_embed\.0|fc_weight\.0\.0|fc_bias\.0\.0)\.weight$")
_ENCODER_NAMES = ("fc_embed.0.weight", "fc_weight.0.0.weight", "fc_bias.0.0.weight")


def _with_all_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """ILM's encoder under its three names, of which writers that know no sharing keep one."""
    complete: dict[str, Tensor] = {}
    for key, value in state.items():
        complete[key] = value
        if match := _ENCODER.search(key):
            for name in _ENCODER_NAMES:
                twin = key[: match.start()] + name
                if twin not in state:
                    complete[twin] = value
    return complete


def _as_convolutions(key: str, value: Tensor, name: str) -> dict[str, Tensor]:
    """An SE layer's weight as that of a 1x1 convolution, with its bias; others as they are."""
    match = re.search(r"\.se\.fc\.([02])\.weight$", key)
    if match is None:
        return {key: value}
    stem = f"{key[: match.start()]}.{name.format(int(match[1]) // 2 + 1)}"
    return {
        f"{stem}.weight": value[:, :, None, None],  # (out, in) -> (out, in, 1, 1)
        f"{stem}.bias": value.new_zeros(len(value)),
    }
