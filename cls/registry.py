"""Registries of this room, children of mmengine's: ``type='cls.Classifier'`` builds anywhere."""

from mmengine import registry as _root
from mmengine.registry import Registry

MODELS = Registry("model", parent=_root.MODELS, scope="cls", locations=["cls.classifier"])
DATASETS = Registry("dataset", parent=_root.DATASETS, scope="cls", locations=["cls.datasets"])
DATA_SAMPLERS = Registry(
    "data_sampler", parent=_root.DATA_SAMPLERS, scope="cls", locations=["cls.samplers"]
)
METRICS = Registry("metric", parent=_root.METRICS, scope="cls", locations=["cls.evaluation.metric"])
FUNCTIONS = Registry("function", parent=_root.FUNCTIONS, scope="cls", locations=["cls.datasets"])
