"""ResNet-18 with plain batch norm, from scratch, 128x64: the small CPU recipe."""

_base_ = [
    "../_base_/models/embedder.py",
    "../_base_/datasets/market1501_128x64.py",
    "../_base_/schedules/small_15e.py",
    "../_base_/runtime/reid.py",
]

model = dict(backbone=dict(depth=18))
