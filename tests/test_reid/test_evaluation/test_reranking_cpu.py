"""How the kernels are found; what they compute is tested with neighbours and re-ranking."""

import shutil
import subprocess

import pytest
import torch

from backbones import native
from reid.evaluation import rerank
from reid.evaluation import reranking_cpu as module


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Kernels are looked for again, in an empty cache; put back afterwards."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module.cpu_kernels.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    module.cpu_kernels.cache_clear()


def test_switched_off_by_the_environment(monkeypatch):
    monkeypatch.setenv("REID_KERNELS", "torch")
    assert module.kernels_for(torch.device("cpu")) is None
    monkeypatch.setenv("REID_KERNELS", "fast")
    with pytest.raises(ValueError, match="REID_KERNELS must be 'auto' or 'torch', got 'fast'"):
        module.kernels_for(torch.device("cpu"))


def test_none_on_a_gpu(monkeypatch):
    monkeypatch.delenv("REID_KERNELS", raising=False)
    assert module.kernels_for(torch.device("cuda")) is None


def test_without_a_compiler_it_works_and_says_so(fresh, monkeypatch, caplog):
    generator = torch.Generator().manual_seed(0)
    query, gallery = torch.randn(5, 8, generator=generator), torch.randn(40, 8, generator=generator)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(fresh))
    assert rerank(query, gallery).toarray().shape == (5, 40)
    assert "several times slower" in caplog.text and "install g++" in caplog.text


def test_the_source_compiles_without_a_warning():
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    flags = [*native.FLAGS, *module.EXTRA_FLAGS, "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    subprocess.run([compiler, *flags, str(module.SOURCE)], check=True)
