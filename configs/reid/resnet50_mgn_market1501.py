"""MGN on Market1501: ResNet-50 with ImageNet weights (--weights), 384x128."""

_base_ = [
    "../_base_/models/mgn.py",
    "../_base_/datasets/market1501_384x128.py",
    "../_base_/schedules/sbs_60e.py",
    "../_base_/runtime/reid.py",
]
