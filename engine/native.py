"""C++ kernels of the rooms above: :mod:`backbones.native`, for those that know no network."""

from backbones.native import load_library, reason

__all__ = ["load_library", "reason"]
