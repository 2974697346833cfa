"""Registry of this room, a child of mmengine's: ``type='imaging.AugmentingNormalizer'``."""

from mmengine import registry as _root
from mmengine.registry import Registry

MODELS = Registry(
    "model", parent=_root.MODELS, scope="imaging", locations=["imaging.batch_augmentation"]
)
