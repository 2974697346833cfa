"""The four passes on a CPU, in C++ compiled at the first use.

As torch operations, a norm on a CPU needs 20 and more passes over full tensors; the kernels of
``moments_cpu.cpp`` need 8, which is what ``nn.BatchNorm2d`` needs. They are compiled by the
machine's own C++ compiler for its own instruction set in a few seconds, kept under
``~/.cache/reidseg``, and called through ctypes: no build step at installation, no torch headers.
They use torch's OpenMP runtime, hence its threads. Without a compiler everything still works, by
torch operations.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")
DTYPES = (torch.float32, torch.bfloat16)


class CpuKernels:
    """The passes of :class:`~backbones.norm.moments.Kernels` for float32 and bfloat16."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x, rows = _dense(x)
        mean, var = _tables(x)
        self._call("norm_moments", x, rows, (), x, mean, var)
        return mean, var

    def affine(
        self,
        x: Tensor,
        mean: Tensor,
        scale: Tensor,
        offset: Tensor,
        residual: Tensor | None,
        relu: bool,
    ) -> Tensor:
        x, rows = _dense(x)
        residual = None if residual is None else _like(residual, x, rows)
        y = torch.empty_like(x)
        self._call("norm_affine", x, rows, (relu,), x, mean, scale, offset, residual, y)
        return y

    def sums(
        self, gy: Tensor, x: Tensor, mean: Tensor, scale: Tensor, offset: Tensor, relu: bool
    ) -> tuple[Tensor, Tensor]:
        x, rows = _dense(x)
        gy = _like(gy, x, rows)
        g_scale, g_offset = _tables(x)
        self._call("norm_sums", x, rows, (relu,), gy, x, mean, scale, offset, g_scale, g_offset)
        return g_scale, g_offset

    def input_gradient(
        self,
        gy: Tensor,
        x: Tensor,
        mean: Tensor,
        scale: Tensor,
        offset: Tensor,
        p: Tensor,
        q: Tensor,
        relu: bool,
    ) -> Tensor:
        x, rows = _dense(x)
        gy = _like(gy, x, rows)
        gx = torch.empty_like(x)
        self._call("norm_gradient", x, rows, (relu,), gy, x, mean, scale, offset, p, q, gx)
        return gx

    def _call(
        self, name: str, x: Tensor, rows: bool, options: tuple[bool, ...], *tensors: Tensor | None
    ) -> None:
        positions = x.shape[2:].numel()
        if x.numel() == 0:
            return
        getattr(self._library, name)(
            ctypes.c_bool(x.dtype == torch.bfloat16),
            ctypes.c_bool(rows),
            *map(ctypes.c_int64, (x.shape[0], x.shape[1], positions)),
            ctypes.c_int(torch.get_num_threads()),
            *map(ctypes.c_bool, options),
            *(ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors),
        )


@functools.cache
def cpu_kernels() -> CpuKernels | None:
    """The compiled kernels, or None where they cannot be made (the reason is logged)."""
    try:
        return CpuKernels(ctypes.CDLL(str(_library())))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or error
        logger.warning("norms run as torch operations, several times slower: %s", detail)
        return None


def _library() -> Path:
    """The shared library for this source, compiler and processor; compiled if it is new."""
    compiler = next(
        filter(None, map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++"))), None
    )
    if compiler is None or os.name != "posix":
        raise OSError("no C++ compiler was found; install g++ (Debian: apt install g++) or set CXX")
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    parts = [SOURCE.read_bytes(), " ".join(FLAGS).encode(), version, _processor().encode()]
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "reidseg")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = folder / f"norms-{key}.so"
        if made.exists():
            return made
        handle, temporary = tempfile.mkstemp(suffix=".so", dir=folder)
    except (OSError, RuntimeError):  # no home, or not to be written: for this process alone
        made = Path(tempfile.mkdtemp(prefix="reidseg-"), "norms.so")
        handle, temporary = tempfile.mkstemp(suffix=".so", dir=made.parent)
    os.close(handle)
    try:
        logger.info("compiling the CPU kernels of the norms with %s (once)", compiler)
        command = [compiler, *FLAGS, str(SOURCE), "-o", temporary]
        subprocess.run(command, capture_output=True, check=True, text=True, timeout=300)
        Path(temporary).replace(made)  # whole or not at all, whoever else compiles
    finally:
        Path(temporary).unlink(missing_ok=True)
    return made


def _processor() -> str:
    """What -march=native depends on: a home may be shared by different machines."""
    # the first line of each, of x86 and of ARM
    names = ("model name", "flags", "CPU implementer", "CPU part", "Features")
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    found = (next((x for x in lines if x.startswith(name)), "") for name in names)
    return platform.machine() + "".join(found)


def _dense(x: Tensor) -> tuple[Tensor, bool]:
    """x without gaps, and whether it lies as rows of channels rather than as planes."""
    if x.is_contiguous():
        return x, False
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.ndim)
    if last is not None and x.is_contiguous(memory_format=last):
        return x, True
    return x.contiguous(), False


def _like(tensor: Tensor, x: Tensor, rows: bool) -> Tensor:
    """In the type and memory format of x; where a gradient comes otherwise, it is copied."""
    tensor = tensor.to(x.dtype)
    if not rows:
        return tensor.contiguous()
    last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    return tensor.contiguous(memory_format=last)


def _tables(x: Tensor) -> tuple[Tensor, Tensor]:
    first, second = x.new_empty((2, *x.shape[:2]), dtype=torch.float32)
    return first, second
