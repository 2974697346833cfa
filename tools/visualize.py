#!/usr/bin/env python
"""Look inside networks: figures, with the numbers behind them as a table and a CSV; and at labels.

    python tools/visualize.py divergence --model resnet50 --model resnet50_ibn_a \\
        --weights official --weights official --domain photo=DIR --domain art=DIR
    python tools/visualize.py gates --checkpoint bin.pth
    python tools/visualize.py switches --checkpoint sn.pth
    python tools/visualize.py segmentation CONFIG CHECKPOINT --domain cityscapes --out pictures

`divergence`: how differently the layers see two sets of images (Pan et al. 2018, section 4.3).
`gates`: BIN's gates by depth, 0 is instance norm and 1 batch norm (Nam and Kim 2018).
`switches`: SN's weights of instance, layer and batch statistics by depth (Luo et al. 2019).
`segmentation`: image, truth, prediction and errors side by side.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.cli import run_tool, tool_parser

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor, nn


def main() -> int | None:
    args = parser().parse_args()
    if args.out.suffix.lower() != ".png" and args.run is not show_segmentation:
        raise ValueError(f"--out: the picture is a .png file, got {str(args.out)!r}")
    return args.run(args)


def parser() -> argparse.ArgumentParser:
    top = tool_parser(__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    divergence = commands.add_parser(
        "divergence",
        help="feature divergence between two domains, by depth",
        description="Symmetric KL divergence of the channels' means between two sets of images, "
        "by depth. Several models are compared in one figure; of more than two domains, the first "
        "is compared with each of the others.",
        allow_abbrev=False,
    )
    divergence.add_argument(
        "--model",
        action="append",
        required=True,
        metavar="[LABEL=]NAME_OR_CONFIG",
        help="a name of the zoo (resnet50_ibn_a) or a re-ID config; may be repeated",
    )
    divergence.add_argument(
        "--weights",
        action="append",
        default=[],
        metavar="CKPT",
        help="one for each --model, in the same order: a file, 'official', or 'none' for random "
        "initialisation (the default)",
    )
    divergence.add_argument(
        "--domain",
        action="append",
        required=True,
        metavar="NAME=FOLDER",
        help="images of a domain, folders below included; two or more",
    )
    divergence.add_argument(
        "--size",
        type=parse_size,
        metavar="N|HxW",
        help="N: shorter side to N * 256 / 224, central NxN (ImageNet's); HxW: resized to exactly "
        "this (128x64 for people). Default: a config's test_pipeline, and 224 for names",
    )
    divergence.add_argument("--limit", type=int, metavar="N", help="at most N images of a domain")
    divergence.add_argument("--batch-size", type=int, default=32, metavar="N", help="default 32")
    divergence.add_argument(
        "--seed", type=int, default=0, help="of --limit's choice and random weights; default 0"
    )
    divergence.add_argument("--device", help="cpu, cuda, ...; by default CUDA where there is one")
    divergence.add_argument(
        "--skip-unreadable", action="store_true", help="name images that cannot be read and go on"
    )
    divergence.add_argument("--log", action="store_true", help="logarithmic axis in the picture")
    divergence.set_defaults(run=show_divergence)

    for name, run, text in (
        ("gates", show_gates, "BIN's gates by depth"),
        ("switches", show_switches, "SN's weights of IN, LN and BN by depth"),
    ):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.add_argument(
            "--checkpoint", type=Path, required=True, metavar="CKPT", help="read without a model"
        )
        command.add_argument(
            "--part", metavar="NAME", help="of a file with several sets of weights, e.g. state_dict"
        )
        command.set_defaults(run=run)

    for name, command in commands.choices.items():
        command.add_argument(
            "--out", type=Path, default=Path(f"{name}.png"), help=f"picture; default {name}.png"
        )
        command.add_argument(
            "--csv", type=Path, help="numbers; default: beside the picture, with its name"
        )
    add_segmentation(commands)
    return top


def add_segmentation(commands: Any) -> None:
    command = commands.add_parser(
        "segmentation",
        help="image, truth, prediction and errors side by side",
        description="Labels images of a domain of the config, or image files, and draws image, "
        "truth, prediction and errors (red; what the truth ignores is grey) side by side, with the "
        "legend of the classes.",
        allow_abbrev=False,
    )
    command.add_argument("config", metavar="CONFIG")
    command.add_argument("checkpoint", metavar="CHECKPOINT")
    given = command.add_mutually_exclusive_group(required=True)
    given.add_argument("--domain", metavar="NAME", help="one of the config's test_dataloader")
    given.add_argument("--images", nargs="+", type=Path, metavar="FILE", help="without truth")
    command.add_argument(
        "--data", nargs="+", default=[], metavar="NAME=PATH", help="where a domain's data lie"
    )
    command.add_argument(
        "--limit", type=int, default=8, metavar="N", help="images, spread evenly; default 8"
    )
    command.add_argument("--panel-width", type=int, default=640, metavar="PIXELS")
    command.add_argument("--columns", type=int, metavar="N", help="panels in a row; default: all")
    command.add_argument("--device", help="cpu, cuda, ...; by default CUDA where there is one")
    command.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    command.add_argument(
        "--out",
        type=Path,
        default=Path("segmentation"),
        help="a folder, or a .png: one sheet of all; default segmentation/",
    )
    command.add_argument("--cfg-options", nargs="+", default=[], metavar="KEY=VALUE")
    command.set_defaults(run=show_segmentation)


def parse_size(text: str) -> int | tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected N or HEIGHTxWIDTH, e.g. 128x64; got {text!r}")
    return (int(match[1]), int(match[2])) if match[2] else int(match[1])


# -------------------------------------------------------------------------------------- divergence


class Subject(NamedTuple):
    """A network to look into, and how images are prepared for it."""

    label: str
    name: str
    weights: str
    network: nn.Module
    prepare: Callable[[np.ndarray], Tensor]  # (H, W, 3) uint8 RGB -> (3, H', W') uint8
    normalize: Callable[[Tensor], Tensor]  # (N, 3, H', W') uint8 -> float32
    preparation: str


class Curve(NamedTuple):
    """The divergence of one network between two domains, by layer."""

    subject: Subject
    domains: tuple[str, str]
    images: tuple[int, int]
    channels: list[int]
    values: dict[str, float]
    near_constant: list[int]  # channels whose divergence is a matter of eps

    @property
    def mean(self) -> float:
        return sum(self.values.values()) / len(self.values)


def show_divergence(args: argparse.Namespace) -> None:
    for option in ("limit", "batch_size"):
        value = getattr(args, option)
        if value is not None and value < 1:
            raise ValueError(f"--{option.replace('_', '-')}: expected 1 or more, got {value}")
    domains = find_images(args.domain, args.limit, args.seed)
    subjects = load_subjects(args)

    from backbones.divergence import (
        divergence,
        divergence_by_chance,
        feature_statistics,
        near_constant,
    )

    curves: list[Curve] = []
    unreadable: dict[str, str] = {}
    total = len(subjects) * sum(map(len, domains.values()))
    with progress_bar("images", total) as advance:
        for subject in subjects:
            found = {}
            for name, paths in domains.items():
                batches = image_batches(
                    subject, paths, args.batch_size, unreadable, args.skip_unreadable, advance
                )
                try:
                    found[name] = feature_statistics(subject.network, batches)
                except ValueError as error:
                    raise type(error)(f"{subject.label} on domain {name!r}: {error}") from error
            first, *others = found
            for other in others:
                values = divergence(found[first], found[other])
                images = tuple(next(iter(found[n].values())).count for n in (first, other))
                channels = [len(layer.mean) for layer in found[first].values()]
                pairs_of_layers = zip(found[first].values(), found[other].values(), strict=True)
                constant = [int(near_constant(*pair).sum()) for pair in pairs_of_layers]
                curves.append(Curve(subject, (first, other), images, channels, values, constant))

    for path, reason in list(unreadable.items())[:5]:
        print(f"skipped {path}: {reason}")
    if len(unreadable) > 5:
        print(f"skipped {len(unreadable) - 5:,} further images that cannot be read")
    pairs = {
        f"{c.domains[0]} ({c.images[0]:,} images) against {c.domains[1]} ({c.images[1]:,})": c
        for c in curves
    }
    chance = [divergence_by_chance(*c.images) for c in pairs.values()]
    chosen = f"at most {args.limit:,} images each, seed {args.seed}" if args.limit else "all images"
    data = f"{'; '.join(pairs)}; {chosen}"
    for group in by_layers(curves):
        print_table(
            ["layer", "channels", *(curve_name(c, len(pairs)) for c in group)],
            [
                [layer, str(group[0].channels[i]), *(f"{c.values[layer]:.3f}" for c in group)]
                for i, layer in enumerate(group[0].values)
            ]
            + [["mean over layers", "", *(f"{c.mean:.3f}" for c in group)]],
        )
    print(
        "symmetric KL divergence, in nats, of the channels' means over positions, averaged over "
        "channels (Pan et al. 2018, 4.3)"
    )
    print("\n".join([data, *protocol(subjects)]))
    expected = " or ".join(f"{value:.3f}" for value in dict.fromkeys(chance))
    print(f"two random samples of one domain, of these sizes, would differ by {expected}")
    for curve in curves:
        if any(curve.near_constant):
            print(
                f"warning: {curve_name(curve, len(pairs))}: {sum(curve.near_constant):,} of "
                f"{sum(curve.channels):,} channels are next to constant in one domain and may "
                "outweigh the others (near_constant in the CSV); take more images"
            )
    with figure(9.5 if len(curves) <= 3 else 12.5, 5.2) as (fig, save):
        draw_divergence(fig.subplots(), curves, len(pairs), max(chance), args.log)
        lines = [data, *protocol(subjects, short=True)]
        footer = "\n".join(textwrap.fill(line, 160) for line in lines)
        fig.supxlabel(footer, fontsize=7.5, color=FAINT, x=0.01, ha="left")
        save(args.out)
    rows = [
        [
            *(c.subject.label, c.subject.name, c.subject.weights, c.subject.preparation),
            *(args.seed, *c.domains, *c.images),
            *(depth, layer, channels, c.near_constant[depth], f"{c.values[layer]:.6g}"),
        ]
        for c in curves
        for depth, (layer, channels) in enumerate(zip(c.values, c.channels, strict=True))
    ]
    header = "model,network,weights,preparation,seed,domain_a,domain_b,images_a,images_b"
    finish(args, f"{header},depth,layer,channels,near_constant,divergence", rows)


def protocol(subjects: Sequence[Subject], short: bool = False) -> list[str]:
    """What was compared, and how images were prepared; once, where it is the same for all."""

    def text(path: str) -> str:
        return "/".join(Path(path).parts[-2:]) if short else path

    lines = [f"{s.label}: {text(s.name)}, weights: {text(s.weights)}" for s in subjects]
    preparations = [s.preparation for s in subjects]
    if len(set(preparations)) == 1:
        return [*lines, f"images: {preparations[0]}"]
    return [f"{line}; images: {p}" for line, p in zip(lines, preparations, strict=True)]


def find_images(texts: Sequence[str], limit: int | None, seed: int) -> dict[str, list[str]]:
    """NAME=FOLDER ... -> sorted image paths by name, ``limit`` of them drawn with ``seed``."""
    import random

    from imaging.files import IMAGE_EXTENSIONS, list_images

    domains: dict[str, list[str]] = {}
    for text in texts:
        name, separator, folder = text.partition("=")
        if not (name and separator and folder):
            raise ValueError(f"--domain: expected NAME=FOLDER, got {text!r}")
        if name in domains:
            raise ValueError(f"--domain: two domains are called {name!r}; give each its own name")
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"--domain {name}: no folder at {folder}; check the path")
        paths = list(list_images(folder, recursive=True))
        if not paths:
            kinds = ", ".join(sorted(IMAGE_EXTENSIONS))
            raise ValueError(f"--domain {name}: no images ({kinds}) in {folder} or below")
        if limit is not None and limit < len(paths):
            paths = sorted(random.Random(seed).sample(paths, limit))
        if len(paths) < 2:
            raise ValueError(
                f"--domain {name}: one image, {paths[0]}; a variance over images needs two or "
                "more, and a meaningful one some hundred"
            )
        domains[name] = paths
    if len(domains) < 2:
        raise ValueError("--domain: a divergence is between two domains; give two or more")
    return domains


def load_subjects(args: argparse.Namespace) -> list[Subject]:
    weights = args.weights or ["none"] * len(args.model)
    if len(weights) != len(args.model):
        raise ValueError(
            f"--weights: expected one for each of the {len(args.model)} models ('none' for random "
            f"initialisation) or none at all, got {len(weights)}"
        )
    import torch

    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    subjects = [
        load_subject(m, w, args.size, args.seed, device)
        for m, w in zip(args.model, weights, strict=True)
    ]
    for label in {s.label for s in subjects}:
        same = [s for s in subjects if s.label == label]
        if len(same) > 1:
            raise ValueError(
                f"--model: {len(same)} models are called {label!r}; give each a label, e.g. "
                f"--model before={same[0].name} --model after={same[1].name}"
            )
    return subjects


def load_subject(
    text: str, weights: str, size: int | tuple[int, int] | None, seed: int, device: Any
) -> Subject:
    import torch

    match = re.fullmatch(r"(?:(?P<label>[^=/\\]+)=)?(?P<name>.+)", text)
    if match is None:
        raise ValueError(f"--model: expected [LABEL=]NAME_OR_CONFIG, got {text!r}")
    name = match["name"]
    file = None if weights == "none" else weights
    torch.manual_seed(seed)
    if name.endswith(".py"):
        from reid.inference import FeatureExtractor

        if file == "official":
            raise ValueError(f"--weights official: published weights are of zoo names, not {name}")
        extractor = FeatureExtractor(name, file, device)
        network, normalizer = extractor.model.backbone, extractor.model.data_preprocessor
        prepare: Callable[[np.ndarray], Tensor] = extractor.transforms
        steps = (
            f"{step['type']}({', '.join(f'{k}={v}' for k, v in step.items() if k != 'type')})"
            for step in extractor.transforms.config
        )
        preparation = f"{', '.join(steps)}"
    else:
        from backbones import create_model
        from engine.normalizer import ImageNormalizer

        network = create_model(name, num_classes=0, weights=file).to(device)
        normalizer = ImageNormalizer().to(device)
        size = size or 224
    if size is not None:
        prepare, preparation = resizing(size)
    mean, std = (
        "/".join(f"{value:g}" for value in table.flatten().tolist())
        for table in (normalizer.mean, normalizer.std)
    )
    return Subject(
        label=match["label"] or Path(name).stem,
        name=name,
        weights=f"random initialisation (seed {seed})" if file is None else weights,
        network=network,
        prepare=prepare,
        normalize=lambda images: normalizer.normalize(images.to(device)),
        preparation=f"{preparation}, RGB mean {mean}, std {std}",
    )


def resizing(size: int | tuple[int, int]) -> tuple[Callable[[np.ndarray], Tensor], str]:
    """The preparation that ``--size`` asks for, and its name."""
    import cv2
    import numpy as np
    import torch

    def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
        shrinks = height * width < image.shape[0] * image.shape[1]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return cv2.resize(image, (width, height), interpolation=how)

    def exactly(image: np.ndarray) -> Tensor:
        return torch.from_numpy(resize(image, *size)).permute(2, 0, 1)

    def centre(image: np.ndarray) -> Tensor:
        scale = round(size * 256 / 224) / min(image.shape[:2])
        image = resize(image, round(image.shape[0] * scale), round(image.shape[1] * scale))
        top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
        crop = image[top : top + size, left : left + size]
        return torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1)

    if isinstance(size, tuple):
        return exactly, f"resized to {size[0]}x{size[1]}"
    return centre, f"shorter side {round(size * 256 / 224)}, central {size}x{size}"


def image_batches(
    subject: Subject,
    paths: Sequence[str],
    batch_size: int,
    unreadable: dict[str, str],
    skip: bool,
    advance: Callable[[int], None],
) -> Iterator[Tensor]:
    """Batches of a domain, prepared; what cannot be read is an error, or noted and left out."""
    from concurrent.futures import ThreadPoolExecutor

    import torch

    from imaging.files import UnreadableImageError, read_image

    def load(path: str) -> np.ndarray | UnreadableImageError:
        try:
            return read_image(path)
        except UnreadableImageError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(paths), batch_size):
            images = []
            for image in pool.map(load, paths[start : start + batch_size]):
                if not isinstance(image, UnreadableImageError):
                    images.append(subject.prepare(image))
                elif skip:
                    unreadable[image.path] = image.reason
                else:
                    raise UnreadableImageError(f"{image}; --skip-unreadable leaves it out")
            if images:
                yield subject.normalize(torch.stack(images))
            advance(len(paths[start : start + batch_size]))


def by_layers(curves: Sequence[Curve]) -> list[list[Curve]]:
    """Curves whose layers can be compared one by one, together."""
    groups: dict[tuple[str, ...], list[Curve]] = {}
    for curve in curves:
        groups.setdefault((*curve.values, *map(str, curve.channels)), []).append(curve)
    return list(groups.values())


def curve_name(curve: Curve, pairs: int) -> str:
    return curve.subject.label + (f", {' / '.join(curve.domains)}" if pairs > 1 else "")


def draw_divergence(
    axes: Axes, curves: Sequence[Curve], pairs: int, chance: float, logarithmic: bool
) -> None:
    same_layers = len({tuple(c.values) for c in curves}) == 1
    colours = {label: i for i, label in enumerate(dict.fromkeys(c.subject.label for c in curves))}
    styles = {domains: i for i, domains in enumerate(dict.fromkeys(c.domains for c in curves))}
    for curve in curves:
        values = list(curve.values.values())
        last = max(1, len(values) - 1)
        colour = colours[curve.subject.label] % len(COLOURS)
        axes.plot(
            [i if same_layers else i / last for i in range(len(values))],
            values,
            color=COLOURS[colour],
            marker="osD^vPX"[colour],
            linestyle=("-", "--", ":", "-.")[styles[curve.domains] % 4],
            markersize=5.5,
            linewidth=1.8,
            label=f"{curve_name(curve, pairs)} (mean {curve.mean:.2f})",
        )
    top = max(value for curve in curves for value in curve.values.values())
    if logarithmic or top / 50 < chance < top:
        axes.axhline(
            chance,
            color=FAINT,
            linewidth=1,
            linestyle=(0, (1, 2)),
            label=f"by chance ({chance:.3f})",
        )
    if same_layers:
        layers = list(curves[0].values)
        shade_stages(axes, layers)
        axes.set_xticks(range(len(layers)), layers, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_xlim(-0.5, len(layers) - 0.5)
    else:
        axes.set_xlabel("relative depth (0 the stem, 1 the last block)")
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    axes.set_ylabel("feature divergence [nats]")
    first, *others = dict.fromkeys(name for c in curves for name in c.domains)
    title = f"between {first} and {others[0]}" if len(others) == 1 else f"of {first} against others"
    axes.set_title(f"Feature divergence {title}", loc="left")
    if len(curves) <= 3:
        axes.legend(frameon=False)
    else:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


# ----------------------------------------------------------------------------- gates and switches


def show_gates(args: argparse.Namespace) -> None:
    gates, outside = read_gates(args.checkpoint, args.part)
    everything = [value for values in gates.values() for value in values]

    def row(name: str, values: Sequence[float]) -> list[str]:
        low, high = share(values, 0, 0.1), share(values, 0.9, 1)
        mean = sum(values) / len(values)
        return [name, str(len(values)), f"{mean:.3f}", f"{100 * low:.1f}", f"{100 * high:.1f}"]

    print_table(
        ["layer", "channels", "mean gate", "% below 0.1 (IN)", "% above 0.9 (BN)"],
        [row(name, values) for name, values in gates.items()] + [row("all layers", everything)],
    )
    print(f"{args.checkpoint}: gates of BIN, 0 is instance norm, 1 batch norm")
    if outside:
        print(f"{outside:,} gates lie outside [0, 1] and count as the nearest bound, as in BIN")
    with figure(5 + min(18.0, 0.24 * max(18, len(gates))), 5) as (fig, save):
        draw_gates(fig, gates, f"BIN's gates: {args.checkpoint.name}")
        save(args.out)
    rows = [
        [depth, layer, channel, f"{value:.6g}"]
        for depth, (layer, values) in enumerate(gates.items())
        for channel, value in enumerate(values)
    ]
    finish(args, "depth,layer,channel,gate", rows)


def read_gates(path: Path, part: str | None = None) -> tuple[dict[str, list[float]], int]:
    """Gates by layer in order of depth, brought into [0, 1], and how many lay outside."""

    def select(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # a BIN has running statistics of the same shape; other things are called gate, too
        return {
            name: state[key]
            for key in state
            if (name := parent(key, "gate")) is not None
            and state[key].ndim == 1
            and (mean := state.get(join(name, "running_mean"))) is not None
            and mean.shape == state[key].shape
        }

    found = read_layers(path, part, select, "BIN gates (NAME.gate beside NAME.running_mean)")
    outside = sum(int(((g < 0) | (g > 1)).sum()) for g in found.values())
    return {name: gate.clamp(0, 1).tolist() for name, gate in found.items()}, outside


def show_switches(args: argparse.Namespace) -> None:
    switches = read_switches(args.checkpoint, args.part)
    percent = [
        [name, *(f"{100 * w:.1f}" for table in tables for w in table)]
        for name, tables in switches.items()
    ]
    means = [
        sum(tables[kind][k] for tables in switches.values()) / len(switches)
        for kind in (0, 1)
        for k in range(3)
    ]
    print_table(
        ["layer, percent", *(f"{kind} {s}" for kind in ("mean", "var") for s in STATISTICS)],
        [*percent, ["mean over layers", *(f"{100 * value:.1f}" for value in means)]],
    )
    print(f"{args.checkpoint}: softmax of SN's mean_weight and var_weight")
    with figure(3 + min(20.0, 0.24 * max(24, len(switches))), 6) as (fig, save):
        draw_switches(fig, switches, f"SN's switches: {args.checkpoint.name}")
        save(args.out)
    rows = [
        [depth, layer, kind, *(f"{w:.6g}" for w in table)]
        for depth, (layer, tables) in enumerate(switches.items())
        for kind, table in zip(("mean", "var"), tables, strict=True)
    ]
    finish(args, "depth,layer,moment,in,ln,bn", rows)


def read_switches(
    path: Path, part: str | None = None
) -> dict[str, tuple[list[float], list[float]]]:
    """Softmaxed weights of (mean, var) over [IN, LN, BN] by layer, in order of depth."""

    def select(state: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor, bool]]:
        found = {}
        for key, mean in state.items():
            name = parent(key, "mean_weight")
            var = None if name is None else state.get(join(name, "var_weight"))
            if name is not None and var is not None and mean.shape == var.shape in ((2,), (3,)):
                found[name] = (mean, var, join(name, "running_mean") in state)
        return found

    def spread(weights: Tensor, has_batch: bool) -> list[float]:
        values: list[float] = weights.softmax(0).tolist()
        if len(values) == 3:
            return values
        # two are left: IN and LN without batch statistics, LN and BN for features without positions
        return [0.0, *values] if has_batch else [*values, 0.0]

    what = "SN switches (NAME.mean_weight and NAME.var_weight of 2 or 3 numbers)"
    found = read_layers(path, part, select, what)
    return {name: (spread(m, has), spread(v, has)) for name, (m, v, has) in found.items()}


def read_layers(
    path: Path,
    part: str | None,
    select: Callable[[Mapping[str, Tensor]], dict[str, Any]],
    what: str,
) -> dict[str, Any]:
    """What ``select`` finds in the one set of weights that has any, in order of depth."""
    import torch

    from backbones.checkpoint import CheckpointError, read_checkpoint

    groups = dict(tensor_groups(read_checkpoint(path)))
    found = {name: layers for name, state in groups.items() if (layers := select(state))}
    if not found:
        raise CheckpointError(f"{path} holds no {what}; it holds {describe(groups)}")
    if part is not None and part not in found:
        raise CheckpointError(f"{path}: no part {part!r} with {what}, but {', '.join(found)}")
    if part is None and len(found) > 1:
        raise CheckpointError(
            f"{path} holds several sets of weights ({', '.join(found)}); choose with --part"
        )
    layers = found[part] if part is not None else next(iter(found.values()))
    for name, tensors in layers.items():
        for value in tensors if isinstance(tensors, tuple) else (tensors,):
            if isinstance(value, torch.Tensor) and not value.isfinite().all():
                raise CheckpointError(f"{path}: {name} holds numbers that are not finite")
    names = list(layers)
    if names == sorted(names):  # safetensors files are in alphabetical order: layer10 before layer2
        names.sort(key=natural)
    return {label: layers[name] for name, label in zip(names, shortened(names), strict=True)}


def tensor_groups(
    content: Mapping[Any, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(place in the file, its float tensors in float32) for every dict that holds some itself."""
    import torch

    tensors = {
        str(key): value.detach().float()
        for key, value in content.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    }
    if tensors:
        yield ".".join(path) or "top", tensors
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from tensor_groups(value, (*path, str(key)))


def describe(groups: Mapping[str, Mapping[str, Tensor]]) -> str:
    """What a checkpoint is, for a person who expected something else."""
    from backbones.recognise import recognise

    if not groups:
        return "no float tensors at all"
    name = max(groups, key=lambda g: len(groups[g]))
    state = groups[name]
    found = recognise({key: tuple(value.shape) for key, value in state.items()})
    keys = ", ".join(list(state)[:4])
    return (f"{found}, " if found else "") + f"{len(state):,} tensors ({keys}, ...)"


def parent(key: str, leaf: str) -> str | None:
    """'a.b' for 'a.b.leaf', '' for 'leaf', None for another key."""
    head, _, tail = key.rpartition(".")
    return head if tail == leaf else None


def join(name: str, leaf: str) -> str:
    return f"{name}.{leaf}" if name else leaf


def natural(name: str) -> tuple[bool, list[tuple[bool, int, str]]]:
    """Sorts layer2 before layer10, and a last norm (bn_out) last."""
    pieces = re.findall(r"\d+|\D+", name)
    return name.endswith("bn_out"), [
        (not p.isdigit(), int(p) if p.isdigit() else 0, p) for p in pieces
    ]


def shortened(names: Sequence[str]) -> list[str]:
    """Without the wrappers that all names share, such as 'module.backbone.'."""
    parts = [name.split(".") for name in names]
    wrappers = 0
    for components in zip(*(p[:-1] for p in parts), strict=False):
        if len(set(components)) > 1 or re.search(r"\d", components[0]):
            break
        wrappers += 1
    return [".".join(p[wrappers:]) or "norm" for p in parts]


def share(values: Sequence[float], low: float, high: float) -> float:
    return sum(low <= value <= high for value in values) / len(values)


def draw_gates(fig: Figure, gates: Mapping[str, Sequence[float]], title: str) -> None:
    import numpy as np

    edges = np.linspace(0, 1, 21)
    counts = np.array([np.histogram(values, edges)[0] for values in gates.values()])
    fig.suptitle(title, x=0.01, ha="left")
    left, right = fig.subplots(1, 2, sharey=True, width_ratios=[3, fig.get_figwidth() - 4.5])
    total = 100 * counts.sum(0) / counts.sum()
    left.barh(edges[:-1], total, height=np.diff(edges), align="edge", color=COLOURS[0])
    left.set_title("all layers", loc="left", fontsize=10)
    left.set_xlabel("share of the gates [%]")
    left.set_ylabel("gate   (0 instance norm, 1 batch norm)")
    left.set_ylim(0, 1)

    shares = 100 * counts / counts.sum(1, keepdims=True)  # (layers, bins)
    columns = np.arange(len(gates) + 1) - 0.5
    mesh = right.pcolormesh(columns, edges, shares.T, cmap="Blues", vmin=0)
    means = [sum(values) / len(values) for values in gates.values()]
    right.plot(means, color=COLOURS[1], marker="o", markersize=4, linewidth=1.2)
    right.set_title("by depth; the line is the mean", loc="left", fontsize=10)
    label_layers(right, list(gates))
    fig.colorbar(mesh, ax=right, label="share of the layer's gates [%]", pad=0.01)


STATISTICS = ("IN", "LN", "BN")


def draw_switches(
    fig: Figure, switches: Mapping[str, tuple[list[float], list[float]]], title: str
) -> None:
    fig.suptitle(title, x=0.01, ha="left")
    panels = fig.subplots(2, 1, sharex=True)
    for kind, axes in enumerate(panels):
        bottom = [0.0] * len(switches)
        for k, name in enumerate(STATISTICS):
            heights = [tables[kind][k] for tables in switches.values()]
            colour = (COLOURS[2], COLOURS[4], COLOURS[0])[k]
            axes.bar(range(len(heights)), heights, 0.9, bottom=bottom, color=colour, label=name)
            bottom = [b + h for b, h in zip(bottom, heights, strict=True)]
        axes.set_ylim(0, 1)
        axes.set_ylabel(f"weight in the {('mean', 'variance')[kind]}")
    label_layers(panels[1], list(switches))
    panels[0].tick_params(axis="x", length=0, labelbottom=False)
    handles, labels = panels[0].get_legend_handles_labels()
    fig.legend(handles[::-1], labels[::-1], loc="outside right center", frameon=False)


# ------------------------------------------------------------------------------------ segmentation


def show_segmentation(args: argparse.Namespace) -> None:
    for option in ("limit", "panel_width"):
        if getattr(args, option) < 1:
            name = option.replace("_", "-")
            raise ValueError(f"--{name}: expected 1 or more, got {getattr(args, option)}")
    if args.columns is not None and args.columns < 1:
        raise ValueError(f"--columns: expected 1 or more, got {args.columns}")
    as_sheet = args.out.suffix.lower() == ".png"
    if args.out.suffix and not as_sheet and not args.out.is_dir():
        raise ValueError(f"--out: a folder or a .png file, got {str(args.out)!r}")

    from engine.atomic import write_bytes
    from engine.cli import load_config
    from seg.inference import Segmenter
    from seg.visualization import compare, encode_picture, labelled_images, sheet

    config = load_config(args.config, args.cfg_options)
    if args.data:
        from seg.data_options import set_roots

        set_roots(config, args.data)
    if args.images:
        absent = [str(path) for path in args.images if not path.is_file()]
        if absent:
            raise FileNotFoundError(f"no image at {', '.join(absent)}")
        items = [(str(path), None) for path in args.images]
    else:
        items = labelled_images(config, args.domain, args.limit)
    segmenter = Segmenter(config, args.checkpoint, args.device, dtype=args.dtype)
    pictures, written = [], []
    with progress_bar("images", len(items)) as advance:
        for name, picture in compare(
            segmenter, items, panel_width=args.panel_width, columns=args.columns
        ):
            if as_sheet:
                pictures.append(picture)
            else:
                written.append(args.out / f"{len(written):03d}_{name}.png")
                args.out.mkdir(parents=True, exist_ok=True)
                write_bytes(written[-1], encode_picture(picture))
            advance(1)
    if as_sheet:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(args.out, encode_picture(sheet(pictures)))
    print(f"written: {args.out}" + ("" if as_sheet else f", {len(written)} pictures"))


# ------------------------------------------------------------------- figures, tables, files, bars

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, which colour-blind readers can tell apart."""
FAINT = "#57606a"


@contextmanager
def figure(width: float, height: float) -> Iterator[tuple[Figure, Callable[[Path], None]]]:
    """``with figure(width, height) as (fig, save)``, in inches; ``save(path)`` writes a PNG.

    The same on every machine: neither the user's matplotlib settings nor the time enter.
    """
    import io

    import matplotlib
    from matplotlib.figure import Figure

    from engine.atomic import write_bytes

    settings = {**matplotlib.rcParamsDefault, "font.family": ["DejaVu Sans"], "font.size": 10}
    settings |= {"axes.spines.top": False, "axes.spines.right": False}
    settings |= {"text.parse_math": False}  # labels may hold a dollar sign
    settings.pop("backend")
    with matplotlib.rc_context(settings):
        fig = Figure(figsize=(width, height), dpi=120, layout="constrained")

        def save(path: Path) -> None:
            buffer = io.BytesIO()
            fig.savefig(buffer, format="png", metadata={"Software": None})
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, buffer.getvalue())

        yield fig, save


def label_layers(axes: Axes, layers: Sequence[str]) -> None:
    size = 8 if len(layers) <= 80 else 6
    axes.set_xticks(range(len(layers)), layers, rotation=90, fontsize=size)
    axes.set_xlim(-0.5, len(layers) - 0.5)


def shade_stages(axes: Axes, layers: Sequence[str]) -> None:
    """A grey band behind every other stage of a network."""
    stages = [layer.rpartition(".")[0] or layer for layer in layers]
    names = list(dict.fromkeys(stages))
    for name in names[1::2]:
        inside = [i for i, stage in enumerate(stages) if stage == name]
        axes.axvspan(inside[0] - 0.5, inside[-1] + 0.5, color="#f2f4f6", zorder=0)


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The last row is the summary."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left")
    for row in rows[:-1]:
        table.add_row(*row)
    table.add_section()
    table.add_row(*rows[-1])
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 160  # rich assumes 80 columns for a file or pipe
    console.print(table)


def finish(args: argparse.Namespace, header: str, rows: Sequence[Sequence[object]]) -> None:
    import csv
    import io

    from engine.atomic import write_bytes

    path = args.csv or args.out.with_suffix(".csv")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header.split(","))
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.getvalue().encode())
    print(f"\nwritten: {args.out}, {path}")


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """``with progress_bar(title, total) as advance``; on stderr, with the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeLeft())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)


if __name__ == "__main__":
    run_tool(main)
