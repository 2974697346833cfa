"""As resnet50_bot_veri776, with SN, which starts from published SN weights."""

_base_ = "./resnet50_bot_veri776.py"

model = dict(backbone=dict(norm=dict(type="backbones.SN"), last_gamma=True))
