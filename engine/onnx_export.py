"""A network as one ONNX file or torch.export program, which appears only when it is right.

What rooms export differs in inputs, outputs and what "the same" means; the way there is one:
trace, write beside the place, run what was written, compare, and only then rename. Torchscript is
not used.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .atomic import replace_file

__all__ = [
    "OLDEST_OPSET",
    "ParityError",
    "check_alike",
    "check_opset",
    "onnx_runner",
    "onnx_session",
    "program_runner",
    "quiet",
    "relative_difference",
    "require_onnx",
    "trace",
    "write_onnx",
    "written_when_right",
]

OLDEST_OPSET = 18
"""What torch's exporter writes without conversion."""


class ParityError(ValueError):
    """The exported network does not compute what the model does; ``.report`` has the numbers."""

    def __init__(self, message: str, report: Any) -> None:
        super().__init__(message)
        self.report = report


def require_onnx() -> None:
    """ImportError with the command that helps, unless ONNX's packages are there."""
    # torch.onnx.export itself needs the second one
    absent = [n for n in ("onnx", "onnxscript", "onnxruntime") if find_spec(n) is None]
    if absent:
        raise ImportError(f"writing ONNX needs {', '.join(absent)}: pip install 'reidseg[export]'")


def check_opset(opset: int) -> None:
    if opset < OLDEST_OPSET:
        raise ValueError(f"opset: expected {OLDEST_OPSET} or later, got {opset}")


@contextmanager
def quiet() -> Iterator[None]:
    """Without gradients, and without the exporter's remarks about its own workings."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


@contextmanager
def written_when_right(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes the name when the block ends without an error.

    Whatever fails, no file is left that was not there before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        replace_file(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def trace(
    network: nn.Module, example: Tensor, dims: Mapping[int, Any], *, remedy: str = ""
) -> torch.export.ExportedProgram:
    """The network as a graph.

    Args:
        network: with one tensor as input, in evaluation mode.
        example: an input; sizes that shall be free are better neither 1 nor equal to each other,
            so that nothing is taken for a constant.
        dims: by axis, which sizes are free: ``torch.export.Dim``.
        remedy: the end of the error's sentence, e.g. ``"; try a fixed size"``.

    Raises:
        ValueError: the network's Python cannot be followed.
    """
    try:
        return torch.export.export(network, (example,), dynamic_shapes=(dict(dims),))
    except Exception as error:  # whatever a network's Python can make the tracer raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"torch.export cannot trace this network: {lines[0]}{remedy}") from error


def write_onnx(
    program: torch.export.ExportedProgram,
    path: Path,
    *,
    opset: int = OLDEST_OPSET,
    names: tuple[str, str],
    axes: Sequence[str],
    metadata: Mapping[str, str],
) -> None:
    """Write a traced network as ONNX and have the file checked.

    Args:
        program: of :func:`trace`.
        names: of the input and of the output.
        axes: of the input, by which its free sizes are called, e.g. batch, channels, height, width.
        metadata: text by key, stored in the file.
    """
    import onnx

    exported = torch.onnx.export(
        program,
        dynamo=True,
        opset_version=opset,
        input_names=[names[0]],
        output_names=[names[1]],
        verbose=False,
    )
    proto = exported.model_proto  # type: ignore[union-attr]
    _name_sizes(proto, axes)
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.save_model(proto, str(path))
    onnx.checker.check_model(str(path))


def _name_sizes(proto: Any, axes: Sequence[str]) -> None:
    """'batch', 'height', 'width' in place of the tracer's symbols."""
    shape = proto.graph.input[0].type.tensor_type.shape.dim
    new = {d.dim_param: name for d, name in zip(shape, axes, strict=True) if d.dim_param}
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param in new:
                size.dim_param = new[size.dim_param]


def onnx_session(path: Path) -> Any:
    """An onnxruntime session on the CPU, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def onnx_runner(path: Path) -> Callable[[Tensor], Tensor]:
    """A written ONNX file of one input and one output as a function."""
    session = onnx_session(path)
    name = session.get_inputs()[0].name
    return lambda pixels: torch.from_numpy(session.run(None, {name: pixels.numpy()})[0])


def program_runner(path: Path) -> Callable[[Tensor], Tensor]:
    """A written torch.export program as a function."""
    module = torch.export.load(path).module()
    return lambda pixels: module(pixels)


def relative_difference(got: Tensor, expected: Tensor) -> float:
    """The largest difference over the largest value; infinite where ``got`` is not a number.

    Raises:
        ValueError: another shape or type than expected, or expected values that are not finite.
    """
    check_alike(got, expected)
    if not torch.isfinite(expected).all():
        raise ValueError("the model's outputs are not finite: there is nothing to compare")
    difference = (got - expected).abs().max() / expected.abs().max().clamp(min=1e-30)
    return float(difference.nan_to_num(float("inf")))  # NaN must not pass for small


def check_alike(got: Tensor, expected: Tensor) -> None:
    """ValueError unless both have one shape and one type."""
    if got.shape != expected.shape or got.dtype != expected.dtype:
        raise ValueError(
            f"the exported network returns {got.dtype} {tuple(got.shape)} where the model "
            f"returns {expected.dtype} {tuple(expected.shape)}"
        )
