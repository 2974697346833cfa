"""ResNet-20 (thin) on CIFAR-100 in 30 epochs."""

_base_ = [
    "../_base_/models/classifier_cifar.py",
    "../_base_/datasets/cifar100.py",
    "../_base_/schedules/cls_short_30e.py",
    "../_base_/runtime/cls.py",
]

model = dict(backbone=dict(num_classes=100))
