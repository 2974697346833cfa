"""SN on ImageNet (Luo et al., ICLR 2019), steps; version 1 of its network.

`model.backbone.norm.using_bn=False` for one image a process.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet_sn.py",
    "../_base_/schedules/cls_step_100e.py",
    "../_base_/runtime/cls.py",
]

model = dict(
    backbone=dict(
        depth=50,
        norm=dict(type="backbones.SN", using_bn=True, using_moving_average=True),
        last_gamma=True,
        dropout=0.5,
    )
)
