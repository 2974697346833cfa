"""The IBN-Net paper's experiment: PSPNet without the pyramid module, ResNet-50-IBN-a."""

_base_ = [
    "../_base_/models/ibnnet_2018.py",
    "../_base_/datasets/gta5_ibnnet.py",
    "../_base_/schedules/seg_sgd_40k.py",
    "../_base_/runtime/seg.py",
]

protocol = "ibnnet-2018"
model = dict(backbone=dict(ibn="a"))
