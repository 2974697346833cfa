"""As resnet50_bot_msmt17-to-market1501, with IBN-b."""

_base_ = "./resnet50_bot_msmt17-to-market1501.py"

model = dict(backbone=dict(ibn="b"))
