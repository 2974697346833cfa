"""IBN-Net-a on ImageNet in about a quarter of the time of 100 epochs."""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet_176.py",
    "../_base_/schedules/cls_short_imagenet_36e.py",
    "../_base_/runtime/cls.py",
]

model = dict(backbone=dict(ibn="a"), label_smoothing=0.1)
