"""IBN-Net-a on ImageNet (Pan et al., ECCV 2018); `model.backbone.depth` for 18, 34, 101, 152."""

_base_ = "./resnet50_100e_imagenet.py"

model = dict(backbone=dict(ibn="a"))
