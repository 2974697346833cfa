"""As resnet50_agw_veri776, with IBN-a."""

_base_ = "./resnet50_agw_veri776.py"

model = dict(backbone=dict(ibn="a"))
