"""As resnet18_small_market1501, with SN."""

_base_ = "./resnet18_small_market1501.py"

model = dict(backbone=dict(norm=dict(type="backbones.SN"), last_gamma=True))
