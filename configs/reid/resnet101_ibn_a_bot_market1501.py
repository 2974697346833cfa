"""As resnet50_bot_market1501, with ResNet-101-IBN-a."""

_base_ = "./resnet50_bot_market1501.py"

model = dict(backbone=dict(depth=101, ibn="a"))
