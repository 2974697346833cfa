"""Registries of this room, children of mmengine's: ``type='reid.Embedder'`` builds anywhere."""

from mmengine import registry as _root
from mmengine.registry import Registry

MODELS = Registry(
    "model", parent=_root.MODELS, scope="reid", locations=["reid.models", "reid.losses"]
)
DATASETS = Registry("dataset", parent=_root.DATASETS, scope="reid", locations=["reid.datasets"])
DATA_SAMPLERS = Registry(
    "data_sampler", parent=_root.DATA_SAMPLERS, scope="reid", locations=["reid.samplers"]
)
METRICS = Registry(
    "metric", parent=_root.METRICS, scope="reid", locations=["reid.evaluation.metric"]
)
FUNCTIONS = Registry("function", parent=_root.FUNCTIONS, scope="reid", locations=["reid.datasets"])
