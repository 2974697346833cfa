"""As resnet50_bot_veri776, with SE-ResNet-50-IBN-a."""

_base_ = "./resnet50_bot_veri776.py"

model = dict(backbone=dict(ibn="a", se=True))
