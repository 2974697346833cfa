"""ResNet-50 with batch norm on ImageNet: the baseline of IBN-Net's table."""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/cls_step_100e.py",
    "../_base_/runtime/cls.py",
]
