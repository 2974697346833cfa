"""As resnet50_bot_dukemtmc, with IBN-b."""

_base_ = "./resnet50_bot_dukemtmc.py"

model = dict(backbone=dict(ibn="b"))
