"""BIN on ImageNet with ResNet-18.

Its schedule was not published: this is IBN-Net's, with the gates of BIN.
"""

_base_ = [
    "../_base_/models/classifier.py",
    "../_base_/datasets/imagenet.py",
    "../_base_/schedules/cls_step_100e.py",
    "../_base_/runtime/cls.py",
]

model = dict(backbone=dict(depth=18, norm="bin"))
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={"gate": dict(lr_mult=10.0, decay_mult=0.0)}),
)
