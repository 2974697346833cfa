"""ResNet-18 of full width with a 3x3 stem on CIFAR-10 in 30 epochs; the norm is an option."""

_base_ = [
    "../_base_/models/classifier_3x3.py",
    "../_base_/datasets/cifar10.py",
    "../_base_/schedules/cls_short_30e.py",
    "../_base_/runtime/cls.py",
]
