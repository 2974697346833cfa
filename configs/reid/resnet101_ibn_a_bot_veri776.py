"""As resnet50_bot_veri776, with ResNet-101-IBN-a."""

_base_ = "./resnet50_bot_veri776.py"

model = dict(backbone=dict(depth=101, ibn="a"))
