"""Registries of this room, children of mmengine's: ``type='engine.Runner'`` builds anywhere."""

from mmengine import registry as _root
from mmengine.registry import Registry

MODELS = Registry("model", parent=_root.MODELS, scope="engine", locations=["engine.normalizer"])
RUNNERS = Registry("runner", parent=_root.RUNNERS, scope="engine", locations=["engine.runner"])
LOOPS = Registry("loop", parent=_root.LOOPS, scope="engine", locations=["engine.loops"])
HOOKS = Registry(
    "hook",
    parent=_root.HOOKS,
    scope="engine",
    locations=[
        "engine.hooks",
        "engine.calibration_hook",
        "engine.averaging_hook",
        "engine.freeze_hook",
    ],
)
OPTIM_WRAPPERS = Registry(
    "optim_wrapper",
    parent=_root.OPTIM_WRAPPERS,
    scope="engine",
    locations=["engine.precision"],
)
