"""IBN-Net-b on ImageNet (Pan et al. 2018)."""

_base_ = "./resnet50_100e_imagenet.py"

model = dict(backbone=dict(ibn="b"))
