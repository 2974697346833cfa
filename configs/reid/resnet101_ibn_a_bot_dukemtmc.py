"""As resnet50_bot_dukemtmc, with ResNet-101-IBN-a."""

_base_ = "./resnet50_bot_dukemtmc.py"

model = dict(backbone=dict(depth=101, ibn="a"))
