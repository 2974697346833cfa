"""Recognise a network from the keys and shapes of its state dict.

Only for people: an error message can then say "this looks like a plain ResNet-50; the model is a
ResNet-50 with IBN-a" instead of listing four hundred keys.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

__all__ = ["Architecture", "Shape", "recognise"]

Shape = tuple[int, ...]

# (blocks per stage, with bottlenecks) -> depth
_RESNET_DEPTHS: dict[tuple[Shape, bool], str] = {
    ((2, 2, 2, 2), False): "18",
    ((3, 4, 6, 3), False): "34",
    ((3, 4, 6, 3), True): "50",
    ((3, 4, 23, 3), True): "101",
    ((3, 8, 36, 3), True): "152",
}
_DENSENET_DEPTHS: dict[Shape, str] = {
    (6, 12, 24, 16): "121",
    (6, 12, 36, 24): "161",
    (6, 12, 32, 32): "169",
    (6, 12, 48, 32): "201",
}
_PLAIN = "batch norm"
# The first pattern that some key matches names the normalisation.
_NORM_MARKS = (
    ("IBN-b", r"layer\d\.\d+\.IN\."),
    ("IBN-a", r"(bn1|norm1)\.IN\."),
    ("batch-instance norm", r"\.gate$"),
    ("switchable norm", r"\.mean_weight$"),
    ("ILM norm", r"\.fc_embed\."),
    (_PLAIN, r"(^|\.)running_mean$"),
)


@dataclass(frozen=True)
class Architecture:
    """A family of networks, its depth and its normalisation."""

    family: str
    """``ResNet``, ``ResNeXt``, ``SE-ResNet`` or ``DenseNet``."""
    depth: str
    """The usual number, or the blocks of each stage if that is not a usual one."""
    norm: str

    def __str__(self) -> str:
        if self.norm == _PLAIN:
            return f"a plain {self.family}-{self.depth}"
        article = "an" if self.family.startswith("S") else "a"
        return f"{article} {self.family}-{self.depth} with {self.norm}"

    @property
    def zoo_name(self) -> str:
        """The name that ``create_model`` would know it by."""
        suffix = {"IBN-a": "_ibn_a", "IBN-b": "_ibn_b"}.get(self.norm, "")
        return f"{self.family.lower().replace('-', '_')}{self.depth}{suffix}"


def recognise(shapes: Mapping[str, Shape]) -> Architecture | None:
    """The network that these keys and shapes belong to, under any prefix; None if unknown."""
    stages = _blocks(shapes, r"layer(\d)\.\d+\.conv1\.weight")
    if stages:
        bottleneck = bool(_matches(shapes, r"layer\d\.\d+\.conv3\.weight"))
        # The weight of a grouped 3x3 convolution has fewer input than output channels.
        grouped = bottleneck and any(
            shapes[key][:1] != shapes[key][1:2]
            for key in _matches(shapes, r"layer\d\.\d+\.conv2\.weight")
        )
        squeeze = any(".se.fc." in key for key in shapes)
        family = ("SE-" if squeeze else "") + ("ResNeXt" if grouped else "ResNet")
        depth = _RESNET_DEPTHS.get((stages, bottleneck), str(stages))
        return Architecture(family, depth, _norm(shapes))
    stages = _blocks(shapes, r"denseblock(\d)\.denselayer\d+\.conv1\.weight")
    if stages:
        return Architecture("DenseNet", _DENSENET_DEPTHS.get(stages, str(stages)), _norm(shapes))
    return None


def _norm(keys: Collection[str]) -> str:
    names = (name for name, mark in _NORM_MARKS if any(re.search(mark, key) for key in keys))
    return next(names, "neither batch norm nor a mix with it")


def _blocks(keys: Collection[str], pattern: str) -> Shape:
    """Blocks of each stage; the pattern's group is the stage's number."""
    counts = Counter(match[1] for match in _matches(keys, pattern).values())
    return tuple(counts[stage] for stage in sorted(counts))


def _matches(keys: Collection[str], pattern: str) -> dict[str, re.Match[str]]:
    compiled = re.compile(rf"(?:^|\.){pattern}$")
    return {key: match for key in keys if (match := compiled.search(key))}
