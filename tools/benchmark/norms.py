#!/usr/bin/env python
"""Time and memory of every norm against torch's BatchNorm and the papers' formulation.

    python tools/benchmark/norms.py                    # layers, and ResNet-50 training steps
    python tools/benchmark/norms.py --quick            # one shape, few repeats: a minute
    python tools/benchmark/norms.py --device cuda --csv docs/results/norms_h200.csv

Everything runs in one process, layer after layer in turn, and medians are compared, so that what
disturbs the machine disturbs all alike. "plain" is the paper's formula written down in ordinary
torch operations, as the authors' codes do. Kept: what the layer holds for the backward, in copies
of its input. Bandwidth: bytes that 2 reads and 1 write (forward), 6 reads and 2 writes (with
backward) have to move, against what copying the tensor reaches.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import run_tool

if TYPE_CHECKING:
    from torch import Tensor, nn

SHAPES = ((32, 256, 56, 56), (16, 64, 112, 112))
NETWORKS = ("resnet50", "resnet50_ibn_a", "resnet50_bin", "resnet50_sn", "resnet50_ilm_gn")
MODES = ("forward", "forward + backward", "eval")
PASSES = {"forward": 3, "forward + backward": 8, "eval": 3}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--repeats", type=int, default=11, help="per measurement (default 11)")
    parser.add_argument("--quick", action="store_true", help="first shape, float32, 5 repeats")
    parser.add_argument("--skip-networks", action="store_true", help="layers only")
    parser.add_argument("--skip-layers", action="store_true", help="training steps only")
    parser.add_argument("--batch", type=int, default=16, help="images of a training step")
    parser.add_argument("--size", type=int, default=224, help="their height and width")
    parser.add_argument("--csv", metavar="FILE", help="write every measurement there, too")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()

    import torch
    from rich.console import Console
    from tqdm import tqdm

    from engine.manifest import device_name

    for name in ("repeats", "batch", "size"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name}: expected 1 or more, got {getattr(args, name)}")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("error: no CUDA device was found; leave --device out for the CPU")
    if args.quick:
        args.repeats = min(args.repeats, 5)
    where = f"{device_name()}, torch {torch.__version__}"
    if args.device == "cpu":
        where += f", {torch.get_num_threads()} threads"
    dtypes = (torch.float32,) if args.quick else (torch.float32, torch.bfloat16)
    formats = (torch.contiguous_format, torch.channels_last)
    records: list[dict[str, Any]] = []
    console = Console()
    console.width = max(console.width, 120)

    if not args.skip_layers:
        cases = list(itertools.product(SHAPES[: 1 if args.quick else 2], dtypes, formats))
        for shape, dtype, memory_format in tqdm(cases, unit="case", disable=None):
            rows = measure_layers(args, shape, dtype, memory_format)
            records += [{"where": where, **row} for row in rows]
            case = f"{shape}, {name_of(dtype)}, {name_of(memory_format)}"
            console.print(layer_table(rows, f"{case}; {where}"))
    if not args.skip_networks:
        rows = measure_networks(args, dtypes)
        records += [{"where": where, **row} for row in rows]
        console.print(network_table(rows, args, where))
    if args.csv:
        write_csv(Path(args.csv), records)


def measure_layers(
    args: argparse.Namespace, shape: tuple[int, ...], dtype: Any, memory_format: Any
) -> list[dict[str, Any]]:
    import torch

    torch.manual_seed(0)
    x = torch.randn(shape, device=args.device).to(dtype).contiguous(memory_format=memory_format)
    gy = torch.randn(shape, device=args.device).to(dtype).contiguous(memory_format=memory_format)
    x.requires_grad_()
    layers = {name: layer.to(args.device) for name, layer in candidates(shape[1]).items()}

    def training_step(layer: nn.Module) -> None:
        x.grad = None
        layer.zero_grad()
        layer(x).backward(gy)

    @torch.no_grad()
    def forward(layer: nn.Module) -> None:
        layer(x)

    functions = {"forward": forward, "forward + backward": training_step, "eval": forward}
    target = torch.empty_like(x)
    copy_time = statistics.median(timed({"copy": partial(target.copy_, x.detach())}, args)["copy"])
    del target
    rows = []
    for mode, function in functions.items():
        for layer in layers.values():
            layer.train(mode != "eval")
        seconds = timed({name: partial(function, layer) for name, layer in layers.items()}, args)
        base = statistics.median(seconds["BN (torch)"])
        for name, values in seconds.items():
            median = statistics.median(values)
            rows.append(
                {
                    "shape": "x".join(map(str, shape)),
                    "dtype": name_of(dtype),
                    "format": name_of(memory_format),
                    "layer": name,
                    "mode": mode,
                    "ms": round(median * 1e3, 3),
                    "against_bn": round(median / base, 3),
                    "bandwidth_of_copy": round(PASSES[mode] / 2 * copy_time / median, 3),
                    "kept_inputs": round(kept(layers[name], x), 2),
                }
            )
    return rows


def candidates(channels: int) -> dict[str, nn.Module]:
    from torch import nn

    from backbones.norm import BIN, GN, IBN, ILM, IN, LN, SN

    layers: dict[str, nn.Module] = {
        "BN (torch)": nn.BatchNorm2d(channels),
        "IN (torch)": nn.InstanceNorm2d(channels, affine=True),
        "IN": IN(channels),
        "LN": LN(channels),
        "GN": GN(channels),
        "IBN": IBN(channels),
        "BIN": BIN(channels),
        "SN": SN(channels),
        "ILM-IN": ILM(channels, "in"),
        "ILM-LN": ILM(channels, "ln"),
        "ILM-GN": ILM(channels, "gn"),
    }
    formulas = {"IBN": plain_ibn, "BIN": plain_bin, "SN": plain_sn, "ILM-GN": plain_ilm_gn}
    for name, formula in formulas.items():
        layers[f"{name} (plain)"] = formulated(layers[name], formula)
    layers["BN (torch) + ReLU"] = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
    layers["SN + ReLU"] = formulated(SN(channels), lambda layer, x: layer(x, relu=True))
    return layers


def formulated(layer: nn.Module, formula: Callable[[Any, Tensor], Tensor]) -> nn.Module:
    """A copy of the layer that computes the formula with its parameters."""
    import copy

    from torch import nn

    class Formulated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = copy.deepcopy(layer)

        def forward(self, x: Tensor) -> Tensor:
            return formula(self.layer, x)

    return Formulated()


def plain_ibn(layer: Any, x: Tensor) -> Tensor:
    import torch

    first, second = x.split([layer.IN.num_features, layer.BN.num_features], 1)
    return torch.cat((layer.IN(first.contiguous()), layer.BN(second.contiguous())), 1)


def plain_bin(layer: Any, x: Tensor) -> Tensor:
    from torch.nn import functional as F

    gate = layer.gate
    statistics_ = (layer.running_mean, layer.running_var)
    weight, bias, dtype = layer.weight, layer.bias, x.dtype
    batch = F.batch_norm(x, *statistics_, weight * gate, bias, layer.training, layer.momentum)
    instance = F.instance_norm(x)
    return batch + (weight * (1 - gate)).to(dtype).view(1, -1, 1, 1) * instance


def plain_sn(layer: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    wide = x.reshape(n, c, -1).float()
    mean_in, var_in = wide.mean(-1, keepdim=True), wide.var(-1, keepdim=True)
    square = var_in + mean_in**2
    mean_ln = mean_in.mean(1, keepdim=True)
    var_ln = square.mean(1, keepdim=True) - mean_ln**2
    if layer.training:
        mean_bn = mean_in.mean(0, keepdim=True)
        var_bn = square.mean(0, keepdim=True) - mean_bn**2
        layer.running_mean.mul_(layer.momentum).add_(mean_bn.detach(), alpha=1 - layer.momentum)
        layer.running_var.mul_(layer.momentum).add_(var_bn.detach(), alpha=1 - layer.momentum)
    else:
        mean_bn, var_bn = layer.running_mean, layer.running_var
    u, v = layer.mean_weight.softmax(0), layer.var_weight.softmax(0)
    mean = u[0] * mean_in + u[1] * mean_ln + u[2] * mean_bn
    var = v[0] * var_in + v[1] * var_ln + v[2] * var_bn
    y = ((wide - mean) / (var + layer.eps).sqrt()).view(n, c, h, w)
    return (y * layer.weight + layer.bias).to(x.dtype)


def plain_ilm_gn(layer: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    wide = x.float()
    keys = wide.reshape(n, c // 16, -1)
    omega = layer.fc_weight(keys.var(-1)).repeat_interleave(16, 1).view(n, c, 1, 1)
    beta = layer.fc_bias(keys.mean(-1)).repeat_interleave(16, 1).view(n, c, 1, 1)
    groups = wide.reshape(n, 32, -1)
    mean, var = groups.mean(-1, keepdim=True), groups.var(-1, keepdim=True)
    y = ((groups - mean) / (var + layer.eps).sqrt()).view(n, c, h, w)
    return (y * (omega + layer.weight_bias) + beta + layer.bias_bias).to(x.dtype)


def timed(
    functions: dict[str, Callable[[], Any]], args: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds of every call, the functions taking turns; the first round is not counted."""
    import torch

    def now() -> float:
        if args.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()

    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(args.repeats + 1):
        for name, function in functions.items():
            start = now()
            function()
            if repeat:
                seconds[name].append(now() - start)
    return seconds


def kept(layer: nn.Module, x: Tensor) -> float:
    """Memory that one training forward keeps for its backward, in sizes of x."""
    import torch

    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    was_training = layer.training
    layer.train()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        y = layer(x)
    layer.train(was_training)
    del y
    return sum(storages.values()) / (x.numel() * x.element_size())


def measure_networks(args: argparse.Namespace, dtypes: tuple[Any, ...]) -> list[dict[str, Any]]:
    import torch
    import torchvision

    from backbones import create_model

    models: dict[str, nn.Module] = {"resnet50 (torchvision)": torchvision.models.resnet50()}
    models |= {name: create_model(name) for name in NETWORKS}
    for model in models.values():
        model.to(args.device, memory_format=torch.channels_last).train()
    images = torch.randn(args.batch, 3, args.size, args.size, device=args.device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(1000, (args.batch,), device=args.device)
    optimizers = {name: torch.optim.SGD(m.parameters(), 1e-3, 0.9) for name, m in models.items()}

    def step(name: str, dtype: Any) -> None:
        enabled = dtype != torch.float32
        with torch.autocast(args.device.partition(":")[0], dtype, enabled=enabled):
            loss = torch.nn.functional.cross_entropy(models[name](images), labels)
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()

    rows = []
    for dtype in dtypes:
        steps = {name: partial(step, name, dtype) for name in models}
        seconds = timed(steps, args)
        base = statistics.median(seconds["resnet50 (torchvision)"])
        for name, values in seconds.items():
            median = statistics.median(values)
            rows.append(
                {
                    "shape": f"{args.batch}x3x{args.size}x{args.size}",
                    "dtype": name_of(dtype),
                    "format": "channels_last",
                    "layer": name,
                    "mode": "training step",
                    "ms": round(median * 1e3, 1),
                    "against_bn": round(median / base, 3),
                }
            )
    return rows


def layer_table(rows: list[dict[str, Any]], title: str) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("layer")
    for mode in MODES:
        table.add_column(f"{mode}\nms", justify="right")
        table.add_column("x BN", justify="right")
        table.add_column("% of copy", justify="right")
    table.add_column("kept\ninputs", justify="right")
    for name in dict.fromkeys(row["layer"] for row in rows):
        own = {row["mode"]: row for row in rows if row["layer"] == name}
        cells = [name]
        for mode in MODES:
            row = own[mode]
            cells += [f"{row['ms']:.1f}", f"{row['against_bn']:.2f}"]
            cells.append(f"{100 * row['bandwidth_of_copy']:.0f}")
        table.add_row(*cells, f"{own['forward']['kept_inputs']:.2f}")
    return table


def network_table(rows: list[dict[str, Any]], args: argparse.Namespace, where: str) -> Any:
    from rich.table import Table

    table = Table(
        title=f"Training step, {args.batch} images of {args.size}x{args.size}, SGD, "
        f"channels_last; {where}",
        title_justify="left",
    )
    for column in ("network", "type", "ms / step", "images / s", "x torchvision"):
        table.add_column(column, justify="left" if column in ("network", "type") else "right")
    for row in rows:
        rate = f"{1e3 * args.batch / row['ms']:.1f}"
        table.add_row(
            row["layer"], row["dtype"], f"{row['ms']:.0f}", rate, f"{row['against_bn']:.2f}"
        )
    return table


def write_csv(path: Path, records: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(itertools.chain.from_iterable(records)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(records)


def name_of(value: Any) -> str:
    return str(value).removeprefix("torch.").removesuffix("_format")


if __name__ == "__main__":
    run_tool(main)
