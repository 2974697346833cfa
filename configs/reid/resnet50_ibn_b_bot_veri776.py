"""As resnet50_bot_veri776, with IBN-b."""

_base_ = "./resnet50_bot_veri776.py"

model = dict(backbone=dict(ibn="b"))
