"""Triton's kernels against torch's operations: on a CUDA device, and in Triton's interpreter.

The interpreter is chosen when triton is imported, for the whole process. So the tests of the
kernels run on CUDA here, and :func:`test_in_the_interpreter` runs the same ones on the CPU in a
process of their own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import version
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

triton = pytest.importorskip("triton", reason="Triton is not installed (Linux only)")

from backbones.norm import moments as core  # noqa: E402 - nothing here works without triton
from backbones.norm import moments_triton  # noqa: E402
from backbones.norm.moments import (  # noqa: E402
    Moments,
    TorchKernels,
    normalize,
    select_kernels,
)
from backbones.norm.moments_triton import (  # noqa: E402
    TritonKernels,
    _plan,
    is_available,
    triton_kernels,
)

ROOT = Path(__file__).resolve().parents[3]
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
of_kernels = (lambda test: test) if INTERPRETED else pytest.mark.gpu
not_interpreted = pytest.mark.skipif(INTERPRETED, reason="needs Triton's compiler")

SHAPES = [
    (1, 1, 1, 1),
    (3, 5, 1, 1),  # pooled
    (2, 1, 4, 4),  # a single channel is of both formats
    (2, 3, 130),
    (2, 3, 5, 7),  # nothing divides anything
    (2, 8, 14, 14),
    (1, 130, 3, 5),  # more channels than a tile
    (2, 6, 3, 4, 5),
    (1, 2, 70, 70),  # more positions than a block
    (1, 1, 112, 112),
]
FEW_SHAPES = [(2, 3, 5, 7), (2, 8, 14, 14), (1, 2, 100, 130)]
ROUNDING = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}


# With many processors, several programs share a plane and their tables are combined.
PROCESSORS = [1, 16]
CASES = [
    (torch.float32, 1),
    (torch.float32, 16),
    (torch.float16, 16),
    (torch.bfloat16, 1),
]


@pytest.fixture
def processors(request, monkeypatch) -> None:
    """Sets the number of multiprocessors; a parameter of the test."""
    monkeypatch.setattr(moments_triton, "_processors", lambda device: request.param)


def channels_innermost(x: Tensor) -> Tensor:
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def make(shape, dtype, device, channels_last=False, mean=0.0) -> Tensor:
    x = (torch.randn(shape) + mean).to(device, dtype)
    return channels_innermost(x) if channels_last else x


def tables(shape, device, count: int) -> list[Tensor]:
    return [torch.randn(shape[:2]).to(device) for _ in range(count)]


def exact(method: str, *arguments):
    """Torch's operations in float64."""
    wide = [a.double() if isinstance(a, Tensor) else a for a in arguments]
    return getattr(TorchKernels(), method)(*wide)


def assert_near(ours: Tensor, wide: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(ours.double(), wide, rtol=tolerance, atol=tolerance)


def assert_like(ours: Tensor, x: Tensor, wide: Tensor) -> None:
    assert (ours.dtype, ours.shape, ours.stride()) == (x.dtype, x.shape, x.stride())
    assert_near(ours, wide, ROUNDING[x.dtype])


@of_kernels
@pytest.mark.parametrize("dtype, processors", CASES, indirect=["processors"], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.usefixtures("processors")
class TestEachPass:
    def test_moments(self, shape, channels_last, dtype, device) -> None:
        x = make(shape, dtype, device, channels_last, mean=3)
        for ours, wide in zip(TritonKernels().moments(x), exact("moments", x), strict=True):
            assert ours.dtype == torch.float32 and ours.is_contiguous()
            assert_near(ours, wide, 1e-5)

    @pytest.mark.parametrize("relu", [False, True])
    def test_affine(self, shape, channels_last, dtype, relu, device) -> None:
        x, residual = (make(shape, dtype, device, channels_last) for _ in range(2))
        mean, scale, offset = tables(shape, device, 3)
        for added in (None, residual):
            arguments = (x, mean, scale, offset, added, relu)
            assert_like(TritonKernels().affine(*arguments), x, exact("affine", *arguments))

    @pytest.mark.parametrize("relu", [False, True])
    def test_sums(self, shape, channels_last, dtype, relu, device) -> None:
        gy, x = (make(shape, dtype, device, channels_last) for _ in range(2))
        arguments = (gy, x, *tables(shape, device, 3), relu)
        size = max(1, x[0, 0].numel()) ** 0.5  # of a sum of so many
        for ours, wide in zip(
            TritonKernels().sums(*arguments), exact("sums", *arguments), strict=True
        ):
            assert ours.dtype == torch.float32 and ours.shape == shape[:2]
            assert_near(ours / size, wide / size, 1e-5)

    @pytest.mark.parametrize("relu", [False, True])
    def test_input_gradient(self, shape, channels_last, dtype, relu, device) -> None:
        gy, x = (make(shape, dtype, device, channels_last) for _ in range(2))
        arguments = (gy, x, *tables(shape, device, 5), relu)
        ours = TritonKernels().input_gradient(*arguments)
        assert_like(ours, x, exact("input_gradient", *arguments))


@of_kernels
class TestMemoryFormats:
    @pytest.mark.parametrize("channels_last", [False, True])
    @pytest.mark.parametrize("shape", FEW_SHAPES, ids=str)
    def test_other_tensors_come_in_another_format(self, shape, channels_last, device) -> None:
        x = make(shape, torch.float32, device, channels_last)
        other = make(shape, torch.float32, device, not channels_last)
        mean, scale, offset, p, q = tables(shape, device, 5)
        for method, arguments in {
            "affine": (x, mean, scale, offset, other, True),
            "input_gradient": (other, x, mean, scale, offset, p, q, True),
        }.items():
            assert_like(getattr(TritonKernels(), method)(*arguments), x, exact(method, *arguments))
        arguments = (other, x, mean, scale, offset, True)
        for ours, wide in zip(
            TritonKernels().sums(*arguments), exact("sums", *arguments), strict=True
        ):
            assert_near(ours, wide, 1e-4)

    @pytest.mark.parametrize("channels_last", [False, True])
    @pytest.mark.parametrize(
        "view",
        [
            lambda x: x[:, 1:4],
            lambda x: x[..., ::2],
            lambda x: x[:, :, 1:, 1:],
            lambda x: x.flip(0)[:, :, :1],
            lambda x: x[:, :, :1, :1].expand(-1, -1, 3, 4),
            lambda x: x[:, :1].expand(-1, 3, -1, -1),
            lambda x: x.transpose(2, 3),
        ],
        ids=["channels", "steps", "crop", "line", "positions", "same-channel", "transposed"],
    )
    def test_any_strides(self, view, channels_last, device) -> None:
        x = view(make((3, 6, 5, 4), torch.float32, device, channels_last))
        mean, scale, offset = tables(x.shape, device, 3)
        y = TritonKernels().affine(x, mean, scale, offset, None, False)
        assert_near(y, exact("affine", x, mean, scale, offset, None, False), 1e-5)
        gathered = y.movedim(1, -1) if y.stride(1) == 1 and y.shape[1] > 1 else y
        assert gathered.is_contiguous()
        for ours, wide in zip(TritonKernels().moments(x), exact("moments", x), strict=True):
            assert_near(ours, wide, 1e-5)
        # an expanded gradient, as that of a sum is
        gy = torch.ones(1, device=device).expand(x.shape)
        for ours, wide in zip(
            TritonKernels().sums(gy, x, mean, scale, offset, True),
            exact("sums", gy, x, mean, scale, offset, True),
            strict=True,
        ):
            assert_near(ours, wide, 1e-4)

    @pytest.mark.parametrize("step", [1, 3])
    def test_storage_that_is_not_aligned(self, step, device) -> None:
        """Vectors are only loaded from addresses that allow it."""
        x = torch.randn(1 + 2 * 4 * 16).to(device)[step : step + 96].view(2, 3, 4, 4)
        for ours, wide in zip(TritonKernels().moments(x), exact("moments", x), strict=True):
            assert_near(ours, wide, 1e-5)


@of_kernels
@pytest.mark.usefixtures("processors")
@pytest.mark.parametrize("processors", PROCESSORS, indirect=True)
@pytest.mark.parametrize("channels_last", [False, True])
class TestHardNumbers:
    @pytest.mark.parametrize("shape", FEW_SHAPES, ids=str)
    def test_large_mean_and_small_deviation(self, shape, channels_last, device) -> None:
        x = (100 + 0.01 * torch.randn(shape)).to(device)
        x = channels_innermost(x) if channels_last else x
        (mean, var), (exact_mean, exact_var) = TritonKernels().moments(x), exact("moments", x)
        assert (mean - exact_mean).abs().max() <= 8e-6  # one unit of the last place of 100
        torch.testing.assert_close(var.double(), exact_var, rtol=1e-4, atol=0)

    @pytest.mark.parametrize("outlier", [1e4, -3e8])
    @pytest.mark.parametrize("shape", FEW_SHAPES, ids=str)
    def test_the_first_value_is_an_outlier(self, shape, outlier, channels_last, device) -> None:
        x = torch.randn(shape)
        x[:, :, 0, 0] = outlier
        x = (channels_innermost(x) if channels_last else x).to(device)
        for ours, wide in zip(TritonKernels().moments(x), exact("moments", x), strict=True):
            torch.testing.assert_close(ours.double(), wide, rtol=1e-4, atol=0)

    @pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 3e4])
    @pytest.mark.parametrize("shape", FEW_SHAPES, ids=str)
    def test_a_constant_plane_has_no_variance(self, shape, value, channels_last, device) -> None:
        x = torch.full(shape, value, device=device)
        mean, var = TritonKernels().moments(channels_innermost(x) if channels_last else x)
        torch.testing.assert_close(mean, torch.full_like(mean, value), rtol=1e-6, atol=0)
        assert (var >= 0).all() and (var <= (1e-6 * value) ** 2).all()

    @pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # of NumPy
    @pytest.mark.parametrize("bad", [torch.nan, torch.inf])
    @pytest.mark.parametrize("shape", FEW_SHAPES, ids=str)
    def test_what_is_not_finite_stays_in_its_plane(self, shape, bad, channels_last, device) -> None:
        x = make(shape, torch.float32, device)
        x[0, 1, 2, 3] = bad
        x = channels_innermost(x) if channels_last else x
        expected = torch.zeros(shape[:2], dtype=torch.bool, device=device)
        expected[0, 1] = True
        mean, var = TritonKernels().moments(x)
        assert torch.equal(~mean.isfinite(), expected) and torch.equal(var.isnan(), expected)
        y = TritonKernels().affine(x, mean, mean, mean, None, relu=True)
        assert torch.equal(y.isnan().any(-1).any(-1), expected)  # the ReLU hides no NaN

    @pytest.mark.parametrize("shape", FEW_SHAPES, ids=str)
    def test_the_same_bits_again(self, shape, channels_last, device) -> None:
        x, gy = (make(shape, torch.float32, device, channels_last) for _ in range(2))
        some = tables(shape, device, 3)
        for method, arguments in {"moments": (x,), "sums": (gy, x, *some, True)}.items():
            first = getattr(TritonKernels(), method)(*arguments)
            again = getattr(TritonKernels(), method)(*arguments)
            assert all(map(torch.equal, first, again))


@of_kernels
def test_the_relu_of_the_backward_is_that_of_the_forward(device) -> None:
    """Where an output is hardly above zero, both must see it there."""
    x = make((2, 3, 16, 16), torch.float32, device)
    mean, scale = tables(x.shape, device, 2)
    # an offset that puts one value of each plane at about zero
    offset = -(x[:, :, 7, 7] - mean) * scale
    y = TritonKernels().affine(x, mean, scale, offset, None, True)
    gy = torch.ones_like(x)
    _, passed = TritonKernels().sums(gy, x, mean, scale, offset, True)
    assert torch.equal(passed, (y > 0).sum((2, 3)).float())
    nothing = torch.zeros_like(mean)
    gx = TritonKernels().input_gradient(gy, x, mean, scale, offset, nothing, nothing, True)
    assert torch.equal(gx != 0, y > 0)


@of_kernels
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (0, 3, 2, 2, 2), (2, 3, 0, 4)], ids=str)
def test_an_empty_tensor_is_not_launched(shape, device, monkeypatch) -> None:
    monkeypatch.setattr(moments_triton, "_Layout", None)  # every launch begins with one
    x = torch.empty(shape, device=device)
    some = tables(shape, device, 5)
    kernels = TritonKernels()
    for table in (*kernels.moments(x), *kernels.sums(x, x, *some[:3], True)):
        assert table.shape == shape[:2] and table.dtype == torch.float32
    assert kernels.affine(x, *some[:3], x, True).shape == shape
    assert kernels.input_gradient(x, x, *some, True).shape == shape


def mixed(moments: Moments, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Tables of every kind: over samples, over channels, nonlinear in mean and variance."""
    scale = weight * torch.rsqrt(moments.var.mean(1, keepdim=True) + moments.mean.square() + 0.01)
    return scale, bias + scale * (moments.mean - moments.mean.mean(0)).tanh()


@of_kernels
@pytest.mark.parametrize("dtype, processors", CASES, indirect=["processors"], ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.usefixtures("processors")
def test_normalize(with_residual, relu, channels_last, dtype, device, monkeypatch) -> None:
    shape = (4, 6, 14, 14)
    start = [make(shape, dtype, device, channels_last) for _ in range(3 if with_residual else 2)]
    learned = [1 + 0.3 * torch.randn(6), torch.randn(6)]
    results = []
    for kernels in (TritonKernels(), TorchKernels()):
        monkeypatch.setattr(core, "select_kernels", lambda x, kernels=kernels: kernels)
        wide = torch.float64 if isinstance(kernels, TorchKernels) else None
        gy, *inputs = (t.clone().to(wide or t.dtype) for t in start)
        params = [t.clone().to(device, wide or t.dtype).requires_grad_() for t in learned]
        for tensor in inputs:
            tensor.requires_grad_()
        x, residual = (*inputs, None)[:2]
        y = normalize(x, mixed, *params, residual=residual, relu=relu)
        y.backward(gy)
        results.append([y, *(t.grad for t in inputs), *(t.grad for t in params)])
        with torch.no_grad():
            assert torch.equal(normalize(x, mixed, *params, residual=residual, relu=relu), y)
    ours, wide = results
    large = len(inputs) + 1
    for a, b in zip(ours[:large], wide[:large], strict=True):
        assert a.dtype == dtype and a.stride() == start[0].stride()
        if relu and with_residual:
            # the mask is read off y, which 16 bits round
            near = (wide[0] > 0) == (ours[0] > 0)
            a, b = a * near, b * near
        assert_near(a.detach(), b.detach(), 2 * ROUNDING[dtype])
    for a, b in zip(ours[large:], wide[large:], strict=True):
        assert_near(a, b, 1e-4 * b.abs().max().item() + 20 * ROUNDING[dtype])


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(2, 2, 2**15, 2**14 + 1), (1, 1, 2**16, 2**15 + 8)], ids=str)
def test_more_elements_than_an_int32_counts(shape, channels_last, device) -> None:
    if torch.cuda.mem_get_info(device)[0] < 24 * 2**30:
        pytest.skip("needs 24 GiB of device memory")
    x = torch.zeros(shape, dtype=torch.float16, device=device)
    x = channels_innermost(x) if channels_last else x
    x[-1, -1, -1, -8:] = 2048.0
    mean, var = TritonKernels().moments(x)
    share = 8 / x[0, 0].numel()
    assert mean[-1, -1].item() == pytest.approx(2048 * share, rel=1e-5)
    assert var[-1, -1].item() == pytest.approx(2048**2 * share * (1 - share), rel=1e-5)
    assert mean.count_nonzero() == var.count_nonzero() == 1
    one, nothing = torch.ones_like(mean), torch.zeros_like(mean)
    g_scale, g_offset = TritonKernels().sums(x, x, nothing, one, nothing, False)
    assert g_scale[-1, -1] == 8 * 2048**2 and g_offset[-1, -1] == 8 * 2048
    y = TritonKernels().affine(x, nothing, one, nothing, None, False)
    assert torch.equal(y, x)
    del y
    assert torch.equal(
        TritonKernels()
        .input_gradient(x, x, nothing, one, one, nothing, one, False)[-1, -1, -1, -9:]
        .float(),
        x[-1, -1, -1, -9:].float() + 1,
    )


class TestPlan:
    @pytest.mark.parametrize("reduces", [False, True])
    @pytest.mark.parametrize("channels_last", [False, True])
    @pytest.mark.parametrize("positions", [1, 2, 49, 196, 3136, 12544, 10**6, 2**33])
    def test_covers_everything_once(self, positions, channels_last, reduces) -> None:
        for samples, channels, processors in product([1, 7, 256], [1, 3, 64, 2048], [1, 20, 132]):
            if samples * channels * positions < 2**40:  # a terabyte, more than any device has
                self.check(samples, channels, positions, channels_last, reduces, processors)

    @staticmethod
    def check(samples, channels, positions, channels_last, reduces, processors) -> None:
        plan = _plan(samples, channels, positions, channels_last, reduces, processors)
        given = plan.arguments
        rows, block, span, chunks = (given[k] for k in ("ROWS", "BLOCK", "span", "chunks"))
        assert all(n > 0 and n & (n - 1) == 0 for n in (rows, block)) and rows * block <= 4096
        assert span == chunks * block
        assert (plan.shares - 1) * span < positions <= plan.shares * span
        unit = given["UNIT"]
        assert unit in (1, 2, 4, 8, 16)
        if given["CHANNELS_LAST"]:
            whole = given["channels"] * unit
            lines, rest = divmod(plan.grid[0], -(-whole // rows))
            assert rest == 0 and lines * whole == samples * channels == given["rows"]
            assert given["positions"] == positions
            assert span * whole < 2**31 or span == 1
        else:
            assert given["positions"] * unit == positions and given["channels"] == channels
            assert plan.grid[0] == -(-samples * channels // rows)
            assert span < 2**31
        assert plan.grid[0] < 2**31 and plan.shares < 2**16
        combined = plan.combine_arguments
        if reduces:
            assert plan.shares <= combined["SHARES"]
            assert combined["SHARES"] * combined["BLOCK"] <= 8192
            assert plan.combine_grid[0] * combined["BLOCK"] >= samples * channels

    @pytest.mark.parametrize("channels_last", [False, True])
    def test_a_few_large_planes_are_shared(self, channels_last) -> None:
        assert _plan(1, 3, 512 * 512, channels_last, True, 132).shares > 20
        assert _plan(256, 512, 3136, channels_last, True, 132).shares == 1

    def test_a_medium_plane_is_read_in_one_go(self) -> None:
        given = _plan(32, 64, 56 * 56, False, True, 132).arguments
        assert given["chunks"] == 1 and given["BLOCK"] == 4096


@not_interpreted
class TestSelection:
    @pytest.fixture
    def cuda(self, monkeypatch):
        """A tensor of a device that has everything; the kernels are never run on it."""
        monkeypatch.delenv("BACKBONES_KERNELS", raising=False)
        monkeypatch.setattr(moments_triton, "_capability", lambda device: (9, 0))
        monkeypatch.setattr(moments_triton, "_works", lambda device: True)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        return lambda dtype=torch.float32: SimpleNamespace(is_cuda=True, device=None, dtype=dtype)

    @pytest.mark.parametrize("dtype", list(ROUNDING), ids=str)
    def test_cuda_tensors_get_the_kernels(self, cuda, dtype) -> None:
        assert is_available(cuda(dtype))
        assert isinstance(triton_kernels(cuda(dtype)), TritonKernels)

    def test_float64_is_left_to_torch(self, cuda) -> None:
        assert triton_kernels(cuda(torch.float64)) is None

    def test_cpu_tensors_are_left_to_others(self) -> None:
        assert triton_kernels(torch.zeros(1, 1, 1)) is None

    @pytest.mark.parametrize("capability, taken", [((6, 1), False), ((7, 0), True)])
    def test_old_devices_are_left_to_torch(self, cuda, capability, taken, monkeypatch) -> None:
        monkeypatch.setattr(moments_triton, "_capability", lambda device: capability)
        assert is_available(cuda()) == taken

    def test_other_vendors_are_left_to_torch(self, cuda, monkeypatch) -> None:
        monkeypatch.setattr(torch.version, "cuda", None)
        assert not is_available(cuda())

    def test_the_core_takes_them_unless_switched_off(self, cuda, monkeypatch) -> None:
        x = cuda()
        x.device = SimpleNamespace(type="cuda")
        monkeypatch.setattr(core, "_has_memory", lambda x: True)
        assert isinstance(select_kernels(x), TritonKernels)
        monkeypatch.setenv("BACKBONES_KERNELS", "torch")
        assert isinstance(select_kernels(x), TorchKernels)

    def test_a_triton_that_fails_is_given_up_with_a_warning(self, monkeypatch) -> None:
        def fail(self, x: Tensor) -> None:
            raise RuntimeError("Failed to find C compiler")

        monkeypatch.setattr(TritonKernels, "moments", fail)
        with pytest.warns(RuntimeWarning, match="Failed to find C compiler"):
            assert not moments_triton._works.__wrapped__(torch.device("cpu"))

    def test_other_types_are_our_own_mistake(self) -> None:
        with pytest.raises(AssertionError, match=r"no kernels for torch\.float64"):
            TritonKernels().moments(torch.zeros(1, 1, 1, dtype=torch.float64))

    def test_backbones_does_not_import_it(self) -> None:
        code = "import sys, backbones; print('backbones.norm.moments_triton' in sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "False"


@of_kernels
def test_the_trial_succeeds(device) -> None:
    assert moments_triton._works.__wrapped__(device)


# Shape, whether channels last, and whether float32 comes in vectors: four go together if they
# divide the positions, or with channels last the channels.
COMPILED = [
    ((64, 2048, 1, 1), False, True),
    ((512, 1, 30, 30), False, True),
    ((64, 64, 56, 56), False, True),
    ((64, 64, 14, 14), False, True),
    ((64, 64, 7, 7), False, False),
    ((64, 24, 14, 14), True, True),
    ((64, 3, 15, 15), True, False),
]


@not_interpreted
@pytest.mark.parametrize("shape, channels_last, vectors", COMPILED)
@pytest.mark.parametrize("name", ["moments", "affine", "sums", "input_gradient"])
def test_compiles_without_a_device(
    name, shape, channels_last, vectors, tmp_path, monkeypatch
) -> None:
    """What the interpreter cannot tell: that the compiler takes it, and finds the vectors."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(moments_triton, f"_{name}_kernel")
    reduces = name in ("moments", "sums")
    samples, channels, height, width = shape
    given = dict(_plan(samples, channels, height * width, channels_last, reduces, 132).arguments)
    warps = given.pop("num_warps")
    given |= {"RELU": True, "HAS_RESIDUAL": True}
    signature, constants, attributes = {}, {}, {}
    for index, argument in enumerate(kernel.arg_names):
        if argument.isupper() or given.get(argument) == 1:  # a launch makes ones constants, too
            signature[argument] = "constexpr"
            constants[argument] = given[argument]
        else:
            pointer = argument.endswith("_ptr")
            signature[argument] = "*fp32" if pointer else "i32"
            if pointer or given[argument] % 16 == 0:
                attributes[(index,)] = [["tt.divisibility", 16]]
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, attributes),
        target=GPUTarget("cuda", 80, 32),
        options={"num_warps": warps},
    )
    code = compiled.asm["ptx"]
    if vectors:
        assert "ld.global.v4" in code and ("st.global.v4" in code or reduces)
    assert len(compiled.asm["cubin"]) > 0


@not_interpreted
@pytest.mark.parametrize(
    "chosen",
    ["not torch.float16", pytest.param("torch.float16", marks=pytest.mark.slow)],
    ids=["float32-and-bfloat16", "float16"],
)
def test_in_the_interpreter(chosen: str) -> None:
    """All tests of the kernels, on the CPU."""
    if number(version("triton")) < (3, 7) and number(version("numpy")) >= (2, 4):
        pytest.skip("the interpreter of Triton before 3.7 cannot count with NumPy 2.4 or newer")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", "-k", chosen, __file__],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    report = done.stdout + done.stderr
    assert done.returncode == 0, report
    passed = re.search(r"(\d+) passed", report)
    assert passed is not None and int(passed[1]) > 150, report


def number(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
