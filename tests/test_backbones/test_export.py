"""Norms and networks in ONNX and torch.export: the same outputs, for any batch and image size.

What does not depend on the input must be a constant in the file: a batch norm is one operator, and
of BIN and SN only the instance's part is computed.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from backbones import create_model, list_models
from backbones.convert import convert_norm
from backbones.norm import build_norm

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

NORMS: dict[str, Any] = {
    "bn": "bn",
    "in": "in",
    "ln": "ln",
    "gn": "gn",
    "ibn": "ibn",
    "bn_in": dict(type="IBN", order="bn_in"),
    "bin": "bin",
    "sn": "sn",
    "sn_without_bn": dict(type="SN", using_bn=False),
    "ilm_gn": dict(type="ILM", base="gn"),
    "ilm_in": dict(type="ILM", base="in"),
    "ilm_ln": dict(type="ILM", base="ln"),
}
# What is left of the statistics' algebra: one square root of the planes' (or groups') variance.
# Softmax of control weights, clamping of gates, 1 / sqrt of running variances are constants.
SQUARE_ROOTS = {"bn": 0, "in": 0, "ln": 0, "gn": 0}
FAST_NETWORKS = ("resnet18", "resnet18_ibn_a", "cifar_resnet8_bin_basic")


class Exported(NamedTuple):
    program: torch.export.ExportedProgram
    graph: Any
    """onnx.ModelProto"""
    run: Callable[[Tensor], list[np.ndarray]]


def export(model: nn.Module, x: Tensor, dynamic: dict[int, Any]) -> Exported:
    program = torch.export.export(model, (x,), dynamic_shapes=(dynamic,))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(program, dynamo=True, verbose=False)
    graph = exported.model_proto
    onnx.checker.check_model(graph)
    assert graph.opset_import[0].version >= 18
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (name,) = (i.name for i in session.get_inputs())
    return Exported(program, graph, lambda images: session.run(None, {name: images.numpy()}))


def assert_same(got: np.ndarray | Tensor, expected: Tensor) -> None:
    """Within 1e-4 of the largest output."""
    difference = (torch.as_tensor(got) - expected).abs().max()
    assert got.shape == expected.shape and difference <= 1e-4 * expected.abs().max()


def scrambled(model: nn.Module) -> nn.Module:
    """No parameter or statistic at its start, where much would cancel."""
    for name, parameter in model.named_parameters():
        if name.endswith("gate"):
            parameter.data.uniform_(0.2, 0.9)
        elif parameter.ndim == 1 or parameter.shape[0] == 1:
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.2)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return model.eval()


# ------------------------------------------------------------------------------ layers


class EveryNorm(nn.Module):
    """All norms side by side: one export instead of a dozen, which take seconds each."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(build_norm(spec, 64) for spec in NORMS.values())

    def forward(self, x: Tensor) -> list[Tensor]:
        return [norm(x) for norm in self.norms]


@pytest.fixture(scope="module")
def norms() -> tuple[nn.Module, Exported]:
    torch.manual_seed(0)
    model = scrambled(EveryNorm())
    dims = {0: torch.export.Dim("n"), 2: torch.export.Dim("h", min=2)}
    dims[3] = torch.export.Dim("w", min=2)
    return model, export(model, torch.randn(2, 64, 7, 6), dims)


@pytest.mark.parametrize("shape", [(2, 7, 6), (1, 5, 9), (3, 12, 2)])
@pytest.mark.parametrize("name", NORMS)
def test_layer(norms, name: str, shape: tuple[int, int, int]) -> None:
    model, exported = norms
    n, height, width = shape
    x = 3 + 2 * torch.randn(n, 64, height, width)
    index = list(NORMS).index(name)
    expected = model(x)[index].detach()
    assert_same(exported.run(x)[index], expected)
    assert_same(exported.program.module()(x)[index].detach(), expected)


@pytest.mark.parametrize("name", NORMS)
def test_constant_parts_are_folded(norms, name: str) -> None:
    nodes = ancestors(norms[1].graph, list(NORMS).index(name))
    kinds = Counter(node.op_type for node in nodes)
    if name == "bn":
        assert kinds == {"BatchNormalization": 1}
    roots = SQUARE_ROOTS.get(name, 1)
    assert kinds["Sqrt"] == roots and kinds["Softmax"] == 0 and kinds["Clip"] == 0
    for node in nodes:
        if name == "bn" or node.op_type == "Constant":
            continue
        assert depends_on_input(norms[1].graph, node), f"{node.op_type} {node.name} is constant"


def test_batch_norm_vanishes_into_the_convolution_before_it(tmp_path) -> None:
    model = scrambled(nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), build_norm("bn", 8)))
    graph = export(model, torch.randn(2, 3, 8, 8), {0: torch.export.Dim("n")}).graph
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    optimised = onnx.load(options.optimized_model_filepath)
    assert [node.op_type for node in optimised.graph.node] == ["Conv"]


def ancestors(model: Any, output: int) -> list[Any]:
    """The nodes that an output is computed by."""
    producers = {name: node for node in model.graph.node for name in node.output}
    found: dict[int, Any] = {}
    wanted = [model.graph.output[output].name]
    while wanted:
        node = producers.get(wanted.pop())
        if node is not None and id(node) not in found:
            found[id(node)] = node
            wanted.extend(node.input)
    return list(found.values())


def depends_on_input(model: Any, node: Any) -> bool:
    producers = {name: n for n in model.graph.node for name in n.output}
    (source,) = (i.name for i in model.graph.input)
    wanted = list(node.input)
    while wanted:
        name = wanted.pop()
        if name == source:
            return True
        if name in producers:
            wanted.extend(producers[name].input)
    return False


# ------------------------------------------------------------------------------ networks


def check_network(model: nn.Module, size: int = 32) -> None:
    exported = export(model, torch.randn(2, 3, size, size), {0: torch.export.Dim("n")})
    for n in (1, 3):
        x = torch.randn(n, 3, size, size)
        expected = model(x).detach()
        assert_same(exported.run(x)[0], expected)
        assert_same(exported.program.module()(x).detach(), expected)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FAST_NETWORKS else pytest.mark.slow)
        for name in list_models()
    ],
)
def test_network(name: str) -> None:
    check_network(scrambled(create_model(name, num_classes=5)))


@pytest.mark.slow
def test_converted_network() -> None:
    torchvision = pytest.importorskip("torchvision")
    model = torchvision.models.mobilenet_v3_small(num_classes=5)
    convert_norm(model, "bin")
    check_network(scrambled(model))


@pytest.mark.slow
def test_feature_maps() -> None:
    model = scrambled(create_model("resnet18_bin", num_classes=0))
    x = torch.randn(2, 3, 64, 64)
    exported = export(model, x, {0: torch.export.Dim("n")})
    for got, expected in zip(exported.run(x), model(x), strict=True):
        assert_same(got, expected.detach())
