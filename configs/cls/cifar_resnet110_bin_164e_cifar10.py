"""BIN on CIFAR-10 (Nam and Kim, NeurIPS 2018): the thin ResNet-110 of bottlenecks.

Its other depths: `--cfg-options model.backbone.depth=20` (basic blocks below 44, or with
`model.backbone.block=basic`); the baselines: `model.backbone.norm=bn`, `in`.
"""

_base_ = [
    "../_base_/models/classifier_cifar.py",
    "../_base_/datasets/cifar10.py",
    "../_base_/schedules/cls_bin_164e.py",
    "../_base_/runtime/cls.py",
]

model = dict(backbone=dict(depth=110, norm="bin"))
