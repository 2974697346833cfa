"""AGW on Market1501: ResNet-50 with ImageNet weights (--weights)."""

_base_ = [
    "../_base_/models/agw.py",
    "../_base_/datasets/market1501_256x128.py",
    "../_base_/schedules/bot_120e.py",
    "../_base_/runtime/reid.py",
]
