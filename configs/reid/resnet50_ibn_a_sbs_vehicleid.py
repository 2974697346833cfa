"""As resnet50_sbs_vehicleid, with IBN-a."""

_base_ = "./resnet50_sbs_vehicleid.py"

model = dict(backbone=dict(ibn="a"))
