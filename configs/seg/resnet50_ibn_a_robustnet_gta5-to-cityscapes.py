"""With IBN-a in place of batch norm."""

_base_ = "./resnet50_robustnet_gta5-to-cityscapes.py"

model = dict(backbone=dict(ibn="a"))
