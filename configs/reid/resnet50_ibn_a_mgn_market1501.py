"""As resnet50_mgn_market1501, with IBN-a."""

_base_ = "./resnet50_mgn_market1501.py"

model = dict(backbone=dict(ibn="a"))
