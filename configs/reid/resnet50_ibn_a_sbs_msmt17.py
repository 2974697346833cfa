"""As resnet50_sbs_msmt17, with IBN-a."""

_base_ = "./resnet50_sbs_msmt17.py"

model = dict(backbone=dict(ibn="a"))
