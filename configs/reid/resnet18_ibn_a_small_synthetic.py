"""ResNet-18-IBN-a on a drawn city, tested on it and on another one: minutes on two CPU cores."""

_base_ = [
    "../_base_/models/embedder.py",
    "../_base_/datasets/synthetic_128x64.py",
    "../_base_/schedules/small_15e.py",
    "../_base_/runtime/reid.py",
]

model = dict(backbone=dict(depth=18, ibn="a"))
