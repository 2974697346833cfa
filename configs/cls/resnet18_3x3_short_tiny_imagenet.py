"""ResNet-18 with a 3x3 stem on Tiny-ImageNet in 30 epochs."""

_base_ = [
    "../_base_/models/classifier_3x3.py",
    "../_base_/datasets/tiny_imagenet.py",
    "../_base_/schedules/cls_short_30e.py",
    "../_base_/runtime/cls.py",
]

model = dict(backbone=dict(num_classes=200))
