"""What the three trainers share: Runner, loops, hooks, precision, manifest, command line."""

from .hooks import (
    IterationSeedHook,
    ManifestHook,
    NonFiniteLossError,
    NonFiniteLossHook,
    StoppedBySignal,
    StopSafelyHook,
)
from .loops import DomainLoop, EpochLoop
from .precision import AutocastOptimWrapper, Precision, autocast
from .runner import Runner

__all__ = [
    "AutocastOptimWrapper",
    "DomainLoop",
    "EpochLoop",
    "IterationSeedHook",
    "ManifestHook",
    "NonFiniteLossError",
    "NonFiniteLossHook",
    "Precision",
    "Runner",
    "StopSafelyHook",
    "StoppedBySignal",
    "autocast",
]
