"""As resnet18_small_market1501, with IBN-b."""

_base_ = "./resnet18_small_market1501.py"

model = dict(backbone=dict(ibn="b"))
