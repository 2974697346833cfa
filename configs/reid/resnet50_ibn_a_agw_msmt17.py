"""As resnet50_agw_msmt17, with IBN-a."""

_base_ = "./resnet50_agw_msmt17.py"

model = dict(backbone=dict(ibn="a"))
