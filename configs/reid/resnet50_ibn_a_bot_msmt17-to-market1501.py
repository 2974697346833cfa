"""As resnet50_bot_msmt17-to-market1501, with IBN-a."""

_base_ = "./resnet50_bot_msmt17-to-market1501.py"

model = dict(backbone=dict(ibn="a"))
