"""As resnet50_bot_dukemtmc, with SE-ResNet-50-IBN-a."""

_base_ = "./resnet50_bot_dukemtmc.py"

model = dict(backbone=dict(ibn="a", se=True))
