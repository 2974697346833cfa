"""Registries of this room: ``type='seg.GTA5'`` builds from mmengine's and mmseg's registries."""

import io
from contextlib import redirect_stdout

from mmengine import registry as _root
from mmengine.registry import Registry

with redirect_stdout(io.StringIO()):  # at its first import it prints that a client is absent
    import mmseg.datasets  # noqa: F401

MODELS = Registry("model", parent=_root.MODELS, scope="seg", locations=["seg.models"])
DATASETS = Registry("dataset", parent=_root.DATASETS, scope="seg", locations=["seg.datasets"])
TRANSFORMS = Registry(
    "transform", parent=_root.TRANSFORMS, scope="seg", locations=["seg.transforms"]
)
DATA_SAMPLERS = Registry(
    "data_sampler", parent=_root.DATA_SAMPLERS, scope="seg", locations=["seg.samplers"]
)
METRICS = Registry("metric", parent=_root.METRICS, scope="seg", locations=["seg.evaluation.metric"])
