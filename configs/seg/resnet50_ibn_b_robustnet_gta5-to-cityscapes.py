"""With IBN-b, which RobustNet's tables call IBN."""

_base_ = "./resnet50_robustnet_gta5-to-cityscapes.py"

model = dict(backbone=dict(ibn="b"))
