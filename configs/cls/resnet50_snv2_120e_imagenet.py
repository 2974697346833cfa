"""SN on ImageNet, version 2: pre-activation, warm-up and cosine over 120 epochs."""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet_sn.py",
    "../_base_/schedules/cls_cosine_120e.py",
    "../_base_/runtime/cls.py",
]

model = dict(
    backbone=dict(
        depth=50,
        norm=dict(type="backbones.SN", using_bn=True, using_moving_average=True),
        preact=True,
    )
)
