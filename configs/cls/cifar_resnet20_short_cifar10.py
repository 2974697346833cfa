"""ResNet-20 (thin) on CIFAR-10 in 30 epochs.

The norm is an option: `--cfg-options model.backbone.norm=bin` (bn, in, ln, bin, sn).
"""

_base_ = [
    "../_base_/models/classifier_cifar.py",
    "../_base_/datasets/cifar10.py",
    "../_base_/schedules/cls_short_30e.py",
    "../_base_/runtime/cls.py",
]
