"""AGW on MSMT17: ResNet-50 with ImageNet weights (--weights)."""

_base_ = [
    "../_base_/models/agw.py",
    "../_base_/datasets/msmt17_256x128.py",
    "../_base_/schedules/bot_120e.py",
    "../_base_/runtime/reid.py",
]
