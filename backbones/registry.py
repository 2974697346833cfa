"""Registries of this room, children of mmengine's: ``type='backbones.ResNet'`` builds anywhere.

mmengine imports ``backbones.registry`` when it meets the prefix and then the ``locations`` on the
first look-up, so neither mmengine nor mmseg needs ``custom_imports``.
"""

from mmengine.registry import HOOKS as _HOOKS
from mmengine.registry import MODELS as _MODELS
from mmengine.registry import Registry

MODELS = Registry("model", parent=_MODELS, scope="backbones", locations=["backbones"])
HOOKS = Registry("hook", parent=_HOOKS, scope="backbones", locations=["backbones"])
