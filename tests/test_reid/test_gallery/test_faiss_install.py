"""Importing FAISS: which installations are refused, and with which commands."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from reid.gallery import faiss_install, import_faiss
from reid.gallery.faiss_install import faiss_distributions


def test_the_module_comes_back():
    assert hasattr(import_faiss(), "IndexFlatIP")
    assert import_faiss(["numpy", "faiss-cpu"]) is import_faiss()


@pytest.mark.parametrize(
    ("installed", "found"),
    [
        ([], []),
        (["numpy", "torch", "faissknn", "my-faiss-cpu"], []),
        (["faiss"], ["faiss"]),
        (["FAISS_CPU", "faiss-cpu"], ["faiss-cpu"]),
        (["faiss-gpu-cuvs", "faiss-gpu-cu12", "x"], ["faiss-gpu-cu12", "faiss-gpu-cuvs"]),
    ],
)
def test_distributions_of_faiss_are_known(installed, found):
    assert faiss_distributions(installed) == found


def test_two_distributions_are_named_with_the_commands():
    with pytest.raises(ImportError) as raised:
        import_faiss(["numpy", "faiss-gpu", "faiss_cpu"])
    message = str(raised.value)
    assert "2 FAISS distributions are installed together: faiss-cpu, faiss-gpu." in message
    assert "pip uninstall -y faiss-cpu faiss-gpu\n" in message
    assert "`pip install faiss-cpu` or `pip install faiss-gpu`" in message


def test_installed_distributions_are_looked_up_once(monkeypatch):
    calls = []
    monkeypatch.setattr(faiss_install, "_checked", False)
    monkeypatch.setattr(
        faiss_install, "installed_distributions", lambda: calls.append(1) or ["faiss-cpu"]
    )
    import_faiss()
    import_faiss()
    assert len(calls) == 1


def test_a_broken_installation_stays_broken(monkeypatch):
    monkeypatch.setattr(faiss_install, "_checked", False)
    monkeypatch.setattr(faiss_install, "installed_distributions", lambda: ["faiss", "faiss-gpu"])
    for _ in range(2):
        with pytest.raises(ImportError, match="installed together"):
            import_faiss()


def test_missing_faiss_names_the_pip_line(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ImportError, match="pip install faiss-cpu"):
        import_faiss()


def test_what_faiss_itself_misses_is_not_hidden(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="numpy"):
        import_faiss()


def test_importing_the_gallery_imports_no_faiss_and_no_torch():
    code = "import sys, reid.gallery; print([m for m in ('faiss', 'torch') if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "[]\n"
