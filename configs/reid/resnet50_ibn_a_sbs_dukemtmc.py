"""As resnet50_sbs_dukemtmc, with IBN-a."""

_base_ = "./resnet50_sbs_dukemtmc.py"

model = dict(backbone=dict(ibn="a"))
