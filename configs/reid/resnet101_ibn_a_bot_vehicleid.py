"""As resnet50_bot_vehicleid, with ResNet-101-IBN-a."""

_base_ = "./resnet50_bot_vehicleid.py"

model = dict(backbone=dict(depth=101, ibn="a"))
