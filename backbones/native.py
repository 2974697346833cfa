"""C++ sources compiled by the machine itself at their first use, and loaded through ctypes.

No build step at installation, no torch headers: the machine's own C++ compiler makes a shared
library for its own instruction set in a few seconds, kept under ``~/.cache/reidseg``. Whoever uses
one keeps a way to compute the same without it.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

logger = logging.getLogger(__name__)

FLAGS = ("-O3", "-march=native", "-std=c++17", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")


def load_library(source: Path, name: str, purpose: str, extra: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The library made of ``source``, compiled if it is new.

    Args:
        source: one C++17 file without dependencies.
        name: what the file in the cache is called.
        purpose: for the log: ``'the CPU kernels of the norms'``.
        extra: flags beside ``FLAGS``.

    Raises:
        OSError, subprocess.SubprocessError: if it cannot be made; :func:`reason` says why.
    """
    return ctypes.CDLL(str(_library(source, name, purpose, (*FLAGS, *extra))))


def load_or_warn(
    source: Path, name: str, purpose: str, extra: tuple[str, ...] = (), *, without: str
) -> ctypes.CDLL | None:
    """The same, or None where it cannot be made.

    Args:
        without: what is to be said then, before the reason: ``'norms run as torch operations'``.
    """
    try:
        return load_library(source, name, purpose, extra)
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning("%s: %s", without, reason(error))
        return None


def switched_on(variable: str) -> bool:
    """Whether the environment leaves kernels on: ``auto``, and not ``torch``.

    Raises:
        ValueError: it says something else.
    """
    choice = os.environ.get(variable, "auto")
    if choice not in ("auto", "torch"):
        raise ValueError(f"{variable} must be 'auto' or 'torch', got {choice!r}")
    return choice == "auto"


def call(library: ctypes.CDLL, name: str, *arguments: Any) -> None:
    """Call a function whose last parameter is the number of threads: as many as torch's."""
    threads = ctypes.c_int(torch.get_num_threads())
    getattr(library, name)(*map(argument, arguments), threads)


def argument(value: Any) -> Any:
    """An argument as C takes it: arrays and tensors by their data, None as null, ints of 64 bits.

    What ctypes knows already stays as it is.
    """
    if value is None:
        return ctypes.c_void_p(None)
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    if isinstance(value, torch.Tensor):
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_int64(value) if isinstance(value, int) else value


def reason(error: Exception) -> object:
    """What went wrong: the compiler's own words where there are any."""
    return getattr(error, "stderr", None) or error


def _library(source: Path, name: str, purpose: str, flags: tuple[str, ...]) -> Path:
    """The shared library for this source, compiler and processor; compiled if it is new."""
    compiler = next(
        filter(None, map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++"))), None
    )
    if compiler is None or os.name != "posix":
        raise OSError("no C++ compiler was found; install g++ (Debian: apt install g++) or set CXX")
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
    parts = [source.read_bytes(), " ".join(flags).encode(), version, processor().encode()]
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "reidseg")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = folder / f"{name}-{key}.so"
        if made.exists():
            return made
        handle, temporary = tempfile.mkstemp(suffix=".so", dir=folder)
    except (OSError, RuntimeError):  # no home, or not to be written: for this process alone
        made = Path(tempfile.mkdtemp(prefix="reidseg-"), f"{name}.so")
        handle, temporary = tempfile.mkstemp(suffix=".so", dir=made.parent)
    os.close(handle)
    try:
        logger.info("compiling %s with %s (once)", purpose, compiler)
        command = [compiler, *flags, str(source), "-o", temporary]
        subprocess.run(command, capture_output=True, check=True, text=True, timeout=300)
        Path(temporary).replace(made)  # whole or not at all, whoever else compiles
    finally:
        Path(temporary).unlink(missing_ok=True)
    return made


def processor() -> str:
    """What -march=native depends on: a home may be shared by different machines."""
    # the first line of each, of x86 and of ARM
    names = ("model name", "flags", "CPU implementer", "CPU part", "Features")
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    found = (next((x for x in lines if x.startswith(name)), "") for name in names)
    return platform.machine() + "".join(found)
