"""As resnet50_agw_vehicleid, with IBN-a."""

_base_ = "./resnet50_agw_vehicleid.py"

model = dict(backbone=dict(ibn="a"))
