"""As resnet50_agw_dukemtmc, with IBN-a."""

_base_ = "./resnet50_agw_dukemtmc.py"

model = dict(backbone=dict(ibn="a"))
