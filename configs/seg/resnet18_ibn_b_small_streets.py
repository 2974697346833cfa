"""The same with IBN-b."""

_base_ = "./resnet18_small_streets.py"

model = dict(backbone=dict(ibn="b"))
