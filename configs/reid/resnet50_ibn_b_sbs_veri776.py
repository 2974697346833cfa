"""As resnet50_sbs_veri776, with IBN-b."""

_base_ = "./resnet50_sbs_veri776.py"

model = dict(backbone=dict(ibn="b"))
