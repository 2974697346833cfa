"""BIN on pictures of characters (ICDAR 2003, 2005, Chars74K; Nam and Kim 2018)."""

_base_ = [
    "../_base_/models/classifier_cifar.py",
    "../_base_/datasets/characters.py",
    "../_base_/schedules/cls_bin_164e.py",
    "../_base_/runtime/cls.py",
]

model = dict(backbone=dict(depth=20, norm="bin", num_classes=62))
