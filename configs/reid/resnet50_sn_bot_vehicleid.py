"""As resnet50_bot_vehicleid, with SN, which starts from published SN weights."""

_base_ = "./resnet50_bot_vehicleid.py"

model = dict(backbone=dict(norm=dict(type="backbones.SN"), last_gamma=True))
