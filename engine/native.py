"""C++ kernels of the rooms above: :mod:`backbones.native`, for those that know no network."""

from backbones.native import argument, call, load_library, load_or_warn, switched_on

__all__ = ["argument", "call", "load_library", "load_or_warn", "switched_on"]
