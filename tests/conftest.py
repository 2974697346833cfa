"""What every test gets: a seed, one thread, a device and a dtype; which tests run by default."""

from __future__ import annotations

# ruff: noqa: E402 - the environment is set before numpy and torch read it
import os
import random
from collections.abc import Iterator

# Before torch, faiss and OpenCV are imported, here and in every subprocess: results must not
# depend on the machine's cores, and no test may open a window.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["MPLBACKEND"] = "Agg"

import numpy as np
import pytest
import torch

SEED = 20240229
DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("reidseg")
    group.addoption("--run-slow", action="store_true", help="run the tests marked slow as well")
    group.addoption("--device", default="cpu", help="device of the fixture `device` (default: cpu)")
    group.addoption(
        "--dtype",
        default="float32",
        choices=list(DTYPES),
        help="dtype of the fixture `dtype` (default: float32)",
    )


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        no_cuda = pytest.mark.skip(reason="no CUDA device")
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(no_cuda)
    # A marker expression, or a test named by its id, says what is wanted: then nothing is dropped.
    asked = config.getoption("--run-slow") or config.getoption("-m")
    if asked or any("::" in argument for argument in config.args):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Each test draws the same random numbers, alone or in any order."""
    random.seed(SEED)
    np.random.seed(SEED)
    torch.manual_seed(SEED)
    yield


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """CUDA for a test marked ``gpu``, otherwise what ``--device`` says (CPU)."""
    if request.node.get_closest_marker("gpu"):
        return torch.device("cuda")
    return torch.device(request.config.getoption("--device"))


@pytest.fixture
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return DTYPES[request.config.getoption("--dtype")]
