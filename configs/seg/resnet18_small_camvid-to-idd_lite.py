"""ResNet-18 DeepLabV3+ from scratch on CamVid, tested there and on IDD-lite: minutes on a CPU.

The norm is an option: `--cfg-options model.backbone.ibn=a`, `model.backbone.norm=sn`.
"""

_base_ = [
    "../_base_/models/deeplabv3plus_small.py",
    "../_base_/datasets/camvid_idd_lite.py",
    "../_base_/schedules/seg_small_600.py",
    "../_base_/runtime/seg.py",
]

model = dict(decode_head=dict(num_classes=7), auxiliary_head=dict(num_classes=7))
