"""SegFormer's all-MLP head (Xie et al. 2021) on the four maps of a convolutional backbone."""

_base_ = "./segmentor.py"

model = dict(
    backbone=dict(type="backbones.ResNet", depth=50),
    decode_head=dict(type="SegformerHead", in_index=[0, 1, 2, 3], channels=256),
    auxiliary_head=None,
)
