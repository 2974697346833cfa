"""As resnet18_small_market1501, with IN everywhere."""

_base_ = "./resnet18_small_market1501.py"

model = dict(backbone=dict(norm="in"))
