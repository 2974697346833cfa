"""BIN on CIFAR-100, as cifar_resnet110_bin_164e_cifar10."""

_base_ = [
    "../_base_/models/classifier_cifar.py",
    "../_base_/datasets/cifar100.py",
    "../_base_/schedules/cls_bin_164e.py",
    "../_base_/runtime/cls.py",
]

model = dict(backbone=dict(depth=110, norm="bin", num_classes=100))
