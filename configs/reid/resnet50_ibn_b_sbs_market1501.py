"""As resnet50_sbs_market1501, with IBN-b."""

_base_ = "./resnet50_sbs_market1501.py"

model = dict(backbone=dict(ibn="b"))
