"""Recognise a network from the keys and shapes of its state dict.

For people: an error message can then say "this looks like a plain ResNet-50; the model is a
ResNet-50 with IBN-a" instead of listing four hundred keys. And for conversions, which must know
whether another code base has such a network at all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

__all__ = ["Architecture", "Shape", "recognise"]

Shape = tuple[int, ...]

# What ``Architecture.norm`` says.
PLAIN = "batch norm"
IBN_A, IBN_B, BIN = "IBN-a", "IBN-b", "batch-instance norm"
SN, SN_WITHOUT_BN = "switchable norm", "switchable norm without BN"
ILM, ILM_GN, ILM_IN_LN = "ILM norm", "ILM norm on GN", "ILM norm on IN or LN"
STATELESS = "IN, LN or GN"

# (blocks per stage, with bottlenecks) -> depth
_RESNET_DEPTHS: dict[tuple[Shape, bool], str] = {
    ((2, 2, 2, 2), False): "18",
    ((3, 4, 6, 3), False): "34",
    ((3, 4, 6, 3), True): "50",
    ((3, 4, 23, 3), True): "101",
    ((3, 8, 36, 3), True): "152",
    # ILM-Norm's CIFAR networks are made of basic blocks also where they are called 50 and 152.
    ((3, 8, 36, 3), False): "152 of basic blocks",
}
_DENSENET_DEPTHS: dict[Shape, str] = {
    (6, 12, 24, 16): "121",
    (6, 12, 36, 24): "161",
    (6, 12, 32, 32): "169",
    (6, 12, 48, 32): "201",
}
# The first pattern that some key matches names the normalisation.
_NORM_MARKS = (
    (IBN_B, r"layer\d\.\d+\.IN\."),
    (IBN_A, r"(bn1|norm1)\.IN\."),
    (BIN, r"\.gate$"),
    (SN, r"\.mean_weight$"),
    (ILM, r"\.weight_bias$"),
    (PLAIN, r"(^|\.)running_mean$"),
)
_SUFFIXES = {
    PLAIN: "", IBN_A: "_ibn_a", IBN_B: "_ibn_b", BIN: "_bin", SN: "_sn", ILM_GN: "_ilm_gn"
}  # fmt: skip


@dataclass(frozen=True)
class Architecture:
    """A family of networks, its depth, its stem and its normalisation."""

    family: str
    """``ResNet``, ``pre-activation ResNet``, ``CIFAR-ResNet`` (three stages), ``ResNeXt``,
    ``SE-ResNet``, ``SE-ResNeXt``, one of these four with ``non-local`` before it, or
    ``DenseNet``."""
    depth: str
    """The usual number, or the blocks of each stage if that is not a usual one."""
    norm: str
    stem: str = "7x7"
    """``7x7``, ``3x3`` (CIFAR) or ``deep``: three convolutions, as in ResNet-C and -D."""
    bottlenecks: bool = True

    def __str__(self) -> str:
        parts = [] if self.norm == PLAIN else [self.norm]
        if self.stem == "deep":
            parts.append("a deep stem of three convolutions")
        elif self.stem == "3x3" and self.family != "CIFAR-ResNet":
            parts.append("a 3x3 stem")
        plain = "plain " if self.norm == PLAIN else ""
        article = "an" if not plain and self.family.startswith("S") else "a"
        tail = f" with {' and '.join(parts)}" if parts else ""
        return f"{article} {plain}{self.family}-{self.depth}{tail}"

    @property
    def zoo_name(self) -> str:
        """The name that ``create_model`` knows it by; empty if there is none, or several."""
        depth = self.depth.removesuffix(" of basic blocks")
        if not depth.isdigit() or self.stem == "deep":
            return ""
        if self.family == "CIFAR-ResNet":
            norm = {PLAIN: "_bn", STATELESS: "_in"}.get(self.norm, _SUFFIXES.get(self.norm))
            name = f"cifar_resnet{depth}{norm}" if norm in ("_bn", "_in", "_bin") else ""
            return f"{name}_basic" if name and depth != self.depth else name
        suffix = _SUFFIXES.get(self.norm)
        if suffix is None or depth != self.depth:
            return ""
        if self.family.startswith("non-local"):
            return ""
        if self.family == "pre-activation ResNet":
            return f"resnet{depth}_snv2" if self.norm == SN else ""
        if self.stem == "3x3":
            return f"resnet{depth}_3x3{suffix or '_bn'}" if suffix in ("", "_ilm_gn") else ""
        return f"{self.family.lower().replace('-', '_')}{depth}{suffix}"


def recognise(shapes: Mapping[str, Shape]) -> Architecture | None:
    """The network that these keys and shapes belong to, under any prefix; None if unknown."""
    stages = _blocks(shapes, r"layer(\d)\.\d+\.conv1\.weight")
    if stages:
        return _resnet(shapes, stages)
    stages = _blocks(shapes, r"denseblock(\d)\.denselayer\d+\.conv1\.weight")
    if stages:
        return Architecture("DenseNet", _DENSENET_DEPTHS.get(stages, str(stages)), _norm(shapes))
    return None


def _resnet(shapes: Mapping[str, Shape], stages: Shape) -> Architecture:
    bottlenecks = bool(_matches(shapes, r"layer\d\.\d+\.conv3\.weight"))
    stem, norm = _stem(shapes), _norm(shapes)
    if len(stages) == 3 and len(set(stages)) == 1 and stem == "3x3":
        depth = 6 * stages[0] + 2
        # The authors' networks have bottlenecks from 44 on, unless basic blocks are asked for.
        unusual = " of basic blocks" if depth >= 44 and not bottlenecks else ""
        return Architecture("CIFAR-ResNet", f"{depth}{unusual}", norm, stem, bottlenecks)
    # The weight of a grouped 3x3 convolution has fewer input than output channels.
    grouped = bottlenecks and any(
        shapes[key][:1] != shapes[key][1:2]
        for key in _matches(shapes, r"layer\d\.\d+\.conv2\.weight")
    )
    if _matches(shapes, r"(?:[bs]n_out|layer\d\.\d+\.downsample)\.weight"):
        family = "pre-activation ResNet"
    else:
        squeeze = any(re.search(r"\.se(_layer)?\.", key) for key in shapes)
        family = ("SE-" if squeeze else "") + ("ResNeXt" if grouped else "ResNet")
        if _matches(shapes, r"NL_\d\.\d+\.g\.weight"):
            family = f"non-local {family}"
    depth_name = _RESNET_DEPTHS.get((stages, bottlenecks), str(stages))
    return Architecture(family, depth_name, norm, stem, bottlenecks)


def _stem(shapes: Mapping[str, Shape]) -> str:
    if _matches(shapes, r"(?:stem|conv1)\.[036]\.weight"):
        return "deep"
    # the blocks' own conv1 stand below a layer
    stems = [s for key, s in shapes.items() if re.search(r"(?:^|\.)(?<!\d\.)conv1\.weight$", key)]
    return "3x3" if any(shape[2:] == (3, 3) for shape in stems) else "7x7"


def _norm(shapes: Mapping[str, Shape]) -> str:
    names = (name for name, mark in _NORM_MARKS if any(re.search(mark, key) for key in shapes))
    found = next(names, STATELESS)
    if found == SN and any(shapes[key] == (2,) for key in _matches(shapes, r"mean_weight")):
        return SN_WITHOUT_BN
    if found == ILM:
        # Their embeddings differ only where there are 256 channels, that is 16 keys.
        sizes = {shapes[key] for key in _matches(shapes, r"fc_embed\.0\.weight")}
        return ILM_GN if (1, 16) in sizes else ILM_IN_LN if (2, 16) in sizes else ILM
    return found


def _blocks(keys: Collection[str], pattern: str) -> Shape:
    """Blocks of each stage; the pattern's group is the stage's number."""
    counts = Counter(match[1] for match in _matches(keys, pattern).values())
    return tuple(counts[stage] for stage in sorted(counts))


def _matches(keys: Collection[str], pattern: str) -> dict[str, re.Match[str]]:
    compiled = re.compile(rf"(?:^|\.){pattern}$")
    return {key: match for key in keys if (match := compiled.search(key))}
