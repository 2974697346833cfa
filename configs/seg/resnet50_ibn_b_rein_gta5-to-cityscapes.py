"""ResNet-50-IBN-b with an UPerNet head under Rein's protocol."""

_base_ = [
    "../_base_/models/upernet.py",
    "../_base_/datasets/gta5_512.py",
    "../_base_/schedules/seg_adamw_40k.py",
    "../_base_/runtime/seg_no_validation.py",
]

protocol = "rein-512"
model = dict(
    backbone=dict(ibn="b"),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)
