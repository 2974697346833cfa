"""Named protocols: the settings under which published numbers were made, frozen and checkable.

Published GTA5 -> Cityscapes tables mix several protocols whose numbers are not comparable. A config
names the one that it follows (``protocol = "robustnet-r50"``); ``deviations`` reads what the config
really says and lists every difference, and ``stamp`` makes the line that goes with each result.

A field that is None is not fixed by the protocol, or its source is silent; it is then not checked.
What a method is about (its norms, losses, added style augmentation) is no part of a protocol.

Sources: papers, and the settings of the authors' published code (none was published for IBN-Net).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["PROTOCOLS", "Evaluation", "Protocol", "Step", "deviations", "get_protocol", "stamp"]


@dataclass(frozen=True)
class Step:
    """A step that the training pipeline must have.

    Attributes:
        types: names of types, without their room, any of which will do.
        values: argument -> values, any of which will do; an absent argument is None.
        text: the step in words.
    """

    types: tuple[str, ...]
    values: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Evaluation:
    """How images of one data set are tested.

    Attributes:
        split: of the data set.
        size: (width, height) to which images are resized; None: native size. Predictions are
            brought back to the labels' native size in both cases.
        keep_ratio: whether the resizing keeps the aspect; None where all images have the same.
        square: side of the square to which image and label are resized and cut; None: none.
    """

    split: str | None = "val"
    size: tuple[int, int] | None = None
    keep_ratio: bool | None = None
    square: int | None = None


@dataclass(frozen=True)
class Protocol:
    """One protocol; None means not fixed.

    Attributes:
        name, title, url: of the protocol and its paper.
        source, split, drop: type, split and dropped images of the training data.
        max_iters, batch: iterations; images a step over all processes.
        train_size: (width, height) to which training images are resized before anything random.
        crop: (height, width) of training crops.
        optimiser, lr, momentum, weight_decay, poly_power: of the optimiser and its schedule.
        augmentation: steps of the training pipeline.
        sampler: type of the training sampler.
        model: (path in the config's model, expected value, in words).
        mode, window, stride: inference: 'whole', or 'slide' with windows (height, width).
        domains: type of data set -> how it is tested.
        checkpoint: which one counts: 'last'.
        silent: what the sources do not say.
    """

    name: str
    title: str
    url: str
    source: str | None = None
    split: str | None = None
    drop: str | None = None
    max_iters: int | None = None
    batch: int | None = None
    train_size: tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    optimiser: str | None = None
    lr: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None
    poly_power: float | None = None
    augmentation: tuple[Step, ...] = ()
    sampler: str | None = None
    model: tuple[tuple[str, Any, str], ...] = ()
    mode: str | None = None
    window: tuple[int, int] | None = None
    stride: tuple[int, int] | None = None
    domains: tuple[tuple[str, Evaluation], ...] = ()
    checkpoint: str | None = None
    silent: tuple[str, ...] = ()


_CROPS = ("RandomCrop", "ClassCrop")
_FLIP = Step(("RandomFlip",), (("prob", (0.5,)),), "horizontal flip of half of the images")
_CROP_075 = Step(
    _CROPS, (("cat_max_ratio", (0.75,)),), "crops with at most 75% of their pixels in one class"
)
_DISTORTION = Step(("PhotoMetricDistortion",), (), "photometric distortion")


def _around(value: float) -> tuple[Any, ...]:
    """A jitter of ``value`` as one number or as the range that it means."""
    return (value, (1 - value, 1 + value))


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="robustnet-r50",
            title="Choi et al., RobustNet, CVPR 2021",
            url="https://arxiv.org/abs/2103.15597",
            source="GTA5",
            split="train",
            drop="robustnet",
            max_iters=40_000,
            batch=16,
            crop=(768, 768),
            optimiser="SGD",
            lr=0.01,
            momentum=0.9,
            weight_decay=5e-4,
            poly_power=0.9,
            augmentation=(
                Step(
                    ("RandomResize",),
                    (("ratio_range", ((0.5, 2.0),)),),
                    "random scale 0.5 to 2.0",
                ),
                _FLIP,
                Step(
                    ("ColorJitter",),
                    (
                        ("brightness", _around(0.4)),
                        ("contrast", _around(0.4)),
                        ("saturation", _around(0.4)),
                        ("hue", (0.1, (-0.1, 0.1))),
                        ("p", (0.5, None)),
                    ),
                    "colour jitter 0.4, 0.4, 0.4, 0.1 on half of the images",
                ),
                Step(
                    ("GaussianBlur",),
                    (("sigma_limit", ((0.15, 1.3),)), ("p", (1.0,))),
                    "Gaussian blur of sigma 0.15 to 1.3 on every image",
                ),
            ),
            sampler="ClassUniformSampler",
            model=(
                ("backbone.depth", 50, "ResNet-50"),
                ("backbone.strides", (1, 2, 2, 1), "output stride 16"),
                ("backbone.dilations", (1, 1, 1, 2), "output stride 16"),
                ("decode_head.dilations", (6, 12, 18), "ASPP rates"),
                ("decode_head.align_corners", True, "corners aligned"),
                ("auxiliary_head.in_index", 2, "auxiliary head on layer3"),
                ("auxiliary_head.loss_decode.loss_weight", 0.4, "auxiliary head"),
            ),
            mode="whole",
            domains=(
                ("Cityscapes", Evaluation()),
                ("BDD100K", Evaluation()),
                ("Synthia", Evaluation()),
                ("Mapillary", Evaluation(square=1536)),
            ),
            checkpoint="last",
        ),
        Protocol(
            name="ibnnet-2018",
            title="Pan et al., IBN-Net, ECCV 2018",
            url="https://arxiv.org/abs/1807.09441",
            source="GTA5",
            split="train",
            model=(
                ("backbone.depth", 50, "ResNet-50"),
                ("backbone.strides", (1, 2, 1, 1), "output stride 8"),
                ("backbone.dilations", (1, 1, 2, 4), "output stride 8"),
                ("decode_head.type", "FCNHead", "PSPNet without the pyramid module"),
            ),
            domains=(("Cityscapes", Evaluation()), ("GTA5", Evaluation())),
            silent=(
                "iterations, batch, crop, optimiser, augmentation, whole image or windows, and the "
                "checkpoint that counts: the code was not released",
            ),
        ),
        Protocol(
            name="rein-512",
            title="Wei et al., Rein, CVPR 2024",
            url="https://arxiv.org/abs/2312.04265",
            source="GTA5",
            split="all",
            max_iters=40_000,
            batch=4,
            train_size=(1280, 720),
            crop=(512, 512),
            optimiser="AdamW",
            lr=1e-4,
            weight_decay=0.05,
            poly_power=0.9,
            augmentation=(_CROP_075, _FLIP, _DISTORTION),
            mode="slide",
            window=(512, 512),
            stride=(341, 341),
            domains=(
                ("Cityscapes", Evaluation(size=(1024, 512))),
                ("BDD100K", Evaluation(size=(1280, 720))),
                ("Mapillary", Evaluation(size=(1024, 512), keep_ratio=True)),
            ),
            checkpoint="last",
            silent=(
                "the backbone and head are the method's; Mapillary was tested on a copy of images "
                "and labels at half size, which is not required here",
            ),
        ),
        Protocol(
            name="hrda-dg",
            title="Hoyer et al., Domain Adaptive and Generalizable Network Architectures and "
            "Training Strategies, TPAMI 2023",
            url="https://arxiv.org/abs/2304.13615",
            source="GTA5",
            split="all",
            max_iters=40_000,
            batch=2,
            train_size=(1280, 720),
            crop=(512, 512),
            optimiser="AdamW",
            lr=6e-5,
            augmentation=(_CROP_075, _FLIP),
            sampler="RareClassSampler",
            model=(("backbone.type", "MixVisionTransformer", "MiT-B5"),),
            mode="slide",
            window=(512, 512),
            stride=(256, 256),
            domains=(("Cityscapes", Evaluation(size=(1024, 512))),),
            checkpoint="last",
            silent=("sizes of the other targets, photometric augmentation",),
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """Raises: ValueError: no protocol of that name; near ones are listed."""
    if name not in PROTOCOLS:
        close = difflib.get_close_matches(str(name), PROTOCOLS, n=2, cutoff=0.4)
        hint = f"did you mean {' or '.join(close)}?" if close else "leave it out for none;"
        raise ValueError(f"unknown protocol {name!r}; {hint} there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def stamp(
    config: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
    *,
    world_size: int | None = None,
    iteration: int | None = None,
    chosen_by: str | None = None,
) -> dict[str, Any]:
    """What stands beside a result: ``name`` ('none' where the config names no protocol),
    ``deviations`` and ``text``, one line of both. Arguments as of ``deviations``."""
    name = config.get("protocol") or "none"
    if name == "none":
        return {"name": "none", "deviations": [], "text": "none"}
    found = deviations(
        config, training, world_size=world_size, iteration=iteration, chosen_by=chosen_by
    )
    text = name
    if found:
        many = "1 deviation" if len(found) == 1 else f"{len(found)} deviations"
        text = f"{name} with {many}: {'; '.join(found)}"
    return {"name": name, "deviations": found, "text": text}


def deviations(
    config: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
    *,
    world_size: int | None = None,
    iteration: int | None = None,
    chosen_by: str | None = None,
) -> list[str]:
    """Differences between a config and the protocol that it names, each in words.

    Args:
        config: a loaded config; its test settings are compared, and its training settings unless
            ``training`` is given.
        training: the config with which the tested checkpoint was really trained.
        world_size: processes of the training; default: those of this run (torchrun's WORLD_SIZE).
        iteration: at which the tested checkpoint was written.
        chosen_by: metric that chose the tested checkpoint as the best, if one did.

    Raises:
        ValueError: the config names a protocol that does not exist.
    """
    name = config.get("protocol")
    if not name or name == "none":
        return []
    protocol = get_protocol(name)
    config = _plain(config)
    trained = config if training is None else _plain(training)
    processes = int(os.environ.get("WORLD_SIZE", 1)) if world_size is None else world_size
    found = []
    if training is not None and (other := training.get("protocol")) != name:
        found.append(f"the checkpoint was trained under {other or 'no protocol'}")
    found += _training(protocol, trained, processes)
    found += _model(protocol, config)
    found += _testing(protocol, config)
    if protocol.checkpoint == "last":
        last = _at(trained, "train_cfg.max_iters")
        if chosen_by is not None:
            found.append(f"the best checkpoint by {chosen_by}, not the last")
        elif iteration is not None and last is not None and iteration != last:
            found.append(f"the checkpoint of iteration {iteration:,} of {last:,}, not the last")
    return found


# -------------------------------------------------------------------------------------- training


def _training(protocol: Protocol, config: Mapping[str, Any], processes: int) -> list[str]:
    if config.get("train_dataloader") is None:
        return ["the config does not say how the model was trained"]
    loader, dataset = config["train_dataloader"], _at(config, "train_dataloader.dataset") or {}
    pipeline = list(_steps(dataset.get("pipeline") or []))
    optimiser = _at(config, "optim_wrapper.optimizer") or {}
    steps = _at(config, "optim_wrapper.accumulative_counts") or 1
    batch = loader.get("batch_size")
    crops = [s.get("crop_size") for s in pipeline if _name(s) in _CROPS]
    polys = [
        s.get("power", 1.0) for s in config.get("param_scheduler") or [] if _name(s) == "PolyLR"
    ]
    out = _Differences()
    out.compare("training data", _name(dataset), protocol.source)
    out.compare("training split", dataset.get("split", "train"), protocol.split)
    out.compare("dropped training images", dataset.get("drop") or "none", protocol.drop)
    if dataset.get("limit") is not None or dataset.get("indices") is not None:
        out.lines.append("only a part of the training images")
    out.compare("iterations", _at(config, "train_cfg.max_iters"), protocol.max_iters)
    out.compare("batch size", batch and batch * processes * steps, protocol.batch)
    out.compare("training crop", _pair(crops[-1]) if crops else None, protocol.crop)
    out.compare("optimiser", optimiser.get("type"), protocol.optimiser)
    out.compare("learning rate", optimiser.get("lr"), protocol.lr)
    out.compare("momentum", optimiser.get("momentum", 0), protocol.momentum)
    out.compare("weight decay", optimiser.get("weight_decay", 0), protocol.weight_decay)
    out.compare("power of the poly schedule", polys[-1] if polys else None, protocol.poly_power)
    sampler = _name(loader.get("sampler") or {})
    out.compare("training sampler", sampler or "none", protocol.sampler)
    if protocol.train_size is not None:
        sizes = [_pair(s.get("scale")) for s in pipeline if _name(s) == "Resize"]
        out.compare("training images resized to", sizes[0] if sizes else None, protocol.train_size)
    for step in protocol.augmentation:
        out.lines += _augmentation(step, pipeline)
    return out.lines


def _augmentation(step: Step, pipeline: Sequence[Mapping[str, Any]]) -> list[str]:
    found = [s for s in pipeline if _name(s) in step.types]
    if not found:
        return [f"no {step.text}"]
    wrong: list[str] = []
    for candidate in found:
        wrong = [
            f"{_name(candidate)}.{key} is {_show(_frozen(candidate.get(key)))} instead of "
            f"{_show(_frozen(allowed[0]))}"
            for key, allowed in step.values
            if not any(_same(_frozen(candidate.get(key)), _frozen(value)) for value in allowed)
        ]
        if not wrong:
            return []
    return wrong


# ---------------------------------------------------------------------------- model and evaluation


def _model(protocol: Protocol, config: Mapping[str, Any]) -> list[str]:
    out = _Differences()
    for path, wanted, text in protocol.model:
        found = _at(config, f"model.{path}")
        if path.endswith(".type"):
            found = found and str(found).rpartition(".")[2]
        if isinstance(wanted, tuple):
            found = _frozen(found)
        out.compare(f"{path} ({text})", found, wanted)
    return out.lines


def _testing(protocol: Protocol, config: Mapping[str, Any]) -> list[str]:
    out = _Differences()
    test = _at(config, "model.test_cfg") or {}
    out.compare("inference", test.get("mode"), protocol.mode)
    if protocol.mode == test.get("mode") == "slide":
        out.compare("windows", _pair(test.get("crop_size")), protocol.window)
        out.compare("stride of the windows", _pair(test.get("stride")), protocol.stride)
    rules = dict(protocol.domains)
    for name, loader in (config.get("test_dataloader") or {}).items():
        dataset = loader.get("dataset") if isinstance(loader, Mapping) else None
        if dataset is None:  # one loader without domain names
            continue
        kind = _name(dataset)
        steps = list(_steps(dataset.get("pipeline") or []))
        if kind in rules:
            rule = rules[kind]
            out.compare(f"{name}: split", dataset.get("split", "train"), rule.split)
            resize = next((s for s in steps if _name(s) == "Resize"), None)
            out.compare(f"{name}: test size", _test_size(steps), _rule_size(rule), fixed=True)
            if resize is not None and rule.keep_ratio is not None:
                kept = bool(resize.get("keep_ratio", False))
                out.compare(f"{name}: aspect kept", kept, rule.keep_ratio)
        elif kind != protocol.source:
            out.lines.append(f"{name}: {kind} is not one of the protocol's data sets")
        if dataset.get("limit") is not None or dataset.get("indices") is not None:
            out.lines.append(f"{name}: only a part of the images")
        extra = [_name(s) for s in steps if not _ordinary(_name(s))]
        if extra:
            out.lines.append(f"{name}: additional test steps {', '.join(extra)}")
    return out.lines


def _test_size(steps: Sequence[Mapping[str, Any]]) -> str:
    parts = []
    for step in steps:
        if _name(step) == "ResizeAndCropSquare":
            parts.append(f"square of {step.get('size', 1536)}")
        elif _name(step) == "Resize":
            size = _pair(step.get("scale"))
            parts.append(f"{size[0]}x{size[1]}" if size else f"x{step.get('scale_factor')}")
    return " then ".join(parts) or "native"


def _rule_size(rule: Evaluation) -> str:
    if rule.square is not None:
        return f"square of {rule.square}"
    return "native" if rule.size is None else f"{rule.size[0]}x{rule.size[1]}"


def _ordinary(name: str) -> bool:
    return name.startswith(("Load", "Pack")) or name in ("Resize", "ResizeAndCropSquare")


# --------------------------------------------------------------------------- reading config values


class _Differences:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def compare(self, what: str, found: Any, wanted: Any, *, fixed: bool = False) -> None:
        """Note a difference; ``wanted`` None is not fixed by the protocol."""
        if (wanted is not None or fixed) and not _same(found, wanted):
            self.lines.append(f"{what} {_show(found)} instead of {_show(wanted)}")


def _plain(config: Any) -> Mapping[str, Any]:
    """mmengine's Config is no mapping, what it holds is."""
    plain: Mapping[str, Any] = config.to_dict() if hasattr(config, "to_dict") else config
    return plain


def _steps(pipeline: Sequence[Any]) -> Iterator[Mapping[str, Any]]:
    """All steps, also those within others (seg.Albumentations, RandomApply, RandomChoice)."""
    for step in pipeline:
        if isinstance(step, Mapping):
            inner = step.get("transforms")
            if isinstance(inner, Sequence) and not isinstance(inner, str):
                yield from _steps(inner)
                if _name(step) in ("Albumentations", "Compose", "RandomApply", "RandomChoice"):
                    continue
            yield step
        elif isinstance(step, Sequence) and not isinstance(step, str):
            yield from _steps(step)


def _name(entry: Mapping[str, Any]) -> str:
    """Type without its room: ``seg.GTA5`` -> ``GTA5``."""
    return str(entry.get("type", "")).rpartition(".")[2]


def _at(config: Any, path: str) -> Any:
    for key in path.split("."):
        if not isinstance(config, Mapping):
            return None
        config = config.get(key)
    return config


def _pair(value: Any) -> tuple[Any, ...] | None:
    if value is None:
        return None
    return (value, value) if isinstance(value, int) else tuple(value)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, tuple) and isinstance(found, tuple):
        return len(wanted) == len(found) and all(map(_same, found, wanted))
    if isinstance(wanted, float) and isinstance(found, int | float):
        return abs(found - wanted) <= 1e-9 * max(1.0, abs(wanted))
    return bool(found == wanted)


def _show(value: Any) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, int) for v in value):
        return f"{value[0]}x{value[1]}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)
