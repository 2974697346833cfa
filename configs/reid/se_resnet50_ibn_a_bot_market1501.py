"""As resnet50_bot_market1501, with SE-ResNet-50-IBN-a."""

_base_ = "./resnet50_bot_market1501.py"

model = dict(backbone=dict(ibn="a", se=True))
