"""As resnet50_bot_msmt17, with IBN-b."""

_base_ = "./resnet50_bot_msmt17.py"

model = dict(backbone=dict(ibn="b"))
