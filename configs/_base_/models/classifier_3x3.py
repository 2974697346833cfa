"""A ResNet of ImageNet's width with a 3x3 stem for 32x32 images, as ILM-Norm's authors use it."""

_base_ = "./classifier_cifar.py"

model = dict(
    backbone=dict(_delete_=True, type="backbones.ResNet", depth=18, stem="3x3", num_classes=10),
)
