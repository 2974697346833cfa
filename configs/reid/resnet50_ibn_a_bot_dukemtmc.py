"""As resnet50_bot_dukemtmc, with IBN-a."""

_base_ = "./resnet50_bot_dukemtmc.py"

model = dict(backbone=dict(ibn="a"))
