"""ResNet-18 from scratch on PACS without its sketches, tested on them: minutes on a CPU.

The norm is an option: `--cfg-options model.backbone.ibn=a`, `model.backbone.norm=sn`.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/pacs.py",
    "../_base_/schedules/cls_pacs_30e.py",
    "../_base_/runtime/cls.py",
]

model = dict(backbone=dict(depth=18, num_classes=7))
