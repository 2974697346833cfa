"""As resnet50_bot_vehicleid, with IBN-b."""

_base_ = "./resnet50_bot_vehicleid.py"

model = dict(backbone=dict(ibn="b"))
