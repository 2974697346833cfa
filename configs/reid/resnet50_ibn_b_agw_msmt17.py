"""As resnet50_agw_msmt17, with IBN-b."""

_base_ = "./resnet50_agw_msmt17.py"

model = dict(backbone=dict(ibn="b"))
