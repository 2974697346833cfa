"""As resnet50_bot_msmt17_all-to-market1501, with SN, which starts from published SN weights."""

_base_ = "./resnet50_bot_msmt17_all-to-market1501.py"

model = dict(backbone=dict(norm=dict(type="backbones.SN"), last_gamma=True))
