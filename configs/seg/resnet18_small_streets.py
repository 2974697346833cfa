"""ResNet-18 DeepLabV3+ on drawn streets in the style of a game, tested on those of a real city."""

_base_ = [
    "../_base_/models/deeplabv3plus_small.py",
    "../_base_/datasets/streets.py",
    "../_base_/schedules/seg_small_600.py",
    "../_base_/runtime/seg.py",
]
