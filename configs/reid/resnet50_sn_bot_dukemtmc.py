"""As resnet50_bot_dukemtmc, with SN, which starts from published SN weights."""

_base_ = "./resnet50_bot_dukemtmc.py"

model = dict(backbone=dict(norm=dict(type="backbones.SN"), last_gamma=True))
