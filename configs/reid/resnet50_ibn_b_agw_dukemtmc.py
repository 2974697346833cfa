"""As resnet50_agw_dukemtmc, with IBN-b."""

_base_ = "./resnet50_agw_dukemtmc.py"

model = dict(backbone=dict(ibn="b"))
