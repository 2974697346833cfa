"""The one door to FAISS: import it, or say exactly which pip command mends the installation.

Every FAISS wheel (``faiss-cpu``, ``faiss-gpu``, ``faiss-gpu-cuvs``, ...) owns the same ``faiss/``
folder. Installed together, the last one wins file by file and the mixture fails in odd ways or
silently runs without the GPU, so two of them are refused instead of used.
"""

import importlib
import importlib.metadata
import re
from collections.abc import Iterable
from typing import Any

_FAISS_DISTRIBUTION = re.compile(r"faiss(-(cpu|gpu)(-.+)?)?")
_checked = False


def installed_distributions() -> list[str]:
    """Names of all installed distributions, as their metadata spells them."""
    names = (dist.metadata["Name"] for dist in importlib.metadata.distributions())
    return [name for name in names if name]


def faiss_distributions(distributions: Iterable[str]) -> list[str]:
    """Those of ``distributions`` that own the ``faiss/`` folder: normalised names, sorted."""
    normalised = {re.sub(r"[-_.]+", "-", name).lower() for name in distributions}
    return sorted(name for name in normalised if _FAISS_DISTRIBUTION.fullmatch(name))


def import_faiss(distributions: Iterable[str] | None = None) -> Any:
    """Import and return the ``faiss`` module.

    Args:
        distributions: names of the installed distributions; by default what importlib.metadata
            finds (looked up once a process).

    Raises:
        ImportError: FAISS is missing, or two distributions of it are installed together.
    """
    global _checked
    if distributions is not None or not _checked:
        _refuse_double_install(
            installed_distributions() if distributions is None else distributions
        )
        _checked = _checked or distributions is None
    try:
        return importlib.import_module("faiss")
    except ModuleNotFoundError as error:
        if error.name != "faiss":
            raise
        raise ImportError(
            "An approximate index needs FAISS, which is not installed. Install exactly one of:\n"
            "    pip install faiss-cpu\n"
            "    pip install faiss-gpu    # with an NVIDIA GPU"
        ) from error


def _refuse_double_install(distributions: Iterable[str]) -> None:
    found = faiss_distributions(distributions)
    if len(found) < 2:
        return
    keep = " or ".join(f"`pip install {name}`" for name in found)
    raise ImportError(
        f"{len(found)} FAISS distributions are installed together: {', '.join(found)}. They own "
        "the same faiss/ folder and overwrite each other's files. Remove all of them, then "
        f"install one:\n    pip uninstall -y {' '.join(found)}\n    {keep}"
    )
