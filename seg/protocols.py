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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.provenance import Provenance

__all__ = ["PROTOCOLS", "Evaluation", "Protocol", "Step", "deviations", "get_protocol", "stamp"]


@dataclass(frozen=True)
class Step:
    """An entry that a config must have: a step of the pipeline, a schedule, a sampler.

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
        split: of the data set; None: any, the result names it.
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
        source, split, drop: type, split and dropped images of the training data. The source is
            tested on its split 'val' at native size unless ``domains`` says otherwise.
        max_iters, batch: iterations; images a step over all processes.
        train_size: (width, height) to which training images are resized before anything random.
        crop: (height, width) of training crops; where it is fixed, so is all resizing before it.
        optimiser, lr, momentum, weight_decay, nesterov: of the optimiser.
        lr_mult, decay_mult: (part of parameters' names, factor other than 1).
        schedule: all schedules of the learning rate; a poly one ends with the training.
        augmentation: steps of the training pipeline.
        sampler: of the training.
        model: (path in the config's model, expected value, in words).
        mode, window, stride: inference: 'whole', or 'slide' with windows (height, width).
        domains: type of data set -> how it is tested.
        checkpoint: which one counts: 'last'.
        silent: what the sources do not say, or what is not compared.
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
    nesterov: bool | None = None
    lr_mult: tuple[tuple[str, float], ...] | None = None
    decay_mult: tuple[tuple[str, float], ...] | None = None
    schedule: tuple[Step, ...] | None = None
    augmentation: tuple[Step, ...] = ()
    sampler: Step | None = None
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
_WARM_UP = Step(
    ("LinearLR",),
    (("begin", (0, None)), ("end", (1500,)), ("end_factor", (1.0, None)), ("by_epoch", (False,))),
    "linear warm-up of 1,500 iterations",
)
# types that change the size of what is in an image; a protocol with fixed crops fixes these, too
_RESIZING = (
    *("Affine", "LongestMaxSize", "RandomChoiceResize", "RandomResize", "RandomResizedCrop"),
    *("RandomScale", "RandomSizedCrop", "Resize", "ResizeAndCropSquare", "ResizeShortestEdge"),
    *("ResizeToMultiple", "ShiftScaleRotate", "SmallestMaxSize"),
)
_CONSTRUCTOR = "DefaultOptimWrapperConstructor"


def _poly(power: float | None, *, begin: int = 0) -> Step:
    """A poly schedule down to 0; a power of None is not fixed."""
    values: tuple[tuple[str, tuple[Any, ...]], ...] = (
        ("begin", (begin,) if begin else (0, None)),
        ("eta_min", (0.0, None)),
        ("by_epoch", (False,)),
    )
    if power is not None:
        values += (("power", (power,)),)
    return Step(("PolyLR",), values, "poly schedule")


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
            nesterov=False,
            lr_mult=(),
            decay_mult=(),
            schedule=(_poly(0.9),),
            augmentation=(
                Step(
                    ("RandomResize",),
                    (("scale", ((1914, 1052),)), ("ratio_range", ((0.5, 2.0),))),
                    "random scale 0.5 to 2.0",
                ),
                Step(
                    ("ClassCrop",),
                    (("rule", ("centroid", None)),),
                    "crops around centroids of classes",
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
            sampler=Step(("ClassUniformSampler",), (("fraction", (0.5, None)),)),
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
                ("Synthia", Evaluation(split=None)),
                ("Mapillary", Evaluation(square=1536)),
            ),
            checkpoint="last",
            silent=(
                "RobustNet's list of SYNTHIA's test images is not built in: the split is not "
                "compared, the line of the data set beside the result says which images it has",
            ),
        ),
        Protocol(
            name="ibnnet-2018",
            title="Pan et al., IBN-Net, ECCV 2018",
            url="https://arxiv.org/abs/1807.09441",
            source="GTA5",
            split="train",
            drop="none",
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
            drop="none",
            max_iters=40_000,
            batch=4,
            train_size=(1280, 720),
            crop=(512, 512),
            optimiser="AdamW",
            lr=1e-4,
            weight_decay=0.05,
            lr_mult=(),
            schedule=(_WARM_UP, _poly(0.9, begin=1500)),
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
                "the backbone and head are the method's, and so is which parameters do not decay",
                "Mapillary was tested on a copy of images "
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
            drop="none",
            max_iters=40_000,
            batch=2,
            train_size=(1280, 720),
            crop=(512, 512),
            optimiser="AdamW",
            lr=6e-5,
            weight_decay=0.01,
            lr_mult=(("decode_head", 10.0),),
            decay_mult=(("norm", 0.0),),
            schedule=(_WARM_UP, _poly(None, begin=1500)),
            augmentation=(
                _CROP_075,
                _FLIP,
                Step(("ClassCrop",), (("rule", ("contains",)),), "crops that show the rare class"),
            ),
            sampler=Step(
                ("RareClassSampler",),
                (("temperature", (0.01, None)), ("min_pixels", (3000, None))),
            ),
            model=(
                ("backbone.type", "MixVisionTransformer", "MiT-B5"),
                ("backbone.num_layers", (3, 6, 40, 3), "MiT-B5"),
            ),
            mode="slide",
            window=(512, 512),
            stride=(256, 256),
            domains=(("Cityscapes", Evaluation(size=(1024, 512))),),
            checkpoint="last",
            silent=(
                "sizes of the other targets, photometric augmentation, power of the poly schedule",
            ),
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
    checkpoint: Provenance | None = None,
    *,
    world_size: int | None = None,
) -> dict[str, Any]:
    """What stands beside a result: ``name`` ('none' where the config names no protocol),
    ``deviations`` and ``text``, one line of both. Arguments as of ``deviations``."""
    name = config.get("protocol") or "none"
    if name == "none":
        return {"name": "none", "deviations": [], "text": "none"}
    found = deviations(config, checkpoint, world_size=world_size)
    text = name
    if found:
        many = "1 deviation" if len(found) == 1 else f"{len(found)} deviations"
        text = f"{name} with {many}: {'; '.join(found)}"
    return {"name": name, "deviations": found, "text": text}


def deviations(
    config: Mapping[str, Any],
    checkpoint: Provenance | None = None,
    *,
    world_size: int | None = None,
) -> list[str]:
    """Differences between a config and the protocol that it names, each in words.

    Args:
        config: a loaded config; its test settings are compared and, without ``checkpoint``, its
            training settings.
        checkpoint: what the tested checkpoint says of its training, which is compared instead of
            the config's. What it does not say is a deviation, but for the number of processes: one
            is assumed.
        world_size: processes of the training where there is no ``checkpoint``; default: those of
            this run (torchrun's WORLD_SIZE).

    Raises:
        ValueError: the config names a protocol that does not exist.
    """
    name = config.get("protocol")
    if not name or name == "none":
        return []
    protocol = get_protocol(name)
    config = _plain(config)
    model = _model(protocol, config)
    if checkpoint is None:
        processes = world_size or int(os.environ.get("WORLD_SIZE", 1))
        return [*_training(protocol, config, processes), *model, *_testing(protocol, config)]
    found = []
    if checkpoint.config is None:
        found.append("the checkpoint does not say how it was trained")
    else:
        trained = _plain(checkpoint.config)
        if (other := trained.get("protocol")) != name:
            found.append(f"the checkpoint was trained under {other or 'no protocol'}")
        found += _training(protocol, trained, checkpoint.world_size or 1)
        found += [f"trained model: {m}" for m in _model(protocol, trained) if m not in model]
    return [*found, *model, *_testing(protocol, config), *_selection(protocol, checkpoint)]


def _selection(protocol: Protocol, checkpoint: Provenance) -> list[str]:
    """Whether the checkpoint is the one that counts."""
    if protocol.checkpoint != "last":
        return []
    if checkpoint.chosen_by is not None:
        return [f"the best checkpoint by {checkpoint.chosen_by}, not the last"]
    if checkpoint.iteration is None:
        return ["iteration of the checkpoint unknown"]
    last = _at(checkpoint.config, "train_cfg.max_iters") or protocol.max_iters
    if last is not None and checkpoint.iteration != last:
        return [f"the checkpoint of iteration {checkpoint.iteration:,} of {last:,}, not the last"]
    return []


# -------------------------------------------------------------------------------------- training


def _training(protocol: Protocol, config: Mapping[str, Any], processes: int) -> list[str]:
    if config.get("train_dataloader") is None:
        return ["the config does not say how the model was trained"]
    loader, dataset = config["train_dataloader"], _at(config, "train_dataloader.dataset") or {}
    steps = _at(config, "optim_wrapper.accumulative_counts") or 1
    batch = loader.get("batch_size")
    out = _Differences()
    for what, found, wanted in (
        ("training data", _name(dataset), protocol.source),
        ("training split", dataset.get("split", "train"), protocol.split),
        ("dropped training images", _dropped(dataset), protocol.drop),
        ("iterations", _at(config, "train_cfg.max_iters"), protocol.max_iters),
        ("batch size", batch and batch * processes * steps, protocol.batch),
    ):
        out.compare(what, found, wanted)
    out.lines += _left_out(dataset, "training images")
    if config.get("load_from") and not config.get("resume"):
        out.lines.append(f"training began with the weights of {config['load_from']}")
    out.lines += _optimisation(protocol, config)
    out.lines += _sampling(protocol.sampler, loader.get("sampler") or {})
    out.lines += _preparation(protocol, dataset.get("pipeline") or ())
    return out.lines


def _optimisation(protocol: Protocol, config: Mapping[str, Any]) -> list[str]:
    wrapper = config.get("optim_wrapper") or {}
    optimiser = wrapper.get("optimizer") or {}
    groups = wrapper.get("paramwise_cfg") or {}
    fixed = None if protocol.lr is None else _CONSTRUCTOR
    out = _Differences()
    for what, found, wanted in (
        ("optimiser", _name(optimiser) or None, protocol.optimiser),
        ("learning rate", optimiser.get("lr"), protocol.lr),
        ("momentum", optimiser.get("momentum", 0), protocol.momentum),
        ("weight decay", optimiser.get("weight_decay", 0), protocol.weight_decay),
        ("Nesterov's momentum", bool(optimiser.get("nesterov")), protocol.nesterov),
        ("constructor of the optimiser", wrapper.get("constructor") or _CONSTRUCTOR, fixed),
        ("factors on the learning rate", _factors(groups, "lr_mult"), _listed(protocol.lr_mult)),
        ("factors on weight decay", _factors(groups, "decay_mult"), _listed(protocol.decay_mult)),
    ):
        out.compare(what, found, wanted)
    if protocol.schedule is not None:
        given = config.get("param_scheduler") or ()
        given = [given] if isinstance(given, Mapping) else list(given)
        expected = [name for step in protocol.schedule for name in step.types]
        for step in protocol.schedule:
            out.lines += _absent(step, given)
        for schedule in given:
            if _name(schedule) == "PolyLR":
                last = _at(config, "train_cfg.max_iters")
                out.compare("end of the poly schedule", schedule.get("end"), last)
        if extra := _surplus(map(_name, given), expected):
            out.lines.append(f"additional schedules {', '.join(extra)}")
    return out.lines


def _sampling(wanted: Step | None, sampler: Mapping[str, Any]) -> list[str]:
    if wanted is None:
        return []
    if _name(sampler) not in wanted.types:
        return [f"training sampler {_name(sampler) or 'none'} instead of {wanted.types[0]}"]
    return _absent(wanted, [sampler])


def _preparation(protocol: Protocol, pipeline: Sequence[Any]) -> list[str]:
    """Differences of the training pipeline."""
    every, certain = list(_steps(pipeline)), list(_steps(pipeline, certain=True))
    crops = [s.get("crop_size") for s in certain if _name(s) in _CROPS]
    sizes = [_pair(s.get("scale")) for s in certain if _name(s) == "Resize"]
    out = _Differences()
    out.compare("training crop", _pair(crops[-1]) if crops else None, protocol.crop)
    out.compare("training images resized to", sizes[0] if sizes else None, protocol.train_size)
    if protocol.crop is not None:
        expected = [name for step in protocol.augmentation for name in step.types]
        expected += ["Resize"] if protocol.train_size is not None else []
        names = [_name(s) for s in every if _name(s) in _RESIZING]
        if extra := _surplus(names, expected):
            out.lines.append(f"additional resizing of training images {', '.join(extra)}")
    for step in protocol.augmentation:
        lines = _absent(step, certain)
        if not any(_name(s) in step.types for s in certain) and not _absent(step, every):
            lines = [f"{step.text}: only within a step that is drawn at random"]
        out.lines += lines
    return out.lines


def _absent(step: Step, entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Nothing if an entry is what the step says, else what differs."""
    found = [entry for entry in entries if _name(entry) in step.types]
    if not found:
        return [f"no {step.text}"]
    wrong: list[str] = []
    for candidate in found:
        wrong = [
            f"{_name(candidate)}.{key} is {_show(candidate.get(key))} instead of "
            f"{_show(allowed[0])}"
            for key, allowed in step.values
            if not any(_same(candidate.get(key), value) for value in allowed)
        ]
        if not wrong:
            return []
    return wrong


def _surplus(names: Iterable[str], expected: Iterable[str]) -> list[str]:
    """Names beyond one of each expected."""
    left, extra = list(expected), []
    for name in names:
        if name in left:
            left.remove(name)
        else:
            extra.append(name)
    return extra


def _factors(groups: Mapping[str, Any], kind: str) -> str | None:
    """Factors other than 1 in mmengine's paramwise_cfg; kind: 'lr_mult' or 'decay_mult'."""
    given = {
        name: value.get(kind, 1)
        for name, value in (groups.get("custom_keys") or {}).items()
        if isinstance(value, Mapping)
    }
    for key, value in groups.items():
        if key.endswith(f"_{kind}") and value is not None:
            given[key.removesuffix(f"_{kind}")] = value
    return _listed(given.items())


def _listed(factors: Iterable[tuple[str, float]] | None) -> str | None:
    if factors is None:
        return None
    return ", ".join(f"{n} x{f:g}" for n, f in sorted(factors) if f != 1) or "none"


def _dropped(dataset: Mapping[str, Any]) -> str:
    drop = dataset.get("drop") or "none"
    return drop if isinstance(drop, str) else f"{len(drop)} of a list"


def _left_out(dataset: Mapping[str, Any], images: str) -> list[str]:
    lines = []
    if dataset.get("limit") is not None or dataset.get("indices") is not None:
        lines.append(f"only a part of the {images}")
    if dataset.get("missing", "error") != "error":
        lines.append(f"{images} without a partner are left out (missing={dataset['missing']!r})")
    return lines


# ---------------------------------------------------------------------------- model and evaluation


def _model(protocol: Protocol, config: Mapping[str, Any]) -> list[str]:
    out = _Differences()
    for path, wanted, text in protocol.model:
        found = _at(config, f"model.{path}")
        if path.endswith(".type"):
            found = found and str(found).rpartition(".")[2]
        out.compare(f"{path} ({text})", found, wanted)
    return out.lines


def _testing(protocol: Protocol, config: Mapping[str, Any]) -> list[str]:
    out = _Differences()
    test = _at(config, "model.test_cfg") or {}
    out.compare("inference", test.get("mode"), protocol.mode)
    if protocol.mode == test.get("mode") == "slide":
        out.compare("windows", _pair(test.get("crop_size")), protocol.window)
        out.compare("stride of the windows", _pair(test.get("stride")), protocol.stride)
    for owner in ("data_preprocessor", "model.data_preprocessor"):
        if any((_at(config, f"{owner}.test_cfg") or {}).values()):
            out.lines.append(f"test images are padded ({owner}.test_cfg)")
    rules = dict(protocol.domains)
    if protocol.source is not None:
        rules.setdefault(protocol.source, Evaluation())
    for name, loader in (config.get("test_dataloader") or {}).items():
        dataset = loader.get("dataset") if isinstance(loader, Mapping) else None
        if dataset is None:  # one loader without domain names
            continue
        rule = rules.get(_name(dataset))
        if rule is None:
            lines = [f"{_name(dataset)} is not one of the protocol's data sets"]
        else:
            lines = _test_images(rule, dataset)
        if (dropped := _dropped(dataset)) not in ("none", protocol.drop):
            lines.append(f"dropped images {dropped}")
        lines += _left_out(dataset, "images")
        steps = list(_steps(dataset.get("pipeline") or ()))
        if any(_name(s) == "LoadLabels" and s.get("unknown") == "ignore" for s in steps):
            lines.append("labels that the data set does not define are ignored")
        if extra := [_name(s) for s in steps if not _ordinary(_name(s))]:
            lines.append(f"additional test steps {', '.join(extra)}")
        out.lines += [f"{name}: {line}" for line in lines]
    return out.lines


def _test_images(rule: Evaluation, dataset: Mapping[str, Any]) -> list[str]:
    steps = list(_steps(dataset.get("pipeline") or ()))
    names = [_name(s) for s in steps]
    out = _Differences()
    out.compare("split", dataset.get("split", "train"), rule.split)
    out.compare("test size", _test_size(steps), _rule_size(rule))
    if "Resize" in names:
        place = names.index("Resize")
        if rule.keep_ratio is not None:
            out.compare("aspect kept", bool(steps[place].get("keep_ratio")), rule.keep_ratio)
        if any(name in ("LoadLabels", "LoadAnnotations") for name in names[:place]):
            out.lines.append("labels are resized with the images")
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

    def compare(self, what: str, found: Any, wanted: Any) -> None:
        """Note a difference; ``wanted`` None is not fixed by the protocol."""
        if wanted is not None and not _same(found, wanted):
            self.lines.append(f"{what} {_show(found)} instead of {_show(wanted)}")


def _plain(config: Any) -> Mapping[str, Any]:
    """mmengine's Config is no mapping, what it holds is. Lists become tuples, for a config that
    was written to a file and read again may have either."""
    plain = config.to_dict() if hasattr(config, "to_dict") else config
    return {key: _frozen(value) for key, value in plain.items()}


_TRANSPARENT = ("Albumentations", "Compose")  # all of their steps are taken


def _steps(pipeline: Sequence[Any], *, certain: bool = False) -> Iterator[Mapping[str, Any]]:
    """All steps, also those within others; ``certain``: not those within RandomApply,
    RandomChoice, OneOf and the like, which take them at random."""
    for step in pipeline:
        if isinstance(step, Mapping):
            transparent = _name(step) in _TRANSPARENT
            if not transparent:
                yield step
            inner = step.get("transforms")
            if isinstance(inner, Mapping):
                inner = (inner,)
            if isinstance(inner, tuple) and (transparent or not certain):
                yield from _steps(inner, certain=certain)
        elif isinstance(step, tuple):
            yield from _steps(step, certain=certain)


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
    return value if isinstance(value, tuple) else (value, value)


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _frozen(inner) for key, inner in value.items()}
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
