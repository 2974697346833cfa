"""As resnet50_agw_vehicleid, with IBN-b."""

_base_ = "./resnet50_agw_vehicleid.py"

model = dict(backbone=dict(ibn="b"))
