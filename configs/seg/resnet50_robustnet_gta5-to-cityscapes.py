"""RobustNet's baseline: ResNet-50 DeepLabV3+ with batch norm, GTA5 -> Cityscapes and others."""

_base_ = [
    "../_base_/models/deeplabv3plus.py",
    "../_base_/datasets/gta5_robustnet.py",
    "../_base_/schedules/seg_sgd_40k.py",
    "../_base_/runtime/seg.py",
]

protocol = "robustnet-r50"
