"""As resnet50_sbs_vehicleid, with IBN-b."""

_base_ = "./resnet50_sbs_vehicleid.py"

model = dict(backbone=dict(ibn="b"))
