"""The compiled kernels against the same passes as torch operations in float64."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from backbones import native
from backbones.norm import SN, moments_cpu
from backbones.norm.moments import TorchKernels, select_kernels

has_compiler = any(map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++")))
needs_compiler = pytest.mark.skipif(not has_compiler, reason="no C++ compiler is installed")


@pytest.fixture(scope="module")
def kernels() -> moments_cpu.CpuKernels:
    if not has_compiler:
        pytest.skip("no C++ compiler is installed")
    made = moments_cpu.cpu_kernels()
    assert made is not None
    return made


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Kernels are looked for again, in an empty cache; put back afterwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    moments_cpu.cpu_kernels.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    moments_cpu.cpu_kernels.cache_clear()


FORMATS = {
    "contiguous": lambda x: x.contiguous(),
    "channels_last": lambda x: x.contiguous(
        memory_format=torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    ),
    "sliced": lambda x: torch.cat([x, x], -1)[..., ::2],
}
SHAPES = [
    (2, 3, 5, 7),
    (3, 70, 4, 4),
    (1, 64, 1, 1),
    (2, 1, 90, 70),
    (5, 129, 3, 3),
    (2, 3, 2, 3, 4),
]


def passes(kernels, x, gy, residual, tables, relu) -> list[Tensor]:
    mean, var = kernels.moments(x)
    scale, offset, p, q = tables
    return [
        mean,
        var,
        kernels.affine(x, mean, scale, offset, residual, relu),
        kernels.affine(x, mean, scale, offset, None, relu),
        *kernels.sums(gy, x, mean, scale, offset, relu),
        kernels.input_gradient(gy, x, mean, scale, offset, p, q, relu),
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("relu", [False, True])
def test_every_pass(kernels, shape, layout, dtype, relu) -> None:
    torch.manual_seed(0)
    x, gy, residual = (FORMATS[layout](torch.randn(shape).to(dtype)) for _ in range(3))
    tables = torch.randn(4, *shape[:2])
    if relu:  # values at the kink go either way with rounding: keep clear of it
        tables[1] += 0.01
    ours = passes(kernels, x, gy, residual, tables, relu)
    wide = [t.double() for t in (x, gy, residual)]
    exact = passes(TorchKernels(), *wide, tables.double(), relu)
    tolerance = 2e-5 if dtype == torch.float32 else 1e-2
    for number, (got, expected) in enumerate(zip(ours, exact, strict=True)):
        close = torch.isclose(got.double(), expected, rtol=tolerance, atol=tolerance * 10)
        assert close.float().mean() > 0.999, (number, (got - expected).abs().max())
    for y in (ours[2], ours[3], ours[6]):
        assert y.dtype == dtype and y.shape == x.shape
        if layout != "sliced":
            assert y.stride() == x.stride()


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("size", [3, 70, 150])
def test_variance_keeps_its_digits(kernels, layout, size) -> None:
    """A large mean, and a first value far from all others."""
    torch.manual_seed(0)
    x = 100 + 0.01 * torch.randn(2, 33, size, size)
    x[1, :, 0, 0] = -1e4
    x = FORMATS[layout](x)
    mean, var = kernels.moments(x)
    exact_mean, exact_var = TorchKernels().moments(x.double())
    torch.testing.assert_close(mean.double(), exact_mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(var.double(), exact_var, rtol=1e-3, atol=0)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_a_border_unlike_the_rest_costs_few_digits(kernels, layout) -> None:
    """The values that the shift is taken from are then far from the mean."""
    x = torch.zeros(2, 3, 64, 64)
    x[:, :, 0] = torch.tensor([1.1, 7.7777, 100.3])[:, None]
    exact = x.double().var((2, 3), correction=0)
    var = kernels.moments(FORMATS[layout](x))[1]
    torch.testing.assert_close(var.double(), exact, rtol=5e-5, atol=0)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_and_infinity_stay_in_their_plane(kernels, layout, dtype) -> None:
    x = torch.randn(2, 3, 4, 4).to(dtype)
    x[1, 2, 0, 0], x[0, 1, 3, 3] = torch.nan, torch.inf
    x = FORMATS[layout](x)
    mean, var = kernels.moments(x)
    assert mean.isfinite().tolist() == [[True, False, True], [True, True, False]]
    assert var.isfinite().tolist() == [[True, False, True], [True, True, False]]
    ones = torch.ones(2, 3)
    y = kernels.affine(x, ones, ones, ones, None, relu=True)
    assert y.isnan().sum() == 1 and y[1, 2, 0, 0].isnan() and y[0, 1, 3, 3] == torch.inf


def test_bfloat16_rounds_half_to_even(kernels) -> None:
    x = torch.randn(4, 8, 16, 16).bfloat16()
    scale, zero = torch.rand(4, 8) + 0.5, torch.zeros(4, 8)
    y = kernels.affine(x, zero, scale, zero, None, relu=False)
    assert torch.equal(y, (x.float() * scale[..., None, None]).bfloat16())


def test_same_result_for_any_number_of_threads(kernels) -> None:
    torch.manual_seed(0)
    before = torch.get_num_threads()
    x = FORMATS["channels_last"](torch.randn(3, 96, 9, 9))
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(kernels.moments(x))
    torch.set_num_threads(before)
    for mean, var in results[1:]:
        assert torch.equal(mean, results[0][0]) and torch.equal(var, results[0][1])


@needs_compiler
def test_used_automatically_and_switched_off(monkeypatch) -> None:
    x = torch.randn(2, 3, 4, 4)
    assert isinstance(select_kernels(x), moments_cpu.CpuKernels)
    assert isinstance(select_kernels(x.double()), TorchKernels)
    assert isinstance(select_kernels(x.half()), TorchKernels)
    monkeypatch.setenv("BACKBONES_KERNELS", "torch")
    assert isinstance(select_kernels(x), TorchKernels)
    monkeypatch.setenv("BACKBONES_KERNELS", "fast")
    with pytest.raises(ValueError, match="'auto' or 'torch', got 'fast'"):
        select_kernels(x)


@needs_compiler
def test_compiled_once_into_a_private_cache(fresh, monkeypatch) -> None:
    assert moments_cpu.cpu_kernels() is not None
    files = list((fresh / "reidseg").iterdir())
    assert [f.suffix for f in files] == [".so"]
    assert stat.S_IMODE((fresh / "reidseg").stat().st_mode) == 0o700
    moments_cpu.cpu_kernels.cache_clear()
    written = files[0].stat().st_mtime_ns
    assert moments_cpu.cpu_kernels() is not None
    assert files[0].stat().st_mtime_ns == written


@needs_compiler
def test_a_cache_that_cannot_be_written_costs_a_compilation(fresh, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(fresh / "file"))
    (fresh / "file").write_text("in the way")
    assert moments_cpu.cpu_kernels() is not None


@needs_compiler
def test_without_a_home_it_is_compiled_for_one_process(fresh, monkeypatch) -> None:
    """Containers run users that have no entry in the list of users."""

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", home)
    assert moments_cpu.cpu_kernels() is not None


def test_processors_that_share_a_home_are_told_apart(monkeypatch) -> None:
    """On ARM, too, where /proc/cpuinfo has neither model nor flags."""
    arm = "processor\t: 0\nFeatures\t: fp {}\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"
    keys = set()
    for feature in ("asimd", "sve"):
        monkeypatch.setattr(Path, "read_text", lambda path, f=feature: arm.format(f))
        keys.add(native.processor())
    assert len(keys) == 2


def test_without_a_compiler_torch_operations_compute_the_same(fresh, monkeypatch, caplog) -> None:
    x = torch.randn(2, 3, 4, 4)
    expected = SN(3)(x.double().float())
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(fresh))
    moments_cpu.cpu_kernels.cache_clear()
    assert isinstance(select_kernels(x), TorchKernels)
    assert "install g++" in caplog.text
    torch.testing.assert_close(SN(3)(x), expected)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell script")
def test_a_broken_compiler_is_reported(fresh, monkeypatch, caplog) -> None:
    compiler = fresh / "c++"
    compiler.write_text(
        '#!/bin/sh\ntest "$1" = --version && exit 0\necho no such flag >&2\nexit 1\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert moments_cpu.cpu_kernels() is None
    assert "no such flag" in caplog.text
    assert not list(Path(fresh, "reidseg").glob("*"))  # nothing half-made stays


@needs_compiler
def test_the_source_compiles_without_warnings(tmp_path) -> None:
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++"))))
    flags = [*native.FLAGS, "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    subprocess.run([compiler, *flags, str(moments_cpu.SOURCE)], check=True)
