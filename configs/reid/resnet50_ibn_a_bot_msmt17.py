"""As resnet50_bot_msmt17, with IBN-a."""

_base_ = "./resnet50_bot_msmt17.py"

model = dict(backbone=dict(ibn="a"))
