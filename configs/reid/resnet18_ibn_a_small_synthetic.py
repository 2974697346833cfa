"""ResNet-18-IBN-a on a drawn city, tested on it and on another one: minutes on two CPU cores."""

_base_ = [
    "../_base_/models/embedder.py",
    "../_base_/datasets/synthetic_128x64.py",
    "../_base_/schedules/small_15e.py",
    "../_base_/runtime/reid.py",
]

model = dict(backbone=dict(depth=18, ibn="a"))
train_cfg = dict(max_epochs=10, val_interval=10)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=2, convert_to_iter_based=True),
    dict(type="MultiStepLR", milestones=[6, 8], gamma=0.1),
]
