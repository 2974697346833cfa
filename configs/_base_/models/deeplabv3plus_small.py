"""DeepLabV3+ that a CPU trains: ResNet-18, narrow heads, output stride 32, small rates to fit."""

_base_ = "./deeplabv3plus.py"

model = dict(
    backbone=dict(depth=18, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1)),
    decode_head=dict(channels=64, c1_channels=24, dilations=(1, 2, 3)),
    auxiliary_head=dict(channels=64),
)
