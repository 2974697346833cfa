from __future__ import annotations

import logging
import warnings

import pytest
import torch
from torch import nn

from engine import onnx_export
from engine.onnx_export import (
    check_alike,
    check_opset,
    onnx_runner,
    program_runner,
    quiet,
    relative_difference,
    require_onnx,
    trace,
    write_onnx,
    written_when_right,
)


class Scale(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * x.float() + 1


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    dims = {0: torch.export.Dim("n", min=1), 2: torch.export.Dim("w", min=1)}
    return trace(Scale(), torch.zeros(2, 4, 5, dtype=torch.uint8), dims)


def test_onnx(program, tmp_path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    path, axes = tmp_path / "scale.onnx", ("batch", "rows", "width")
    with quiet():
        write_onnx(program, path, names=("x", "y"), axes=axes, metadata={"who": "Müller"})
    stored = onnx.load(str(path))
    assert {p.key: p.value for p in stored.metadata_props} == {"who": "Müller"}
    (given,), (result,) = stored.graph.input, stored.graph.output
    for value in (given, result):
        sizes = value.type.tensor_type.shape.dim
        assert [s.dim_param or s.dim_value for s in sizes] == ["batch", 4, "width"]
    assert (given.name, result.name) == ("x", "y")
    x = torch.randint(0, 256, (3, 4, 7), dtype=torch.uint8)
    torch.testing.assert_close(onnx_runner(path)(x), Scale()(x))


def test_program(program, tmp_path) -> None:
    torch.export.save(program, tmp_path / "scale.pt2")
    x = torch.randint(0, 256, (1, 4, 9), dtype=torch.uint8)
    assert torch.equal(program_runner(tmp_path / "scale.pt2")(x), Scale()(x))


def test_what_cannot_be_traced() -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"cannot trace this network: .*; try another"):
        trace(Branch(), torch.zeros(2, 3), {}, remedy="; try another")


def test_a_file_appears_when_it_is_right(tmp_path) -> None:
    path = tmp_path / "new" / "model.onnx"
    with written_when_right(path) as partial:
        assert partial.parent == path.parent and partial.suffix == ".onnx"
        partial.write_bytes(b"first")
        assert not path.exists()
    assert path.read_bytes() == b"first"
    with pytest.raises(RuntimeError, match="wrong"), written_when_right(path) as partial:
        partial.write_bytes(b"second")
        raise RuntimeError("wrong")
    assert [p.read_bytes() for p in path.parent.iterdir()] == [b"first"]


def test_relative_difference() -> None:
    expected = torch.tensor([1.0, -4.0])
    assert relative_difference(torch.tensor([1.0, -4.2]), expected) == pytest.approx(0.05)
    assert relative_difference(torch.tensor([float("nan"), -4.0]), expected) == float("inf")
    assert relative_difference(torch.zeros(2), torch.zeros(2)) == 0
    with pytest.raises(ValueError, match="not finite"):
        relative_difference(expected, torch.tensor([1.0, float("nan")]))
    with pytest.raises(ValueError, match=r"torch.float32 \(3,\) where .* torch.float32 \(2,\)"):
        check_alike(torch.zeros(3), expected)
    with pytest.raises(ValueError, match="float64"):
        check_alike(expected.double(), expected)


def test_quiet() -> None:
    logger = logging.getLogger("torch.onnx")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with quiet():
            warnings.warn("of no use to anybody", stacklevel=1)
            assert not logger.isEnabledFor(logging.WARNING) and not torch.is_grad_enabled()
    assert not heard and logger.isEnabledFor(logging.WARNING) and torch.is_grad_enabled()


def test_what_is_missing(monkeypatch) -> None:
    monkeypatch.setattr(
        onnx_export, "find_spec", lambda name: None if name == "onnxscript" else object()
    )
    with pytest.raises(ImportError, match=r"needs onnxscript: pip install 'reidseg\[export\]'"):
        require_onnx()
    with pytest.raises(ValueError, match="18 or later, got 17"):
        check_opset(17)
    check_opset(18)
