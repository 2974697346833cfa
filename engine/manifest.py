"""The run manifest: everything that a number needs beside it to be believed and repeated."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

VERSIONED = (
    "reidseg",
    "torch",
    "torchvision",
    "numpy",
    "onedl-mmengine",
    "onedl-mmcv",
    "onedl-mmsegmentation",
    "faiss-cpu",
    "faiss-gpu",
    "albumentations",
    "opencv-python-headless",
)


def collect_manifest(
    *, config: str = "", seed: int | None = None, protocol: Any = None, data: Any = None
) -> dict[str, Any]:
    """Describe this run.

    Args:
        config: the full text of the configuration.
        seed: of the run.
        protocol: how the numbers were made (data set, split, rules), in words or a dict.
        data: fingerprint of the data, by name.
    """
    return {
        "command": sys.argv,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seed": seed,
        "protocol": protocol,
        "data": data,
        "git": git_revision(),
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "world_size": int(os.environ.get("WORLD_SIZE", 1)),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": installed_versions(),
        "config": config,
    }


def installed_versions() -> dict[str, str]:
    versions = {}
    for name in VERSIONED:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def device_name() -> str:
    """The accelerator, or the processor and its number of cores."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].split(":", 1)[1].strip() if names else model
    return f"{model}, {os.cpu_count()} cores"


def git_revision() -> str | None:
    """Revision of this source tree, with '+changes' if the tree differs; None outside git."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return None  # installed inside somebody else's repository
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None
