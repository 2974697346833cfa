"""As resnet50_agw_market1501, with IBN-b."""

_base_ = "./resnet50_agw_market1501.py"

model = dict(backbone=dict(ibn="b"))
