"""As resnet50_bot_vehicleid, with SE-ResNet-50-IBN-a."""

_base_ = "./resnet50_bot_vehicleid.py"

model = dict(backbone=dict(ibn="a", se=True))
